//! What is wrong with recorded files is found, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use natstream_recorder::{FindingKind, ManifestLog, RecordedFiles, Verified, verify};
use stream_sinks::{Format, ReadFormat, Record, Retention, RollingWriter, Rotation};

/// Files of ten records each, with sequences.
fn record(dir: &Path, sequences: impl IntoIterator<Item = u64>) {
    record_with(dir, sequences, Retention::unlimited());
}

fn record_with(dir: &Path, sequences: impl IntoIterator<Item = u64>, retention: Retention) {
    let manifests = ManifestLog::new(dir, "test", "jsonl");
    let builder = RollingWriter::builder(dir, "test")
        .rotation(Rotation::size(
            10 * "{\"sequence\":100,\"time\":\"1970-01-01T00:00:00Z\",\"data\":\"x\"}\n".len() as u64,
        ))
        .format(Format::json_lines())
        .retention(retention);
    let writer = manifests.attach(builder).open().expect("opened");
    manifests.opened().expect("noted");
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
fn files_that_somebody_removed_are_missing_and_those_of_retention_are_not() {
    let dir = tempfile::tempdir().unwrap();
    record_with(dir.path(), 100..150, Retention::unlimited().max_files(3));
    let files = files(dir.path());
    assert_eq!(files.len(), 3);
    let found = verified(dir.path());
    assert!(found.is_whole(), "{:?}", found.findings);
    assert_eq!(found.removed, 2);
    for (count, file) in files.iter().enumerate() {
        fs::remove_file(file).unwrap();
        assert_eq!(kinds(&verified(dir.path())), [0, 0, 0, count + 1, 0]);
    }
}

#[test]
fn two_writers_in_one_directory_have_nothing_to_do_with_each_other() {
    let dir = tempfile::tempdir().unwrap();
    for (id, format, name) in [
        ("a", Format::length_prefixed(), "length-prefixed"),
        ("b", Format::json_lines(), "jsonl"),
    ] {
        let manifests = ManifestLog::new(dir.path(), format!("test-{id}"), name);
        let builder = RollingWriter::builder(dir.path(), "test").writer_id(id).format(format);
        let builder = builder
            .rotation(Rotation::size(100))
            .retention(Retention::unlimited().max_files(2));
        let writer = manifests.attach(builder).open().expect("opened");
        manifests.opened().expect("noted");
        for sequence in 1..20 {
            writer
                .append_blocking(Record::new(b"twelve bytes").sequence(sequence))
                .expect("appended");
        }
        writer.close_blocking().expect("closed");
    }
    let found = verified(dir.path());
    assert!(found.is_whole(), "{:?}", found.findings);
    assert_eq!((found.files, found.unlisted), (4, 0));
}

#[test]
fn a_line_of_the_manifest_that_was_torn_takes_no_other_with_it() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 100..110);
    let manifest = dir.path().join(".test.manifest");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, &text[..text.len() - 10]).unwrap();
    record(dir.path(), 110..120);
    let found = verified(dir.path());
    assert_eq!((found.is_whole(), found.files, found.unlisted), (true, 2, 1));
}

#[test]
fn payloads_with_newlines_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let manifests = ManifestLog::new(dir.path(), "test", "timestamped");
    let builder = RollingWriter::builder(dir.path(), "test").format(Format::timestamped());
    let writer = manifests.attach(builder).open().expect("opened");
    writer
        .append_blocking(Record::new(b"one\ntwo\n").subject("s"))
        .expect("appended");
    writer
        .append_blocking(Record::new(b"three").subject("s"))
        .expect("appended");
    writer.close_blocking().expect("closed");
    let found = verified(dir.path());
    assert!(found.is_whole(), "{:?}", found.findings);
    assert_eq!(found.records, 2);
}

#[test]
fn findings_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.log"), "nothing\n".repeat(1000)).unwrap();
    let found = verify(dir.path(), ReadFormat::JsonLines).expect("read");
    assert_eq!((found.findings.len(), found.more_findings), (20, 980));
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

#[test]
fn beside_a_writer_that_compresses_and_removes_nothing_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let manifests = ManifestLog::new(dir.path(), "test", "length-prefixed");
    let mut builder = RollingWriter::builder(dir.path(), "test").format(Format::length_prefixed());
    #[cfg(feature = "gzip")]
    {
        builder = builder.compression(stream_sinks::Compression::Gzip(1));
    }
    builder = builder
        .rotation(Rotation::size(64 << 10))
        .retention(Retention::unlimited().max_files(4));
    let writer = manifests.attach(builder).open().expect("opened");
    manifests.opened().expect("noted");
    let producer = writer.clone();
    let writing = std::thread::spawn(move || {
        for number in 0..200_000_u64 {
            let text = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_string();
            producer.append_blocking(text.as_str()).expect("appended");
        }
    });
    while !writing.is_finished() {
        let found = verified(dir.path());
        assert!(found.is_whole(), "{:?}", found.findings);
    }
    writing.join().expect("no panic");
    writer.close_blocking().expect("closed");
    let found = verified(dir.path());
    assert!(found.is_whole() && found.removed > 10, "{found:?}");
}
