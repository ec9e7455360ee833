//! How a stream ends, on both sides (rules 51 to 56 and 58).

use alloc::vec;
use core::time::Duration;

use super::pair::{Pace, Pair};
use super::*;
use crate::{CloseReason, Code, ControlUse, LostCause, Malformed, ProtocolError, PushError, Termination};

fn aborted() -> Status {
    Status {
        retryable: true,
        ..Status::new(Code::Unavailable, "drained")
    }
}

#[test]
fn what_was_pushed_precedes_the_end_also_on_failure() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.handler.items.extend((0..200).map(|_| vec![1; 1000]));
    let status = Status::new(Code::NotFound, "no such thing");
    pair.handler.status = Some(status.clone());
    assert_eq!(pair.drive(), &Termination::Failed(status));
    assert_eq!(pair.reader.items.len(), 200);
}

#[test]
fn the_end_travels_with_the_last_data() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.push(b"last").expect("room");
    outbound.finish(Status::ok());
    let sent = drain(&mut outbound, at(1));
    assert_eq!(sent.len(), 1);
    let unit = sent[0].unit();
    assert_eq!(unit.data, encode_items(&[b"last"]));
    assert_eq!(
        unit.fin.as_ref().map(|(status, items)| (status.is_ok(), *items)),
        Some((true, 2))
    );
}

#[test]
fn an_answer_of_one_message_is_released_to_its_host() {
    let not_found = Status::new(Code::NotFound, "no such thing");
    for status in [Status::ok(), not_found] {
        let mut outbound = outbound(open(), &OutboundConfig::default());
        outbound.push(b"all").expect("room");
        outbound.finish(status.clone());
        assert!(outbound.release().is_none(), "it was not handed out");
        let sent = outbound.poll_transmit(at(0)).expect("the answer");
        let again = outbound.release().expect("the answer");
        assert_eq!(
            (&again.payload, again.header, again.metadata),
            (&sent.payload, true, true)
        );
        assert_eq!((&again.failure, again.control), (&sent.failure, false));
        assert_eq!(drain_events(&mut outbound), [OutboundEvent::Forgotten]);
        assert!(outbound.is_end_sent() || outbound.is_forgotten());
        assert_eq!((outbound.kept(), outbound.poll_timeout()), (0, None));
        assert!(outbound.release().is_none(), "once");
        assert_eq!(outbound.end(), Some(&status));
    }
}

#[test]
fn what_the_caller_confirms_or_a_mapping_ends_with_is_not_released() {
    let mut two = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    two.finish(Status::ok());
    drain(&mut two, at(1));
    assert!(two.is_end_sent() && two.release().is_none());
    let config = OutboundConfig {
        mapped: true,
        ..OutboundConfig::default()
    };
    let mut mapped = outbound(open(), &config);
    mapped.finish(Status::ok());
    drain(&mut mapped, at(0));
    assert!(mapped.is_end_sent() && mapped.release().is_none());
}

#[test]
fn trailers_arrive_with_success() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.handler.items.push_back(vec![1]);
    let trailers = Bytes::from_static(b"took 3 ms");
    pair.handler.status = Some(Status {
        details: trailers.clone(),
        ..Status::ok()
    });
    assert_eq!(pair.drive(), &Termination::Ended { items: 1, trailers });
}

#[test]
fn a_stream_without_items_is_complete() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.answer_with([]);
    let trailers = Bytes::new();
    assert_eq!(pair.drive(), &Termination::Ended { items: 0, trailers });
}

#[test]
fn the_caller_closes_a_complete_stream_before_the_user_has_read_it() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.reader.pace = Pace::Never;
    pair.handler.yields = true;
    pair.answer_with([vec![1], vec![2]]);
    pair.drive();
    assert_eq!(pair.closes(), [CloseCode::Done]);
    pair.reader.pace = Pace::Eager;
    pair.step();
    assert_eq!(pair.reader.items.len(), 2);
}

#[test]
fn an_end_with_the_wrong_count_is_no_success() {
    for (count, what) in [(1, Malformed::WrongCount), (3, Malformed::WrongCount)] {
        let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
        inbound.handle(at(30), &plain(&fin(next, &[b"b"], Status::ok(), count)));
        let Some(Termination::Protocol(ProtocolError::Malformed(error))) = inbound.termination() else {
            panic!("{:?}", inbound.termination())
        };
        assert_eq!(error.what, what);
        assert_eq!(drain_inbound(&mut inbound, at(30)), [close(CloseCode::Protocol)]);
        assert_eq!(read_all(&mut inbound, at(30)).len(), 2, "what came is delivered");
    }
}

#[test]
fn an_end_with_the_wrong_count_in_the_first_unit_is_closed_as_well() {
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    inbound.handle(at(1), &announced(&fin(0, &[b"b"], Status::ok(), 2)));
    assert!(matches!(inbound.termination(), Some(Termination::Protocol(_))));
    assert_eq!(drain_inbound(&mut inbound, at(30)), [close(CloseCode::Protocol)]);
}

#[test]
fn an_end_inside_an_item_is_no_success() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    let frame = raw_unit(next, &[5, 1, 2], Some((Status::ok(), 1)));
    inbound.handle(at(30), &plain(&frame));
    let Some(Termination::Protocol(ProtocolError::Malformed(error))) = inbound.termination() else {
        panic!("{:?}", inbound.termination())
    };
    assert_eq!(error.what, Malformed::ItemUnfinished);
    assert_eq!(read_all(&mut inbound, at(30)), [&b"a"[..]]);
}

#[test]
fn messages_after_the_verdict_are_refused_where_they_can_be() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    inbound.handle(at(30), &plain(&fin(next, &[], Status::ok(), 1)));
    let verdict = inbound.termination().cloned();
    drain_inbound(&mut inbound, at(30));
    let repeated = fin(next, &[], Status::ok(), 1);
    assert_eq!(inbound.handle(at(31), &announced(&repeated)), ControlUse::Refuse(SID));
    assert_eq!(inbound.handle(at(31), &plain(&repeated)), ControlUse::Ignore);
    assert_eq!(inbound.handle(at(31), &Message::default()), ControlUse::Ignore);
    assert_eq!(
        inbound.handle(at(31), &plain(&Frame::Reset { sid: SID })),
        ControlUse::Ignore
    );
    inbound.cancel();
    assert_eq!(inbound.termination().cloned(), verdict);
    assert!(drain_inbound(&mut inbound, at(31)).is_empty());
}

#[test]
fn after_the_verdict_only_who_still_sends_is_told() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    inbound.cancel();
    for frame in [unit(next, &[b"b"]), beat(0, next)] {
        assert_eq!(inbound.handle(at(31), &announced(&frame)), ControlUse::Refuse(SID));
    }
    let unknown = Frame::Unknown { sid: SID, kind: 0x2a };
    for frame in [Frame::Reset { sid: SID }, state(next, 1), unknown] {
        assert_eq!(
            inbound.handle(at(31), &announced(&frame)),
            ControlUse::Ignore,
            "{frame:?}"
        );
    }
}

#[test]
fn a_message_that_is_not_native_is_never_refused() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"a"]);
    inbound.handle(at(30), &plain(&fin(next, &[], Status::ok(), 1)));
    let nobody = Message {
        status: Some(503),
        ..announced(&unit(0, &[]))
    };
    assert_eq!(inbound.handle(at(31), &nobody), ControlUse::Ignore);
}

#[test]
fn the_end_is_repeated_after_1_s_and_then_every_heartbeat_until_forgotten() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.finish(Status::ok());
    drain(&mut outbound, at(0));
    let log = run(&mut outbound, at(60_000));
    assert_eq!(times(&log, Sent::is_fin), [1000, 6000, 11_000]);
    assert!(
        log.iter().all(|(_, sent)| sent.is_fin() && sent.transmit.control),
        "no beats, and the subject goes along"
    );
    assert!(outbound.is_forgotten());
    assert_eq!(drain_events(&mut outbound), [OutboundEvent::Forgotten]);
    assert_eq!(outbound.poll_timeout(), None);
    assert_eq!(outbound.kept(), 0);
}

#[test]
fn an_end_is_forgotten_3_heartbeats_after_it_was_sent() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.finish(Status::ok());
    drain(&mut outbound, at(0));
    run(&mut outbound, at(14_999));
    assert!(!outbound.is_forgotten());
    run(&mut outbound, Instant::ORIGIN + H * 3);
    assert!(outbound.is_forgotten());
}

#[test]
fn an_answer_of_one_message_is_kept_2_s_without_repeats_and_beats() {
    let mut outbound = outbound(open(), &OutboundConfig::default());
    outbound.push(b"x").expect("room");
    outbound.finish(Status::ok());
    assert_eq!(drain(&mut outbound, at(0)).len(), 1);
    let log = run(&mut outbound, at(1999));
    assert!(log.is_empty() && !outbound.is_forgotten() && outbound.kept() > 0);
    run(&mut outbound, at(2000));
    assert!(outbound.is_forgotten());
}

#[test]
fn a_beat_that_is_due_with_the_end_is_not_sent_after_it() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.handle_timeout(at(5000));
    outbound.finish(Status::ok());
    let sent = drain(&mut outbound, at(5000));
    assert!(sent.last().is_some_and(Sent::is_fin));
}

#[test]
fn no_beat_of_a_blocked_sender_follows_the_end() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    for _ in 0..2 {
        outbound.push(&vec![7; 60_000]).expect("room");
    }
    outbound.wait_for_credit(at(0));
    outbound.finish(Status::ok());
    assert!(drain(&mut outbound, at(0)).last().is_some_and(Sent::is_fin));
    let log = run(&mut outbound, at(60_000));
    assert!(log.iter().all(|(_, sent)| sent.is_fin()));
}

#[test]
fn close_forgets_the_stream_at_once() {
    let codes = [
        (CloseCode::Done, CloseReason::Cancelled),
        (CloseCode::Cancelled, CloseReason::Cancelled),
        (CloseCode::Unwanted, CloseReason::Cancelled),
        (CloseCode::Deadline, CloseReason::Deadline),
        (CloseCode::Protocol, CloseReason::Protocol),
        (CloseCode::Other(77), CloseReason::Cancelled),
    ];
    for (code, reason) in codes {
        let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
        outbound.push(&vec![0; 300_000]).expect("room");
        give(&mut outbound, at(1), close(code));
        assert_eq!(
            drain_events(&mut outbound),
            [OutboundEvent::Closed(reason), OutboundEvent::Forgotten]
        );
        assert!(drain(&mut outbound, at(1)).is_empty());
        assert_eq!((outbound.kept(), outbound.poll_timeout()), (0, None));
        // Nothing wakes it again.
        outbound.flush();
        outbound.finish(Status::ok());
        outbound.abort(aborted(), CloseReason::Local);
        outbound.wait_for_credit(at(1));
        outbound.handle_timeout(at(100_000));
        give(&mut outbound, at(2), rewind(0, 1 << 40));
        assert!(drain(&mut outbound, at(100_000)).is_empty() && drain_events(&mut outbound).is_empty());
        assert_eq!(outbound.push(b"x"), Err(PushError::Ended));
    }
}

#[test]
fn close_after_the_end_is_only_its_confirmation() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.finish(Status::ok());
    drain(&mut outbound, at(0));
    give(&mut outbound, at(1), close(CloseCode::Done));
    assert_eq!(drain_events(&mut outbound), [OutboundEvent::Forgotten]);
    assert_eq!(outbound.closed(), None);
}

#[test]
fn a_close_of_another_stream_is_ignored() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    let other = Frame::Close {
        sid: SID ^ 1,
        code: CloseCode::Cancelled,
    };
    give(&mut outbound, at(1), other);
    assert!(outbound.is_ready());
    assert_eq!(outbound.stats().ignored, 1);
}

#[test]
fn a_bare_empty_message_closes_the_responder() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.handle(at(1), &Message::default()).expect("not malformed");
    assert_eq!(outbound.closed(), Some(CloseReason::Cancelled));
    assert!(outbound.is_forgotten());
}

#[test]
fn cancel_is_told_and_discards_what_was_not_read() {
    let (mut inbound, _) = locked(InboundConfig::default(), &[b"a", b"b"]);
    assert!(inbound.poll_item(at(30)).is_some());
    inbound.cancel();
    assert_eq!(inbound.termination(), Some(&Termination::Cancelled));
    assert_eq!(inbound.poll_item(at(30)), None);
    assert_eq!(inbound.buffered(), 0);
    assert_eq!(drain_inbound(&mut inbound, at(30)), [close(CloseCode::Cancelled)]);
    assert_eq!(inbound_events(&mut inbound).last(), Some(&InboundEvent::Terminated));
    assert_eq!(inbound.poll_timeout(), None);
}

#[test]
fn cancel_before_the_lock_is_local_and_a_late_answer_is_refused() {
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    inbound.cancel();
    assert!(drain_inbound(&mut inbound, at(0)).is_empty());
    assert_eq!(
        inbound.handle(at(1), &announced(&unit(0, &[b"x"]))),
        ControlUse::Refuse(SID)
    );
    assert_eq!(inbound.poll_item(at(1)), None);
}

#[test]
fn abort_puts_the_end_in_the_place_of_all_that_was_not_sent() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.push(b"sent").expect("room");
    outbound.flush();
    let next = end_of(&drain(&mut outbound, at(1)));
    outbound.push(&[1; 5000]).expect("room");
    outbound.push(b"under construction").expect("room");
    outbound.abort(aborted(), CloseReason::Local);
    let sent = drain(&mut outbound, at(1));
    assert_eq!(sent.len(), 1);
    let unit = sent[0].unit();
    assert_eq!((unit.position, unit.data.len()), (next, 0));
    assert_eq!(unit.fin, Some((aborted(), 2)), "it counts the items that were sent");
    assert_eq!(drain_events(&mut outbound), [OutboundEvent::Closed(CloseReason::Local)]);
}

#[test]
fn abort_needs_no_credit_even_inside_a_long_item() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.push(&vec![0; 300_000]).expect("room");
    drain(&mut outbound, at(1));
    outbound.abort(aborted(), CloseReason::Local);
    let sent = drain(&mut outbound, at(1));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].unit().fin, Some((aborted(), 1)), "half an item is not counted");
}

#[test]
fn abort_before_anything_was_sent_is_one_message() {
    let mut outbound = outbound(open(), &OutboundConfig::default());
    outbound.push(b"never").expect("room");
    outbound.flush();
    outbound.abort(aborted(), CloseReason::Local);
    let sent = drain(&mut outbound, at(1));
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].unit().position, sent[0].unit().fin.clone()),
        (0, Some((aborted(), 0)))
    );
}

#[test]
fn abort_replaces_an_end_that_was_not_sent_and_leaves_one_that_was() {
    let mut unsent = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    unsent.finish(Status::ok());
    unsent.abort(aborted(), CloseReason::Local);
    let sent = drain(&mut unsent, at(1));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].unit().fin, Some((aborted(), 1)));

    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.finish(Status::ok());
    drain(&mut outbound, at(1));
    outbound.abort(aborted(), CloseReason::Local);
    assert!(drain(&mut outbound, at(1)).is_empty());
    assert_eq!(outbound.closed(), None);
}

#[test]
fn abort_while_units_are_sent_again_adds_no_second_end() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    let next = after(0, &[b"first"]);
    outbound.push(b"a").expect("room");
    outbound.flush();
    outbound.finish(Status::ok());
    let first = drain(&mut outbound, at(1));
    give(&mut outbound, at(2), rewind(next, 64 * KIB));
    outbound.abort(aborted(), CloseReason::Local);
    let again = drain(&mut outbound, at(2));
    let payloads = |sent: &[Sent]| -> Vec<Bytes> { sent.iter().map(|sent| sent.transmit.payload.clone()).collect() };
    assert_eq!(payloads(&again), payloads(&first));
}

#[test]
fn a_half_sent_item_followed_by_a_failure_is_that_failure() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.reader.pace = Pace::Never;
    pair.handler.items.push_back(vec![1; 300_000]);
    pair.drive_for(Duration::from_secs(1));
    pair.outbound.abort(aborted(), CloseReason::Local);
    assert_eq!(pair.drive(), &Termination::Failed(aborted()));
}

#[test]
fn an_end_waits_for_the_rest_of_a_long_item() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.answer_with([vec![1; 300_000]]);
    assert!(pair.drive().is_ok());
    assert_eq!(pair.reader.items.len(), 1);
    assert_eq!(pair.closes(), [CloseCode::Done]);
}

#[test]
fn a_lost_end_is_repeated() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    let mut lost = 0;
    pair.link.lose = alloc::boxed::Box::new(move |frame| {
        let is_fin = matches!(frame, Frame::Unit(unit) if unit.fin.is_some());
        lost += u32::from(is_fin);
        is_fin && lost <= 2
    });
    pair.handler.yields = true;
    pair.answer_with([vec![1], vec![2]]);
    assert!(pair.drive().is_ok());
}

#[test]
fn a_lost_close_is_mended_by_the_repeated_end() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.link.lose = alloc::boxed::Box::new(|frame| {
        matches!(
            frame,
            Frame::Close {
                code: CloseCode::Done,
                ..
            }
        )
    });
    pair.handler.yields = true;
    pair.answer_with([vec![1], vec![2]]);
    let start = pair.now;
    assert!(pair.drive().is_ok());
    assert_eq!(pair.closes(), [CloseCode::Done, CloseCode::Unwanted]);
    assert!(pair.now.saturating_since(start) < Duration::from_secs(2));
    assert!(
        !pair
            .outbound_events
            .contains(&OutboundEvent::Closed(CloseReason::Cancelled))
    );
}

#[test]
fn a_lost_cancel_is_mended_by_the_next_message() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.drive_for(Duration::from_secs(2));
    pair.link.lose = alloc::boxed::Box::new(|frame| {
        matches!(
            frame,
            Frame::Close {
                code: CloseCode::Cancelled,
                ..
            }
        )
    });
    pair.inbound.cancel();
    pair.drive();
    assert_eq!(pair.outbound.closed(), Some(CloseReason::Cancelled));
}

#[test]
fn a_reset_says_that_the_stream_is_forgotten() {
    let (mut inbound, _) = locked(InboundConfig::default(), &[b"a"]);
    inbound.handle(at(30), &plain(&Frame::Reset { sid: SID ^ 1 }));
    assert_eq!(inbound.termination(), None);
    inbound.handle(at(30), &plain(&Frame::Reset { sid: SID }));
    let expected = Termination::Lost {
        items: 1,
        cause: LostCause::Forgotten,
    };
    assert_eq!(inbound.termination(), Some(&expected));
    assert_eq!(read_all(&mut inbound, at(30)), [&b"a"[..]]);
}

#[test]
fn an_end_is_kept_as_long_as_the_caller_is_on_its_way_to_it() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    for item in [b"second", b"third."] {
        outbound.push(item).expect("room");
        outbound.flush();
    }
    outbound.finish(Status::ok());
    let sent = drain(&mut outbound, at(100));
    assert!(sent.iter().any(Sent::is_fin));
    let second = sent[0].unit().end();
    run(&mut outbound, at(14_000));
    // A slow network: the caller is still at the beginning.
    give(&mut outbound, at(14_000), state(second, 64 * KIB));
    run(&mut outbound, at(28_000));
    assert!(!outbound.is_forgotten());
    // It stands still, or has everything and says so with CLOSE: this says nothing more.
    give(&mut outbound, at(28_000), state(second, 64 * KIB));
    give(&mut outbound, at(28_000), state(end_of(&sent), 64 * KIB));
    run(&mut outbound, at(29_000));
    assert!(outbound.is_forgotten());
}
