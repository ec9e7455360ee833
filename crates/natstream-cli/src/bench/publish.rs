//! Publishes events, each of which must be acked and stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use natstream::eventbus::{Dedup, FastBus};
use natstream::{Bus, Connection, Event, PublishError, PublishErrorKind};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::histogram::Times;
use super::spent::{Spent, Stopwatch};
use super::temporary::Temporary;
use super::workers::{self, Done};
use crate::bus::cannot_open;
use crate::clock::now;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::size;

/// Events are tried for 30 s; those that are left then fail.
const FLUSH: Duration = Duration::from_secs(35);

/// How to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mode {
    /// Pipelined, as fast as it goes.
    Async,
    /// Fast ingest; needs nats-server 2.14.
    Fast,
    /// Each event is acked before the next one is sent.
    Sync,
}

/// What is to be published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) mode: Mode,
    pub(super) count: u64,
    /// No event is published later.
    pub(super) time: Option<Duration>,
    /// Bytes of an event.
    pub(super) size: u64,
    /// Events under way, of each connection.
    pub(super) window: u64,
    pub(super) ids: bool,
}

/// What has come of it.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) spent: Spent,
    pub(super) acked: u64,
    pub(super) retried: u64,
    pub(super) duplicates: u64,
    /// Of each event, where one is published after the other.
    pub(super) times: Times,
}

/// What one connection did.
#[derive(Debug)]
struct Part {
    acked: u64,
    retried: u64,
    duplicates: u64,
    times: Times,
}

/// Publishes it all. The stream must have had nothing, and has it all then.
pub(super) async fn publish(
    connections: &[Connection],
    stream: &Temporary,
    load: Load,
    console: Console,
) -> Result<Published, Failure> {
    let (done, over) = (Done::default(), Arc::new(AtomicBool::new(false)));
    let payload = Bytes::from(vec![b'.'; size::to_usize(load.size)]);
    let watch = Stopwatch::start();
    let mut tasks = JoinSet::new();
    for (connection, count) in connections.iter().zip(workers::shares(load.count, connections.len())) {
        let work = Work {
            connection: connection.clone(),
            load: Load { count, ..load },
            event: Event::new(stream.subject.clone(), payload.clone()),
            done: done.clone(),
            over: over.clone(),
            trouble: Arc::default(),
        };
        let name = stream.name.clone();
        tasks.spawn(async move {
            match load.mode {
                Mode::Async => work.pipelined().await,
                Mode::Fast => work.fast(name).await,
                Mode::Sync => work.one_by_one().await,
            }
        });
    }
    let mut parts = std::pin::pin!(workers::all(tasks, console, &done, load.count, "events were published"));
    let parts = tokio::select! {
        biased;
        parts = &mut parts => parts?,
        () = sleep(load.time.unwrap_or(Duration::MAX)) => {
            over.store(true, Ordering::Relaxed);
            parts.await?
        }
    };
    let mut published = Published {
        spent: watch.read(),
        acked: 0,
        retried: 0,
        duplicates: 0,
        times: Times::new(),
    };
    for part in parts {
        published.acked += part.acked;
        published.retried += part.retried;
        published.duplicates += part.duplicates;
        published.times.add(&part.times);
    }
    let (stored, count) = (stream.info().await?.messages, done.load(Ordering::Relaxed));
    if (published.acked, stored) != (count, count) {
        let text = format!(
            "of {count} events {} were acked, and the stream has {stored}",
            published.acked
        );
        return Err(Failure::text(Exit::Incomplete, text));
    }
    Ok(published)
}

/// Events that failed.
#[derive(Debug, Default)]
struct Trouble {
    /// Looked at for each event.
    is_there: AtomicBool,
    first: Mutex<Option<PublishError>>,
    count: AtomicU64,
}

impl Trouble {
    fn note(&self, error: PublishError) {
        self.first.lock().get_or_insert(error);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.is_there.store(true, Ordering::Release);
    }

    fn check(&self) -> Result<(), Failure> {
        if !self.is_there.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.first.lock().take() {
            Some(error) => Err(failed(error, self.count.load(Ordering::Relaxed))),
            None => Err(Failure::text(Exit::Incomplete, "events were not acked")),
        }
    }
}

fn failed(error: PublishError, count: u64) -> Failure {
    let exit = match error.kind() {
        PublishErrorKind::Closed => Exit::NoConnection,
        PublishErrorKind::NotPermitted => Exit::NotPermitted,
        _ => Exit::Incomplete,
    };
    let error = anyhow::Error::new(error).context(format!("{count} events were not acked, one of them so"));
    Failure::new(exit, error)
}

/// The events of one connection.
struct Work {
    connection: Connection,
    load: Load,
    event: Event,
    done: Done,
    /// The time is.
    over: Arc<AtomicBool>,
    trouble: Arc<Trouble>,
}

impl Work {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn open(&self, trouble: Option<Arc<Trouble>>) -> Result<Bus, Failure> {
        let mut builder = Bus::builder(self.connection.clone())
            .window(size::to_usize(self.load.window))
            .dedup(if self.load.ids { Dedup::Id } else { Dedup::Off });
        if let Some(trouble) = trouble {
            builder = builder.on_failure(move |error| trouble.note(error));
        }
        let opened = builder.open().await;
        opened.map_err(|error| cannot_open(&self.connection, error))
    }

    async fn pipelined(self) -> Result<Part, Failure> {
        let bus = self.open(Some(self.trouble.clone())).await?;
        for _ in 0..self.load.count {
            self.trouble.check()?;
            if self.is_over() {
                break;
            }
            bus.enqueue(self.event.clone())
                .await
                .map_err(|error| failed(error, 1))?;
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        // What is not acked then is counted.
        let _ = bus.flush(FLUSH).await;
        self.trouble.check()?;
        Ok(Part::of(&bus))
    }

    async fn one_by_one(self) -> Result<Part, Failure> {
        let bus = self.open(None).await?;
        let mut times = Times::new();
        for _ in 0..self.load.count {
            if self.is_over() {
                break;
            }
            let began = now();
            bus.publish(self.event.clone())
                .await
                .map_err(|error| failed(error, 1))?;
            times.record(now() - began);
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Part {
            times,
            ..Part::of(&bus)
        })
    }

    async fn fast(self, stream: String) -> Result<Part, Failure> {
        let trouble = self.trouble.clone();
        let mut builder = FastBus::builder(self.connection.clone(), stream)
            .window(size::to_usize(self.load.window))
            .on_failure(move |error| trouble.note(error));
        if self.load.ids {
            builder = builder.with_ids();
        }
        let opened = builder.open().await;
        let bus = opened.map_err(|error| cannot_open(&self.connection, error))?;
        for _ in 0..self.load.count {
            self.trouble.check()?;
            if self.is_over() {
                break;
            }
            bus.enqueue(self.event.clone())
                .await
                .map_err(|error| failed(error, 1))?;
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        let _ = bus.flush(FLUSH).await;
        self.trouble.check()?;
        let stats = bus.stats();
        Ok(Part {
            acked: stats.acked,
            retried: stats.retried,
            duplicates: 0,
            times: Times::new(),
        })
    }
}

impl Part {
    fn of(bus: &Bus) -> Self {
        let stats = bus.stats();
        Self {
            acked: stats.acked,
            retried: stats.retried,
            duplicates: stats.duplicates,
            times: Times::new(),
        }
    }
}
