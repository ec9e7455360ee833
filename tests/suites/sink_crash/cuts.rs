//! A file in progress that ends at any byte: whole records stay, the torn one goes, and the journal may be missing.
#![allow(clippy::print_stdout, reason = "a long form says what it did")]

use std::{path::Path, sync::Arc};

use integration::variable;
use natstream::sinks::{CrashImage, Format, RollingWriter, RollingWriterBuilder, Rotation, Storage, Sync};

const PART: &str = "/d/x.log.part";
const LINES: u64 = 400;
/// A commit holds as many.
const COMMIT: u64 = 50;

fn line(number: u64) -> String {
    format!("{number} {}", "p".repeat(usize::try_from(number * 37 % 400).unwrap()))
}

fn builder(image: &CrashImage, format: &Format) -> RollingWriterBuilder {
    let storage: Arc<dyn Storage> = Arc::new(image.clone());
    RollingWriter::builder("/d", "x")
        .storage(storage)
        .sync(Sync::Commit)
        .format(format.clone())
        .rotation(Rotation::NEVER)
}

/// What a killed process has left: eight commits.
fn crashed(format: &Format) -> CrashImage {
    let image = CrashImage::new();
    let writer = builder(&image, format).open().unwrap();
    for number in 0..LINES {
        writer.append_blocking(&line(number)).unwrap();
        if number % COMMIT == COMMIT - 1 {
            writer.flush_blocking().unwrap();
        }
    }
    image.killed()
}

/// Cuts the last 64 KiB anywhere. `ends` are where records end, or those up to which records survive.
fn cut_everywhere(format: &Format, ends: &[usize], ends_without_journal: &[usize]) {
    let crashed = crashed(format);
    let total = crashed.files()[Path::new(PART)].len();
    let every = variable("NATSTREAM_KILLS")
        .or_else(|| variable("NATSTREAM_SEED"))
        .is_some();
    let mut tested = 0;
    for len in total.saturating_sub(64 << 10)..=total {
        if !every && len % 211 != 0 && total - len > 600 {
            continue;
        }
        for (ends, without_journal) in [(ends, false), (ends_without_journal, true)] {
            tested += 1;
            let image = crashed.killed();
            image.open(Path::new(PART)).unwrap().truncate(len as u64).unwrap();
            if without_journal {
                image.remove(Path::new("/d/.x.log.journal")).unwrap();
            }
            let writer = builder(&image, format).open().unwrap();
            let file = writer.recovery().files[0].clone();
            writer.close_blocking().unwrap();
            let kept = ends.iter().copied().take_while(|end| *end <= len).last().unwrap_or(0);
            assert_eq!(file.cut, (len - kept) as u64, "{len}");
            assert_eq!(file.damaged, None, "{len}");
            let manifest = file.manifest.as_ref().unwrap();
            let content = &image.files()[Path::new("/d/x.log")];
            assert_eq!(content.len(), kept, "{len}");
            assert_eq!(manifest.crc32c, crc32c::crc32c(content), "{len}");
            assert_eq!(
                (manifest.bytes, manifest.file_bytes),
                (kept as u64, kept as u64),
                "{len}"
            );
        }
    }
    println!("{tested} cuts, {format:?}");
}

/// Where each record ends, with `overhead` bytes beside its text.
fn ends(overhead: usize) -> Vec<usize> {
    let lens = (0..LINES).map(|number| line(number).len() + overhead);
    lens.scan(0, |total, len| {
        *total += len;
        Some(*total)
    })
    .collect()
}

#[test]
fn lines_are_whole() {
    cut_everywhere(&Format::lines(), &ends(1), &ends(1));
}

#[test]
fn frames_are_whole() {
    cut_everywhere(&Format::length_prefixed(), &ends(8), &ends(8));
}

/// Nothing but the journal tells where records end; without it all is kept.
#[test]
fn raw_records_are_whole() {
    let commits: Vec<usize> = ends(0)
        .into_iter()
        .skip(COMMIT as usize - 1)
        .step_by(COMMIT as usize)
        .collect();
    let total = *commits.last().unwrap();
    let every: Vec<usize> = (0..=total).collect();
    cut_everywhere(&Format::raw(), &commits, &every);
}
