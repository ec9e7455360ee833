//! Answers of one message, which nobody confirms: kept for a while, and sent again when the connection was lost meanwhile, or
//! nobody was subscribed where they went (rules 44, 49 and 54).
//!
//! Most answers of a busy server are such. A stream that is kept costs its state, a route and a timer; here it costs its
//! message and one timer for all.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, Subject};
use natstream_connect::{Connection, DeadlineSlot, Denials, Driven, Driver, RouteToken, headers_len};
use parking_lot::{Mutex, MutexGuard};
use stream_proto::{Answer, Frame, Transmit};
use tokio::sync::oneshot;

use crate::endpoint::EndpointShared;
use crate::stats::count;
use crate::stream::headers;

mod follow;

/// How long an answer is kept, in nanoseconds (rule 54).
const KEEP: u64 = Duration::from_secs(2).as_nanos() as u64;

/// How long after the news that nobody was there it is sent again (rule 49).
const PROBE: u64 = Duration::from_millis(250).as_nanos() as u64;

/// Whoever looks so late at the clocks was asleep: they begin anew (rule 45). No heartbeat is shorter than twice that.
const LATE: u64 = Duration::from_millis(500).as_nanos() as u64;

/// Most answers that are kept, and most bytes of them: about what a connection has under way.
const MAX_ANSWERS: usize = 10_000;
const MAX_BYTES: usize = 16 << 20;

/// What an answer takes beside its payload and its headers.
const ANSWER_COST: usize = 320;

/// Those of one server.
pub(crate) struct Answered {
    driver: Driver,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the time until which they are kept.
    kept: VecDeque<Kept>,
    /// Nobody was there: to be sent again at this time.
    refused: VecDeque<(u64, Kept)>,
    /// To be sent again.
    repeated: VecDeque<Kept>,
    bytes: usize,
    /// The connection is down: the clocks stand still.
    is_down: bool,
    waits: bool,
    deadline: DeadlineSlot,
    /// What follows the connection ends with this; `None` before the first endpoint.
    follower: Option<oneshot::Sender<()>>,
}

/// An answer.
pub(crate) struct Kept {
    pub(crate) endpoint: Weak<EndpointShared>,
    pub(crate) reply: Subject,
    /// Of the control subject that it named.
    pub(crate) control: Option<RouteToken>,
    /// That subject, once nats-server has said there that nobody has heard the answer.
    pub(crate) asked: Option<Subject>,
    pub(crate) transmit: Transmit,
    pub(crate) answer: Option<(u32, Answer)>,
    pub(crate) metadata: Option<Box<HeaderMap>>,
    /// Kept until then; 0 when that counts from the next time it is sent.
    pub(crate) until: u64,
}

impl Kept {
    fn size(&self) -> usize {
        let failure = self.transmit.failure.as_ref();
        let failure = failure.map_or(0, |failure| failure.message.len() + failure.details.len());
        self.transmit.payload.len() + failure + self.metadata.as_deref().map_or(0, headers_len) + ANSWER_COST
    }

    fn message(&self) -> OutboundMessage {
        OutboundMessage {
            subject: self.reply.clone(),
            // So that nats-server says it again when nobody is there.
            reply: self.asked.clone(),
            headers: headers(
                self.answer.as_ref().map(|(_, answer)| answer),
                &self.transmit,
                self.metadata.as_deref(),
            ),
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

    /// Hears of the connection from now on: a server's answers come after its first endpoint.
    pub(crate) fn follow(self: &Arc<Self>, connection: &Connection) {
        let mut state = self.state.lock();
        if state.follower.is_none() {
            state.follower = Some(follow::begin(self, connection));
        }
    }

    /// Keeps an answer that was handed over.
    pub(crate) fn keep(self: &Arc<Self>, mut answer: Kept) {
        let now = self.now();
        answer.until = now.saturating_add(KEEP);
        let mut state = self.state.lock();
        state.bytes += answer.size();
        state.keep(answer);
        self.settle(state, now);
    }

    /// Nobody was subscribed where the answer went that named this control subject. False when it is none of these.
    pub(crate) fn no_responders(self: &Arc<Self>, control: &Subject) -> bool {
        let now = self.now();
        let mut state = self.state.lock();
        let is_it = |answer: &Kept| answer.control.is_some_and(|token| token.is_of(control));
        let Some(mut answer) = state.kept.iter().rposition(is_it).and_then(|at| state.kept.remove(at)) else {
            return false;
        };
        answer.asked = Some(control.clone());
        if let Some(endpoint) = answer.endpoint.upgrade() {
            count(&endpoint.counters.suspicions);
        }
        state.refused.push_back((now.saturating_add(PROBE), answer));
        self.settle(state, now);
        true
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
        let refused = std::mem::take(&mut state.refused);
        let all = kept.into_iter().chain(refused.into_iter().map(|(_, answer)| answer));
        state.repeated.extend(all.map(|answer| Kept { until: 0, ..answer }));
        self.settle(state, now);
    }

    /// nats-server has refused messages: these are never sent again.
    fn denied(&self, denied: &Denials) {
        let mut refused = Vec::new();
        let mut state = self.state.lock();
        let mut bytes = 0;
        state.kept.retain(|answer| {
            let is_denied = denied.publish(&answer.reply);
            if is_denied {
                bytes += answer.size();
                refused.push((answer.endpoint.clone(), answer.reply.clone()));
            }
            !is_denied
        });
        state.bytes -= bytes;
        drop(state);
        for (endpoint, reply) in refused {
            if let Some(endpoint) = endpoint.upgrade() {
                endpoint.denied(&reply);
            }
        }
    }

    /// The connection was closed.
    fn clear(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.kept.clear();
        state.refused.clear();
        state.repeated.clear();
        state.bytes = 0;
        self.settle(state, 0);
    }

    fn settle(self: &Arc<Self>, mut state: MutexGuard<'_, State>, now: u64) {
        state.probe(now);
        self.repeat(&mut state, now);
        state.forget(now);
        let next = state.next().filter(|_| !state.is_down);
        state.deadline.set(&self.driver, next, self);
    }

    fn repeat(self: &Arc<Self>, state: &mut State, now: u64) {
        while !state.repeated.is_empty() && !state.waits && !state.is_down {
            let mut under_way: Option<Kept> = None;
            let mut waits = false;
            let handed = self.driver.hand_over(self, &mut waits, || {
                if let Some(sent) = under_way.take() {
                    state.sent(sent);
                }
                let mut answer = state.repeated.pop_front()?;
                if answer.until == 0 {
                    answer.until = now.saturating_add(KEEP);
                }
                let message = answer.message();
                under_way = Some(answer);
                Some(message)
            });
            state.waits |= waits;
            match (handed, under_way) {
                (Err(error), Some(answer)) => {
                    // It would be refused each time: nats-server takes only smaller messages now (rule 14).
                    tracing::warn!(%error, "an answer could not be sent again");
                    state.bytes -= answer.size();
                    self.reset(&answer);
                }
                (_, Some(answer)) => state.sent(answer),
                (_, None) => {}
            }
        }
    }

    /// Tells the caller that there is no answer any more.
    fn reset(&self, answer: &Kept) {
        if let Some((sid, _)) = answer.answer {
            let _ = self.driver.try_send(OutboundMessage {
                subject: answer.reply.clone(),
                reply: None,
                headers: None,
                payload: Frame::Reset { sid }.encode(),
            });
        }
    }
}

impl State {
    fn keep(&mut self, answer: Kept) {
        // Nearly always behind all others, which are not in a cache.
        if self.kept.back().is_none_or(|last| last.until <= answer.until) {
            return self.kept.push_back(answer);
        }
        let at = self.kept.partition_point(|other| other.until <= answer.until);
        self.kept.insert(at, answer);
    }

    /// An answer was sent again.
    fn sent(&mut self, answer: Kept) {
        if let Some(endpoint) = answer.endpoint.upgrade() {
            count(&endpoint.counters.retransmitted);
        }
        self.keep(answer);
    }

    /// When something is due.
    fn next(&self) -> Option<u64> {
        let kept = self.kept.front().map(|answer| answer.until);
        let refused = self.refused.front().map(|(due, _)| *due);
        kept.into_iter().chain(refused).min()
    }

    /// Those are sent again that nobody heard a while ago, unless their time is over.
    fn probe(&mut self, now: u64) {
        while !self.is_down
            && self.refused.front().is_some_and(|(due, _)| *due <= now)
            && let Some((due, answer)) = self.refused.pop_front()
        {
            if due < answer.until {
                self.repeated.push_back(answer);
            } else {
                self.bytes -= answer.size();
            }
        }
    }

    /// Forgets those whose time is over, and the oldest ones that there is no room for.
    fn forget(&mut self, now: u64) {
        let is_late = |answer: &Kept| answer.until.saturating_add(LATE) < now;
        if !self.is_down && self.kept.front().is_some_and(is_late) {
            let until = now.saturating_add(KEEP);
            self.kept.iter_mut().for_each(|answer| answer.until = until);
        }
        while !self.is_down
            && self.kept.front().is_some_and(|answer| answer.until <= now)
            && let Some(answer) = self.kept.pop_front()
        {
            self.bytes -= answer.size();
        }
        while self.bytes > MAX_BYTES || self.kept.len() + self.refused.len() + self.repeated.len() > MAX_ANSWERS {
            let refused = || self.refused.pop_front().map(|(_, answer)| answer);
            let oldest = self.repeated.pop_front().or_else(refused);
            let Some(answer) = oldest.or_else(|| self.kept.pop_front()) else {
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

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Answered")
            .field("kept", &state.kept.len())
            .field("bytes", &state.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
