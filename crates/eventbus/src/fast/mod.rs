//! Fast ingest: many events for one ack, to one stream.
//!
//! - `engine` is the queue of events and their batch, without I/O;
//! - `place` and `answer` are what nats-server reads and says, `outgoing` makes messages;
//! - `ingest` joins them for the bus, `subjects` knows what the stream takes;
//! - `builder` opens a bus.

mod answer;
mod builder;
mod engine;
mod ingest;
mod outgoing;
mod place;
mod subjects;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use natstream_connect::Lease;

pub use self::builder::FastBusBuilder;
use self::ingest::Ingest;
pub(crate) use self::subjects::Subjects;
use crate::error::{OpenError, PublishError, TryEnqueueError, Undelivered};
use crate::event::Event;
use crate::shared::Handle;

/// Publishes events to one stream by fast ingest: the stream acks them by hundreds, and says how fast it takes them.
///
/// It needs nats-server 2.14 and a stream that allows it
/// ([`StreamSpec::allow_batched`](crate::topology::StreamSpec::allow_batched)). An event is kept until the stream has told that
/// it has it. Events go in batches; after a gap, a reconnect, a change of leaders or a refusal the bus asks how far the stream
/// came, and a new batch begins with what it does not have.
///
/// # What holds
/// - Every event that was accepted ends once: acked, or failed and handed back. [`stats`](Self::stats) adds up at any moment.
/// - Events that are acked are in the stream in the order of their acceptance, whatever their subjects.
/// - An event that was acked is in the stream, and one that failed and [may not be stored](PublishError::may_be_stored) is not.
/// - Nothing is stored twice. When nats-server has forgotten a batch (it was killed, or could not be reached for 10 s), nobody
///   knows which of its last events it has: those fail as [`Unknown`](crate::PublishErrorKind::Unknown), unless the bus was
///   told to send them again, [with ids](FastBusBuilder::with_ids) (once, within the duplicate window) or
///   [without](FastBusBuilder::at_least_once) (perhaps twice).
///
/// It is a handle: clones share the queue, the batch and the account of what became of events. When the last one is gone,
/// events that were accepted are still delivered, or fail, as long as the connection lives; [`close`](Self::close) waits for
/// that.
///
/// Memory: about 130 bytes for each event of the [window](FastBusBuilder::window), and the events themselves, at most
/// [`window_bytes`](FastBusBuilder::window_bytes).
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// use eventbus::{Event, FastBus};
/// use natstream_connect::{ConnectConfig, Connection};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let connection = Connection::connect(ConnectConfig::new("nats://localhost")).await?;
/// let bus = FastBus::builder(connection, "LOGS")
///     .on_failure(|error| eprintln!("{error}"))
///     .open()
///     .await?;
/// for line in ["a", "b", "c"] {
///     bus.enqueue(Event::new("logs.lines", line)).await?;
/// }
/// bus.flush(Duration::from_secs(30)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FastBus {
    stream: Arc<str>,
    handle: Arc<Handle<Ingest>>,
}

/// What has become of all events of a [`FastBus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FastStats {
    /// Events that were taken. At any sample it is `acked + failed + pending`.
    pub accepted: u64,
    /// Events that the stream has.
    pub acked: u64,
    /// Events that were handed back.
    pub failed: u64,
    /// Events that wait, or are under way.
    pub pending: usize,
    /// Bytes of the pending events.
    pub pending_bytes: usize,
    /// How often an event was sent again.
    pub retried: u64,
    /// Batches that were begun.
    pub batches: u64,
    /// After how many events the stream tells how far it is, at the moment; 0 without a batch. It is less when others publish
    /// to the stream in this way too.
    pub flow: u64,
    /// Producers that wait for room.
    pub waiting: usize,
}

impl FastBus {
    /// A bus to this stream, with the defaults of [`FastBusBuilder`].
    ///
    /// # Errors
    /// As [`FastBusBuilder::open`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open(connection: impl Into<Lease>, stream: impl Into<String>) -> Result<Self, OpenError> {
        Self::builder(connection, stream).open().await
    }

    /// A bus to this stream, to be set up. Of a set of connections it takes a [`Lease`]: for as long as it lives it stays on
    /// that one.
    pub fn builder(connection: impl Into<Lease>, stream: impl Into<String>) -> FastBusBuilder {
        FastBusBuilder::new(connection.into(), stream.into())
    }

    /// Takes an event when there is room, and returns: fast, and without an answer.
    ///
    /// The event is delivered, or fails by its deadline; then [`on_failure`](FastBusBuilder::on_failure) has it, and the next
    /// [`flush`](Self::flush) says so.
    ///
    /// # Errors
    /// [`Invalid`](crate::PublishErrorKind::Invalid), [`TooLarge`](crate::PublishErrorKind::TooLarge),
    /// [`Closed`](crate::PublishErrorKind::Closed), [`NotPermitted`](crate::PublishErrorKind::NotPermitted): the event was not
    /// accepted, and was not sent. A subject that the stream did not take when the bus was opened is
    /// [`Flaw::Elsewhere`](crate::Flaw::Elsewhere).
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, the event is gone with the future; [`try_enqueue`](Self::try_enqueue) hands it back.
    pub async fn enqueue(&self, event: impl Into<Event>) -> Result<(), PublishError> {
        self.handle.accept(event.into().in_trace(), None).await
    }

    /// Takes an event if there is room now.
    ///
    /// # Errors
    /// [`Full`](TryEnqueueError::Full) hands the event back; [`Failed`](TryEnqueueError::Failed) as [`enqueue`](Self::enqueue).
    pub fn try_enqueue(&self, event: impl Into<Event>) -> Result<(), TryEnqueueError> {
        self.handle.try_accept(event.into().in_trace())
    }

    /// Waits until all events that were accepted so far are acked or have failed, at most this long.
    ///
    /// It ends the batch, which takes a round trip; the next event begins another one.
    ///
    /// # Errors
    /// [`Undelivered`] when events are still pending after that time, or when events have failed since the last flush of any
    /// handle.
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
    pub fn stats(&self) -> FastStats {
        let ((counts, flow), waiting) = self.handle.look(Ingest::counts);
        FastStats {
            accepted: counts.accepted,
            acked: counts.acked,
            failed: counts.failed,
            pending: counts.pending,
            pending_bytes: counts.pending_bytes,
            retried: counts.resent,
            batches: counts.batches,
            flow,
            waiting,
        }
    }

    /// The connection that this bus is on.
    #[must_use]
    pub fn connection(&self) -> &natstream_connect::Connection {
        self.handle.connection()
    }
}

impl fmt::Debug for FastBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastBus")
            .field("stream", &self.stream)
            .field("stats", &self.stats())
            .finish()
    }
}
