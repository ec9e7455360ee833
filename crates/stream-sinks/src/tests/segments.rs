//! The segment log on storage that fails.

use std::{path::Path, sync::Arc};

use crate::{CrashImage, Fault, SegmentLog, SegmentLogBuilder, SinkErrorKind, Storage};

fn builder(image: &CrashImage) -> SegmentLogBuilder {
    SegmentLog::builder("/log")
        .storage(Arc::new(image.clone()))
        .durable(true)
        .segment_bytes(200)
}

fn payload(number: u64) -> Vec<u8> {
    format!("record {number}").into_bytes()
}

fn read(log: &SegmentLog) -> Vec<u64> {
    let records = log.read(0).map(Result::unwrap);
    records
        .map(|(number, bytes)| {
            assert_eq!(bytes, payload(number));
            number
        })
        .collect()
}

fn append(log: &mut SegmentLog, count: u64) {
    for _ in 0..count {
        let next = log.next();
        assert_eq!(log.append(&payload(next)).unwrap(), next);
    }
}

#[test]
fn records_are_read_until_they_are_deleted() {
    let image = CrashImage::new();
    let mut log = builder(&image).open().unwrap();
    append(&mut log, 30);
    assert!(read(&log).is_empty());
    log.commit().unwrap();
    append(&mut log, 30);
    log.commit().unwrap();
    log.delete_through(9).unwrap();
    assert_eq!(read(&log), (10..60).collect::<Vec<_>>());
    log.delete_through(59).unwrap();
    assert_eq!((log.first(), log.next()), (60, 60));
    drop(log);
    let mut log = builder(&image).open().unwrap();
    assert_eq!((log.first(), log.next(), read(&log).len()), (60, 60, 0));
    append(&mut log, 1);
    log.commit().unwrap();
    assert_eq!(read(&log), [60]);
    // Segments whose records are all deleted are gone.
    assert!(image.files().len() <= 4, "{:?}", image.files().keys());
}

/// Committed records are there, deleted ones do not come back, in every call that the power may fail in.
#[test]
fn power_is_lost_in_every_call() {
    let run = |image: &CrashImage| -> (u64, u64) {
        let (mut committed, mut deleted) = (0, 0);
        let Ok(mut log) = builder(image).open() else {
            return (0, 0);
        };
        for round in 1..8_u64 {
            append(&mut log, 7);
            match log.commit() {
                Ok(end) => committed = end,
                Err(_) => return (committed, deleted),
            }
            match log.delete_through(round * 5) {
                Ok(()) => deleted = round * 5,
                Err(_) => return (committed, deleted),
            }
        }
        (committed, deleted)
    };
    let whole = CrashImage::new();
    assert_eq!(run(&whole), (49, 35));
    for call in 1..=whole.calls() {
        for seed in 0..8 {
            let image = CrashImage::new();
            image.power_off_at(call);
            let (committed, deleted) = run(&image);
            for image in [image.power_loss(seed), image.killed()] {
                let what = format!("call {call}, seed {seed}, {committed} committed, {deleted} deleted");
                let log = builder(&image).open().unwrap_or_else(|error| panic!("{what}: {error}"));
                let found = read(&log);
                let first = found.first().copied().unwrap_or_else(|| log.next());
                assert_eq!(found, (first..log.next()).collect::<Vec<_>>(), "{what}");
                assert!(log.next() >= committed, "{what}: {}", log.next());
                assert!(
                    first <= deleted + 6 && (deleted == 0 || first > deleted),
                    "{what}: {first}"
                );
                assert!(log.recovery().damaged.is_empty(), "{what}: {:?}", log.recovery());
            }
        }
    }
}

#[test]
fn every_flipped_bit_loses_at_most_its_record() {
    let image = CrashImage::new();
    let mut log = builder(&image).segment_bytes(1 << 20).open().unwrap();
    append(&mut log, 6);
    log.commit().unwrap();
    drop(log);
    let path = Path::new("/log/00000000000000000000.seg");
    let whole = image.files()[path].clone();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let image = image.killed();
        image.open(path).unwrap().write_at(&bytes, 0).unwrap();
        let mut log = builder(&image).segment_bytes(1 << 20).open().unwrap();
        let found = read(&log);
        assert_eq!(found.len(), 5, "bit {bit}: {found:?}");
        let last_is_lost = !found.contains(&5);
        assert_eq!(log.recovery().damaged.is_empty(), last_is_lost, "bit {bit}");
        assert_eq!(log.recovery().cut > 0, last_is_lost, "bit {bit}");
        append(&mut log, 1);
        log.commit().unwrap();
        assert_eq!(read(&log).len(), 6, "bit {bit}");
    }
}

#[test]
fn storage_that_fails_loses_nothing() {
    for fault in [Fault::Full(300), Fault::ReadOnly, Fault::Sync, Fault::Write] {
        let image = CrashImage::new();
        let mut log = builder(&image).open().unwrap();
        append(&mut log, 5);
        log.commit().unwrap();
        image.set_fault(Some(fault));
        append(&mut log, 20);
        for _ in 0..3 {
            assert_eq!(log.commit().unwrap_err().kind(), SinkErrorKind::Storage, "{fault:?}");
        }
        assert_eq!((log.committed(), read(&log).len()), (5, 5));
        image.set_fault(None);
        log.commit().unwrap();
        drop(log);
        let log = builder(&image.power_loss(0)).open().unwrap();
        assert_eq!(read(&log), (0..25).collect::<Vec<_>>(), "{fault:?}");
    }
}

#[test]
fn limits_are_kept() {
    let image = CrashImage::new();
    let mut log = builder(&image).max_bytes(200).max_pending(100).open().unwrap();
    let mut full = 0;
    for _ in 0..20 {
        match log.append(&payload(log.next())) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), SinkErrorKind::Full);
                full += 1;
                log.commit().unwrap();
            }
        }
    }
    assert!(full > 1 && log.bytes() <= 200);
    let error = builder(&image).open().unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::InUse);
}

#[test]
fn a_log_that_is_removed_goes_on() {
    let image = CrashImage::new();
    let mut log = builder(&image).open().unwrap();
    append(&mut log, 3);
    log.commit().unwrap();
    image.remove_dir_all(Path::new("/log"));
    // It looks now and then.
    let lost = loop {
        append(&mut log, 2);
        match log.commit() {
            Ok(next) => assert!(next < 1_000_000, "it never looks"),
            Err(error) => break error,
        }
    };
    assert_eq!(lost.kind(), SinkErrorKind::Storage);
    let next = log.commit().unwrap();
    assert_eq!(read(&log), [next - 2, next - 1]);
}

/// Whatever the size of its segments, a log whose records were all deleted takes others.
#[test]
fn a_full_log_that_is_deleted_takes_records_again() {
    for segment_bytes in [1, 100, 1 << 20] {
        let image = CrashImage::new();
        let open = || {
            builder(&image)
                .segment_bytes(segment_bytes)
                .max_bytes(300)
                .open()
                .unwrap()
        };
        let mut log = open();
        for round in 0..20 {
            while log.append(&payload(log.next())).is_ok() {}
            log.commit().unwrap();
            assert!(log.bytes() > 200, "{segment_bytes}: round {round}");
            log.delete_through(log.next() - 1).unwrap();
            let next = log.next();
            if round % 3 == 2 {
                drop(log);
                log = open();
            }
            assert_eq!((log.first(), log.next(), read(&log).len()), (next, next, 0));
        }
        drop(log);
        let after = image.power_loss(0);
        let log = builder(&after).open().unwrap();
        assert!(log.next() > 60, "{}", log.next());
    }
}

#[test]
fn a_new_log_survives_with_its_directories() {
    let image = CrashImage::new();
    let log = SegmentLog::builder("/a/b/c").storage(Arc::new(image.clone()));
    let mut log = log.durable(true).open().unwrap();
    append(&mut log, 2);
    log.commit().unwrap();
    log.delete_through(0).unwrap();
    let after = Arc::new(image.power_loss(0));
    let log = SegmentLog::builder("/a/b/c").storage(after).open().unwrap();
    assert_eq!(read(&log), [1]);
}

/// A process dies after a sync that failed, or before one: what the next process finds is safe when it says so.
#[test]
fn what_is_found_again_survives_a_power_loss() {
    for fault in [Fault::Sync, Fault::ReadOnly] {
        let image = CrashImage::new();
        let mut log = builder(&image).segment_bytes(1 << 20).open().unwrap();
        append(&mut log, 3);
        log.commit().unwrap();
        append(&mut log, 3);
        image.set_fault(Some(fault));
        log.commit().unwrap_err();
        let image = image.killed();
        let log = builder(&image).segment_bytes(1 << 20).open().unwrap();
        let committed = log.committed();
        assert!(committed >= 3);
        let after = image.power_loss(0);
        let log = builder(&after).segment_bytes(1 << 20).open().unwrap();
        assert_eq!(log.next(), committed, "{fault:?}");
    }
}

#[test]
fn a_full_disk_is_freed_by_deleting() {
    let image = CrashImage::new();
    let mut log = builder(&image).open().unwrap();
    append(&mut log, 30);
    log.commit().unwrap();
    image.set_fault(Some(Fault::Full(0)));
    append(&mut log, 30);
    log.commit().unwrap_err();
    log.delete_through(29).unwrap();
    let used: usize = image.files().values().map(Vec::len).sum();
    image.set_fault(Some(Fault::Full(used as u64 + 2000)));
    log.commit().unwrap();
    assert_eq!(read(&log), (30..60).collect::<Vec<_>>());
}

#[test]
fn a_record_may_be_as_large_as_the_log() {
    let image = CrashImage::new();
    let mut log = builder(&image).max_bytes(1000).open().unwrap();
    for len in [200, 900, 1, 980] {
        let number = log.append(&vec![7; len]).unwrap();
        log.commit().unwrap();
        assert_eq!(
            log.read(0).map(Result::unwrap).collect::<Vec<_>>(),
            [(number, vec![7; len])]
        );
        log.delete_through(number).unwrap();
    }
    drop(log);
    assert_eq!(builder(&image).open().unwrap().next(), 4);
}

#[test]
fn what_is_withdrawn_was_never_there() {
    let image = CrashImage::new();
    let mut log = builder(&image).open().unwrap();
    append(&mut log, 2);
    log.withdraw();
    log.commit().unwrap();
    log.withdraw();
    assert_eq!((log.next(), read(&log)), (1, vec![0]));
    image.set_fault(Some(Fault::Write));
    append(&mut log, 1);
    log.commit().unwrap_err();
    log.withdraw();
    image.set_fault(None);
    append(&mut log, 1);
    log.commit().unwrap();
    drop(log);
    assert_eq!(read(&builder(&image).open().unwrap()), [0, 1]);
}

#[test]
fn a_reader_skips_what_nobody_wants() {
    let image = CrashImage::new();
    let mut log = builder(&image).open().unwrap();
    for _ in 0..10 {
        append(&mut log, 10);
        log.commit().unwrap();
    }
    // Its segment is never read.
    let second = Path::new("/log/00000000000000000010.seg");
    assert!(image.files().contains_key(second));
    image.remove(second).unwrap();
    image.create_dir_all(second).unwrap();
    let mut reader = log.read(0);
    let mut next = |number| {
        reader.skip_to(number);
        reader.next().map(|record| record.unwrap().0)
    };
    for (wanted, found) in [(3, 3), (3, 4), (7, 7), (25, 25), (24, 26), (99, 99)] {
        assert_eq!(next(wanted), Some(found));
    }
    assert_eq!(next(0), None);
}
