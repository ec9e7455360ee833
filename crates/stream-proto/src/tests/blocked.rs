//! A sender that credit holds up: it says so, and not for ever (rules 36, 46 and 47).

use alloc::vec;
use core::time::Duration;

use super::credit::fill;
use super::pair::Pair;
use super::*;
use crate::{CloseReason, Code, MIN_WINDOW};

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

#[test]
fn credit_for_less_than_a_handler_waits_for_keeps_it_blocked() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    fill(&mut outbound, 1000);
    outbound.flush();
    outbound.wait_for_credit(at(0));
    // The last unit was built beyond the credit; now it may leave, and nothing after it.
    let position = end_of(&drain(&mut outbound, at(0)));
    give(&mut outbound, at(100), state(0, position + 1));
    assert_eq!(drain(&mut outbound, at(100)).len(), 1);
    assert!(!outbound.is_ready());
    let log = run(&mut outbound, at(4000));
    assert_eq!(times(&log, Sent::is_beat), [600, 1600, 3600]);
}

#[test]
fn data_beyond_the_credit_counts_as_blocked_though_it_was_not_flushed_at_once() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    fill(&mut outbound, 1000);
    drain(&mut outbound, at(0));
    outbound.flush();
    assert!(drain(&mut outbound, at(0)).is_empty());
    let log = run(&mut outbound, at(4000));
    assert_eq!(times(&log, Sent::is_beat), [500, 1500, 3500]);
}

#[test]
fn a_handler_that_does_not_wait_is_not_blocked_by_credit_that_is_used_up() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    fill(&mut outbound, 60_000);
    outbound.wait_for_credit(at(0));
    let position = end_of(&drain(&mut outbound, at(0)));
    give(&mut outbound, at(100), state(position, 300 * KIB));
    fill(&mut outbound, 60_000);
    drain(&mut outbound, at(100));
    assert!(!outbound.is_ready());
    let log = run(&mut outbound, at(4000));
    assert!(times(&log, Sent::is_beat).is_empty());
}

/// Keeps the caller's side alive without granting anything, until `until`.
fn stall(outbound: &mut Outbound, next: u64, until: u64) -> Vec<(Instant, Sent)> {
    let mut log = Vec::new();
    for second in 0..=until {
        log.extend(run(outbound, at(second * 1000)));
        give(outbound, at(second * 1000), state(next, 64 * KIB));
        log.extend(
            drain(outbound, at(second * 1000))
                .into_iter()
                .map(|sent| (at(second * 1000), sent)),
        );
    }
    log
}

fn assert_stalled(outbound: &Outbound, log: &[(Instant, Sent)]) {
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
    assert_stalled(&outbound, &log);
}

#[test]
fn an_end_that_waits_behind_a_long_item_stalls_as_well() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.push(&vec![0; 300_000]).expect("room");
    outbound.finish(Status::ok());
    let next = end_of(&drain(&mut outbound, at(0)));
    let log = stall(&mut outbound, next, 305);
    assert_stalled(&outbound, &log);
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
        log.extend(
            drain(&mut outbound, at(second * 1000))
                .into_iter()
                .map(|sent| (at(second * 1000), sent)),
        );
    }
    assert_stalled(&outbound, &log);
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
