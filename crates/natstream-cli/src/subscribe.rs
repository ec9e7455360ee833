//! `natstream sub`: print messages as they come.

use std::io;

use clap::Args;
use natstream::connect::{Operation, check_queue_group, check_subscribe_subject};
use natstream::{Connection, Message, Server, Subscription};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Receiver};

use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::format::{self, Format, FormatArgs};
use crate::output::{self, Output};
use crate::program::Context;
use crate::session::{self, Refusals};
use crate::size;

const EXAMPLES: &str = "\
Examples:
  natstream sub 'events.>' --jsonl | jq .subject
  natstream sub work.tasks --queue workers --max-items 10

It goes on until SIGTERM or Ctrl-C, with exit code 0. Messages are what NATS makes them: those that come while the \
connection is down are lost, and so are, with exit code 5, more than 65536 that standard output is too slow for. A closed \
standard output is not an error.";

/// Messages that wait for standard output: what async-nats lets wait, too.
const MAX_QUEUED: usize = 65_536;

/// Print the messages on a subject as they come.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SubArgs {
    /// What to listen to; may have wildcards.
    subject: String,
    /// Queue group: each message reaches one of its members [default: none].
    #[arg(long, value_name = "GROUP")]
    queue: Option<String>,
    /// End after this many messages; what has arrived beside them is dropped.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_items: Option<u64>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What was printed.
#[derive(Debug, Default)]
struct Tally {
    messages: u64,
    bytes: u64,
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: SubArgs) -> Result<Exit, Failure> {
    check_subscribe_subject(&args.subject).map_err(|error| Failure::subject(&args.subject, error))?;
    if let Some(group) = &args.queue {
        check_queue_group(group).map_err(|_| Failure::usage(format!("`{group}` is not a queue group")))?;
    }
    let connection = session::connect(&context.connection, "natstream sub", &mut context.interrupts).await?;
    let outcome = listen(&mut context, &connection, &args).await;
    session::leave(&connection, &mut context.interrupts).await;
    outcome
}

async fn listen(context: &mut Context, connection: &Connection, args: &SubArgs) -> Result<Exit, Failure> {
    let Context {
        interrupts, console, ..
    } = context;
    let mut refusals = Refusals::of(connection);
    let server = Server::new(connection.clone());
    let (subscription, mut messages) = tokio::select! {
        subscribed = subscribe(&server, args) => subscribed?,
        signal = interrupts.next() => return Err(session::interrupted(signal)),
    };
    console.progress(&format!("listening to {}", args.subject));
    let mut output = Output::new();
    let mut tally = Tally::default();
    let mut outcome = tokio::select! {
        biased;
        signal = interrupts.next() => {
            tracing::debug!(signal, "told to end");
            Ok(())
        }
        () = output::closed() => return Ok(summarize(*console, &tally, 0)),
        failure = watch(connection, &args.subject, &mut refusals, *console) => Err(failure),
        printed = print(&mut messages, &mut output, args, &mut tally) => written(printed),
    };
    // Before the end, which drops what still waits.
    let dropped = subscription.stats().dropped;
    tokio::select! {
        flushed = output.flush() => outcome = outcome.and_then(|()| written(flushed)),
        signal = interrupts.next() => return Err(session::interrupted(signal)),
    }
    let exit = summarize(*console, &tally, dropped);
    outcome?;
    match exit {
        Exit::Complete => Ok(exit),
        exit => Err(Failure::text(exit, format!("{dropped} messages were dropped"))
            .with_hint("standard output was not read fast enough")),
    }
}

/// Messages are handed on one after the other, in their order.
async fn subscribe(server: &Server, args: &SubArgs) -> Result<(Subscription, Receiver<Message>), Failure> {
    let (sender, messages) = mpsc::channel(1);
    let subscription = server.on_message(&args.subject, move |message| {
        let sender = sender.clone();
        async move {
            // An error: the command has ended.
            let _ = sender.send(message).await;
            Ok(())
        }
    });
    let mut subscription = subscription.max_concurrent(1).max_queued(MAX_QUEUED);
    if let Some(group) = &args.queue {
        subscription = subscription.queue_group(group);
    }
    Ok((subscription.start().await?, messages))
}

/// Tells what happens to the connection; completes when nothing can arrive any more.
async fn watch(connection: &Connection, subject: &str, refusals: &mut Refusals, console: Console) -> Failure {
    let refused = async {
        loop {
            let refusal = refusals.next().await;
            if refusal.operation == Operation::Subscribe && refusal.subject == subject {
                return refusal.into_failure();
            }
        }
    };
    tokio::select! {
        failure = refused => failure,
        () = session::tell_state(connection, console) => Failure::text(Exit::NoConnection, "the connection is closed"),
    }
}

/// Prints until there were enough.
async fn print(
    messages: &mut Receiver<Message>,
    output: &mut Output,
    args: &SubArgs,
    tally: &mut Tally,
) -> io::Result<()> {
    let format = args.format.format();
    while args.max_items.is_none_or(|max| tally.messages < max) {
        let message = match messages.try_recv() {
            Ok(message) => message,
            Err(_) => {
                // Nothing more at this moment: now the reader wants to see what there is.
                output.flush().await?;
                match messages.recv().await {
                    Some(message) => message,
                    None => break,
                }
            }
        };
        append(format, &message, output.buffer());
        tally.messages += 1;
        tally.bytes += message.payload().len() as u64;
        output.write_if_full().await?;
    }
    Ok(())
}

fn append(format: Format, message: &Message, out: &mut Vec<u8>) {
    let text = |name: &str, text: &str| format!("\"{name}\":{}", Value::from(text));
    let fields = || {
        let fields = [
            Some(text("subject", message.subject())),
            message.reply().map(|reply| text("reply", reply)),
            format::headers(message.headers()),
        ];
        fields.into_iter().flatten().collect::<Vec<_>>().join(",")
    };
    format.append(fields, message.payload(), out);
}

fn written(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Ok(()) => Ok(()),
        Err(error) => output::failure(error).map_or(Ok(()), Err),
    }
}

fn summarize(console: Console, tally: &Tally, dropped: u64) -> Exit {
    console.summary(
        || {
            let bytes = size::display(tally.bytes as f64);
            format!("{} messages, {bytes}; {dropped} dropped", tally.messages)
        },
        || json!({"messages": tally.messages, "bytes": tally.bytes, "dropped": dropped}),
    );
    match dropped {
        0 => Exit::Complete,
        _ => Exit::Lost,
    }
}
