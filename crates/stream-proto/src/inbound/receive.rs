//! What the responder says.

use bytes::Bytes;

use crate::error::{DecodeError, Malformed, ProtocolError};
use crate::frame::{CloseCode, Frame, UNIT_COST, Unit};
use crate::header::Answer;
use crate::inbound::{ControlUse, Inbound, Queued};
use crate::message::{Class, Message};
use crate::plain::PlainDialect;
use crate::status::{Code, Status};
use crate::termination::{Clock, LostCause, Termination};
use crate::time::Instant;

impl Inbound {
    /// Takes a message that arrived at the call's reply subject.
    ///
    /// The answer says what to do with the subject that came with it. A message that breaks the protocol ends the
    /// stream; none is an error here.
    pub fn handle(&mut self, now: Instant, message: &Message<'_>) -> ControlUse {
        let control = if self.termination.is_some() {
            self.handle_late(message)
        } else {
            self.handle_in_time(now, message)
        };
        match control {
            ControlUse::Plain => control,
            // Without control nothing is sent to any subject (rule 66).
            _ if !self.mode.control => ControlUse::Ignore,
            _ => control,
        }
    }

    fn handle_in_time(&mut self, now: Instant, message: &Message<'_>) -> ControlUse {
        match message.class() {
            Class::NoResponders if self.sid.is_none() => self.terminate(Termination::NoResponders),
            // Nothing was asked, and nothing would be told.
            Class::NoResponders | Class::BareEmpty if !self.mode.control && self.sid.is_some() => {
                self.counters.ignored = self.counters.ignored.saturating_add(1);
            }
            // Nobody is subscribed at this moment, which is a suspicion and no verdict (rule 49).
            Class::NoResponders => {
                let is_new = self.timers.no_responders(now);
                self.counters.suspicions = self.counters.suspicions.saturating_add(is_new.into());
            }
            // It names no stream: another one, of an Open that arrived twice, may have ended.
            _ if self.is_plain(message) => return ControlUse::Plain,
            Class::BareEmpty if self.sid.is_none() && self.mode.plain.is_some() => {
                // An item of the text dialect, if the first message is one of it.
                self.mode.empties = self.mode.empties.saturating_add(1);
            }
            Class::BareEmpty if self.sid.is_none() => self.counters.ignored = self.counters.ignored.saturating_add(1),
            Class::BareEmpty => self.timers.farewell(now, self.mapped),
            Class::Foreign if self.sid.is_none() => {
                self.terminate(Termination::Protocol(ProtocolError::ForeignAnswer));
            }
            Class::Foreign => self.counters.foreign_responder = self.counters.foreign_responder.saturating_add(1),
            Class::Native => return self.handle_native(now, message),
        }
        ControlUse::Ignore
    }

    /// Is this the first message, and of the other dialect that is allowed for? Another version of this protocol is none.
    fn is_plain(&self, message: &Message<'_>) -> bool {
        let class = message.class();
        let is_sentinel = class == Class::BareEmpty && self.mode.plain == Some(PlainDialect::Sentinel);
        self.sid.is_none()
            && self.mode.plain.is_some()
            && message.header.is_none()
            && (class == Class::Foreign || is_sentinel)
    }

    fn handle_native(&mut self, now: Instant, message: &Message<'_>) -> ControlUse {
        // Before the payload: another version may have another format (rule 19).
        let answer = message.header.filter(|_| self.sid.is_none()).map(Answer::parse);
        if let Some(Err(_)) = answer {
            self.terminate(match message.service_error {
                Some(error) => Termination::Refused(Status {
                    not_processed: true,
                    ..error.status()
                }),
                None => Termination::Protocol(ProtocolError::Header),
            });
            return sid_of(&message.payload).map_or(ControlUse::Ignore, |sid| refuse(sid, message));
        }
        let frame = match Frame::decode(&message.payload) {
            Ok(frame) => frame,
            Err(error) => {
                self.handle_malformed(&message.payload, error);
                return ControlUse::Ignore;
            }
        };
        let sid = frame.sid();
        match self.sid {
            None => {
                // Only these two, and only with the header, may lock (rule 8).
                let may_lock =
                    matches!(frame, Frame::Unit(_)) || self.mode.control && matches!(frame, Frame::Beat { .. });
                let Some(Ok(answer)) = answer.filter(|_| may_lock) else {
                    self.counters.ignored = self.counters.ignored.saturating_add(1);
                    return ControlUse::Ignore;
                };
                // A whole answer in one message needs no control, and a refusal does not speak of it.
                let is_whole = matches!(&frame, Frame::Unit(unit) if unit.fin.is_some());
                if answer.control != self.mode.control && !is_whole {
                    self.terminate(Termination::Protocol(ProtocolError::Header));
                    return refuse(sid, message);
                }
                self.lock(now, sid, answer);
            }
            Some(own) if own != sid => {
                self.counters.foreign_responder = self.counters.foreign_responder.saturating_add(1);
                return refuse(sid, message);
            }
            Some(_) => self.mode.has_more = true,
        }
        if Frame::has_unknown_flags(&message.payload) {
            self.counters.ignored = self.counters.ignored.saturating_add(1);
        }
        if !self.mode.control && !matches!(frame, Frame::Unit(_)) {
            // Such a stream has nothing else (rule 66).
            self.counters.ignored = self.counters.ignored.saturating_add(1);
            return ControlUse::Ignore;
        }
        self.timers.heard(now);
        self.mapped |= message.has_control && message.is_mapped;
        let announce = match frame {
            Frame::Unit(unit) => {
                self.handle_unit(now, unit);
                0
            }
            Frame::Beat { announce, position, .. } => {
                if position > self.next {
                    self.gap(now);
                }
                // Also when that was asked for before. A STATE that asks now is the answer.
                if message.has_control || self.credit.holds_up(position) {
                    self.timers.state_soon(now);
                }
                announce
            }
            Frame::Reset { .. } => {
                self.lose(LostCause::Forgotten);
                return ControlUse::Ignore;
            }
            _ => {
                self.counters.ignored = self.counters.ignored.saturating_add(1);
                return ControlUse::Ignore;
            }
        };
        if message.has_control && announce >= self.announce {
            self.announce = announce;
            ControlUse::Use
        } else if message.has_control && message.is_mapped {
            ControlUse::Keep
        } else {
            ControlUse::Ignore
        }
    }

    /// Binds the stream to the responder of this first message.
    fn lock(&mut self, now: Instant, sid: u32, answer: Answer) {
        self.sid = Some(sid);
        self.credit.set_retention(answer.retention);
        self.timers.locked(now, answer.heartbeat, self.mode.control);
        self.events.locked = true;
    }

    fn handle_unit(&mut self, now: Instant, unit: Unit) {
        if unit.position < self.next {
            self.counters.retransmitted = self.counters.retransmitted.saturating_add(1);
            return;
        }
        if unit.position > self.next {
            self.gap(now);
            return;
        }
        let fin_only = unit.fin.is_some() && unit.data.is_empty();
        if self.mode.control && !fin_only && unit.position >= self.credit.granted() {
            let error = ProtocolError::CreditExceeded {
                position: unit.position,
                limit: self.credit.granted(),
            };
            self.close_with(Termination::Protocol(error), CloseCode::Protocol);
            return;
        }
        let (position, end) = (unit.position, unit.end());
        let mut scanner = self.scanner;
        let chunk = match scanner.scan(unit.data, unit.data_offset) {
            Ok(chunk) => chunk,
            Err(error) => {
                self.counters.malformed = self.counters.malformed.saturating_add(1);
                self.close_with(Termination::Protocol(error.into()), CloseCode::Protocol);
                return;
            }
        };
        if !self.assembly.reserve(&chunk) {
            // Here and not when the user asks, so that no verdict is taken back later.
            let status = Status::new(
                Code::ResourceExhausted,
                "no memory is left for an item that spans messages",
            );
            self.close_with(Termination::Failed(status), CloseCode::Cancelled);
            return;
        }
        if scanner.items() > self.scanner.items() {
            self.timers.stop_waiting();
        }
        self.scanner = scanner;
        self.credit.arrived(now, position);
        self.queue.push_back(Queued { chunk, end });
        self.next = end;
        self.last_position = position;
        self.timers.progressed();
        self.events.readable = true;
        if !self.note_buffered() && unit.fin.is_none() {
            self.lose(LostCause::Overflow);
        }
        if let Some((status, items)) = unit.fin {
            self.complete(now, position, status, items);
        }
    }

    /// The last unit is here, and everything before it.
    fn complete(&mut self, now: Instant, position: u64, status: Status, items: u64) {
        let received = self.scanner.items();
        let malformed = if self.scanner.is_inside_item() {
            Some(Malformed::ItemUnfinished)
        } else {
            (items != received).then_some(Malformed::WrongCount)
        };
        if let Some(what) = malformed.filter(|_| status.is_ok()) {
            let error = DecodeError { offset: 0, what };
            self.close_with(Termination::Protocol(error.into()), CloseCode::Protocol);
            return;
        }
        if position > 0 {
            // Nothing is left to confirm when one message was the whole answer (rule 53).
            self.close = Some(CloseCode::Done);
        }
        let has_data = self.next > UNIT_COST;
        self.terminate(if status.is_ok() {
            Termination::Ended {
                items,
                trailers: status.details,
            }
        } else if status.code == Code::DeadlineExceeded && self.timers.is_past_deadline(now) {
            // Both sides keep the deadline (rule 57); whose clock is looked at first is chance.
            Termination::TimedOut(Clock::Deadline)
        } else if status.not_processed && position == 0 && !has_data {
            Termination::Refused(status)
        } else {
            Termination::Failed(status)
        });
    }

    fn handle_malformed(&mut self, payload: &Bytes, error: DecodeError) {
        if self.sid.is_some() && self.sid == sid_of(payload) {
            self.counters.malformed = self.counters.malformed.saturating_add(1);
            self.close_with(Termination::Protocol(error.into()), CloseCode::Protocol);
        } else {
            self.counters.malformed = self.counters.malformed.saturating_add(1);
        }
    }

    /// After the verdict: who still sends a stream is told so (rule 9).
    fn handle_late(&mut self, message: &Message<'_>) -> ControlUse {
        self.counters.ignored = self.counters.ignored.saturating_add(1);
        match (message.class(), Frame::decode(&message.payload)) {
            (Class::Native, Ok(frame @ (Frame::Unit(_) | Frame::Beat { .. }))) => refuse(frame.sid(), message),
            _ => ControlUse::Ignore,
        }
    }
}

/// The stream that a native message names, if it is long enough for that. It stands before everything that can be wrong, and
/// in the same place in all versions.
fn sid_of(payload: &[u8]) -> Option<u32> {
    let bytes = payload.get(2..6)?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}

/// What to do with the subject that came with a message of a stream that nobody here waits for.
fn refuse(sid: u32, message: &Message<'_>) -> ControlUse {
    if message.has_control {
        ControlUse::Refuse(sid)
    } else {
        ControlUse::Ignore
    }
}
