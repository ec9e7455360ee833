//! Calls without control (rule 66): loss is seen, and not mended.

use super::*;
use crate::{Denied, LostCause, ProtocolError, PushError, Termination};

const ANSWER: &str = "1;h=5000;c=0";

fn caller() -> Inbound {
    let config = InboundConfig {
        control: false,
        deadline: Some(Duration::from_secs(60)),
        ..InboundConfig::default()
    };
    Inbound::new(config, Instant::ORIGIN)
}

fn responder(mapped: bool, retention: u64) -> Outbound {
    let config = OutboundConfig {
        mapped,
        retention,
        ..OutboundConfig::default()
    };
    outbound(caller().open(), &config)
}

fn with_answer(payload: Bytes) -> Message<'static> {
    Message {
        header: Some(ANSWER),
        has_headers: true,
        ..message(payload)
    }
}

/// Gives the caller a unit at `position`.
fn unit_at(inbound: &mut Inbound, position: u64, items: &[&[u8]]) -> u64 {
    inbound.handle(at(0), &with_answer(unit(position, items).encode()));
    after(position, items)
}

fn lost(inbound: &Inbound) -> Option<(u64, LostCause)> {
    match inbound.termination() {
        Some(Termination::Lost { items, cause }) => Some((*items, *cause)),
        _ => None,
    }
}

#[test]
fn the_open_says_so_and_the_answer_too() {
    assert!(caller().open().encode().ends_with(";d=60000;c=0"));
    assert_eq!(responder(false, KIB).answer().encode(), ANSWER);
}

#[test]
fn a_whole_answer_arrives_without_a_word_from_the_caller() {
    for mapped in [false, true] {
        let (mut outbound, mut inbound) = (responder(mapped, KIB * KIB), caller());
        for number in 0..1000u32 {
            outbound.push(&number.to_be_bytes()).expect("room");
        }
        outbound.finish(Status::ok());
        while let Some(transmit) = outbound.poll_transmit(at(0)) {
            if transmit.payload.is_empty() {
                assert!(mapped, "the mapping ends with the stream");
                continue;
            }
            assert!(transmit.header && !transmit.control);
            inbound.handle(at(0), &with_answer(transmit.payload));
            assert!(!inbound.wants_transmit());
        }
        assert!(outbound.is_forgotten() && outbound.is_end_sent() && !outbound.awaits_close());
        assert_eq!(read_all(&mut inbound, at(0)).len(), 1000);
        assert!(inbound.termination().is_some_and(Termination::is_ok));
        assert!(!inbound.wants_transmit());
    }
}

#[test]
fn nothing_is_kept_and_only_the_own_connection_holds_a_sender_up() {
    let mut outbound = responder(false, 20 * KIB);
    let item = [7; 5000];
    let mut taken = 0;
    while outbound.push(&item) == Ok(()) {
        taken += 1;
    }
    assert_eq!(taken, 4);
    assert_eq!(outbound.push(&item), Err(PushError::Blocked));
    outbound.wait_for_credit(at(0));
    assert_eq!(drain_events(&mut outbound), []);
    assert_eq!(drain(&mut outbound, at(0)).len(), 4);
    assert_eq!(outbound.kept(), 0);
    assert_eq!(drain_events(&mut outbound), [OutboundEvent::Ready]);
    // An item that is longer than all that may wait goes on by itself.
    outbound.push(&[1; 100_000]).expect("room");
    outbound.finish(Status::ok());
    let sent = drain(&mut outbound, at(0));
    assert!(sent.last().is_some_and(Sent::is_fin));
}

#[test]
fn the_responder_sends_no_signs_of_life() {
    let mut outbound = responder(false, KIB);
    outbound.push(b"x").expect("room");
    outbound.flush();
    drain(&mut outbound, at(0));
    outbound.handle_disconnected(at(1000));
    outbound.handle_reconnected(at(2000));
    assert_eq!(run(&mut outbound, at(59_999)).len(), 0);
    let end = run(&mut outbound, at(60_000));
    assert!(end.len() == 1 && end[0].1.is_fin(), "the deadline ends it: {end:?}");
    assert!(outbound.is_forgotten());
}

#[test]
fn a_gap_loses_the_stream_at_once_and_a_repetition_does_not() {
    let mut inbound = caller();
    let next = unit_at(&mut inbound, 0, &[b"a"]);
    unit_at(&mut inbound, 0, &[b"a"]);
    assert_eq!(inbound.termination(), None);
    unit_at(&mut inbound, next + 300, &[b"c"]);
    assert_eq!(lost(&inbound), Some((1, LostCause::Gap)));
    assert_eq!(read_all(&mut inbound, at(0)), ["a"]);

    let mut inbound = caller();
    unit_at(&mut inbound, 300, &[b"b"]);
    assert_eq!(lost(&inbound), Some((0, LostCause::Gap)), "the first one too");
}

#[test]
fn a_connection_that_breaks_loses_the_stream() {
    let mut inbound = caller();
    unit_at(&mut inbound, 0, &[b"a"]);
    inbound.handle_disconnected(at(1));
    assert_eq!(lost(&inbound), Some((1, LostCause::Disconnected)));
}

#[test]
fn a_reader_that_is_too_slow_loses_the_stream() {
    let config = InboundConfig {
        control: false,
        max_buffered: 1000,
        ..InboundConfig::default()
    };
    let mut inbound = Inbound::new(config, Instant::ORIGIN);
    let mut position = 0;
    while inbound.termination().is_none() {
        position = unit_at(&mut inbound, position, &[b"x"]);
    }
    assert_eq!(lost(&inbound), Some((4, LostCause::Overflow)));
    assert_eq!(read_all(&mut inbound, at(0)).len(), 4);
}

#[test]
fn silence_ends_only_with_the_deadline() {
    let mut inbound = caller();
    unit_at(&mut inbound, 0, &[b"a"]);
    assert_eq!(inbound.poll_timeout(), Some(at(60_000)));
    let mut unanswered = caller();
    unanswered.handle_timeout(at(5000));
    assert_eq!(unanswered.termination(), Some(&Termination::Unanswered));
}

#[test]
fn both_must_mean_the_same() {
    let mut inbound = caller();
    inbound.handle(at(0), &announced(&unit(0, &[b"a"])));
    let expected = Termination::Protocol(ProtocolError::Header);
    assert_eq!(inbound.termination(), Some(&expected));
    let mut inbound = Inbound::new(InboundConfig::default(), Instant::ORIGIN);
    inbound.handle(at(0), &with_answer(unit(0, &[b"a"]).encode()));
    assert_eq!(inbound.termination(), Some(&expected));
}

#[test]
fn what_the_server_denies_is_a_verdict() {
    let mut inbound = caller();
    inbound.handle_denied(Denied::Request);
    assert_eq!(inbound.termination(), Some(&Termination::NotPermitted(Denied::Request)));

    let (mut inbound, _) = locked(InboundConfig::default(), &[b"a"]);
    inbound.handle_denied(Denied::Request);
    assert_eq!(
        inbound.termination(),
        None,
        "it is another call's: this one was answered"
    );
    inbound.handle_denied(Denied::Control);
    assert_eq!(inbound.termination(), Some(&Termination::NotPermitted(Denied::Control)));
}
