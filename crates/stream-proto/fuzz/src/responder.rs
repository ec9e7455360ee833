//! The responder's half, and what must hold for it whatever arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use stream_proto::{
    CloseReason, Frame, Instant, MAX_UNIT, MIN_UNIT, Message, Open, Outbound, OutboundConfig, OutboundEvent, PushError,
    Status, Transmit, UNIT_COST,
};

use crate::input::Input;
use crate::wire::read_number;

/// The stream of all runs.
pub(crate) const SID: u32 = 0x5eed_0001;

/// More clocks in a row than this do not end.
const ENDLESS: usize = 1000;

/// Sent ahead of the first STATE at most (rule 29).
const UNCONFIRMED_LIMIT: u64 = 64 * 1024;

/// An [`Outbound`] that is looked at after each call.
#[derive(Debug)]
pub(crate) struct Responder {
    outbound: Outbound,
    mapped: bool,
    max_unit: usize,
    retention: u64,
    granted: u64,
    acked: u64,
    confirmed: bool,
    largest: u64,
    is_connected: bool,
    /// Nothing of the configuration ends the stream before its time.
    pub(crate) is_patient: bool,
    /// Every unit that was handed out, by its position, and the end of the last one.
    sent: BTreeMap<u64, Bytes>,
    sent_end: u64,
    /// Whole items in them, and how much is missing of the one after.
    sent_items: u64,
    missing: usize,
    end_was_sent: bool,
    closed: Option<CloseReason>,
    closed_events: u32,
    forgotten_events: u32,
    /// Messages that may still follow after the stream was forgotten: the one that ends a mapping.
    farewells: u32,
}

impl Responder {
    pub(crate) fn new(input: &mut Input<'_>, open: &Open, now: Instant) -> Self {
        let mut config = OutboundConfig::default();
        if input.flag() {
            config.retention = input.number();
        }
        if input.flag() {
            config.max_unit = input.number() as usize;
        }
        if input.one_in(4) {
            config.max_item = input.number();
        }
        if input.one_in(4) {
            config.stall_limit = input.duration();
        }
        if input.one_in(4) {
            config.outage_limit = input.duration();
        }
        config.heartbeat = input.duration();
        config.mapped = input.one_in(3);
        Self {
            outbound: Outbound::new(SID, open, &config, now),
            mapped: config.mapped,
            max_unit: config.max_unit.clamp(MIN_UNIT, MAX_UNIT),
            retention: config.retention.max(1),
            granted: open.limit.max(1),
            acked: 0,
            confirmed: false,
            largest: 0,
            is_connected: true,
            is_patient: config.stall_limit >= Duration::from_secs(60),
            sent: BTreeMap::new(),
            sent_end: 0,
            sent_items: 0,
            missing: 0,
            end_was_sent: false,
            closed: None,
            closed_events: 0,
            forgotten_events: 0,
            farewells: u32::from(config.mapped),
        }
    }

    pub(crate) fn answer(&self) -> String {
        self.outbound.answer().encode()
    }

    pub(crate) fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// Has a STATE arrived?
    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected
    }

    pub(crate) fn is_forgotten(&self) -> bool {
        self.outbound.is_forgotten()
    }

    /// Was the whole answer one message? It is not repeated (rule 54).
    pub(crate) fn is_single(&self) -> bool {
        self.end_was_sent && self.sent.len() == 1
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.outbound.end().is_some() || self.outbound.closed().is_some()
    }

    pub(crate) fn wants_transmit(&self) -> bool {
        self.outbound.wants_transmit()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.outbound.poll_timeout()
    }

    /// Positions that a caller may name: the edges of what was sent.
    pub(crate) fn edge(&self, index: usize) -> u64 {
        let index = index % (self.sent.len() + 1);
        self.sent.keys().nth(index).copied().unwrap_or(self.sent_end)
    }

    /// Was the item taken?
    pub(crate) fn push(&mut self, item: &[u8]) -> bool {
        let (was_ready, had_ended) = (self.outbound.is_ready(), self.has_ended());
        let pushed = self.outbound.push(item);
        match pushed {
            Ok(()) => assert!(was_ready, "taken though not ready"),
            Err(PushError::Blocked) => assert!(!was_ready && !had_ended, "ready and yet blocked"),
            Err(PushError::Ended) => assert!(had_ended, "ended without an end"),
            Err(PushError::TooLarge { size, max }) => {
                assert!(size == item.len() as u64 && size > max && max == self.outbound.max_item());
            }
            Err(other) => panic!("a new kind of error: {other:?}"),
        }
        if pushed.is_ok() {
            self.largest = self.largest.max(item.len() as u64);
        }
        self.check();
        pushed.is_ok()
    }

    pub(crate) fn flush(&mut self) {
        self.outbound.flush();
        self.check();
    }

    pub(crate) fn wait_for_credit(&mut self, now: Instant) {
        self.outbound.wait_for_credit(now);
        self.check();
    }

    pub(crate) fn finish(&mut self, status: Status) {
        self.outbound.finish(status);
        self.check();
        assert!(self.has_ended());
    }

    pub(crate) fn abort(&mut self, status: Status) {
        self.outbound.abort(status, CloseReason::Local);
        self.check();
        assert!(self.has_ended());
    }

    pub(crate) fn give_up(&mut self) {
        self.outbound.give_up(CloseReason::Disconnected);
        self.check();
        assert!(self.is_forgotten());
    }

    pub(crate) fn handle(&mut self, now: Instant, message: &Message<'_>) {
        let was_forgotten = self.is_forgotten();
        let before = self.outbound.stats();
        let handled = self.outbound.handle(now, message);
        if let (
            false,
            Ok(Frame::State {
                sid: SID, next, limit, ..
            }),
        ) = (was_forgotten, Frame::decode(&message.payload))
            && message.status != Some(503)
        {
            self.confirmed = true;
            self.granted = self.granted.max(limit);
            if next == self.sent_end || self.sent.contains_key(&next) {
                self.acked = self.acked.max(next);
            }
        }
        if handled.is_err() {
            let after = self.outbound.stats();
            assert_eq!(after.malformed, before.malformed + 1, "an error that was not counted");
        }
        self.check();
    }

    pub(crate) fn set_connected(&mut self, now: Instant, is_connected: bool) {
        if is_connected == self.is_connected {
            return;
        }
        self.is_connected = is_connected;
        if is_connected {
            self.outbound.handle_reconnected(now);
        } else {
            self.outbound.handle_disconnected(now);
        }
        self.check();
    }

    /// Calls `handle_timeout` as long as it is due, and once in any case.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..ENDLESS {
            self.outbound.handle_timeout(now);
            self.check();
            if self.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
        }
        panic!("a clock of the responder stands still at {now:?}");
    }

    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let is_wanted = self.wants_transmit();
        let transmit = self.outbound.poll_transmit(now);
        assert_eq!(transmit.is_some(), is_wanted, "wanted, and what came");
        if let Some(transmit) = &transmit {
            self.check_sent(transmit);
        }
        self.check();
        transmit
    }

    /// Everything that is to be sent now.
    pub(crate) fn transmit_all(&mut self, now: Instant) -> Vec<Transmit> {
        // At most once what is kept, a message that was still to come for each, and a few beats.
        let endless = 2 * self.sent.len() + (self.outbound.kept() / UNIT_COST) as usize + 1000;
        let all: Vec<Transmit> = std::iter::from_fn(|| self.poll_transmit(now)).take(endless).collect();
        assert!(all.len() < endless, "the responder never stops sending");
        all
    }

    /// What happened; each end once.
    pub(crate) fn take_events(&mut self) {
        for count in 0.. {
            assert!(count <= 3, "events without end");
            match self.outbound.poll_event() {
                None => return,
                Some(OutboundEvent::Ready) => assert!(self.outbound.is_ready(), "woken for nothing"),
                Some(OutboundEvent::Closed(reason)) => {
                    self.closed_events += 1;
                    assert_eq!(self.outbound.closed(), Some(reason));
                }
                Some(OutboundEvent::Forgotten) => {
                    self.forgotten_events += 1;
                    assert!(self.is_forgotten());
                }
                Some(other) => panic!("a new kind of event: {other:?}"),
            }
            assert!(
                self.closed_events <= 1 && self.forgotten_events <= 1,
                "an event came twice"
            );
        }
    }

    fn effective_limit(&self) -> u64 {
        let limit = self.granted.min(self.acked.saturating_add(self.retention));
        if self.confirmed {
            limit
        } else {
            limit.min(UNCONFIRMED_LIMIT)
        }
    }

    fn check_sent(&mut self, transmit: &Transmit) {
        if self.is_forgotten() {
            assert!(self.farewells > 0, "something is sent after the stream was forgotten");
            self.farewells -= 1;
        }
        if transmit.payload.is_empty() {
            assert!(self.mapped, "a bare empty message, and nothing is mapped");
            return;
        }
        let frame = Frame::decode(&transmit.payload).expect("what a machine hands out can be read");
        assert_eq!(frame.sid(), SID);
        assert!(self.confirmed || transmit.header, "unconfirmed, and no header");
        let unit = match frame {
            Frame::Unit(unit) => unit,
            Frame::Beat { position, .. } => {
                assert!(
                    position <= self.sent_end + self.outbound.kept(),
                    "a beat from the future"
                );
                return;
            }
            other => panic!("not a responder's message: {other:?}"),
        };
        let len = transmit.payload.len();
        assert!(len <= self.max_unit, "a unit of {len} bytes");
        if let Some(payload) = self.sent.get(&unit.position) {
            assert_eq!(*payload, transmit.payload, "sent again, and not the same");
            return;
        }
        assert_eq!(unit.position, self.sent_end, "units follow each other");
        assert!(!self.end_was_sent, "a unit follows the end");
        let is_bare_end = unit.fin.is_some() && unit.data.is_empty();
        assert!(
            is_bare_end || unit.position < self.effective_limit(),
            "sent beyond the credit"
        );
        self.count_items(&unit.data);
        if let Some((status, items)) = &unit.fin {
            assert_eq!(*items, self.sent_items, "the end counts the items before it");
            assert!(!status.is_ok() || self.missing == 0 || self.outbound.closed().is_some());
        }
        self.end_was_sent = unit.fin.is_some();
        self.sent_end = unit.end();
        self.sent.insert(unit.position, transmit.payload.clone());
    }

    fn count_items(&mut self, mut data: &[u8]) {
        let was_inside = self.missing > 0;
        let rest = self.missing.min(data.len());
        data = &data[rest..];
        self.missing -= rest;
        self.sent_items += u64::from(was_inside && self.missing == 0);
        while !data.is_empty() {
            let (len, start) = read_number(data).expect("a length that is split");
            let len = len as usize;
            let here = len.min(data.len() - start);
            self.missing = len - here;
            self.sent_items += u64::from(self.missing == 0);
            data = &data[start + here..];
        }
    }

    fn check(&mut self) {
        let kept = self.outbound.kept();
        // The end costs a unit without data; it and an item's rest come on top.
        let unit = MAX_UNIT as u64 + 2 * UNIT_COST;
        let allowed = self.retention.min(self.granted).saturating_add(unit + self.largest);
        assert!(kept <= allowed, "the responder keeps {kept} of {allowed} bytes");
        if self.is_forgotten() {
            assert_eq!(kept, 0, "forgotten, and yet kept");
            assert_eq!(self.poll_timeout(), None, "a clock runs after the end");
        }
        if self.closed.is_some() {
            assert_eq!(self.outbound.closed(), self.closed, "the reason has changed");
        }
        self.closed = self.outbound.closed();
    }
}
