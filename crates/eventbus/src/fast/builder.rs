//! Opening a fast bus.

use std::fmt;
use std::time::Duration;

use natstream_connect::{Lease, random_u32, token};

use super::FastBus;
use super::engine::{Config, Engine};
use super::ingest::Ingest;
use super::outgoing::Outgoing;
use super::subjects::Subjects;
use crate::error::{OpenError, PublishError};
use crate::grant::{BatchMode, granted};
use crate::nanos;
use crate::outgoing::id_len;
use crate::shared::{Handle, OnFailure};
use crate::tries::{Tries, wrong};

/// nats-server tells how far it is after 500 messages of all fast publishers at most (`server/jetstream_batching.go`).
const MAX_FLOW: usize = 500;

/// How many times that may be under way: from three times on a loopback nothing is gained (`docs/performance.md`).
const OUTSTANDING: usize = 3;

/// A batch that nothing is added to is ended after this time, far from the 10 s after which nats-server forgets it: only then
/// the stream tells of its last events.
const LINGER: Duration = Duration::from_millis(50);

/// A batch is ended when the stream has told nothing for so long: its word is lost, or so few events come that it tells
/// seldom.
const PATIENCE: Duration = Duration::from_secs(1);

/// Letters of a batch's id that nobody else has; nats-server takes 64, and reads them with each message.
const BATCH_LETTERS: usize = 12;

/// A fast bus that is not open yet. Each setting has a default.
///
/// | setting | default |
/// |---|---|
/// | [`window`](Self::window) | 4000 events |
/// | [`window_bytes`](Self::window_bytes) | 32 MiB |
/// | [`deadline`](Self::deadline) | 30 s |
/// | [`answer_timeout`](Self::answer_timeout) | 5 s |
/// | [`retry_pause`](Self::retry_pause) | 50 ms, doubled up to 2 s |
/// | ids | none |
/// | what nobody knows of | fails |
#[must_use = "a bus is there when it was opened"]
pub struct FastBusBuilder {
    connection: Lease,
    stream: String,
    window: usize,
    window_bytes: usize,
    tries: Tries,
    gives_ids: bool,
    repeats: bool,
    on_failure: Option<OnFailure>,
}

impl FastBusBuilder {
    pub(super) fn new(connection: Lease, stream: String) -> Self {
        Self {
            connection,
            stream,
            window: 4000,
            window_bytes: 32 << 20,
            tries: Tries::default(),
            gives_ids: false,
            repeats: false,
            on_failure: None,
        }
    }

    /// Events that may be accepted and not settled: at least 1, by default 4000. More wait for room.
    ///
    /// Below 2000 it is slower: the stream tells how far it is after a fourth of the window, and at most 1500 events are
    /// under way.
    pub fn window(mut self, events: usize) -> Self {
        self.window = events;
        self
    }

    /// Bytes of subjects, headers and payloads that may be accepted and not settled; by default 32 MiB. An event that alone is
    /// larger is taken when nothing else is pending.
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// How long the bus tries to deliver an event, from its acceptance on; by default 30 s. The election of a leader takes
    /// about 5 s. [`Event::deadline`](crate::Event::deadline) wins.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.tries.deadline = deadline;
        self
    }

    /// How long the stream may take to answer the first message of a batch, or its end, before it is asked again; by default
    /// 5 s.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.tries.answer = timeout;
        self
    }

    /// The pause after the first refusal, by default 50 ms, and the longest, by default 2 s. Each batch in a row that brings
    /// nothing into the stream doubles it; half of it is random.
    pub fn retry_pause(mut self, first: Duration, longest: Duration) -> Self {
        self.tries.first_pause = first;
        self.tries.longest_pause = longest;
        self
    }

    /// Gives each event without a message id one, by which the stream knows it when it comes again: what nobody knows of is
    /// sent again, and stored once, as long as the stream's duplicate window is longer than the
    /// [deadline](Self::deadline). It costs a header for each event.
    pub fn with_ids(mut self) -> Self {
        self.gives_ids = true;
        self
    }

    /// Sends again what nobody knows of, without ids: it may be stored twice. For lines and figures of which two are better
    /// than none.
    pub fn at_least_once(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// Is told of every event that was accepted and has failed, once, with the event itself.
    ///
    /// It runs in a task of the connection, or within the call that has found out, one at a time and without a lock of the bus:
    /// it must not block, and may use the bus. A bus that it owns lives for ever; give it a channel. Without it, failures are
    /// logged as warnings.
    pub fn on_failure(mut self, on_failure: impl Fn(PublishError) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Box::new(on_failure));
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
    pub async fn open(self) -> Result<FastBus, OpenError> {
        self.check()?;
        let info = granted(&self.connection, &self.stream, BatchMode::Fast).await?;
        let config = Config {
            window: self.window,
            window_bytes: self.window_bytes,
            deadline: nanos(self.tries.deadline),
            outstanding: OUTSTANDING as u64,
            linger: nanos(LINGER),
            patience: nanos(PATIENCE),
            answer_timeout: nanos(self.tries.answer),
            first_pause: nanos(self.tries.first_pause),
            longest_pause: nanos(self.tries.longest_pause),
            gives_ids: self.gives_ids,
            repeats: self.repeats,
            seed: u64::from(random_u32()),
        };
        // The stream must have something to tell before the window is full.
        let flow = (self.window / (OUTSTANDING + 1)).clamp(1, MAX_FLOW) as u16;
        let mut batches = token();
        batches.truncate(BATCH_LETTERS);
        let ids = self.gives_ids.then(token);
        let id_len = ids.as_ref().map_or(0, |ids| id_len(ids.len()));
        let subjects = Subjects::new(&self.stream, info.subjects);
        let ingest = Ingest::new(Engine::new(config), Outgoing::new(batches, flow, ids), subjects);
        Ok(FastBus {
            stream: self.stream.into(),
            handle: Handle::open(self.connection, ingest, id_len, self.on_failure).await?,
        })
    }

    fn check(&self) -> Result<(), OpenError> {
        if self.window == 0 {
            return wrong("window", "must not be 0");
        }
        if self.window_bytes == 0 {
            return wrong("window_bytes", "must not be 0");
        }
        self.tries.check("and `answer_timeout` must not be 0")?;
        Ok(())
    }
}

impl fmt::Debug for FastBusBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastBusBuilder")
            .field("connection", &*self.connection)
            .field("stream", &self.stream)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
