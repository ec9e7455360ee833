//! Both machines in virtual time, one topic a file.

mod blocked;
mod clocks;
mod credit;
mod ending;
mod far;
mod foreign;
mod hostile;
mod items;
mod liveness;
mod model;
mod opening;
mod pair;
mod properties;
mod uncontrolled;

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::frame::{Frame, UNIT_COST, Unit};
use crate::{
    Answer, CloseCode, DEFAULT_HEARTBEAT, Inbound, InboundConfig, InboundEvent, Instant, Message, Open, Outbound,
    OutboundConfig, OutboundEvent, Status, Transmit, varint,
};

const SID: u32 = 0x5eed_0001;
const KIB: u64 = 1024;
/// The heartbeat of all tests that do not set another.
const H: Duration = DEFAULT_HEARTBEAT;

fn at(millis: u64) -> Instant {
    Instant::ORIGIN + Duration::from_millis(millis)
}

fn open() -> Open {
    Open {
        limit: 64 * KIB,
        ..Open::default()
    }
}

/// A responder of the stream [`SID`] that was opened at the origin.
fn outbound(open: Open, config: &OutboundConfig) -> Outbound {
    Outbound::new(SID, &open, config, Instant::ORIGIN)
}

/// A responder with one unit sent and confirmed, and `limit` granted.
fn confirmed(open: Open, config: &OutboundConfig, limit: u64) -> Outbound {
    let mut outbound = outbound(open, config);
    outbound.push(b"first").expect("room");
    outbound.flush();
    let next = end_of(&drain(&mut outbound, at(0)));
    give(&mut outbound, at(0), state(next, limit));
    drain_events(&mut outbound);
    outbound
}

/// A message that was handed out, and what it says.
#[derive(Debug)]
struct Sent {
    transmit: Transmit,
    frame: Frame,
}

impl Sent {
    fn unit(&self) -> &Unit {
        match &self.frame {
            Frame::Unit(unit) => unit,
            other => panic!("not a unit: {other:?}"),
        }
    }

    fn is_beat(&self) -> bool {
        matches!(self.frame, Frame::Beat { .. })
    }

    fn is_fin(&self) -> bool {
        matches!(&self.frame, Frame::Unit(unit) if unit.fin.is_some())
    }
}

/// All that `poll` hands out; a machine that never stops is a bug.
fn collect(mut poll: impl FnMut() -> Option<Transmit>) -> Vec<Sent> {
    let mut sent = Vec::new();
    while let Some(transmit) = poll() {
        let frame = Frame::decode(&transmit.payload).expect("what a machine hands out can be read");
        sent.push(Sent { transmit, frame });
        assert!(sent.len() < 100_000, "poll_transmit never ends");
    }
    sent
}

fn drain(outbound: &mut Outbound, now: Instant) -> Vec<Sent> {
    // As the drivers do it: what is not wanted is not polled.
    collect(|| {
        outbound
            .wants_transmit()
            .then(|| outbound.poll_transmit(now).expect("it was wanted"))
    })
}

fn drain_inbound(inbound: &mut Inbound, now: Instant) -> Vec<Frame> {
    let sent = collect(|| {
        inbound
            .wants_transmit()
            .then(|| inbound.poll_transmit(now).expect("it was wanted"))
    });
    sent.into_iter().map(|sent| sent.frame).collect()
}

fn drain_events(outbound: &mut Outbound) -> Vec<OutboundEvent> {
    core::iter::from_fn(|| outbound.poll_event()).collect()
}

fn inbound_events(inbound: &mut Inbound) -> Vec<InboundEvent> {
    core::iter::from_fn(|| inbound.poll_event()).collect()
}

fn end_of(sent: &[Sent]) -> u64 {
    sent.last().expect("something was sent").unit().end()
}

/// Calls [`Outbound::handle_timeout`] whenever it is due until `until`: what was handed out, with its time.
fn run(outbound: &mut Outbound, until: Instant) -> Vec<(Instant, Sent)> {
    let mut log = Vec::new();
    while let Some(now) = outbound.poll_timeout().filter(|now| *now <= until) {
        outbound.handle_timeout(now);
        log.extend(drain(outbound, now).into_iter().map(|sent| (now, sent)));
        assert!(
            outbound.poll_timeout().is_none_or(|next| next > now),
            "a clock stands still"
        );
    }
    log
}

/// As [`run`], for the caller.
fn run_inbound(inbound: &mut Inbound, until: Instant) -> Vec<(Instant, Frame)> {
    let mut log = Vec::new();
    while let Some(now) = inbound.poll_timeout().filter(|now| *now <= until) {
        inbound.handle_timeout(now);
        log.extend(drain_inbound(inbound, now).into_iter().map(|frame| (now, frame)));
        assert!(
            inbound.poll_timeout().is_none_or(|next| next > now),
            "a clock stands still"
        );
    }
    log
}

/// Milliseconds since the origin of those in `log` that `pick` takes.
fn times<T>(log: &[(Instant, T)], pick: impl Fn(&T) -> bool) -> Vec<u64> {
    log.iter()
        .filter(|(_, entry)| pick(entry))
        .map(|(at, _)| at.as_nanos() / 1_000_000)
        .collect()
}

fn message(payload: Bytes) -> Message<'static> {
    Message {
        payload,
        ..Message::default()
    }
}

/// As a responder sends it before it is confirmed: with header and control subject.
fn announced(frame: &Frame) -> Message<'static> {
    Message {
        header: Some("1;r=1048576;h=5000"),
        has_headers: true,
        has_control: true,
        ..message(frame.encode())
    }
}

fn plain(frame: &Frame) -> Message<'static> {
    message(frame.encode())
}

fn state(next: u64, limit: u64) -> Frame {
    Frame::State {
        sid: SID,
        rewind: false,
        next,
        limit,
    }
}

fn rewind(next: u64, limit: u64) -> Frame {
    Frame::State {
        sid: SID,
        rewind: true,
        next,
        limit,
    }
}

fn close(code: CloseCode) -> Frame {
    Frame::Close { sid: SID, code }
}

fn beat(announce: u64, position: u64) -> Frame {
    Frame::Beat {
        sid: SID,
        announce,
        position,
    }
}

/// A unit of [`SID`] with `items` in it.
fn unit(position: u64, items: &[&[u8]]) -> Frame {
    raw_unit(position, &encode_items(items), None)
}

fn fin(position: u64, items: &[&[u8]], status: Status, count: u64) -> Frame {
    raw_unit(position, &encode_items(items), Some((status, count)))
}

fn raw_unit(position: u64, data: &[u8], fin: Option<(Status, u64)>) -> Frame {
    Frame::Unit(Unit {
        sid: SID,
        position,
        fin,
        data: Bytes::copy_from_slice(data),
        data_offset: 0,
    })
}

fn encode_items(items: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        varint::put(item.len() as u64, &mut out);
        out.extend_from_slice(item);
    }
    out
}

/// Where the unit after one with `items` stands.
fn after(position: u64, items: &[&[u8]]) -> u64 {
    position + encode_items(items).len() as u64 + UNIT_COST
}

fn give(outbound: &mut Outbound, now: Instant, frame: Frame) {
    outbound.handle(now, &plain(&frame)).expect("well formed");
}

/// A caller that was opened at the origin and has accepted `items` as unit 0 then; the first STATE is out.
fn locked(config: InboundConfig, items: &[&[u8]]) -> (Inbound, u64) {
    let mut inbound = Inbound::new(config, Instant::ORIGIN);
    inbound.handle(at(0), &announced(&unit(0, items)));
    assert!(inbound.is_locked());
    inbound.handle_timeout(at(25));
    assert_eq!(drain_inbound(&mut inbound, at(25)).len(), 1, "the lock is confirmed");
    (inbound, after(0, items))
}

fn read_all(inbound: &mut Inbound, now: Instant) -> Vec<Bytes> {
    core::iter::from_fn(|| inbound.poll_item(now)).collect()
}

fn answer(retention: u64) -> alloc::string::String {
    Answer {
        retention,
        heartbeat: H,
        control: true,
    }
    .encode()
}
