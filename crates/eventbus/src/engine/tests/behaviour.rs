//! Single behaviours, one test each.

use super::*;
use crate::reply::{Refusal, Stored};

fn engine(change: impl FnOnce(&mut EngineConfig)) -> Engine<u64> {
    let mut config = config();
    change(&mut config);
    Engine::new(config, 0)
}

fn accept(engine: &mut Engine<u64>, subject: &'static str, count: u64) {
    for _ in 0..count {
        let number = engine.next_number();
        engine.accept(0, Event::new(subject, number.to_string()), Some(number));
    }
}

/// Sends what is ready: its numbers and tokens.
fn send(engine: &mut Engine<u64>, now: u64, epoch: u64) -> Vec<(u64, Token)> {
    let mut sent = Vec::new();
    while let Some(next) = engine.poll_transmit(now, epoch) {
        let number = std::str::from_utf8(next.payload).expect("digits").parse();
        sent.push((number.expect("digits"), next.token));
    }
    sent
}

fn numbers(sent: &[(u64, Token)]) -> Vec<u64> {
    sent.iter().map(|(number, _)| *number).collect()
}

const STORED: Stored<'static> = Stored {
    stream: std::borrow::Cow::Borrowed("S"),
    sequence: 1,
    is_duplicate: false,
    domain: None,
};

fn busy() -> Refusal {
    Refusal {
        code: 429,
        err_code: 10167,
        description: "too many requests".to_owned(),
    }
}

fn failure(engine: &mut Engine<u64>) -> PublishError {
    engine.poll_settled().expect("settled").outcome.expect_err("failed")
}

#[test]
fn a_window_is_bounded_in_count_and_bytes() {
    let mut engine = engine(|config| {
        config.window = 3;
        config.window_bytes = 10;
    });
    assert!(engine.has_room(1000), "one event alone may be larger");
    accept(&mut engine, "a", 2);
    assert!(engine.has_room(6), "two of 2 bytes are there");
    assert!(!engine.has_room(7));
    accept(&mut engine, "a", 1);
    assert!(!engine.has_room(0));
    let sent = send(&mut engine, 0, 1);
    engine.handle_stored(sent[1].1, STORED);
    assert!(engine.has_room(6));
}

#[test]
fn what_was_under_way_is_sent_again_in_order_after_a_reconnect() {
    let mut engine = engine(|_| {});
    accept(&mut engine, "a", 5);
    let sent = send(&mut engine, 0, 1);
    engine.handle_stored(sent[2].1, STORED);
    engine.handle_disconnect(1);
    accept(&mut engine, "a", 1);
    assert_eq!(numbers(&send(&mut engine, 0, 2)), [0, 1, 3, 4, 5]);
    assert_eq!(engine.counts().retried, 4);
}

#[test]
fn what_was_sent_on_the_new_connection_is_not_sent_again() {
    let mut engine = engine(|_| {});
    accept(&mut engine, "a", 1);
    send(&mut engine, 0, 1);
    accept(&mut engine, "a", 1);
    send(&mut engine, 0, 2);
    engine.handle_disconnect(1);
    assert_eq!(numbers(&send(&mut engine, 0, 2)), [0]);
}

#[test]
fn without_an_id_a_cut_leaves_the_outcome_unknown() {
    let mut engine = engine(|config| config.dedup = Dedup::Off);
    accept(&mut engine, "a", 1);
    engine.accept(0, Event::new("a", "1").message_id("mine"), Some(1));
    send(&mut engine, 0, 1);
    engine.handle_disconnect(1);
    let error = failure(&mut engine);
    assert_eq!(error.kind(), PublishErrorKind::Unknown);
    assert!(error.may_be_stored());
    assert_eq!(
        numbers(&send(&mut engine, 0, 2)),
        [1],
        "one with an id of its own can be sent again"
    );
}

#[test]
fn without_an_id_refusals_are_tried_again_and_timeouts_are_not() {
    let mut engine = engine(|config| config.dedup = Dedup::Off);
    accept(&mut engine, "a", 1);
    let sent = send(&mut engine, 0, 1);
    engine.handle_refusal(0, sent[0].1, busy());
    engine.handle_timeout(SECOND);
    assert_eq!(send(&mut engine, SECOND, 1).len(), 1);
    engine.handle_timeout(29 * SECOND);
    assert!(send(&mut engine, 29 * SECOND, 1).is_empty());
    engine.handle_timeout(31 * SECOND);
    assert_eq!(failure(&mut engine).kind(), PublishErrorKind::Unknown);
}

#[test]
fn an_answer_that_does_not_come_is_asked_for_again() {
    let mut engine = engine(|_| {});
    accept(&mut engine, "a", 1);
    let first = send(&mut engine, 0, 1)[0].1;
    engine.handle_timeout(4 * SECOND);
    assert!(send(&mut engine, 4 * SECOND, 1).is_empty());
    engine.handle_timeout(5 * SECOND + wheel::TICK);
    assert_eq!(send(&mut engine, 6 * SECOND, 1).len(), 1);
    // The first answer was only late.
    engine.handle_stored(first, STORED);
    assert_eq!(engine.counts().acked, 1);
}

#[test]
fn pauses_grow_and_stay_between_a_half_and_the_whole() {
    let mut engine = engine(|_| {});
    for (refusals, whole) in [
        (0, 50),
        (1, 100),
        (3, 400),
        (6, 2000),
        (63, 2000),
        (64, 2000),
        (5000, 2000),
    ] {
        for _ in 0..100 {
            let pause = engine.pause(refusals);
            assert!(
                (whole * MILLI / 2..=whole * MILLI).contains(&pause),
                "{refusals}: {pause}"
            );
        }
    }
}

#[test]
fn a_refusal_for_good_fails_at_once_and_says_why() {
    for (err_code, description, kind) in [
        (10077, "maximum bytes exceeded", PublishErrorKind::StreamFull),
        (
            10054,
            "message size exceeds maximum allowed",
            PublishErrorKind::TooLarge,
        ),
        (10071, "wrong last sequence: 5", PublishErrorKind::WrongLast),
        (10060, "expected stream does not match", PublishErrorKind::Rejected),
    ] {
        let mut engine = engine(|_| {});
        accept(&mut engine, "a", 1);
        let token = send(&mut engine, 0, 1)[0].1;
        let refusal = Refusal {
            code: 400,
            err_code,
            description: description.to_owned(),
        };
        engine.handle_refusal(0, token, refusal);
        let error = failure(&mut engine);
        assert_eq!(error.kind(), kind);
        assert_eq!(error.refusal().map(|refusal| refusal.err_code), Some(err_code));
        assert!(!error.may_be_stored());
    }
}

#[test]
fn nobody_listening_until_the_deadline_is_no_responders() {
    let mut engine = engine(|config| config.deadline = SECOND);
    accept(&mut engine, "a", 1);
    let mut now = 0;
    let mut attempts = 0;
    let error = loop {
        for (_, token) in send(&mut engine, now, 1) {
            attempts += 1;
            engine.handle_refusal(now, token, Refusal::no_responders());
        }
        if let Some(settled) = engine.poll_settled() {
            break settled.outcome.expect_err("failed");
        }
        now = engine.poll_timeout().expect("something is due");
        engine.handle_timeout(now);
    };
    assert_eq!(error.kind(), PublishErrorKind::NoResponders);
    assert_eq!(error.attempts(), attempts);
    assert!((SECOND..SECOND + 2 * wheel::TICK).contains(&now), "{now}");
    assert!(attempts > 3);
}

#[test]
fn answers_to_former_events_of_a_slot_do_not_count() {
    let mut engine = engine(|config| config.window = 1);
    accept(&mut engine, "a", 1);
    let first = send(&mut engine, 0, 1)[0].1;
    engine.handle_stored(first, STORED);
    accept(&mut engine, "a", 1);
    engine.handle_stored(first, STORED);
    let second = send(&mut engine, 0, 1)[0].1;
    engine.handle_stored(first, STORED);
    engine.handle_refusal(0, first, busy());
    assert_eq!(engine.counts().pending, 1);
    assert_eq!(first.slot(), second.slot());
    engine.handle_stored(second, STORED);
    assert_eq!(engine.counts().acked, 2);
}

#[test]
fn an_old_refusal_does_not_send_a_second_copy() {
    let mut engine = engine(|_| {});
    accept(&mut engine, "a", 1);
    let first = send(&mut engine, 0, 1)[0].1;
    engine.handle_disconnect(1);
    assert_eq!(send(&mut engine, 0, 2).len(), 1);
    engine.handle_refusal(0, first, busy());
    engine.handle_timeout(SECOND);
    assert!(send(&mut engine, SECOND, 2).is_empty());
}

#[test]
fn strict_order_sends_one_event_of_a_subject_at_a_time() {
    let mut engine = engine(|config| config.ordering = Ordering::Strict);
    accept(&mut engine, "a", 2);
    accept(&mut engine, "b", 2);
    let sent = send(&mut engine, 0, 1);
    assert_eq!(numbers(&sent), [0, 2]);
    engine.handle_refusal(0, sent[0].1, busy());
    assert!(send(&mut engine, 0, 1).is_empty());
    engine.handle_stored(sent[1].1, STORED);
    assert_eq!(numbers(&send(&mut engine, 0, 1)), [3]);
    engine.handle_timeout(SECOND);
    let again = send(&mut engine, SECOND, 1);
    assert_eq!(numbers(&again), [0]);
    engine.handle_stored(again[0].1, STORED);
    assert_eq!(numbers(&send(&mut engine, SECOND, 1)), [1]);
}

#[test]
fn in_strict_order_one_that_fails_while_it_waits_leaves_no_hole() {
    let mut engine = engine(|config| config.ordering = Ordering::Strict);
    accept(&mut engine, "a", 1);
    engine.accept(
        0,
        Event::new("a", "1").deadline(std::time::Duration::from_secs(1)),
        Some(1),
    );
    accept(&mut engine, "a", 1);
    let first = send(&mut engine, 0, 1)[0].1;
    engine.handle_timeout(2 * SECOND);
    assert_eq!(failure(&mut engine).attempts(), 0);
    assert!(send(&mut engine, 2 * SECOND, 1).is_empty());
    engine.handle_stored(first, STORED);
    assert_eq!(numbers(&send(&mut engine, 2 * SECOND, 1)), [2]);
}

#[test]
fn what_is_not_permitted_fails_at_once() {
    let mut engine = engine(|_| {});
    accept(&mut engine, "a", 1);
    accept(&mut engine, "b", 1);
    send(&mut engine, 0, 1);
    engine.handle_denied(|subject| subject == "b");
    assert_eq!(failure(&mut engine).kind(), PublishErrorKind::NotPermitted);
    assert_eq!(engine.counts().pending, 1);
}

#[test]
fn the_end_hands_everything_back() {
    let mut engine = engine(|config| config.ordering = Ordering::Strict);
    accept(&mut engine, "a", 3);
    send(&mut engine, 0, 1);
    engine.handle_end(PublishErrorKind::Closed);
    let doubts: Vec<bool> = std::iter::from_fn(|| engine.poll_settled())
        .map(|settled| settled.outcome.expect_err("failed").may_be_stored())
        .collect();
    assert_eq!(doubts, [true, false, false]);
    assert_eq!(engine.counts().pending, 0);
}

#[test]
fn memory_is_that_of_the_largest_window_and_no_more() {
    let mut engine = engine(|_| {});
    for _ in 0..1000 {
        accept(&mut engine, "a", 8);
        for (_, token) in send(&mut engine, 0, 1) {
            engine.handle_stored(token, STORED);
        }
        while engine.poll_settled().is_some() {}
    }
    assert_eq!(engine.slots.len(), 8);
}

#[test]
fn an_id_that_is_being_stored_is_tried_again_and_leaves_a_doubt() {
    let mut engine = engine(|_| {});
    accept(&mut engine, "a", 1);
    let token = send(&mut engine, 0, 1)[0].1;
    let in_process = Refusal {
        code: 409,
        err_code: 10158,
        description: "duplicate message id is in process".to_owned(),
    };
    engine.handle_refusal(0, token, in_process);
    engine.handle_timeout(SECOND);
    let again = send(&mut engine, SECOND, 1)[0].1;
    let full = Refusal {
        code: 503,
        err_code: 10077,
        description: "maximum messages exceeded".to_owned(),
    };
    engine.handle_refusal(SECOND, again, full);
    assert!(failure(&mut engine).may_be_stored());
}

#[test]
fn nothing_is_due_when_nothing_is_pending() {
    let mut engine = engine(|_| {});
    accept(&mut engine, "a", 1);
    let token = send(&mut engine, 0, 1)[0].1;
    assert!(engine.poll_timeout().is_some());
    engine.handle_stored(token, STORED);
    assert_eq!(engine.poll_timeout(), None);
}

#[test]
fn an_answer_that_did_not_come_leaves_a_doubt() {
    let mut engine = engine(|_| {});
    accept(&mut engine, "a", 1);
    send(&mut engine, 0, 1);
    engine.handle_timeout(6 * SECOND);
    let again = send(&mut engine, 6 * SECOND, 1)[0].1;
    let full = Refusal {
        code: 503,
        err_code: 10077,
        description: "maximum messages exceeded".to_owned(),
    };
    engine.handle_refusal(6 * SECOND, again, full);
    assert!(failure(&mut engine).may_be_stored());
}

#[test]
fn in_strict_order_the_last_one_that_fails_while_it_waits_leaves_the_others_in_line() {
    let mut engine = engine(|config| config.ordering = Ordering::Strict);
    accept(&mut engine, "a", 1);
    let short = std::time::Duration::from_secs(1);
    engine.accept(0, Event::new("a", "1").deadline(short), Some(1));
    let first = send(&mut engine, 0, 1)[0].1;
    engine.handle_timeout(2 * SECOND);
    assert_eq!(failure(&mut engine).attempts(), 0);
    accept(&mut engine, "a", 1);
    assert!(send(&mut engine, 2 * SECOND, 1).is_empty());
    engine.handle_stored(first, STORED);
    assert_eq!(numbers(&send(&mut engine, 2 * SECOND, 1)), [2]);
}
