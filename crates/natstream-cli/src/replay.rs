//! `natstream replay`: publish what was recorded.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use natstream::connect::{check_publish_subject, user_header};
use natstream::recorder::{ManifestLog, RecordedFiles};
use natstream::sinks::{ReadFormat, RecordReader, StoredRecord};
use natstream::{Connection, Pool};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::clock::now;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::record::RecordFormat;
use crate::session;
use crate::size;

const EXAMPLES: &str = "\
Examples:
  natstream replay /var/log/app replayed.logs --rate 10000
  natstream replay orders            # each record to the subject that it came from

Closed files are read, compressed or not, the oldest first; files in progress are not. Exit code 0 says that nats-server \
has all of them, 5 that a file is damaged: what could be read was published.";

/// Records that are read ahead.
const READ_AHEAD: usize = 1024;

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
}

/// What the reading thread tells.
enum Read {
    Record(StoredRecord),
    Damage(String),
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: ReplayArgs) -> Result<Exit, Failure> {
    if let Some(subject) = &args.subject {
        check_publish_subject(subject).map_err(|error| Failure::subject(subject, error))?;
    }
    let unreadable = |error: std::io::Error| {
        let context = format!("{} cannot be read", args.dir.display());
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(context))
    };
    let files = files(&args).map_err(unreadable)?;
    if files.is_empty() {
        return Err(Failure::usage(format!(
            "there is no closed file in {}",
            args.dir.display()
        )));
    }
    let connection = session::connect(&context.connection, "natstream replay", &mut context.interrupts).await?;
    let limit = context.connection.timeout;
    let console = context.console;
    let outcome = tokio::select! {
        outcome = replay(&connection, &args, files, limit, console) => outcome,
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    };
    session::leave(&connection, &mut context.interrupts).await;
    outcome
}

/// The files, and how each is read.
fn files(args: &ReplayArgs) -> std::io::Result<Vec<(PathBuf, ReadFormat)>> {
    let entries = ManifestLog::read(&args.dir)?;
    let files = RecordedFiles::list(&args.dir)?;
    let format = |path: &PathBuf| {
        let name = path.strip_prefix(&args.dir).unwrap_or(path).to_string_lossy();
        let name = name
            .strip_suffix(".gz")
            .or_else(|| name.strip_suffix(".zst"))
            .unwrap_or(&name);
        let entry = entries.iter().find(|entry| entry.file == name);
        entry
            .and_then(|entry| entry.read_format())
            .unwrap_or_else(|| args.format.read_format())
    };
    Ok(files
        .closed
        .into_iter()
        .map(|path| (path.clone(), format(&path)))
        .collect())
}

async fn replay(
    connection: &Connection,
    args: &ReplayArgs,
    files: Vec<(PathBuf, ReadFormat)>,
    limit: Duration,
    console: Console,
) -> Result<Exit, Failure> {
    let (sender, mut records) = mpsc::channel(READ_AHEAD);
    let reading = tokio::task::spawn_blocking(move || read(files, &sender));
    let pool = Pool::new(connection.clone());
    let (mut tally, mut damages, begin) = (Tally::default(), 0_u64, Instant::from_std(now()));
    while let Some(read) = records.recv().await {
        let record = match read {
            Read::Record(record) => record,
            Read::Damage(text) => {
                damages += 1;
                console.progress(&text);
                continue;
            }
        };
        let Some(subject) = args.subject.as_ref().or(record.subject.as_ref()) else {
            return Err(Failure::usage(
                "the records do not say where they came from; give a subject",
            ));
        };
        check_publish_subject(subject).map_err(|error| Failure::subject(subject, error))?;
        tally.bytes += record.payload.len() as u64;
        let mut message = pool
            .publish(subject, Bytes::from(record.payload))
            .connect_timeout(limit);
        for (name, value) in &record.headers {
            match user_header(name, value) {
                Some(_) => message = message.header(name, value),
                None => tally.headers_left_out += 1,
            }
        }
        message.send().await?;
        tally.records += 1;
        if let Some(rate) = args.rate {
            sleep_until(begin + Duration::from_secs(1).mul_f64(tally.records as f64 / f64::from(rate))).await;
        }
    }
    drop(reading);
    pool.flush(limit)
        .await
        .map_err(|error| Failure::new(Exit::Lost, error))?;
    console.summary(
        || {
            let mut text = format!(
                "replayed: {} records, {}",
                tally.records,
                size::display(tally.bytes as f64)
            );
            if tally.headers_left_out > 0 {
                text.push_str(&format!("; headers that cannot be sent: {}", tally.headers_left_out));
            }
            text
        },
        || {
            json!({
                "records": tally.records, "bytes": tally.bytes, "damages": damages,
                "headers_left_out": tally.headers_left_out,
            })
        },
    );
    match damages {
        0 => Ok(Exit::Complete),
        _ => Err(Failure::text(
            Exit::Lost,
            format!("{damages} files or records are damaged"),
        )),
    }
}

/// In a thread: decompression blocks.
fn read(files: Vec<(PathBuf, ReadFormat)>, sender: &mpsc::Sender<Read>) {
    for (path, format) in files {
        let damage = |error: &dyn std::fmt::Display| Read::Damage(format!("{}: {error}", path.display()));
        let reader = match RecordReader::open(&path, format) {
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
                Ok(record) => Read::Record(record),
                Err(error) => damage(&error),
            };
            // An error: the command has ended.
            if sender.blocking_send(read).is_err() {
                return;
            }
        }
    }
}
