//! Who may send how much (rules 29 to 35).

use alloc::vec;
use core::time::Duration;

use super::pair::{Pace, Pair, Side};
use super::*;
use crate::{Budget, Code, INITIAL_WINDOW, MAX_UNIT, MIN_WINDOW, ProtocolError, PushError, Termination};

fn retaining(retention: u64) -> OutboundConfig {
    OutboundConfig {
        retention,
        ..OutboundConfig::default()
    }
}

pub(super) fn fill(outbound: &mut Outbound, item: usize) -> usize {
    let mut taken = 0;
    while outbound.push(&vec![7; item]).is_ok() {
        taken += 1;
        assert!(taken < 1_000_000, "no limit holds");
    }
    taken
}

#[test]
fn a_unit_may_begin_below_the_limit_and_end_above_it() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 80 * KIB);
    fill(&mut outbound, 50_000);
    let sent = drain(&mut outbound, at(1));
    let last = sent.last().expect("units").unit();
    assert!(last.position < 80 * KIB && last.end() > 80 * KIB);
    assert_eq!(outbound.push(b""), Err(PushError::Blocked));
}

#[test]
fn the_retention_bounds_what_is_sent_ahead_whatever_the_caller_grants() {
    let mut outbound = confirmed(open(), &retaining(10_000), 1 << 40);
    let before = drain(&mut outbound, at(1)).len();
    fill(&mut outbound, 1000);
    outbound.flush();
    let sent = drain(&mut outbound, at(1));
    assert!(sent.len() > before && sent.iter().all(|sent| sent.unit().position < 11_000));
}

#[test]
fn small_items_never_make_more_than_one_unit_outrun_the_credit() {
    for item in [0, 1, 100, 3000, 4095, 4096, 60_000] {
        let mut outbound = confirmed(open(), &retaining(20_000), 1 << 40);
        fill(&mut outbound, item);
        outbound.flush();
        let (kept, item) = (outbound.kept(), item as u64);
        let bound = 20_000 + MAX_UNIT as u64 + UNIT_COST;
        assert!(kept <= bound, "{kept} bytes kept for items of {item}");
        let waiting = item.min(4096 + 8);
        if item < 4096 {
            let bound = 20_000 + 8 * KIB + UNIT_COST + waiting;
            assert!(kept <= bound, "{kept} bytes kept for items of {item}");
        }
    }
}

#[test]
fn an_item_that_found_no_room_in_the_unit_follows_when_credit_comes() {
    let mut outbound = confirmed(open(), &retaining(9000), 1 << 40);
    // Each alone fits into the 8 KiB of a unit; the third only into the next one, for which there is no credit.
    let mut pushed = 0;
    while outbound.push(&[pushed as u8; 4000]).is_ok() {
        pushed += 1;
    }
    outbound.flush();
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    inbound.handle(at(0), &announced(&unit(0, &[b"first"])));
    let mut items = 0;
    for round in 0..10 {
        let sent = drain(&mut outbound, at(round));
        for sent in &sent {
            inbound.handle(at(round), &plain(&sent.frame));
        }
        let Some(last) = sent.last() else { break };
        give(&mut outbound, at(round), state(last.unit().end(), 1 << 40));
        items += read_all(&mut inbound, at(round)).len();
    }
    assert_eq!(items, pushed + 1);
}

#[test]
fn an_end_without_data_needs_no_credit() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    for _ in 0..2 {
        outbound.push(&vec![7; 60_000]).expect("room");
    }
    assert!(end_of(&drain(&mut outbound, at(1))) > 64 * KIB);
    assert!(!outbound.is_ready());
    outbound.finish(Status::ok());
    assert!(drain(&mut outbound, at(1))[0].is_fin());
}

#[test]
fn a_limit_only_rises() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 200 * KIB);
    let next = after(0, &[b"first"]);
    give(&mut outbound, at(1), state(next, 10));
    fill(&mut outbound, 1000);
    outbound.flush();
    assert!(end_of(&drain(&mut outbound, at(1))) >= 200 * KIB);
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.push(b"x").expect("room");
    outbound.flush();
    let next = after(0, &[b"first"]);
    let kept = outbound.kept();
    give(&mut outbound, at(1), state(after(next, &[b"x"]), 64 * KIB));
    assert_eq!(outbound.kept(), kept);
    assert_eq!(drain(&mut outbound, at(1)).len(), 1);
}

#[test]
fn a_position_inside_a_unit_acknowledges_nothing() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.push(&[1; 500]).expect("room");
    outbound.flush();
    drain(&mut outbound, at(1));
    let (kept, next) = (outbound.kept(), after(0, &[b"first"]));
    for inside in [0, 1, next - 1, next + 1, next + 300, next + 10_000, u64::MAX >> 2] {
        give(&mut outbound, at(1), rewind(inside, 64 * KIB));
        assert_eq!(outbound.kept(), kept, "{inside}");
        assert!(drain(&mut outbound, at(1)).is_empty(), "{inside}");
    }
    assert_eq!(outbound.stats().ignored, 7);
}

#[test]
fn a_unit_at_the_granted_limit_breaks_the_protocol_and_one_below_does_not() {
    let config = || InboundConfig {
        max_window: MIN_WINDOW,
        ..InboundConfig::default()
    };
    let (mut inbound, next) = locked(config(), &[]);
    let data = vec![0; (MIN_WINDOW - next - UNIT_COST - 1) as usize];
    inbound.handle(at(30), &plain(&raw_unit(next, &data, None)));
    inbound.handle(at(30), &plain(&raw_unit(MIN_WINDOW - 1, &[0], None)));
    assert_eq!(inbound.termination(), None);
    assert_eq!(inbound.buffered(), MIN_WINDOW + UNIT_COST);

    let (mut inbound, next) = locked(config(), &[]);
    let data = vec![0; (MIN_WINDOW - next - UNIT_COST) as usize];
    inbound.handle(at(30), &plain(&raw_unit(next, &data, None)));
    inbound.handle(at(30), &plain(&raw_unit(MIN_WINDOW, &[0], None)));
    let error = ProtocolError::CreditExceeded {
        position: MIN_WINDOW,
        limit: MIN_WINDOW,
    };
    assert_eq!(inbound.termination(), Some(&Termination::Protocol(error)));
    assert_eq!(drain_inbound(&mut inbound, at(30)), [close(CloseCode::Protocol)]);
}

#[test]
fn an_end_without_data_is_taken_beyond_the_limit() {
    let config = InboundConfig {
        max_window: MIN_WINDOW,
        ..InboundConfig::default()
    };
    let (mut inbound, next) = locked(config, &[]);
    let item = vec![0; 9000];
    inbound.handle(at(30), &plain(&unit(next, &[&item])));
    inbound.handle(at(30), &plain(&fin(after(next, &[&item]), &[], Status::ok(), 1)));
    assert!(inbound.termination().is_some_and(Termination::is_ok));
}

#[test]
fn a_unit_above_64_kib_breaks_the_protocol() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[]);
    inbound.handle(at(30), &plain(&unit(next, &[&vec![0; MAX_UNIT]])));
    assert!(matches!(
        inbound.termination(),
        Some(Termination::Protocol(ProtocolError::Malformed(_)))
    ));
    assert_eq!(drain_inbound(&mut inbound, at(30)), [close(CloseCode::Protocol)]);
    assert_eq!(inbound.buffered(), next, "it was not kept");
}

#[test]
fn a_state_is_sent_for_each_half_of_the_window_that_the_user_takes() {
    let mut pair = Pair::new(
        InboundConfig {
            max_window: INITIAL_WINDOW,
            ..InboundConfig::default()
        },
        &OutboundConfig::default(),
    );
    pair.answer_with((0..1000).map(|_| vec![1; 1000]));
    assert!(pair.drive().is_ok());
    let states = pair
        .logged(Side::Caller, |frame| matches!(frame, Frame::State { .. }))
        .len() as u64;
    let halves = 1_000_000 / (INITIAL_WINDOW / 2);
    assert!(
        (halves..halves * 3 / 2 + 3).contains(&states),
        "{states} for {halves} halves"
    );
}

#[test]
fn a_retention_of_nothing_neither_floods_nor_blocks() {
    for retention in [0, 1, 2, 3] {
        let mut inbound = Inbound::new(InboundConfig::default(), at(0));
        let header = answer(retention);
        let first = Message {
            header: Some(&header),
            ..announced(&unit(0, &[b"x"]))
        };
        inbound.handle(at(1), &first);
        assert!(drain_inbound(&mut inbound, at(1)).len() <= 1);
        assert!(drain_inbound(&mut inbound, at(1)).is_empty());

        let mut pair = Pair::new(InboundConfig::default(), &retaining(retention));
        pair.answer_with((0..20).map(|_| vec![1; 5000]));
        assert!(pair.drive().is_ok());
        let states = pair.logged(Side::Caller, |_| true).len();
        // One because it came, one because the user took it.
        assert!(states <= 45, "{states} messages for 20 units");
    }
}

#[test]
fn extreme_settings_do_not_overflow() {
    let inbound = InboundConfig {
        max_window: u64::MAX,
        max_item: u64::MAX,
        ..InboundConfig::default()
    };
    let outbound = OutboundConfig {
        retention: u64::MAX,
        max_item: u64::MAX,
        stall_limit: Duration::MAX,
        max_unit: usize::MAX,
        ..OutboundConfig::default()
    };
    let mut pair = Pair::new(inbound, &outbound);
    pair.link.latency = Duration::from_millis(50);
    pair.answer_with((0..300).map(|_| vec![1; 50_000]));
    assert!(pair.drive().is_ok());
}

#[test]
fn the_window_grows_while_it_holds_up_a_reader_that_keeps_up() {
    let limit_of = |pace| {
        let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
        pair.link.latency = Duration::from_millis(20);
        pair.reader.pace = pace;
        pair.answer_with((0..5000).map(|_| vec![1; 1000]));
        pair.drive_until(|pair| pair.outbound.stats().items == 5000);
        let mut widest = 0;
        for state in pair.logged(Side::Caller, |_| true) {
            if let Frame::State { next, limit, .. } = state.frame {
                widest = widest.max(limit.saturating_sub(next));
            }
        }
        widest
    };
    assert!(limit_of(Pace::Eager) > 512 * KIB);
    assert!(limit_of(Pace::Every(Duration::from_millis(5))) <= INITIAL_WINDOW);
}

#[test]
fn a_window_without_budget_is_the_smallest_and_still_works() {
    let config = InboundConfig {
        budget: Some(Budget::new(0)),
        ..InboundConfig::default()
    };
    let mut pair = Pair::new(config, &OutboundConfig::default());
    assert_eq!(pair.inbound.open().limit, MIN_WINDOW);
    pair.answer_with((0..100).map(|_| vec![1; 3000]));
    assert!(pair.drive().is_ok());
}

#[test]
fn a_budget_is_whole_again_at_the_verdict() {
    let budget = Budget::new(1 << 20);
    let config = InboundConfig {
        budget: Some(budget.clone()),
        ..InboundConfig::default()
    };
    let mut pair = Pair::new(config, &OutboundConfig::default());
    pair.link.latency = Duration::from_millis(20);
    pair.answer_with((0..2000).map(|_| vec![1; 1000]));
    pair.drive_for(Duration::from_millis(150));
    assert!(pair.inbound.termination().is_none());
    assert!(budget.used() > INITIAL_WINDOW, "the window has grown");
    assert!(pair.drive().is_ok());
    assert_eq!(budget.used(), 0, "the machine still lives");
}

#[test]
fn a_reader_that_never_reads_stops_the_handler_within_the_bounds() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.reader.pace = Pace::Never;
    pair.answer_with((0..2000).map(|_| vec![1; 1000]));
    pair.drive_for(Duration::from_secs(60));
    assert!(pair.inbound.termination().is_none() && pair.outbound.closed().is_none());
    assert!(pair.outbound.stats().bytes < 80_000);
    pair.reader.pace = Pace::Eager;
    assert!(pair.drive().is_ok());
    assert_eq!(pair.reader.items.len(), 2000);
}

#[test]
fn the_larger_side_of_two_item_limits_does_not_count() {
    let outbound_config = OutboundConfig {
        max_item: 100,
        ..OutboundConfig::default()
    };
    let max_item = |max_item| outbound(Open { max_item, ..open() }, &outbound_config).max_item();
    assert_eq!(
        (max_item(None), max_item(Some(50)), max_item(Some(500))),
        (100, 50, 100)
    );
    let mut outbound = outbound(open(), &outbound_config);
    assert_eq!(
        outbound.push(&[0; 101]),
        Err(PushError::TooLarge { size: 101, max: 100 })
    );
    assert_eq!(outbound.push(&[0; 100]), Ok(()));
}

#[test]
fn an_item_that_spans_messages_comes_out_of_the_assembly_budget() {
    // One large item, and as much of the next as may lie in the window.
    let budget = Budget::new(340_000 + 2 * INITIAL_WINDOW);
    let config = InboundConfig {
        max_window: INITIAL_WINDOW,
        assembly_budget: Some(budget.clone()),
        ..InboundConfig::default()
    };
    let mut pair = Pair::new(config, &OutboundConfig::default());
    pair.answer_with([
        vec![1; 300_000],
        vec![2; 10],
        vec![3; 340_000],
        vec![4; 60_000],
        vec![5; 300_000],
    ]);
    assert!(pair.drive().is_ok());
    assert_eq!(budget.used(), 0, "all of it was given back");
}

#[test]
fn a_stream_that_finds_the_assembly_budget_used_up_fails_and_gives_its_share_back() {
    let budget = Budget::new(350_000);
    let config = InboundConfig {
        assembly_budget: Some(budget.clone()),
        ..InboundConfig::default()
    };
    for pace in [Pace::Eager, Pace::Never] {
        let mut pair = Pair::new(config.clone(), &OutboundConfig::default());
        assert!(budget.take(200_000), "somebody else needs it");
        pair.answer_with([vec![0; 10], vec![1; 300_000]]);
        pair.drive_for(Duration::from_secs(5));
        pair.reader.pace = pace;
        let Termination::Failed(status) = pair.drive() else {
            panic!("{:?}", pair.inbound.termination())
        };
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(pair.closes(), [CloseCode::Cancelled]);
        drop(pair);
        assert_eq!(budget.used(), 200_000);
        budget.give(200_000);
    }
}

#[test]
fn items_that_lie_in_one_message_need_no_assembly() {
    let config = InboundConfig {
        assembly_budget: Some(Budget::new(0)),
        ..InboundConfig::default()
    };
    let mut pair = Pair::new(config, &OutboundConfig::default());
    pair.answer_with([vec![1; 60_000], vec![2; 3000], vec![], vec![3; 64_000]]);
    assert!(pair.drive().is_ok());
}

#[test]
fn a_cancelled_stream_gives_its_share_of_the_assembly_budget_back() {
    let budget = Budget::new(1 << 20);
    let config = InboundConfig {
        assembly_budget: Some(budget.clone()),
        ..InboundConfig::default()
    };
    let (mut inbound, next) = locked(config, &[b"a"]);
    let mut data = Vec::new();
    varint::put(50_000, &mut data);
    data.resize(20_000, 7);
    inbound.handle(at(30), &plain(&raw_unit(next, &data, None)));
    assert_eq!(budget.used(), 20_000);
    inbound.cancel();
    assert_eq!(budget.used(), 0);
}

#[test]
fn what_is_kept_takes_no_more_memory_than_twice_what_is_in_it() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 1 << 20);
    let mut payloads = Vec::new();
    for round in 0..20 {
        // A full unit before a small one: the guess for the small one is wrong.
        let items = if round % 2 == 0 { 90 } else { 1 };
        for _ in 0..items {
            outbound.push(&[7; 100]).expect("room");
        }
        outbound.flush();
        payloads.extend(drain(&mut outbound, at(1)));
    }
    let end = end_of(&payloads);
    give(&mut outbound, at(2), state(end, 1 << 20));
    for Sent { transmit, frame } in payloads {
        drop(frame);
        let len = transmit.payload.len();
        let buffer = transmit.payload.try_into_mut().expect("nobody else keeps it");
        assert!(
            buffer.capacity() <= 2 * len + 256,
            "{} bytes for {len}",
            buffer.capacity()
        );
    }
}

#[test]
fn data_that_waits_for_credit_waits_also_with_the_end() {
    let mut outbound = confirmed(open(), &retaining(5000), 1 << 40);
    // The second item is still taken, into a unit for which there is no credit yet.
    for item in [4090, 4095] {
        outbound.push(&vec![7; item]).expect("room");
    }
    outbound.push(&[7; 10]).expect("room");
    outbound.push(&vec![7; 4095]).expect("room");
    outbound.finish(Status::ok());
    let sent = drain(&mut outbound, at(1));
    assert!(!sent.iter().any(Sent::is_fin));
    give(&mut outbound, at(2), state(end_of(&sent), 1 << 40));
    assert!(drain(&mut outbound, at(2))[0].is_fin());
}

#[test]
fn items_in_the_hands_of_the_user_are_not_yet_consumed() {
    let config = InboundConfig {
        max_window: MIN_WINDOW,
        ..InboundConfig::default()
    };
    let (mut inbound, next) = locked(config, &[]);
    let item = vec![0; 9000];
    inbound.handle(at(30), &plain(&unit(next, &[&item, b"x"])));
    let next = after(next, &[&item, b"x"]);
    assert_eq!(drain_inbound(&mut inbound, at(30)), [state(next, MIN_WINDOW)]);
    let items = inbound.poll_items(at(30)).expect("two items");
    assert!(drain_inbound(&mut inbound, at(30)).is_empty());
    assert_eq!(items.count(), 2);
    assert!(inbound.poll_items(at(30)).is_none());
    assert_eq!(drain_inbound(&mut inbound, at(30)), [state(next, next + MIN_WINDOW)]);
}
