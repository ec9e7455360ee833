//! Several producers and one writer: what is accepted is written once, whoever closes when.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, mpsc},
    task::{Context, Waker},
    thread,
    time::Duration,
};

use stream_sinks::{
    CrashImage, Fault, Format, Record, RecordSink, RollingWriter, RollingWriterBuilder, Rotation, SinkErrorKind,
    SinkState,
};

/// Small, so that producers wait for room all the time.
fn builder(image: &CrashImage) -> RollingWriterBuilder {
    RollingWriter::builder("/d", "x")
        .storage(Arc::new(image.clone()))
        .rotation(Rotation::size(100_000))
        .buffer(64 << 10)
}

/// The lines of all closed files, in the order in which they were written.
fn lines(image: &CrashImage) -> Vec<String> {
    let mut files = BTreeMap::new();
    for (path, bytes) in image.files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if let Some(index) = name.strip_prefix('x').and_then(|name| name.strip_suffix("log")) {
            files.insert(index.trim_matches('.').parse().unwrap_or(0_u64), bytes);
        }
    }
    let text = String::from_utf8(files.into_values().flatten().collect()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Each producer's numbers follow each other from 0: gives how many lines there are.
fn in_order(lines: &[String]) -> usize {
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines {
        let (producer, number) = line.split_once(' ').unwrap();
        let next = next.entry(producer).or_default();
        assert_eq!(number, next.to_string(), "{producer}");
        *next += 1;
    }
    lines.len()
}

#[test]
fn each_producer_keeps_its_order_and_nothing_is_lost() {
    let image = CrashImage::new();
    let writer = builder(&image).open().unwrap();
    thread::scope(|scope| {
        for producer in 0..4 {
            let writer = writer.clone();
            scope.spawn(move || {
                for number in 0..20_000 {
                    writer.append_blocking(&format!("{producer} {number}")).unwrap();
                }
            });
        }
    });
    let receipt = writer.close_blocking().unwrap();
    assert_eq!((receipt.survive_kill, receipt.survive_power_loss), (80_000, 80_000));
    assert_eq!(in_order(&lines(&image)), 80_000);
}

#[test]
fn closing_while_others_append_keeps_just_what_was_accepted() {
    for round in 0..20 {
        let image = CrashImage::new();
        let writer = builder(&image).open().unwrap();
        let accepted: usize = thread::scope(|scope| {
            let producers: Vec<_> = (0..3)
                .map(|producer| {
                    let writer = writer.clone();
                    scope.spawn(move || {
                        for number in 0.. {
                            match writer.append_blocking(&format!("{producer} {number}")) {
                                Ok(_) => {}
                                Err(error) => {
                                    assert_eq!(error.kind(), SinkErrorKind::Closed);
                                    return number;
                                }
                            }
                        }
                        unreachable!("it is closed at last");
                    })
                })
                .collect();
            while writer.stats().accepted < round * 500 {
                thread::yield_now();
            }
            writer.clone().close_blocking().unwrap();
            producers.into_iter().map(|producer| producer.join().unwrap()).sum()
        });
        assert_eq!(writer.stats().written, accepted as u64);
        assert_eq!(in_order(&lines(&image)), accepted);
    }
}

#[test]
fn dropping_the_last_handle_writes_what_was_accepted() {
    let image = CrashImage::new();
    let (closed, manifests) = mpsc::channel();
    let builder = builder(&image).rotation(Rotation::NEVER);
    let writer = builder
        .on_close(move |manifest| closed.send(manifest.records).unwrap())
        .open()
        .unwrap();
    let second = writer.clone();
    writer.append_blocking("0 0").unwrap();
    drop(writer);
    second.append_blocking("0 1").unwrap();
    drop(second);
    assert_eq!(manifests.recv_timeout(Duration::from_secs(60)).unwrap(), 2);
    assert_eq!(lines(&image), ["0 0", "0 1"]);
}

/// Its producer's own affair: no other one notices.
#[test]
fn a_formatter_that_panics_harms_nobody_else() {
    let image = CrashImage::new();
    let format = Format::custom(|record: &Record<'_>, out: &mut Vec<u8>| {
        out.extend_from_slice(b"begun ");
        assert_ne!(record.payload(), b"bad");
        out.extend_from_slice(record.payload());
        out.push(b'\n');
    });
    let writer = builder(&image).format(format).open().unwrap();
    writer.append_blocking("one").unwrap();
    catch_unwind(AssertUnwindSafe(|| writer.append_blocking("bad"))).unwrap_err();
    writer.append_blocking("two").unwrap();
    assert_eq!(writer.close_blocking().unwrap().survive_kill, 2);
    assert_eq!(lines(&image), ["begun one", "begun two"]);
}

/// The disk neither fails nor answers: memory stays bounded, who can wait waits, and whoever gives up has not appended.
#[tokio::test]
async fn a_stalled_disk_makes_producers_wait() {
    let image = CrashImage::new();
    let mut writer = builder(&image).open().unwrap();
    image.set_fault(Some(Fault::Stall));
    let mut number = 0;
    let line = |number: u64| format!("0 {number}");
    let error = loop {
        match writer.try_append(&line(number)) {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), SinkErrorKind::Full);
    assert!(writer.stats().buffered <= 64 << 10);
    assert!(number > 1000, "{number}");
    for _ in 0..3 {
        let given_up = line(number);
        let mut append = Box::pin(writer.append(Record::from(&given_up)));
        assert!(
            append
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }
    let blocked = {
        let writer = writer.clone();
        let line = line(number);
        thread::spawn(move || writer.append_blocking(&line))
    };
    assert!(matches!(writer.state(), SinkState::Accepting));
    assert_eq!(writer.receipt().survive_kill, 0);
    image.set_fault(None);
    blocked.join().unwrap().unwrap();
    writer.append(Record::from(&line(number + 1))).await.unwrap();
    assert_eq!(writer.close().await.unwrap().survive_kill, number + 2);
    assert_eq!(in_order(&lines(&image)) as u64, number + 2);
    assert!(!image.files().contains_key(Path::new("/d/x.log.part")));
}

/// The object-safe form does the same.
#[tokio::test]
async fn sinks_are_objects_too() {
    let image = CrashImage::new();
    let mut sink: Box<dyn stream_sinks::DynRecordSink> = Box::new(builder(&image).open().unwrap());
    for number in 0..10 {
        assert_eq!(sink.append(Record::from(&format!("0 {number}"))).await.unwrap(), number);
    }
    assert_eq!(sink.flush().await.unwrap().survive_kill, 10);
    assert_eq!(sink.close().await.unwrap().survive_kill, 10);
    assert_eq!(in_order(&lines(&image)), 10);
}
