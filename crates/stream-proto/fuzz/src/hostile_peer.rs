//! One machine and its user, and a peer that sends what it likes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use stream_proto::{Code, Frame, Instant, MAX_HEADER, Message, Open, ServiceError, Status, UNIT_COST};

use crate::caller::Caller;
use crate::input::Input;
use crate::responder::{Responder, SID};
use crate::wire::{BEAT, Block, CLOSE, RESET, STATE, UNIT, Writer, read_number};

/// Runs legal calls on one machine while anything arrives: at a caller when the first byte is even, else at a responder.
///
/// # Panics
/// When the peer harms more than its own stream: memory beyond what is documented, a clock or a poll without end, items
/// that were not sent, something new after the verdict.
pub fn hostile_peer(data: &[u8]) {
    let mut input = Input::new(data);
    if input.flag() {
        attack_responder(&mut input);
    } else {
        attack_caller(&mut input);
    }
}

/// A message before it is one: what a transport would have read.
#[derive(Debug, Default)]
struct Attack {
    status: Option<u16>,
    header: Option<String>,
    has_headers: bool,
    has_control: bool,
    is_mapped: bool,
    payload: Bytes,
}

impl Attack {
    /// Mostly with the headers that an honest peer would send.
    fn new(input: &mut Input<'_>, next: u64, items: u64) -> Self {
        let payload = payload(input, next, items);
        let kind = input.byte();
        let header = match kind % 8 {
            0..=2 => None,
            3..=5 => Some("1;r=1048576;h=5000".to_owned()),
            6 => Some(format!("1;r={};h={};future=1", input.number(), input.number())),
            _ => Some(input.text(MAX_HEADER + 1)),
        };
        let status = match kind / 8 % 16 {
            0 => Some(503),
            1 => Some(input.short()),
            _ => None,
        };
        Self {
            has_headers: header.is_some() || status.is_some() || input.one_in(4),
            header,
            status,
            has_control: kind & 0x80 != 0,
            is_mapped: input.one_in(4),
            payload: Bytes::from(payload),
        }
    }

    fn message(&self) -> Message<'_> {
        Message {
            status: self.status,
            header: self.header.as_deref(),
            has_headers: self.has_headers,
            has_control: self.has_control,
            is_mapped: self.is_mapped,
            // A header that cannot be read is any text: so is this.
            service_error: self.header.as_deref().map(|text| ServiceError { code: text, text }),
            may_follow_loss: false,
            payload: self.payload.clone(),
        }
    }
}

/// A number near `expected`, or any.
fn near(input: &mut Input<'_>, expected: u64) -> u64 {
    match input.byte() % 8 {
        0..=4 => expected,
        5 => expected.saturating_add(input.number()),
        6 => expected.saturating_sub(input.number()),
        _ => input.number(),
    }
}

fn sid(input: &mut Input<'_>) -> u32 {
    if input.one_in(16) { input.number() as u32 } else { SID }
}

/// Any payload of either side, for a stream that stands at `next` with `items` items.
fn payload(input: &mut Input<'_>, next: u64, items: u64) -> Vec<u8> {
    let sid = sid(input);
    let mut bytes = match input.byte() % 16 {
        0..=6 => unit(input, sid, next, items),
        7 | 8 => {
            let announce = input.number();
            Writer::new(BEAT, sid).number(announce).number(near(input, next)).bytes
        }
        9 => Writer::new(RESET, sid).bytes,
        10 | 11 => state(input, sid, next).bytes,
        12 => Writer::new(CLOSE, sid).byte(input.byte()).bytes,
        13 => Writer::new(input.byte(), sid).raw(input.bytes(32)).bytes,
        14 => [&[0xfe], input.bytes(32)].concat(),
        _ => input.bytes(32).to_vec(),
    };
    match input.byte() % 32 {
        0 => bytes.truncate(usize::from(input.byte())),
        1 => bytes.extend_from_slice(input.bytes(16)),
        2 => {
            let at = usize::from(input.byte()) % (bytes.len() + 1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (input.byte() % 8);
            }
        }
        3 => {
            let number = input.number();
            bytes = Writer { bytes }.number_in(number, usize::from(input.byte() % 4)).bytes;
        }
        _ => {}
    }
    bytes
}

fn unit(input: &mut Input<'_>, sid: u32, next: u64, items: u64) -> Vec<u8> {
    let position = near(input, next);
    let mut data = Writer { bytes: Vec::new() };
    let mut whole = 0;
    let shape = input.byte();
    match shape % 8 {
        0 => {}
        1..=3 => {
            for _ in 0..=input.byte() % 4 {
                data = data.item(input.bytes(16));
                whole += 1;
            }
        }
        4 => {
            // One item, as large as a unit may be or larger.
            let len = usize::from(input.short());
            data = data.item(&vec![shape; len]);
            whole = 1;
        }
        5 => {
            // An item that goes on in the next unit, if there is one.
            let announced = input.number();
            data = data.number(announced).raw(&vec![shape; usize::from(input.byte())]);
        }
        6 => data = data.raw(&vec![shape; usize::from(input.short())]),
        _ => data = data.raw(input.bytes(64)),
    }
    let ends = input.byte();
    if ends % 8 != 7 {
        let flags = ends & 0xfe;
        return Writer::new(UNIT, sid)
            .byte(flags)
            .number(position)
            .raw(&data.bytes)
            .bytes;
    }
    let block = Block {
        code: if input.flag() { 0 } else { input.byte() },
        flags: input.byte(),
        retry_after: input.number(),
        items: near(input, items + whole),
        message: input.bytes(16),
        details: input.bytes(16),
    };
    Writer::new(UNIT, sid)
        .byte(ends)
        .number(position)
        .block(&block)
        .raw(&data.bytes)
        .bytes
}

fn state(input: &mut Input<'_>, sid: u32, next: u64) -> Writer {
    let (flags, next) = (input.byte(), near(input, next));
    let limit = match input.byte() % 4 {
        0..=2 => next.saturating_add(u64::from(input.short()) * 4),
        _ => input.number(),
    };
    Writer::new(STATE, sid).byte(flags).number(next).number(limit)
}

/// A driver's clock: never years.
fn until(now: Instant, at: Option<Instant>) -> Instant {
    now + at.map_or(Duration::ZERO, |at| {
        at.saturating_since(now).min(Duration::from_secs(3600))
    })
}

fn attack_caller(input: &mut Input<'_>) {
    let mut now = Instant::ORIGIN + Duration::from_secs(1);
    let mut caller = Caller::new(input, now);
    let mut stream = Stream::default();
    while !input.is_empty() {
        match input.byte() % 16 {
            0..=6 => {
                let attack = Attack::new(input, stream.next, stream.items);
                let before = caller.buffered();
                caller.handle(now, &attack.message());
                let accepted = caller.buffered() - before;
                stream.accept(&attack.payload, accepted);
            }
            7 | 8 => {
                for _ in 0..=input.byte() {
                    let Some(item) = caller.poll_item(now) else { break };
                    stream.check(&item);
                }
            }
            9 => {
                // Items of `poll_item` come first: it holds those of one unit.
                while let Some(item) = caller.poll_item(now) {
                    stream.check(&item);
                }
                assert_eq!(caller.poll_items(now), None, "something is left");
            }
            10 => {
                now = now + input.pause();
                caller.handle_timeout(now);
            }
            11 => {
                now = until(now, caller.poll_timeout());
                caller.handle_timeout(now);
            }
            12 => {
                caller.transmit_all(now);
            }
            13 => caller.take_events(),
            14 => caller.pause_waiting(now),
            _ => match input.byte() % 16 {
                0 => caller.cancel(),
                1 => caller.handle_closed(),
                2 | 3 => caller.set_connected(now, false),
                4 | 5 => caller.set_connected(now, true),
                _ => {}
            },
        }
    }
    caller.transmit_all(now);
    caller.take_events();
    while let Some(item) = caller.poll_item(now) {
        stream.check(&item);
    }
    assert!(caller.is_cancelled || stream.expected.is_empty(), "items have vanished");
    caller.finish(now);
}

/// What the units that a caller accepted amount to, read from rule 12.
#[derive(Debug, Default)]
struct Stream {
    next: u64,
    items: u64,
    /// Bytes that are no whole item yet.
    pending: Vec<u8>,
    expected: VecDeque<Bytes>,
}

impl Stream {
    /// A message was taken for `accepted` on the number line.
    fn accept(&mut self, payload: &Bytes, accepted: u64) {
        if accepted == 0 {
            return;
        }
        let Ok(Frame::Unit(unit)) = Frame::decode(payload) else {
            panic!("accepted, and not a unit")
        };
        assert_eq!((unit.position, unit.end()), (self.next, self.next + accepted));
        assert_eq!(accepted, unit.data.len() as u64 + UNIT_COST);
        self.next = unit.end();
        self.pending.extend_from_slice(&unit.data);
        let mut at = 0;
        while let Some(end) = whole_item(&self.pending[at..]) {
            self.expected
                .push_back(Bytes::copy_from_slice(&self.pending[at..at + end.1][end.0..]));
            at += end.1;
            self.items += 1;
        }
        self.pending.drain(..at);
    }

    fn check(&mut self, item: &Bytes) {
        assert_eq!(
            Some(item),
            self.expected.pop_front().as_ref(),
            "not the item that was sent"
        );
    }
}

/// Where the bytes of the first item begin and end, if it is whole.
fn whole_item(bytes: &[u8]) -> Option<(usize, usize)> {
    let (len, start) = read_number(bytes)?;
    let end = usize::try_from(len).ok()?.checked_add(start)?;
    (end <= bytes.len()).then_some((start, end))
}

fn attack_responder(input: &mut Input<'_>) {
    let mut now = Instant::ORIGIN + Duration::from_secs(1);
    let open = Open {
        limit: if input.flag() { 64 * 1024 } else { input.number() },
        max_item: input.flag().then(|| input.number()),
        heartbeat: input.timeout(),
        deadline: input.timeout(),
        ..Open::default()
    };
    let mut responder = Responder::new(input, &open, now);
    while !input.is_empty() {
        match input.byte() % 16 {
            0..=3 => {
                let next = responder.edge(usize::from(input.byte()));
                let sid = sid(input);
                let payload = state(input, sid, next).bytes;
                // Plain, as callers send it: most of what a responder does hangs on this one.
                let message = Message {
                    payload: Bytes::from(payload),
                    ..Message::default()
                };
                responder.handle(now, &message);
            }
            4 => {
                let next = responder.edge(usize::from(input.byte()));
                let attack = Attack::new(input, next, 0);
                responder.handle(now, &attack.message());
            }
            5 => {
                let len = usize::from(input.byte());
                responder.push(&vec![7; len]);
            }
            6 => {
                let len = usize::from(input.short()) * 2;
                responder.push(&vec![7; len]);
            }
            7 => responder.flush(),
            8 => responder.wait_for_credit(now),
            9 => {
                responder.transmit_all(now);
            }
            10 => {
                for _ in 0..input.byte() {
                    responder.poll_transmit(now);
                }
            }
            11 => {
                now = now + input.pause();
                responder.handle_timeout(now);
            }
            12 => {
                now = until(now, responder.poll_timeout());
                responder.handle_timeout(now);
            }
            13 => responder.take_events(),
            14 => {
                let is_connected = input.flag();
                responder.set_connected(now, is_connected);
            }
            _ => match input.byte() % 16 {
                0 | 1 => responder.finish(Status::new(Code::from_u8(input.byte()), input.text(64))),
                2 => responder.abort(Status::new(Code::from_u8(input.byte()), input.text(64))),
                3 => responder.give_up(),
                _ => {}
            },
        }
    }
    responder.transmit_all(now);
    responder.take_events();
}
