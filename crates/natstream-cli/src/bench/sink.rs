//! `natstream bench sink`: lines to files that roll.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use natstream::connect::token;
use natstream::sinks::{RollingWriter, SinkError, SinkState, SinkStats, Sync};
use tokio::task::JoinSet;

use super::spent::{Spent, Stopwatch};
use super::table::{self, Row};
use super::workers::{self, Done};
use crate::bus::print;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::record::sync;
use crate::{session, size};

const EXAMPLES: &str = "\
Examples:
  natstream bench sink
  natstream bench sink --dir /var/spool --sync commit --producers 4
  natstream --json bench sink --count 500000 --size 1KiB

NATS is not asked. The time ends when the last byte is handed to the system and the file is closed; then the bytes on the disk \
are counted. The files lie in a directory of their own, which is removed at the end, also after Ctrl-C.";

/// How long a full or broken disk is tried.
const BLOCKED: Duration = Duration::from_secs(5);

/// How long the end may go on trying.
const CLOSE: Duration = Duration::from_secs(2);

/// Lines that are counted together.
const STEP: u64 = 1024;

/// What may be written, unless more is said.
const MOST: u64 = 16 << 30;

/// Write lines to rolling files that are there for this only.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SinkArgs {
    /// Lines, of all producers together.
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Bytes of each line with its newline, at least 2.
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = line_size)]
    size: u64,
    /// Threads that write, at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    producers: u16,
    /// When lines are made to survive a power loss: none, interval:DUR, or commit (with each write).
    #[arg(long, value_name = "MODE", default_value = "interval:1s", value_parser = sync)]
    sync: Sync,
    /// Where to make the directory of the files [default: the system's for temporary files].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

fn line_size(text: &str) -> Result<u64, String> {
    match size::parse(text)? {
        size @ 2..=0x0010_0000 => Ok(size),
        _ => Err("a line has between 2 bytes and 1MiB".to_owned()),
    }
}

/// Runs the command.
pub(super) async fn run(mut context: Context, args: SinkArgs) -> Result<Exit, Failure> {
    let bytes = args.count.checked_mul(args.size).filter(|bytes| *bytes <= MOST);
    let Some(bytes) = bytes else {
        return Err(Failure::usage(
            "that is more than 16GiB: take a smaller --count or --size",
        ));
    };
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = Dir::make(&parent)?;
    context.console.progress(&format!("writing to {}", dir.0.display()));
    let outcome = write(&mut context, &args, &dir, bytes).await;
    let removed = dir.remove();
    let (spent, stats) = outcome?;
    removed?;
    let row = Row::new("sink")
        .count("LINES", "lines", args.count)
        .rate("LINES/S", "lines_per_second", spent.per_second(args.count))
        .spent(&spent, args.count, bytes)
        .count("SYNCS", "syncs", stats.syncs)
        .count("FILES", "files", stats.files_closed)
        .json_only("bytes", bytes)
        .json_only("size", args.size)
        .json_only("producers", args.producers);
    let text = table::text(&[row], context.console.is_json());
    print(&mut context, &text).await?;
    Ok(Exit::Complete)
}

/// Writes everything, and counts what is there then.
async fn write(context: &mut Context, args: &SinkArgs, dir: &Dir, bytes: u64) -> Result<(Spent, SinkStats), Failure> {
    let builder = RollingWriter::builder(&dir.0, "bench")
        .sync(args.sync)
        .close_timeout(CLOSE);
    let writer = blocking(move || Ok(builder.open()?)).await?;
    let line = vec![b'x'; size::to_usize(args.size - 1)];
    let done = Done::default();
    let watch = Stopwatch::start();
    let mut tasks = JoinSet::new();
    for count in workers::shares(args.count, args.producers.into()) {
        let (writer, line, done) = (writer.clone(), line.clone(), done.clone());
        tasks.spawn(async move {
            let thread = thread::Builder::new().name("producer".to_owned());
            let (told, outcome) = tokio::sync::oneshot::channel();
            let work = move || drop(told.send(lines(&writer, &line, count, &done)));
            thread.spawn(work).map_err(|error| Failure::new(Exit::Failed, error))?;
            match outcome.await {
                Ok(outcome) => outcome.map_err(Failure::from),
                Err(_) => Err(Failure::text(Exit::Failed, "a thread that writes has ended")),
            }
        });
    }
    let console = context.console;
    let outcome = tokio::select! {
        biased;
        outcome = workers::all(tasks, console, &done, args.count, "lines were accepted") => outcome.map(drop),
        failure = blocked(&writer) => Err(failure),
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    };
    // It also ends producers that are not at their end.
    let closing = writer.clone();
    let closed = blocking(move || Ok(closing.close_blocking()?)).await;
    let spent = watch.read();
    outcome?;
    closed?;
    let path = dir.0.clone();
    let written = blocking(move || size_of(&path).map_err(|error| Failure::new(Exit::Incomplete, error))).await?;
    if written != bytes {
        let text = format!("of {bytes} bytes {written} are on the disk");
        return Err(Failure::text(Exit::Incomplete, text));
    }
    Ok((spent, writer.stats()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Failure::new(Exit::Failed, error)),
    }
}

fn lines(writer: &RollingWriter, line: &[u8], count: u64, done: &AtomicU64) -> Result<(), SinkError> {
    let mut left = count;
    while left > 0 {
        let step = left.min(STEP);
        for _ in 0..step {
            writer.append_blocking(line)?;
        }
        done.fetch_add(step, Ordering::Relaxed);
        left -= step;
    }
    Ok(())
}

/// Completes when nothing could be written for a while: the producers would wait for ever.
async fn blocked(writer: &RollingWriter) -> Failure {
    loop {
        tokio::time::sleep(BLOCKED / 5).await;
        if let SinkState::Blocked { error, since, .. } = writer.state()
            && since >= BLOCKED
        {
            return error.into();
        }
    }
}

/// A directory of this process, removed in any case.
#[derive(Debug)]
struct Dir(PathBuf);

impl Dir {
    fn make(parent: &Path) -> Result<Self, Failure> {
        let path = parent.join(format!("natstream-bench-{}", token()));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => {
                let text = format!("the directory {} cannot be made", path.display());
                Err(Failure::new(Exit::Usage, anyhow::Error::new(error).context(text)))
            }
        }
    }

    fn remove(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let text = format!("the directory {} is left behind", self.0.display());
                Err(Failure::new(Exit::Failed, anyhow::Error::new(error).context(text)))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if let Err(failure) = self.remove() {
            tracing::warn!("{}", failure.error);
        }
    }
}

/// Bytes in the visible files below a directory.
fn size_of(dir: &Path) -> io::Result<u64> {
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
