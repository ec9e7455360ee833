//! Answers of one message, which nobody confirms: kept for a while, and sent again when the connection was lost meanwhile
//! (rules 44 and 54).
//!
//! Most answers of a busy server are such. A stream that is kept costs its state, a route and a timer; here it costs its
//! message and one timer for all.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, Subject};
use natstream_connect::{Connection, ConnectionState, DeadlineSlot, Driven, Driver};
use parking_lot::{Mutex, MutexGuard};
use stream_proto::{Answer, Transmit};
use tokio::sync::{oneshot, watch};

use crate::stream::headers;

/// How long an answer is kept, in nanoseconds (rule 54).
const KEEP: u64 = Duration::from_secs(2).as_nanos() as u64;

/// Most answers that are kept, and most bytes of them: about what a connection has under way.
const MAX_ANSWERS: usize = 10_000;
const MAX_BYTES: usize = 16 << 20;

/// What an answer takes beside its payload.
const ANSWER_COST: usize = 256;

/// Those of one server.
pub(crate) struct Answered {
    driver: Driver,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// As they were sent.
    kept: VecDeque<Kept>,
    /// To be sent again.
    repeated: VecDeque<Kept>,
    bytes: usize,
    /// The connection is down: the clocks stand still.
    is_down: bool,
    waits: bool,
    deadline: DeadlineSlot,
    /// What follows the connection ends with this; `None` before the first answer.
    follower: Option<oneshot::Sender<()>>,
}

/// An answer.
pub(crate) struct Kept {
    pub(crate) reply: Subject,
    pub(crate) transmit: Transmit,
    pub(crate) answer: Option<Answer>,
    pub(crate) metadata: Option<Box<HeaderMap>>,
    /// Kept until then.
    pub(crate) until: u64,
}

impl Kept {
    fn size(&self) -> usize {
        self.transmit.payload.len() + ANSWER_COST
    }

    fn message(&self) -> OutboundMessage {
        OutboundMessage {
            subject: self.reply.clone(),
            reply: None,
            headers: headers(self.answer.as_ref(), &self.transmit, self.metadata.as_deref()),
            payload: self.transmit.payload.clone(),
        }
    }
}

impl Answered {
    pub(crate) fn new(driver: Driver) -> Arc<Self> {
        Arc::new(Self {
            driver,
            state: Mutex::default(),
        })
    }

    /// Keeps an answer that was handed over, on this connection.
    pub(crate) fn keep(self: &Arc<Self>, connection: &Connection, mut answer: Kept) {
        let now = self.now();
        answer.until = now.saturating_add(KEEP);
        let mut state = self.state.lock();
        if state.follower.is_none() {
            let (gone, is_gone) = oneshot::channel();
            let changes = connection.state();
            let seen = *changes.borrow();
            connection
                .runtime()
                .spawn(follow(Arc::downgrade(self), changes, seen, is_gone));
            state.follower = Some(gone);
        }
        state.bytes += answer.size();
        state.kept.push_back(answer);
        self.settle(state, now);
    }

    fn now(&self) -> u64 {
        self.driver.nanos(self.driver.now())
    }

    fn went_down(self: &Arc<Self>) {
        let now = self.now();
        let mut state = self.state.lock();
        state.forget(now);
        state.is_down = true;
        self.settle(state, now);
    }

    /// Nobody knows which of them have arrived.
    fn came_back(self: &Arc<Self>) {
        let now = self.now();
        let mut state = self.state.lock();
        state.is_down = false;
        let kept = std::mem::take(&mut state.kept);
        state.repeated.extend(kept);
        self.settle(state, now);
    }

    /// The connection was closed.
    fn clear(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.kept.clear();
        state.repeated.clear();
        state.bytes = 0;
        self.settle(state, 0);
    }

    fn settle(self: &Arc<Self>, mut state: MutexGuard<'_, State>, now: u64) {
        self.repeat(&mut state, now);
        state.forget(now);
        let next = state.kept.front().filter(|_| !state.is_down).map(|answer| answer.until);
        state.deadline.set(&self.driver, next, self);
    }

    fn repeat(self: &Arc<Self>, state: &mut State, now: u64) {
        if state.repeated.is_empty() || state.waits || state.is_down {
            return;
        }
        let State {
            repeated, kept, waits, ..
        } = state;
        let handed = self.driver.hand_over(self, waits, || {
            let mut answer = repeated.pop_front()?;
            answer.until = now.saturating_add(KEEP);
            let message = answer.message();
            kept.push_back(answer);
            Some(message)
        });
        if let Err(error) = handed {
            // It was taken once; only a closed connection refuses it now.
            tracing::debug!(%error, "an answer could not be sent again");
        }
    }
}

impl State {
    /// Forgets those whose time is over, and the oldest ones that there is no room for.
    fn forget(&mut self, now: u64) {
        while !self.is_down
            && self.kept.front().is_some_and(|answer| answer.until <= now)
            && let Some(answer) = self.kept.pop_front()
        {
            self.bytes -= answer.size();
        }
        while self.bytes > MAX_BYTES || self.kept.len() + self.repeated.len() > MAX_ANSWERS {
            let Some(answer) = self.repeated.pop_front().or_else(|| self.kept.pop_front()) else {
                return;
            };
            self.bytes -= answer.size();
        }
    }
}

impl Driven for Answered {
    fn drive(self: Arc<Self>, now: u64) {
        let mut state = self.state.lock();
        state.waits = false;
        state.deadline.fired(now);
        self.settle(state, now);
    }
}

/// Tells of the connection until the server and its answers are gone.
async fn follow(
    answered: Weak<Answered>,
    mut changes: watch::Receiver<ConnectionState>,
    mut seen: ConnectionState,
    mut gone: oneshot::Receiver<()>,
) {
    loop {
        let is_open = tokio::select! {
            changed = changes.changed() => changed.is_ok(),
            _ = &mut gone => return,
        };
        let now = *changes.borrow_and_update();
        let Some(answered) = answered.upgrade() else { return };
        if !is_open || now.is_closed() {
            return answered.clear();
        }
        if !now.is_connected() {
            answered.went_down();
        } else if now.epoch != seen.epoch || !seen.is_connected() {
            answered.came_back();
        }
        seen = now;
    }
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Answered")
            .field("kept", &state.kept.len())
            .field("bytes", &state.bytes)
            .finish_non_exhaustive()
    }
}
