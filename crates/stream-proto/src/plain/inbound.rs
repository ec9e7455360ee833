//! The caller's half.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use bytes::Bytes;

use super::{END, ERROR, ITEM_COST, PlainDialect};
use crate::budget::{Budget, Loan};
use crate::error::{DecodeError, Malformed};
use crate::inbound::{InboundConfig, InboundEvent, InboundStats, Patience};
use crate::items::Items;
use crate::message::Message;
use crate::status::{Code, MAX_DETAILS, Status};
use crate::termination::{Clock, Denied, LostCause, Termination};
use crate::time::{Instant, earliest};

/// How long a success waits for the word that messages were dropped.
const HOLD: Duration = Duration::from_millis(100);

/// The caller's half of a call in a dialect of rule 65: takes messages, hands out items and one verdict.
///
/// It sends nothing, and is driven as an [`Inbound`](crate::Inbound) otherwise. The verdict of success says that the end was
/// seen, and not that nothing is missing before it. A connection that breaks loses the call, since items may be missing then.
///
/// Memory: [`max_buffered`](InboundConfig::max_buffered).
#[derive(Debug)]
pub struct PlainInbound {
    dialect: PlainDialect,
    max_item: u64,
    max_buffered: u64,
    /// For what waits in the queue.
    loan: Loan,
    queue: VecDeque<Bytes>,
    /// What waits in the queue, with the cost of each item.
    buffered: u64,
    /// Empty messages of the text dialect since the last item: see [`handle`](Self::handle).
    empties: u64,
    items: u64,
    ignored: u64,
    handed_out: bool,
    deadline: Option<Instant>,
    /// Until the first message: nobody may have taken the call.
    unanswered: Option<Instant>,
    patience: Patience,
    termination: Option<Box<Termination>>,
    /// Success, unless something turns out to be missing by then.
    held: Option<Instant>,
    is_readable: bool,
    is_terminated: bool,
}

impl PlainInbound {
    /// A call whose request is sent at `now`, without a header of this protocol.
    #[must_use]
    pub fn new(dialect: PlainDialect, config: &InboundConfig, now: Instant) -> Self {
        let patience = Patience::plain(config.first_item_timeout, config.idle_timeout);
        let deadline = config.deadline.map(|deadline| now + deadline);
        let unanswered = patience.first_wait().map(|wait| now + wait);
        let mut plain = Self::from_parts(
            dialect,
            config.max_item,
            config.max_buffered,
            config.buffer_budget.clone(),
            (deadline, patience),
        );
        plain.unanswered = unanswered;
        plain
    }

    pub(crate) fn from_parts(
        dialect: PlainDialect,
        max_item: u64,
        max_buffered: u64,
        budget: Option<Budget>,
        (deadline, patience): (Option<Instant>, Patience),
    ) -> Self {
        Self {
            dialect,
            max_item,
            max_buffered,
            loan: Loan::from(budget),
            queue: VecDeque::new(),
            buffered: 0,
            empties: 0,
            items: 0,
            ignored: 0,
            handed_out: false,
            deadline,
            unanswered: None,
            patience,
            termination: None,
            held: None,
            // The user may be waiting already; asking again starts the clocks.
            is_readable: true,
            is_terminated: false,
        }
    }

    /// The dialect.
    #[must_use]
    pub fn dialect(&self) -> PlainDialect {
        self.dialect
    }

    /// Takes a message that arrived at the call's reply subject.
    ///
    /// In the text dialect an empty message may be an item, and may be what nats-server ends an answer between accounts with.
    /// Nothing follows in the second case, so it is handed out once something does.
    ///
    /// An end that may follow a loss on this side counts after 100 ms in which none was told.
    pub fn handle(&mut self, now: Instant, message: &Message<'_>) {
        // One with our header is of another dialect, whatever it says.
        if self.termination.is_some() || self.held.is_some() || message.header.is_some() {
            self.ignored += 1;
            return;
        }
        let is_first = self.items == 0 && self.empties == 0;
        match message.status {
            // Only the request had a reply subject.
            Some(503) if is_first => return self.terminate(Termination::NoResponders),
            Some(503) => {
                self.ignored += 1;
                return;
            }
            Some(status) => {
                let text = format!("the answer has the status {status}");
                return self.terminate(Termination::Failed(Status::new(Code::Unknown, text)));
            }
            None => {}
        }
        self.unanswered = None;
        if let Some(error) = message.service_error {
            let details = Some(message.payload.clone()).filter(|payload| payload.len() <= MAX_DETAILS);
            return self.fail(Status {
                details: details.unwrap_or_default(),
                ..error.status()
            });
        }
        let payload = &message.payload;
        match self.dialect {
            PlainDialect::Sentinel if payload.is_empty() => self.complete(now, message.may_follow_loss),
            PlainDialect::Text if payload.is_empty() => {
                self.empties += 1;
                if self.buffered.saturating_add(self.empties * ITEM_COST) > self.max_buffered {
                    self.lose(LostCause::Overflow);
                }
            }
            PlainDialect::Text if **payload == *END => {
                self.take_empties();
                self.complete(now, message.may_follow_loss);
            }
            PlainDialect::Text if payload.starts_with(ERROR) => {
                self.take_empties();
                let text = payload.slice(ERROR.len()..);
                let text = text.strip_prefix(b":").unwrap_or(&text);
                self.fail(Status::new(Code::Unknown, String::from_utf8_lossy(text)));
            }
            _ => {
                self.take_empties();
                self.take(payload.clone());
            }
        }
    }

    /// The own connection is down: what is sent meanwhile is lost, and would not be missed.
    pub fn handle_disconnected(&mut self, _now: Instant) {
        if self.held.is_none() {
            self.lose(LostCause::Disconnected);
        }
    }

    /// This side has dropped messages of the call, or may have.
    pub fn handle_overflow(&mut self) {
        self.held = None;
        self.lose(LostCause::Overflow);
    }

    /// The connection is closed for good.
    pub fn handle_closed(&mut self) {
        self.lose(LostCause::Disconnected);
    }

    /// The server refused something that the call needs. It counts until the responder has shown itself.
    pub fn handle_denied(&mut self, denied: Denied) {
        if denied != Denied::Control && self.items == 0 && self.empties == 0 {
            self.terminate(Termination::NotPermitted(denied));
        }
    }

    /// The user lost interest: nothing more is handed out. A verdict that is known already stays.
    pub fn cancel(&mut self) {
        self.terminate(Termination::Cancelled);
        self.queue = VecDeque::new();
        self.give_back(self.buffered);
    }

    /// The next item. `None` starts the clocks of the user's wait; look at [`termination`](Self::termination) then.
    pub fn poll_items(&mut self, now: Instant) -> Option<Items> {
        if let Some(item) = self.queue.pop_front() {
            self.give_back(item.len() as u64 + ITEM_COST);
            self.handed_out = true;
            return Some(Items::one(item));
        }
        if self.termination.is_none() {
            self.patience.start(now, !self.handed_out);
        }
        None
    }

    /// The user does something else: the clock of its wait stands still until it asks again.
    pub fn pause_waiting(&mut self, now: Instant) {
        self.patience.pause(now);
    }

    /// The verdict, once it is known. Items that arrived before it may still wait in [`poll_items`](Self::poll_items).
    #[must_use]
    pub fn termination(&self) -> Option<&Termination> {
        self.termination.as_deref()
    }

    /// Has anything arrived?
    #[must_use]
    pub fn has_item(&self) -> bool {
        self.items > 0
    }

    /// Counters; only the number of items and what was ignored say anything.
    #[must_use]
    pub fn stats(&self) -> InboundStats {
        InboundStats {
            items: self.items,
            ignored: self.ignored,
            ..InboundStats::default()
        }
    }

    /// What happened, each thing once.
    pub fn poll_event(&mut self) -> Option<InboundEvent> {
        if core::mem::take(&mut self.is_readable) {
            return Some(InboundEvent::Readable);
        }
        core::mem::take(&mut self.is_terminated).then_some(InboundEvent::Terminated)
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.termination.is_some() {
            return None;
        }
        let patience = self.patience.ends().map(|(_, at)| at);
        earliest(self.held, earliest(self.deadline, earliest(self.unanswered, patience)))
    }

    /// Does what is due at `now`; too early a call does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.termination.is_some() {
            return;
        }
        if self.held.is_some() {
            // The end has come: no clock matters any more.
            if passed(self.held) {
                self.end();
            }
        } else if passed(self.deadline) {
            self.terminate(Termination::TimedOut(Clock::Deadline));
        } else if let Some((clock, _)) = self.patience.ends().filter(|(_, at)| *at <= now) {
            self.terminate(Termination::TimedOut(clock));
        } else if passed(self.unanswered) {
            self.terminate(Termination::TimedOut(Clock::FirstItem));
        }
    }

    /// So many empty messages came before it was known that they are of this dialect.
    pub(crate) fn have_come(&mut self, empties: u64) {
        self.empties = empties;
        if empties * ITEM_COST > self.max_buffered || empties == u64::from(u16::MAX) {
            self.lose(LostCause::Overflow);
        }
    }

    /// The empty messages before this one were items.
    fn take_empties(&mut self) {
        for _ in 0..core::mem::take(&mut self.empties) {
            self.take(Bytes::new());
        }
    }

    fn take(&mut self, item: Bytes) {
        if self.termination.is_some() {
            return;
        }
        if item.len() as u64 > self.max_item {
            let error = DecodeError {
                offset: 0,
                what: Malformed::ItemTooLarge,
            };
            return self.terminate(Termination::Protocol(error.into()));
        }
        let cost = item.len() as u64 + ITEM_COST;
        let buffered = self.buffered + cost;
        if buffered > self.max_buffered || !self.loan.set(buffered) {
            return self.lose(LostCause::Overflow);
        }
        self.buffered = buffered;
        self.items += 1;
        self.queue.push_back(item);
        self.patience.stop();
        self.is_readable = true;
    }

    fn give_back(&mut self, cost: u64) {
        self.buffered -= cost;
        self.loan.set(self.buffered);
    }

    fn complete(&mut self, now: Instant, may_follow_loss: bool) {
        if self.termination.is_some() {
            // The last items were too many, or too large.
        } else if may_follow_loss {
            self.held = Some(now + HOLD);
        } else {
            self.end();
        }
    }

    fn end(&mut self) {
        self.held = None;
        self.terminate(Termination::Ended {
            items: self.items,
            trailers: Bytes::new(),
        });
    }

    fn fail(&mut self, status: Status) {
        self.terminate(Termination::Failed(status));
    }

    fn lose(&mut self, cause: LostCause) {
        let items = self.items;
        self.terminate(Termination::Lost { items, cause });
    }

    fn terminate(&mut self, termination: Termination) {
        if self.termination.is_none() {
            self.termination = Some(Box::new(termination));
            self.is_readable = true;
            self.is_terminated = true;
        }
    }
}
