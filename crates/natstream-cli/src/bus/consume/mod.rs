//! `natstream bus consume`: handle the messages of a stream.

mod activity;
mod command;
mod print;
mod tail;

use std::ffi::OsString;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use natstream::Connection;
use natstream::connect::{check_publish_subject, check_subscribe_subject, subject_matches};
use natstream::eventbus::topology::Topology;
use natstream::eventbus::{Consumer, Key};
use natstream::metrics::observe;
use serde_json::json;
use tokio::sync::watch;

use self::activity::Activity;
use self::command::Command;
use self::print::{Printer, Tally};
use super::ask;
use super::consumer::{Settings, compare};
use crate::children::Children;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::exposition::{Exposition, MetricsArgs};
use crate::format::FormatArgs;
use crate::program::Context;
use crate::session::{self, Refusals};
use crate::{clock, duration, output, size};

const EXAMPLES: &str = "\
Examples:
  natstream bus consume ORDERS --durable show --idle-timeout 1s --jsonl
  natstream bus consume ORDERS --durable mail --concurrency 8 --max-deliver 5 -- ./send-mail
  natstream bus consume ORDERS --durable stock --concurrency 8 --key subject:2 -- ./update-stock

With a command, a process is run for each message. Its standard input is the payload; in its environment are NATSTREAM_SUBJECT, \
NATSTREAM_STREAM, NATSTREAM_CONSUMER, NATSTREAM_SEQUENCE, NATSTREAM_ATTEMPT (1 for the first), NATSTREAM_STORED (RFC 3339), \
NATSTREAM_PENDING, NATSTREAM_HEADERS (JSON: a list of values for each name) and, for each header, NATSTREAM_HEADER_NAME in \
capitals, with _ for all but letters and digits. Values above 64KiB or with a NUL are left out.
Exit code 0 acks the message. Exit code 65 rejects it: it is put aside at once, if that is set up. Any other, or a signal, is a \
failure: the message comes again after the --backoff. The last 800 bytes of its standard error, which is passed on, are the \
reason.

SIGTERM and Ctrl-C drain: what runs may end. A second signal ends at once. What is not acked comes again.";

/// Messages that wait here for another attempt: those of one request more or less.
const AHEAD: usize = 256;

/// How long the last questions to nats-server may take.
const LAST_QUESTION: Duration = Duration::from_secs(2);

/// How long the word about a refusal may take from one task of the connection to another.
const LATE_REFUSAL: Duration = Duration::from_secs(1);

/// How long children that were killed may take to vanish.
const REAP: Duration = Duration::from_secs(2);

/// Print the messages of a stream, or hand each to a command; acked when that went well.
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    override_usage = "natstream bus consume [OPTIONS] --durable <NAME> <STREAM> [-- <CMD> [ARGS]...]"
)]
pub(crate) struct ConsumeArgs {
    /// The stream.
    stream: String,
    /// The durable pull consumer, which is made when it is missing.
    #[arg(long, value_name = "NAME")]
    durable: String,
    #[command(flatten)]
    settings: Settings,
    /// Commands that run at a time; with 1, in the order of the stream. Printed is in that order anyway.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Messages with the same key stay in order: header:NAME, subject, or subject:N for part N of it, counted from 1.
    #[arg(long, value_name = "KEY", value_parser = key)]
    key: Option<Key>,
    /// End when so many messages were handled or put aside; no others are taken [default: go on].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_items: Option<u64>,
    /// End when nothing came for so long; messages that wait for another attempt are not waited for [default: go on].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    idle_timeout: Option<Duration>,
    /// Put a message aside after so many attempts [default: try for ever].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_deliver: Option<u64>,
    /// Put messages aside by publishing them to this subject [default with --max-deliver: dlq.STREAM.NAME, which the stream
    /// STREAM-dlq takes; it is made when no stream does].
    #[arg(long, value_name = "SUBJECT")]
    dead_letters: Option<String>,
    /// Pauses after the first failure of a message, the second, and so on; the last is used again, and half of each is random.
    #[arg(long, value_name = "DUR[,DUR]", value_delimiter = ',', default_value = "1s,5s,30s,60s", value_parser = duration::parse_positive)]
    backoff: Vec<Duration>,
    /// How long the command may take; then it is killed, and has failed [default: as long as it likes].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive, requires = "command")]
    handler_timeout: Option<Duration>,
    /// How long what runs may go on after SIGTERM or Ctrl-C.
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = duration::parse)]
    drain: Duration,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// Run this command for each message.
    #[arg(last = true, value_names = ["CMD", "ARGS"], conflicts_with_all = ["raw", "jsonl"])]
    command: Vec<OsString>,
}

fn key(text: &str) -> Result<Key, String> {
    match text.split_once(':') {
        None if text == "subject" => Ok(Key::Subject),
        Some(("subject", part)) => match part.parse() {
            Ok(part) if part > 0 => Ok(Key::SubjectPart(part)),
            _ => Err("parts of a subject are counted from 1".to_owned()),
        },
        Some(("header", name)) if !name.is_empty() => Ok(Key::Header(name.to_owned())),
        _ => Err("it is header:NAME, subject, or subject:N".to_owned()),
    }
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: ConsumeArgs) -> Result<Exit, Failure> {
    let children = Children::default();
    for filter in &args.settings.filter {
        check_subscribe_subject(filter).map_err(|error| Failure::subject(filter, error))?;
    }
    let command = match args.command.split_first() {
        Some((program, rest)) => Some(Arc::new(Command::new(program, rest, &args, &children)?)),
        None => None,
    };
    let exposition = args.metrics.start(context.console).await?;
    let connection = session::connect(&context.connection, "natstream bus", &mut context.interrupts).await?;
    exposition.add_connection(&connection);
    let outcome = consume(&mut context, &connection, &args, command, &exposition).await;
    children.kill_all();
    tokio::select! {
        () = async {
            session::close(&connection).await;
            let _ = tokio::time::timeout(REAP, children.gone()).await;
        } => {}
        signal = context.interrupts.next() => return Err(session::interrupted(signal)),
    }
    outcome
}

async fn consume(
    context: &mut Context,
    connection: &Connection,
    args: &ConsumeArgs,
    command: Option<Arc<Command>>,
    exposition: &Exposition,
) -> Result<Exit, Failure> {
    let mut refusals = Refusals::of(connection);
    let console = context.console;
    let consumer = ask(&mut context.interrupts, &mut refusals, open(connection, args)).await?;
    exposition.add({
        let (consumer, name) = (consumer.clone(), args.durable.clone());
        move || {
            observe(&name, &consumer);
            consumer.is_ready()
        }
    });
    console.progress(&format!("consuming {} as {}", args.stream, args.durable));
    let began = clock::now();
    let stop = watch::Sender::new(false);
    let mut printer = Printer::new(consumer.clone(), args);
    let is_printed = command.is_none();
    let outcome = {
        let mut stopped = stop.subscribe();
        let mut running = pin!(async {
            match command {
                Some(command) => handle(&consumer, command, args.idle_timeout, &mut stopped).await,
                None => printer.run(&mut stopped).await,
            }
        });
        let mut ended = pin!(session::tell_state(connection, console));
        loop {
            tokio::select! {
                biased;
                signal = context.interrupts.next() => {
                    if stop.send_replace(true) {
                        break Err(session::interrupted(signal));
                    }
                    exposition.drain();
                    console.progress(&format!("{signal}: draining"));
                }
                outcome = &mut running => break outcome,
                () = output::closed(), if is_printed => {
                    // What was written is acked.
                    stop.send_replace(true);
                    break tokio::time::timeout(LAST_QUESTION, running).await.unwrap_or(Ok(()));
                }
                refusal = refusals.next() => break Err(refusal.into_failure()),
                () = &mut ended => break Err(session::ended(connection)),
            }
        }
    };
    let tally = if is_printed {
        printer.tally
    } else {
        tally(&consumer, outcome.is_ok()).await
    };
    let outcome = match outcome {
        // Acks that are refused end the last batch sooner than the word about it comes.
        Ok(()) if tally.unconfirmed > 0 => match tokio::time::timeout(LATE_REFUSAL, refusals.next()).await {
            Ok(refusal) => Err(refusal.into_failure()),
            Err(_) => Ok(()),
        },
        outcome => outcome,
    };
    summarize(console, &tally, (clock::now() - began).as_secs_f64());
    outcome.map(|()| Exit::Complete)
}

/// Runs a process for each message, until there were enough, nothing came for long enough, or it is told to stop; then those
/// that run may end.
async fn handle(
    consumer: &Consumer,
    command: Arc<Command>,
    idle_timeout: Option<Duration>,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), Failure> {
    let activity = Activity::new();
    let mut running = pin!(consumer.for_each({
        let activity = activity.clone();
        move |message| {
            let (command, activity) = (command.clone(), activity.clone());
            async move {
                let _busy = activity.begin();
                command.handle(&message).await
            }
        }
    }));
    tokio::select! {
        biased;
        ended = &mut running => return ended.map_err(Failure::from),
        _ = stop.wait_for(|stops| *stops) => {}
        () = idle(&activity, idle_timeout) => {}
    }
    consumer.drain();
    Ok(running.await?)
}

async fn open(connection: &Connection, args: &ConsumeArgs) -> Result<Consumer, Failure> {
    let topology = Topology::new(connection.clone());
    let spec = args.settings.spec(&args.stream, &args.durable);
    compare(&topology, &spec).await?;
    let concurrency = usize::from(args.concurrency);
    let mut builder = Consumer::builder(connection.clone(), spec)
        .concurrency(concurrency)
        .backoff(args.backoff.iter().copied())
        .drain_limit(args.drain)
        // What a command has no time for yet, another consumer may have. But of a number all are to be handled here, though
        // some wait for another attempt.
        .prefetch(if args.max_items.is_some() {
            concurrency.max(AHEAD)
        } else {
            concurrency
        });
    if let Some(key) = &args.key {
        builder = builder.key(key.clone());
    }
    if let Some(items) = args.max_items {
        builder = builder.limit(size::to_usize(items));
    }
    if let Some(limit) = args.handler_timeout {
        builder = builder.handler_limit(limit);
    }
    if let Some((subject, attempts)) = dead_letters(&topology, args).await? {
        builder = builder.dead_letters(subject, attempts);
    }
    Ok(builder.open().await?)
}

/// Where messages are put aside, and after how many attempts.
async fn dead_letters(topology: &Topology, args: &ConsumeArgs) -> Result<Option<(String, u64)>, Failure> {
    let subject = match (&args.dead_letters, args.max_deliver) {
        (None, None) => return Ok(None),
        (None, Some(_)) => topology.ensure_dead_letters(&args.stream, &args.durable).await?,
        (Some(subject), _) => {
            check_publish_subject(subject).map_err(|error| Failure::subject(subject, error))?;
            let Some(taker) = topology.stream_of(subject).await? else {
                let text = format!("no stream takes the subject of dead letters `{subject}`");
                return Err(Failure::text(Exit::NobodyAnswers, text)
                    .with_hint("`natstream bus stream add` makes one; without --dead-letters it is made"));
            };
            let filters = &args.settings.filter;
            if taker == args.stream
                && (filters.is_empty() || filters.iter().any(|filter| subject_matches(filter, subject)))
            {
                let text = format!(
                    "`{}` takes `{subject}`: dead letters would be consumed again",
                    args.stream
                );
                return Err(Failure::usage(text));
            }
            subject.clone()
        }
    };
    // Without a number, what is rejected.
    Ok(Some((subject, args.max_deliver.unwrap_or(u64::MAX))))
}

async fn idle(activity: &Activity, limit: Option<Duration>) {
    match limit {
        Some(limit) => activity.idle(limit).await,
        None => std::future::pending().await,
    }
}

/// What became of messages that were handed to a command.
async fn tally(consumer: &Consumer, is_well: bool) -> Tally {
    let stats = consumer.stats();
    let mut tally = Tally {
        handled: stats.handled,
        failed: stats.failed,
        dead: stats.dead,
        repeated: stats.repeated,
        unconfirmed: stats.unconfirmed,
        lag: stats.lag,
    };
    // What others have taken meanwhile is not behind any more.
    if is_well && let Ok(Ok(info)) = tokio::time::timeout(LAST_QUESTION, consumer.info()).await {
        tally.lag = info.pending;
    }
    tally
}

fn summarize(console: Console, tally: &Tally, seconds: f64) {
    let Tally {
        handled,
        failed,
        dead,
        repeated,
        unconfirmed,
        lag,
    } = tally;
    let rate = if seconds > 0.0 { *handled as f64 / seconds } else { 0.0 };
    console.summary(
        || {
            format!(
                "consumed: {handled} handled, {failed} failed, {dead} dead, {repeated} repeated, {unconfirmed} unconfirmed, \
                 lag {lag}, {rate:.0} messages/s"
            )
        },
        || {
            json!({
                "handled": handled,
                "failed": failed,
                "dead": dead,
                "repeated": repeated,
                "unconfirmed": unconfirmed,
                "lag": lag,
                "seconds": seconds,
                "messages_per_second": rate,
            })
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        assert_eq!(key("subject"), Ok(Key::Subject));
        assert_eq!(key("subject:2"), Ok(Key::SubjectPart(2)));
        assert_eq!(key("header:Tenant"), Ok(Key::Header("Tenant".to_owned())));
        for text in ["", "subject:", "subject:0", "subject:x", "header", "header:", "payload"] {
            assert!(key(text).is_err(), "{text}");
        }
    }
}
