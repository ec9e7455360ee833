//! What is kept, and for how long.

use async_nats::HeaderValue;
use bytes::Bytes;
use stream_proto::{Code, Status};

use super::*;

fn answer(until: u64) -> Kept {
    Kept {
        endpoint: Weak::new(),
        reply: Subject::from_static("reply"),
        control: None,
        asked: None,
        transmit: Transmit {
            payload: Bytes::from_static(b"answer"),
            header: true,
            metadata: true,
            control: false,
            failure: None,
        },
        answer: None,
        metadata: None,
        until,
    }
}

fn kept(answers: impl IntoIterator<Item = Kept>) -> State {
    let mut state = State::default();
    for answer in answers {
        state.bytes += answer.size();
        state.keep(answer);
    }
    state
}

#[test]
fn an_answer_is_forgotten_in_time() {
    let mut state = kept([answer(KEEP), answer(KEEP + 2)]);
    state.forget(KEEP - 1);
    assert_eq!(state.kept.len(), 2);
    state.forget(KEEP + 1);
    assert_eq!((state.kept.len(), state.bytes), (1, answer(0).size()));
    state.forget(KEEP + 2);
    assert_eq!((state.kept.len(), state.bytes), (0, 0));
}

#[test]
fn clocks_that_were_looked_at_late_begin_anew() {
    let mut state = kept([answer(KEEP), answer(KEEP + 1)]);
    let awake = KEEP + LATE + 1;
    state.forget(awake);
    assert_eq!(state.kept.len(), 2, "the process was asleep");
    assert_eq!(state.next(), Some(awake + KEEP));
    state.forget(awake + KEEP);
    assert_eq!((state.kept.len(), state.bytes), (0, 0));
}

#[test]
fn headers_and_failures_take_their_part_of_the_memory() {
    let large = "x".repeat(4000);
    let with_headers = |n| {
        let mut headers = HeaderMap::new();
        headers.insert("name", HeaderValue::from(large.as_str()));
        Kept {
            metadata: Some(Box::new(headers)),
            ..answer(n)
        }
    };
    let with_failure = |n| {
        let mut answer = answer(n);
        answer.transmit.failure = Some(Status::new(Code::NotFound, large.as_str()));
        answer
    };
    let makes: [&dyn Fn(u64) -> Kept; 2] = [&with_headers, &with_failure];
    for make in makes {
        let mut state = kept((1..=5000).map(make));
        state.forget(0);
        assert!(state.kept.len() * large.len() <= MAX_BYTES, "{}", state.kept.len());
        assert!(state.kept.len() * large.len() > MAX_BYTES / 2, "{}", state.kept.len());
    }
}

#[test]
fn what_nobody_heard_goes_again_while_its_time_lasts() {
    let mut state = kept([]);
    for (due, until) in [(10, 15), (20, 15)] {
        let answer = answer(until);
        state.bytes += answer.size();
        state.refused.push_back((due, answer));
    }
    assert_eq!(state.next(), Some(10));
    state.probe(9);
    assert_eq!((state.refused.len(), state.repeated.len()), (2, 0));
    state.probe(20);
    assert_eq!((state.refused.len(), state.repeated.len()), (0, 1));
    assert_eq!(state.bytes, answer(0).size());
}
