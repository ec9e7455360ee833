//! Which message is handled next, and what becomes of one that was.

use natstream_connect::Driver;

use super::Session;
use crate::consume::crew::Attempted;
use crate::consume::exceeded::GivenUp;
use crate::consume::message::Message;
use crate::consume::word::Word;
use crate::consume::work::Verdict;
use crate::lanes::Ticket;

impl Session {
    /// Has all handled that may be.
    pub(super) fn start(&mut self, now: u64) {
        let mut began = Driver::clock();
        while let Some((ticket, message)) = self.next(now) {
            if !self.crew.is_free() {
                self.crew.add(ticket, message);
            } else if let Some(attempted) = self.crew.begin(ticket, message, &mut began) {
                self.finish_attempt(attempted);
            }
        }
    }

    /// A message that may be handled now.
    pub(super) fn next(&mut self, now: u64) -> Option<(Ticket, Message)> {
        while let Some((ticket, message)) = self.lanes.next() {
            if !self.crew.is_suspect(&message) {
                return Some((ticket, message));
            }
            // All of them must find room: the one that has ended the process may come last. A limit says how many are taken.
            if self.inner.settings.limit.is_none()
                && let Some(held) = self.held.get_mut(&message.sequence())
                && std::mem::take(&mut held.has_slot)
            {
                self.pulls.release();
            }
            self.suspects.add(now, message.sequence(), (ticket, message));
        }
        self.suspects.poll(now)
    }

    pub(super) fn finish_attempts(&mut self) {
        let mut attempted = std::mem::take(&mut self.attempted);
        self.crew.take_done(&mut attempted);
        attempted.drain(..).for_each(|attempted| self.finish_attempt(attempted));
        self.attempted = attempted;
    }

    pub(super) fn finish_attempt(&mut self, attempted: Attempted) {
        let Attempted {
            ticket,
            message,
            verdict,
        } = attempted;
        self.suspects.finish(message.sequence());
        match verdict {
            Verdict::Done => {
                self.done.finish(message.sequence());
                self.given_up.remove(&message.sequence());
                self.forget(ticket, &message);
                self.pulls.spend();
            }
            // In its place, so that those behind it stay behind.
            Verdict::Again if self.key_is_set() || self.inner.settings.limit.is_some() => {
                let at = self.now().saturating_add(self.backoff.pause(message.attempt()));
                self.lanes.retry(ticket, message.repeated(), at);
            }
            Verdict::Again => {
                if let Some(given_up) = self.given_up.remove(&message.sequence()) {
                    self.forget(ticket, &message);
                    return self.give_up(given_up);
                }
                let pause = self.backoff.pause(message.attempt());
                self.link.say(message.reply(), &Word::Nak { pause });
                self.forget(ticket, &message);
            }
        }
    }

    /// Puts a message aside that is delivered no more. One that is here may do well all the same.
    pub(super) fn give_up(&mut self, given_up: GivenUp) {
        if self.held.contains_key(&given_up.sequence) {
            self.given_up.insert(given_up.sequence, given_up);
        } else if let Some(exceeded) = &mut self.exceeded {
            exceeded.add(given_up);
        }
    }

    /// The message is not here any more.
    pub(super) fn forget(&mut self, ticket: Ticket, message: &Message) {
        self.lanes.finish(ticket);
        self.let_go(message);
    }

    pub(super) fn let_go(&mut self, message: &Message) {
        let number = message.sequence();
        if let Some(held) = self.held.remove(&number) {
            self.progress.end(number, held.due);
            if held.has_slot {
                self.pulls.release();
            }
        }
    }
}
