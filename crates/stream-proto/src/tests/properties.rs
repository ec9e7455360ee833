//! What holds for all streams, all readers and all bytes.
//!
//! A failure prints the smallest case that fails and the seed; `PROPTEST_RNG_SEED=<seed>` repeats it. `PROPTEST_CASES`
//! says how many cases are tried.

use alloc::string::String;
use alloc::vec;
use core::hash::{BuildHasher as _, Hasher as _};
use core::time::Duration;
use std::hash::RandomState;

use proptest::collection::vec as list;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::pair::{Pace, Pair};
use super::*;
use crate::{Budget, Code, MAX_UNIT, MIN_WINDOW, Offer, Termination};

/// The environment wins. The seed is new each time, and shown with the failure.
pub(super) fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let seed = match default.rng_seed {
        RngSeed::Fixed(seed) => seed,
        _ => RandomState::new().build_hasher().finish(),
    };
    #[expect(clippy::print_stderr, reason = "captured, and shown when the test fails")]
    {
        std::eprintln!("PROPTEST_RNG_SEED={seed}");
    }
    ProptestConfig {
        cases: std::env::var_os("PROPTEST_CASES").map_or(cases, |_| default.cases),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..default
    }
}

/// Mostly small, some around the sizes at which something changes, few large.
pub(super) fn item_len() -> impl Strategy<Value = usize> {
    prop_oneof![
        10 => 0..100_usize,
        4 => 100..5000_usize,
        3 => 4080..4110_usize,
        2 => 65_500..65_560_usize,
        1 => 0..200 * 1024_usize,
    ]
}

fn pace() -> impl Strategy<Value = Pace> {
    prop_oneof![
        3 => Just(Pace::Eager),
        1 => (0..2000_u64).prop_map(|millis| Pace::Every(Duration::from_millis(millis))),
    ]
}

prop_compose! {
    pub(super) fn callers()(
        max_window in prop_oneof![Just(1 << 20), MIN_WINDOW..300_000],
        budget in proptest::option::of(0..200_000_u64),
    ) -> InboundConfig {
        InboundConfig { max_window, budget: budget.map(Budget::new), ..InboundConfig::default() }
    }
}

prop_compose! {
    pub(super) fn responders()(
        retention in prop_oneof![Just(1 << 20), 0..100_000_u64],
        max_unit in prop_oneof![Just(MAX_UNIT), 0..20_000_usize],
        mapped in any::<bool>(),
    ) -> OutboundConfig {
        OutboundConfig { retention, max_unit, mapped, ..OutboundConfig::default() }
    }
}

pub(super) fn fill(index: usize, len: usize) -> Vec<u8> {
    vec![index as u8; len]
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn every_list_of_items_comes_out_the_same(
        lens in list(item_len(), 0..60),
        caller in callers(),
        responder in responders(),
        pace in pace(),
        yields in any::<bool>(),
        latency in 0..300_u64,
    ) {
        let mut pair = Pair::new(caller, &responder);
        pair.link.latency = Duration::from_millis(latency);
        pair.reader.pace = pace;
        pair.handler.yields = yields;
        pair.answer_with(lens.iter().enumerate().map(|(index, &len)| fill(index, len)));
        prop_assert!(pair.drive().is_ok());
        prop_assert_eq!(&pair.reader.items, &pair.handler.sent);
        prop_assert_eq!(pair.reader.items.len(), lens.len());
        prop_assert_eq!(pair.outbound.stats().retransmitted, 0);
    }

    #[test]
    fn loss_and_repetition_never_show_in_the_items(
        lens in list(item_len(), 0..40),
        caller in callers(),
        responder in responders(),
        pace in pace(),
        yields in any::<bool>(),
        latency in 0..300_u64,
        (loss, duplication, seed) in (0..20_u64, 0..20_u64, any::<u64>()),
    ) {
        let mut pair = Pair::new(caller, &responder);
        pair.link.latency = Duration::from_millis(latency);
        pair.link.loss = loss;
        pair.link.duplication = duplication;
        pair.link.random.0 = seed;
        pair.reader.pace = pace;
        pair.handler.yields = yields;
        pair.answer_with(lens.iter().enumerate().map(|(index, &len)| fill(index, len)));
        // The order of what was read is checked at every step.
        let verdict = pair.drive().clone();
        prop_assert!(matches!(
            verdict,
            Termination::Ended { .. } | Termination::Lost { .. } | Termination::Unanswered
        ), "{verdict:?}");
        if let Termination::Ended { items, .. } = verdict {
            prop_assert_eq!(items as usize, lens.len());
            prop_assert_eq!(&pair.reader.items, &pair.handler.sent);
        }
    }

    #[test]
    fn a_confirmed_stream_survives_seconds_of_loss(
        lens in list(item_len(), 0..30),
        yields in any::<bool>(),
        (loss, duplication, seed) in (0..60_u64, 0..20_u64, any::<u64>()),
    ) {
        let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
        pair.drive_for(Duration::from_secs(1));
        pair.link.loss = loss;
        pair.link.duplication = duplication;
        pair.link.random.0 = seed;
        pair.handler.yields = yields;
        pair.answer_with(lens.iter().enumerate().map(|(index, &len)| fill(index, len)));
        pair.drive_for(Duration::from_secs(8));
        pair.link.loss = 0;
        prop_assert!(pair.drive().is_ok());
        prop_assert_eq!(&pair.reader.items, &pair.handler.sent);
    }
}

fn statuses() -> impl Strategy<Value = Status> {
    let retry_after = proptest::option::of(1..(1_u64 << 62));
    (
        any::<u8>(),
        ".{0,40}",
        list(any::<u8>(), 0..100),
        any::<(bool, bool)>(),
        retry_after,
    )
        .prop_map(
            |(code, message, details, (not_processed, retryable), retry_after)| Status {
                details: Bytes::from(details),
                not_processed,
                retryable,
                retry_after: retry_after.map(Duration::from_millis),
                ..Status::new(Code::from_u8(code), message)
            },
        )
}

fn frames() -> impl Strategy<Value = Frame> {
    let number = || prop_oneof![0..20_000_u64, 0..(1_u64 << 62)];
    let unit = (
        number(),
        proptest::option::of((statuses(), number())),
        list(any::<u8>(), 0..300),
    );
    prop_oneof![
        unit.prop_map(|(position, fin, data)| raw_unit(position, &data, fin)),
        (number(), number()).prop_map(|(announce, position)| beat(announce, position)),
        Just(Frame::Reset { sid: SID }),
        (number(), number()).prop_map(|(next, limit)| state(next, limit)),
        (number(), number()).prop_map(|(next, limit)| rewind(next, limit)),
        any::<u8>().prop_filter_map("a known kind", |kind| {
            (!matches!(kind, 1..=3 | 0x11 | 0x12)).then_some(Frame::Unknown { sid: SID, kind })
        }),
        any::<u8>().prop_map(|code| {
            let payload = [&[0xfe, 0x12][..], &SID.to_be_bytes(), &[code]].concat();
            Frame::decode(&Bytes::from(payload)).expect("a close")
        }),
    ]
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn a_frame_decodes_to_what_was_encoded(frame in frames()) {
        let mut decoded = Frame::decode(&frame.encode()).expect("our own");
        if let Frame::Unit(unit) = &mut decoded {
            unit.data_offset = 0;
        }
        prop_assert_eq!(decoded, frame);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_meaning(payload in list(any::<u8>(), 0..100)) {
        let payload = [&[0xfe][..], &payload].concat();
        if let Ok(frame) = Frame::decode(&Bytes::from(payload)) {
            let mut again = Frame::decode(&frame.encode()).expect("our own");
            if let (Frame::Unit(again), Frame::Unit(unit)) = (&mut again, &frame) {
                again.data_offset = unit.data_offset;
                if let (Some((again, _)), Some((status, _))) = (&again.fin, &unit.fin) {
                    // Text that was not UTF-8 became longer when it was read.
                    prop_assert_eq!(again.code, status.code);
                    return Ok(());
                }
            }
            prop_assert_eq!(again, frame);
        }
    }

    #[test]
    fn mutated_frames_neither_panic_nor_stay(
        frames in list((frames(), any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>()), 1..30),
    ) {
        let (mut inbound, _) = locked(InboundConfig::default(), &[b"a"]);
        let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
        for (frame, index, value, cut) in frames {
            let mut payload = frame.encode().to_vec();
            let index = index.index(payload.len());
            payload[index] = value;
            payload.truncate(cut.index(payload.len() * 3));
            let message = message(Bytes::from(payload));
            inbound.handle(at(30), &message);
            let _ = outbound.handle(at(30), &message);
            prop_assert!(inbound.buffered() <= crate::INITIAL_WINDOW + MAX_UNIT as u64);
            prop_assert!(outbound.kept() <= 1000);
            drain_inbound(&mut inbound, at(30));
            drain(&mut outbound, at(30));
        }
    }

    #[test]
    fn an_open_and_an_answer_read_back(
        limit in 1..=varint::MAX,
        max_item in prop::option::of(0..=varint::MAX),
        heartbeat in prop::option::of(0..=varint::MAX),
        deadline in prop::option::of(0..=varint::MAX),
        retention in 0..=varint::MAX,
        control: bool,
        probe: bool,
    ) {
        let open = Open {
            limit,
            max_item,
            heartbeat: heartbeat.map(Duration::from_millis),
            deadline: deadline.map(Duration::from_millis),
            control,
            probe,
        };
        prop_assert_eq!(Open::parse(&open.encode()), Ok(Offer::Supported(open)));
        prop_assert!(open.encode().len() <= crate::MAX_HEADER);
        prop_assert_eq!(Answer::parse(&answer(retention)).map(|answer| answer.retention), Ok(retention));
    }

    #[test]
    fn headers_of_any_text_do_not_panic(text in "[0-9;,=wmhdrcp+ -]{0,40}|.{0,40}") {
        let text: String = text;
        let _ = (Open::parse(&text), Answer::parse(&text));
        let _ = crate::is_safe_reply(&text, &["_MINE"]);
    }
}
