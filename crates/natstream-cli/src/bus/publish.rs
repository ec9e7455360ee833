//! `natstream bus publish`: publish events.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use natstream::connect::check_publish_subject;
use natstream::eventbus::{BusStats, Dedup, OpenError, Ordering};
use natstream::{Bus, Event, PublishError, PublishErrorKind};

use super::batches;
use super::source::{Source, SourceArgs};
use super::spool::{self, SpoolArgs};
use super::tally::Tally;
use super::totals::{progress, summarize};
use crate::clock;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::session;

const EXAMPLES: &str = "\
Examples:
  natstream bus publish orders.new '{\"id\":7}'
  seq 1000 | natstream bus publish data.rows - --lines
  natstream bus publish load.test --count 1000000 --size 128 --mode fast
  natstream bus publish accounts.7 - --lines --mode atomic   # up to 1000 lines are one transaction
  tail -F app.log | natstream bus publish logs.app - --lines --spool /var/spool/app
  natstream bus publish logs.app --count 0 --spool /var/spool/app   # only delivers what is left

Exit code 0 says that streams have all events. When some were not delivered, it is 8, and standard error says how many and \
why.";

/// Events under way, unless it is set.
const WINDOW: usize = 1000;

/// How often progress is told.
pub(super) const PROGRESS: Duration = Duration::from_secs(2);

/// How long an interrupted command waits for what is under way.
pub(super) const LEAVE: Duration = Duration::from_secs(2);

/// Publish events to JetStream: acked, none lost without a word, none stored twice.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, override_usage = "natstream bus publish [OPTIONS] <SUBJECT> [DATA | @FILE | -]")]
pub(crate) struct PublishArgs {
    /// Where to publish; a stream must take it.
    subject: String,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    spool: SpoolArgs,
    /// Whether to wait for each ack, for none but at the end, or for those of a batch.
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Events that may be under way [default: 1000, with --mode fast 4000].
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Events of a batch; of an atomic one at most 1000.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    batch: u64,
    /// Whether events carry an id by which a stream knows those that it has: without, a lost answer is a failure [default: id,
    /// with --mode fast off].
    #[arg(long, value_enum)]
    dedup: Option<DedupForm>,
    /// Keep the order of the events whatever happens: one at a time.
    #[arg(long)]
    strict: bool,
    /// How long to try to deliver an event.
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = duration::parse_positive)]
    deadline: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Pipelined, as fast as it goes.
    #[default]
    Async,
    /// Each batch is stored as a whole or not at all; needs nats-server 2.12 and a stream made with --allow-atomic.
    Atomic,
    /// Pipelined, and each batch is acked before the next one begins.
    Batch,
    /// Fast ingest, always in order; needs nats-server 2.14 and a stream made with --allow-batched.
    Fast,
    /// Each event is acked before the next one is sent.
    Sync,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DedupForm {
    /// They do.
    Id,
    /// They do not.
    Off,
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: PublishArgs) -> Result<Exit, Failure> {
    check_publish_subject(&args.subject).map_err(|error| Failure::subject(&args.subject, error))?;
    let spooled = match &args.spool.dir {
        Some(dir) => Some((dir.clone(), args.plan()?)),
        None => None,
    };
    let (batches, dedup) = (args.batches()?, args.dedup(DedupForm::Id));
    let source = tokio::select! {
        source = Source::open(&args.subject, args.source) => source?,
        signal = context.interrupts.next() => return Err(session::interrupted(signal)),
    };
    if let Some((dir, plan)) = spooled {
        return spool::run(context, args.spool, dir, plan, source).await;
    }
    if let Some(plan) = batches {
        return batches::run(context, &args.subject, plan, args.deadline, source).await;
    }
    let connection = session::connect(&context.connection, "natstream bus", &mut context.interrupts).await?;
    let tally = Arc::new(Tally::default());
    let builder = Bus::builder(connection.clone())
        .window(args.window.unwrap_or(WINDOW))
        .deadline(args.deadline)
        .dedup(dedup)
        .ordering(if args.strict { Ordering::Strict } else { Ordering::Fast });
    let builder = match args.mode {
        Mode::Async => builder.on_failure({
            let tally = tally.clone();
            move |error| tally.note(&error)
        }),
        // Whoever waits for an event is told.
        _ => builder,
    };
    let bus = builder.open().await.map_err(|error| match error {
        OpenError::InvalidSetting { .. } => Failure::new(Exit::Usage, error),
        _ => session::ended(&connection),
    })?;
    let began = clock::now();
    let PublishArgs {
        mode, batch, deadline, ..
    } = args;
    let expected = source.expected();
    let work = Work {
        bus: bus.clone(),
        tally: tally.clone(),
        mode,
        batch,
        // What is accepted last has its whole deadline.
        limit: deadline.saturating_add(Duration::from_secs(1)),
    };
    let published = tokio::select! {
        published = work.run(source) => published,
        () = progress(context.console, || bus.stats().into(), expected) => Ok(()),
        () = session::tell_state(&connection, context.console) => Err(session::ended(&connection)),
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    };
    // Also when all went well: what is pending nobody has been told of.
    if published.is_err() || bus.stats().pending > 0 {
        let closed = tokio::select! {
            closed = bus.close(LEAVE) => closed,
            signal = context.interrupts.next() => return Err(session::interrupted(signal)),
        };
        if let (Mode::Batch | Mode::Sync, Err(undelivered)) = (mode, closed) {
            undelivered.given_up.iter().for_each(|error| tally.note(error));
        }
    }
    let seconds = (clock::now() - began).as_secs_f64();
    summarize(&context, bus.stats().into(), &tally, seconds);
    session::leave(&connection, &mut context.interrupts).await;
    published?;
    let BusStats { accepted, acked, .. } = bus.stats();
    match tally.failure() {
        Some(failure) => Err(failure),
        None if acked == accepted => Ok(Exit::Complete),
        None => Err(Failure::text(
            Exit::Incomplete,
            format!("{} of {accepted} events were not delivered", accepted - acked),
        )),
    }
}

impl PublishArgs {
    fn dedup(&self, unless_set: DedupForm) -> Dedup {
        match self.dedup.unwrap_or(unless_set) {
            DedupForm::Id => Dedup::Id,
            DedupForm::Off => Dedup::Off,
        }
    }

    /// How to publish in the batches of a stream, if that was asked for.
    fn batches(&self) -> Result<Option<batches::Plan>, Failure> {
        match self.mode {
            Mode::Atomic if self.batch > 1000 => Err(Failure::usage("an atomic batch has at most 1000 events")),
            Mode::Atomic => Ok(Some(batches::Plan::Atomic {
                size: self.batch as usize,
                dedup: self.dedup(DedupForm::Id),
            })),
            Mode::Fast => Ok(Some(batches::Plan::Fast {
                window: self.window,
                dedup: self.dedup(DedupForm::Off),
            })),
            Mode::Async | Mode::Batch | Mode::Sync => Ok(None),
        }
    }

    /// How to publish through a spool.
    fn plan(&self) -> Result<spool::Plan, Failure> {
        if self.dedup == Some(DedupForm::Off) {
            let text = "--spool needs ids: an event whose ack was lost with the process is sent again";
            return Err(Failure::text(Exit::Usage, text));
        }
        if !matches!(self.mode, Mode::Async | Mode::Sync) {
            return Err(Failure::text(
                Exit::Usage,
                "--spool has no batches: take --mode async or sync",
            ));
        }
        Ok(spool::Plan {
            window: self.window.unwrap_or(WINDOW),
            is_strict: self.strict,
            one_by_one: self.mode == Mode::Sync,
            deadline: self.deadline,
        })
    }
}

struct Work {
    bus: Bus,
    tally: Arc<Tally>,
    mode: Mode,
    batch: u64,
    limit: Duration,
}

impl Work {
    async fn run(&self, mut source: Source) -> Result<(), Failure> {
        match self.mode {
            Mode::Async => {
                while let Some(event) = source.next().await? {
                    self.check(self.bus.enqueue(event).await)?;
                }
            }
            Mode::Sync => {
                while let Some(event) = source.next().await? {
                    self.check(self.bus.publish(event).await)?;
                }
            }
            // Those of a stream are not published here.
            Mode::Atomic | Mode::Batch | Mode::Fast => loop {
                let mut batch: Vec<Event> = Vec::new();
                while (batch.len() as u64) < self.batch
                    && let Some(event) = source.next().await?
                {
                    batch.push(event);
                }
                if batch.is_empty() {
                    break;
                }
                for outcome in self.bus.publish_batch(batch).await.into_outcomes() {
                    self.check(outcome)?;
                }
            },
        }
        // Failures are told to the tally.
        let _ = self.bus.flush(self.limit).await;
        Ok(())
    }

    /// What nobody else is told.
    fn check<T>(&self, outcome: Result<T, PublishError>) -> Result<(), Failure> {
        match outcome {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == PublishErrorKind::Closed => Err(Failure::new(Exit::NoConnection, error)),
            Err(error) => {
                self.tally.note(&error);
                Ok(())
            }
        }
    }
}
