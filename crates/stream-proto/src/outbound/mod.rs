//! The responder's half of a stream.

mod config;
mod event;
mod receive;
mod timers;
mod units;

use bytes::Bytes;

use crate::budget::Loan;
use crate::frame::{Frame, MAX_UNIT};
use crate::header::{Answer, Open};
use crate::inbound::NEAR_WINDOW;
use crate::message::Transmit;
use crate::status::{Code, Status};
use crate::time::Instant;
use timers::Timers;
use units::{Sealed, Units};

pub use config::{MIN_UNIT, OutboundConfig};
pub use event::{CloseReason, OutboundEvent, OutboundStats, PushError};

/// Units below this position may be sent before the caller has confirmed the stream (rule 29).
const UNCONFIRMED_LIMIT: u64 = 64 * 1024;

/// The responder's half of one attempt of a call: takes items, hands out messages.
///
/// It has no clock and no I/O. After each call that changes it (`push`, `wait_for_credit`, `flush`, `finish`, `abort`,
/// `handle`, `handle_timeout`), drain [`poll_transmit`](Self::poll_transmit) and [`poll_event`](Self::poll_event), then wait
/// until [`poll_timeout`](Self::poll_timeout) or the next message.
///
/// ```text
///           push/flush          finish/abort,             CLOSE, linger over
///                               deadline, stall
///  ┌──────┐ ──────────▶ ┌──────┐ ──────────▶ ┌────────┐ ──────────▶ ┌───────────┐
///  │ idle │             │ open │             │ ending │             │ forgotten │
///  └──────┘             └──────┘             └────────┘             └───────────┘
///      └── CLOSE, silence ──┴───────────────────────────────────────────▲
/// ```
///
/// Memory: `min(retention, granted) + one unit`, of which what is above 2 MiB comes out of a budget; the item that did not fit into the credit as a whole, and the end. It is
/// counted as positions count: the 256 bytes for each unit stand for its bookkeeping. A buffer is never larger than twice
/// what it holds and 256 bytes.
#[derive(Debug)]
pub struct Outbound {
    sid: u32,
    units: Units,
    max_item: u64,
    /// At most this, which was announced.
    max_retention: u64,
    /// What is kept above [`NEAR_WINDOW`].
    far: Loan,
    limit: u64,
    confirmed: bool,
    mapped: bool,
    /// Without it nothing comes from the caller, and nothing is kept (rule 66).
    control: bool,
    /// What is left of a long item that outran the credit.
    rest: Bytes,
    /// The handler waits for credit.
    waits: bool,
    end: Option<Status>,
    end_sealed: bool,
    closed: Option<CloseReason>,
    announce: u64,
    beat_due: bool,
    /// The beat that is due announces the control subject to a caller that may not know it.
    announce_due: bool,
    /// The beat that is due goes before any unit.
    beat_first: bool,
    forgotten: bool,
    /// A bare empty message is to end the mapping (rule 60).
    farewell_due: bool,
    timers: Timers,
    events: Events,
    answer: Answer,
    rewound: Option<(u64, Instant)>,
    stats: OutboundStats,
}

#[derive(Debug, Default)]
struct Events {
    ready: bool,
    closed: bool,
    forgotten: bool,
}

impl Outbound {
    /// Answers `open`, which arrived at `now`, as the stream `sid` (a fresh random number, rule 4).
    ///
    /// `config.max_unit` is raised to [`MIN_UNIT`] and lowered to [`MAX_UNIT`].
    #[must_use]
    pub fn new(sid: u32, open: &Open, config: &OutboundConfig, now: Instant) -> Self {
        let heartbeat = crate::header::clamp_heartbeat(open.heartbeat.unwrap_or(config.heartbeat));
        Self {
            sid,
            units: Units::new(sid, config.max_unit.clamp(MIN_UNIT, MAX_UNIT)),
            max_item: open.max_item.map_or(config.max_item, |max| max.min(config.max_item)),
            max_retention: config.retention.max(1),
            far: Loan::from(config.retention_budget.clone()),
            // Rule 16 says at least 1, and `Open` can be built by hand.
            limit: open.limit.max(1),
            confirmed: false,
            mapped: config.mapped,
            control: open.control,
            rest: Bytes::new(),
            waits: false,
            end: None,
            end_sealed: false,
            closed: None,
            announce: 0,
            beat_due: false,
            announce_due: false,
            beat_first: false,
            forgotten: false,
            farewell_due: false,
            timers: Timers::new(now, heartbeat, config, open),
            events: Events::default(),
            answer: Answer {
                retention: if open.control {
                    config.retention.max(1)
                } else {
                    u64::MAX
                },
                heartbeat,
                control: open.control,
            },
            rewound: None,
            stats: OutboundStats::default(),
        }
    }

    /// The stream id.
    #[must_use]
    pub fn sid(&self) -> u32 {
        self.sid
    }

    /// What goes into the header of a [`Transmit`] whose `header` is set.
    #[must_use]
    pub fn answer(&self) -> Answer {
        self.answer
    }

    /// Largest item that [`push`](Self::push) takes: the smaller of both sides' limits.
    #[must_use]
    pub fn max_item(&self) -> u64 {
        self.max_item
    }

    /// May the caller publish to the control subject? Without, nothing comes from it, and nothing is kept (rule 66).
    #[must_use]
    pub fn has_control(&self) -> bool {
        self.control
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> OutboundStats {
        self.stats
    }

    /// Bytes kept at this moment, the unit under construction included.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.units.kept() + self.rest.len() as u64
    }

    /// Why the stream ended before [`finish`](Self::finish), if it did.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// How the stream ends, once that was said by [`finish`](Self::finish) or [`abort`](Self::abort).
    #[must_use]
    pub fn end(&self) -> Option<&Status> {
        self.end.as_ref()
    }

    /// Does [`push`](Self::push) take an item?
    #[inline]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.rest.is_empty() && self.is_open() && self.units.open_position() < self.effective_limit()
    }

    /// Takes an item and encodes it into the message under construction.
    ///
    /// Full messages can be fetched with [`poll_transmit`](Self::poll_transmit) at once; the rest waits for
    /// [`flush`](Self::flush). An item of 4 KiB or more travels alone. Of a long item that exceeds the credit, the rest is
    /// copied and sent as credit arrives; until then nothing else is taken.
    ///
    /// # Errors
    /// [`PushError`]; the item was not taken then, and the stream is as before.
    #[inline]
    pub fn push(&mut self, item: &[u8]) -> Result<(), PushError> {
        if !self.is_open() {
            return Err(PushError::Ended);
        }
        if item.len() as u64 > self.max_item {
            return Err(PushError::TooLarge {
                size: item.len() as u64,
                max: self.max_item,
            });
        }
        let limit = self.effective_limit();
        if !self.rest.is_empty() || self.units.open_position() >= limit {
            return Err(PushError::Blocked);
        }
        let rest = self.units.put(item, limit);
        if !rest.is_empty() {
            self.rest = Bytes::copy_from_slice(rest);
        }
        self.stats.items += 1;
        self.stats.bytes += item.len() as u64;
        Ok(())
    }

    /// Says that a handler waits for credit since `now`: the caller is told with heartbeats, and the stall limit runs.
    ///
    /// [`OutboundEvent::Ready`] ends the wait; it comes at once when there is credit.
    pub fn wait_for_credit(&mut self, now: Instant) {
        if self.is_ready() {
            self.events.ready = true;
        } else if self.is_open() {
            self.waits = true;
            if self.control {
                self.timers.blocked(now);
            }
        }
    }

    /// Closes the message under construction, so that it can be sent.
    ///
    /// The driver calls it when the handler yields: nothing waits for more items.
    pub fn flush(&mut self) {
        if self.is_open() {
            self.units.seal();
        }
    }

    /// Ends the stream: everything pushed so far precedes the end, also when `status` is a failure (rule 51).
    ///
    /// Without effect when it has ended before.
    pub fn finish(&mut self, status: Status) {
        if self.is_open() {
            self.end = Some(status);
            self.seal_end();
        }
    }

    /// Ends the stream at once: `status` takes the place of all that was not yet sent, without credit (rule 58).
    ///
    /// Without effect when the end was sent before.
    pub fn abort(&mut self, status: Status, reason: CloseReason) {
        let end_was_sent = self.end_sealed && self.units.sent() == self.units.open_position();
        if self.closed.is_some() || self.forgotten || end_was_sent {
            return;
        }
        self.rest = Bytes::new();
        self.units.discard_unsent();
        self.units.seal_fin(&status);
        self.end = Some(status);
        self.end_sealed = true;
        self.close(reason);
    }

    /// The own connection is down. Deadlines go on; the other clocks stand still (rule 45).
    pub fn handle_disconnected(&mut self, now: Instant) {
        self.timers.disconnected(now);
    }

    /// The own connection is back: the caller is told where the stream stands (rule 44).
    pub fn handle_reconnected(&mut self, now: Instant) {
        if self.forgotten {
            return;
        }
        self.timers.reconnected(now);
        if !self.control {
            // What was lost stays lost; the caller sees the gap.
        } else if self.is_end_sent() {
            self.units.repeat_last();
        } else if self.units.sent() > 0 {
            self.beat_first = true;
            if self.mapped {
                self.announce_due = true;
            } else {
                self.beat_due = true;
            }
        }
    }

    /// Would [`poll_transmit`](Self::poll_transmit) hand out a message?
    #[inline]
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        ((self.beat_due || self.announce_due) && self.units.sent() > 0)
            || self.farewell_due
            || self.sendable().is_some()
    }

    /// Hands out the next message, if one may be sent now.
    ///
    /// Call it only when the message can be handed to the transport: what is returned counts as sent (rule 67).
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if core::mem::take(&mut self.farewell_due) {
            return Some(Transmit::plain(Bytes::new(), false));
        }
        // Units first, but for the beat that says after a reconnect where the stream stands (rule 44).
        let unit = if self.beat_first { None } else { self.poll_unit(now) };
        let transmit = match unit {
            None if self.beat_due || self.announce_due => Some(self.beat(now)),
            unit => unit,
        };
        self.note_blocked(now);
        transmit
    }

    /// What happened, each thing once.
    pub fn poll_event(&mut self) -> Option<OutboundEvent> {
        if core::mem::take(&mut self.events.ready) && self.is_ready() {
            return Some(OutboundEvent::Ready);
        }
        if core::mem::take(&mut self.events.closed) {
            return self.closed.map(OutboundEvent::Closed);
        }
        core::mem::take(&mut self.events.forgotten).then_some(OutboundEvent::Forgotten)
    }

    /// Was the end handed out, and everything before it? Only the caller's confirmation is missing then.
    #[must_use]
    pub fn is_end_sent(&self) -> bool {
        self.end_sealed && self.units.sent() == self.units.open_position()
    }

    /// Was the first message handed out?
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.units.sent() > 0
    }

    /// Was the end handed out, without a sign yet that it arrived? An answer in one message gets none, and does not count.
    #[must_use]
    pub fn awaits_close(&self) -> bool {
        self.is_end_sent() && !self.forgotten && !self.timers.is_single()
    }

    /// When the whole answer was one message, and that was handed out: forgets the stream, and gives the message again.
    ///
    /// It is for hosts of many short calls, which keep the message in place of a machine with timers and a control subject:
    /// for 2 s, in which the clock stands still while their own connection is down. When it is back, the message is sent
    /// again and the 2 s begin anew (rules 44 and 54); 250 ms after a 503 at its control subject it is sent again, naming
    /// that (rule 49). `None` where there is more to a stream, or a mapping to be ended.
    pub fn release(&mut self) -> Option<Transmit> {
        if self.forgotten || self.mapped || !self.control || !self.timers.is_single() || !self.is_end_sent() {
            return None;
        }
        let payload = self.units.last()?.payload.clone();
        let failure = self.end.as_ref().filter(|status| !status.is_ok()).cloned();
        self.forget();
        Some(Transmit {
            payload,
            header: true,
            metadata: true,
            control: false,
            failure,
        })
    }

    /// Gives the stream up: nothing more is sent, and nothing is kept.
    ///
    /// For what cannot be sent at all: the connection was closed, or takes only smaller messages now (rule 14). Tell the
    /// caller with a [`Frame::Reset`] if that is possible.
    pub fn give_up(&mut self, reason: CloseReason) {
        self.close(reason);
        self.forget();
    }

    /// Is the stream over, so that the machine can be dropped?
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called. Changes only through the calls named above.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.forgotten {
            return None;
        }
        self.timers.next()
    }

    /// Does what is due at `now`; too early a call does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.forgotten {
            return;
        }
        self.timers.restart_if_late(now);
        let due = self.timers.take_due(now);
        if due.first {
            self.units.seal_first();
        }
        self.beat_due |= due.beat;
        self.announce_due |= due.announce;
        if due.repeat_end || (due.probe && self.is_end_sent()) {
            self.units.repeat_last();
        } else {
            self.beat_due |= due.probe;
        }
        if due.deadline {
            self.abort(
                Status::new(Code::DeadlineExceeded, "the deadline of the call passed"),
                CloseReason::Deadline,
            );
        }
        if due.stalled {
            self.abort(
                Status::new(Code::Aborted, "the caller did not read for longer than the stall limit"),
                CloseReason::Stalled,
            );
        }
        if let Some(reason) = due.closed {
            self.give_up(reason);
        } else if due.forget {
            self.farewell_due = self.mapped;
            self.forget();
        }
    }

    fn is_open(&self) -> bool {
        self.end.is_none() && self.closed.is_none()
    }

    /// Starts the clocks of a blocked sender when there is something that only credit can move.
    ///
    /// It is enough to look after each message: what is pushed beyond the credit follows a unit that must leave first.
    fn note_blocked(&mut self, now: Instant) {
        if self.forgotten || !self.control || self.sendable().is_some() {
            return;
        }
        let waits = self.waits && self.is_open() && !self.is_ready();
        let holds = !self.rest.is_empty() || self.units.next().is_some();
        if waits || holds || (self.units.has_open_data() && self.units.open_position() >= self.effective_limit()) {
            self.timers.blocked(now);
        }
    }

    /// How much may be sent ahead of what the caller has acknowledged.
    fn retention(&self) -> u64 {
        if self.far.is_unlimited() {
            return self.max_retention;
        }
        NEAR_WINDOW.min(self.max_retention) + self.far.taken()
    }

    /// Takes what the caller grants above [`NEAR_WINDOW`] if this stream is `ahead` far enough to need it, and gives it back
    /// if not.
    fn keep_ahead(&mut self, ahead: u64) {
        let granted = self.limit.saturating_sub(self.units.acked());
        let more = granted.min(self.max_retention).saturating_sub(NEAR_WINDOW);
        // When there is not enough, it stays with what it has: the caller reports as often as a small one needs (rule 32).
        self.far.set(if ahead < NEAR_WINDOW / 2 { 0 } else { more });
    }

    /// Units are begun and sent below this position.
    fn effective_limit(&self) -> u64 {
        if !self.control {
            // There is no credit: what holds a sender up is its own connection.
            return self.units.sent().saturating_add(self.retention());
        }
        let limit = self.limit.min(self.units.acked().saturating_add(self.retention()));
        if self.confirmed {
            limit
        } else {
            limit.min(UNCONFIRMED_LIMIT)
        }
    }

    /// Builds units from a long item as far as the credit goes, then the end if it waits.
    fn refill(&mut self) {
        if !self.rest.is_empty() {
            let rest = core::mem::take(&mut self.rest);
            let limit = self.effective_limit();
            let left = self.units.put_rest(&rest, limit).len();
            self.rest = rest.slice(rest.len() - left..);
        }
        self.seal_end();
    }

    fn seal_end(&mut self) {
        if let Some(status) = self.end.as_ref().filter(|_| !self.end_sealed && self.rest.is_empty()) {
            self.units.seal_fin(status);
            self.end_sealed = true;
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
        self.beat_due = false;
        self.announce_due = false;
        self.beat_first = false;
        self.rest = Bytes::new();
        self.units.clear();
        self.far.set(0);
    }

    /// The unit to send next, if credit allows it now.
    fn sendable(&self) -> Option<&Sealed> {
        let unit = self.units.next()?;
        let exempt = unit.fin && !unit.has_data();
        (exempt || unit.position < self.effective_limit()).then_some(unit)
    }

    fn poll_unit(&mut self, now: Instant) -> Option<Transmit> {
        let unit = self.sendable()?;
        let (position, fin) = (unit.position, unit.fin);
        let payload = unit.payload.clone();
        let repeated = unit.end <= self.units.sent();
        self.units.advance();
        if repeated {
            self.stats.retransmitted += 1;
        }
        let first = position == 0;
        let is_refusal = first && fin && self.end.as_ref().is_some_and(|status| status.not_processed);
        let control = if self.mapped {
            // A repeated end too, while the caller may not know the control subject: no beat follows that would say it.
            (first && !fin && !repeated) || (fin && repeated && !first && !self.confirmed)
        } else {
            self.control && !is_refusal && (!self.confirmed || (fin && repeated))
        };
        self.timers.sent_unit(now, fin, control || self.mapped);
        if fin {
            // From here on the end is repeated in place of beats.
            self.beat_due = false;
            self.announce_due = false;
            self.beat_first = false;
        }
        let failure = self.end.as_ref().filter(|status| fin && !status.is_ok()).cloned();
        if !self.control {
            self.sent_once(fin);
        }
        Some(Transmit {
            payload,
            header: first || !self.confirmed,
            metadata: first,
            control: control && self.control,
            failure,
        })
    }

    /// A unit of a stream without control was handed out: it is not kept, and after the last one nothing is.
    fn sent_once(&mut self, fin: bool) {
        self.units.ack(self.units.sent());
        if fin {
            self.farewell_due = self.mapped;
            self.forget();
        } else {
            self.refill();
            if self.waits && self.is_ready() {
                self.waits = false;
                self.events.ready = true;
            }
        }
    }

    fn beat(&mut self, now: Instant) -> Transmit {
        // An import gives a mapped control subject a new alias each time, which the server keeps for ever. So it goes along
        // only where rule 23 asks for it, each time with a higher number.
        let control = !self.mapped || self.announce_due;
        self.beat_due = false;
        self.announce_due = false;
        self.beat_first = false;
        let announces = self.mapped && control;
        if announces {
            self.announce += 1;
        }
        let payload = Frame::Beat {
            sid: self.sid,
            announce: if announces { self.announce } else { 0 },
            position: self.units.cursor_position(),
        }
        .encode();
        self.timers.sent_beat(now);
        Transmit {
            header: !self.confirmed,
            ..Transmit::plain(payload, control)
        }
    }
}
