//! Events that outlive the process: written to files first, delivered from there.
//!
//! - `record` is an event as bytes, `ledger` knows what is done, `turns` what may be delivered now; all without I/O;
//! - `spool` are the files, and what of them is in memory;
//! - `accept` takes events, `syncer` is the thread that waits for the disk;
//! - `deliveries` is what becomes of them, `feeder` the task that hands them to a bus, `keeper` does what waits for the disk
//!   meanwhile; `ending` is flush and close.

mod accept;
mod builder;
mod deliveries;
mod ending;
mod error;
mod feeder;
mod keeper;
mod ledger;
mod outcome;
mod record;
mod spool;
mod syncer;
mod turns;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use natstream_connect::{ConnectConfig, Lease};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use self::feeder::Route;
use self::spool::Item;
use self::syncer::Syncer;
use crate::error::{PublishError, TryEnqueueError};
use crate::event::Event;

pub use self::builder::{OutboxBuilder, SpoolLevel};
pub(crate) use self::deliveries::Deliveries;
pub use self::error::OutboxError;
pub use self::outcome::{OutboxStats, Published};
pub(crate) use self::turns::Turn;

/// An outbox: events that it has accepted survive the death of the process, and are delivered when there is a connection, now
/// or after the next start.
///
/// It needs no connection to be opened, or to accept events. Delivered once each, as long as the stream's duplicate window is
/// longer than the time between an attempt and the next one: an event whose ack was lost with the process is sent again with
/// the same id.
///
/// It is a handle: clones share one directory. When the last one is gone, delivery stops, and what is left is delivered by the
/// next outbox on the directory.
///
/// Memory: 32 MiB of events that wait, the [window](OutboxBuilder::window), and, after a restart, events that were
/// [set aside](OutboxBuilder::max_bytes); the rest is in files.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// use eventbus::{Event, Outbox, Published};
/// use natstream_connect::ConnectConfig;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let outbox = Outbox::builder("/var/spool/orders").open().await?;
/// outbox.connect(ConnectConfig::new("nats://localhost"));
///
/// // In the files when this returns, whether or not there is a server.
/// outbox.enqueue(Event::new("orders.new", r#"{"id":7}"#)).await?;
///
/// // In the stream, or in the files.
/// match outbox.publish(Event::new("orders.new", r#"{"id":8}"#)).await? {
///     Published::Acked(ack) => println!("number {}", ack.sequence),
///     _spooled => println!("later"),
/// }
/// outbox.close(Duration::from_secs(5)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Outbox {
    handle: Arc<Handle>,
}

struct Handle {
    deliveries: Arc<Deliveries>,
    /// For events that wait for the disk.
    syncer: Option<Arc<Syncer>>,
    routes: watch::Sender<Option<Route>>,
    stops: watch::Sender<bool>,
    /// `None` when it has ended.
    feeder: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    is_closed: AtomicBool,
    deadline: Duration,
    max_bytes: u64,
    /// Nobody else gives ids that begin with this.
    ids: String,
    next_id: AtomicU64,
}

impl Outbox {
    /// An outbox in this directory, to be set up. The directory is made if it is not there.
    pub fn builder(dir: impl AsRef<std::path::Path>) -> OutboxBuilder {
        OutboxBuilder::new(dir.as_ref())
    }

    /// Delivers by this connection from now on. One that is closed for good leaves events in the files.
    pub fn deliver_by(&self, connection: impl Into<Lease>) {
        self.handle
            .routes
            .send_replace(Some(Route::Connection(connection.into())));
    }

    /// Connects, as soon as that is possible, and delivers from then on; also after a connection that was closed for good.
    pub fn connect(&self, config: ConnectConfig) {
        self.handle.routes.send_replace(Some(Route::Config(Box::new(config))));
    }

    /// Publishes an event: waits until it is in the files, as [`enqueue`](Self::enqueue) does, and from then on until a stream
    /// has it, or until its deadline, by default [that of the outbox](OutboxBuilder::deadline).
    ///
    /// # Errors
    /// [`PublishError`], with the event: it cannot be published, or was refused for good.
    ///
    /// # Cancel safety
    /// Dropped early, the event may have been accepted, and is delivered then.
    pub async fn publish(&self, event: impl Into<Event>) -> Result<Published, PublishError> {
        let event = event.into().in_trace();
        let deadline = event.own_deadline().unwrap_or(self.handle.deadline);
        let (watch, outcome) = oneshot::channel();
        self.accept(event, Some(watch)).await?;
        match tokio::time::timeout(deadline, outcome).await {
            Ok(Ok(outcome)) => outcome.map(Published::Acked),
            // Its time is over, or the outbox was closed meanwhile.
            Ok(Err(_)) | Err(_) => Ok(Published::Spooled),
        }
    }

    /// Takes an event, and returns when it is in the files. It waits while the files are full, or cannot be written.
    ///
    /// # Errors
    /// [`PublishError`], with the event: it cannot be published.
    ///
    /// # Cancel safety
    /// Dropped early, the event may have been accepted, and is delivered then.
    pub async fn enqueue(&self, event: impl Into<Event>) -> Result<(), PublishError> {
        self.accept(event.into().in_trace(), None).await
    }

    /// Takes an event if there is room for it, and the files can be written. With [`SpoolLevel::Power`] it is not on the disk yet
    /// when this returns: when the outbox ends before it can be written, [`close`](Self::close) hands it back.
    ///
    /// # Errors
    /// [`TryEnqueueError`], with the event.
    pub fn try_enqueue(&self, event: impl Into<Event>) -> Result<(), TryEnqueueError> {
        let event = self.prepare(event.into().in_trace()).map_err(TryEnqueueError::Failed)?;
        let (deliveries, item) = (&self.handle.deliveries, Item { event, watch: None });
        let taken = match &self.handle.syncer {
            Some(syncer) => syncer.put(item).map(drop),
            None => deliveries.spool.try_put(item),
        };
        taken.map_err(|full| TryEnqueueError::Full(full.event))?;
        deliveries.added();
        Ok(())
    }

    /// What has become of all events so far.
    #[must_use]
    pub fn stats(&self) -> OutboxStats {
        let Deliveries { spool, counts, .. } = &*self.handle.deliveries;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let found = spool.found();
        OutboxStats {
            accepted: spool.written() - found.next,
            found: found.events(),
            acked: get(&counts.acked),
            duplicates: get(&counts.duplicates),
            rejected: get(&counts.rejected),
            spooled: self.handle.deliveries.spooled(),
            bytes: spool.bytes(),
            damaged: found.damaged,
        }
    }

    /// The events that could never be delivered, with their numbers, and why; of earlier processes too. `None` for a record
    /// that nobody can read.
    ///
    /// # Errors
    /// [`OutboxError::Storage`].
    pub fn rejected(&self) -> Result<Vec<(u64, Option<Event>, String)>, OutboxError> {
        Ok(self.handle.deliveries.spool.rejected()?)
    }

    /// Forgets rejected events up to this number.
    ///
    /// # Errors
    /// [`OutboxError::Storage`]: they may be there still.
    pub fn forget_rejected(&self, through: u64) -> Result<(), OutboxError> {
        Ok(self.handle.deliveries.spool.forget_rejected(through)?)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stops.send_replace(true);
        if let Some(syncer) = &self.syncer {
            syncer.end();
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
