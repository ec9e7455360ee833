//! The window of events that are not acked yet, as a machine without I/O: time and answers are arguments.
//!
//! ```text
//!             ┌────────── answer lost, connection lost ──────────┐
//!             ▼                                                  │
//!  accept ─▶ Ready ── poll_transmit ─▶ InFlight ── handle_reply ─┼─▶ acked
//!     │       ▲                           │ 503, 429             └─▶ failed
//!     ▼       └──────── pause over ── Waiting
//!   Behind (strict): until the older event of its subject is settled
//! ```
//!
//! Every event ends exactly once, as acked or as failed; its deadline fails it in any state.
//! After each call: take what [`Engine::poll_transmit`] gives while the connection takes messages, and what
//! [`Engine::poll_settled`] gives; call [`Engine::handle_timeout`] at [`Engine::poll_timeout`].

mod answers;
mod config;
mod lists;
mod slot;
#[cfg(test)]
mod tests;
mod wheel;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::subject::Subject;
use bytes::Bytes;

use self::lists::{Links, List, NONE};
use self::slot::{Slot, State};
use self::wheel::Wheel;
use crate::error::{PublishError, PublishErrorKind};
use crate::event::Event;
use crate::reply::PublishAck;
use crate::watcher::Settled;

pub(crate) use self::config::EngineConfig;
pub use self::config::{Dedup, Ordering};
pub(crate) use self::slot::Token;

/// The largest window that tokens can number.
pub(crate) const MAX_WINDOW: usize = slot::MAX_WINDOW;

/// The window. `W` is whoever wants to know what becomes of an event.
#[derive(Debug)]
pub(crate) struct Engine<W> {
    config: EngineConfig,
    slots: Vec<Slot<W>>,
    free: Vec<u32>,
    /// All events, as they were accepted.
    order: List,
    order_links: Links,
    /// Those in state `Ready`, as they are to be sent.
    ready: List,
    ready_links: Links,
    /// The last event of each subject, by the subject's hash: whoever comes next queues behind it. Two subjects with one
    /// hash wait for each other, which does no harm.
    lanes: HashMap<u64, u32>,
    lane_links: Links,
    hasher: RandomState,
    wheel: Wheel,
    expired: Vec<u32>,
    settled: VecDeque<Settled<W>>,
    /// The last stream that has answered: its name is allocated once.
    stream: Option<Arc<str>>,
    in_flight: usize,
    next_number: u64,
    jitter: u64,
    counts: Counts,
}

/// What has happened so far. `accepted = acked + failed + pending` at any moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) acked: u64,
    pub(crate) duplicates: u64,
    pub(crate) failed: u64,
    pub(crate) pending: usize,
    pub(crate) pending_bytes: usize,
    /// Attempts after the first.
    pub(crate) retried: u64,
}

/// One attempt, to be handed to the connection.
#[derive(Debug)]
pub(crate) struct Transmission<'a> {
    pub(crate) token: Token,
    pub(crate) subject: &'a Subject,
    pub(crate) payload: &'a Bytes,
    pub(crate) headers: Option<&'a HeaderMap>,
    /// The event's number, if it gets its id from the bus.
    pub(crate) id: Option<u64>,
}

impl<W> Engine<W> {
    pub(crate) fn new(config: EngineConfig, now: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            order: List::EMPTY,
            order_links: Links::default(),
            ready: List::EMPTY,
            ready_links: Links::default(),
            lanes: HashMap::new(),
            lane_links: Links::default(),
            hasher: RandomState::new(),
            wheel: Wheel::new(now),
            expired: Vec::new(),
            settled: VecDeque::new(),
            stream: None,
            in_flight: 0,
            next_number: 0,
            jitter: config.seed,
            counts: Counts::default(),
            config,
        }
    }

    /// Is there room for an event of this size? A single one is taken whatever its size.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        let Counts {
            pending, pending_bytes, ..
        } = self.counts;
        pending < self.config.window && (pending == 0 || size <= self.config.window_bytes.saturating_sub(pending_bytes))
    }

    /// Is so much free that it pays to wake whoever waits for room? An eighth of the window, or all that will become free
    /// soon: a wake-up for every ack would cost more than the ack.
    pub(crate) fn is_roomy(&self) -> bool {
        let EngineConfig {
            window, window_bytes, ..
        } = self.config;
        let part = |whole: usize| whole - whole / 8;
        self.in_flight == 0 || self.counts.pending <= part(window) && self.counts.pending_bytes <= part(window_bytes)
    }

    /// Takes an event for which there [is room](Self::has_room).
    pub(crate) fn accept(&mut self, now: u64, event: Event, watcher: Option<W>) {
        let index = self.free.pop().unwrap_or_else(|| self.grow());
        let size = event.size();
        let deadline = event.own_deadline().map_or(self.config.deadline, crate::nanos);
        let lane = match self.config.ordering {
            Ordering::Fast => None,
            Ordering::Strict => Some(self.hasher.hash_one(event.subject())),
        };
        let slot = &mut self.slots[index as usize];
        *slot = Slot {
            event: Some(event),
            watcher,
            generation: slot.generation,
            generation_before: slot.generation,
            number: self.next_number,
            size,
            deadline: now.saturating_add(deadline),
            state: State::Behind,
            lane,
            ..Slot::free()
        };
        self.next_number += 1;
        self.counts.accepted += 1;
        self.counts.pending += 1;
        self.counts.pending_bytes += size;
        self.order_links.push(&mut self.order, index);
        self.wheel.set(index, self.slots[index as usize].deadline);
        let before = lane.and_then(|lane| self.lanes.insert(lane, index));
        if let Some(before) = before {
            self.lane_links.join(before, index);
        } else {
            self.lane_links.alone(index);
            self.enter(index, State::Ready);
        }
    }

    /// The next attempt to hand over. `epoch` says how often the connection has been made, as was seen before this is called:
    /// an attempt that counts for an older one is taken for lost once more, which does no harm.
    pub(crate) fn poll_transmit(&mut self, now: u64, epoch: u64) -> Option<Transmission<'_>> {
        let index = self.ready.first;
        if index == NONE {
            return None;
        }
        self.enter(index, State::InFlight { epoch });
        let has_id = self.has_id(index);
        let slot = &mut self.slots[index as usize];
        slot.generation += 1;
        slot.attempts = slot.attempts.saturating_add(1);
        self.counts.retried += u64::from(slot.attempts > 1);
        // Without an id it cannot be sent again, so an answer may take until the deadline.
        // A stream that is slow is asked less and less often.
        let patience = self.config.ack_timeout.saturating_mul(1 << slot.unanswered.min(4));
        let answer_by = now.saturating_add(patience);
        let due = if has_id {
            answer_by.min(slot.deadline)
        } else {
            slot.deadline
        };
        self.wheel.set(index, due);
        let slot = &self.slots[index as usize];
        let event = slot.event.as_ref()?;
        let is_given = self.config.dedup == Dedup::Id && !event.has_message_id();
        Some(Transmission {
            token: Token::new(index, slot.generation),
            subject: &event.subject,
            payload: &event.payload,
            headers: event.headers(),
            id: is_given.then_some(slot.number),
        })
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), which may be early.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.wheel.next()
    }

    /// What has become of an event; each is said once.
    pub(crate) fn poll_settled(&mut self) -> Option<Settled<W>> {
        self.settled.pop_front()
    }

    /// Is there something for [`poll_settled`](Self::poll_settled)?
    pub(crate) fn has_settled(&self) -> bool {
        !self.settled.is_empty()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Is anything to be handed over?
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The number that the next event gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// The number of the oldest event that is not settled.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let first = self.order.first;
        (first != NONE).then(|| self.slots[first as usize].number)
    }

    /// How many events with a number below this one are not settled.
    pub(crate) fn pending_before(&self, number: u64) -> u64 {
        self.in_order()
            .take_while(|index| self.slots[*index as usize].number < number)
            .count() as u64
    }

    fn in_order(&self) -> impl Iterator<Item = u32> {
        let some = |index: u32| (index != NONE).then_some(index);
        std::iter::successors(some(self.order.first), move |index| {
            some(self.order_links.after(*index))
        })
    }

    /// Can the stream know the event when it comes again?
    fn has_id(&self, index: u32) -> bool {
        let event = self.slots[index as usize].event.as_ref();
        self.config.dedup == Dedup::Id || event.is_some_and(Event::has_message_id)
    }

    fn grow(&mut self) -> u32 {
        self.slots.push(Slot::free());
        self.order_links.grow();
        self.ready_links.grow();
        self.lane_links.grow();
        self.wheel.grow();
        self.slots.len() as u32 - 1
    }

    /// Changes the state of an event, and what depends on it.
    fn enter(&mut self, index: u32, state: State) {
        self.leave(index);
        self.slots[index as usize].state = state;
        match state {
            State::InFlight { .. } => self.in_flight += 1,
            State::Ready => self.ready_links.push(&mut self.ready, index),
            State::Behind | State::Waiting => {}
        }
    }

    fn leave(&mut self, index: u32) {
        match self.slots[index as usize].state {
            State::InFlight { .. } => self.in_flight -= 1,
            State::Ready => self.ready_links.remove(&mut self.ready, index),
            State::Behind | State::Waiting => {}
        }
    }

    /// Gives the slot of a settled event back, and lets the next event of its subject go.
    fn release(&mut self, index: u32) {
        self.leave(index);
        self.wheel.unset(index);
        self.order_links.remove(&mut self.order, index);
        let slot = &mut self.slots[index as usize];
        slot.state = State::Behind;
        self.counts.pending -= 1;
        self.counts.pending_bytes -= slot.size;
        if let Some(lane) = slot.lane.take() {
            let (before, after) = (self.lane_links.before(index), self.lane_links.after(index));
            self.lane_links.part(index);
            match (before, after) {
                (NONE, NONE) => drop(self.lanes.remove(&lane)),
                (before, NONE) => drop(self.lanes.insert(lane, before)),
                (NONE, next) => self.enter(next, State::Ready),
                _ => {}
            }
        }
        self.free.push(index);
    }

    fn ack(&mut self, index: u32, stored: crate::reply::Stored<'_>) {
        self.counts.acked += 1;
        self.counts.duplicates += u64::from(stored.is_duplicate);
        let slot = &mut self.slots[index as usize];
        slot.event = None;
        slot.refusal = None;
        if let Some(watcher) = slot.watcher.take() {
            let stream = match &self.stream {
                Some(known) if **known == *stored.stream => known.clone(),
                _ => self.stream.insert(Arc::from(&*stored.stream)).clone(),
            };
            self.settled.push_back(Settled {
                watcher: Some(watcher),
                outcome: Ok(PublishAck {
                    stream,
                    sequence: stored.sequence,
                    is_duplicate: stored.is_duplicate,
                    domain: stored.domain.as_deref().map(Arc::from),
                }),
            });
        }
        self.release(index);
    }

    /// `may_be_stored` besides earlier doubts.
    fn fail(&mut self, index: u32, kind: PublishErrorKind, may_be_stored: bool) {
        let slot = &mut self.slots[index as usize];
        let Some(event) = slot.event.take() else {
            return;
        };
        self.counts.failed += 1;
        let error = PublishError::new(event, kind, slot.attempts, slot.in_doubt || may_be_stored)
            .with_refusal(slot.refusal.take().map(|refusal| *refusal));
        self.settled.push_back(Settled {
            watcher: slot.watcher.take(),
            outcome: Err(error),
        });
        self.release(index);
    }
}
