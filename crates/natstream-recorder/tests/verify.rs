//! What is wrong with recorded files is found, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use natstream_recorder::{FindingKind, ManifestLog, RecordedFiles, Verified, verify};
use stream_sinks::{Format, ReadFormat, Record, RollingWriter, Rotation};

/// Files of ten records each, with sequences.
fn record(dir: &Path, sequences: impl IntoIterator<Item = u64>) {
    let writer = RollingWriter::builder(dir, "test")
        .rotation(Rotation::size(
            10 * "{\"sequence\":100,\"time\":\"1970-01-01T00:00:00Z\",\"data\":\"x\"}\n".len() as u64,
        ))
        .format(Format::json_lines())
        .on_close(ManifestLog::new(dir, "test", "jsonl").hook())
        .open()
        .expect("opened");
    for sequence in sequences {
        let record = Record::new(b"x").sequence(sequence).time(std::time::UNIX_EPOCH);
        writer.append_blocking(record).expect("appended");
    }
    writer.close_blocking().expect("closed");
}

fn files(dir: &Path) -> Vec<PathBuf> {
    RecordedFiles::list(dir).expect("listed").closed
}

fn verified(dir: &Path) -> Verified {
    verify(dir, ReadFormat::Lines).expect("read")
}

/// Changed, torn or damaged, overlap, missing, cut off.
fn kinds(verified: &Verified) -> [usize; 5] {
    let count = |is: fn(&FindingKind) -> bool| verified.findings.iter().filter(|finding| is(&finding.kind)).count();
    [
        count(|kind| matches!(kind, FindingKind::Changed { .. })),
        count(|kind| matches!(kind, FindingKind::Record(_))),
        count(|kind| matches!(kind, FindingKind::Overlap { .. })),
        count(|kind| matches!(kind, FindingKind::Missing)),
        count(|kind| matches!(kind, FindingKind::CutOff)),
    ]
}

#[test]
fn whole_files_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 100..150);
    let verified = verified(dir.path());
    assert!(verified.is_whole(), "{:?}", verified.findings);
    assert_eq!((verified.files, verified.records, verified.unlisted), (5, 50, 0));
    assert_eq!((verified.sequences, verified.gaps), (Some((100, 149)), 0));
}

#[test]
fn a_bit_that_flips_in_a_payload_is_found() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 100..150);
    let file = &files(dir.path())[2];
    let flipped = fs::read_to_string(file).unwrap().replacen("\"x\"", "\"y\"", 1);
    fs::write(file, flipped).unwrap();
    assert_eq!(kinds(&verified(dir.path())), [1, 0, 0, 0, 0]);
}

#[test]
fn a_cut_at_any_byte_is_found() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 100..110);
    let file = &files(dir.path())[0];
    let bytes = fs::read(file).unwrap();
    for len in 0..bytes.len() {
        fs::write(file, &bytes[..len]).unwrap();
        assert!(!verified(dir.path()).is_whole(), "{len}");
    }
}

#[test]
fn a_file_in_the_middle_is_missing_and_one_at_the_beginning_has_expired() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 100..150);
    let files = files(dir.path());
    fs::remove_file(&files[0]).unwrap();
    let found = verified(dir.path());
    assert!(found.is_whole());
    assert_eq!(found.expired, 1);
    fs::remove_file(&files[2]).unwrap();
    assert_eq!(kinds(&verified(dir.path())), [0, 0, 0, 1, 0]);
}

#[test]
fn sequences_that_do_not_grow_are_overlaps_and_those_that_jump_are_gaps() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), [100, 101, 101, 103, 102, 200]);
    let found = verified(dir.path());
    assert_eq!((kinds(&found), found.gaps), ([0, 0, 2, 0, 0], 2));
}

#[test]
fn files_without_a_manifest_are_looked_at_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("below")).unwrap();
    fs::write(dir.path().join("below/a.log"), "one\ntwo\nthr").unwrap();
    fs::write(dir.path().join("b.log.part"), "one").unwrap();
    fs::write(dir.path().join("b.log.damaged"), "one").unwrap();
    let found = verified(dir.path());
    assert_eq!((found.records, found.unlisted, found.in_progress.len()), (2, 1, 1));
    assert_eq!(kinds(&found), [0, 1, 0, 0, 1]);
}
