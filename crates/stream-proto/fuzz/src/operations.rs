//! Calls on a pair of machines that keep to the rules, and a link between them that does not.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use stream_proto::{CloseCode, Code, ControlUse, Frame, Instant, Message, Offer, Open, Status, Termination, Transmit};

use crate::caller::Caller;
use crate::input::Input;
use crate::responder::{Responder, SID};

/// Enough to fill every window a few times, and little enough for thousands of runs a second.
const MAX_PUSHED: usize = 1 << 20;

/// What follows the last operation comes to its end in fewer steps, or never.
const MAX_STEPS: usize = 50_000;

/// When the Open is sent.
const BEGIN: Instant = Instant::from_nanos(1_000_000_000);

const FINISHED: &str = "finished";
const ABORTED: &str = "aborted";

/// Runs a list of operations on a caller and a responder, then a link without faults until both are done.
///
/// # Panics
/// When a stream lies about loss, memory exceeds what is documented, or something never ends.
pub fn operations(data: &[u8]) {
    let mut input = Input::new(data);
    let mut run = Run::new(&mut input);
    while !input.is_empty() {
        run.operate(&mut input);
        run.check();
    }
    run.come_to_an_end();
}

#[derive(Debug)]
struct Run {
    now: Instant,
    caller: Caller,
    responder: Responder,
    answer: String,
    to_caller: VecDeque<Transmit>,
    to_responder: VecDeque<Bytes>,
    control_known: bool,
    /// Sizes of the items that were taken.
    pushed: Vec<usize>,
    pushed_bytes: usize,
    finished: Option<Status>,
    aborted: bool,
    /// Something happened that a stream need not survive. Messages that are lost, late or repeated do not count.
    is_hopeless: bool,
    received: usize,
    /// Messages handed over or delivered.
    moved: u64,
}

impl Run {
    fn new(input: &mut Input<'_>) -> Self {
        let now = BEGIN;
        let caller = Caller::new(input, now);
        let Ok(Offer::Supported(open)) = Open::parse(&caller.open().encode()) else {
            panic!("the caller's own Open is not understood")
        };
        let responder = Responder::new(input, &open, now);
        Self {
            now,
            answer: responder.answer(),
            caller,
            responder,
            to_caller: VecDeque::new(),
            to_responder: VecDeque::new(),
            control_known: false,
            pushed: Vec::new(),
            pushed_bytes: 0,
            finished: None,
            aborted: false,
            is_hopeless: false,
            received: 0,
            moved: 0,
        }
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        let now = self.now;
        match input.byte() % 32 {
            0..=3 => self.push(usize::from(input.byte())),
            4 => self.push(usize::from(input.short())),
            5 => self.push(usize::from(input.short()) * 4),
            6 => {
                for _ in 0..input.byte() {
                    self.push(1);
                }
            }
            7 | 8 => self.responder.flush(),
            9 => self.responder.wait_for_credit(now),
            10..=12 => self.transmit_to_caller(usize::from(input.byte())),
            13 | 14 => self.transmit_to_responder(usize::from(input.byte())),
            15..=17 => self.deliver_to_caller(usize::from(input.byte()) % 16),
            18 | 19 => self.deliver_to_responder(usize::from(input.byte()) % 16),
            20 | 21 => self.read(usize::from(input.byte())),
            22 => self.advance(input.pause()),
            23 => {
                let next = [self.caller.poll_timeout(), self.responder.poll_timeout()];
                if let Some(at) = next.into_iter().flatten().min() {
                    // A driver's clock never runs for years.
                    self.advance(at.saturating_since(now).min(Duration::from_secs(3600)));
                }
            }
            24 => {
                let at = usize::from(input.byte());
                if input.flag() {
                    remove(&mut self.to_caller, at);
                } else {
                    remove(&mut self.to_responder, at);
                }
            }
            25 => {
                // Repeats, or with the operation before: delays.
                let at = usize::from(input.byte());
                if input.flag() {
                    repeat(&mut self.to_caller, at);
                } else {
                    repeat(&mut self.to_responder, at);
                }
            }
            26 => {
                self.is_hopeless = true;
                let is_connected = input.flag();
                if input.flag() {
                    self.caller.set_connected(now, is_connected);
                } else {
                    self.responder.set_connected(now, is_connected);
                }
                // What was under way is lost.
                self.to_caller.clear();
                self.to_responder.clear();
            }
            27 => {
                self.caller.take_events();
                self.responder.take_events();
            }
            28 => self.caller.pause_waiting(now),
            29 => self.finish(input),
            30 => self.no_responders(input.flag()),
            _ => self.give_up(input.byte() % 16),
        }
    }

    /// Either side ends the stream before its time; rarely, or no run would see more.
    fn give_up(&mut self, how: u8) {
        self.is_hopeless |= how < 4;
        match how {
            0 => self.abort(),
            1 => self.caller.cancel(),
            2 => self.caller.handle_closed(),
            3 => self.responder.give_up(),
            _ => {}
        }
    }

    fn push(&mut self, len: usize) {
        if self.pushed_bytes + len > MAX_PUSHED {
            return;
        }
        if self.responder.push(&item(self.pushed.len(), len)) {
            self.pushed.push(len);
            self.pushed_bytes += len;
        }
    }

    fn finish(&mut self, input: &mut Input<'_>) {
        let kind = input.byte();
        let code = Code::from_u8(if kind % 4 == 3 { kind } else { 0 });
        let mut status = Status::new(code, FINISHED);
        status.details = Bytes::copy_from_slice(input.bytes(64));
        status.not_processed = kind & 0x80 != 0;
        self.finish_with(status);
    }

    fn finish_with(&mut self, status: Status) {
        if !self.responder.has_ended() {
            self.finished = Some(status.clone());
        }
        self.responder.finish(status);
    }

    fn abort(&mut self) {
        self.aborted = true;
        self.responder.abort(Status::new(Code::Internal, ABORTED));
    }

    /// The server says at one side that nobody is subscribed at the other.
    fn no_responders(&mut self, to_caller: bool) {
        self.is_hopeless = true;
        let message = Message {
            status: Some(503),
            has_headers: true,
            ..Message::default()
        };
        if to_caller {
            // Before the lock it says that nobody took the request; then there is no responder.
            if self.caller.is_locked() && self.caller.is_connected() {
                self.caller.handle(self.now, &message);
            }
        } else if self.responder.is_connected() {
            self.responder.handle(self.now, &message);
        }
    }

    fn advance(&mut self, pause: Duration) {
        self.now = self.now + pause;
        self.caller.handle_timeout(self.now);
        self.responder.handle_timeout(self.now);
    }

    fn transmit_to_caller(&mut self, max: usize) {
        for _ in 0..max {
            if !self.responder.is_connected() {
                break;
            }
            let Some(transmit) = self.responder.poll_transmit(self.now) else {
                break;
            };
            self.to_caller.push_back(transmit);
            self.moved += 1;
        }
    }

    fn transmit_to_responder(&mut self, max: usize) {
        for _ in 0..max {
            // Without a control subject there is nobody to send to.
            if !self.control_known || !self.caller.is_connected() {
                break;
            }
            let Some(transmit) = self.caller.poll_transmit(self.now) else {
                break;
            };
            self.to_responder.push_back(transmit.payload);
            self.moved += 1;
        }
    }

    fn deliver_to_caller(&mut self, max: usize) {
        for _ in 0..max {
            let Some(transmit) = self.to_caller.pop_front() else {
                return;
            };
            self.moved += 1;
            if !self.caller.is_connected() {
                continue;
            }
            let message = Message {
                header: transmit.header.then_some(self.answer.as_str()),
                has_headers: transmit.header || transmit.failure.is_some(),
                has_control: transmit.control,
                is_mapped: transmit.control && self.responder.is_mapped(),
                payload: transmit.payload,
                ..Message::default()
            };
            match self.caller.handle(self.now, &message) {
                ControlUse::Use => self.control_known = true,
                ControlUse::Refuse(sid) => {
                    let code = CloseCode::Unwanted;
                    self.to_responder.push_back(Frame::Close { sid, code }.encode());
                }
                _ => {}
            }
        }
    }

    fn deliver_to_responder(&mut self, max: usize) {
        for _ in 0..max {
            let Some(payload) = self.to_responder.pop_front() else {
                return;
            };
            self.moved += 1;
            if !self.responder.is_connected() {
                continue;
            }
            if self.responder.is_forgotten() && matches!(Frame::decode(&payload), Ok(Frame::State { .. })) {
                self.reset();
            }
            let message = Message {
                payload,
                ..Message::default()
            };
            self.responder.handle(self.now, &message);
        }
    }

    /// What the responder's host answers to a STATE for a stream that is gone (rule 50).
    fn reset(&mut self) {
        self.to_caller.push_back(Transmit {
            payload: Frame::Reset { sid: SID }.encode(),
            header: false,
            metadata: false,
            control: false,
            failure: None,
        });
    }

    fn read(&mut self, max: usize) {
        for _ in 0..max {
            let Some(bytes) = self.caller.poll_item(self.now) else {
                return;
            };
            let len = self.pushed.get(self.received).copied();
            assert_eq!(Some(bytes.len()), len, "item {} is not what was pushed", self.received);
            assert_eq!(bytes, item(self.received, bytes.len()), "item {}", self.received);
            self.received += 1;
        }
    }

    /// The oracle: what the verdict says, against what was done.
    fn check(&self) {
        let all = self.pushed.len() as u64;
        assert!(self.caller.items() <= all, "more items than were pushed");
        match self.caller.verdict() {
            None => {}
            Some(Termination::Ended { items, trailers }) => {
                let status = self.finished.as_ref().expect("an end that nobody gave");
                assert!(status.is_ok(), "a failure became a success");
                assert_eq!((*items, self.caller.items()), (all, all), "not all arrived");
                assert_eq!(*trailers, status.details);
            }
            Some(Termination::Refused(status)) => {
                assert!(status.not_processed && self.pushed.is_empty(), "refused, and yet begun");
            }
            Some(Termination::Failed(status)) if status.message == FINISHED => {
                assert_eq!(self.caller.items(), all, "not all that came before the failure arrived");
                assert_eq!(Some(status), self.finished.as_ref());
            }
            Some(Termination::Failed(status)) => {
                assert!(!status.is_ok());
                assert!(status.message != ABORTED || self.aborted, "aborted by nobody");
            }
            Some(Termination::Cancelled) => assert!(self.caller.is_cancelled),
            Some(verdict @ (Termination::Protocol(_) | Termination::NoResponders)) => {
                panic!("both keep to the rules, and the verdict is {verdict:?}")
            }
            Some(_) => {}
        }
    }

    /// Did the caller get what the handler sent, or is it one of the losses that are not mended?
    fn has_recovered(&self) -> bool {
        match self.caller.verdict() {
            Some(Termination::Ended { .. } | Termination::Refused(_)) => true,
            Some(Termination::Failed(status)) => status.message == FINISHED,
            // A single message is not repeated. Across accounts, nothing tells the caller where to ask for the rest when
            // the first message was lost and the end sent before the first beat (rules 22 and 54).
            Some(Termination::Unanswered | Termination::Lost { items: 0, .. }) => {
                self.responder.is_single() || (self.responder.is_mapped() && !self.responder.is_confirmed())
            }
            _ => false,
        }
    }

    /// From here on nothing is lost, the handler ends its stream, and the user reads.
    fn come_to_an_end(mut self) {
        // Within a second no clock has run out, and everything that was lost is asked for again (section 8).
        let must_recover = !self.is_hopeless
            && self.caller.is_patient
            && self.responder.is_patient
            && self.now <= BEGIN + Duration::from_secs(1);
        self.caller.set_connected(self.now, true);
        self.responder.set_connected(self.now, true);
        if !self.responder.has_ended() {
            self.finish_with(Status::new(Code::Ok, FINISHED));
        }
        for _ in 0..MAX_STEPS {
            let timeouts = [self.caller.poll_timeout(), self.responder.poll_timeout()];
            let next = timeouts.into_iter().flatten().min();
            if next.is_some_and(|at| at <= self.now) {
                self.advance(Duration::ZERO);
            }
            let moved = self.moved;
            self.transmit_to_caller(usize::MAX);
            self.transmit_to_responder(usize::MAX);
            self.deliver_to_caller(self.to_caller.len());
            self.deliver_to_responder(self.to_responder.len());
            self.read(usize::MAX);
            self.caller.take_events();
            self.responder.take_events();
            self.check();
            if self.moved > moved {
                continue;
            }
            if self.caller.verdict().is_some() && self.responder.is_forgotten() {
                assert!(
                    !must_recover || self.has_recovered(),
                    "lost for good: {:?}",
                    self.caller.verdict()
                );
                self.caller.finish(self.now);
                return;
            }
            let timeouts = [self.caller.poll_timeout(), self.responder.poll_timeout()];
            let next = timeouts.into_iter().flatten().min();
            let next = next.expect("nothing happens any more, and the stream has not ended");
            self.advance(next.saturating_since(self.now));
        }
        panic!("no end in sight: {self:?}");
    }
}

/// The bytes of the item with this number.
fn item(number: usize, len: usize) -> Bytes {
    (number..number + len).map(|at| (at ^ at >> 8) as u8).collect()
}

fn remove<T>(queue: &mut VecDeque<T>, at: usize) {
    if !queue.is_empty() {
        queue.remove(at % queue.len());
    }
}

/// A second copy, after all that is under way.
fn repeat<T: Clone>(queue: &mut VecDeque<T>, at: usize) {
    if !queue.is_empty() {
        let copy = queue[at % queue.len()].clone();
        queue.push_back(copy);
    }
}
