//! Messages and headers out of their fields.

use std::time::Duration;

use bytes::Bytes;
use stream_proto::{
    Answer, CloseCode, Code, Frame, MAX_DETAILS, MAX_MESSAGE, MAX_UNIT, Offer, Open, Status, UNIT_COST, clamp_heartbeat,
};

use crate::input::Input;
use crate::wire::{BEAT, Block, CLOSE, MAX_NUMBER, RESET, STATE, UNIT, Writer};

/// Writes messages and headers from their fields, and reads them back.
///
/// # Panics
/// When something else comes out than went in, or other bytes than the specification says.
pub fn round_trip(data: &[u8]) {
    let mut input = Input::new(data);
    while !input.is_empty() {
        match input.byte() % 10 {
            0 => check_unit(&mut input),
            1 | 2 => check_last_unit(&mut input),
            3 => check_refusal(&mut input),
            4 => check_beat(&mut input),
            5 => check_state(&mut input),
            6 => check_close(&mut input),
            7 => check_bare(&mut input),
            8 => check_open(&mut input),
            _ => check_answer(&mut input),
        }
    }
}

fn sid(input: &mut Input<'_>) -> u32 {
    input.number() as u32
}

/// What `frame` says, which can be written in one way only, is `bytes`.
fn check(frame: &Frame, expected: Frame, writer: Writer) {
    let bytes = Bytes::from(writer.bytes);
    assert_eq!(frame.encode(), bytes, "{frame:?}");
    assert_eq!(Frame::decode(&bytes), Ok(expected));
}

/// Reads a unit that was written here, as `Unit` cannot be built outside its crate.
fn check_read(writer: Writer, sid: u32, position: u64, fin: Option<(Status, u64)>, data: &[u8]) {
    let bytes = Bytes::from(writer.bytes);
    if bytes.len() > MAX_UNIT {
        Frame::decode(&bytes).expect_err("a unit longer than allowed");
        return;
    }
    let frame = Frame::decode(&bytes).expect("a unit as the specification has it");
    assert_eq!(frame.encode(), bytes, "{frame:?}");
    let Frame::Unit(unit) = frame else {
        panic!("not a unit: {frame:?}")
    };
    assert_eq!(
        (unit.sid, unit.position, &unit.fin, &unit.data[..]),
        (sid, position, &fin, data)
    );
    assert_eq!(unit.end(), position + data.len() as u64 + UNIT_COST);
}

fn check_unit(input: &mut Input<'_>) {
    let (sid, position) = (sid(input), input.number().min(MAX_NUMBER));
    let mut data = input.bytes(512).to_vec();
    if input.one_in(32) {
        // About as long as a unit may be.
        data.resize(MAX_UNIT - usize::from(input.byte()), 7);
    }
    let writer = Writer::new(UNIT, sid).byte(0).number(position).raw(&data);
    check_read(writer, sid, position, None, &data);
}

fn check_last_unit(input: &mut Input<'_>) {
    let (sid, position, items) = (
        sid(input),
        input.number().min(MAX_NUMBER),
        input.number().min(MAX_NUMBER),
    );
    let (code, flags) = (input.byte(), input.byte() & 3);
    let retry_after = input.number().min(MAX_NUMBER);
    let message = input.text(MAX_MESSAGE);
    let details = input.bytes(MAX_DETAILS);
    let data = input.bytes(512);
    let block = Block {
        code,
        flags,
        retry_after,
        items,
        message: message.as_bytes(),
        details,
    };
    let writer = Writer::new(UNIT, sid).byte(1).number(position).block(&block).raw(data);
    let mut status = Status::new(Code::from_u8(code), message.as_str());
    status.details = Bytes::copy_from_slice(details);
    status.not_processed = flags & 1 != 0;
    status.retryable = flags & 2 != 0;
    status.retry_after = (retry_after > 0).then(|| Duration::from_millis(retry_after));
    check_read(writer, sid, position, Some((status, items)), data);
}

/// A status that a user built, which may be longer than what travels.
fn check_refusal(input: &mut Input<'_>) {
    let sid = sid(input);
    let mut status = Status::new(Code::from_u8(input.byte()), "");
    for _ in 0..=input.byte() {
        status.message += &input.text(8);
    }
    status.message += &"\u{e9}".repeat(usize::from(input.byte()) * 4);
    let details = input.number() % (2 * MAX_DETAILS as u64);
    status.details = Bytes::from(vec![input.byte(); details as usize]);
    (status.not_processed, status.retryable) = (input.flag(), input.flag());
    status.retry_after = input.timeout();

    let Ok(Frame::Unit(unit)) = Frame::decode(&Frame::refusal(sid, status.clone()).encode()) else {
        panic!("a refusal that cannot be read: {status:?}")
    };
    let Some((decoded, 0)) = unit.fin else {
        panic!("a refusal with items: {unit:?}")
    };
    assert_eq!((unit.sid, unit.position, unit.data.len()), (sid, 0, 0));
    assert_eq!(decoded.code, status.code);
    assert_eq!(
        (decoded.not_processed, decoded.retryable),
        (status.not_processed, status.retryable)
    );
    let longest = (0..=MAX_MESSAGE.min(status.message.len())).rfind(|end| status.message.is_char_boundary(*end));
    assert_eq!(Some(decoded.message.len()), longest);
    assert!(status.message.starts_with(&decoded.message));
    let fits = status.details.len() <= MAX_DETAILS;
    assert_eq!(decoded.details, if fits { status.details } else { Bytes::new() });
    // In whole milliseconds, and never none where there was one.
    let millis = |after: Duration| after.as_millis().clamp(1, u128::from(MAX_NUMBER));
    assert_eq!(
        decoded.retry_after.map(|after| after.as_millis()),
        status.retry_after.map(millis)
    );
}

fn check_beat(input: &mut Input<'_>) {
    let (sid, announce, position) = (sid(input), input.number(), input.number());
    let beat = |announce, position| Frame::Beat {
        sid,
        announce,
        position,
    };
    let (a, p) = (announce.min(MAX_NUMBER), position.min(MAX_NUMBER));
    let writer = Writer::new(BEAT, sid).number(a).number(p);
    check(&beat(announce, position), beat(a, p), writer);
}

fn check_state(input: &mut Input<'_>) {
    let (sid, rewind, next, limit) = (sid(input), input.flag(), input.number(), input.number());
    let state = |next, limit| Frame::State {
        sid,
        rewind,
        next,
        limit,
    };
    let (n, l) = (next.min(MAX_NUMBER), limit.min(MAX_NUMBER));
    let writer = Writer::new(STATE, sid).byte(u8::from(rewind)).number(n).number(l);
    check(&state(next, limit), state(n, l), writer);
}

fn check_close(input: &mut Input<'_>) {
    let (sid, number) = (sid(input), input.byte());
    let code = match number {
        0 => CloseCode::Done,
        1 => CloseCode::Cancelled,
        2 => CloseCode::Unwanted,
        3 => CloseCode::Deadline,
        4 => CloseCode::Protocol,
        other => CloseCode::Other(other),
    };
    let frame = Frame::Close { sid, code };
    check(&frame, frame.clone(), Writer::new(CLOSE, sid).byte(number));
}

/// Kinds without fields, and those that this version does not know.
fn check_bare(input: &mut Input<'_>) {
    let (sid, kind) = (sid(input), input.byte());
    let frame = match kind {
        UNIT | BEAT | STATE | CLOSE => return,
        RESET => Frame::Reset { sid },
        kind => Frame::Unknown { sid, kind },
    };
    check(&frame, frame.clone(), Writer::new(kind, sid));
}

/// Milliseconds of a header; more than fit are as many.
fn to_millis(duration: Duration) -> Duration {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis.min(MAX_NUMBER))
}

fn check_open(input: &mut Input<'_>) {
    let open = Open {
        limit: input.number(),
        max_item: input.flag().then(|| input.number()),
        heartbeat: input.flag().then(|| input.duration()),
        deadline: input.flag().then(|| input.duration()),
        control: input.flag(),
        probe: input.flag(),
    };
    let expected = Open {
        limit: open.limit.min(MAX_NUMBER),
        max_item: open.max_item.map(|max| max.min(MAX_NUMBER)),
        heartbeat: open.heartbeat.map(to_millis),
        // Rounded up.
        deadline: open.deadline.map(|deadline| {
            let millis = to_millis(deadline);
            let is_short = millis < deadline && millis < Duration::from_millis(MAX_NUMBER);
            millis + Duration::from_millis(u64::from(is_short))
        }),
        ..open
    };
    let parsed = Open::parse(&open.encode());
    if open.limit == 0 {
        parsed.expect_err("a limit of 0");
    } else {
        assert_eq!(parsed, Ok(Offer::Supported(expected)));
    }
}

fn check_answer(input: &mut Input<'_>) {
    let answer = Answer {
        retention: input.number(),
        heartbeat: input.duration(),
        control: input.flag(),
    };
    let expected = Answer {
        // Without control there is none to speak of.
        retention: if answer.control {
            answer.retention.min(MAX_NUMBER)
        } else {
            u64::MAX
        },
        heartbeat: clamp_heartbeat(to_millis(answer.heartbeat)),
        ..answer
    };
    assert_eq!(Answer::parse(&answer.encode()), Ok(expected));
}
