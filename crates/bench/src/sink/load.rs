//! What writes the lines.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use natstream::sinks::{RollingWriter, Sync};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Ours, to the page cache.
    Sink,
    /// Ours, synced every second, which is the default.
    SinkSynced,
    /// Ours, with group commit.
    SinkCommit,
    /// `BufWriter` over a file that does not roll.
    Plain,
    /// The same with as many `fdatasync` calls as [`SinkCommit`](Self::SinkCommit) has made, evenly spread.
    PlainCommit,
    TracingAppender,
}

pub(super) struct Written {
    pub(super) syncs: u64,
}

/// As much as a block of our writer has.
const BUFFER: usize = 256 << 10;

impl Load {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sink => "natstream, sync none",
            Self::SinkSynced => "natstream, sync every second",
            Self::SinkCommit => "natstream, sync commit",
            Self::Plain => "plain writes of 256 KiB",
            Self::PlainCommit => "plain writes, as many fdatasync",
            Self::TracingAppender => "tracing-appender, lossless",
        }
    }

    /// Each producer writes `lines` lines of `size` bytes with their newline.
    pub(super) fn run(self, dir: &Path, producers: usize, lines: u64, size: usize, syncs: u64) -> Result<Written> {
        match self {
            Self::Sink => sink(dir, Sync::None, producers, lines, size),
            Self::SinkSynced => sink(dir, Sync::Interval(Duration::from_secs(1)), producers, lines, size),
            Self::SinkCommit => sink(dir, Sync::Commit, producers, lines, size),
            Self::Plain => plain(dir, lines, size, 0),
            Self::PlainCommit => plain(dir, lines, size, syncs),
            Self::TracingAppender => tracing_appender(dir, producers, lines, size),
        }
    }
}

fn line(size: usize) -> Vec<u8> {
    vec![b'x'; size - 1]
}

fn sink(dir: &Path, sync: Sync, producers: usize, lines: u64, size: usize) -> Result<Written> {
    let writer = RollingWriter::builder(dir, "bench").sync(sync).open()?;
    let line = line(size);
    thread::scope(|scope| {
        let line = &line;
        let work = move |writer: RollingWriter| {
            for _ in 0..lines {
                writer.append_blocking(line)?;
            }
            anyhow::Ok(())
        };
        let threads: Vec<_> = (0..producers)
            .map(|_| {
                let writer = writer.clone();
                scope.spawn(move || work(writer))
            })
            .collect();
        threads.into_iter().try_for_each(joined)
    })?;
    let stats = writer.clone();
    writer.close_blocking()?;
    Ok(Written {
        syncs: stats.stats().syncs,
    })
}

fn joined(thread: thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("a producer panicked"),
    }
}

fn plain(dir: &Path, lines: u64, size: usize, syncs: u64) -> Result<Written> {
    let mut file = BufWriter::with_capacity(BUFFER, File::create(dir.join("plain"))?);
    let mut line = line(size);
    line.push(b'\n');
    let every = lines.checked_div(syncs).unwrap_or(u64::MAX).max(1);
    let mut made = 0;
    for number in 1..=lines {
        file.write_all(&line)?;
        if number % every == 0 && made < syncs {
            file.flush()?;
            file.get_ref().sync_data()?;
            made += 1;
        }
    }
    file.flush()?;
    Ok(Written { syncs: made })
}

#[cfg(feature = "peers")]
fn tracing_appender(dir: &Path, producers: usize, lines: u64, size: usize) -> Result<Written> {
    use tracing_appender::{non_blocking::NonBlockingBuilder, rolling};

    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(false)
        .finish(rolling::hourly(dir, "bench"));
    let mut line = line(size);
    line.push(b'\n');
    thread::scope(|scope| {
        let line = &line;
        let work = move |mut writer: tracing_appender::non_blocking::NonBlocking| {
            for _ in 0..lines {
                writer.write_all(line)?;
            }
            anyhow::Ok(())
        };
        let threads: Vec<_> = (0..producers)
            .map(|_| {
                let writer = writer.clone();
                scope.spawn(move || work(writer))
            })
            .collect();
        threads.into_iter().try_for_each(joined)
    })?;
    // Waits for the worker; that it has written all is seen by the size.
    drop(guard);
    Ok(Written { syncs: 0 })
}

#[cfg(not(feature = "peers"))]
fn tracing_appender(_: &Path, _: usize, _: u64, _: usize) -> Result<Written> {
    bail!("built without the feature `peers`")
}
