//! The bus: the handle, and what is set when it is opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use natstream_connect::{Lease, Unrouted, random_u32, token};

use crate::batch::{Batch, BatchReport};
use crate::engine::{Dedup, Engine, EngineConfig, MAX_WINDOW, Ordering};
use crate::error::{OpenError, PublishError, TryEnqueueError, Undelivered};
use crate::event::Event;
use crate::nanos;
use crate::reply::PublishAck;
use crate::shared::{Accept, OnFailure, Shared};
use crate::topology::{Durability, Survives, Topology, Weakness};
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
    handle: Arc<Handle>,
}

/// Dropping the last one lets the bus end with its last event.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.refuse();
    }
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

/// How long closing waits at least for `on_failure` to be told.
const TELLING: Duration = Duration::from_secs(1);

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
        BusBuilder {
            connection: connection.into(),
            window: 1000,
            window_bytes: 32 << 20,
            deadline: Duration::from_secs(30),
            ack_timeout: Duration::from_secs(5),
            retry_pause: Duration::from_millis(50),
            max_retry_pause: Duration::from_secs(2),
            dedup: Dedup::default(),
            ordering: Ordering::default(),
            message_id_prefix: None,
            durability: None,
            on_failure: None,
        }
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
        self.accept(event.into(), None).await
    }

    /// As [`enqueue`](Self::enqueue), and says later what became of the event.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue); what comes later is told by the [`PendingAck`].
    ///
    /// # Cancel safety
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_pending(&self, event: impl Into<Event>) -> Result<PendingAck, PublishError> {
        let event = event.into();
        let (watcher, pending) = PendingAck::new(&event);
        self.accept(event, Some(watcher)).await?;
        Ok(pending)
    }

    /// Takes an event into the window if there is room now.
    ///
    /// # Errors
    /// [`Full`](TryEnqueueError::Full) hands the event back; [`Failed`](TryEnqueueError::Failed) as [`enqueue`](Self::enqueue).
    pub fn try_enqueue(&self, event: impl Into<Event>) -> Result<(), TryEnqueueError> {
        self.handle.shared.try_accept(event.into())
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
            if let Err(error) = self.accept(event.into(), Some(watcher)).await {
                batch.settle(all, Err(error));
            }
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
        let before = self.flushed(limit).await;
        let (pending, failed) = self.handle.shared.end_flush(before);
        if pending == 0 && failed == 0 {
            return Ok(());
        }
        Err(Undelivered {
            failed,
            pending,
            given_up: Vec::new(),
        })
    }

    /// Accepts nothing any more, waits at most this long for what is pending, and gives up the rest. The connection stays open.
    ///
    /// # Errors
    /// [`Undelivered`] with the events that were given up, or when events have failed since the last flush.
    ///
    /// # Cancel safety
    /// Dropped early, the bus accepts nothing, and goes on with what is pending. It can be closed again.
    pub async fn close(&self, limit: Duration) -> Result<(), Undelivered> {
        let shared = &self.handle.shared;
        shared.refuse();
        self.flushed(limit).await;
        let given_up = shared.give_up();
        // Until `on_failure` has been told, which somebody else may be doing.
        self.flushed(limit.max(TELLING)).await;
        let (_, failed) = shared.end_flush(0);
        if failed == 0 {
            return Ok(());
        }
        Err(Undelivered {
            failed,
            pending: 0,
            given_up,
        })
    }

    /// What has become of all events so far; all figures are of the same moment.
    #[must_use]
    pub fn stats(&self) -> BusStats {
        let (counts, waiting) = self.handle.shared.counts();
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
        self.handle.shared.connection()
    }

    pub(crate) async fn accept(&self, event: Event, watcher: Option<Watcher>) -> Result<(), PublishError> {
        // A producer that never has to wait lets others run.
        tokio::task::coop::consume_budget().await;
        Accept::new(&self.handle.shared, event, watcher).await
    }

    /// Waits until everything so far is settled, or this long; what has a lower number than is returned was meant.
    async fn flushed(&self, limit: Duration) -> u64 {
        let (before, flushed) = self.handle.shared.begin_flush();
        if let Some(flushed) = flushed {
            // Both kinds of error say that it is over.
            let _ = tokio::time::timeout(limit, flushed).await;
        }
        before
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
    deadline: Duration,
    ack_timeout: Duration,
    retry_pause: Duration,
    max_retry_pause: Duration,
    dedup: Dedup,
    ordering: Ordering,
    message_id_prefix: Option<String>,
    /// The stream, what it must survive, and whether it must be good for anything.
    durability: Option<(String, Vec<Survives>, bool)>,
    on_failure: Option<OnFailure>,
}

impl BusBuilder {
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
        self.deadline = deadline;
        self
    }

    /// How long an answer may take before the event is sent again; by default 5 s. Without an id an event is not sent again,
    /// and its answer may take until the deadline.
    pub fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.ack_timeout = timeout;
        self
    }

    /// The pause after the first refusal, by default 50 ms, and the longest, by default 2 s. Each refusal of an event doubles
    /// it; half of it is random.
    pub fn retry_pause(mut self, first: Duration, longest: Duration) -> Self {
        self.retry_pause = first;
        self.max_retry_pause = longest;
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
            deadline: nanos(self.deadline),
            ack_timeout: nanos(self.ack_timeout),
            first_pause: nanos(self.retry_pause),
            longest_pause: nanos(self.max_retry_pause),
            dedup: self.dedup,
            ordering: self.ordering,
            seed: u64::from(random_u32()),
        };
        let driver = self.connection.driver();
        let engine = Engine::new(config, driver.nanos(driver.now()));
        // A router of its own: acks of events do not queue behind items of streams.
        let router = self.connection.router(Arc::new(Strays)).await;
        let router = router.map_err(|_| OpenError::Closed)?;
        let ids = self.message_id_prefix.unwrap_or_else(token);
        let ids = (self.dedup == Dedup::Id).then_some(ids);
        let shared = Shared::new(self.connection, engine, ids.as_deref(), self.on_failure);
        let route = router.add(shared.clone());
        shared.set_route(route, ids);
        Ok(Bus {
            handle: Arc::new(Handle { shared }),
        })
    }

    async fn check_durability(&self, stream: &str, required: &[Survives], is_required: bool) -> Result<(), OpenError> {
        let info = Topology::new(natstream_connect::Connection::clone(&self.connection))
            .info(stream)
            .await?;
        let durability = Durability::of(&info, self.deadline, None);
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
        let wrong = |setting, problem| Err(OpenError::InvalidSetting { setting, problem });
        if !(1..=MAX_WINDOW).contains(&self.window) {
            return wrong("window", "must be between 1 and 1,048,575");
        }
        if self.window_bytes == 0 {
            return wrong("window_bytes", "must not be 0");
        }
        if self.deadline.is_zero() || self.ack_timeout.is_zero() {
            return wrong("deadline", "and `ack_timeout` must not be 0");
        }
        if self.retry_pause.is_zero() || self.max_retry_pause < self.retry_pause {
            return wrong(
                "retry_pause",
                "must not be 0, and the longest not shorter than the first",
            );
        }
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

/// Answers to events of a bus that has ended.
pub(crate) struct Strays;

impl Unrouted for Strays {
    fn unrouted(&self, _message: async_nats::Message) {}
}
