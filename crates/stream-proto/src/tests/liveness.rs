//! Loss, heartbeats and silence on a connection that stays up (rules 37 to 48).

use alloc::boxed::Box;
use alloc::vec;
use core::time::Duration;

use super::pair::{Pair, Side};
use super::*;
use crate::{CloseReason, LostCause, Termination};

fn is_rewind(frame: &Frame) -> bool {
    matches!(frame, Frame::State { rewind: true, .. })
}

#[test]
fn a_gap_asks_at_once_and_then_with_doubling_waits_up_to_the_heartbeat() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    inbound.handle(at(100), &plain(&unit(next + 300, &[b"c"])));
    assert_eq!(
        drain_inbound(&mut inbound, at(100)),
        [rewind(next, crate::INITIAL_WINDOW)]
    );
    let mut log = Vec::new();
    for second in 1..=24 {
        // Alive, and the gap stays.
        log.extend(run_inbound(&mut inbound, at(second * 1000)));
        inbound.handle(at(second * 1000), &plain(&unit(next + 300, &[b"c"])));
        assert!(
            drain_inbound(&mut inbound, at(second * 1000)).is_empty(),
            "not for each message"
        );
    }
    assert_eq!(times(&log, is_rewind), [1100, 3100, 7100, 12_100, 17_100, 22_100]);
}

#[test]
fn progress_ends_the_asking() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    inbound.handle(at(100), &plain(&unit(next + 300, &[b"c"])));
    drain_inbound(&mut inbound, at(100));
    inbound.handle(at(200), &plain(&unit(next, &[b"b"])));
    let log = run_inbound(&mut inbound, at(4000));
    assert!(times(&log, is_rewind).is_empty());
}

#[test]
fn a_beat_and_an_end_above_what_is_expected_are_gaps() {
    for frame in [beat(0, 10_000), fin(10_000, &[], Status::ok(), 9)] {
        let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
        inbound.handle(at(100), &plain(&frame));
        assert_eq!(
            drain_inbound(&mut inbound, at(100)),
            [rewind(next, crate::INITIAL_WINDOW)]
        );
        assert_eq!(inbound.stats().gaps, 1);
    }
}

#[test]
fn a_repeated_unit_is_dropped() {
    let (mut inbound, _) = locked(InboundConfig::default(), &[b"a"]);
    inbound.handle(at(100), &plain(&unit(0, &[b"a"])));
    assert_eq!(inbound.stats().retransmitted, 1);
    assert_eq!(read_all(&mut inbound, at(100)).len(), 1);
}

#[test]
fn a_rewind_sends_the_same_bytes_again() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    let next = after(0, &[b"first"]);
    for item in [&b"a"[..], b"bb", b"ccc"] {
        outbound.push(item).expect("room");
        outbound.flush();
    }
    let first = drain(&mut outbound, at(1));
    let second_position = first[1].unit().position;
    give(&mut outbound, at(2), rewind(second_position, 64 * KIB));
    let again = drain(&mut outbound, at(2));
    assert_eq!(again.len(), 2);
    for (sent, again) in first[1..].iter().zip(&again) {
        assert_eq!(sent.transmit.payload, again.transmit.payload);
    }
    assert_eq!((outbound.stats().rewinds, outbound.stats().retransmitted), (1, 2));
    give(&mut outbound, at(3), rewind(next, 64 * KIB));
    assert!(drain(&mut outbound, at(3)).is_empty(), "what was acknowledged is gone");
}

#[test]
fn the_same_rewind_within_500_ms_is_not_followed_twice() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    let next = after(0, &[b"first"]);
    outbound.push(b"a").expect("room");
    outbound.flush();
    drain(&mut outbound, at(1));
    let resent = |outbound: &mut Outbound, millis| {
        give(outbound, at(millis), rewind(next, 64 * KIB));
        drain(outbound, at(millis)).len()
    };
    assert_eq!(
        [
            resent(&mut outbound, 10),
            resent(&mut outbound, 509),
            resent(&mut outbound, 511)
        ],
        [1, 0, 1]
    );
}

#[test]
fn new_units_queue_while_the_cursor_is_behind() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    let next = after(0, &[b"first"]);
    outbound.push(b"a").expect("room");
    outbound.flush();
    drain(&mut outbound, at(1));
    give(&mut outbound, at(2), rewind(next, 64 * KIB));
    outbound.push(b"b").expect("room");
    outbound.flush();
    let positions: Vec<u64> = drain(&mut outbound, at(2))
        .iter()
        .map(|sent| sent.unit().position)
        .collect();
    assert_eq!(positions, [next, after(next, &[b"a"])]);
}

#[test]
fn a_beat_follows_the_units_that_are_sent_again() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    let next = after(0, &[b"first"]);
    outbound.push(b"a").expect("room");
    outbound.flush();
    drain(&mut outbound, at(1));
    outbound.handle_timeout(at(5000));
    give(&mut outbound, at(5000), rewind(next, 64 * KIB));
    // One unit at a time: the transport takes no more.
    let unit = outbound.poll_transmit(at(5000)).expect("the unit again");
    assert_eq!(
        Frame::decode(&unit.payload),
        Ok(Frame::decode(&super::unit(next, &[b"a"]).encode()).expect("valid"))
    );
    let sent = drain(&mut outbound, at(5000));
    assert_eq!(sent[0].frame, beat(0, after(next, &[b"a"])));
}

#[test]
fn a_quiet_confirmed_responder_beats_every_heartbeat() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    let log = run(&mut outbound, at(14_000));
    assert_eq!(times(&log, Sent::is_beat), [5000, 10_000]);
    assert!(
        log.iter()
            .all(|(_, sent)| sent.transmit.control && !sent.transmit.header)
    );
}

#[test]
fn traffic_without_the_control_subject_does_not_replace_a_beat() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    let mut log = Vec::new();
    for second in 1..=6 {
        log.extend(run(&mut outbound, at(second * 1000)));
        outbound.push(b"x").expect("room");
        outbound.flush();
        assert_eq!(drain(&mut outbound, at(second * 1000)).len(), 1);
    }
    assert_eq!(times(&log, Sent::is_beat), [5000]);
}

#[test]
fn a_mapped_responder_beats_after_a_second_without_traffic_and_without_its_subject() {
    let config = OutboundConfig {
        mapped: true,
        ..OutboundConfig::default()
    };
    let mut outbound = confirmed(open(), &config, 64 * KIB);
    let mut log = run(&mut outbound, at(600));
    outbound.push(b"x").expect("room");
    outbound.flush();
    drain(&mut outbound, at(600));
    log.extend(run(&mut outbound, at(3000)));
    assert_eq!(times(&log, Sent::is_beat), [1600, 2600]);
    assert!(log.iter().all(|(_, sent)| !sent.transmit.control));
}

#[test]
fn the_callers_heartbeat_wins_within_1_to_60_s() {
    let heartbeat = |wish: Option<u64>| {
        let open = Open {
            heartbeat: wish.map(Duration::from_millis),
            ..open()
        };
        outbound(open, &OutboundConfig::default())
            .answer()
            .heartbeat
            .as_millis()
    };
    assert_eq!(
        [
            heartbeat(None),
            heartbeat(Some(0)),
            heartbeat(Some(7000)),
            heartbeat(Some(u64::MAX))
        ],
        [5000, 1000, 7000, 60_000]
    );
}

#[test]
fn a_caller_sends_a_state_every_heartbeat() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    let mut log = Vec::new();
    for second in 1..=17 {
        log.extend(run_inbound(&mut inbound, at(second * 1000)));
        // Mapped: no subject comes along, and no answer is asked for.
        inbound.handle(at(second * 1000), &plain(&beat(0, next)));
        log.extend(
            drain_inbound(&mut inbound, at(second * 1000))
                .into_iter()
                .map(|frame| (at(second * 1000), frame)),
        );
    }
    assert_eq!(times(&log, |_| true), [5025, 10_025, 15_025]);
}

#[test]
fn a_beat_with_a_reply_is_answered_within_25_ms() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    let message = Message {
        has_control: true,
        ..plain(&beat(0, next))
    };
    inbound.handle(at(1000), &message);
    let log = run_inbound(&mut inbound, at(2000));
    assert_eq!(times(&log, |_| true), [1025]);
}

#[test]
fn a_beat_is_answered_also_while_something_is_missing() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    let beat = Message {
        has_control: true,
        ..plain(&beat(0, next + 300))
    };
    inbound.handle(at(100), &beat);
    // Asking for what is missing is the answer.
    assert_eq!(
        drain_inbound(&mut inbound, at(100)),
        [rewind(next, crate::INITIAL_WINDOW)]
    );
    assert!(run_inbound(&mut inbound, at(500)).is_empty());
    // That has been asked for just now.
    inbound.handle(at(500), &beat);
    assert_eq!(
        run_inbound(&mut inbound, at(900)),
        [(at(525), state(next, crate::INITIAL_WINDOW))]
    );
}

#[test]
fn a_caller_that_hears_nothing_for_3_heartbeats_has_lost_the_stream() {
    let (mut inbound, _) = locked(InboundConfig::default(), &[b"a"]);
    run_inbound(&mut inbound, at(14_999));
    assert_eq!(inbound.termination(), None);
    run_inbound(&mut inbound, at(15_000));
    let expected = Termination::Lost {
        items: 1,
        cause: LostCause::Silent,
    };
    assert_eq!(inbound.termination(), Some(&expected));
}

#[test]
fn messages_of_another_stream_are_no_sign_of_life() {
    let (mut inbound, _) = locked(InboundConfig::default(), &[b"a"]);
    inbound.handle(at(14_000), &plain(&Frame::Reset { sid: SID ^ 1 }));
    inbound.handle(at(14_000), &message(Bytes::from_static(b"\xfe\x01\x00\x00\x00\x07")));
    run_inbound(&mut inbound, at(15_000));
    assert!(inbound.termination().is_some());
}

#[test]
fn a_responder_that_hears_nothing_for_3_heartbeats_gives_up() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.push(b"x").expect("room");
    run(&mut outbound, at(14_999));
    assert_eq!(outbound.closed(), None);
    run(&mut outbound, at(15_000));
    assert_eq!(
        drain_events(&mut outbound),
        [OutboundEvent::Closed(CloseReason::Gone), OutboundEvent::Forgotten]
    );
    assert_eq!(outbound.kept(), 0);
}

#[test]
fn both_sides_stay_while_neither_has_anything_to_say() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.drive_for(Duration::from_secs(600));
    assert!(pair.inbound.termination().is_none() && pair.outbound.closed().is_none());
    // A beat and a STATE a heartbeat, and the opening.
    assert!(pair.log.len() < 2 * 600 / 5 + 10, "{} messages", pair.log.len());
}

#[test]
fn both_sides_notice_that_the_other_is_gone() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.drive_for(Duration::from_secs(2));
    pair.link.lose = Box::new(|_| true);
    let start = pair.now;
    pair.drive();
    assert!(pair.now.saturating_since(start) <= Duration::from_secs(20));
    assert_eq!(pair.outbound.closed(), Some(CloseReason::Gone));
    assert!(matches!(
        pair.inbound.termination(),
        Some(Termination::Lost {
            cause: LostCause::Silent,
            ..
        })
    ));
}

#[test]
fn one_lost_unit_costs_one_rewind() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    let mut units = 0;
    pair.link.lose = Box::new(move |frame| {
        units += u32::from(matches!(frame, Frame::Unit(_)));
        units == 4 && matches!(frame, Frame::Unit(_))
    });
    pair.answer_with((0..300).map(|_| vec![1; 1000]));
    assert!(pair.drive().is_ok());
    assert_eq!(pair.logged(Side::Caller, is_rewind).len(), 1);
    assert_eq!(pair.outbound.stats().rewinds, 1);
    assert_eq!(pair.reader.items.len(), 300);
}

#[test]
fn a_reset_answers_a_caller_whose_stream_was_forgotten() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.drive_for(Duration::from_secs(2));
    // The caller's word is lost until the responder gives up; its own beats still arrive.
    pair.link.lose = Box::new(|frame| matches!(frame, Frame::State { .. }));
    pair.drive_until(|pair| pair.outbound.is_forgotten());
    pair.link.lose = Box::new(|_| false);
    pair.drive();
    let cause = LostCause::Forgotten;
    assert_eq!(pair.inbound.termination(), Some(&Termination::Lost { items: 0, cause }));
}
