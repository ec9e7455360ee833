//! One task for all streams of a connection: their timers, and those that wait to send.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{Client, PublishError};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::publisher::Publisher;

/// How many streams are driven before others get the processor: about 100 µs of work at 1–2 µs each.
const STREAMS_PER_TURN: usize = 64;

/// How many bytes a stream hands over before others get their turn (rule 41): one unit of the largest size.
const BYTES_PER_TURN: usize = 64 * 1024;

/// A stream, as its driver sees it.
pub trait Driven: Send + Sync + 'static {
    /// Does what is due at `now`, in nanoseconds of [`Driver::nanos`]: timers, and what waits to be sent.
    ///
    /// It must not block. A deadline that has come counts as used up: tell the [`DeadlineSlot`].
    fn drive(self: Arc<Self>, now: u64);
}

/// The driver of one connection's streams. Cloning gives another handle to the same one.
///
/// There is one task and one timer for any number of streams. It ends when the last handle is gone.
#[derive(Clone)]
pub struct Driver {
    shared: Arc<Shared>,
    // Dropping the last handle ends the task.
    _alive: Arc<Alive>,
}

struct Shared {
    /// What the numbers of [`Driver::nanos`] count from.
    origin: Instant,
    state: Mutex<State>,
    wake: Arc<Notify>,
    next_id: AtomicU64,
    publisher: Publisher,
}

#[derive(Default)]
struct State {
    /// To be driven as soon as possible.
    runnable: VecDeque<Arc<dyn Driven>>,
    /// To be driven when the connection takes messages again.
    blocked: Vec<Arc<dyn Driven>>,
    deadlines: BTreeMap<Deadline, Arc<dyn Driven>>,
    /// What the task sleeps until; `None` while it is awake.
    sleeps_until: Option<Option<u64>>,
    /// The task has ended, or is about to: nothing is kept any more.
    closed: bool,
}

/// A deadline that was armed: its moment in [`Driver::nanos`], and a number that makes it unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Deadline {
    at: u64,
    /// Not zero, so that an optional deadline takes no more room: every stream has one.
    id: NonZeroU64,
}

struct Alive {
    shared: Weak<Shared>,
}

impl Driver {
    pub(crate) fn spawn(runtime: &Handle, client: Client) -> Self {
        let wake = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            publisher: Publisher::new(client.clone(), wake.clone()),
            origin: now(),
            state: Mutex::default(),
            wake,
            next_id: AtomicU64::new(0),
        });
        runtime.spawn(run(Running(shared.clone()), client));
        Self {
            _alive: Arc::new(Alive {
                shared: Arc::downgrade(&shared),
            }),
            shared,
        }
    }

    /// The time, for whoever has no driver yet.
    #[must_use]
    pub fn clock() -> Instant {
        now()
    }

    /// The time, as the driver's deadlines count it.
    #[must_use]
    pub fn now(&self) -> Instant {
        now()
    }

    /// `at` in nanoseconds since this driver began: time as the state machines take it.
    #[must_use]
    pub fn nanos(&self, at: Instant) -> u64 {
        self.shared.nanos(at)
    }

    /// Hands over the messages that `next` gives, as far as the connection takes them and others have not waited for long;
    /// `next` is asked only when there is room. When messages may be left, `waits` is set, and `stream` is driven once they
    /// can go on: it clears `waits` then.
    ///
    /// # Errors
    /// When a message exceeds `max_payload` or the connection has just been closed. The message is gone.
    pub fn hand_over(
        &self,
        stream: &Arc<impl Driven>,
        waits: &mut bool,
        mut next: impl FnMut() -> Option<OutboundMessage>,
    ) -> Result<(), PublishError> {
        let mut publisher = self.shared.publisher.lock();
        let mut bytes = 0;
        while bytes < BYTES_PER_TURN {
            let Some(slot) = publisher.reserve() else {
                if !std::mem::replace(waits, true) {
                    self.wait_ready(stream.clone());
                }
                return Ok(());
            };
            let Some(message) = next() else {
                return Ok(());
            };
            bytes += message.payload.len();
            slot.publish(message)?;
        }
        if !std::mem::replace(waits, true) {
            self.schedule(stream.clone());
        }
        Ok(())
    }

    /// Completes when a message can probably be handed over; false when none ever will be, since the connection is closed or
    /// its runtime gone.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ready(&self) -> bool {
        if self.shared.publisher.lock().reserve().is_some() {
            return true;
        }
        let (waiter, ready) = oneshot::channel();
        self.wait_ready(Arc::new(Waiter(Mutex::new(Some(waiter)))));
        // An error: the waiter was dropped.
        ready.await.is_ok()
    }

    /// Hands over one message if that is possible now; it is skipped otherwise. For what the peer asks for again.
    ///
    /// # Errors
    /// [`TrySendError`]. The message is gone.
    pub fn try_send(&self, message: OutboundMessage) -> Result<(), TrySendError> {
        let mut publisher = self.shared.publisher.lock();
        let slot = publisher.reserve().ok_or(TrySendError::Busy)?;
        slot.publish(message).map_err(TrySendError::Failed)
    }

    /// Drives `stream` soon, in the driver's task.
    pub fn schedule(&self, stream: Arc<dyn Driven>) {
        let mut state = self.shared.state.lock();
        if !state.closed {
            state.runnable.push_back(stream);
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    /// Streams with a deadline, and streams that wait to send: for leak checks.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let state = self.shared.state.lock();
        (state.deadlines.len(), state.blocked.len())
    }

    /// Drives `stream` when the connection takes messages again.
    fn wait_ready(&self, stream: Arc<dyn Driven>) {
        let mut state = self.shared.state.lock();
        if state.closed {
            return;
        }
        state.blocked.push(stream);
        // Only the first needs to wake the task, which looks at the list before it sleeps.
        if state.blocked.len() == 1 {
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    fn arm(&self, at: u64, stream: Arc<dyn Driven>) -> Option<Deadline> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let id = NonZeroU64::MIN.saturating_add(id);
        let deadline = Deadline { at, id };
        let mut state = self.shared.state.lock();
        if state.closed {
            return None;
        }
        state.deadlines.insert(deadline, stream);
        let is_earlier = state
            .sleeps_until
            .is_some_and(|until| until.is_none_or(|until| at < until));
        if is_earlier {
            drop(state);
            self.shared.wake.notify_one();
        }
        Some(deadline)
    }

    fn disarm(&self, deadline: Deadline) {
        // Bound, so that the stream is dropped after the lock is released.
        let removed = self.shared.state.lock().deadlines.remove(&deadline);
        drop(removed);
    }
}

impl Shared {
    /// `at` in nanoseconds since the driver began.
    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The moment that [`nanos`](Self::nanos) gives this number for; about 30 years from now when it is too far away.
    fn moment(&self, nanos: u64) -> Instant {
        const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
        self.origin + Duration::from_nanos(nanos).min(FAR)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (deadlines, blocked) = self.load();
        f.debug_struct("Driver")
            .field("deadlines", &deadlines)
            .field("blocked", &blocked)
            .finish()
    }
}

/// Why a message was not handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// There is no room at the moment, or the connection is down.
    #[error("the connection takes no message at the moment")]
    Busy,
    /// The message exceeds `max_payload`, or the connection has just been closed.
    #[error(transparent)]
    Failed(PublishError),
}

/// Somebody who waits for room.
struct Waiter(Mutex<Option<oneshot::Sender<()>>>);

impl Driven for Waiter {
    fn drive(self: Arc<Self>, _now: u64) {
        if let Some(waiter) = self.0.lock().take() {
            // Whoever waited may have given up.
            let _ = waiter.send(());
        }
    }
}

/// The one deadline that a stream has with its driver. An armed one keeps the stream alive.
#[derive(Debug, Default)]
pub struct DeadlineSlot {
    armed: Option<Deadline>,
}

impl DeadlineSlot {
    /// Sees to it that `stream` is driven at `at`, in nanoseconds of [`Driver::nanos`]; `None` gives the deadline back.
    ///
    /// A deadline that is too early does no harm, so it is left alone: moving it for every message would cost more.
    pub fn set(&mut self, driver: &Driver, at: Option<u64>, stream: &Arc<impl Driven>) {
        if let (Some(at), Some(armed)) = (at, self.armed)
            && armed.at <= at
        {
            return;
        }
        if let Some(armed) = self.armed.take() {
            driver.disarm(armed);
        }
        self.armed = at.and_then(|at| driver.arm(at, stream.clone()));
    }

    /// The stream is driven at `now`: a deadline that has come is used up, one that lies ahead stays.
    pub fn fired(&mut self, now: u64) {
        self.armed = self.armed.filter(|armed| armed.at > now);
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.state.lock().closed = true;
            shared.wake.notify_one();
        }
    }
}

/// The task's own handle: however the task ends, with its runtime too, the streams are let go.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        let left = std::mem::replace(
            &mut *state,
            State {
                closed: true,
                ..State::default()
            },
        );
        drop(state);
        drop(left);
    }
}

async fn run(running: Running, client: Client) {
    let shared = &running.0;
    let mut report: Option<Report> = None;
    let mut due = Vec::with_capacity(STREAMS_PER_TURN);
    loop {
        let (until, is_blocked) = {
            let mut state = shared.state.lock();
            if state.closed {
                break;
            }
            take_due(&mut state, shared.nanos(now()), &mut due);
            let until = state.deadlines.first_key_value().map(|(deadline, _)| deadline.at);
            state.sleeps_until = due.is_empty().then_some(until);
            (until, !state.blocked.is_empty())
        };
        let is_busy = !due.is_empty();
        for stream in due.drain(..) {
            stream.drive(shared.nanos(now()));
        }
        if report.is_none() {
            report = shared.publisher.report_wanted().map(|handed| {
                let client = client.clone();
                Box::pin(async move {
                    // An error means that the connection is closed, and then it does not matter.
                    drop(client.flush().await);
                    handed
                }) as Report
            });
        }
        tokio::select! {
            // Whatever was driven may have left more to do; others get their turn first.
            () = tokio::task::yield_now(), if is_busy => {}
            () = shared.wake.notified() => {}
            () = sleep_until(until.map(|until| shared.moment(until))), if !is_busy => {}
            is_open = shared.publisher.ready(), if is_blocked => release_blocked(shared, is_open),
            handed = reported(&mut report) => {
                shared.publisher.flushed(handed);
                report = None;
            }
        }
    }
}

/// Moves what is to be driven now into `due`, a turn's worth of it.
fn take_due(state: &mut State, now: u64, due: &mut Vec<Arc<dyn Driven>>) {
    let turn = state.runnable.len().min(STREAMS_PER_TURN);
    due.extend(state.runnable.drain(..turn));
    while due.len() < STREAMS_PER_TURN {
        match state.deadlines.first_entry().filter(|entry| entry.key().at <= now) {
            Some(entry) => due.push(entry.remove()),
            None => break,
        }
    }
}

fn release_blocked(shared: &Shared, is_open: bool) {
    let mut state = shared.state.lock();
    let blocked = std::mem::take(&mut state.blocked);
    if is_open {
        state.runnable.extend(blocked);
    } else {
        // Nothing will ever be sent again; the router tells the streams.
        drop(state);
        drop(blocked);
    }
}

/// Says how much has been written, once it is.
type Report = Pin<Box<dyn Future<Output = u64> + Send>>;

async fn reported(report: &mut Option<Report>) -> u64 {
    match report {
        Some(report) => report.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver is where the clock is read")]
fn now() -> Instant {
    Instant::now()
}
