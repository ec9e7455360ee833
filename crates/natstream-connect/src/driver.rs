//! One task for all streams of a connection: their timers, and those that wait to send.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::Client;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::publisher::Publisher;

/// How many streams are driven before others get the processor: about 100 µs of work at 1–2 µs each.
const STREAMS_PER_TURN: usize = 64;

/// A stream, as its driver sees it.
pub trait Driven: Send + Sync + 'static {
    /// Does what is due at `now`: timers, and what waits to be sent.
    ///
    /// It must not block. A deadline that was armed counts as used up.
    fn drive(self: Arc<Self>, now: Instant);
}

/// A deadline that was armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    at: Instant,
    id: u64,
}

impl Deadline {
    /// When it is due.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.at
    }
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
    wake: Notify,
    next_id: AtomicU64,
    publisher: Publisher,
}

#[derive(Default)]
struct State {
    /// To be driven as soon as possible.
    runnable: Vec<Arc<dyn Driven>>,
    /// To be driven when the connection takes messages again.
    blocked: Vec<Arc<dyn Driven>>,
    deadlines: BTreeMap<Deadline, Arc<dyn Driven>>,
    /// What the task sleeps until; `None` while it is awake.
    sleeps_until: Option<Option<Instant>>,
    closed: bool,
}

struct Alive {
    shared: Weak<Shared>,
}

impl Driver {
    pub(crate) fn spawn(client: Client) -> Self {
        let shared = Arc::new(Shared {
            publisher: Publisher::new(client.clone()),
            origin: now(),
            state: Mutex::default(),
            wake: Notify::new(),
            next_id: AtomicU64::new(0),
        });
        #[expect(clippy::disallowed_methods, reason = "this is the driver's task")]
        tokio::spawn(run(shared.clone(), client));
        Self {
            _alive: Arc::new(Alive {
                shared: Arc::downgrade(&shared),
            }),
            shared,
        }
    }

    /// The connection's sending side.
    #[must_use]
    pub fn publisher(&self) -> &Publisher {
        &self.shared.publisher
    }

    /// The time, as the driver's deadlines count it.
    #[must_use]
    pub fn now(&self) -> Instant {
        now()
    }

    /// `at` in nanoseconds since this driver began: time as the state machines take it.
    #[must_use]
    pub fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.shared.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The moment that [`nanos`](Self::nanos) gives this number for; about 30 years from now when it is too far away.
    #[must_use]
    pub fn at_nanos(&self, nanos: u64) -> Instant {
        const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
        self.shared.origin + Duration::from_nanos(nanos).min(FAR)
    }

    /// Drives `stream` soon, in the driver's task.
    pub fn schedule(&self, stream: Arc<dyn Driven>) {
        self.shared.state.lock().runnable.push(stream);
        self.shared.wake.notify_one();
    }

    /// Drives `stream` when the connection takes messages again.
    pub fn wait_ready(&self, stream: Arc<dyn Driven>) {
        let mut state = self.shared.state.lock();
        state.blocked.push(stream);
        // Only the first needs to wake the task, which looks at the list before it sleeps.
        if state.blocked.len() == 1 {
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    /// Drives `stream` at `at`. Cancel with [`disarm`](Self::disarm) what is not needed any more: it keeps the stream alive.
    #[must_use = "keep it to disarm it"]
    pub fn arm(&self, at: Instant, stream: Arc<dyn Driven>) -> Deadline {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let deadline = Deadline { at, id };
        let mut state = self.shared.state.lock();
        state.deadlines.insert(deadline, stream);
        let is_earlier = state
            .sleeps_until
            .is_some_and(|until| until.is_none_or(|until| at < until));
        if is_earlier {
            drop(state);
            self.shared.wake.notify_one();
        }
        deadline
    }

    /// Forgets a deadline. One that was used up is no error.
    pub fn disarm(&self, deadline: Deadline) {
        self.shared.state.lock().deadlines.remove(&deadline);
    }

    /// Streams with a deadline, and streams that wait to send: for leak checks.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let state = self.shared.state.lock();
        (state.deadlines.len(), state.blocked.len())
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

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.state.lock().closed = true;
            shared.wake.notify_one();
        }
    }
}

async fn run(shared: Arc<Shared>, client: Client) {
    let mut report: Option<Report> = None;
    let mut due = Vec::new();
    loop {
        let (until, is_blocked) = {
            let mut state = shared.state.lock();
            if state.closed {
                break;
            }
            take_due(&mut state, &mut due);
            let until = state.deadlines.first_key_value().map(|(deadline, _)| deadline.at);
            state.sleeps_until = due.is_empty().then_some(until);
            (until, !state.blocked.is_empty())
        };
        if !due.is_empty() {
            for (count, stream) in due.drain(..).enumerate() {
                stream.drive(now());
                if count % STREAMS_PER_TURN == STREAMS_PER_TURN - 1 {
                    tokio::task::yield_now().await;
                }
            }
            continue;
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
            () = shared.wake.notified() => {}
            () = sleep_until(until) => {}
            is_open = shared.publisher.ready(), if is_blocked => {
                let mut state = shared.state.lock();
                let blocked = std::mem::take(&mut state.blocked);
                if is_open {
                    state.runnable.extend(blocked);
                } else {
                    // Nothing will ever be sent again; the streams' timers end them.
                    drop(state);
                    drop(blocked);
                }
            }
            handed = reported(&mut report) => {
                shared.publisher.flushed(handed);
                report = None;
            }
        }
    }
}

/// Moves what is to be driven now into `due`.
fn take_due(state: &mut State, due: &mut Vec<Arc<dyn Driven>>) {
    due.append(&mut state.runnable);
    let now = now();
    while let Some(entry) = state.deadlines.first_entry().filter(|entry| entry.key().at <= now) {
        due.push(entry.remove());
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
