//! One caller and one responder over a link, in virtual time.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::SID;
use crate::frame::{Frame, UNIT_COST};
use crate::{
    CloseCode, ControlUse, Inbound, InboundConfig, InboundEvent, Instant, MAX_UNIT, MIN_WINDOW, Message, Offer, Open,
    Outbound, OutboundConfig, OutboundEvent, PushError, Status, Termination,
};

/// A run with more steps than this does not come to its end.
const MAX_STEPS: usize = 200_000;

/// Both machines, what connects them, and who uses them.
pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    pub(super) link: Link,
    pub(super) handler: Handler,
    pub(super) reader: Reader,
    /// Everything that either side handed out.
    pub(super) log: Vec<Logged>,
    pub(super) outbound_events: Vec<OutboundEvent>,
    pub(super) inbound_events: Vec<InboundEvent>,
    answer: String,
    control_known: bool,
    bounds: Bounds,
}

/// What the documentation promises about memory.
#[derive(Debug)]
struct Bounds {
    retention: u64,
    granted: u64,
    window: u64,
    largest_item: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Caller,
    Responder,
}

#[derive(Debug)]
pub(super) struct Logged {
    pub(super) at: Instant,
    pub(super) from: Side,
    pub(super) frame: Frame,
}

/// Keeps the order of each direction; may lose and repeat.
pub(super) struct Link {
    pub(super) latency: Duration,
    /// Of a hundred messages, how many are lost.
    pub(super) loss: u64,
    /// Of a hundred messages, how many arrive twice.
    pub(super) duplication: u64,
    pub(super) random: Random,
    /// Loses a message for which it returns true.
    pub(super) lose: Box<dyn FnMut(&Frame) -> bool>,
    flying: VecDeque<Flying>,
}

struct Flying {
    at: Instant,
    from: Side,
    header: bool,
    control: bool,
    payload: Bytes,
}

/// Pushes its items as credit allows, then ends the stream.
#[derive(Default)]
pub(super) struct Handler {
    pub(super) items: VecDeque<Vec<u8>>,
    /// Ends the stream after the last item.
    pub(super) status: Option<Status>,
    /// Yields after each item, so that it leaves at once.
    pub(super) yields: bool,
    pub(super) sent: Vec<Vec<u8>>,
    waits: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    Never,
    Eager,
    /// Pause after each item.
    Every(Duration),
}

pub(super) struct Reader {
    pub(super) pace: Pace,
    pub(super) items: Vec<Bytes>,
    waits: bool,
    next_at: Instant,
}

impl Pair {
    pub(super) fn new(inbound: InboundConfig, outbound: &OutboundConfig) -> Self {
        let now = Instant::ORIGIN + Duration::from_secs(1);
        let window = inbound.max_window.max(MIN_WINDOW);
        let inbound = Inbound::new(inbound, now);
        let Ok(Offer::Supported(open)) = Open::parse(&inbound.open().encode()) else {
            panic!("the caller's own Open is not understood")
        };
        let machine = Outbound::new(SID, &open, outbound, now);
        Self {
            now,
            answer: machine.answer().encode(),
            inbound,
            outbound: machine,
            link: Link {
                latency: Duration::from_millis(1),
                loss: 0,
                duplication: 0,
                random: Random(1),
                lose: Box::new(|_| false),
                flying: VecDeque::new(),
            },
            handler: Handler::default(),
            reader: Reader {
                pace: Pace::Eager,
                items: Vec::new(),
                waits: false,
                next_at: now,
            },
            log: Vec::new(),
            outbound_events: Vec::new(),
            inbound_events: Vec::new(),
            control_known: false,
            bounds: Bounds {
                retention: outbound.retention.max(1),
                granted: open.limit,
                window,
                largest_item: 0,
            },
        }
    }

    /// The handler sends `items` and ends the stream with success.
    pub(super) fn answer_with(&mut self, items: impl IntoIterator<Item = Vec<u8>>) {
        self.handler.items.extend(items);
        self.handler.status = Some(Status::ok());
    }

    /// Does all that can be done now, then moves on to the next moment at which something happens. False when nothing
    /// ever will.
    pub(super) fn step(&mut self) -> bool {
        self.settle();
        let next = [
            self.link.flying.front().map(|message| message.at),
            self.inbound.poll_timeout(),
            self.outbound.poll_timeout(),
            self.reader.wakes_at(self.now),
        ]
        .into_iter()
        .flatten()
        .min();
        if let Some(next) = next {
            assert!(next > self.now, "time stands still at {:?}", self.now);
            self.now = next;
        }
        next.is_some()
    }

    /// Runs until the caller has its verdict and has read everything, and the responder is forgotten.
    pub(super) fn drive(&mut self) -> &Termination {
        self.drive_until(|pair| {
            let has_read = matches!(pair.reader.pace, Pace::Never) || pair.reader.waits;
            pair.inbound.termination().is_some() && has_read && pair.outbound.is_forgotten()
        });
        self.inbound.termination().expect("a verdict")
    }

    /// Runs until `done`, and fails when that never comes.
    pub(super) fn drive_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..MAX_STEPS {
            self.settle();
            if done(self) {
                return;
            }
            assert!(self.step(), "nothing happens any more at {:?}", self.now);
        }
        panic!("no end in sight at {:?}", self.now);
    }

    /// Runs for `duration`.
    pub(super) fn drive_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        for _ in 0..MAX_STEPS {
            if !self.step() || self.now > until {
                self.now = until;
                return;
            }
        }
        panic!("no end in sight at {:?}", self.now);
    }

    /// What one side handed out, of one kind.
    pub(super) fn logged(&self, from: Side, pick: impl Fn(&Frame) -> bool) -> Vec<&Logged> {
        self.log
            .iter()
            .filter(|logged| logged.from == from && pick(&logged.frame))
            .collect()
    }

    pub(super) fn closes(&self) -> Vec<CloseCode> {
        self.log
            .iter()
            .filter_map(|logged| match logged.frame {
                Frame::Close { code, .. } => Some(code),
                _ => None,
            })
            .collect()
    }

    fn settle(&mut self) {
        for _ in 0..MAX_STEPS {
            let delivered = self.deliver();
            let timed = self.handle_timeouts();
            let worked = self.run_handler() | self.run_reader();
            let transmitted = self.transmit();
            self.take_events();
            self.check();
            if !(delivered || timed || worked || transmitted) {
                return;
            }
        }
        panic!("never settles at {:?}", self.now);
    }

    fn deliver(&mut self) -> bool {
        let mut delivered = false;
        while self.link.flying.front().is_some_and(|message| message.at <= self.now) {
            let Some(flying) = self.link.flying.pop_front() else {
                break;
            };
            delivered = true;
            match flying.from {
                Side::Responder => {
                    let message = Message {
                        header: flying.header.then_some(self.answer.as_str()),
                        has_headers: flying.header,
                        has_control: flying.control,
                        payload: flying.payload,
                        ..Message::default()
                    };
                    match self.inbound.handle(self.now, &message) {
                        ControlUse::Use => self.control_known = true,
                        ControlUse::Refuse(sid) => {
                            let code = CloseCode::Unwanted;
                            self.send(Side::Caller, Frame::Close { sid, code }.encode(), false, false);
                        }
                        _ => {}
                    }
                }
                Side::Caller => self.deliver_to_responder(flying.payload),
            }
        }
        delivered
    }

    fn deliver_to_responder(&mut self, payload: Bytes) {
        if let Ok(Frame::State { limit, .. }) = Frame::decode(&payload) {
            self.bounds.granted = self.bounds.granted.max(limit);
            if self.outbound.is_forgotten() {
                // Rule 50.
                self.send(Side::Responder, Frame::Reset { sid: SID }.encode(), false, false);
                return;
            }
        }
        let message = Message {
            payload,
            ..Message::default()
        };
        self.outbound
            .handle(self.now, &message)
            .expect("the caller's messages can be read");
    }

    fn handle_timeouts(&mut self) -> bool {
        let mut timed = false;
        if self.inbound.poll_timeout().is_some_and(|at| at <= self.now) {
            self.inbound.handle_timeout(self.now);
            timed = true;
        }
        if self.outbound.poll_timeout().is_some_and(|at| at <= self.now) {
            self.outbound.handle_timeout(self.now);
            timed = true;
        }
        timed
    }

    fn run_handler(&mut self) -> bool {
        if self.handler.waits || self.outbound.closed().is_some() {
            return false;
        }
        let mut worked = self.handler.status.is_some();
        while let Some(item) = self.handler.items.pop_front() {
            self.bounds.largest_item = self.bounds.largest_item.max(item.len() as u64);
            let was_ready = self.outbound.is_ready();
            match self.outbound.push(&item) {
                Ok(()) => {
                    assert!(was_ready, "taken though not ready");
                    self.handler.sent.push(item);
                    worked = true;
                    if self.handler.yields {
                        self.outbound.flush();
                    }
                }
                Err(PushError::Blocked) => {
                    assert!(!was_ready, "ready and yet blocked");
                    self.handler.items.push_front(item);
                    self.handler.waits = true;
                    self.outbound.flush();
                    self.outbound.wait_for_credit(self.now);
                    return true;
                }
                Err(error) => panic!("not taken: {error}"),
            }
            self.check();
        }
        match self.handler.status.take() {
            Some(status) => self.outbound.finish(status),
            None => self.outbound.flush(),
        }
        worked
    }

    fn run_reader(&mut self) -> bool {
        let mut worked = false;
        while !self.reader.waits && self.reader.next_at <= self.now {
            match self.reader.pace {
                Pace::Never => break,
                Pace::Eager => {}
                Pace::Every(pause) => self.reader.next_at = self.now + pause,
            }
            match self.inbound.poll_item(self.now) {
                Some(item) => self.reader.items.push(item),
                None => self.reader.waits = true,
            }
            worked = true;
        }
        worked
    }

    fn transmit(&mut self) -> bool {
        let before = self.log.len();
        // As the drivers do it: nothing is polled that is not wanted.
        while self.outbound.wants_transmit() {
            let transmit = self.outbound.poll_transmit(self.now).expect("it was wanted");
            if transmit.payload.is_empty() {
                // The end of the mapping; the caller has its verdict already.
                assert!(self.outbound.is_forgotten() && !self.outbound.wants_transmit());
                break;
            }
            assert!(
                transmit.payload.len() <= MAX_UNIT,
                "a message of {} bytes",
                transmit.payload.len()
            );
            self.send(Side::Responder, transmit.payload, transmit.header, transmit.control);
        }
        // Without a control subject there is nobody to send to.
        while self.control_known && self.inbound.wants_transmit() {
            let transmit = self.inbound.poll_transmit(self.now).expect("it was wanted");
            self.send(Side::Caller, transmit.payload, transmit.header, transmit.control);
        }
        self.log.len() > before
    }

    fn send(&mut self, from: Side, payload: Bytes, header: bool, control: bool) {
        let frame = Frame::decode(&payload).expect("what a machine hands out can be read");
        let link = &mut self.link;
        let mut copies = 1;
        if (link.lose)(&frame) || link.random.below(100) < link.loss {
            copies = 0;
        } else if link.random.below(100) < link.duplication {
            copies = 2;
        }
        for _ in 0..copies {
            link.flying.push_back(Flying {
                at: self.now + link.latency,
                from,
                header,
                control,
                payload: payload.clone(),
            });
        }
        self.log.push(Logged {
            at: self.now,
            from,
            frame,
        });
        assert!(self.log.len() < MAX_STEPS, "messages without end");
    }

    fn take_events(&mut self) {
        while let Some(event) = self.outbound.poll_event() {
            if event == OutboundEvent::Ready {
                assert!(self.outbound.is_ready(), "woken for nothing");
                self.handler.waits = false;
            }
            self.outbound_events.push(event);
        }
        while let Some(event) = self.inbound.poll_event() {
            self.reader.waits &= event != InboundEvent::Readable;
            self.inbound_events.push(event);
        }
    }

    /// The memory of both sides, against the formulas in their documentation; and what was read so far.
    fn check(&self) {
        let bounds = &self.bounds;
        // The end costs a unit without data.
        let unit = MAX_UNIT as u64 + 2 * UNIT_COST;
        let kept = self.outbound.kept();
        let allowed = bounds
            .retention
            .min(bounds.granted)
            .saturating_add(unit + bounds.largest_item);
        assert!(kept <= allowed, "the responder keeps {kept} of {allowed} bytes");
        let buffered = self.inbound.buffered();
        let allowed = bounds.window.saturating_add(unit);
        assert!(buffered <= allowed, "the caller buffers {buffered} of {allowed} bytes");
        assert!(
            self.reader.items.len() <= self.handler.sent.len(),
            "more read than sent"
        );
        if let Some(last) = self.reader.items.last() {
            assert_eq!(
                last,
                &self.handler.sent[self.reader.items.len() - 1],
                "items out of order"
            );
        }
    }
}

impl Reader {
    fn wakes_at(&self, now: Instant) -> Option<Instant> {
        (matches!(self.pace, Pace::Every(_)) && !self.waits && self.next_at > now).then_some(self.next_at)
    }
}

/// Small, seeded and good enough (splitmix64).
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}
