//! The writer as `std::io::Write` and as tokio's `AsyncWrite`.

use std::{io::Write, path::Path};

use stream_sinks::{RollingWriter, Rotation};

fn text(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("x.log")).unwrap()
}

fn writer(dir: &Path) -> RollingWriter {
    let builder = RollingWriter::builder(dir, "x").rotation(Rotation::NEVER);
    builder.buffer(64 << 10).open().unwrap()
}

#[test]
fn lines_are_records_however_they_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let mut lines = writer.line_writer();
    for piece in ["on", "e\ntwo\n\nth", "", "ree\nfo", "ur"] {
        lines.write_all(piece.as_bytes()).unwrap();
    }
    lines.flush().unwrap();
    lines.write_all(b"five").unwrap();
    drop(lines);
    assert_eq!(writer.stats().accepted, 6);
    writer.close_blocking().unwrap();
    assert_eq!(text(dir.path()), "one\ntwo\n\nthree\nfour\nfive\n");
}

/// It is told once, its rest does not become a line, and the next line is a line again.
#[test]
fn a_line_that_is_too_large_is_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let mut lines = writer.line_writer();
    let large = vec![b'x'; 40_000];
    lines.write_all(b"one\n").unwrap();
    lines.write_all(&large).unwrap();
    let error = lines.write_all(&large).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    lines.write_all(&large).unwrap();
    lines.write_all(b"the rest\ntwo\n").unwrap();
    let at_once = [&large[..], &large, b"\nthree\n"].concat();
    let error = lines.write(&at_once).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    lines.write_all(b"four\n").unwrap();
    lines.flush().unwrap();
    drop(lines);
    writer.close_blocking().unwrap();
    assert_eq!(text(dir.path()), "one\ntwo\nfour\n");
}

#[cfg(feature = "tokio")]
mod with_tokio {
    use std::{
        future::Future,
        sync::Arc,
        task::{Context, Waker},
        time::Duration,
    };

    use stream_sinks::{AsyncLineWriter, CrashImage};
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn lines_are_records_however_they_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let writer = writer(dir.path());
        let mut lines = AsyncLineWriter::new(writer.clone());
        for piece in ["on", "e\ntwo\n\nth", "", "ree\nfo", "ur"] {
            lines.write_all(piece.as_bytes()).await.unwrap();
        }
        lines.shutdown().await.unwrap();
        assert_eq!(writer.stats().written, 5);
        writer.close_blocking().unwrap();
        assert_eq!(text(dir.path()), "one\ntwo\n\nthree\nfour\n");
    }

    #[tokio::test]
    async fn a_line_that_is_too_large_is_refused_alone() {
        let dir = tempfile::tempdir().unwrap();
        let writer = writer(dir.path());
        let mut lines = AsyncLineWriter::new(writer.clone());
        let large = vec![b'x'; 40_000];
        lines.write_all(&large).await.unwrap();
        let error = lines.write_all(&large).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        lines.write_all(b"the rest\none\n").await.unwrap();
        lines.flush().await.unwrap();
        writer.close_blocking().unwrap();
        assert_eq!(text(dir.path()), "one\n");
    }

    /// More lines than the buffer holds: writing waits for the disk instead of failing or growing.
    #[tokio::test]
    async fn writing_waits_for_room() {
        let dir = tempfile::tempdir().unwrap();
        let writer = writer(dir.path());
        let mut lines = AsyncLineWriter::new(writer.clone());
        let expected: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
        lines.write_all(expected.as_bytes()).await.unwrap();
        assert!(writer.stats().buffered <= 64 << 10);
        lines.flush().await.unwrap();
        writer.close_blocking().unwrap();
        assert!(text(dir.path()) == expected);
    }

    /// A flush that nobody waited for does not answer for lines that came after it.
    #[tokio::test]
    async fn a_dropped_flush_is_not_taken_for_the_next_one() {
        let image = CrashImage::new();
        let builder = RollingWriter::builder("/d", "x").storage(Arc::new(image));
        let writer = builder.flush_interval(Duration::from_secs(3600)).open().unwrap();
        let mut lines = AsyncLineWriter::new(writer.clone());
        let mut dropped = 0;
        for number in 0..200 {
            lines.write_all(format!("{number}\n").as_bytes()).await.unwrap();
            if number % 2 == 0 {
                let mut flush = Box::pin(lines.flush());
                let polled = flush.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                dropped += u32::from(polled.is_pending());
            } else {
                lines.flush().await.unwrap();
                assert_eq!(writer.stats().written, number + 1);
            }
        }
        assert!(dropped > 0);
    }
}

#[test]
fn after_a_close_another_writer_may_come_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..500 {
        let writer = writer(dir.path());
        writer.close_blocking().unwrap();
    }
}
