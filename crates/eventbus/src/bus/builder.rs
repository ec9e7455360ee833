//! Opening a bus.

use std::fmt;
use std::time::Duration;

use natstream_connect::{Lease, random_u32, token};

use super::Bus;
use super::window::Window;
use crate::engine::{Dedup, Engine, EngineConfig, MAX_WINDOW, Ordering};
use crate::error::{OpenError, PublishError};
use crate::nanos;
use crate::outgoing::id_len;
use crate::shared::{Handle, OnFailure};
use crate::topology::{Durability, Survives, Topology, Weakness};
use crate::tries::{Tries, wrong};

/// A bus that is not open yet. Each setting has a default.
///
/// | setting | default |
/// |---|---|
/// | [`window`](Self::window) | 1000 events |
/// | [`window_bytes`](Self::window_bytes) | 32 MiB |
/// | [`deadline`](Self::deadline) | 30 s |
/// | [`ack_timeout`](Self::ack_timeout) | 5 s |
/// | [`retry_pause`](Self::retry_pause) | 50 ms, doubled up to 2 s |
/// | [`dedup`](Self::dedup) | [`Dedup::Id`] |
/// | [`ordering`](Self::ordering) | [`Ordering::Fast`] |
#[must_use = "a bus is there when it was opened"]
pub struct BusBuilder {
    connection: Lease,
    window: usize,
    window_bytes: usize,
    tries: Tries,
    dedup: Dedup,
    ordering: Ordering,
    message_id_prefix: Option<String>,
    /// The stream, what it must survive, and whether it must be good for anything.
    durability: Option<(String, Vec<Survives>, bool)>,
    on_failure: Option<OnFailure>,
}

impl BusBuilder {
    pub(super) fn new(connection: Lease) -> Self {
        Self {
            connection,
            window: 1000,
            window_bytes: 32 << 20,
            tries: Tries::default(),
            dedup: Dedup::default(),
            ordering: Ordering::default(),
            message_id_prefix: None,
            durability: None,
            on_failure: None,
        }
    }

    /// Events that may be accepted and not settled: 1 to 1,048,575, by default 1000. More wait for room.
    ///
    /// From 100 on it is fast, from 1000 to 4000 on a loopback fastest. nats-server queues at most 100,000 events of all
    /// publishers for a stream, and refuses more with 429. Keep it below the connection's subscription capacity, 65,536 unless
    /// set otherwise, in which acks wait.
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
    /// about 5 s.
    ///
    /// Keep the stream's duplicate window at least twice as long.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.tries.deadline = deadline;
        self
    }

    /// How long an answer may take before the event is sent again; by default 5 s. Without an id an event is not sent again,
    /// and its answer may take until the deadline.
    pub fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.tries.answer = timeout;
        self
    }

    /// The pause after the first refusal, by default 50 ms, and the longest, by default 2 s. Each refusal of an event doubles
    /// it; half of it is random.
    pub fn retry_pause(mut self, first: Duration, longest: Duration) -> Self {
        self.tries.first_pause = first;
        self.tries.longest_pause = longest;
        self
    }

    /// Whether events carry ids; by default they do.
    pub fn dedup(mut self, dedup: Dedup) -> Self {
        self.dedup = dedup;
        self
    }

    /// In which order the stream has the events of a subject; by default [`Ordering::Fast`].
    pub fn ordering(mut self, ordering: Ordering) -> Self {
        self.ordering = ordering;
        self
    }

    /// What the ids begin with that the bus gives; by default 22 random letters and digits. A dot and a number from 0 on
    /// follow, so a prefix that is used again gives other events the same ids, whose copies the stream drops.
    pub fn message_id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.message_id_prefix = Some(prefix.into());
        self
    }

    /// Looks at the stream when the bus is opened, and logs a warning for each [weakness](crate::topology::Weakness) of its
    /// acks.
    pub fn check_stream(mut self, name: impl Into<String>) -> Self {
        self.durability = Some((name.into(), Vec::new(), false));
        self
    }

    /// Looks at the stream when the bus is opened, and does not open it when what is acked does not survive all of these, or
    /// when ids are forgotten before the last retry. [`Survives::PowerLoss`] cannot be required: nats-server does not tell.
    pub fn require_stream(mut self, name: impl Into<String>, survives: impl IntoIterator<Item = Survives>) -> Self {
        self.durability = Some((name.into(), survives.into_iter().collect(), true));
        self
    }

    /// Is told of every event that was accepted and has failed, once, with the event itself, whether or not somebody waits for
    /// it.
    ///
    /// It runs in a task of the connection, or within the call that has found out, one at a time and without a lock of the bus:
    /// it must not block, and may use the bus. A bus that it owns lives for ever; give it a `Weak`, or a channel. Without it, failures that nobody waits
    /// for are logged as warnings.
    pub fn on_failure(mut self, on_failure: impl Fn(PublishError) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Box::new(on_failure));
        self
    }

    /// Subscribes to the acks.
    ///
    /// # Errors
    /// [`OpenError`]: a setting cannot work, the connection is closed, or the stream is not what was required.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open(self) -> Result<Bus, OpenError> {
        self.check()?;
        if let Some((stream, required, is_required)) = &self.durability {
            self.check_durability(stream, required, *is_required).await?;
        }
        let config = EngineConfig {
            window: self.window,
            window_bytes: self.window_bytes,
            deadline: nanos(self.tries.deadline),
            ack_timeout: nanos(self.tries.answer),
            first_pause: nanos(self.tries.first_pause),
            longest_pause: nanos(self.tries.longest_pause),
            dedup: self.dedup,
            ordering: self.ordering,
            seed: u64::from(random_u32()),
        };
        let driver = self.connection.driver();
        let engine = Engine::new(config, driver.nanos(driver.now()));
        let ids = self.message_id_prefix.unwrap_or_else(token);
        let ids = (self.dedup == Dedup::Id).then_some(ids);
        let id_len = ids.as_ref().map_or(0, |ids| id_len(ids.len()));
        let window = Window::new(engine, &self.connection, ids);
        Ok(Bus {
            handle: Handle::open(self.connection, window, id_len, self.on_failure).await?,
        })
    }

    async fn check_durability(&self, stream: &str, required: &[Survives], is_required: bool) -> Result<(), OpenError> {
        let info = Topology::new(natstream_connect::Connection::clone(&self.connection))
            .info(stream)
            .await?;
        let durability = Durability::of(&info, self.tries.deadline, None);
        let forgets = |weakness: &Weakness| matches!(weakness, Weakness::DuplicateWindow { .. });
        for weakness in &durability.weaknesses {
            tracing::warn!(stream, %weakness, "an ack is worth less than it seems");
        }
        let is_enough = required.iter().all(|what| durability.survives.contains(what));
        if is_required && (!is_enough || durability.weaknesses.iter().any(forgets)) {
            return Err(OpenError::NotDurable(durability));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), OpenError> {
        if !(1..=MAX_WINDOW).contains(&self.window) {
            return wrong("window", "must be between 1 and 1,048,575");
        }
        if self.window_bytes == 0 {
            return wrong("window_bytes", "must not be 0");
        }
        self.tries.check("and `ack_timeout` must not be 0")?;
        if self.ordering == Ordering::Strict && self.dedup == Dedup::Off {
            return wrong("ordering", "`Strict` needs `Dedup::Id`");
        }
        let prefix = self.message_id_prefix.as_deref().unwrap_or("x");
        if prefix.is_empty() || prefix.len() > 128 || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("message_id_prefix", "must be 1 to 128 printable ASCII characters");
        }
        Ok(())
    }
}

impl fmt::Debug for BusBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusBuilder")
            .field("connection", &*self.connection)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
