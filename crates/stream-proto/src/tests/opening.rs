//! The first messages of a stream (rules 8 and 18 to 28).

use alloc::vec;
use core::time::Duration;

use super::pair::{Pair, Side};
use super::*;
use crate::{Clock, Code, ControlUse, LostCause, ProtocolError, PushError, ServiceError, Termination};

fn mapped() -> OutboundConfig {
    OutboundConfig {
        mapped: true,
        ..OutboundConfig::default()
    }
}

#[test]
fn the_first_unit_leaves_with_the_first_data() {
    let mut outbound = outbound(open(), &OutboundConfig::default());
    assert!(drain(&mut outbound, at(0)).is_empty());
    outbound.push(b"x").expect("room");
    assert!(drain(&mut outbound, at(0)).is_empty(), "the handler has not yielded");
    outbound.flush();
    let sent = drain(&mut outbound, at(0));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].frame, Frame::decode(&unit(0, &[b"x"]).encode()).expect("valid"));
    assert!(sent[0].transmit.header && sent[0].transmit.metadata && sent[0].transmit.control);
}

#[test]
fn the_first_unit_leaves_without_data_after_200_ms() {
    let mut outbound = outbound(open(), &OutboundConfig::default());
    let log = run(&mut outbound, at(400));
    assert_eq!(times(&log, |_| true), [200]);
    assert_eq!(log[0].1.unit().data.len(), 0);
}

#[test]
fn the_first_unit_takes_unflushed_data_along_after_200_ms() {
    let mut outbound = outbound(open(), &OutboundConfig::default());
    outbound.push(b"x").expect("room");
    let log = run(&mut outbound, at(400));
    assert_eq!(times(&log, |_| true), [200]);
    assert_eq!(log[0].1.unit().data, encode_items(&[b"x"]));
}

#[test]
fn a_first_unit_that_waits_for_the_transport_is_not_followed_by_an_empty_one() {
    let mut outbound = outbound(open(), &OutboundConfig::default());
    outbound.push(b"x").expect("room");
    outbound.flush();
    outbound.handle_timeout(at(200));
    assert_eq!(drain(&mut outbound, at(300)).len(), 1);
}

#[test]
fn nothing_follows_an_end_that_waits_for_the_transport() {
    let mut outbound = outbound(open(), &OutboundConfig::default());
    outbound.finish(Status::ok());
    outbound.handle_timeout(at(200));
    let sent = drain(&mut outbound, at(300));
    assert_eq!(sent.len(), 1);
    assert!(sent[0].is_fin());
}

#[test]
fn an_unconfirmed_stream_announces_itself_with_doubling_waits() {
    let mut outbound = outbound(open(), &OutboundConfig::default());
    outbound.push(b"x").expect("room");
    outbound.flush();
    drain(&mut outbound, at(0));
    let log = run(&mut outbound, at(14_999));
    // Of 0.5, 1, 2, 4 s and then h = 5 s; keep-alive beats every 5 s fall away since every beat carries the subject.
    assert_eq!(times(&log, Sent::is_beat), [500, 1500, 3500, 7500, 12_500]);
    assert!(
        log.iter()
            .all(|(_, sent)| sent.transmit.header && sent.transmit.control)
    );
}

#[test]
fn a_confirmed_stream_sends_no_more_headers() {
    let mut outbound = confirmed(open(), &OutboundConfig::default(), 64 * KIB);
    outbound.push(b"x").expect("room");
    outbound.flush();
    let sent = drain(&mut outbound, at(1));
    assert!(!sent[0].transmit.header && !sent[0].transmit.metadata && !sent[0].transmit.control);
}

#[test]
fn every_unit_carries_the_header_until_confirmed_and_only_the_first_the_metadata() {
    let mut outbound = outbound(open(), &OutboundConfig::default());
    for _ in 0..3 {
        outbound.push(b"x").expect("room");
        outbound.flush();
    }
    let sent = drain(&mut outbound, at(0));
    assert!(sent.iter().all(|sent| sent.transmit.header && sent.transmit.control));
    let metadata: Vec<bool> = sent.iter().map(|sent| sent.transmit.metadata).collect();
    assert_eq!(metadata, [true, false, false]);
}

#[test]
fn a_repeated_first_unit_carries_its_headers_also_when_confirmed() {
    let mut outbound = outbound(open(), &OutboundConfig::default());
    for _ in 0..2 {
        outbound.push(b"x").expect("room");
        outbound.flush();
    }
    drain(&mut outbound, at(0));
    give(&mut outbound, at(1), rewind(0, 64 * KIB));
    let sent = drain(&mut outbound, at(1));
    let headers: Vec<bool> = sent.iter().map(|sent| sent.transmit.header).collect();
    assert_eq!(headers, [true, false]);
}

#[test]
fn a_mapped_control_subject_travels_only_with_the_first_unit_and_numbered_beats() {
    let mut outbound = outbound(open(), &mapped());
    for _ in 0..2 {
        outbound.push(b"x").expect("room");
        outbound.flush();
    }
    let sent = drain(&mut outbound, at(0));
    let controls: Vec<bool> = sent.iter().map(|sent| sent.transmit.control).collect();
    assert_eq!(controls, [true, false]);
    let log = run(&mut outbound, at(14_000));
    let announced = times(&log, |sent| sent.transmit.control);
    assert_eq!(announced, [500, 1500, 3500, 7500, 12_500]);
    let announces = |control: bool| -> Vec<u64> {
        log.iter()
            .filter(|(_, sent)| sent.transmit.control == control)
            .filter_map(|(_, sent)| match sent.frame {
                Frame::Beat { announce, .. } => Some(announce),
                _ => None,
            })
            .collect()
    };
    assert_eq!(announces(true), [1, 2, 3, 4, 5]);
    let others = announces(false);
    assert!(
        !others.is_empty() && others.iter().all(|announce| *announce == 0),
        "{others:?}"
    );
}

#[test]
fn a_repeated_first_unit_does_not_spend_another_mapped_subject() {
    let mut outbound = outbound(open(), &mapped());
    outbound.push(b"x").expect("room");
    outbound.flush();
    drain(&mut outbound, at(0));
    give(&mut outbound, at(1), rewind(0, 64 * KIB));
    let sent = drain(&mut outbound, at(1));
    assert!(!sent[0].transmit.control);
}

#[test]
fn an_unconfirmed_responder_stops_at_64_kib() {
    let open = Open {
        limit: 10 << 20,
        ..open()
    };
    let mut outbound = outbound(open, &OutboundConfig::default());
    while outbound.push(&[0; 1000]).is_ok() {}
    outbound.flush();
    let sent = drain(&mut outbound, at(0));
    let last = sent.last().expect("units").unit();
    assert!(last.position < 64 * KIB && last.end() >= 64 * KIB);
    give(&mut outbound, at(1), state(last.end(), 0));
    assert!(outbound.is_ready(), "the Open's own limit holds once confirmed");
}

#[test]
fn confirmation_wakes_a_handler_also_when_it_acknowledges_nothing() {
    let open = Open {
        limit: 10 << 20,
        ..open()
    };
    let mut outbound = outbound(open, &OutboundConfig::default());
    while outbound.push(&[0; 1000]).is_ok() {}
    outbound.flush();
    drain(&mut outbound, at(0));
    outbound.wait_for_credit(at(0));
    give(&mut outbound, at(1), state(0, 1));
    assert_eq!(drain_events(&mut outbound), [OutboundEvent::Ready]);
}

#[test]
fn a_stream_that_was_opened_without_credit_still_sends_its_first_unit() {
    let open = Open { limit: 0, ..open() };
    let mut outbound = outbound(open, &OutboundConfig::default());
    let log = run(&mut outbound, at(300));
    assert_eq!(times(&log, |_| true), [200]);
}

#[test]
fn a_refusal_is_one_unit_without_control_subject() {
    let mut outbound = outbound(open(), &OutboundConfig::default());
    let status = Status {
        not_processed: true,
        ..Status::new(Code::Unimplemented, "version")
    };
    outbound.finish(status.clone());
    let sent = drain(&mut outbound, at(0));
    assert_eq!(sent.len(), 1);
    assert!(!sent[0].transmit.control && sent[0].transmit.header);
    assert_eq!(sent[0].transmit.failure.as_ref(), Some(&status));

    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    let message = Message {
        has_control: false,
        ..announced(&sent[0].frame)
    };
    assert_eq!(inbound.handle(at(1), &message), ControlUse::Ignore);
    assert_eq!(inbound.termination(), Some(&Termination::Refused(status)));
}

#[test]
fn a_refusal_by_another_version_is_read_from_the_service_error_headers() {
    let version_2 = |service_error| Message {
        header: Some("3,2"),
        service_error,
        has_headers: true,
        // A format that this version cannot read.
        ..message(Bytes::from_static(&[0xfe, 0x77, 1, 2]))
    };
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    let error = ServiceError {
        code: "12",
        text: "no common version",
    };
    assert_eq!(inbound.handle(at(1), &version_2(Some(error))), ControlUse::Ignore);
    let status = Status {
        not_processed: true,
        ..Status::new(Code::Unimplemented, "no common version")
    };
    assert_eq!(inbound.termination(), Some(&Termination::Refused(status)));

    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    inbound.handle(at(1), &version_2(None));
    assert_eq!(
        inbound.termination(),
        Some(&Termination::Protocol(ProtocolError::Header)),
        "it is no refusal"
    );
    for (code, expected) in [("0", Code::Unknown), ("503x", Code::Unknown), ("14", Code::Unavailable)] {
        assert_eq!(ServiceError { code, text: "" }.status().code, expected, "{code}");
    }
}

#[test]
fn flags_that_are_not_known_are_counted_and_change_nothing() {
    let with_flag = |frame: &Frame, flag: u8| {
        let mut payload = frame.encode().to_vec();
        payload[6] |= flag;
        Bytes::from(payload)
    };
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    let first = Message {
        payload: with_flag(&unit(0, &[b"x"]), 0x80),
        ..announced(&unit(0, &[]))
    };
    inbound.handle(at(1), &first);
    assert_eq!(read_all(&mut inbound, at(1)), [&b"x"[..]]);
    assert_eq!(inbound.stats().ignored, 1);

    let mut outbound = confirmed(open(), &OutboundConfig::default(), 1000);
    let payload = with_flag(&state(after(0, &[b"first"]), 5000), 0x40);
    outbound.handle(at(1), &message(payload)).expect("readable");
    assert_eq!(outbound.stats().ignored, 1);
}

#[test]
fn a_failure_after_data_is_no_refusal() {
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    let status = Status {
        not_processed: true,
        ..Status::new(Code::Internal, "")
    };
    // Half of an item: the handler did run.
    inbound.handle(at(1), &announced(&raw_unit(0, &[9, 1, 2], Some((status.clone(), 0)))));
    assert_eq!(inbound.termination(), Some(&Termination::Failed(status)));
}

#[test]
fn the_caller_confirms_within_25_ms_of_the_lock() {
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    let first = announced(&unit(0, &[b"x"]));
    assert_eq!(inbound.handle(at(100), &first), ControlUse::Use);
    assert_eq!(
        inbound_events(&mut inbound),
        [InboundEvent::Locked, InboundEvent::Readable]
    );
    assert!(drain_inbound(&mut inbound, at(100)).is_empty());
    let log = run_inbound(&mut inbound, at(200));
    assert_eq!(times(&log, |_| true), [125]);
    assert_eq!(log[0].1, state(after(0, &[b"x"]), crate::INITIAL_WINDOW));
}

#[test]
fn an_answer_that_is_complete_at_once_is_neither_confirmed_nor_closed() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.answer_with([b"x".to_vec()]);
    assert!(pair.drive().is_ok());
    assert!(pair.logged(Side::Caller, |_| true).is_empty());
    assert_eq!(pair.logged(Side::Responder, |_| true).len(), 1);
}

#[test]
fn an_answer_that_is_complete_within_25_ms_is_closed_without_a_state() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.handler.yields = true;
    pair.answer_with([b"x".to_vec(), b"y".to_vec()]);
    assert!(pair.drive().is_ok());
    assert!(
        pair.logged(Side::Caller, |frame| matches!(frame, Frame::State { .. }))
            .is_empty()
    );
    assert_eq!(pair.closes(), [CloseCode::Done]);
}

#[test]
fn a_beat_locks_the_stream_when_the_first_unit_was_lost() {
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    assert_eq!(inbound.handle(at(500), &announced(&beat(0, 300))), ControlUse::Use);
    assert!(inbound.is_locked());
    assert_eq!(drain_inbound(&mut inbound, at(500)), [rewind(0, crate::INITIAL_WINDOW)]);
    assert!(
        run_inbound(&mut inbound, at(1000)).is_empty(),
        "one STATE serves all reasons"
    );
}

#[test]
fn only_a_unit_or_beat_with_the_header_locks() {
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    let refused = [
        plain(&unit(0, &[b"x"])),
        plain(&beat(0, 0)),
        announced(&Frame::Reset { sid: SID }),
        announced(&state(0, 1)),
        announced(&close(CloseCode::Done)),
        announced(&Frame::Unknown { sid: SID, kind: 0x33 }),
        message(Bytes::from_static(b"\xfe\x01")),
    ];
    for message in &refused {
        assert_eq!(inbound.handle(at(1), message), ControlUse::Ignore);
        assert!(!inbound.is_locked() && inbound.termination().is_none(), "{message:?}");
    }
}

#[test]
fn a_foreign_first_message_is_a_dialect_error_and_a_later_one_is_ignored() {
    let foreign = message(Bytes::from_static(b"hello"));
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    inbound.handle(at(1), &foreign);
    let expected = Termination::Protocol(ProtocolError::ForeignAnswer);
    assert_eq!(inbound.termination(), Some(&expected));

    let (mut inbound, _) = locked(InboundConfig::default(), &[]);
    inbound.handle(at(30), &foreign);
    assert_eq!(inbound.termination(), None);
}

#[test]
fn an_unreadable_header_ends_the_call_and_refuses_the_responder() {
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    let message = Message {
        header: Some("1;r=many"),
        ..announced(&unit(0, &[b"x"]))
    };
    assert_eq!(inbound.handle(at(1), &message), ControlUse::Refuse(SID));
    let expected = Termination::Protocol(ProtocolError::Header);
    assert_eq!(inbound.termination(), Some(&expected));
    assert!(drain_inbound(&mut inbound, at(1)).is_empty());

    // Another version may have another format behind the stream id.
    for (payload, outcome) in [
        (&b"\xfe\x01\x5e\xed\x00\x01"[..], ControlUse::Refuse(SID)),
        (b"\xfe\x01\x5e\xed\x00\x01\xff\xff", ControlUse::Refuse(SID)),
        (b"\xfe\x01\x5e\xed\x00", ControlUse::Ignore),
    ] {
        let mut inbound = Inbound::new(InboundConfig::default(), at(0));
        let message = Message {
            header: Some("2;r=1"),
            payload: Bytes::from_static(payload),
            ..announced(&unit(0, &[]))
        };
        assert_eq!(inbound.handle(at(1), &message), outcome);
        assert_eq!(inbound.termination(), Some(&expected));
    }
}

#[test]
fn a_second_responder_is_refused_and_does_not_mix_in() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[b"mine"]);
    let mut other = announced(&raw_unit(next, &encode_items(&[b"other"]), None));
    let mut payload = other.payload.to_vec();
    payload[2] ^= 0xff;
    let sid = SID ^ 0xff00_0000;
    other.payload = Bytes::from(payload);
    assert_eq!(inbound.handle(at(30), &other), ControlUse::Refuse(sid));
    other.has_control = false;
    assert_eq!(inbound.handle(at(30), &other), ControlUse::Ignore);
    assert_eq!(inbound.stats().foreign_responder, 2);
    assert_eq!(read_all(&mut inbound, at(30)), [&b"mine"[..]]);
}

#[test]
fn the_control_subject_with_the_highest_announcement_is_used() {
    let (mut inbound, next) = locked(InboundConfig::default(), &[]);
    let use_of = |inbound: &mut Inbound, announce| inbound.handle(at(30), &announced(&beat(announce, next)));
    assert_eq!(use_of(&mut inbound, 2), ControlUse::Use);
    assert_eq!(use_of(&mut inbound, 1), ControlUse::Ignore);
    assert_eq!(
        inbound.handle(at(30), &announced(&unit(0, &[]))),
        ControlUse::Ignore,
        "a unit counts as 0"
    );
    assert_eq!(use_of(&mut inbound, 3), ControlUse::Use);
}

#[test]
fn nobody_subscribed_ends_only_a_call_that_is_not_locked() {
    let nobody = Message {
        status: Some(503),
        has_headers: true,
        ..Message::default()
    };
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    inbound.handle(at(1), &nobody);
    assert_eq!(inbound.termination(), Some(&Termination::NoResponders));

    let (mut inbound, _) = locked(InboundConfig::default(), &[]);
    inbound.handle(at(30), &nobody);
    assert_eq!(inbound.termination(), None);
}

#[test]
fn no_message_for_5_s_is_unanswered() {
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    run_inbound(&mut inbound, at(4999));
    assert_eq!(inbound.termination(), None);
    run_inbound(&mut inbound, at(5000));
    assert_eq!(inbound.termination(), Some(&Termination::Unanswered));
}

#[test]
fn a_deadline_that_passed_before_the_answer_is_told_from_an_unanswered_call() {
    let config = InboundConfig {
        deadline: Some(Duration::from_secs(3)),
        ..InboundConfig::default()
    };
    let mut inbound = Inbound::new(config, at(0));
    // The driver comes late: both have passed.
    inbound.handle_timeout(at(6000));
    assert_eq!(inbound.termination(), Some(&Termination::TimedOut(Clock::Deadline)));
}

#[test]
fn a_bare_empty_message_is_a_verdict_only_across_accounts_and_when_the_stream_is_silent_afterwards() {
    for is_mapped in [true, false] {
        let mut inbound = Inbound::new(InboundConfig::default(), at(0));
        let first = unit(0, &[b"x"]);
        let next = after(0, &[b"x"]);
        inbound.handle(
            at(0),
            &Message {
                is_mapped,
                ..announced(&first)
            },
        );
        run_inbound(&mut inbound, at(30));
        // It names no stream: it may be the end of another one, of an Open that arrived twice.
        inbound.handle(at(30), &Message::default());
        assert!(matches!(
            inbound
                .poll_transmit(at(30))
                .map(|transmit| Frame::decode(&transmit.payload)),
            Some(Ok(Frame::State { rewind: true, .. }))
        ));
        inbound.handle(at(1000), &plain(&beat(0, next)));
        run_inbound(&mut inbound, at(10_000));
        assert_eq!(inbound.termination(), None, "the stream goes on");
        inbound.handle(at(10_000), &Message::default());
        run_inbound(&mut inbound, at(14_999));
        assert_eq!(inbound.termination(), None);
        run_inbound(&mut inbound, at(15_000));
        let expected = Termination::Lost {
            items: 1,
            cause: LostCause::MappingEnded,
        };
        assert_eq!(inbound.termination(), is_mapped.then_some(&expected));
    }
}

#[test]
fn a_bare_empty_message_before_the_first_is_ignored() {
    let mut inbound = Inbound::new(InboundConfig::default(), at(0));
    inbound.handle(at(1), &Message::default());
    assert_eq!(inbound.termination(), None);
}

#[test]
fn a_call_queued_for_admission_is_confirmed_and_then_answered() {
    let mut pair = Pair::new(InboundConfig::default(), &OutboundConfig::default());
    pair.drive_for(Duration::from_secs(30));
    assert!(pair.inbound.is_locked() && pair.inbound.termination().is_none());
    pair.answer_with(vec![b"late".to_vec()]);
    assert!(pair.drive().is_ok());
    assert_eq!(pair.reader.items, [&b"late"[..]]);
}

#[test]
fn a_push_of_a_stream_that_the_caller_closed_says_so() {
    let mut outbound = outbound(open(), &OutboundConfig::default());
    give(&mut outbound, at(0), close(CloseCode::Unwanted));
    assert_eq!(outbound.push(b"x"), Err(PushError::Ended));
    assert!(outbound.is_forgotten());
}

#[test]
fn a_mapped_stream_ends_its_mapping_with_one_bare_empty_message() {
    for (code, farewells) in [
        (CloseCode::Done, 1),
        (CloseCode::Cancelled, 1),
        (CloseCode::Unwanted, 0),
    ] {
        let mut outbound = outbound(open(), &mapped());
        outbound.push(b"x").expect("room");
        outbound.flush();
        drain(&mut outbound, at(0));
        outbound.handle(at(1), &plain(&close(code))).expect("well formed");
        let mut sent = 0;
        while let Some(transmit) = outbound.poll_transmit(at(1)) {
            assert!(transmit.payload.is_empty() && !transmit.header && !transmit.control);
            sent += 1;
        }
        assert_eq!(sent, farewells, "{code:?}");
    }
}

#[test]
fn a_state_that_overtakes_the_announcement_after_a_reconnect_leaves_nothing_stuck() {
    let mut outbound = outbound(open(), &mapped());
    outbound.push(b"one").expect("room");
    outbound.flush();
    drain(&mut outbound, at(0));
    outbound.handle_disconnected(at(1));
    outbound.handle_reconnected(at(2));
    let next = UNIT_COST + 4;
    let state = Frame::State {
        sid: SID,
        rewind: false,
        next,
        limit: next + crate::INITIAL_WINDOW,
    };
    outbound.handle(at(3), &plain(&state)).expect("well formed");
    outbound.push(b"two").expect("room");
    outbound.flush();
    assert!(outbound.wants_transmit());
    assert!(outbound.poll_transmit(at(3)).is_some(), "wanted, and nothing comes");
}
