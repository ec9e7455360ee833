//! `natstream record`: write messages to files.

pub(crate) use self::files::{RecordFormat, sync};

mod files;
mod progress;
mod stream;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use natstream::connect::{check_queue_group, check_subscribe_subject};
use natstream::metrics::{Observe, observe};
use natstream::recorder::{Recorder, Recording, RecordingEnd, RecordingError, RecordingStats};
use natstream::sinks::RollingWriter;
use serde_json::json;

use self::files::FileOptions;
use self::progress::{Figures, Progress};
use self::stream::StreamOptions;
use self::verify::VerifyArgs;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::exposition::{Exposition, MetricsArgs};
use crate::program::Context;
use crate::session;
use crate::size;

const EXAMPLES: &str = "\
Examples:
  natstream record 'logs.>' --dir /var/log/app --name app --format timestamped --compress gzip
  natstream record 'orders.*' --dir orders --name orders --rotate minutely --format jsonl --sync commit
  natstream record --stream ORDERS --durable archive --dir orders --name orders --format jsonl
  natstream record verify orders --stream ORDERS

A file grows as NAME.part and appears under its final name when its time is over; SIGTERM and Ctrl-C end the recording and \
close it, with exit code 0. What a recorder that was killed left is mended by the next one.

Messages that come while the connection is down are lost. What a slow or full disk leaves no room for in --buffer is \
dropped, counted, and exit code 8.

With --stream, from JetStream: each message is recorded once, whatever is killed. The files know how far they are, and the \
consumer goes there; messages are acked when they are safe, and wait in the stream meanwhile. They go to files by the time at \
which the stream took them. What the stream's limits removed before it was recorded is counted, and exit code 8.";

/// How long the end may take: half of it for the last messages, and half for closing the file.
pub(crate) const END: Duration = Duration::from_secs(10);

/// Write the messages on a subject to files that roll by the hour and survive crashes.
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    override_usage = "natstream record [OPTIONS] --dir <DIR> --name <NAME> <SUBJECT>\n       natstream record [OPTIONS] --stream <STREAM> --durable <NAME> --dir <DIR> --name <NAME> [SUBJECT]...\n       natstream record verify [OPTIONS] <DIR>"
)]
pub(crate) struct RecordArgs {
    #[command(subcommand)]
    command: Option<RecordCommand>,
    #[command(flatten)]
    subscription: SubscriptionArgs,
}

#[derive(Debug, Subcommand)]
enum RecordCommand {
    Verify(VerifyArgs),
}

#[derive(Args, Debug)]
struct SubscriptionArgs {
    /// What to record; may have wildcards. Of a stream, all unless there are some.
    // There is none with `verify`.
    #[arg(required_unless_present = "stream", value_name = "SUBJECT")]
    subjects: Vec<String>,
    #[command(flatten)]
    stream: StreamOptions,
    /// Queue group: each message reaches one of its members [default: none].
    #[arg(long, value_name = "GROUP", conflicts_with = "stream")]
    queue: Option<String>,
    /// End after this many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_items: Option<u64>,
    /// Most bytes of messages that wait for the disk.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", conflicts_with = "stream", value_parser = size::parse_positive)]
    buffer: u64,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    files: FileOptions,
}

/// Runs the command.
pub(crate) async fn run(
    context: impl FnOnce() -> Result<Context, Failure>,
    args: RecordArgs,
    console: Console,
) -> Result<Exit, Failure> {
    let SubscriptionArgs {
        subjects,
        stream,
        queue,
        max_items,
        buffer,
        metrics,
        files,
    } = args.subscription;
    if let Some(RecordCommand::Verify(args)) = args.command {
        return verify::run(context, args, console).await;
    }
    if subjects.iter().any(|subject| subject == "verify") {
        return Err(Failure::usage(
            "`verify` is a command, and no subject here; it takes a directory and its own options",
        ));
    }
    if let Some(source) = stream.source(subjects.clone(), max_items)? {
        let context = context()?;
        let exposition = metrics.start(context.console).await?;
        return stream::record(context, source, &files, &exposition).await;
    }
    match <[String; 1]>::try_from(subjects) {
        Ok([subject]) => {
            let what = What {
                subject,
                queue,
                max_items,
                buffer: size::to_usize(buffer),
            };
            record(context()?, &what, &files, &metrics).await
        }
        Err(_) => Err(Failure::usage("there is one subject, unless a stream is recorded")),
    }
}

/// What is recorded.
struct What {
    subject: String,
    queue: Option<String>,
    max_items: Option<u64>,
    buffer: usize,
}

async fn record(
    mut context: Context,
    args: &What,
    files: &FileOptions,
    metrics: &MetricsArgs,
) -> Result<Exit, Failure> {
    check_subscribe_subject(&args.subject).map_err(|error| Failure::subject(&args.subject, error))?;
    if let Some(group) = &args.queue {
        check_queue_group(group).map_err(|_| Failure::usage(format!("`{group}` is not a queue group")))?;
    }
    // First: what is wrong with the directory is known without a connection.
    let writer = tokio::select! {
        writer = files.open() => writer?,
        signal = context.interrupts.next() => return Err(session::interrupted(signal)),
    };
    let exposition = metrics.start(context.console).await?;
    let connection = session::connect(&context.connection, "natstream record", &mut context.interrupts).await?;
    exposition.add_connection(&connection);
    let mut recorder = Recorder::new(writer.clone()).max_buffered(args.buffer);
    if let Some(count) = args.max_items {
        recorder = recorder.max_records(count);
    }
    let subscribe = recorder.subscribe(&connection, &args.subject, args.queue.as_deref());
    let recording = tokio::select! {
        recording = subscribe => Arc::new(recording?),
        signal = context.interrupts.next() => return Err(session::interrupted(signal)),
    };
    show(&exposition, files.name(), &recording, &writer);
    context
        .console
        .progress(&format!("recording {} to {}", args.subject, files.dir().display()));
    let mut progress = Progress::new(context.console);
    let end = tokio::select! {
        end = recording.ended() => end,
        signal = context.interrupts.next() => {
            exposition.drain();
            tracing::debug!(signal, "told to end");
            stop(&recording, &mut context).await?
        }
        () = progress.show(|| figures(&recording.stats()), &writer) => unreachable!("it never ends"),
        // Its last messages may wait for the disk.
        () = session::tell_state(&connection, context.console) => stop(&recording, &mut context).await?,
    };
    progress.clear();
    let is_closed = connection.state().borrow().status == natstream::ConnectionStatus::Closed;
    session::leave(&connection, &mut context.interrupts).await;
    let recorded = summarize(context.console, &end, &writer);
    match end {
        Err(RecordingError::Sink { error, .. }) => Err(error.into()),
        Err(error) => Err(Failure::new(Exit::Incomplete, error)),
        // What was lost counts more than why it ended.
        Ok(_) if recorded.is_err() => recorded,
        Ok(RecordingEnd {
            refusal: Some(refusal), ..
        }) => Err(Failure::text(Exit::NotPermitted, refusal.to_string()).with_hint(session::PERMISSIONS)),
        Ok(_) if is_closed => Err(session::ended(&connection)),
        Ok(_) => recorded,
    }
}

/// Shows what is recorded. It is ready as long as somebody has the recording: none is kept alive by being looked at.
fn show<R: Observe + Send + Sync + 'static>(
    exposition: &Exposition,
    name: &str,
    recording: &Arc<R>,
    writer: &RollingWriter,
) {
    let (name, recording, writer) = (name.to_owned(), Arc::downgrade(recording), writer.clone());
    exposition.add(move || {
        observe(&name, &writer);
        let recording = recording.upgrade();
        recording.inspect(|recording| observe(&name, &**recording)).is_some()
    });
}

/// Ends it; a second signal ends the program at once.
async fn stop(recording: &Recording, context: &mut Context) -> Result<Result<RecordingEnd, RecordingError>, Failure> {
    tokio::select! {
        end = recording.stop(END / 2) => Ok(end),
        signal = context.interrupts.next() => Err(session::interrupted(signal)
            .with_hint("the file in progress is closed when the next recording begins")),
    }
}

fn figures(stats: &RecordingStats) -> Figures {
    let mut rest = String::new();
    if stats.waiting > 0 {
        rest = format!(", {} waiting, lag {:.1} s", stats.waiting, stats.lag.as_secs_f64());
    }
    if stats.dropped + stats.missed > 0 {
        rest.push_str(&format!(", {} dropped", stats.dropped + stats.missed));
    }
    Figures {
        recorded: stats.recorded,
        bytes: stats.bytes,
        rest,
    }
}

fn summarize(
    console: Console,
    end: &Result<RecordingEnd, RecordingError>,
    writer: &RollingWriter,
) -> Result<Exit, Failure> {
    let stats = match end {
        Ok(end) => end.stats,
        Err(error) => error.stats(),
    };
    let files = writer.stats();
    let RecordingStats {
        recorded,
        bytes,
        dropped,
        missed,
        refused,
        reconnects,
        ..
    } = stats;
    console.summary(
        || {
            let size = size::display(bytes as f64);
            let mut text = format!("recorded: {recorded} messages, {size}, {} files", files.files_closed);
            for (count, what) in [
                (dropped, "dropped"),
                (missed, "missed at least"),
                (refused, "too large"),
                (reconnects, "reconnects"),
            ] {
                if count > 0 {
                    text.push_str(&format!("; {what}: {count}"));
                }
            }
            text
        },
        || {
            json!({
                "messages": recorded, "bytes": bytes, "files": files.files_closed, "dropped": dropped, "missed": missed,
                "refused": refused, "reconnects": reconnects,
                "survive_power_loss": files.synced,
            })
        },
    );
    match dropped + missed + refused {
        0 => Ok(Exit::Complete),
        lost => Err(Failure::text(
            Exit::Incomplete,
            format!("{lost} messages were not recorded"),
        )),
    }
}
