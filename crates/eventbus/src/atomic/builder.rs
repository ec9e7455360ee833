//! Opening an atomic bus.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use natstream_connect::Lease;
use tokio::sync::Semaphore;

use super::{AtomicBus, Shared};
use crate::engine::Dedup;
use crate::error::OpenError;
use crate::fast::Subjects;
use crate::grant::{BatchMode, granted};
use crate::shared::Strays;
use crate::tries::{Tries, wrong};

/// nats-server takes so many for a stream, unless it is configured otherwise (`server/stream.go`).
const MAX_IN_FLIGHT: usize = 50;

/// An atomic bus that is not open yet. Each setting has a default.
///
/// | setting | default |
/// |---|---|
/// | [`max_in_flight`](Self::max_in_flight) | 20 batches |
/// | [`deadline`](Self::deadline) | 30 s |
/// | [`ack_timeout`](Self::ack_timeout) | 5 s |
/// | [`retry_pause`](Self::retry_pause) | 50 ms, doubled up to 2 s |
/// | [`dedup`](Self::dedup) | [`Dedup::Id`] |
#[must_use = "a bus is there when it was opened"]
pub struct AtomicBusBuilder {
    connection: Lease,
    stream: String,
    max_in_flight: usize,
    tries: Tries,
    dedup: Dedup,
}

impl AtomicBusBuilder {
    pub(super) fn new(connection: Lease, stream: String) -> Self {
        Self {
            connection,
            stream,
            max_in_flight: 20,
            tries: Tries::default(),
            dedup: Dedup::default(),
        }
    }

    /// Batches that may be under way: 1 to 50, by default 20. More wait, in their order. nats-server takes 50 for a stream, of
    /// all publishers.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.max_in_flight = batches;
        self
    }

    /// How long a batch is tried, from [`commit`](AtomicBus::commit) on; by default 30 s.
    ///
    /// Keep the stream's duplicate window at least twice as long.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.tries.deadline = deadline;
        self
    }

    /// How long the answer to a commit may take, by default 5 s. After that the batch is sent again, if it has an id.
    pub fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.tries.answer = timeout;
        self
    }

    /// The pause after the first attempt, by default 50 ms, and the longest, by default 2 s. Each attempt doubles it; half of
    /// it is random.
    pub fn retry_pause(mut self, first: Duration, longest: Duration) -> Self {
        self.tries.first_pause = first;
        self.tries.longest_pause = longest;
        self
    }

    /// Whether one event of a batch gets an id; by default it does, unless all have their own. Without, a batch whose answer
    /// is lost fails as [`Unknown`](crate::AtomicErrorKind::Unknown).
    pub fn dedup(mut self, dedup: Dedup) -> Self {
        self.dedup = dedup;
        self
    }

    /// Looks at the stream, and subscribes to its answers.
    ///
    /// # Errors
    /// [`TooOld`](OpenError::TooOld), [`NotAllowed`](OpenError::NotAllowed) with the command that allows it,
    /// [`NoAcks`](OpenError::NoAcks), [`Stream`](OpenError::Stream) when there is no such stream or it cannot be looked at;
    /// a setting that cannot work, or a connection that is closed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open(self) -> Result<AtomicBus, OpenError> {
        self.check()?;
        let info = granted(&self.connection, &self.stream, BatchMode::Atomic).await?;
        let router = self.connection.router(Arc::new(Strays)).await;
        let router = router.map_err(|_| OpenError::Closed)?;
        Ok(AtomicBus {
            shared: Arc::new(Shared {
                connection: self.connection,
                router,
                subjects: Subjects::new(&self.stream, info.subjects),
                stream: self.stream.into(),
                places: Semaphore::new(self.max_in_flight),
                tries: self.tries,
                gives_ids: self.dedup == Dedup::Id,
                has_stored: AtomicBool::new(false),
            }),
        })
    }

    fn check(&self) -> Result<(), OpenError> {
        if !(1..=MAX_IN_FLIGHT).contains(&self.max_in_flight) {
            return wrong("max_in_flight", "must be between 1 and 50");
        }
        self.tries.check("and `ack_timeout` must not be 0")?;
        Ok(())
    }
}

impl fmt::Debug for AtomicBusBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtomicBusBuilder")
            .field("connection", &*self.connection)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
