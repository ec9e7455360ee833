//! Each machine alone against what the rules allow it, whatever the other side and its user do.

use alloc::collections::BTreeMap;
use alloc::vec;
use core::time::Duration;

use proptest::collection::vec as list;
use proptest::prelude::*;

use super::properties::{callers, config, fill, item_len, responders};
use super::*;
use crate::{CloseReason, Code, MAX_UNIT, PushError, Termination};

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Flush,
    Finish,
    Abort,
    Wait,
    State { rewind: bool, next: Next, limit: u64 },
    Raw(Vec<u8>),
    Close(u8),
    Advance(u64),
    Transmit(usize),
}

/// What a STATE says about what was received.
#[derive(Clone, Debug)]
enum Next {
    /// The edge of one of the units that were sent.
    Edge(prop::sample::Index),
    Exactly(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let next = prop_oneof![
        4 => any::<prop::sample::Index>().prop_map(Next::Edge),
        1 => (0..(1_u64 << 62)).prop_map(Next::Exactly),
        1 => (0..20_000_u64).prop_map(Next::Exactly),
    ];
    let limit = prop_oneof![3 => 0..400_000_u64, 1 => 0..(1_u64 << 62)];
    prop_oneof![
        12 => item_len().prop_map(Step::Push),
        4 => Just(Step::Flush),
        1 => Just(Step::Finish),
        1 => Just(Step::Abort),
        2 => Just(Step::Wait),
        8 => (any::<bool>(), next, limit).prop_map(|(rewind, next, limit)| Step::State { rewind, next, limit }),
        1 => list(any::<u8>(), 0..20).prop_map(Step::Raw),
        1 => any::<u8>().prop_map(Step::Close),
        6 => (0..3000_u64).prop_map(Step::Advance),
        8 => (0..30_usize).prop_map(Step::Transmit),
    ]
}

/// What the rules allow a responder, beside the machine itself.
struct Model {
    outbound: Outbound,
    now: Instant,
    retention: u64,
    limit: u64,
    acked: u64,
    confirmed: bool,
    largest: u64,
    sent: BTreeMap<u64, (Bytes, u64)>,
    data: Vec<u8>,
    fin: Option<(Status, u64)>,
}

impl Model {
    fn new(open: Open, config: &OutboundConfig) -> Self {
        Self {
            outbound: outbound(open, config),
            now: Instant::ORIGIN,
            retention: config.retention.max(1),
            limit: open.limit,
            acked: 0,
            confirmed: false,
            largest: 0,
            sent: BTreeMap::new(),
            data: Vec::new(),
            fin: None,
        }
    }

    fn sent_end(&self) -> u64 {
        self.sent.values().next_back().map_or(0, |(_, end)| *end)
    }

    fn effective_limit(&self) -> u64 {
        let limit = self.limit.min(self.acked + self.retention);
        if self.confirmed { limit } else { limit.min(64 * KIB) }
    }

    fn apply(&mut self, step: &Step) {
        let now = self.now;
        match step {
            Step::Push(len) => {
                let was_ready = self.outbound.is_ready();
                let pushed = self.outbound.push(&fill(*len, *len));
                assert_eq!(pushed.is_ok(), was_ready);
                assert!(pushed.is_ok() || matches!(pushed, Err(PushError::Blocked | PushError::Ended)));
                self.largest = self.largest.max(*len as u64);
            }
            Step::Flush => self.outbound.flush(),
            Step::Finish => self.outbound.finish(Status::ok()),
            Step::Abort => self.outbound.abort(Status::new(Code::Aborted, ""), CloseReason::Local),
            Step::Wait => self.outbound.wait_for_credit(now),
            Step::State { rewind, next, limit } => {
                let edges: Vec<u64> = self.sent.keys().copied().chain([self.sent_end()]).collect();
                let next = match next {
                    Next::Edge(index) => *index.get(&edges),
                    Next::Exactly(next) => *next,
                };
                if !self.outbound.is_forgotten() {
                    self.confirmed = true;
                    self.limit = self.limit.max(*limit);
                    if edges.contains(&next) {
                        self.acked = self.acked.max(next);
                    }
                }
                let frame = Frame::State {
                    sid: SID,
                    rewind: *rewind,
                    next,
                    limit: *limit,
                };
                give(&mut self.outbound, now, frame);
            }
            Step::Raw(bytes) => {
                let _ = self.outbound.handle(now, &message(Bytes::from(bytes.clone())));
            }
            Step::Close(code) => {
                let frame = Bytes::from([&[0xfe, 0x12][..], &SID.to_be_bytes(), &[*code]].concat());
                self.outbound.handle(now, &message(frame)).expect("well formed");
            }
            Step::Advance(millis) => {
                self.now = now + Duration::from_millis(*millis);
                self.outbound.handle_timeout(self.now);
                assert!(
                    self.outbound.poll_timeout().is_none_or(|at| at > self.now),
                    "a clock stands still"
                );
            }
            Step::Transmit(count) => {
                for _ in 0..*count {
                    let is_wanted = self.outbound.wants_transmit();
                    let transmit = self.outbound.poll_transmit(now);
                    assert_eq!(transmit.is_some(), is_wanted);
                    let Some(transmit) = transmit else { break };
                    self.check_sent(&transmit);
                }
            }
        }
        while self.outbound.poll_event().is_some() {}
        let kept = self.outbound.kept();
        let bound = self.retention.min(self.limit) + MAX_UNIT as u64 + 2 * UNIT_COST + self.largest;
        assert!(kept <= bound, "{kept} of {bound} bytes kept");
        assert!(
            !self.outbound.is_forgotten() || kept == 0,
            "forgotten, and {kept} bytes kept"
        );
    }

    fn check_sent(&mut self, transmit: &Transmit) {
        if transmit.payload.is_empty() {
            // The end of the mapping: once, and nothing after it.
            assert!(self.outbound.is_forgotten() && !self.outbound.wants_transmit());
            return;
        }
        let frame = Frame::decode(&transmit.payload).expect("what a machine hands out can be read");
        assert!(self.confirmed || transmit.header);
        let Frame::Unit(unit) = frame else { return };
        assert!(transmit.payload.len() <= MAX_UNIT);
        if let Some((payload, _)) = self.sent.get(&unit.position) {
            assert_eq!(*payload, transmit.payload, "sent again, and not the same");
            return;
        }
        assert_eq!(unit.position, self.sent_end(), "units follow each other");
        assert_eq!(self.fin, None, "something follows the end");
        let fin_only = unit.fin.is_some() && unit.data.is_empty();
        assert!(fin_only || unit.position < self.effective_limit(), "beyond the credit");
        self.data.extend_from_slice(&unit.data);
        if let Some((status, items)) = &unit.fin {
            let mut data = &self.data[..];
            let mut whole = 0;
            while let Ok((len, size)) = varint::peek(data) {
                let Some(rest) = data.get(size + len as usize..) else {
                    break;
                };
                data = rest;
                whole += 1;
            }
            assert_eq!(*items, whole, "the end counts the items before it");
            assert!(!status.is_ok() || data.is_empty());
        }
        self.sent.insert(unit.position, (transmit.payload.clone(), unit.end()));
        self.fin = unit.fin;
    }
}

/// A message to a caller: of a rule-abiding responder, or not.
#[derive(Clone, Debug)]
enum Input {
    /// At the expected position, with items of these lengths.
    Unit(Vec<usize>),
    Data(Vec<u8>, bool),
    At(u64, Vec<u8>),
    Beat(u64, u64),
    Fin,
    Reset,
    Raw(Vec<u8>),
    Other,
    Empty,
    Foreign,
    Advance(u64),
    Read(usize),
    Transmit,
    Cancel,
}

fn inputs() -> impl Strategy<Value = Input> {
    let position = || prop_oneof![0..(1_u64 << 62), 0..100_000_u64];
    prop_oneof![
        20 => list(0..3000_usize, 0..8).prop_map(Input::Unit),
        2 => (list(any::<u8>(), 0..200), any::<bool>()).prop_map(|(data, fin)| Input::Data(data, fin)),
        4 => (position(), list(any::<u8>(), 0..50)).prop_map(|(position, data)| Input::At(position, data)),
        4 => (position(), position()).prop_map(|(announce, position)| Input::Beat(announce, position)),
        1 => Just(Input::Fin),
        1 => Just(Input::Reset),
        1 => list(any::<u8>(), 0..20).prop_map(Input::Raw),
        2 => Just(Input::Other),
        1 => Just(Input::Empty),
        2 => Just(Input::Foreign),
        8 => (0..3000_u64).prop_map(Input::Advance),
        8 => (0..20_usize).prop_map(Input::Read),
        8 => Just(Input::Transmit),
        1 => Just(Input::Cancel),
    ]
}

struct Caller {
    inbound: Inbound,
    now: Instant,
    next: u64,
    items: u64,
    read: u64,
    verdict: Option<Termination>,
    limit: u64,
    terminated: usize,
}

impl Caller {
    fn apply(&mut self, input: &Input) {
        let now = self.now;
        match input {
            Input::Unit(lens) => {
                let items: Vec<Vec<u8>> = lens.iter().map(|&len| fill(len, len)).collect();
                let items: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
                self.give(&unit(self.next, &items));
            }
            Input::Data(data, has_end) => {
                self.give(&raw_unit(self.next, data, has_end.then(|| (Status::ok(), self.items))));
            }
            Input::At(position, data) => self.give(&raw_unit(*position, data, None)),
            Input::Beat(announce, position) => self.give(&beat(*announce, *position)),
            Input::Fin => self.give(&fin(self.next, &[], Status::ok(), self.inbound.stats().items)),
            Input::Reset => self.give(&Frame::Reset { sid: SID }),
            Input::Raw(bytes) => {
                self.inbound.handle(now, &message(Bytes::from(bytes.clone())));
            }
            Input::Other => {
                self.inbound.handle(now, &announced(&Frame::Reset { sid: 1 }));
            }
            Input::Empty => {
                self.inbound.handle(now, &Message::default());
            }
            Input::Foreign => {
                self.inbound.handle(now, &message(Bytes::from_static(b"text")));
            }
            Input::Advance(millis) => {
                self.now = now + Duration::from_millis(*millis);
                self.inbound.handle_timeout(self.now);
                assert!(
                    self.inbound.poll_timeout().is_none_or(|at| at > self.now),
                    "a clock stands still"
                );
            }
            Input::Read(count) => {
                for _ in 0..*count {
                    self.read += u64::from(self.inbound.poll_item(now).is_some());
                }
            }
            Input::Transmit => {
                let is_wanted = self.inbound.wants_transmit();
                let transmit = self.inbound.poll_transmit(now);
                assert_eq!(transmit.is_some(), is_wanted);
                let first = transmit.map(|transmit| Frame::decode(&transmit.payload).expect("it can be read"));
                for frame in first.into_iter().chain(drain_inbound(&mut self.inbound, now)) {
                    if let Frame::State { next, limit, .. } = frame {
                        assert_eq!(next, self.next);
                        assert!(limit >= self.limit, "a limit was lowered");
                        self.limit = limit;
                    }
                }
            }
            Input::Cancel => self.inbound.cancel(),
        }
        let terminated = |event: &InboundEvent| *event == InboundEvent::Terminated;
        self.terminated += inbound_events(&mut self.inbound)
            .iter()
            .filter(|event| terminated(event))
            .count();
        if let Some(verdict) = &self.verdict {
            assert_eq!(self.inbound.termination(), Some(verdict), "a second verdict");
        }
        self.verdict = self.inbound.termination().cloned();
        assert_eq!(self.terminated, usize::from(self.verdict.is_some()));
    }

    fn give(&mut self, frame: &Frame) {
        let before = self.inbound.buffered();
        self.inbound.handle(self.now, &announced(frame));
        let grown = self.inbound.buffered() - before;
        if let Frame::Unit(unit) = frame
            && grown > 0
        {
            assert_eq!(
                (unit.position, unit.end() - unit.position),
                (self.next, grown),
                "not what was expected"
            );
            self.next = unit.end();
        }
    }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn a_responder_keeps_the_rules_whatever_the_caller_and_the_handler_do(
        steps in list(steps(), 0..120),
        config in responders(),
        limit in prop_oneof![Just(64 * KIB), any::<u64>()],
        deadline in proptest::option::of(0..20_000_u64),
    ) {
        let open = Open { limit: limit.max(1), deadline: deadline.map(Duration::from_millis), ..open() };
        let mut model = Model::new(open, &config);
        for step in &steps {
            model.apply(step);
        }
        model.apply(&Step::Transmit(10_000));
        model.apply(&Step::Finish);
        model.apply(&Step::Transmit(10_000));
        // Nobody answers any more: it does not stay for ever.
        for _ in 0..400 {
            model.apply(&Step::Advance(1000));
            model.apply(&Step::Transmit(10_000));
        }
        prop_assert!(model.outbound.is_forgotten());
    }

    #[test]
    fn a_caller_keeps_the_rules_whatever_the_responder_sends(
        inputs in list(inputs(), 0..150),
        config in callers(),
        retention in prop_oneof![0..10_u64, any::<u64>()],
    ) {
        let window = config.max_window;
        let mut inbound = Inbound::new(config, Instant::ORIGIN);
        let header = answer(retention);
        inbound.handle(at(0), &Message { header: Some(&header), ..announced(&unit(0, &[])) });
        let limit = inbound.open().limit;
        let mut caller = Caller {
            inbound, now: at(0), next: UNIT_COST, items: 0, read: 0, verdict: None, limit, terminated: 0,
        };
        for input in &inputs {
            caller.apply(input);
            let bound = window + MAX_UNIT as u64 + 2 * UNIT_COST;
            prop_assert!(caller.inbound.buffered() <= bound);
        }
        caller.apply(&Input::Read(100_000));
        caller.apply(&Input::Transmit);
        if caller.verdict != Some(Termination::Cancelled) && !inputs.iter().any(|input| matches!(input, Input::Cancel)) {
            prop_assert_eq!(caller.read, caller.inbound.stats().items);
        }
        for _ in 0..30 {
            caller.apply(&Input::Advance(1000));
            caller.apply(&Input::Transmit);
        }
        prop_assert!(caller.verdict.is_some(), "silence ends every stream");
    }
}
