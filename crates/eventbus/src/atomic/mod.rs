//! Atomic batches: all or nothing.
//!
//! - `batch` are the events, `attempt` the messages that bring them to the stream and the answers to these;
//! - `commit` tries until it is known what became of a batch: `verdict` says what an answer proves, without I/O;
//! - `error` hands a batch back;
//! - `builder` opens a bus.

mod attempt;
mod batch;
mod builder;
mod commit;
mod error;
mod verdict;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use natstream_connect::{Driver, Lease, Router};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use self::attempt::HEADERS_LEN;
use self::batch::MAX_EVENTS;
pub use self::batch::{AtomicAck, AtomicBatch};
pub use self::builder::AtomicBusBuilder;
use self::commit::Commit;
pub use self::error::{AtomicError, AtomicErrorKind};
use self::verdict::At;
use crate::error::OpenError;
use crate::event::Flaw;
use crate::fast::Subjects;
use crate::outgoing::id_len;
use crate::tries::Tries;

/// Commits batches to one stream, each all or nothing.
///
/// It needs nats-server 2.12 and a stream that allows it
/// ([`StreamSpec::allow_atomic`](crate::topology::StreamSpec::allow_atomic)). It is not for speed: see
/// [`FastBus`](crate::FastBus) for that.
///
/// # What holds
/// - A stream has all events of a batch, one behind the other, or none. Readers see all of them or none.
/// - What [`commit`](Self::commit) returns is the truth about the batch: stored, not stored, or unknown.
/// - A batch is sent again as a whole when it is certain that the stream does not have it: nobody listens, 429, too many
///   batches, a message or a leader was lost with a part of the batch. When the answer to its commit is lost, it is sent again
///   if an event has an id: the stream refuses a copy of what it has.
/// - By default one event of each batch gets an id that nobody else has, unless all have their own. A stream that knows this id
///   has the batch, and that is told. When a copy is refused for anything else, as an expectation that the batch itself has
///   made untrue, the stream is asked for the id alone. With ids of its own alone nothing is proven: another batch may have had
///   them. Then it fails as [`DuplicateId`](AtomicErrorKind::DuplicateId), and [may be stored](AtomicError::may_be_stored).
///
/// This holds as long as the stream's duplicate window is longer than the [deadline](AtomicBusBuilder::deadline).
///
/// A clone is another handle to the same one.
///
/// # Examples
///
/// ```no_run
/// use eventbus::{AtomicBatch, AtomicBus, Event};
/// use natstream_connect::{ConnectConfig, Connection};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let connection = Connection::connect(ConnectConfig::new("nats://localhost")).await?;
/// let bus = AtomicBus::open(connection, "ACCOUNTS").await?;
/// let mut transfer = AtomicBatch::new();
/// transfer.add(Event::new("accounts.7", "-5"));
/// transfer.add(Event::new("accounts.8", "+5"));
/// match bus.commit(transfer).await {
///     Ok(ack) => println!("numbers up to {:?}", ack.last_sequence),
///     Err(error) if error.may_be_stored() => println!("unknown: {error}"),
///     Err(error) => println!("not stored, here it is again: {:?}", error.into_batch()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AtomicBus {
    shared: Arc<Shared>,
}

struct Shared {
    connection: Lease,
    router: Router,
    subjects: Subjects,
    stream: Arc<str>,
    places: Semaphore,
    tries: Tries,
    gives_ids: bool,
    has_stored: AtomicBool,
}

impl AtomicBus {
    /// A bus to this stream, with the defaults of [`AtomicBusBuilder`].
    ///
    /// # Errors
    /// As [`AtomicBusBuilder::open`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open(connection: impl Into<Lease>, stream: impl Into<String>) -> Result<Self, OpenError> {
        Self::builder(connection, stream).open().await
    }

    /// A bus to this stream, to be set up. Of a set of connections it takes a [`Lease`].
    pub fn builder(connection: impl Into<Lease>, stream: impl Into<String>) -> AtomicBusBuilder {
        AtomicBusBuilder::new(connection.into(), stream.into())
    }

    /// Stores all events of the batch, or none, and says which.
    ///
    /// Deadlines of events are not looked at; the bus has [one](AtomicBusBuilder::deadline) for the batch.
    ///
    /// # Errors
    /// [`AtomicError`], with the batch: it [may be stored](AtomicError::may_be_stored), as a whole, or is not.
    ///
    /// # Cancel safety
    /// Dropped early, the batch may be stored, as a whole, or not.
    pub async fn commit(&self, batch: AtomicBatch) -> Result<AtomicAck, AtomicError> {
        let batch = self.check(batch.in_trace())?;
        let shared = &self.shared;
        let due = deadline(shared.tries.deadline);
        let Ok(Ok(_place)) = timeout_at(due, shared.places.acquire()).await else {
            return Err(AtomicError::new(batch, AtomicErrorKind::TooManyBatches));
        };
        let mut commit = Commit::new(shared, &batch, due);
        let outcome = commit.run().await;
        let (attempts, refusal) = (commit.attempts, commit.refusal);
        match outcome {
            Ok(at) => {
                shared.has_stored.store(true, Ordering::Relaxed);
                let (stream, last_sequence) = match at {
                    Some(At { stream, sequence }) => (stream, Some(sequence)),
                    None => (shared.stream.clone(), None),
                };
                Ok(AtomicAck {
                    stream,
                    last_sequence,
                    count: batch.len() as u64,
                })
            }
            Err((kind, may_be_stored)) => Err(AtomicError::new(batch, kind).after(attempts, may_be_stored, refusal)),
        }
    }

    /// The connection that this bus is on.
    #[must_use]
    pub fn connection(&self) -> &natstream_connect::Connection {
        &self.shared.connection
    }

    /// What makes it impossible to commit, whatever the stream says.
    fn check(&self, batch: AtomicBatch) -> Result<AtomicBatch, AtomicError> {
        let wrong = |batch, kind, place, flaw| Err(AtomicError::new(batch, kind).at(place, flaw));
        if batch.is_empty() {
            return Err(AtomicError::new(batch, AtomicErrorKind::Empty));
        }
        if batch.len() > MAX_EVENTS {
            return Err(AtomicError::new(batch, AtomicErrorKind::TooManyEvents));
        }
        if let Some(place) = batch.repeated_id() {
            return wrong(batch, AtomicErrorKind::DuplicateId, place, None);
        }
        let max = self.shared.connection.max_payload();
        for (place, event) in batch.events().iter().enumerate() {
            let elsewhere = || {
                let is_taken = self.shared.subjects.take(&event.subject);
                (!is_taken).then(|| Flaw::Elsewhere(self.shared.stream.to_string()))
            };
            if let Some(flaw) = event.flaw().or_else(|| event.batch_flaw()).or_else(elsewhere) {
                return wrong(batch, AtomicErrorKind::Invalid, place, Some(flaw));
            }
            // 0: the server has not said anything yet.
            if max > 0 && event.wire_len() + HEADERS_LEN + id_len(22) > max {
                return wrong(batch, AtomicErrorKind::TooLarge, place, None);
            }
        }
        Ok(batch)
    }
}

/// As drivers read it.
fn now() -> Instant {
    Driver::clock()
}

/// About 30 years at most, which tokio's clock can add.
fn deadline(from_now: Duration) -> Instant {
    now() + from_now.min(Duration::from_secs(1 << 30))
}

impl fmt::Debug for AtomicBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtomicBus")
            .field("stream", &self.shared.stream)
            .field("connection", self.connection())
            .finish()
    }
}
