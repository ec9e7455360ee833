//! The caller's half of a stream.

mod config;
mod credit;
mod event;
mod pace;
mod patience;
mod receive;
mod timers;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::time::Duration;

use bytes::Bytes;

use crate::budget::Loan;
use crate::frame::{CloseCode, Frame};
use crate::header::Open;
use crate::items::{Assembly, Chunk, Items, Scanner};
use crate::message::Transmit;
use crate::plain::{PlainDialect, PlainInbound};
use crate::termination::{Clock, Denied, LostCause, Termination};
use crate::time::Instant;
use credit::Credit;
use timers::Timers;

pub use config::{INITIAL_WINDOW, InboundConfig, MIN_WINDOW, NEAR_WINDOW};
pub use event::{ControlUse, InboundEvent, InboundStats};
pub(crate) use patience::Patience;

/// The caller's half of one attempt of a call: takes messages, hands out items and one verdict.
///
/// It has no clock and no I/O. After each call that changes it (`handle`, `poll_items`, `handle_timeout`, `cancel`),
/// drain [`poll_transmit`](Self::poll_transmit) and [`poll_event`](Self::poll_event), then wait until
/// [`poll_timeout`](Self::poll_timeout) or the next message.
///
/// ```text
///  ┌─────────┐ UNIT or BEAT with header ┌────────┐ FIN and all before it ┌──────┐
///  │ opening │ ───────────────────────▶ │ locked │ ────────────────────▶ │ done │
///  └─────────┘                          └────────┘                       └──────┘
///      └── 503, 5 s, clocks, cancel ────────┴── RESET, silence, clocks, cancel ──▲
/// ```
///
/// Memory: `window + one unit`, and the largest item while one is being put together. It is counted as positions count, 256
/// bytes for each unit included.
#[derive(Debug)]
pub struct Inbound {
    sid: Option<u32>,
    next: u64,
    /// Position of the last unit that was accepted.
    last_position: u64,
    /// Has the user seen an item?
    handed_out: bool,
    queue: VecDeque<Queued>,
    scanner: Scanner,
    assembly: Assembly,
    /// What [`poll_item`](Self::poll_item) hands out one by one; hosts that take whole units need none.
    current: Option<Box<Items>>,
    credit: Credit,
    announce: u64,
    /// The control subject is mapped by an account import.
    mapped: bool,
    /// Boxed, like what else is needed once or seldom: ten thousand idle streams have none.
    termination: Option<Box<Termination>>,
    close: Option<CloseCode>,
    timers: Timers,
    events: Events,
    deadline: Option<Duration>,
    mode: Mode,
    /// Bytes that may wait for the user where there is no flow control, and what they are taken from.
    max_buffered: u64,
    /// Boxed: few calls have one.
    loan: Option<Box<Loan>>,
    counters: Counters,
}

/// How this call differs from others.
#[derive(Clone, Copy, Debug)]
struct Mode {
    control: bool,
    probe: bool,
    plain: Option<PlainDialect>,
    /// More than one message of the responder has arrived.
    has_more: bool,
    /// The connection was down before the first message.
    was_down: bool,
    /// Bare empty messages before the first one, where they may be items.
    empties: u16,
}

#[derive(Debug)]
struct Queued {
    chunk: Chunk,
    end: u64,
}

/// What [`InboundStats`] counts beside items, in half the room.
#[derive(Debug, Default)]
struct Counters {
    retransmitted: u32,
    gaps: u32,
    foreign_responder: u32,
    malformed: u32,
    suspicions: u32,
    ignored: u32,
}

#[derive(Debug, Default)]
struct Events {
    locked: bool,
    readable: bool,
    terminated: bool,
}

impl Inbound {
    /// A call whose Open is sent at `now`; send [`open`](Self::open) with it.
    #[must_use]
    pub fn new(config: InboundConfig, now: Instant) -> Self {
        let heartbeat = crate::header::clamp_heartbeat(config.heartbeat);
        let is_weak = !config.control || config.plain.is_some();
        Self {
            sid: None,
            next: 0,
            last_position: 0,
            handed_out: false,
            queue: VecDeque::new(),
            scanner: Scanner::new(config.max_item),
            assembly: Assembly::new(config.assembly_budget.clone()),
            current: None,
            credit: Credit::new(config.max_window, config.budget.clone(), now),
            announce: 0,
            mapped: false,
            termination: None,
            close: None,
            timers: Timers::new(now, heartbeat, &config),
            events: Events::default(),
            deadline: config.deadline,
            mode: Mode {
                control: config.control,
                probe: config.probe,
                plain: config.plain,
                has_more: false,
                was_down: false,
                empties: 0,
            },
            max_buffered: config.max_buffered,
            loan: is_weak.then(|| Box::new(Loan::from(config.buffer_budget))),
            counters: Counters::default(),
        }
    }

    /// What the Open says; [`Open::encode`] gives the value of the header.
    #[must_use]
    pub fn open(&self) -> Open {
        Open {
            limit: self.credit.granted(),
            max_item: Some(self.scanner.max_item()),
            heartbeat: Some(self.timers.heartbeat()),
            deadline: self.deadline,
            control: self.mode.control,
            probe: self.mode.probe,
        }
    }

    /// Goes on as a call in a dialect of rule 65, whose responder has shown itself by a message that is not native.
    ///
    /// What is left of the deadline goes along; the clocks of the user's wait begin anew. Items that were lost while the connection was down would not be missed in such
    /// a dialect: a call that was cut off before is lost.
    #[must_use]
    pub fn into_plain(self, dialect: PlainDialect, now: Instant) -> PlainInbound {
        let mut plain = PlainInbound::from_parts(
            dialect,
            self.scanner.max_item(),
            self.max_buffered,
            self.loan.and_then(|loan| loan.budget()),
            self.timers.into_plain(),
        );
        plain.have_come(self.mode.empties.into());
        if self.mode.was_down {
            plain.handle_disconnected(now);
        }
        plain
    }

    /// The own connection is down. Deadlines and the user's clocks go on; the others stand still (rule 45).
    pub fn handle_disconnected(&mut self, now: Instant) {
        self.mode.was_down |= self.sid.is_none();
        self.timers.disconnected(now);
        if !self.mode.control && self.sid.is_some() {
            // What is lost meanwhile is not sent again, and the end may be among it.
            self.lose(LostCause::Disconnected);
        }
    }

    /// The own connection is back. What may have been lost is asked for; across accounts nothing can come any more
    /// (rules 43 and 62).
    pub fn handle_reconnected(&mut self, now: Instant) {
        if self.mapped {
            self.lose(LostCause::MappingEnded);
        }
        self.timers.reconnected(now);
    }

    /// The user lost interest: nothing more is handed out, and the responder is told.
    ///
    /// A verdict that is known already stays.
    pub fn cancel(&mut self) {
        self.close_with(Termination::Cancelled, CloseCode::Cancelled);
        self.queue = VecDeque::new();
        self.current = None;
        self.assembly = Assembly::default();
        self.credit.take(self.next);
        self.credit.shrink(self.next);
        self.note_buffered();
    }

    /// The user does something else: the clock of its wait, which [`poll_items`](Self::poll_items) started, stands still
    /// until it asks again.
    pub fn pause_waiting(&mut self, now: Instant) {
        self.timers.pause_waiting(now);
    }

    /// The server refused something that the call needs.
    ///
    /// What concerns the request counts only until the responder has shown itself.
    pub fn handle_denied(&mut self, denied: Denied) {
        if denied == Denied::Control || self.sid.is_none() {
            self.terminate(Termination::NotPermitted(denied));
        }
    }

    /// The connection is closed for good: nothing more arrives.
    pub fn handle_closed(&mut self) {
        self.lose(LostCause::Disconnected);
    }

    /// The items of the next unit that has whole ones.
    ///
    /// Asking says that all items handed out before were taken, which gives credit for more. `None` starts the clocks of
    /// the user's wait; look at [`termination`](Self::termination) then.
    pub fn poll_items(&mut self, now: Instant) -> Option<Items> {
        self.credit.release();
        self.note_buffered();
        if self.termination.is_some() {
            self.credit.shrink(self.next);
        }
        while let Some(Queued { chunk, end }) = self.queue.pop_front() {
            let items = self.assembly.accept(chunk);
            if items.is_some() {
                self.credit.lend(end);
                self.timers.stop_waiting();
                self.handed_out = true;
                return items;
            }
            self.credit.take(end);
        }
        // The user waits: a stream that stays idle keeps no room for messages.
        self.queue.shrink_to_fit();
        if self.termination.is_none() {
            self.credit.grow(self.last_position, self.next);
            self.timers.start_waiting(now, !self.handed_out);
        }
        None
    }

    /// The next item: [`poll_items`](Self::poll_items) one by one.
    pub fn poll_item(&mut self, now: Instant) -> Option<Bytes> {
        loop {
            if let Some(item) = self.current.as_mut().and_then(Iterator::next) {
                return Some(item);
            }
            self.current = None;
            self.current = Some(Box::new(self.poll_items(now)?));
        }
    }

    /// The verdict, once it is known. Items that arrived before it may still wait in [`poll_items`](Self::poll_items).
    #[must_use]
    pub fn termination(&self) -> Option<&Termination> {
        self.termination.as_deref()
    }

    /// Was a responder's first message accepted?
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.sid.is_some()
    }

    /// May the responder be one of the dialect that [`InboundConfig::plain`] names?
    #[must_use]
    pub fn may_be_plain(&self) -> bool {
        self.sid.is_none() && self.mode.plain.is_some()
    }

    /// May this side publish to control subjects?
    #[must_use]
    pub fn has_control(&self) -> bool {
        self.mode.control
    }

    /// Has unit 0 arrived? It carries the responder's own headers.
    #[must_use]
    pub fn has_unit(&self) -> bool {
        self.next > 0
    }

    /// Bytes received and not yet taken by the user, as the number line counts them, without what was moved into an item
    /// that is being put together.
    #[must_use]
    pub fn buffered(&self) -> u64 {
        self.credit.outstanding(self.next)
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> InboundStats {
        let Counters {
            retransmitted,
            gaps,
            foreign_responder,
            malformed,
            suspicions,
            ignored,
        } = self.counters;
        InboundStats {
            items: self.scanner.items(),
            retransmitted: retransmitted.into(),
            gaps: gaps.into(),
            foreign_responder: foreign_responder.into(),
            malformed: malformed.into(),
            suspicions: suspicions.into(),
            ignored: ignored.into(),
        }
    }

    /// What happened, each thing once.
    pub fn poll_event(&mut self) -> Option<InboundEvent> {
        if core::mem::take(&mut self.events.locked) {
            return Some(InboundEvent::Locked);
        }
        if core::mem::take(&mut self.events.readable) {
            return Some(InboundEvent::Readable);
        }
        core::mem::take(&mut self.events.terminated).then_some(InboundEvent::Terminated)
    }

    /// Would [`poll_transmit`](Self::poll_transmit) hand out a message?
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        self.sid.is_some()
            && self.mode.control
            && (self.close.is_some()
                || (self.termination.is_none() && (self.timers.is_state_due() || self.credit.is_due(self.next))))
    }

    /// Hands out the next message for the control subject.
    ///
    /// Call it only when the message can be handed to the transport.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let sid = self.sid.filter(|_| self.wants_transmit())?;
        if let Some(code) = self.close.take() {
            return Some(Transmit::plain(Frame::Close { sid, code }.encode(), false));
        }
        let frame = Frame::State {
            sid,
            rewind: self.timers.take_rewind(),
            next: self.next,
            limit: self.credit.grant(now, self.next),
        };
        self.timers.sent_state(now);
        // Across accounts a reply would make one more mapping each time (rule 47).
        Some(Transmit::plain(frame.encode(), !self.mapped))
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.termination.is_some() {
            return None;
        }
        self.timers.next()
    }

    /// Does what is due at `now`; too early a call does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.termination.is_some() {
            return;
        }
        self.timers.restart_if_late(now);
        let due = self.timers.take_due(now);
        if due.clock == Some(Clock::Deadline) {
            self.close_with(Termination::TimedOut(Clock::Deadline), CloseCode::Deadline);
        } else if due.unanswered && self.mode.plain.is_some() {
            // In the dialects of rule 65 nothing comes before the first item.
            self.terminate(Termination::TimedOut(Clock::FirstItem));
        } else if due.unanswered {
            self.terminate(Termination::Unanswered);
        } else if let Some(cause) = due.lost {
            self.lose(self.diagnosed(cause));
        } else if let Some(clock) = due.clock {
            self.close_with(Termination::TimedOut(clock), CloseCode::Cancelled);
        }
    }

    /// Takes memory for what waits, or gives it back. False when there is none, where there is no flow control.
    fn note_buffered(&mut self) -> bool {
        let buffered = self.buffered();
        match self.loan.as_mut().filter(|_| !self.mode.control) {
            Some(loan) => buffered <= self.max_buffered && loan.set(buffered),
            None => true,
        }
    }

    fn gap(&mut self, now: Instant) {
        self.counters.gaps = self.counters.gaps.saturating_add(1);
        if self.mode.control {
            self.timers.gap(now);
        } else {
            self.lose(LostCause::Gap);
        }
    }

    /// What silence means (rule 63): where an export allows for one response only, nothing follows the first message.
    fn diagnosed(&self, cause: LostCause) -> LostCause {
        match cause {
            LostCause::Silent if self.mapped && !self.mode.has_more => LostCause::SingleResponse,
            cause => cause,
        }
    }

    fn lose(&mut self, cause: LostCause) {
        let items = self.scanner.items();
        self.terminate(Termination::Lost { items, cause });
    }

    fn close_with(&mut self, termination: Termination, code: CloseCode) {
        if self.termination.is_none() {
            self.close = Some(code);
            self.terminate(termination);
        }
    }

    fn terminate(&mut self, termination: Termination) {
        if self.termination.is_none() {
            if self.mapped && self.close.is_none() && self.mode.control {
                // The responder must hear of the end while the mapping lasts (rule 61).
                self.close = Some(CloseCode::Cancelled);
            }
            self.termination = Some(Box::new(termination));
            self.credit.shrink(self.next);
            self.events.readable = true;
            self.events.terminated = true;
        }
    }
}
