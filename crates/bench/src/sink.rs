//! A rolling writer beside plain writes and, with the feature `peers`, beside tracing-appender.
//!
//! All write the same lines to files that roll by the hour. The time of a round includes what is needed until the last
//! byte is handed to the operating system and the file is closed; then the bytes on the disk are counted.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    time::Instant,
};

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::machine::Origin;
use crate::options::positive;
use crate::process::{cpu_seconds, peak_memory, reset_peak};
use crate::report::{Cell, Report, Spread, Table};
use crate::rounds::rounds;

mod load;

use self::load::{Load, Written};

/// Lines to hourly files beside plain writes and tracing-appender (with the feature `peers`).
#[derive(Args, Debug, Serialize)]
pub(crate) struct Options {
    /// Lines of a round.
    #[arg(long, default_value_t = 8_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    lines: u64,
    /// Lines of a round with commits.
    #[arg(long, default_value_t = 12_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    commit_lines: u64,
    /// Bytes of a line with its newline.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..))]
    size: u32,
    /// Threads, beside one.
    #[arg(long, default_value_t = 4, value_parser = positive::<usize>)]
    producers: usize,
    /// Rounds that count.
    #[arg(long, default_value_t = 5, value_parser = positive::<usize>)]
    rounds: usize,
    /// Where a round writes, in a directory of its own that it removes [default: the system's for temporary files].
    #[arg(long)]
    #[serde(skip)]
    dir: Option<PathBuf>,
}

/// What a round may write.
const MOST: u64 = 4 << 30;

#[derive(Clone, Copy, Debug)]
struct Round {
    lines_per_second: f64,
    cpu_ns: f64,
    peak_bytes: f64,
    syncs: u64,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let bytes = options.lines.max(options.commit_lines) * u64::from(options.size);
    ensure!(bytes <= MOST, "a round would write more than 4 GiB");
    let about = "Lines to files that roll by the hour. A round ends when the last byte is handed to the system and the file is \
                 closed; the bytes on the disk are counted.";
    let mut report = Report::new("sink", about, options, Origin::now(None).await?);
    report.peers = vec![
        "natstream: RollingWriter with its default buffer of 8 MiB; sync as it stands there".to_owned(),
        "plain writes: a BufWriter of 256 KiB, as a block of ours, over one file that does not roll".to_owned(),
    ];
    let many = options.producers;
    let mut cases = vec![
        (Load::Sink, 1),
        (Load::Sink, many),
        (Load::SinkSynced, 1),
        (Load::Plain, 1),
    ];
    if cfg!(feature = "peers") {
        cases.extend([(Load::TracingAppender, 1), (Load::TracingAppender, many)]);
        report
            .peers
            .push("tracing-appender: non-blocking, lossless; the rest as by default".to_owned());
    }
    cases.extend([(Load::SinkCommit, 1), (Load::PlainCommit, 1)]);
    // As many as our writer made last.
    let mut syncs = 0;
    let measured = rounds(options.rounds, cases.len(), async |case| {
        let (load, producers) = cases[case];
        let round = measure(options, load, producers, syncs)?;
        if load == Load::SinkCommit {
            syncs = round.syncs;
        }
        Ok(round)
    })
    .await?;
    report.tables = vec![figures(options, &cases, &measured), ratios(many, &cases, &measured)];
    Ok(report)
}

fn figures(options: &Options, cases: &[(Load, usize)], measured: &[Vec<Round>]) -> Table {
    let mut table = Table::new(
        "Lines to files",
        [
            ("", 0),
            ("producers", 0),
            ("M lines", 0),
            ("M lines/s", 2),
            ("CPU ns/line", 0),
            ("peak MiB", 0),
            ("syncs", 0),
        ],
    )
    .note("The peak is that of the whole program.");
    for ((load, producers), rounds) in cases.iter().zip(measured) {
        table.row([
            Cell::from(load.name()),
            (*producers).into(),
            (lines_of(options, *load) as f64 / 1e6).into(),
            Spread::by(rounds, 1e-6, |round| round.lines_per_second).into(),
            Spread::by(rounds, 1.0, |round| round.cpu_ns).into(),
            Spread::by(rounds, 1.0 / f64::from(1 << 20), |round| round.peak_bytes).into(),
            Spread::by(rounds, 1.0, |round| round.syncs as f64).median.into(),
        ]);
    }
    table
}

fn ratios(many: usize, cases: &[(Load, usize)], measured: &[Vec<Round>]) -> Table {
    let mut table = Table::new("Lines a second of natstream", [("", 0), ("times", 2)]);
    let pairs = [
        ("to plain writes", (Load::Sink, 1), (Load::Plain, 1)),
        (
            "to tracing-appender, one producer",
            (Load::Sink, 1),
            (Load::TracingAppender, 1),
        ),
        (
            "to tracing-appender, all producers",
            (Load::Sink, many),
            (Load::TracingAppender, many),
        ),
        (
            "with commits, to plain writes with as many",
            (Load::SinkCommit, 1),
            (Load::PlainCommit, 1),
        ),
    ];
    for (name, ours, theirs) in pairs {
        let of = |case| Some(&measured[cases.iter().position(|other| *other == case)?]);
        if let (Some(ours), Some(theirs)) = (of(ours), of(theirs)) {
            table.row([
                name.into(),
                Spread::ratio(ours, theirs, |round| round.lines_per_second).into(),
            ]);
        }
    }
    table
}

fn lines_of(options: &Options, load: Load) -> u64 {
    match load {
        Load::SinkCommit | Load::PlainCommit => options.commit_lines,
        _ => options.lines,
    }
}

/// One round in a directory of its own, which is removed.
fn measure(options: &Options, load: Load, producers: usize, syncs: u64) -> Result<Round> {
    let dir = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = dir.join(format!("natstream-bench-sink-{}", process::id()));
    fs::create_dir_all(&dir)?;
    let lines = lines_of(options, load) / producers as u64;
    reset_peak(process::id())?;
    let cpu = cpu_seconds(process::id())?;
    let begin = Instant::now();
    let written = load.run(&dir, producers, lines, options.size as usize, syncs);
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = cpu_seconds(process::id())? - cpu;
    let size = size_of(&dir);
    fs::remove_dir_all(&dir)?;
    let Written { syncs } = written?;
    let count = lines * producers as u64;
    ensure!(
        size? == count * u64::from(options.size),
        "{} has not written all lines",
        load.name()
    );
    Ok(Round {
        lines_per_second: count as f64 / seconds,
        cpu_ns: cpu * 1e9 / count as f64,
        peak_bytes: peak_memory(process::id())? as f64,
        syncs,
    })
}

/// Bytes in the visible files below a directory.
fn size_of(dir: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            size += size_of(&entry.path())?;
        } else if !entry.file_name().to_string_lossy().starts_with('.') {
            size += metadata.len();
        }
    }
    Ok(size)
}
