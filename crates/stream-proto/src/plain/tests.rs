use core::time::Duration;
use std::string::String;
use std::vec::Vec;

use bytes::Bytes;
use proptest::prelude::*;

use super::{PlainDialect, PlainInbound, PlainOutbound};
use crate::inbound::InboundConfig;
use crate::message::{Message, ServiceError};
use crate::outbound::{CloseReason, OutboundConfig, OutboundEvent, PushError};
use crate::status::{Code, Status};
use crate::termination::{Clock, Denied, LostCause, Termination};
use crate::time::Instant;

const BOTH: [PlainDialect; 2] = [PlainDialect::Text, PlainDialect::Sentinel];

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn caller(dialect: PlainDialect) -> PlainInbound {
    PlainInbound::new(dialect, &InboundConfig::default(), at(0))
}

fn responder(dialect: PlainDialect, mapped: bool) -> PlainOutbound {
    let config = OutboundConfig {
        mapped,
        ..OutboundConfig::default()
    };
    PlainOutbound::new(dialect, &config, 1 << 20)
}

fn message(payload: &'static [u8]) -> Message<'static> {
    Message {
        payload: Bytes::from_static(payload),
        ..Message::default()
    }
}

fn no_responders() -> Message<'static> {
    Message {
        status: Some(503),
        has_headers: true,
        ..Message::default()
    }
}

/// What the responder hands out now: payload, whether it carries a probe, and the failure in its headers.
fn sent(responder: &mut PlainOutbound, now: u64) -> Vec<(Bytes, bool, Option<Status>)> {
    core::iter::from_fn(|| responder.poll_transmit(at(now)))
        .map(|transmit| (transmit.payload, transmit.control, transmit.failure))
        .collect()
}

fn payloads(responder: &mut PlainOutbound) -> Vec<Bytes> {
    sent(responder, 0).into_iter().map(|(payload, ..)| payload).collect()
}

fn items(caller: &mut PlainInbound) -> Vec<Bytes> {
    core::iter::from_fn(|| caller.poll_items(at(0))).flatten().collect()
}

/// Gives the caller everything that the responder sends.
fn deliver(responder: &mut PlainOutbound, caller: &mut PlainInbound) {
    for (payload, _, failure) in sent(responder, 0) {
        let code = failure.as_ref().map(|status| std::format!("{}", status.code.as_u8()));
        let text = failure
            .as_ref()
            .map(|status| status.message.clone())
            .unwrap_or_default();
        caller.handle(
            at(0),
            &Message {
                has_headers: failure.is_some(),
                service_error: code.as_deref().map(|code| ServiceError { code, text: &text }),
                payload,
                ..Message::default()
            },
        );
    }
}

#[test]
fn the_messages_are_those_of_the_dialects() {
    let finished = |dialect, mapped, status: Status| {
        let mut responder = responder(dialect, mapped);
        responder.push(b"item").expect("taken");
        responder.finish(status);
        let payloads = payloads(&mut responder);
        assert!(responder.is_forgotten());
        payloads
    };
    let failed = || Status::new(Code::NotFound, "找不到");
    let error = "__STREAM_ERROR__:找不到";
    use PlainDialect::{Sentinel, Text};
    assert_eq!(finished(Text, false, Status::ok()), ["item", "__STREAM_END__"]);
    assert_eq!(finished(Text, true, Status::ok()), ["item", "__STREAM_END__", ""]);
    assert_eq!(finished(Text, false, failed()), ["item", error]);
    assert_eq!(finished(Text, true, failed()), ["item", error, ""]);
    for mapped in [false, true] {
        assert_eq!(finished(Sentinel, mapped, Status::ok()), ["item", ""]);
        assert_eq!(finished(Sentinel, mapped, failed()), ["item", "", ""]);
    }
}

#[test]
fn a_sentinel_failure_stands_in_the_headers_and_the_bare_message_follows() {
    let mut responder = responder(PlainDialect::Sentinel, false);
    let status = Status::new(Code::Unavailable, "later");
    responder.finish(status.clone());
    let failures: Vec<_> = sent(&mut responder, 0)
        .into_iter()
        .map(|(_, _, failure)| failure)
        .collect();
    assert_eq!(failures, [Some(status), None]);
}

#[test]
fn both_forms_of_an_error_are_read_and_a_beginning_is_no_end() {
    for (payload, text) in [
        (&b"__STREAM_ERROR__:no"[..], "no"),
        (b"__STREAM_ERROR__no", "no"),
        (b"__STREAM_ERROR__", ""),
        (b"__STREAM_ERROR__::x", ":x"),
    ] {
        let mut caller = caller(PlainDialect::Text);
        caller.handle(at(0), &message(payload));
        let expected = Termination::Failed(Status::new(Code::Unknown, text));
        assert_eq!(caller.termination(), Some(&expected));
    }
    let mut caller = caller(PlainDialect::Text);
    caller.handle(at(0), &message(b"__STREAM_END__ of line"));
    caller.handle(at(0), &message(b"__STREAM_EN"));
    assert_eq!(items(&mut caller), ["__STREAM_END__ of line", "__STREAM_EN"]);
    assert_eq!(caller.termination(), None);
}

#[test]
fn an_empty_text_message_is_an_item_once_something_follows() {
    let mut caller = caller(PlainDialect::Text);
    caller.handle(at(0), &message(b""));
    caller.handle(at(0), &message(b""));
    assert_eq!(items(&mut caller), [""; 0]);
    caller.handle(at(0), &message(b"x"));
    caller.handle(at(0), &message(b""));
    caller.handle(at(0), &message(b"__STREAM_END__"));
    assert_eq!(items(&mut caller), ["", "", "x", ""]);
    assert!(caller.termination().is_some_and(Termination::is_ok));
}

#[test]
fn what_cannot_be_represented_fails_the_stream_after_what_was_sent() {
    for (dialect, bad) in [
        (PlainDialect::Text, &b""[..]),
        (PlainDialect::Text, b"__STREAM_END__x"),
        (PlainDialect::Text, b"__STREAM_ERROR__"),
        (PlainDialect::Sentinel, b""),
    ] {
        let mut responder = responder(dialect, false);
        let mut caller = caller(dialect);
        responder.push(b"good").expect("taken");
        assert_eq!(responder.push(bad), Err(PushError::NotRepresentable));
        assert_eq!(responder.push(b"later"), Err(PushError::Ended));
        deliver(&mut responder, &mut caller);
        assert_eq!(items(&mut caller), ["good"]);
        assert!(
            matches!(caller.termination(), Some(Termination::Failed(_))),
            "{dialect:?}"
        );
    }
}

#[test]
fn an_item_must_fit_into_a_message() {
    let mut responder = PlainOutbound::new(PlainDialect::Text, &OutboundConfig::default(), 10);
    assert_eq!(
        responder.push(&[b'x'; 11]),
        Err(PushError::TooLarge { size: 11, max: 10 })
    );
    responder.push(&[b'x'; 10]).expect("taken: the stream goes on");
}

#[test]
fn nobody_and_a_stranger_status_are_no_items() {
    let mut caller = caller(PlainDialect::Sentinel);
    caller.handle(at(0), &no_responders());
    assert_eq!(caller.termination(), Some(&Termination::NoResponders));

    let mut caller = self::caller(PlainDialect::Text);
    caller.handle(at(0), &message(b"x"));
    caller.handle(at(0), &no_responders());
    assert_eq!(caller.termination(), None);
    caller.handle(
        at(0),
        &Message {
            status: Some(408),
            has_headers: true,
            ..Message::default()
        },
    );
    assert!(matches!(caller.termination(), Some(Termination::Failed(_))));
}

#[test]
fn silence_is_a_timeout_and_never_an_end() {
    for dialect in BOTH {
        let mut caller = caller(dialect);
        assert_eq!(caller.poll_timeout(), Some(at(30_000)), "also when nobody waits");
        caller.handle_timeout(at(30_000));
        assert_eq!(caller.termination(), Some(&Termination::TimedOut(Clock::FirstItem)));

        let mut caller = self::caller(dialect);
        caller.handle(at(0), &message(b"x"));
        assert_eq!(items(&mut caller), ["x"]);
        assert!(caller.poll_items(at(1000)).is_none());
        caller.handle_timeout(at(30_000));
        assert_eq!(caller.termination(), Some(&Termination::TimedOut(Clock::Idle)));
    }
    let config = InboundConfig {
        idle_timeout: Some(Duration::from_secs(2)),
        ..InboundConfig::default()
    };
    let mut caller = PlainInbound::new(PlainDialect::Text, &config, at(0));
    caller.handle_timeout(at(2000));
    assert_eq!(caller.termination(), Some(&Termination::TimedOut(Clock::FirstItem)));
}

#[test]
fn a_broken_connection_of_the_caller_loses_the_call() {
    let mut caller = caller(PlainDialect::Text);
    caller.handle(at(0), &message(b"x"));
    caller.handle_disconnected(at(1));
    let (items, cause) = (1, LostCause::Disconnected);
    assert_eq!(caller.termination(), Some(&Termination::Lost { items, cause }));
}

#[test]
fn a_broken_connection_of_the_responder_fails_the_stream_once_something_was_sent() {
    let mut responder = responder(PlainDialect::Text, false);
    responder.handle_disconnected(at(0));
    responder.handle_reconnected();
    responder.push(b"x").expect("nothing was lost");
    assert_eq!(payloads(&mut responder), ["x"]);
    responder.push(b"y").expect("taken");
    // Also when the handler has said that all is well, and the end has not left.
    responder.finish(Status::ok());
    responder.handle_disconnected(at(1));
    responder.handle_reconnected();
    assert_eq!(responder.closed(), Some(CloseReason::Disconnected));
    let sent = payloads(&mut responder);
    assert!(sent.len() == 1 && sent[0].starts_with(b"__STREAM_ERROR__:"), "{sent:?}");
}

#[test]
fn an_error_whose_last_message_is_lost_with_the_connection_is_said_again() {
    let mut responder = responder(PlainDialect::Sentinel, false);
    responder.push(b"x").expect("taken");
    responder.finish(Status::new(Code::NotFound, "no"));
    for _ in 0..2 {
        responder.poll_transmit(at(0)).expect("the item, and the error");
    }
    responder.handle_disconnected(at(1));
    responder.handle_reconnected();
    let failures: Vec<_> = sent(&mut responder, 2)
        .into_iter()
        .map(|(_, _, failure)| failure.is_some())
        .collect();
    assert_eq!(
        failures,
        [true, false],
        "a bare empty message alone would read as success"
    );
}

#[test]
fn a_stream_whose_last_item_cannot_be_sent_fails() {
    for dialect in BOTH {
        let mut responder = responder(dialect, true);
        let mut caller = caller(dialect);
        responder.push(b"too large by now").expect("taken");
        responder.finish(Status::ok());
        responder.poll_transmit(at(0)).expect("what the connection refuses");
        assert!(responder.fail_unsent(Status::new(Code::Internal, "too large")));
        deliver(&mut responder, &mut caller);
        assert!(
            matches!(caller.termination(), Some(Termination::Failed(_))),
            "{dialect:?}"
        );
        assert!(responder.is_forgotten());
        assert!(!responder.fail_unsent(Status::ok()), "once");
    }
}

#[test]
fn one_item_a_second_asks_whether_anybody_is_there() {
    let mut responder = responder(PlainDialect::Text, false);
    let mut probes = Vec::new();
    for now in (0..3000).step_by(100) {
        responder.push(b"x").expect("taken");
        probes.extend(
            sent(&mut responder, now)
                .into_iter()
                .filter(|(_, probe, _)| *probe)
                .map(|_| now),
        );
    }
    assert_eq!(probes, [0, 1000, 2000]);

    let mut mapped = self::responder(PlainDialect::Text, true);
    mapped.push(b"x").expect("taken");
    assert!(!sent(&mut mapped, 0)[0].1, "each would cost nats-server a mapping");
}

/// Sends an item each `interval`, refused or not as `refused` says; returns when the stream was given up.
fn given_up(interval: u64, refused: impl Fn(u64) -> bool) -> Option<u64> {
    let mut responder = responder(PlainDialect::Sentinel, false);
    for now in (0..60_000).step_by(interval as usize) {
        responder.handle_timeout(at(now));
        if responder.push(b"x").is_err() {
            assert_eq!(responder.closed(), Some(CloseReason::Gone));
            return Some(now);
        }
        let probed = sent(&mut responder, now).iter().any(|(_, probe, _)| *probe);
        if probed && refused(now) {
            responder.handle(at(now), &no_responders());
        }
    }
    None
}

#[test]
fn five_seconds_of_503_stop_the_stream_and_one_does_not() {
    assert_eq!(given_up(50, |_| true), Some(5050));
    assert_eq!(given_up(10_000, |_| true), Some(20_000), "however seldom it sends");
    assert_eq!(given_up(50, |now| now % 4000 < 2000), None);
    assert_eq!(given_up(50, |_| false), None);
}

#[test]
fn a_caller_that_has_left_ends_the_stream_and_its_mapping() {
    for (mapped, last) in [(false, &[][..]), (true, &[""][..])] {
        let mut responder = responder(PlainDialect::Text, mapped);
        responder.push(b"x").expect("taken");
        responder.handle_left();
        assert_eq!(payloads(&mut responder), last);
        assert_eq!(responder.closed(), Some(CloseReason::Cancelled));
        assert!(responder.is_forgotten());
    }
}

#[test]
fn an_end_after_many_messages_waits_for_the_word_that_some_were_dropped() {
    let crowded = |payload| Message {
        may_follow_loss: true,
        ..message(payload)
    };
    let ended = || {
        let mut caller = caller(PlainDialect::Text);
        caller.handle(at(0), &crowded(b"x"));
        caller.handle(at(5), &crowded(b"__STREAM_END__"));
        assert_eq!(caller.termination(), None);
        assert_eq!(caller.poll_timeout(), Some(at(105)));
        caller
    };
    let mut fine = ended();
    fine.handle_disconnected(at(50));
    fine.handle_timeout(at(105));
    assert!(fine.termination().is_some_and(Termination::is_ok));
    let mut dropped = ended();
    dropped.handle_overflow();
    let (items, cause) = (1, LostCause::Overflow);
    assert_eq!(dropped.termination(), Some(&Termination::Lost { items, cause }));
}

#[test]
fn a_slow_reader_loses_the_call_and_what_it_has_stays() {
    let config = InboundConfig {
        max_buffered: 1000,
        ..InboundConfig::default()
    };
    let mut caller = PlainInbound::new(PlainDialect::Text, &config, at(0));
    for _ in 0..5 {
        caller.handle(at(0), &message(b"0123456789"));
    }
    let (items, cause) = (3, LostCause::Overflow);
    assert_eq!(caller.termination(), Some(&Termination::Lost { items, cause }));
    assert_eq!(self::items(&mut caller).len(), 3);

    let mut caller = PlainInbound::new(PlainDialect::Text, &config, at(0));
    for _ in 0..5 {
        caller.handle(at(0), &message(b""));
    }
    assert!(caller.termination().is_some(), "empty ones cost memory too");
}

#[test]
fn the_budget_gets_everything_back() {
    let budget = crate::Budget::new(10_000);
    let config = InboundConfig {
        buffer_budget: Some(budget.clone()),
        ..InboundConfig::default()
    };
    for end in 0..3 {
        let mut caller = PlainInbound::new(PlainDialect::Sentinel, &config, at(0));
        caller.handle(at(0), &message(b"one"));
        caller.handle(at(0), &message(b"two"));
        assert_eq!(budget.used(), 2 * (3 + 256));
        match end {
            0 => caller.cancel(),
            1 => assert_eq!(items(&mut caller).len(), 2),
            _ => {}
        }
        drop(caller);
        assert_eq!(budget.used(), 0);
    }
}

#[test]
fn a_denied_request_is_a_verdict_until_something_has_come() {
    let mut caller = caller(PlainDialect::Text);
    caller.handle_denied(Denied::Request);
    assert_eq!(caller.termination(), Some(&Termination::NotPermitted(Denied::Request)));
    let mut caller = self::caller(PlainDialect::Text);
    caller.handle(at(0), &message(b"x"));
    caller.handle_denied(Denied::Request);
    assert_eq!(caller.termination(), None);
}

#[test]
fn a_sender_that_the_connection_holds_up_goes_on_when_there_is_room() {
    let mut responder = responder(PlainDialect::Text, false);
    let item = [b'x'; 1 << 16];
    let mut taken = 0;
    while responder.push(&item).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 4);
    responder.wait_for_room();
    assert_eq!(responder.poll_event(), None);
    assert!(responder.poll_transmit(at(0)).is_some());
    assert_eq!(responder.poll_event(), Some(OutboundEvent::Ready));
}

proptest! {
    /// What is representable arrives as it was sent, with the verdict that was meant.
    #[test]
    fn answers_round_trip(
        dialect in prop::sample::select(&BOTH[..]),
        sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
        failure in prop::option::of("[^\u{0}]{1,40}"),
        mapped: bool,
    ) {
        let mut responder = responder(dialect, mapped);
        let mut caller = caller(dialect);
        let sent: Vec<_> = sent.into_iter().filter(|item| dialect.can_represent(item)).collect();
        for item in &sent {
            responder.push(item).expect("taken");
        }
        let status = failure.as_ref().map_or_else(Status::ok, |text| Status::new(Code::Unknown, text.as_str()));
        responder.finish(status);
        deliver(&mut responder, &mut caller);
        prop_assert_eq!(items(&mut caller), sent);
        match (failure, caller.termination()) {
            (None, Some(termination)) => prop_assert!(termination.is_ok()),
            (Some(text), Some(Termination::Failed(status))) => prop_assert_eq!(&status.message, &text),
            (_, other) => prop_assert!(false, "{:?}", other),
        }
    }

    /// No message makes a caller panic, or report more than it handed out.
    #[test]
    fn strangers_do_no_harm(
        dialect in prop::sample::select(&BOTH[..]),
        messages in prop::collection::vec((any::<Option<u16>>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..30)), 0..30),
    ) {
        let mut caller = caller(dialect);
        for (status, has_headers, payload) in messages {
            let status = status.filter(|status| status % 7 == 0);
            caller.handle(at(0), &Message { status, has_headers, payload: payload.into(), ..Message::default() });
        }
        let handed_out = items(&mut caller).len() as u64;
        if let Some(Termination::Ended { items, .. } | Termination::Lost { items, .. }) = caller.termination() {
            prop_assert_eq!(*items, handed_out);
        }
    }
}

#[test]
fn a_failure_without_a_text_has_its_code() {
    let mut responder = responder(PlainDialect::Text, false);
    responder.finish(Status::new(Code::Internal, String::new()));
    assert_eq!(payloads(&mut responder), ["__STREAM_ERROR__:INTERNAL"]);
}
