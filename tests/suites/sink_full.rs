//! The suite `sink-full`: a disk that is full and is freed, and a directory that is removed.
#![allow(clippy::print_stdout, reason = "it says what kind of disk it had")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use natstream::sinks::{
    CrashImage, Fault, Record, RecordSink, RollingWriter, RollingWriterBuilder, SinkErrorKind, SinkState, Sync,
};

use integration::sinks::{directory, visible};

/// A small file system of its own, where the system allows one.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn line(number: u64) -> String {
    format!("{number} {}", "p".repeat(200))
}

async fn fills_and_goes_on(builder: RollingWriterBuilder, free: impl FnOnce(), read: impl FnOnce() -> Vec<u8>) {
    let mut writer = builder
        .flush_interval(Duration::from_millis(10))
        .backoff(Duration::from_millis(5), Duration::from_millis(50))
        .buffer(256 << 10)
        .open()
        .unwrap();
    let mut accepted = Vec::new();
    let mut number = 0;
    let error = loop {
        match writer.append(Record::from(&line(number))).await {
            Ok(_) => accepted.push(number),
            Err(error) => break error,
        }
        number += 1;
        assert!(number < 1_000_000, "the disk never filled");
    };
    assert_eq!(error.kind(), SinkErrorKind::Storage);
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::StorageFull));
    assert!(matches!(writer.state(), SinkState::Blocked { .. }));
    assert_eq!(writer.flush().await.unwrap_err().kind(), SinkErrorKind::Storage);
    free();
    writer.ready().await.unwrap();
    assert!(matches!(writer.state(), SinkState::Accepting));
    for number in number..number + 1000 {
        writer.append(Record::from(&line(number))).await.unwrap();
        accepted.push(number);
    }
    let receipt = writer.close().await.unwrap();
    assert_eq!(receipt.survive_kill, accepted.len() as u64);
    let expected: String = accepted.iter().map(|number| line(*number) + "\n").collect();
    assert!(read() == expected.into_bytes(), "lost or repeated");
}

#[tokio::test]
async fn a_full_disk_is_freed() {
    for sync in [Sync::None, Sync::Commit, Sync::Interval(Duration::from_millis(20))] {
        let (_guard, dir) = directory();
        if let Some(disk) = Tmpfs::mount(&dir) {
            println!("on a tmpfs of 4 MiB, {sync:?}");
            let ballast = dir.join("ballast");
            fs::write(&ballast, vec![0; 2 << 20]).unwrap();
            let sink = dir.join("sink");
            let read = || visible(&sink).into_iter().flat_map(|(_, bytes)| bytes).collect();
            let builder = RollingWriter::builder(&sink, "x").sync(sync);
            fills_and_goes_on(builder, || fs::remove_file(&ballast).unwrap(), read).await;
            drop(disk);
            continue;
        }
        println!("with injected errors, for want of a tmpfs, {sync:?}");
        let image = CrashImage::new();
        image.set_fault(Some(Fault::Full(1 << 20)));
        let hidden = |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with('.');
        let read = || {
            image
                .files()
                .into_iter()
                .filter(|(path, _)| !hidden(path))
                .flat_map(|(_, bytes)| bytes)
                .collect()
        };
        let builder = RollingWriter::builder("/sink", "x")
            .storage(Arc::new(image.clone()))
            .sync(sync);
        fills_and_goes_on(builder, || image.set_fault(None), read).await;
    }
}

#[tokio::test]
async fn a_removed_directory_comes_back() {
    let (_guard, dir) = directory();
    let open = || {
        let builder = RollingWriter::builder(&dir, "x").sync(Sync::Commit);
        builder
            .backoff(Duration::from_millis(1), Duration::from_millis(5))
            .open()
    };
    let mut writer = open().unwrap();
    writer.append(Record::new(b"gone")).await.unwrap();
    writer.flush().await.unwrap();
    fs::remove_dir_all(&dir).unwrap();
    writer.append(Record::new(b"kept")).await.unwrap();
    assert_eq!(writer.flush().await.unwrap_err().kind(), SinkErrorKind::Storage);
    writer.ready().await.unwrap();
    writer.append(Record::new(b"new")).await.unwrap();
    writer.flush().await.unwrap();
    // The lock is there again too.
    assert_eq!(open().unwrap_err().kind(), SinkErrorKind::InUse);
    assert_eq!(writer.stats().files_vanished, 1);
    writer.close().await.unwrap();
    let files = visible(&dir);
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].1, b"kept\nnew\n");
}
