//! The bus: a handle to a window of events. `builder` opens it.

mod builder;
mod window;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use natstream_connect::Lease;

pub use self::builder::BusBuilder;
use self::window::Window;
use crate::batch::{Batch, BatchReport};
use crate::error::{OpenError, PublishError, TryEnqueueError, Undelivered};
use crate::event::Event;
use crate::reply::PublishAck;
use crate::shared::Handle;
use crate::watcher::{PendingAck, Watcher};

/// Publishes events to JetStream.
///
/// It is a handle: clones share one window, one inbox for acks, and one account of what became of events. There is no task, no
/// timer and no map entry for an event; one task of the connection dispatches acks, another one does what is due.
///
/// When the last handle is gone, events that were accepted are still delivered, or fail, as long as the connection lives;
/// [`close`](Self::close) waits for that.
///
/// Memory: about 300 bytes for each event that was ever pending at once, and the events themselves, at most
/// [`window_bytes`](BusBuilder::window_bytes).
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// use eventbus::{Bus, Event};
/// use natstream_connect::{ConnectConfig, Connection};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let connection = Connection::connect(ConnectConfig::new("nats://localhost")).await?;
/// let bus = Bus::builder(connection)
///     .on_failure(|error| eprintln!("{error}"))
///     .open()
///     .await?;
///
/// // Confirmed: it is in the stream when this returns.
/// let ack = bus.publish(Event::new("orders.new", r#"{"id":7}"#)).await?;
/// println!("number {}", ack.sequence);
///
/// // Pipelined: fast, and failures are told.
/// for id in 0..1000 {
///     bus.enqueue(Event::new("orders.seen", id.to_string())).await?;
/// }
/// bus.flush(Duration::from_secs(30)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Bus {
    handle: Arc<Handle<Window>>,
}

/// What has become of all events of a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusStats {
    /// Events that entered the window. At any sample it is `acked + failed + pending`.
    pub accepted: u64,
    /// Events that a stream has.
    pub acked: u64,
    /// Those of the acked that the stream had already when it acked: mostly events that were sent again.
    pub duplicates: u64,
    /// Events that were handed back.
    pub failed: u64,
    /// Events in the window.
    pub pending: usize,
    /// Bytes of the events in the window.
    pub pending_bytes: usize,
    /// How often an event was sent again.
    pub retried: u64,
    /// Producers that wait for room in the window.
    pub waiting: usize,
}

impl Bus {
    /// A bus on this connection, or on one of a set, with the defaults of [`BusBuilder`].
    ///
    /// # Errors
    /// As [`BusBuilder::open`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open(connection: impl Into<Lease>) -> Result<Self, OpenError> {
        Self::builder(connection).open().await
    }

    /// A bus on this connection, to be set up. Of a set of connections it takes a [`Lease`]: for as long as it lives it stays
    /// on that one.
    pub fn builder(connection: impl Into<Lease>) -> BusBuilder {
        BusBuilder::new(connection.into())
    }

    /// Publishes an event, and waits until a stream has it.
    ///
    /// # Errors
    /// [`PublishError`], with the event: it [may be stored](PublishError::may_be_stored) or not. One that was accepted also
    /// goes to [`on_failure`](BusBuilder::on_failure).
    ///
    /// # Cancel safety
    /// Dropped before the event is accepted, it is gone with the future. From then on it is delivered or fails all the same,
    /// and only the answer is lost.
    pub async fn publish(&self, event: impl Into<Event>) -> Result<PublishAck, PublishError> {
        self.enqueue_pending(event).await?.await
    }

    /// Takes an event into the window, when there is room, and returns: fast, and without an answer.
    ///
    /// The event is delivered, or fails by its deadline; then [`on_failure`](BusBuilder::on_failure) has it, and the next
    /// [`flush`](Self::flush) says so.
    ///
    /// # Errors
    /// [`Invalid`](crate::PublishErrorKind::Invalid), [`TooLarge`](crate::PublishErrorKind::TooLarge),
    /// [`Closed`](crate::PublishErrorKind::Closed), [`NotPermitted`](crate::PublishErrorKind::NotPermitted): the event was not
    /// accepted, and was not sent.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, the event is gone with the future; [`try_enqueue`](Self::try_enqueue) hands it back.
    pub async fn enqueue(&self, event: impl Into<Event>) -> Result<(), PublishError> {
        self.accept(event.into().in_trace(), None).await
    }

    /// As [`enqueue`](Self::enqueue), and says later what became of the event.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue); what comes later is told by the [`PendingAck`].
    ///
    /// # Cancel safety
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_pending(&self, event: impl Into<Event>) -> Result<PendingAck, PublishError> {
        self.accept_pending(event.into().in_trace()).await
    }

    /// Takes an event into the window if there is room now.
    ///
    /// # Errors
    /// [`Full`](TryEnqueueError::Full) hands the event back; [`Failed`](TryEnqueueError::Failed) as [`enqueue`](Self::enqueue).
    pub fn try_enqueue(&self, event: impl Into<Event>) -> Result<(), TryEnqueueError> {
        self.handle.try_accept(event.into().in_trace())
    }

    /// Publishes many events through the window, and says what became of each.
    ///
    /// The events are taken from the iterator as there is room. An event that fails stops nothing. Memory: the report, 40 bytes
    /// for an event that was acked.
    ///
    /// # Cancel safety
    /// Dropped early, the events that were taken are delivered or fail all the same; the others are not published.
    pub async fn publish_batch<I>(&self, events: I) -> BatchReport
    where
        I: IntoIterator<Item: Into<Event>>,
    {
        let batch = Arc::new(Batch::default());
        let mut all = 0;
        for event in events {
            let watcher = Watcher::Batch(batch.clone(), all);
            self.handle.accept_or_tell(event.into().in_trace(), watcher).await;
            all += 1;
        }
        batch.done(all).await
    }

    /// Waits until all events that were accepted so far are acked or have failed, at most this long.
    ///
    /// # Errors
    /// [`Undelivered`] when events are still pending after that time, or when events have failed since the last flush of any
    /// handle, [published](Self::publish) and batched ones included.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn flush(&self, limit: Duration) -> Result<(), Undelivered> {
        self.handle.flush(limit).await
    }

    /// Accepts nothing any more, waits at most this long for what is pending, and gives up the rest. The connection stays open.
    ///
    /// # Errors
    /// [`Undelivered`] with the events that were given up, or when events have failed since the last flush.
    ///
    /// # Cancel safety
    /// Dropped early, the bus accepts nothing, and goes on with what is pending. It can be closed again.
    pub async fn close(&self, limit: Duration) -> Result<(), Undelivered> {
        self.handle.close(limit).await
    }

    /// What has become of all events so far; all figures are of the same moment.
    #[must_use]
    pub fn stats(&self) -> BusStats {
        let (counts, waiting) = self.handle.look(Window::counts);
        BusStats {
            accepted: counts.accepted,
            acked: counts.acked,
            duplicates: counts.duplicates,
            failed: counts.failed,
            pending: counts.pending,
            pending_bytes: counts.pending_bytes,
            retried: counts.retried,
            waiting,
        }
    }

    /// The connection that this bus is on.
    #[must_use]
    pub fn connection(&self) -> &natstream_connect::Connection {
        self.handle.connection()
    }

    /// Takes an event as it is.
    pub(crate) async fn accept_pending(&self, event: Event) -> Result<PendingAck, PublishError> {
        let (watcher, pending) = PendingAck::new(&event);
        self.accept(event, Some(watcher)).await?;
        Ok(pending)
    }

    pub(crate) async fn accept(&self, event: Event, watcher: Option<Watcher>) -> Result<(), PublishError> {
        self.handle.accept(event, watcher).await
    }

    /// The watcher is told of an event that is not accepted, too.
    #[cfg(feature = "spool")]
    pub(crate) async fn accept_or_tell(&self, event: Event, watcher: Watcher) {
        self.handle.accept_or_tell(event, watcher).await;
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("connection", self.connection())
            .field("stats", &self.stats())
            .finish()
    }
}
