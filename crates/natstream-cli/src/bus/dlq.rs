//! `natstream bus dlq`: messages that were put aside.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::{Args, Subcommand};
use natstream::connect::Connection;
use natstream::eventbus::topology::{Topology, TopologyError, TopologyErrorKind};
use natstream::eventbus::{DeadLetter, DeadLetters, OpenError, RedriveError};
use natstream::{Bus, PublishErrorKind};
use serde_json::{Value, json};

use super::{ask, print};
use crate::console::Console;
use crate::exit::{Exit, Failure, printable};
use crate::program::Context;
use crate::session::{self, Refusals};
use crate::{duration, format};

const EXAMPLES: &str = "\
Examples:
  natstream bus dlq ls ORDERS
  natstream bus dlq ls ORDERS --json --reason 'no such customer' | jq -r .data
  natstream bus dlq redrive ORDERS --consumer mail --dry-run

`natstream bus consume ORDERS --max-deliver N` puts messages aside in the stream ORDERS-dlq; another one is named with --in.";

/// List dead letters, and send them on their way again.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DlqArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List dead letters.
    #[command(
        after_help = "Examples:\n  natstream bus dlq ls ORDERS --consumer mail\n  natstream bus dlq ls ORDERS --json --reason 'no such customer' | jq -r .data"
    )]
    Ls(Choice),
    /// Publish messages again, to the subjects that they had, and delete each dead letter when a stream has its message. All
    /// consumers of the stream get them.
    #[command(
        after_help = "Examples:\n  natstream bus dlq redrive ORDERS --consumer mail --dry-run\n  natstream bus dlq redrive ORDERS --sequence 7,12"
    )]
    Redrive(RedriveArgs),
}

/// Which dead letters are meant.
#[derive(Args, Debug)]
struct Choice {
    /// Those of this stream.
    #[arg(required_unless_present = "within")]
    stream: Option<String>,
    /// The stream that has them [default: STREAM-dlq].
    #[arg(long = "in", value_name = "STREAM")]
    within: Option<String>,
    /// Only those of this consumer.
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Only those with this text in their reason, in capitals or not.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only those with these numbers.
    #[arg(long, value_name = "N[,N]", value_delimiter = ',')]
    sequence: Vec<u64>,
    /// No more than so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_items: Option<u64>,
}

#[derive(Args, Debug)]
struct RedriveArgs {
    #[command(flatten)]
    choice: Choice,
    /// Only list what would be published.
    #[arg(long)]
    dry_run: bool,
    /// How long to try to deliver a message.
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = duration::parse_positive)]
    deadline: Duration,
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: DlqArgs) -> Result<Exit, Failure> {
    let connection = session::connect(&context.connection, "natstream bus", &mut context.interrupts).await?;
    let outcome = match args.command {
        Command::Ls(choice) => list(&mut context, &connection, &choice).await,
        Command::Redrive(args) if args.dry_run => list(&mut context, &connection, &args.choice).await,
        Command::Redrive(args) => redrive(&mut context, &connection, &args).await,
    };
    session::leave(&connection, &mut context.interrupts).await;
    outcome
}

/// Dead letters that are looked through from the first one to the one that is the last when that begins: one that comes back
/// meanwhile is not sent on its way again and again.
struct Letters<'a> {
    choice: &'a Choice,
    letters: DeadLetters,
    /// The numbers that are looked for; empty: all.
    numbers: BTreeSet<u64>,
    from: u64,
    last: u64,
    left: u64,
}

impl<'a> Letters<'a> {
    async fn open(connection: &Connection, choice: &'a Choice) -> Result<Self, Failure> {
        let topology = Topology::new(connection.clone());
        let stream = choice.stream.as_deref().unwrap_or_default();
        let place = choice.within.clone().unwrap_or_else(|| DeadLetters::stream_of(stream));
        let last = match topology.info(&place).await {
            Ok(info) => info.last_sequence,
            // Nothing was put aside yet, or there is no such stream.
            Err(error) if error.kind() == TopologyErrorKind::NotFound && choice.within.is_none() => {
                topology.info(stream).await?;
                0
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            letters: DeadLetters::new(connection.clone(), place),
            numbers: choice.sequence.iter().copied().collect(),
            from: 1,
            last,
            left: choice.max_items.unwrap_or(u64::MAX),
            choice,
        })
    }

    async fn next(&mut self) -> Result<Option<DeadLetter>, TopologyError> {
        while self.left > 0 {
            if !self.choice.sequence.is_empty() {
                let Some(number) = self.numbers.pop_first() else { break };
                self.from = number;
            }
            if self.from > self.last {
                break;
            }
            let Some(letter) = self.letters.next(self.from).await? else {
                break;
            };
            if letter.sequence > self.last {
                break;
            }
            let is_asked_for = self.choice.sequence.is_empty() || letter.sequence == self.from;
            self.from = letter.sequence + 1;
            if is_asked_for && self.choice.is_meant(&letter) {
                self.left -= 1;
                return Ok(Some(letter));
            }
        }
        Ok(None)
    }
}

impl Choice {
    fn is_meant(&self, letter: &DeadLetter) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let reason = self.reason.as_ref().map(|reason| reason.to_lowercase());
        is(&self.stream, &letter.stream)
            && is(&self.consumer, &letter.consumer)
            && reason.is_none_or(|reason| letter.reason.to_lowercase().contains(&reason))
    }
}

async fn list(context: &mut Context, connection: &Connection, choice: &Choice) -> Result<Exit, Failure> {
    let mut refusals = Refusals::of(connection);
    let mut letters = ask(
        &mut context.interrupts,
        &mut refusals,
        Letters::open(connection, choice),
    )
    .await?;
    let is_json = context.console.is_json();
    let mut listed = 0_u64;
    while let Some(letter) = ask(&mut context.interrupts, &mut refusals, letters.next()).await? {
        // Each by itself: there may be more than memory has room for.
        let text = if is_json {
            format!("{}\n", json_of(&letter))
        } else if listed == 0 {
            format!("{}{}", row(&HEAD), row(&cells(&letter)))
        } else {
            row(&cells(&letter))
        };
        print(context, &text).await?;
        listed += 1;
    }
    if !is_json {
        context.console.progress(&format!("{listed} dead letters"));
    }
    Ok(Exit::Complete)
}

const HEAD: [&str; 6] = ["NUMBER", "CONSUMER", "TRIED", "PUT ASIDE", "SUBJECT", "REASON"];

fn row(cells: &[impl AsRef<str>; 6]) -> String {
    let [number, consumer, tried, at, subject, reason] = cells.each_ref().map(|cell| printable(cell.as_ref()));
    format!("{number:>8}  {consumer:<16}  {tried:>5}  {at:<20}  {subject:<24}  {reason}\n")
}

fn cells(letter: &DeadLetter) -> [String; 6] {
    [
        letter.sequence.to_string(),
        letter.consumer.clone().unwrap_or_default(),
        letter
            .attempts
            .map_or_else(String::new, |attempts| attempts.to_string()),
        format!("{:.0}", letter.buried_at),
        letter.subject.clone(),
        letter.reason.clone(),
    ]
}

fn json_of(letter: &DeadLetter) -> Value {
    let mut object = json!({
        "seq": letter.sequence,
        "subject": letter.subject,
        "stream": letter.stream,
        "consumer": letter.consumer,
        "original_seq": letter.original_sequence,
        "attempts": letter.attempts,
        "stored": letter.stored_at.map(|at| at.to_string()),
        "put_aside": letter.buried_at.to_string(),
        "reason": letter.reason,
        "message_id": letter.message_id,
        "headers": format::header_values(&letter.headers),
    });
    match std::str::from_utf8(&letter.payload) {
        Ok(text) => object["data"] = text.into(),
        Err(_) => object["data_base64"] = BASE64_STANDARD.encode(&letter.payload).into(),
    }
    object
}

/// What became of those that were meant.
#[derive(Debug, Default)]
struct Tally {
    redriven: u64,
    /// Of these, those that the stream had from an attempt before.
    duplicates: u64,
    failed: u64,
    first: Option<RedriveError>,
}

async fn redrive(context: &mut Context, connection: &Connection, args: &RedriveArgs) -> Result<Exit, Failure> {
    let mut refusals = Refusals::of(connection);
    let mut letters = ask(
        &mut context.interrupts,
        &mut refusals,
        Letters::open(connection, &args.choice),
    )
    .await?;
    let bus = Bus::builder(connection.clone()).deadline(args.deadline).open();
    let bus = bus.await.map_err(|error| match error {
        OpenError::InvalidSetting { .. } => Failure::new(Exit::Usage, error),
        _ => session::ended(connection),
    })?;
    let mut tally = Tally::default();
    let work = redrive_all(&bus, &mut letters, context.console, &mut tally);
    let done = tokio::select! {
        done = ask(&mut context.interrupts, &mut refusals, work) => done,
        () = session::tell_state(connection, context.console) => Err(session::ended(connection)),
    };
    summarize(context.console, &tally);
    done?;
    match tally.first {
        None => Ok(Exit::Complete),
        Some(error) => {
            let exit = match &error {
                RedriveError::Publish(error) if error.kind() == PublishErrorKind::NotPermitted => Exit::NotPermitted,
                _ => Exit::Incomplete,
            };
            let text = format!("{} dead letters were not redriven; the first", tally.failed);
            Err(Failure::new(exit, anyhow::Error::new(error).context(text)))
        }
    }
}

async fn redrive_all(bus: &Bus, letters: &mut Letters<'_>, console: Console, tally: &mut Tally) -> Result<(), Failure> {
    // Subjects that no stream takes: each letter of one would wait for the whole deadline.
    let mut nowhere: HashSet<String> = HashSet::new();
    while let Some(letter) = letters.next().await? {
        if nowhere.contains(&letter.subject) {
            tally.failed += 1;
            continue;
        }
        match letters.letters.redrive(bus, &letter).await {
            Ok(ack) => {
                tally.redriven += 1;
                tally.duplicates += u64::from(ack.is_duplicate);
            }
            Err(error) => {
                console.progress(&format!("{} is kept: {}", letter.sequence, printable(&told(&error))));
                if let RedriveError::Publish(error) = &error
                    && error.kind() == PublishErrorKind::NoResponders
                {
                    nowhere.insert(letter.subject);
                }
                tally.failed += 1;
                tally.first.get_or_insert(error);
            }
        }
    }
    Ok(())
}

fn told(error: &RedriveError) -> String {
    match error {
        RedriveError::Publish(error) => error.to_string(),
        RedriveError::Delete(error) => format!("it was published, and {error}"),
        other => other.to_string(),
    }
}

fn summarize(console: Console, tally: &Tally) {
    let Tally {
        redriven,
        duplicates,
        failed,
        ..
    } = tally;
    console.summary(
        || format!("{redriven} redriven ({duplicates} were there already), {failed} kept"),
        || json!({"redriven": redriven, "duplicate": duplicates, "failed": failed}),
    );
}
