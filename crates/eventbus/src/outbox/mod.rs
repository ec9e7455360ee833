//! Events that outlive the process: written to files first, delivered from there.
//!
//! - `record` is an event as bytes, `ledger` knows what is done; both without I/O;
//! - `spool` are the files, and what of them is in memory;
//! - `deliveries` is what becomes of events, `feeder` the task that hands them to a bus, `syncer` the thread that waits for the
//!   disk.

mod builder;
mod deliveries;
mod error;
mod feeder;
mod ledger;
mod record;
mod spool;
mod syncer;

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
use crate::error::{PublishError, PublishErrorKind, TryEnqueueError, Undelivered};
use crate::event::Event;
use crate::reply::PublishAck;
use crate::watcher::Outcome;

pub use self::builder::{OutboxBuilder, SpoolLevel};
pub(crate) use self::deliveries::Deliveries;
pub use self::error::OutboxError;

/// nats-server takes no payload that is larger.
const MOST_BYTES: usize = 64 << 20;

/// What a record needs besides subject, headers and payload, an id that is given included.
const RECORD_BYTES: u64 = 256;

/// How often those who wait while the storage fails try again.
const RETRY: Duration = Duration::from_millis(250);

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
/// Memory: 32 MiB of events that wait, and the window of a [`Bus`](crate::Bus); the rest is in files.
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

/// What has become of an event that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Published {
    /// A stream has it.
    Acked(PublishAck),
    /// It is in the files, and will be delivered.
    Spooled,
}

/// What has become of all events so far: `accepted + found = acked + rejected + spooled`, when nothing is under way between
/// two of these, and no file was damaged meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxStats {
    /// Events that were accepted, and written.
    pub accepted: u64,
    /// Events of a process before, which were found when the outbox was opened.
    pub found: u64,
    /// Events that a stream has.
    pub acked: u64,
    /// Of those, how many the stream had already.
    pub duplicates: u64,
    /// Events that can never be delivered: they are kept, see [`Outbox::rejected`].
    pub rejected: u64,
    /// Events that are in the files and not delivered yet.
    pub spooled: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Files that were damaged when the outbox was opened; copies are in `damaged`.
    pub damaged: u64,
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
        let event = event.into();
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
        self.accept(event.into(), None).await
    }

    /// Takes an event if there is room for it, and the files can be written. With [`SpoolLevel::Power`] it is not on the disk yet
    /// when this returns: when the outbox ends before it can be written, it is lost, and the log says so.
    ///
    /// # Errors
    /// [`TryEnqueueError`], with the event.
    pub fn try_enqueue(&self, event: impl Into<Event>) -> Result<(), TryEnqueueError> {
        let event = self.prepare(event.into()).map_err(TryEnqueueError::Failed)?;
        let (deliveries, item) = (&self.handle.deliveries, Item { event, watch: None });
        let taken = match &self.handle.syncer {
            Some(syncer) => syncer.put(item).map(drop),
            None => deliveries.spool.try_put(item),
        };
        taken.map_err(|full| TryEnqueueError::Full(full.event))?;
        deliveries.work.notify_one();
        Ok(())
    }

    /// Waits until everything that was accepted so far is delivered, at most this long.
    ///
    /// # Errors
    /// [`Undelivered`]: so many are still in the files, and will be delivered; or were refused for good since the last flush.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn flush(&self, limit: Duration) -> Result<(), Undelivered> {
        let deliveries = &self.handle.deliveries;
        let done = async {
            if let Some(syncer) = &self.handle.syncer {
                syncer.idle(deliveries).await;
            }
            let before = deliveries.spool.next_number();
            loop {
                let mut progress = std::pin::pin!(deliveries.progress.notified());
                progress.as_mut().enable();
                if deliveries.ledger.lock().floor() >= before {
                    return;
                }
                progress.await;
            }
        };
        let in_time = tokio::time::timeout(limit, done).await.is_ok();
        let rejected = deliveries.counts.rejected.load(Ordering::Relaxed);
        let failed = rejected - deliveries.counts.told.swap(rejected, Ordering::Relaxed);
        let pending = if in_time { 0 } else { deliveries.spooled() };
        if failed == 0 && pending == 0 {
            return Ok(());
        }
        Err(Undelivered {
            failed,
            pending,
            given_up: Vec::new(),
        })
    }

    /// Accepts nothing any more, [flushes](Self::flush), and ends delivery. What is not delivered then stays in the files; they
    /// are free for another outbox when the last handle is gone.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    ///
    /// # Cancel safety
    /// Dropped early, the outbox accepts nothing, and it can be closed again.
    pub async fn close(&self, limit: Duration) -> Result<(), Undelivered> {
        self.handle.is_closed.store(true, Ordering::Relaxed);
        let flushed = self.flush(limit).await;
        self.handle.stops.send_replace(true);
        let mut feeder = self.handle.feeder.lock().await;
        if let Some(ended) = feeder.as_mut() {
            if let Err(error) = ended.await {
                tracing::error!(%error, "the feeder of an outbox has failed");
            }
            *feeder = None;
        }
        drop(feeder);
        if let Some(syncer) = self.handle.syncer.clone() {
            // The thread may wait for the disk.
            let ended = tokio::task::spawn_blocking(move || syncer.join()).await;
            ended.unwrap_or_else(|error| tracing::error!(%error, "the end of an outbox was not waited for"));
        }
        flushed
    }

    /// What has become of all events so far.
    #[must_use]
    pub fn stats(&self) -> OutboxStats {
        let Deliveries { spool, counts, .. } = &*self.handle.deliveries;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let found = spool.found();
        OutboxStats {
            accepted: spool.written() - found.next,
            found: found.records,
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

    async fn accept(&self, event: Event, watch: Option<oneshot::Sender<Outcome>>) -> Result<(), PublishError> {
        // A producer that never has to wait lets others run.
        tokio::task::coop::consume_budget().await;
        let event = self.prepare(event)?;
        // Events that wait for the disk may have to be given back.
        let copy = self.handle.syncer.as_ref().map(|_| event.clone());
        let mut item = Item { event, watch };
        let deliveries = &self.handle.deliveries;
        let written = loop {
            let mut space = std::pin::pin!(deliveries.space.notified());
            space.as_mut().enable();
            match self.put(item) {
                Ok(written) => break written,
                Err(full) if self.handle.is_closed.load(Ordering::Relaxed) => {
                    return Err(PublishError::unsent(full.event, PublishErrorKind::Closed));
                }
                Err(full) => item = full,
            }
            // Room may also come by a disk that works again, of which nobody tells.
            let _ = tokio::time::timeout(RETRY, space).await;
        };
        let Some(mut written) = written else { return Ok(()) };
        loop {
            match (tokio::time::timeout(RETRY, &mut written).await, &copy) {
                (Ok(Ok(())), _) => return Ok(()),
                // It was never written, and never will be.
                (Ok(Err(_)), Some(event)) => return Err(PublishError::unsent(event.clone(), PublishErrorKind::Closed)),
                // The storage fails. After a close nobody else tries again.
                (_, None) => drop(deliveries.spool.retry()),
                (Err(_), Some(_)) => {}
            }
        }
    }

    /// Writes it, or has it written: then there is something to wait for.
    fn put(&self, item: Item) -> Result<Option<oneshot::Receiver<()>>, Item> {
        let deliveries = &self.handle.deliveries;
        let written = match &self.handle.syncer {
            Some(syncer) => Some(syncer.put(item)?),
            None => deliveries.spool.put(item)?,
        };
        if self.handle.syncer.is_none() && written.is_some() {
            // Whoever waits may go.
            deliveries.failing.notify_one();
        }
        deliveries.work.notify_one();
        Ok(written)
    }

    /// Looks whether it can be published at all, and gives it an id.
    fn prepare(&self, event: Event) -> Result<Event, PublishError> {
        if self.handle.is_closed.load(Ordering::Relaxed) {
            return Err(PublishError::unsent(event, PublishErrorKind::Closed));
        }
        if let Some(flaw) = event.flaw() {
            return Err(PublishError::invalid(event, flaw));
        }
        // What can never be in the files would wait for ever.
        if event.wire_len() > MOST_BYTES || event.size() as u64 + RECORD_BYTES > self.handle.max_bytes {
            return Err(PublishError::unsent(event, PublishErrorKind::TooLarge));
        }
        if event.has_message_id() {
            return Ok(event);
        }
        let number = self.handle.next_id.fetch_add(1, Ordering::Relaxed);
        Ok(event.message_id(format!("{}.{number}", self.handle.ids)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_close_that_is_dropped_can_be_called_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let outbox = Outbox::builder(dir.path()).open().await.expect("open");
        let mut close = Box::pin(outbox.close(Duration::ZERO));
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(close.as_mut().poll(cx).is_ready()));
        assert!(!polled.await, "its feeder has to end first");
        drop(close);
        outbox.close(Duration::ZERO).await.expect("closed");
        assert_eq!(
            Arc::strong_count(&outbox.handle.deliveries),
            1,
            "nobody else has the files"
        );
    }
}
