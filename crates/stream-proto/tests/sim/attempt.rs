//! One attempt of a call at the caller's host: the machine, its reader, and what can be checked on the spot.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use stream_proto::{Budget, CloseCode, Frame, INITIAL_WINDOW, Inbound, Termination, is_mapped};

use crate::nats::Msg;
use crate::plan::Plan;
use crate::reader::Reader;
use crate::record::Shared;
use crate::socket::ConnId;
use crate::time::{Nanos, S, US, instant};

/// Memory of a unit, its cost included.
const UNIT: u64 = 64 * 1024 + 256;

#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) token: Rc<str>,
    pub(crate) call: usize,
    pub(crate) inbound: Inbound,
    pub(crate) opened: Nanos,
    pub(crate) reader: Reader,
    pub(crate) control: Option<Rc<str>>,
    /// Every mapped control subject that must be ended (rule 61).
    pub(crate) mapped: Vec<Rc<str>>,
    assembly: Budget,
    pub(crate) resume: Option<Nanos>,
    pub(crate) delivered: Vec<Bytes>,
    /// Of the streams that this cannot be.
    ruled_out: BTreeSet<usize>,
    /// How far the others were compared.
    compared: BTreeMap<usize, usize>,
    pub(crate) termination: Option<Termination>,
    /// Its last messages were sent.
    pub(crate) is_closed: bool,
    /// The position after the last unit that a caller must take (rule 37), and the last two requests to send again.
    expected: u64,
    pub(crate) rewound: [Option<(u64, Nanos)>; 2],
    /// Where the last unit began, if it came in turn, and what was said of it.
    pub(crate) end: Option<u64>,
    pub(crate) close: Option<CloseCode>,
    /// What arrived: for the judge.
    pub(crate) sid: Option<u32>,
    pub(crate) last_valid: Nanos,
    pub(crate) bare_empty: bool,
    pub(crate) foreign: bool,
    pub(crate) reset: bool,
    pub(crate) no_responders: Vec<Nanos>,
}

impl Attempt {
    pub(crate) fn new(
        token: Rc<str>,
        call: usize,
        inbound: Inbound,
        assembly: Budget,
        reader: Reader,
        now: Nanos,
    ) -> Self {
        Self {
            token,
            call,
            inbound,
            opened: now,
            reader,
            control: None,
            mapped: Vec::new(),
            assembly,
            resume: None,
            delivered: Vec::new(),
            ruled_out: BTreeSet::new(),
            compared: BTreeMap::new(),
            termination: None,
            is_closed: false,
            expected: 0,
            rewound: [None; 2],
            end: None,
            close: None,
            sid: None,
            last_valid: now,
            bare_empty: false,
            foreign: false,
            reset: false,
            no_responders: Vec::new(),
        }
    }

    /// What the judge must know of a message.
    pub(crate) fn note(&mut self, now: Nanos, msg: &Msg) {
        if self.termination.is_some() {
            return;
        }
        if msg.status == Some(503) {
            self.no_responders.push(now);
            return;
        }
        self.bare_empty |= msg.is_bare_empty();
        self.foreign |= msg.payload.first().is_some_and(|first| *first != stream_proto::MARKER)
            || (msg.payload.is_empty() && msg.has_headers);
        let Ok(frame) = Frame::decode(&msg.payload) else { return };
        let may_lock = msg.header.is_some() && matches!(frame, Frame::Unit(_) | Frame::Beat { .. });
        let sid = frame.sid();
        if self.sid.is_none() && may_lock {
            self.sid = Some(sid);
        }
        if self.sid == Some(sid) {
            self.last_valid = now;
            self.reset |= matches!(frame, Frame::Reset { .. });
            if let Frame::Unit(unit) = frame
                && unit.position == self.expected
            {
                self.expected = unit.end();
                self.end = unit.fin.is_some().then_some(unit.position);
            }
        }
    }

    pub(crate) fn keep(&mut self, control: &Rc<str>) {
        if is_mapped(control) && !self.mapped.contains(control) {
            self.mapped.push(control.clone());
        }
    }

    pub(crate) fn transmit(
        &mut self,
        now: Nanos,
        conn: ConnId,
        is_up: bool,
        plan: &Plan,
        shared: &mut Shared,
    ) -> Result<(), String> {
        let Some(control) = self.control.clone().filter(|_| is_up) else {
            return Ok(());
        };
        let mut budget = if plan.burst == 0 { 100 } else { plan.burst };
        while self.inbound.wants_transmit() {
            if budget == 0 {
                if plan.burst == 0 {
                    return Err("a caller that never stops sending".to_owned());
                }
                self.resume = Some(now + 200 * US);
                break;
            }
            budget -= 1;
            let Some(transmit) = self.inbound.poll_transmit(instant(now)) else {
                return Err("wants_transmit, but nothing was handed out".to_owned());
            };
            self.check_transmit(now, &transmit.payload)?;
            let reply = transmit.control && !is_mapped(&control);
            let msg = Msg {
                reply: reply.then(|| self.token.clone()),
                ..Msg::new(control.clone(), transmit.payload)
            };
            shared.nats.publish(now, conn, msg)?;
        }
        Ok(())
    }

    /// Rules 8, 39 and 40: what the machine says to the responder.
    fn check_transmit(&mut self, now: Nanos, payload: &Bytes) -> Result<(), String> {
        let frame = Frame::decode(payload).map_err(|error| error.to_string())?;
        if self.sid != Some(frame.sid()) {
            return Err(format!("rule 8: locked to {:?}, but sends {frame:?}", self.sid));
        }
        if let Frame::Close { code, .. } = frame {
            self.close = Some(code);
        }
        let Frame::State { rewind, next, .. } = frame else {
            return Ok(());
        };
        if next != self.expected {
            return Err(format!(
                "rule 37: {} was received, but {frame:?} was sent",
                self.expected
            ));
        }
        if rewind {
            // The second may come early when the first could not be sent at once; a third cannot.
            let [first, second] = self.rewound;
            self.rewound = [second, Some((next, now))];
            if first.is_some_and(|(before, at)| before == next && now < at + S) {
                return Err(format!("rule 39: {frame:?} three times within 1 s, without progress"));
            }
        }
        Ok(())
    }

    /// The items so far are a prefix of those of one handler.
    pub(crate) fn check_items(&mut self, shared: &Shared) -> Result<(), String> {
        let mut is_one = false;
        for (index, record) in shared.answers(&self.token) {
            if self.ruled_out.contains(&index) || self.sid.is_some_and(|sid| sid != record.sid) {
                continue;
            }
            let from = self.compared.insert(index, self.delivered.len()).unwrap_or(0);
            let is_same = |at: usize| {
                record
                    .sent
                    .get(at)
                    .is_some_and(|place| shared.item(*place) == self.delivered[at])
            };
            if (from..self.delivered.len()).all(is_same) {
                is_one = true;
            } else {
                self.ruled_out.insert(index);
            }
        }
        if is_one {
            return Ok(());
        }
        Err(format!(
            "rule 37: the {} items of {} are no prefix of what a handler sent",
            self.delivered.len(),
            self.token
        ))
    }

    /// Rules 43 and 62: what a machine does at once when its connection is back.
    pub(crate) fn check_reconnected(&self, now: Nanos) -> Result<(), String> {
        let Some(control) = self.control.as_ref().filter(|_| self.termination.is_none()) else {
            return Ok(());
        };
        if is_mapped(control) {
            return Err(format!(
                "rule 62: {} lives across accounts after a reconnect",
                self.token
            ));
        }
        if self.rewound[1].is_none_or(|(_, at)| at != now) {
            return Err(format!("rule 43: {} asks for nothing after a reconnect", self.token));
        }
        Ok(())
    }

    /// Rule 53: a stream of several units is confirmed.
    pub(crate) fn check_confirmed(&self, verdict: &Termination) -> Result<(), String> {
        let is_several = self.end.is_some_and(|position| position > 0);
        let is_end = matches!(verdict, Termination::Ended { .. });
        if is_end && is_several && self.control.is_some() && self.close != Some(CloseCode::Done) {
            return Err(format!(
                "rule 53: {} has its end, and sent {:?}",
                self.token, self.close
            ));
        }
        Ok(())
    }

    /// Could the user have got these items from that stream?
    pub(crate) fn may_be(&self, index: usize) -> bool {
        !self.ruled_out.contains(&index)
    }

    /// Section 14.3.
    pub(crate) fn check(&self, plan: &Plan) -> Result<(), String> {
        let window = plan.max_window.max(INITIAL_WINDOW.min(plan.max_window));
        let buffered = self.inbound.buffered();
        let is_controlled = !plan.calls[self.call].is_uncontrolled;
        if is_controlled && buffered > window + UNIT {
            return Err(format!(
                "section 14.3: {buffered} bytes are buffered, more than a window of {window} and a unit"
            ));
        }
        let largest = plan.calls[self.call].handler.item_size.1 + 16;
        let assembly = self.assembly.used();
        if is_controlled && assembly > largest + window + UNIT {
            return Err(format!("section 14.3: {assembly} bytes wait to be put together"));
        }
        Ok(())
    }
}
