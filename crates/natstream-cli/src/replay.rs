//! `natstream replay`: publish what was recorded.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use natstream::connect::{Operation, check_publish_subject, user_header};
use natstream::recorder::{ManifestLog, RecordedFiles};
use natstream::sinks::{ReadFormat, RecordReader, StoredRecord};
use natstream::{Pool, RequestErrorKind};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock::now;
use crate::console::Console;
use crate::exit::{Exit, Failure, printable};
use crate::program::Context;
use crate::publish;
use crate::record::RecordFormat;
use crate::session::{self, Refusals};
use crate::size;

const EXAMPLES: &str = "\
Examples:
  natstream replay /var/log/app replayed.logs --rate 10000
  natstream replay orders            # each record to the subject that it came from

Closed files are read, compressed or not, the oldest first; files in progress are not. Exit code 0 says that nats-server \
has all of them, 5 that a file is damaged: what could be read was published.";

/// Records that are read ahead.
const READ_AHEAD: usize = 64;

/// Damages that are told one by one.
const MOST_DAMAGES: u64 = 20;

/// Publish recorded messages again, in their order.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// Directory of the files.
    dir: PathBuf,
    /// Where to publish [default: where each record came from, in the forms that say so: timestamped and jsonl].
    subject: Option<String>,
    /// Form of files that no manifest tells of.
    #[arg(long, value_enum, default_value_t)]
    format: RecordFormat,
    /// Most records a second [default: as fast as it goes].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

#[derive(Debug, Default)]
struct Tally {
    records: u64,
    bytes: u64,
    headers_left_out: u64,
    /// Files and records that could not be read or published.
    damages: u64,
}

/// What the reading thread tells.
enum Read {
    Record(Arc<Path>, StoredRecord),
    Damage(String),
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: ReplayArgs) -> Result<Exit, Failure> {
    if let Some(subject) = &args.subject {
        check_publish_subject(subject).map_err(|error| Failure::subject(subject, error))?;
    }
    let files = files(&args)?;
    let connection = session::connect(&context.connection, "natstream replay", &mut context.interrupts).await?;
    let limit = context.connection.timeout;
    let mut refusals = Refusals::of(&connection);
    let pool = Pool::new(connection.clone());
    let mut tally = Tally::default();
    let outcome = tokio::select! {
        outcome = replay(&pool, &args, files, limit, context.console, &mut tally) => outcome,
        refused = refused(&mut refusals) => Err(refused),
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    };
    // Also when it failed: what was published before counts.
    let flushed = tokio::select! {
        flushed = confirm(&pool, &mut refusals, limit) => flushed,
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    };
    tally.tell(context.console);
    session::leave(&connection, &mut context.interrupts).await;
    outcome.and(flushed)?;
    match tally.damages {
        0 => Ok(Exit::Complete),
        damages => Err(Failure::text(
            Exit::Lost,
            format!("{damages} files or records are damaged"),
        )),
    }
}

/// The files in the order of their records, and how each is read.
fn files(args: &ReplayArgs) -> Result<Vec<(PathBuf, ReadFormat)>, Failure> {
    let listed = RecordedFiles::list(&args.dir).and_then(|files| Ok((files, ManifestLog::read(&args.dir)?)));
    let (files, manifests) = listed.map_err(|error| {
        let context = format!("{} cannot be read", args.dir.display());
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(context))
    })?;
    let mut closed = files.closed;
    if closed.is_empty() {
        return Err(Failure::usage(format!(
            "there is no closed file in {}",
            args.dir.display()
        )));
    }
    let format = |path: &PathBuf| {
        let name = path.strip_prefix(&args.dir).unwrap_or(path);
        manifests.format_of(name).unwrap_or_else(|| args.format.read_format())
    };
    closed.retain(|path| {
        let name = path.strip_prefix(&args.dir).unwrap_or(path);
        // Beside those of a writer others may lie, which nobody wants published.
        manifests.entries().next().is_none() || manifests.format_of(name).is_some()
    });
    let files: Vec<_> = closed.into_iter().map(|path| (path.clone(), format(&path))).collect();
    if files.iter().any(|(_, format)| *format == ReadFormat::Raw) {
        return Err(Failure::usage(
            "files of the form raw do not tell where a message ends, and cannot be replayed",
        ));
    }
    Ok(files)
}

async fn replay(
    pool: &Pool,
    args: &ReplayArgs,
    files: Vec<(PathBuf, ReadFormat)>,
    limit: Duration,
    console: Console,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let (sender, mut records) = mpsc::channel(READ_AHEAD);
    let reading = tokio::task::spawn_blocking(move || read(files, &sender));
    let step = args.rate.map(|rate| Duration::from_secs(1) / rate);
    let mut next = Instant::from_std(now());
    while let Some(read) = records.recv().await {
        let (place, record) = match read {
            Read::Record(place, record) => (place, record),
            Read::Damage(text) => {
                tally.damage(console, &text);
                continue;
            }
        };
        let Some(subject) = args.subject.as_ref().or(record.subject.as_ref()) else {
            return Err(Failure::usage(
                "the records do not say where they came from; give a subject",
            ));
        };
        if let Err(error) = check_publish_subject(subject) {
            tally.damage(
                console,
                &format!("{}: a record of `{subject}`: {error}", place.display()),
            );
            continue;
        }
        if let Some(step) = step {
            sleep_until(next).await;
            next = next.max(Instant::from_std(now())) + step;
        }
        let size = record.payload.len() as u64;
        let mut message = pool
            .publish(subject, Bytes::from(record.payload))
            .connect_timeout(limit);
        for (name, value) in &record.headers {
            match user_header(name, value) {
                Some(_) => message = message.header(name, value),
                None => tally.headers_left_out += 1,
            }
        }
        match message.send().await {
            Ok(()) => {
                tally.records += 1;
                tally.bytes += size;
            }
            Err(error) if error.kind() == RequestErrorKind::InvalidRequest => {
                tally.damage(console, &format!("{}: {error}", place.display()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    // Not the end of the files, if it panicked.
    reading.await.map_err(|error| Failure::new(Exit::Failed, error))
}

/// Completes when nats-server refuses what is published.
async fn refused(refusals: &mut Refusals) -> Failure {
    loop {
        let refusal = refusals.next().await;
        if refusal.operation == Operation::Publish {
            return refusal.into_failure();
        }
    }
}

/// nats-server has all, and has refused none.
async fn confirm(pool: &Pool, refusals: &mut Refusals, limit: Duration) -> Result<(), Failure> {
    pool.flush(limit).await.map_err(publish::unconfirmed)?;
    match timeout(publish::REFUSAL_GRACE, refused(refusals)).await {
        Ok(failure) => Err(failure),
        Err(_) => Ok(()),
    }
}

impl Tally {
    fn damage(&mut self, console: Console, text: &str) {
        self.damages += 1;
        if self.damages <= MOST_DAMAGES {
            console.progress(&printable(text));
        }
    }

    fn tell(&self, console: Console) {
        let Self {
            records,
            bytes,
            headers_left_out,
            damages,
        } = *self;
        console.summary(
            || {
                let mut text = format!("replayed: {records} records, {}", size::display(bytes as f64));
                if headers_left_out > 0 {
                    text.push_str(&format!("; headers that cannot be sent: {headers_left_out}"));
                }
                text
            },
            || json!({"records": records, "bytes": bytes, "damages": damages, "headers_left_out": headers_left_out}),
        );
    }
}

/// In a thread: decompression blocks.
fn read(files: Vec<(PathBuf, ReadFormat)>, sender: &mpsc::Sender<Read>) {
    for (path, format) in files {
        let place: Arc<Path> = path.into();
        let damage = |error: &dyn std::error::Error| {
            let causes: Vec<_> = std::iter::successors(Some(error), |error| error.source())
                .map(ToString::to_string)
                .collect();
            Read::Damage(format!("{}: {}", place.display(), causes.join(": ")))
        };
        let reader = match RecordReader::open(&place, format) {
            Ok(reader) => reader,
            Err(error) => {
                if sender.blocking_send(damage(&error)).is_err() {
                    return;
                }
                continue;
            }
        };
        for record in reader {
            let read = match record {
                Ok(record) => Read::Record(place.clone(), record),
                Err(error) => damage(&error),
            };
            // An error: the command has ended.
            if sender.blocking_send(read).is_err() {
                return;
            }
        }
    }
}
