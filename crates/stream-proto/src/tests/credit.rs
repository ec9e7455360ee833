//! Who may send how much (rules 29 to 36).

use alloc::vec;
use core::time::Duration;

use super::pair::{Pace, Pair, Side};
use super::*;
use crate::{
    Budget, CloseReason, Code, INITIAL_WINDOW, MAX_UNIT, MIN_WINDOW, ProtocolError, PushError, Termination,
};

fn retaining(retention: u64) -> OutboundConfig {
    OutboundConfig {
        retention,
        ..OutboundConfig::default()
    }
}

fn fill(outbound: &mut Outbound, item: usize) -> usize {
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
    let states = pair.logged(Side::Caller, |frame| matches!(frame, Frame::State { .. })).len() as u64;
    let halves = 1_000_000 / (INITIAL_WINDOW / 2);
    assert!((halves..halves * 3 / 2 + 3).contains(&states), "{states} for {halves} halves");
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
fn a_window_that_could_be_doubled_for_ever_does_not_overflow() {
    let config = InboundConfig {
        max_window: u64::MAX,
        ..InboundConfig::default()
    };
    let (mut inbound, mut next) = locked(config, &[]);
    let mut now = at(30);
    // A responder that always sends up to the limit, with units that carry little.
    for _ in 0..2000 {
        let data = vec![0; 60_000];
        inbound.handle(now, &plain(&raw_unit(next, &data, None)));
        next += 60_000 + UNIT_COST;
        read_all(&mut inbound, now);
        drain_inbound(&mut inbound, now);
        now = now + Duration::from_millis(1);
        assert_eq!(inbound.termination(), None);
    }
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
fn a_budget_is_whole_again_when_its_streams_are_gone() {
    let budget = Budget::new(1 << 20);
    let config = InboundConfig {
        budget: Some(budget.clone()),
        ..InboundConfig::default()
    };
    let mut pair = Pair::new(config, &OutboundConfig::default());
    pair.link.latency = Duration::from_millis(20);
    pair.answer_with((0..2000).map(|_| vec![1; 1000]));
    assert!(pair.drive().is_ok());
    assert!(budget.used() > INITIAL_WINDOW, "the window has grown");
    drop(pair);
    assert_eq!(budget.used(), 0);
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
fn a_blocked_sender_says_so_with_doubling_waits() {
    // As a driver does it: the handler finds no room, and only then is the transport served.
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    fill(&mut outbound, 1000);
    outbound.flush();
    outbound.wait_for_credit(at(0));
    let position = end_of(&drain(&mut outbound, at(0)));
    let log = run(&mut outbound, at(4000));
    assert_eq!(times(&log, Sent::is_beat), [500, 1500, 3500]);
    assert_eq!(log[0].1.frame, beat(0, position));
}

#[test]
fn the_rest_of_a_long_item_counts_as_blocked_though_nobody_waits() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.push(&vec![0; 300_000]).expect("room");
    drain(&mut outbound, at(0));
    outbound.finish(Status::ok());
    let log = run(&mut outbound, at(4000));
    assert_eq!(times(&log, Sent::is_beat), [500, 1500, 3500]);
}

/// Keeps the caller's side alive without granting anything, until `until`.
fn stall(outbound: &mut Outbound, next: u64, until: u64) -> Vec<(Instant, Sent)> {
    let mut log = Vec::new();
    for second in 0..=until {
        log.extend(run(outbound, at(second * 1000)));
        give(outbound, at(second * 1000), state(next, 64 * KIB));
        log.extend(drain(outbound, at(second * 1000)).into_iter().map(|sent| (at(second * 1000), sent)));
    }
    log
}

fn assert_stalled(outbound: &mut Outbound, log: &[(Instant, Sent)]) {
    assert_eq!(outbound.closed(), Some(CloseReason::Stalled));
    let end = log.iter().find(|(_, sent)| sent.is_fin()).expect("an end");
    assert!((299..=302).contains(&(end.0.as_nanos() / 1_000_000_000)), "{:?}", end.0);
    let (status, _) = end.1.unit().fin.clone().expect("an end");
    assert_eq!(status.code, Code::Aborted);
}

#[test]
fn a_handler_that_waits_beyond_the_stall_limit_ends_the_stream_keep_alives_or_not() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    fill(&mut outbound, 1000);
    outbound.flush();
    outbound.wait_for_credit(at(0));
    let next = end_of(&drain(&mut outbound, at(0)));
    let log = stall(&mut outbound, next, 305);
    assert_stalled(&mut outbound, &log);
}

#[test]
fn an_end_that_waits_behind_a_long_item_stalls_as_well() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.push(&vec![0; 300_000]).expect("room");
    outbound.finish(Status::ok());
    let next = end_of(&drain(&mut outbound, at(0)));
    let log = stall(&mut outbound, next, 305);
    assert_stalled(&mut outbound, &log);
}

#[test]
fn sending_again_does_not_restart_the_stall_limit() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    let next = after(0, &[b"first"]);
    fill(&mut outbound, 1000);
    outbound.flush();
    drain(&mut outbound, at(0));
    outbound.wait_for_credit(at(0));
    let mut log = Vec::new();
    for second in 0..305 {
        log.extend(run(&mut outbound, at(second * 1000)));
        give(&mut outbound, at(second * 1000), rewind(next, 64 * KIB));
        log.extend(drain(&mut outbound, at(second * 1000)).into_iter().map(|sent| (at(second * 1000), sent)));
    }
    assert_stalled(&mut outbound, &log);
}

#[test]
fn credit_that_arrives_in_time_restarts_the_stall_limit() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    let (mut limit, mut now) = (64 * KIB, 0);
    for _ in 0..5 {
        fill(&mut outbound, 1000);
        outbound.flush();
        outbound.wait_for_credit(at(now));
        let next = end_of(&drain(&mut outbound, at(now)));
        for _ in 0..20 {
            now += 10_000;
            run(&mut outbound, at(now));
            give(&mut outbound, at(now), state(next, limit));
        }
        limit += 64 * KIB;
        give(&mut outbound, at(now), state(next, limit));
        assert_eq!(drain_events(&mut outbound), [OutboundEvent::Ready]);
    }
    assert_eq!(outbound.closed(), None);
}

#[test]
fn the_beats_of_a_blocked_sender_stop_when_credit_arrives() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    fill(&mut outbound, 1000);
    outbound.flush();
    outbound.wait_for_credit(at(0));
    let next = end_of(&drain(&mut outbound, at(0)));
    run(&mut outbound, at(600));
    give(&mut outbound, at(600), state(next, 200 * KIB));
    let log = run(&mut outbound, at(5000));
    assert!(times(&log, Sent::is_beat).is_empty());
}

#[test]
fn waiting_for_credit_that_is_there_wakes_at_once() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.wait_for_credit(at(0));
    assert_eq!(drain_events(&mut outbound), [OutboundEvent::Ready]);
}

#[test]
fn a_caller_answers_a_blocked_sender_within_25_ms() {
    let config = InboundConfig {
        max_window: MIN_WINDOW,
        ..InboundConfig::default()
    };
    let (mut inbound, next) = locked(config, &[]);
    let item = vec![0; 9000];
    inbound.handle(at(30), &plain(&unit(next, &[&item])));
    let next = after(next, &[&item]);
    drain_inbound(&mut inbound, at(30));
    inbound.handle(at(1000), &plain(&beat(0, next)));
    let log = run_inbound(&mut inbound, at(1100));
    assert_eq!(times(&log, |_| true), [1025]);
}

#[test]
fn a_lost_grant_is_repeated_when_the_sender_says_that_it_is_blocked() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    let mut states = 0;
    pair.link.lose = alloc::boxed::Box::new(move |frame| {
        states += u32::from(matches!(frame, Frame::State { .. }));
        matches!(frame, Frame::State { .. }) && (2..6).contains(&states)
    });
    pair.answer_with((0..500).map(|_| vec![1; 1000]));
    let start = pair.now;
    assert!(pair.drive().is_ok());
    assert!(pair.now.saturating_since(start) < Duration::from_secs(20));
}

#[test]
fn the_larger_side_of_two_item_limits_does_not_count() {
    let outbound_config = OutboundConfig {
        max_item: 100,
        ..OutboundConfig::default()
    };
    let max_item = |max_item| outbound(Open { max_item, ..open() }, &outbound_config).max_item();
    assert_eq!((max_item(None), max_item(Some(50)), max_item(Some(500))), (100, 50, 100));
    let mut outbound = outbound(open(), &outbound_config);
    assert_eq!(outbound.push(&[0; 101]), Err(PushError::TooLarge { size: 101, max: 100 }));
    assert_eq!(outbound.push(&[0; 100]), Ok(()));
}
