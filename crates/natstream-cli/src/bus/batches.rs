//! `natstream bus publish --mode atomic` and `--mode fast`: batches, which go to one stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use natstream::eventbus::topology::Topology;
use natstream::eventbus::{AtomicBatch, AtomicBus, AtomicErrorKind, Dedup, FastBus, OpenError};
use natstream::{Connection, PublishErrorKind};

use super::publish::LEAVE;
use super::source::Source;
use super::tally::Tally;
use super::totals::{Totals, progress, summarize};
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::session;

/// How to publish.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    /// Batches of so many events, each all or nothing.
    Atomic { size: usize, dedup: Dedup },
    /// Fast ingest.
    Fast { window: Option<usize>, dedup: Dedup },
}

/// What publishes.
enum Bus {
    Atomic(AtomicBus, usize, Arc<Counts>),
    Fast(FastBus),
}

/// What has become of the events of atomic batches.
#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    acked: AtomicU64,
    failed: AtomicU64,
}

/// Runs the command.
pub(super) async fn run(
    mut context: Context,
    subject: &str,
    plan: Plan,
    deadline: Duration,
    source: Source,
) -> Result<Exit, Failure> {
    let connection = session::connect(&context.connection, "natstream bus", &mut context.interrupts).await?;
    let tally = Arc::new(Tally::default());
    let opened = tokio::select! {
        opened = open(&connection, subject, plan, deadline, &tally) => opened,
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    };
    let bus = match opened {
        Ok(bus) => bus,
        Err(failure) => {
            session::leave(&connection, &mut context.interrupts).await;
            return Err(failure);
        }
    };
    let began = clock::now();
    let expected = source.expected();
    let published = tokio::select! {
        published = bus.publish(source, &tally, deadline) => published,
        () = progress(context.console, || bus.totals(), expected) => Ok(()),
        () = session::tell_state(&connection, context.console) => Err(session::ended(&connection)),
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    };
    if let Bus::Fast(bus) = &bus {
        tokio::select! {
            // Failures are told to the tally.
            _ = bus.close(LEAVE) => {}
            signal = context.interrupts.next() => return Err(session::interrupted(signal)),
        }
    }
    let seconds = (clock::now() - began).as_secs_f64();
    let totals = bus.totals();
    summarize(&context, totals, &tally, seconds);
    session::leave(&connection, &mut context.interrupts).await;
    published?;
    let Totals { accepted, acked, .. } = totals;
    match tally.failure() {
        Some(failure) => Err(failure),
        None if acked == accepted => Ok(Exit::Complete),
        None => Err(Failure::text(
            Exit::Incomplete,
            format!("{} of {accepted} events were not delivered", accepted - acked),
        )),
    }
}

async fn open(
    connection: &Connection,
    subject: &str,
    plan: Plan,
    deadline: Duration,
    tally: &Arc<Tally>,
) -> Result<Bus, Failure> {
    let topology = Topology::new(connection.clone());
    let stream = topology.stream_of(subject).await?.ok_or_else(|| {
        let text = format!("no stream takes `{subject}`");
        Failure::text(Exit::NobodyAnswers, text).with_hint("`natstream bus stream add` makes one")
    })?;
    match plan {
        Plan::Atomic { size, dedup } => {
            let bus = AtomicBus::builder(connection.clone(), stream)
                .deadline(deadline)
                .dedup(dedup);
            let bus = bus.open().await.map_err(|error| cannot_open(connection, error))?;
            Ok(Bus::Atomic(bus, size, Arc::default()))
        }
        Plan::Fast { window, dedup } => {
            let tally = tally.clone();
            let mut bus = FastBus::builder(connection.clone(), stream)
                .deadline(deadline)
                .on_failure(move |error| tally.note(&error));
            if let Some(window) = window {
                bus = bus.window(window);
            }
            if dedup == Dedup::Id {
                bus = bus.with_ids();
            }
            let bus = bus.open().await.map_err(|error| cannot_open(connection, error))?;
            Ok(Bus::Fast(bus))
        }
    }
}

/// Why a bus cannot be opened.
pub(crate) fn cannot_open(connection: &Connection, error: OpenError) -> Failure {
    match error {
        OpenError::InvalidSetting { .. } => Failure::new(Exit::Usage, error),
        OpenError::Stream(error) => error.into(),
        OpenError::Closed => session::ended(connection),
        _ => Failure::new(Exit::Failed, error),
    }
}

impl Bus {
    async fn publish(&self, mut source: Source, tally: &Tally, deadline: Duration) -> Result<(), Failure> {
        match self {
            Self::Fast(bus) => {
                while let Some(event) = source.next().await? {
                    match bus.enqueue(event).await {
                        Ok(()) => {}
                        Err(error) if error.kind() == PublishErrorKind::Closed => {
                            return Err(Failure::new(Exit::NoConnection, error));
                        }
                        Err(error) => tally.note(&error),
                    }
                }
                // What is accepted last has its whole deadline. Failures are told to the tally.
                let _ = bus.flush(deadline.saturating_add(Duration::from_secs(1))).await;
                Ok(())
            }
            Self::Atomic(bus, size, counts) => loop {
                let mut batch = AtomicBatch::new();
                while batch.len() < *size
                    && let Some(event) = source.next().await?
                {
                    batch.add(event);
                }
                if batch.is_empty() {
                    return Ok(());
                }
                let events = batch.len() as u64;
                counts.accepted.fetch_add(events, Ordering::Relaxed);
                match bus.commit(batch).await {
                    Ok(_) => drop(counts.acked.fetch_add(events, Ordering::Relaxed)),
                    Err(error) => {
                        counts.failed.fetch_add(events, Ordering::Relaxed);
                        tally.note_batch(&error);
                        if error.kind() == AtomicErrorKind::Closed {
                            return Err(Failure::new(Exit::NoConnection, error));
                        }
                    }
                }
            },
        }
    }

    fn totals(&self) -> Totals {
        match self {
            Self::Fast(bus) => bus.stats().into(),
            Self::Atomic(_, _, counts) => Totals {
                // Those that have an end first, so that none seems to have one before it began.
                acked: counts.acked.load(Ordering::Relaxed),
                failed: counts.failed.load(Ordering::Relaxed),
                accepted: counts.accepted.load(Ordering::Relaxed),
                ..Totals::default()
            },
        }
    }
}
