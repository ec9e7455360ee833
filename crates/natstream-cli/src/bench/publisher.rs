//! Publishes the events of one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use natstream::eventbus::{Dedup, FastBus};
use natstream::{Bus, Connection, Event, PublishError, PublishErrorKind};
use parking_lot::Mutex;

use super::histogram::Times;
use super::publish::Load;
use super::workers::Done;
use crate::bus::cannot_open;
use crate::clock::now;
use crate::exit::{Exit, Failure};
use crate::session::PERMISSIONS;
use crate::size;

/// Events are tried for 30 s; those that are left then fail.
const FLUSH: Duration = Duration::from_secs(35);

/// What one connection did.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) acked: u64,
    pub(super) retried: u64,
    pub(super) duplicates: u64,
    pub(super) times: Times,
}

/// Events that failed.
#[derive(Debug, Default)]
pub(super) struct Trouble {
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
    let failure = Failure::new(exit, error);
    match exit {
        Exit::NotPermitted => failure.with_hint(PERMISSIONS),
        _ => failure,
    }
}

/// The events of one connection.
pub(super) struct Publisher {
    pub(super) connection: Connection,
    pub(super) load: Load,
    pub(super) event: Event,
    pub(super) done: Done,
    /// The time is.
    pub(super) over: Arc<AtomicBool>,
    pub(super) trouble: Arc<Trouble>,
}

impl Publisher {
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

    pub(super) async fn pipelined(self) -> Result<Part, Failure> {
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

    pub(super) async fn one_by_one(self) -> Result<Part, Failure> {
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

    pub(super) async fn fast(self, stream: String) -> Result<Part, Failure> {
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
