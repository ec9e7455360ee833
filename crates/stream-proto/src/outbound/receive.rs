//! What the caller says.

use core::time::Duration;

use crate::error::DecodeError;
use crate::frame::{CloseCode, Frame};
use crate::message::{Class, Message};
use crate::outbound::{CloseReason, Outbound};
use crate::time::Instant;

impl Outbound {
    /// Takes a message that arrived at the control subject.
    ///
    /// # Errors
    /// [`DecodeError`] when it cannot be read. It was counted and has changed nothing (rule 17).
    pub fn handle(&mut self, now: Instant, message: &Message<'_>) -> Result<(), DecodeError> {
        if self.forgotten {
            return Ok(());
        }
        if !self.control {
            // Nobody knows the subject.
            self.stats.ignored += 1;
            return Ok(());
        }
        match message.class() {
            Class::Native => {}
            Class::BareEmpty => {
                // The mapping has ended (rule 61): nothing sent from here on arrives.
                self.handle_close(CloseCode::Cancelled);
                return Ok(());
            }
            Class::NoResponders => {
                // Nobody is subscribed at this moment, which is a suspicion and no verdict (rule 49).
                self.stats.suspicions += u64::from(self.timers.no_responders(now));
                return Ok(());
            }
            Class::Foreign => {
                self.stats.ignored += 1;
                return Ok(());
            }
        }
        let frame = Frame::decode(&message.payload).inspect_err(|_| self.stats.malformed += 1)?;
        match frame {
            Frame::State {
                sid,
                rewind,
                next,
                limit,
            } if sid == self.sid => {
                self.stats.ignored += u64::from(Frame::has_unknown_flags(&message.payload));
                self.handle_state(now, rewind, next, limit);
            }
            Frame::Close { sid, code } if sid == self.sid => self.handle_close(code),
            frame => {
                // Of this stream, it is a sign of life, whatever a later version means by it (rule 48).
                if frame.sid() == self.sid {
                    self.timers.heard(now);
                }
                self.stats.ignored += 1;
            }
        }
        Ok(())
    }

    fn handle_state(&mut self, now: Instant, rewind: bool, next: u64, limit: u64) {
        let was_ready = self.is_ready();
        self.timers.heard(now);
        if !self.confirmed {
            self.confirmed = true;
            self.announce_due = false;
            self.beat_first = false;
            self.timers.confirmed();
        }
        self.limit = self.limit.max(limit);
        let acked = self.units.acked();
        let ahead = self.units.sent().saturating_sub(acked);
        let is_stale = !self.units.ack(next);
        let is_progress = self.units.acked() > acked;
        self.keep_ahead(ahead);
        if is_progress && next < self.units.open_position() {
            self.timers.is_on_its_way(now);
        }
        if is_stale {
            self.stats.ignored += 1;
        } else if (rewind || (!is_progress && self.timers.may_have_missed_end(now)))
            && next < self.units.sent()
            && !self.was_rewound(now, next)
        {
            // A caller that does not mention the end long after it was sent has missed it, and with it the sign that
            // something is missing.
            self.units.rewind();
            self.stats.rewinds += 1;
            self.rewound = Some((next, now));
        }
        // Only what was never sent is held up by credit: sending again is no progress (rule 36).
        if self.units.sent() < self.effective_limit() {
            self.timers.unblocked();
        }
        self.refill();
        if self.is_ready() && !was_ready {
            self.waits = false;
            self.events.ready = true;
        }
    }

    fn was_rewound(&self, now: Instant, next: u64) -> bool {
        self.rewound
            .is_some_and(|(position, at)| position == next && now.saturating_since(at) < Duration::from_millis(500))
    }

    fn handle_close(&mut self, code: CloseCode) {
        let reason = match code {
            CloseCode::Deadline => CloseReason::Deadline,
            CloseCode::Protocol => CloseReason::Protocol,
            _ => CloseReason::Cancelled,
        };
        if !self.end_sealed {
            self.close(reason);
        }
        // Who does not want the stream may not be the one whose mapping this is.
        self.farewell_due = self.mapped && code != CloseCode::Unwanted;
        self.forget();
    }
}
