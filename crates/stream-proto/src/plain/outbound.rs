//! The responder's half.

use alloc::collections::VecDeque;
use alloc::string::ToString as _;
use core::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{END, ERROR, ITEM_COST, PlainDialect};
use crate::message::{Class, Message, Transmit};
use crate::outbound::{CloseReason, OutboundConfig, OutboundEvent, OutboundStats, PushError};
use crate::status::{Code, MAX_MESSAGE, Status, cut};
use crate::time::{Instant, earliest};

/// Bytes that may wait for the own connection; it is all that holds a sender up.
const MAX_QUEUED: u64 = 256 * 1024;

/// An item carries a reply subject so often, to find out whether anybody is there (rule 64).
const PROBE: Duration = Duration::from_secs(1);

/// The same, once there was nobody.
const PROBE_AGAIN: Duration = Duration::from_millis(250);

/// A probe that was not refused for this long has reached somebody.
const CALM: Duration = Duration::from_secs(1);

/// This long with nobody there: the caller is gone.
const GONE: Duration = Duration::from_secs(5);

/// The responder's half of a call in a dialect of rule 65: takes items, hands out messages.
///
/// It is driven as an [`Outbound`](crate::Outbound). Nothing is kept for sending again, and no credit is waited for: a caller
/// that reads too slowly is cut off by nats-server. Once something was sent, a connection that breaks fails the stream, since
/// what was lost with it would not be missed.
///
/// Memory: 256 KiB and one item, while the connection takes nothing.
#[derive(Debug)]
pub struct PlainOutbound {
    dialect: PlainDialect,
    mapped: bool,
    max_item: u64,
    outage_limit: Duration,
    queue: VecDeque<Bytes>,
    /// Bytes in the queue, with the cost of each item.
    queued: u64,
    waits: bool,
    has_begun: bool,
    end: Option<Status>,
    /// Messages of the end that were not handed out yet.
    left: Ending,
    closed: Option<CloseReason>,
    forgotten: bool,
    outage: Option<Instant>,
    presence: Presence,
    events: Events,
    stats: OutboundStats,
}

/// What is left to send after the items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The end itself, and the bare empty message where one is due.
    Both,
    /// The bare empty message.
    Bare,
    Nothing,
}

/// Is anybody there?
#[derive(Debug, Default)]
struct Presence {
    probed: Option<Instant>,
    /// The first of the refusals in a row.
    refused: Option<Instant>,
    /// The first probe since the last refusal.
    unrefused: Option<Instant>,
}

#[derive(Debug, Default)]
struct Events {
    ready: bool,
    closed: bool,
    forgotten: bool,
}

impl PlainOutbound {
    /// Answers a request in `dialect`. Of the settings `max_item`, `mapped` and `outage_limit` count; an item must fit into a
    /// message, so `max_message` is a limit too.
    #[must_use]
    pub fn new(dialect: PlainDialect, config: &OutboundConfig, max_message: usize) -> Self {
        Self {
            dialect,
            mapped: config.mapped,
            max_item: config.max_item.min(max_message as u64),
            outage_limit: config.outage_limit,
            queue: VecDeque::new(),
            queued: 0,
            waits: false,
            has_begun: false,
            end: None,
            left: Ending::Both,
            closed: None,
            forgotten: false,
            outage: None,
            presence: Presence::default(),
            events: Events::default(),
            stats: OutboundStats::default(),
        }
    }

    /// Largest item that [`push`](Self::push) takes.
    #[must_use]
    pub fn max_item(&self) -> u64 {
        self.max_item
    }

    /// Counters; only the items, their bytes and the suspicions say anything.
    #[must_use]
    pub fn stats(&self) -> OutboundStats {
        self.stats
    }

    /// Why the stream ended before [`finish`](Self::finish), if it did.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// How the stream ends, once that was said.
    #[must_use]
    pub fn end(&self) -> Option<&Status> {
        self.end.as_ref()
    }

    /// Was the first message handed out?
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Is the stream over, so that the machine can be dropped?
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// Takes an item, which is a message.
    ///
    /// # Errors
    /// [`PushError`]; the item was not taken then. One that the dialect cannot represent ends the stream.
    pub fn push(&mut self, item: &[u8]) -> Result<(), PushError> {
        if !self.is_open() {
            return Err(PushError::Ended);
        }
        if !self.dialect.can_represent(item) {
            let text = match self.dialect {
                PlainDialect::Text => {
                    "an item that is empty or begins with a signal cannot be sent in the text dialect"
                }
                PlainDialect::Sentinel => "an empty item cannot be sent in the sentinel dialect",
            };
            self.finish(Status::new(Code::Internal, text));
            return Err(PushError::NotRepresentable);
        }
        if item.len() as u64 > self.max_item {
            return Err(PushError::TooLarge {
                size: item.len() as u64,
                max: self.max_item,
            });
        }
        if self.queued >= MAX_QUEUED {
            return Err(PushError::Blocked);
        }
        self.queue.push_back(Bytes::copy_from_slice(item));
        self.queued += item.len() as u64 + ITEM_COST;
        self.stats.items += 1;
        self.stats.bytes += item.len() as u64;
        Ok(())
    }

    /// Says that a handler waits for room; [`OutboundEvent::Ready`] ends the wait.
    pub fn wait_for_room(&mut self) {
        self.waits = self.is_open();
        self.note_ready();
    }

    /// Ends the stream, after everything that was pushed. Without effect when it has ended before.
    pub fn finish(&mut self, status: Status) {
        if self.is_open() {
            self.end = Some(status);
        }
    }

    /// Ends the stream at once: `status` takes the place of all that was not yet sent.
    pub fn abort(&mut self, status: Status, reason: CloseReason) {
        let is_sent = self.end.is_some() && self.queue.is_empty();
        if self.closed.is_none() && !is_sent {
            self.replace(status, reason);
        }
    }

    /// A message could not be sent at all: the stream fails, also when its handler has said that all is well. False when the
    /// end was handed out before.
    pub fn fail_unsent(&mut self, status: Status) -> bool {
        let is_open = self.left == Ending::Both && !self.forgotten;
        if is_open {
            self.replace(status, CloseReason::Local);
        }
        is_open
    }

    /// Gives the stream up: nothing more is sent.
    pub fn give_up(&mut self, reason: CloseReason) {
        self.close(reason);
        self.forget();
    }

    /// The caller has left, as somebody else says. A mapping is ended.
    pub fn handle_left(&mut self) {
        if self.forgotten {
            return;
        }
        self.queue = VecDeque::new();
        self.queued = 0;
        self.close(CloseReason::Cancelled);
        if self.mapped {
            self.left = Ending::Bare;
        } else {
            self.forget();
        }
    }

    /// Takes a message that arrived at the control subject: a 503 says that a probe reached nobody.
    pub fn handle(&mut self, now: Instant, message: &Message<'_>) {
        if self.forgotten || message.class() != Class::NoResponders {
            return;
        }
        self.presence.unrefused = None;
        self.stats.suspicions += u64::from(self.presence.refused.is_none());
        let since = *self.presence.refused.get_or_insert(now);
        if now.saturating_since(since) >= GONE {
            self.give_up(CloseReason::Gone);
        }
    }

    /// The own connection is down. What was on its way may be lost, and the caller would not miss it: it is told that the
    /// stream has failed.
    pub fn handle_disconnected(&mut self, now: Instant) {
        self.outage.get_or_insert(now + self.outage_limit);
        self.presence = Presence::default();
        if self.left == Ending::Bare && self.end.as_ref().is_some_and(|end| !end.is_ok()) {
            // The error may be lost; what follows it would read as success.
            self.left = Ending::Both;
        } else if self.has_begun && self.left == Ending::Both && !self.forgotten {
            let status = Status {
                retryable: true,
                ..Status::new(
                    Code::Unavailable,
                    "the responder's connection was lost; items may be missing",
                )
            };
            self.replace(status, CloseReason::Disconnected);
        }
    }

    /// The own connection is back.
    pub fn handle_reconnected(&mut self) {
        self.outage = None;
    }

    /// Would [`poll_transmit`](Self::poll_transmit) hand out a message?
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        !self.forgotten && (!self.queue.is_empty() || self.end.is_some() || self.left == Ending::Bare)
    }

    /// Hands out the next message. Call it only when the message can be handed to the transport.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if !self.wants_transmit() {
            return None;
        }
        if let Some(payload) = self.queue.pop_front() {
            self.queued -= payload.len() as u64 + ITEM_COST;
            self.note_ready();
            return Some(Transmit {
                metadata: !core::mem::replace(&mut self.has_begun, true),
                ..Transmit::plain(payload, !self.mapped && self.presence.probe(now))
            });
        }
        let has_begun = core::mem::replace(&mut self.has_begun, true);
        let end = self.end.as_ref().filter(|_| self.left == Ending::Both);
        let mut transmit = end.map_or_else(bare_empty, |status| self.dialect.end(status));
        // In the sentinel dialect success is the bare empty message itself.
        let is_bare = transmit.payload.is_empty() && transmit.failure.is_none();
        transmit.metadata = !is_bare && !has_begun;
        let needs_bare = self.mapped || self.dialect == PlainDialect::Sentinel;
        if is_bare || !needs_bare {
            self.left = Ending::Nothing;
            self.forget();
        } else {
            self.left = Ending::Bare;
        }
        Some(transmit)
    }

    /// What happened, each thing once.
    pub fn poll_event(&mut self) -> Option<OutboundEvent> {
        if core::mem::take(&mut self.events.ready) {
            return Some(OutboundEvent::Ready);
        }
        if core::mem::take(&mut self.events.closed) {
            return self.closed.map(OutboundEvent::Closed);
        }
        core::mem::take(&mut self.events.forgotten).then_some(OutboundEvent::Forgotten)
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let calm = self.presence.refused.and(self.presence.unrefused).map(|at| at + CALM);
        earliest(self.outage, calm).filter(|_| !self.forgotten)
    }

    /// Does what is due at `now`; too early a call does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.forgotten && self.outage.is_some_and(|at| at <= now) {
            self.give_up(CloseReason::Disconnected);
        }
        self.presence.settle(now);
    }

    fn is_open(&self) -> bool {
        self.end.is_none() && self.closed.is_none()
    }

    fn replace(&mut self, status: Status, reason: CloseReason) {
        self.queue = VecDeque::new();
        self.queued = 0;
        self.end = Some(status);
        self.close(reason);
    }

    fn note_ready(&mut self) {
        if self.waits && self.queued < MAX_QUEUED {
            self.waits = false;
            self.events.ready = true;
        }
    }

    fn close(&mut self, reason: CloseReason) {
        if self.closed.is_none() {
            self.closed = Some(reason);
            self.events.closed = true;
        }
    }

    fn forget(&mut self) {
        self.events.forgotten |= !self.forgotten;
        self.forgotten = true;
        self.queue = VecDeque::new();
        self.queued = 0;
    }
}

impl Presence {
    /// Does the item that leaves now carry a probe?
    fn probe(&mut self, now: Instant) -> bool {
        self.settle(now);
        let wait = if self.refused.is_some() { PROBE_AGAIN } else { PROBE };
        let is_due = self.probed.is_none_or(|at| now.saturating_since(at) >= wait);
        if is_due {
            self.probed = Some(now);
            self.unrefused.get_or_insert(now);
        }
        is_due
    }

    /// A probe that nobody refused ends the suspicion.
    fn settle(&mut self, now: Instant) {
        if self.unrefused.is_some_and(|at| now.saturating_since(at) >= CALM) {
            self.refused = None;
        }
    }
}

impl PlainDialect {
    /// The message that ends a stream.
    fn end(self, status: &Status) -> Transmit {
        match self {
            Self::Sentinel if status.is_ok() => bare_empty(),
            Self::Sentinel => Transmit {
                failure: Some(status.clone()),
                ..bare_empty()
            },
            Self::Text if status.is_ok() => Transmit::plain(Bytes::from_static(END), false),
            Self::Text => {
                let code = status.code.to_string();
                let text = if status.message.is_empty() {
                    &code
                } else {
                    &status.message
                };
                let text = cut(text, MAX_MESSAGE);
                let mut payload = BytesMut::with_capacity(ERROR.len() + 1 + text.len());
                payload.put_slice(ERROR);
                payload.put_u8(b':');
                payload.put_slice(text.as_bytes());
                Transmit::plain(payload.freeze(), false)
            }
        }
    }
}

fn bare_empty() -> Transmit {
    Transmit::plain(Bytes::new(), false)
}
