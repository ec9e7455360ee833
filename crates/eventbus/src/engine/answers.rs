//! What happens to events: answers, time, and the connection.

use super::lists::{List, NONE};
use super::slot::{State, Token};
use super::{Engine, EngineConfig};
use crate::error::{PublishError, PublishErrorKind};
use crate::pause::pause;
use crate::reply::{Meaning, Refusal, Stored};

impl<W> Engine<W> {
    /// The stream has the event: an ack of any of its attempts counts.
    pub(crate) fn handle_stored(&mut self, token: Token, stored: Stored<'_>) {
        if let Some((index, _)) = self.find(token) {
            self.ack(index, stored);
        }
    }

    /// The stream does not have the event: that counts only if it answers the last attempt.
    pub(crate) fn handle_refusal(&mut self, now: u64, token: Token, refusal: Refusal) {
        if let Some((index, true)) = self.find(token) {
            self.refuse(now, index, refusal);
        }
    }

    /// The event that the attempt was for, and whether it is the one that is under way.
    fn find(&self, token: Token) -> Option<(u32, bool)> {
        let slot = self.slots.get(token.slot())?;
        let generation = token.generation();
        let is_former = generation <= slot.generation_before || generation > slot.generation;
        if slot.event.is_none() || is_former {
            return None;
        }
        let is_last = generation == slot.generation && matches!(slot.state, State::InFlight { .. });
        Some((token.slot() as u32, is_last))
    }

    fn refuse(&mut self, now: u64, index: u32, refusal: Refusal) {
        let meaning = refusal.meaning();
        let slot = &mut self.slots[index as usize];
        slot.refusal = Some(Box::new(refusal));
        match meaning {
            Meaning::InProcess => {
                slot.in_doubt = true;
                self.retry_later(now, index);
            }
            Meaning::Later => self.retry_later(now, index),
            Meaning::Full => self.fail(index, PublishErrorKind::StreamFull, false),
            Meaning::Never => self.fail(index, PublishErrorKind::Rejected, false),
            Meaning::TooLarge => self.fail(index, PublishErrorKind::TooLarge, false),
            Meaning::WrongLast => self.fail(index, PublishErrorKind::WrongLast, false),
        }
    }

    fn retry_later(&mut self, now: u64, index: u32) {
        let refusals = self.slots[index as usize].refusals;
        let pause = self.pause(refusals);
        self.enter(index, State::Waiting);
        let slot = &mut self.slots[index as usize];
        slot.refusals = refusals.saturating_add(1);
        let due = now.saturating_add(pause).min(slot.deadline);
        self.wheel.set(index, due);
    }

    /// Between a half and the whole of a pause that doubles: many publishers that were refused together come back apart.
    pub(super) fn pause(&mut self, refusals: u32) -> u64 {
        let EngineConfig {
            first_pause,
            longest_pause,
            ..
        } = self.config;
        pause(first_pause, longest_pause, refusals, &mut self.jitter)
    }

    /// Does what is due: deadlines, answers that did not come, pauses that are over.
    pub(crate) fn handle_timeout(&mut self, now: u64) {
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.expire(now, &mut expired);
        // The buckets of the wheel know no order.
        expired.sort_unstable_by_key(|index| self.slots[*index as usize].number);
        for index in expired.drain(..) {
            self.expire(now, index);
        }
        self.expired = expired;
    }

    fn expire(&mut self, now: u64, index: u32) {
        let slot = &mut self.slots[index as usize];
        if now >= slot.deadline {
            self.miss_deadline(index);
            return;
        }
        let deadline = slot.deadline;
        match slot.state {
            State::InFlight { .. } => {
                slot.in_doubt = true;
                slot.unanswered = slot.unanswered.saturating_add(1);
                self.enter(index, State::Ready);
            }
            State::Waiting => self.enter(index, State::Ready),
            State::Behind | State::Ready => {}
        }
        self.wheel.set(index, deadline);
    }

    fn miss_deadline(&mut self, index: u32) {
        let has_id = self.has_id(index);
        let slot = &self.slots[index as usize];
        let is_unanswered = matches!(slot.state, State::InFlight { .. });
        let nobody = slot.refusal.as_ref().is_some_and(|refusal| refusal.is_no_responders());
        let kind = match nobody {
            _ if is_unanswered && !has_id => PublishErrorKind::Unknown,
            true => PublishErrorKind::NoResponders,
            false => PublishErrorKind::Timeout,
        };
        self.fail(index, kind, is_unanswered);
    }

    /// Whatever was sent on the connection that was the `epoch`th, or on an earlier one, gets no answer any more, or one that
    /// nobody can wait for: it is sent again, in order and before all that is new. What has no id fails.
    pub(crate) fn handle_disconnect(&mut self, epoch: u64) {
        let is_lost = |state| matches!(state, State::InFlight { epoch: sent } if sent <= epoch);
        self.fail_where(PublishErrorKind::Unknown, |engine, index| {
            (is_lost(engine.slots[index as usize].state) && !engine.has_id(index)).then_some(true)
        });
        // The ready ones are linked anew, with those that were lost among them.
        self.ready = List::EMPTY;
        let mut index = self.order.first;
        while index != NONE {
            let slot = &mut self.slots[index as usize];
            if is_lost(slot.state) {
                slot.in_doubt = true;
                let deadline = slot.deadline;
                self.enter(index, State::Ready);
                self.wheel.set(index, deadline);
            } else if slot.state == State::Ready {
                self.ready_links.push(&mut self.ready, index);
            }
            index = self.order_links.after(index);
        }
    }

    /// The attempt `token` was not taken by the connection, and never will be.
    pub(crate) fn handle_not_sent(&mut self, token: Token, kind: PublishErrorKind) {
        let slot = self.slots.get(token.slot());
        if slot.is_some_and(|slot| slot.event.is_some() && slot.generation == token.generation()) {
            self.fail(token.slot() as u32, kind, false);
        }
    }

    /// nats-server does not let this user publish to the subjects that `denied` knows.
    ///
    /// It does not say which messages it refused: when the permission was taken away meanwhile, the stream may have some of
    /// them. Only before the first ack it is taken for certain that there never was one.
    pub(crate) fn handle_denied(&mut self, denied: impl Fn(&str) -> bool) {
        self.fail_where(PublishErrorKind::NotPermitted, |engine, index| {
            let slot = &engine.slots[index as usize];
            let subject = slot.event.as_ref().map_or("", |event| event.subject());
            (matches!(slot.state, State::InFlight { .. }) && denied(subject)).then_some(engine.counts.acked > 0)
        });
    }

    /// No answer will ever come: all fail, for this reason.
    pub(crate) fn handle_end(&mut self, kind: PublishErrorKind) {
        self.fail_where(kind, |engine, index| {
            Some(matches!(engine.slots[index as usize].state, State::InFlight { .. }))
        });
    }

    /// As [`handle_end`](Self::handle_end), and says what has failed by that.
    pub(crate) fn give_up(&mut self, kind: PublishErrorKind) -> Vec<PublishError> {
        let before = self.settled.len();
        self.handle_end(kind);
        let given_up = self.settled.iter().skip(before);
        given_up
            .filter_map(|settled| settled.outcome.as_ref().err().cloned())
            .collect()
    }

    /// Fails the events for which `which` says so, and whether the last attempt may be stored.
    fn fail_where(&mut self, kind: PublishErrorKind, which: impl Fn(&Self, u32) -> Option<bool>) {
        let mut index = self.order.first;
        while index != NONE {
            let next = self.order_links.after(index);
            if let Some(may_be_stored) = which(self, index) {
                self.fail(index, kind, may_be_stored);
            }
            index = next;
        }
    }
}
