//! A sink that is where the program's log goes, its own events included.
#![cfg(feature = "gzip")]

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use stream_sinks::{Compression, CrashImage, Fault, RollingWriter, Rotation};

/// It logs that files are closed, that storage fails, and that it works again: while its buffer is full, too.
#[test]
fn a_sink_does_not_wait_for_itself() {
    let image = CrashImage::new();
    let writer = RollingWriter::builder("/d", "x")
        .storage(Arc::new(image.clone()))
        .rotation(Rotation::size(2000))
        .compression(Compression::Gzip(1))
        .backoff(Duration::from_millis(1), Duration::from_millis(1))
        .flush_interval(Duration::from_millis(1))
        .buffer(64 << 10)
        .open()
        .unwrap();
    let lines = writer.line_writer();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || lines.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        for round in 0..3 {
            for number in 0..2000 {
                tracing::info!(round, number, "a line of the program");
            }
            image.set_fault(Some(Fault::Write));
            while writer.append_blocking("until it fails").is_ok() {}
            image.set_fault(None);
            while writer.append_blocking("until it works").is_err() {
                thread::yield_now();
            }
        }
        writer.close_blocking().unwrap();
        let files = image.files();
        assert!(
            files.keys().any(|path| path.ends_with("x.1.log.gz")),
            "{:?}",
            files.keys()
        );
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(30)).expect("it goes on");
}
