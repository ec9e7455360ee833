//! Streams over a link with a rate and a round trip, in virtual time.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::SID;
use crate::frame::{Frame, UNIT_COST};
use crate::{
    Budget, ControlUse, Inbound, InboundConfig, Instant, MAX_UNIT, Message, NEAR_WINDOW, Offer, Open, Outbound,
    OutboundConfig, Status,
};

const MIB: u64 = 1 << 20;

/// What the link of most tests carries in a second.
const RATE: u64 = 20_000_000;

/// A caller and a responder far from each other. The way to the caller carries so many bytes a second; what does not fit
/// waits before it, as in nats-server.
struct Far {
    now: Instant,
    inbound: Inbound,
    outbound: Outbound,
    round_trip: Duration,
    rate: u64,
    to_caller: VecDeque<(Instant, Bytes, bool, bool)>,
    to_responder: VecDeque<(Instant, Bytes)>,
    /// When the link has carried all that was given to it.
    is_free: Instant,
    /// The handler sends items of this size.
    item: Vec<u8>,
    /// It makes one after the other in this time; without, it never waits for anything but credit.
    pause: Option<Duration>,
    next_item: Instant,
    stopped: bool,
    /// Of so many messages to the caller the last one is lost.
    loses: Option<u64>,
    sent: u64,
    /// Bytes that the user has taken.
    read: u64,
    /// The largest limit above what had arrived, and the most that the responder kept.
    widest: u64,
    most_kept: u64,
}

impl Far {
    fn new(round_trip: Duration, rate: u64, inbound: InboundConfig, outbound: &OutboundConfig) -> Self {
        let now = Instant::ORIGIN;
        let inbound = Inbound::new(inbound, now);
        let Ok(Offer::Supported(open)) = Open::parse(&inbound.open().encode()) else {
            panic!("the caller's own Open is not understood")
        };
        let arrives = now + round_trip / 2;
        Self {
            now: arrives,
            inbound,
            outbound: Outbound::new(SID, &open, outbound, arrives),
            round_trip,
            rate,
            to_caller: VecDeque::new(),
            to_responder: VecDeque::new(),
            is_free: now,
            item: alloc::vec![7; 8000],
            pause: None,
            next_item: now,
            stopped: false,
            loses: None,
            sent: 0,
            read: 0,
            widest: 0,
            most_kept: 0,
        }
    }

    fn with_defaults(round_trip: Duration, rate: u64) -> Self {
        Self::new(round_trip, rate, InboundConfig::default(), &OutboundConfig::default())
    }

    /// Runs for `time`, and returns how many bytes the user took a second.
    fn run(&mut self, time: Duration) -> f64 {
        let (before, until) = (self.read, self.now + time);
        loop {
            self.settle();
            let wakes = (self.pause.is_some() && !self.stopped && self.outbound.is_ready()).then_some(self.next_item);
            let next = [
                self.to_caller.front().map(|message| message.0),
                self.to_responder.front().map(|message| message.0),
                self.inbound.poll_timeout(),
                self.outbound.poll_timeout(),
                wakes,
            ];
            match next.into_iter().flatten().min() {
                Some(next) if next <= until => self.now = self.now.max(next),
                _ => {
                    self.now = until;
                    return (self.read - before) as f64 / time.as_secs_f64();
                }
            }
        }
    }

    /// The handler has ended; runs until the caller has everything.
    fn finish(&mut self) {
        self.outbound.finish(Status::ok());
        self.stopped = true;
        self.run(Duration::from_secs(20));
        assert!(self.inbound.termination().is_some_and(crate::Termination::is_ok));
        assert_eq!(self.read, self.outbound.stats().bytes);
    }

    fn settle(&mut self) {
        while self.to_caller.front().is_some_and(|message| message.0 <= self.now) {
            let (_, payload, header, control) = self.to_caller.pop_front().expect("there is one");
            let answer = self.outbound.answer().encode();
            let message = Message {
                header: header.then_some(answer.as_str()),
                has_headers: header,
                has_control: control,
                payload,
                ..Message::default()
            };
            assert!(matches!(
                self.inbound.handle(self.now, &message),
                ControlUse::Use | ControlUse::Ignore
            ));
            while let Some(items) = self.inbound.poll_items(self.now) {
                self.read += items.map(|item| item.len() as u64).sum::<u64>();
            }
        }
        while self.to_responder.front().is_some_and(|message| message.0 <= self.now) {
            let (_, payload) = self.to_responder.pop_front().expect("there is one");
            let message = Message {
                payload,
                ..Message::default()
            };
            self.outbound.handle(self.now, &message).expect("it can be read");
        }
        self.inbound.handle_timeout(self.now);
        self.outbound.handle_timeout(self.now);
        self.push();
        self.transmit();
        while self.outbound.poll_event().is_some() || self.inbound.poll_event().is_some() {}
        self.most_kept = self.most_kept.max(self.outbound.kept());
    }

    fn push(&mut self) {
        while !self.stopped && self.outbound.is_ready() && self.pause.is_none_or(|_| self.next_item <= self.now) {
            self.outbound.push(&self.item).expect("it is ready");
            if let Some(pause) = self.pause {
                self.next_item = self.next_item.max(self.now) + pause;
            }
        }
        self.outbound.flush();
        if !self.stopped && !self.outbound.is_ready() {
            self.outbound.wait_for_credit(self.now);
        }
    }

    fn transmit(&mut self) {
        while self.outbound.wants_transmit() {
            let transmit = self.outbound.poll_transmit(self.now).expect("it was wanted");
            let took = Duration::from_nanos(transmit.payload.len() as u64 * 1_000_000_000 / self.rate);
            self.is_free = self.is_free.max(self.now) + took;
            self.sent += 1;
            if self.loses.is_some_and(|loses| self.sent.is_multiple_of(loses)) {
                continue;
            }
            self.to_caller.push_back((
                self.is_free + self.round_trip / 2,
                transmit.payload,
                transmit.header,
                transmit.control,
            ));
        }
        while self.inbound.wants_transmit() {
            let transmit = self.inbound.poll_transmit(self.now).expect("it was wanted");
            if let Ok(Frame::State { next, limit, .. }) = Frame::decode(&transmit.payload) {
                self.widest = self.widest.max(limit.saturating_sub(next));
            }
            self.to_responder
                .push_back((self.now + self.round_trip / 2, transmit.payload));
        }
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn one_stream_fills_a_link_whatever_its_round_trip() {
    for round_trip in [1, 20, 50, 75, 100, 150, 200] {
        let mut far = Far::with_defaults(millis(round_trip), RATE);
        let first = far.run(Duration::from_secs(3));
        let then = far.run(Duration::from_secs(4));
        assert!(then > 0.84 * RATE as f64, "{round_trip} ms: {then:.0} bytes a second");
        assert!(
            first > 0.7 * RATE as f64,
            "{round_trip} ms: {first:.0} bytes a second at first"
        );
        assert!(far.most_kept >= RATE * round_trip / 1000, "what is on the way");
        assert!(far.widest <= 8 * MIB && far.most_kept <= 8 * MIB + MAX_UNIT as u64 + 2 * UNIT_COST);
        far.finish();
    }
}

#[test]
fn the_largest_window_by_default_is_enough_for_350_ms() {
    let mut far = Far::with_defaults(millis(350), RATE);
    far.run(Duration::from_secs(6));
    let rate = far.run(Duration::from_secs(4));
    assert!(rate > 0.98 * RATE as f64, "{rate:.0} bytes a second");
}

#[test]
fn a_window_is_no_larger_than_its_round_trip_needs() {
    // Twice what is on the way, and what doubling adds.
    for (round_trip, rate, most) in [
        (1, RATE, 2),
        (20, RATE, 2),
        (100, RATE, 4),
        (100, 2_000_000, 2),
        (1, 1_000_000_000, 4),
    ] {
        let mut far = Far::with_defaults(millis(round_trip), rate);
        // As many bytes for each.
        far.run(Duration::from_secs_f64(100e6 / rate as f64).min(Duration::from_secs(5)));
        assert!(
            far.widest <= most * MIB,
            "{round_trip} ms, {rate} bytes a second: {}",
            far.widest
        );
    }
}

#[test]
fn the_setting_is_the_largest_window() {
    for window in [100_000, MIB, 3 * MIB] {
        let config = InboundConfig {
            max_window: window,
            ..InboundConfig::default()
        };
        let mut far = Far::new(millis(200), RATE, config, &OutboundConfig::default());
        far.run(Duration::from_secs(5));
        assert_eq!(far.widest, window);
    }
}

#[test]
fn a_window_is_not_larger_than_what_the_responder_keeps() {
    let keeps = OutboundConfig {
        retention: 3 * MIB,
        ..OutboundConfig::default()
    };
    let mut far = Far::new(millis(200), RATE, InboundConfig::default(), &keeps);
    far.run(Duration::from_secs(5));
    assert_eq!(far.widest, 3 * MIB);
}

#[test]
fn a_responder_without_budget_keeps_less_and_does_not_stall() {
    let keeps = OutboundConfig {
        retention_budget: Some(Budget::new(0)),
        ..OutboundConfig::default()
    };
    let mut far = Far::new(millis(200), RATE, InboundConfig::default(), &keeps);
    far.run(Duration::from_secs(3));
    let rate = far.run(Duration::from_secs(4));
    assert!(far.most_kept <= NEAR_WINDOW + MAX_UNIT as u64 + 2 * UNIT_COST);
    // What is kept, each round trip and the time that the half of it needs. A wait for a beat takes 500 ms.
    assert!(rate > 8_000_000.0, "{rate:.0} bytes a second");
    far.finish();
}

#[test]
fn what_a_responder_keeps_goes_back_when_it_is_not_used() {
    let budget = Budget::new(64 * MIB);
    let keeps = OutboundConfig {
        retention_budget: Some(budget.clone()),
        ..OutboundConfig::default()
    };
    let mut far = Far::new(millis(200), RATE, InboundConfig::default(), &keeps);
    far.run(Duration::from_secs(5));
    assert!(budget.used() > 2 * MIB && budget.used() <= 6 * MIB, "{}", budget.used());
    far.stopped = true;
    far.run(Duration::from_secs(12));
    assert_eq!(budget.used(), 0, "nothing comes any more");
    assert_eq!(far.outbound.kept(), 0);
    far.stopped = false;
    let rate = far.run(Duration::from_secs(5));
    assert!(
        rate > 0.5 * RATE as f64 && budget.used() > 0,
        "{rate:.0} bytes a second"
    );
    far.finish();
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_stream_that_becomes_slow_gives_its_window_back() {
    let budget = Budget::new(16 * MIB);
    let config = InboundConfig {
        budget: Some(budget.clone()),
        ..InboundConfig::default()
    };
    let mut far = Far::new(millis(200), RATE, config, &OutboundConfig::default());
    far.run(Duration::from_secs(5));
    assert!(budget.used() > 4 * MIB);
    // 100 kB a second, which use up 8 MiB in less than 90.
    far.item.truncate(1000);
    far.pause = Some(millis(10));
    far.run(Duration::from_secs(120));
    // What comes in some seconds: such a window lasts longer than eight round trips.
    assert!(budget.used() < MIB, "{}", budget.used());
    // And it is fast again when it can be.
    far.pause = None;
    far.run(Duration::from_secs(3));
    let rate = far.run(Duration::from_secs(3));
    assert!(rate > 0.84 * RATE as f64, "{rate:.0} bytes a second");
    far.finish();
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_handler_that_is_slow_at_first_is_not_far_away() {
    let mut far = Far::with_defaults(millis(1), 500_000_000);
    far.next_item = Instant::ORIGIN + millis(700);
    far.item.truncate(1000);
    far.pause = Some(millis(1));
    far.run(Duration::from_secs(10));
    far.pause = None;
    far.run(millis(200));
    assert!(far.widest <= NEAR_WINDOW, "{}", far.widest);
}

#[test]
fn what_is_lost_over_a_long_way_is_sent_again() {
    // With enough for what the responder keeps, with too little, and with nothing.
    for budget in [6 * MIB, 2 * MIB, 0] {
        let budget = Budget::new(budget);
        let keeps = OutboundConfig {
            retention_budget: Some(budget.clone()),
            ..OutboundConfig::default()
        };
        let mut far = Far::new(millis(200), RATE, InboundConfig::default(), &keeps);
        far.loses = Some(1500);
        let rate = far.run(Duration::from_secs(15));
        let rewinds = far.outbound.stats().rewinds;
        assert!(
            rewinds > 3 && far.widest > NEAR_WINDOW,
            "{rewinds} rewinds, {} wide, {rate:.0}",
            far.widest
        );
        // Each loss costs a round trip and what was on its way.
        assert!(rate > 4_000_000.0, "{rate:.0} bytes a second");
        far.finish();
        assert_eq!(budget.used(), 0);
    }
}

/// Runs all of them side by side, a step at a time.
fn run_together(all: &mut [Far], time: Duration) {
    for _ in 0..time.as_millis() / 10 {
        for far in &mut *all {
            far.run(millis(10));
        }
    }
}

#[test]
fn far_streams_share_what_there_is() {
    let budget = Budget::new(16 * MIB);
    let start = |_| {
        let config = InboundConfig {
            budget: Some(budget.clone()),
            ..InboundConfig::default()
        };
        Far::new(millis(200), RATE, config, &OutboundConfig::default())
    };
    let mut all: Vec<Far> = (0..1).map(start).collect();
    run_together(&mut all, Duration::from_secs(4));
    assert!(budget.used() > 7 * MIB, "the first has all that it needs");
    // Those that come later get as much, and leave something for a call that is not far away.
    for streams in [2, 3, 5] {
        all.extend((all.len()..streams).map(start));
        run_together(&mut all, Duration::from_secs(4));
        let before: Vec<u64> = all.iter().map(|far| far.read).collect();
        run_together(&mut all, Duration::from_secs(4));
        let read = all.iter().zip(before).map(|(far, before)| far.read - before);
        let (least, most) = (read.clone().min().expect("some"), read.max().expect("some"));
        assert!(most < least * 5 / 4, "{streams} streams: {least} to {most} bytes");
        assert!(
            budget.used() <= 12 * MIB + MIB / 2,
            "{streams} streams: {}",
            budget.used()
        );
    }
    // Who has ended needs nothing, even if its user still keeps it.
    for far in &mut all[1..] {
        far.inbound.cancel();
    }
    run_together(&mut all[..1], Duration::from_secs(3));
    assert!(budget.used() > 7 * MIB, "the others have ended");
    drop(all);
    assert_eq!(budget.used(), 0);
}
