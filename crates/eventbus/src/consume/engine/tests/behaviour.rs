//! Single behaviours, one test each.

use super::*;

fn engine(change: impl FnOnce(&mut PullConfig)) -> Pulls {
    let mut config = config();
    change(&mut config);
    Pulls::new(config, 0)
}

fn ask(pulls: &mut Pulls, now: u64) -> PullRequest {
    let request = pulls.poll_request(now).expect("a request");
    assert_eq!(pulls.poll_request(now), None, "one is enough");
    request
}

fn receive(pulls: &mut Pulls, now: u64, count: usize) {
    for _ in 0..count {
        assert_eq!(pulls.handle_message(now), Admission::Held);
    }
}

const OVER: Status = Status::Over { undelivered: None };

#[test]
fn as_much_is_asked_for_as_there_are_slots() {
    let mut pulls = engine(|_| {});
    let request = ask(&mut pulls, 0);
    assert_eq!((request.number, request.count), (0, 10));
    assert_eq!(
        (request.expires, request.heartbeat),
        (Some(30 * SECOND), Some(5 * SECOND))
    );
    receive(&mut pulls, 0, 10);
    assert_eq!(pulls.poll_request(0), None, "all slots are taken");
    for _ in 0..3 {
        pulls.release();
    }
    assert_eq!(ask(&mut pulls, 0).count, 3, "nothing is under way: whatever is free");
    for _ in 0..2 {
        pulls.release();
    }
    assert_eq!(pulls.poll_request(0), None, "two would not be worth it");
    for _ in 0..3 {
        pulls.release();
    }
    assert_eq!(ask(&mut pulls, 0).count, 5);
}

#[test]
fn one_slot_is_enough() {
    let mut pulls = engine(|config| config.slots = 1);
    for _ in 0..3 {
        assert_eq!(ask(&mut pulls, 0).count, 1);
        receive(&mut pulls, 0, 1);
        assert_eq!(pulls.poll_request(0), None);
        pulls.release();
    }
}

#[test]
fn no_more_is_taken_than_is_still_to_be_done() {
    let mut pulls = engine(|_| {});
    pulls.limit(12);
    assert_eq!(ask(&mut pulls, 0).count, 10);
    receive(&mut pulls, 0, 10);
    for _ in 0..9 {
        pulls.release();
        pulls.spend();
    }
    assert_eq!(ask(&mut pulls, 0).count, 2, "one is here, nine are done");
    receive(&mut pulls, 0, 2);
    assert_eq!(
        pulls.handle_message(0),
        Admission::Surplus,
        "asked for before a reconnect"
    );
    // One failed, and is given back.
    pulls.release();
    assert_eq!(ask(&mut pulls, 0).count, 1);
    receive(&mut pulls, 0, 1);
    for _ in 0..3 {
        assert!(!pulls.is_spent());
        pulls.release();
        pulls.spend();
    }
    assert!(pulls.is_spent());
    assert_eq!(pulls.poll_request(0), None);
}

#[test]
fn a_request_that_is_over_is_settled_by_what_it_did_not_deliver() {
    let mut pulls = engine(|_| {});
    let first = ask(&mut pulls, 0);
    receive(&mut pulls, 0, 6);
    for _ in 0..6 {
        pulls.release();
    }
    let second = ask(&mut pulls, 0);
    assert_eq!((second.count, pulls.wanted()), (6, 10));
    pulls.handle_status(0, first.number, &Status::Over { undelivered: Some(4) });
    assert_eq!(pulls.wanted(), 6);
    pulls.handle_status(0, first.number, &Status::Over { undelivered: Some(4) });
    assert_eq!(pulls.wanted(), 6, "a request is settled once");
    pulls.handle_status(0, second.number, &OVER);
    assert_eq!(pulls.wanted(), 0, "no request is left");
}

#[test]
fn a_request_that_ends_without_a_word_is_made_again() {
    let mut pulls = engine(|_| {});
    ask(&mut pulls, 0);
    for second in 1..32 {
        pulls.handle_status(second * SECOND, 0, &Status::Heartbeat);
        pulls.handle_timeout(second * SECOND);
        assert_eq!(pulls.poll_request(second * SECOND), None);
    }
    pulls.handle_timeout(32 * SECOND);
    assert_eq!(ask(&mut pulls, 32 * SECOND).number, 1);
    assert_eq!(pulls.poll_event(), None);
}

#[test]
fn silence_is_noticed_and_said() {
    let mut pulls = engine(|_| {});
    ask(&mut pulls, 0);
    let due = pulls.poll_timeout().expect("something is due");
    assert_eq!(due, 12 * SECOND);
    pulls.handle_timeout(due - 1);
    assert_eq!(pulls.poll_request(due - 1), None);
    pulls.handle_timeout(due);
    assert_eq!(pulls.poll_event(), Some(PullEvent::Silent));
    assert_eq!(ask(&mut pulls, due).count, 10);
    pulls.handle_timeout(due + 1);
    assert_eq!(pulls.poll_event(), None, "the new request has its own time");
}

#[test]
fn refusals_make_pauses_that_grow_and_look_for_the_consumer() {
    let mut pulls = engine(|_| {});
    let mut now = 0;
    for refusal in 0..20 {
        let request = ask(&mut pulls, now);
        pulls.handle_status(now, request.number, &Status::NoResponders);
        assert_eq!((pulls.poll_request(now), pulls.wanted()), (None, 0));
        let due = pulls.poll_timeout().expect("a pause");
        let whole = ((50 * MILLI) << refusal).min(2 * SECOND);
        assert!((whole / 2..=whole).contains(&(due - now)), "{refusal}: {}", due - now);
        now = due;
        pulls.handle_timeout(now);
    }
    let events: Vec<_> = std::iter::from_fn(|| pulls.poll_event()).collect();
    assert_eq!(events.iter().filter(|event| **event == PullEvent::Refused).count(), 1);
    assert!(events.iter().filter(|event| **event == PullEvent::Look).count() > 3);
}

#[test]
fn a_consumer_that_is_gone_is_asked_again_when_it_is_back() {
    let mut pulls = engine(|_| {});
    let first = ask(&mut pulls, 0);
    receive(&mut pulls, 0, 3);
    pulls.handle_status(0, first.number, &Status::Deleted);
    assert_eq!(pulls.poll_event(), Some(PullEvent::Gone));
    pulls.handle_gone();
    assert_eq!(pulls.poll_event(), None, "it is said once");
    assert_eq!((pulls.poll_request(0), pulls.poll_timeout()), (None, None));
    pulls.handle_restored(SECOND);
    assert_eq!(ask(&mut pulls, SECOND).count, 7, "what is held holds its slots");
}

#[test]
fn another_leader_is_asked_for_all_of_it() {
    let mut pulls = engine(|_| {});
    let first = ask(&mut pulls, 0);
    receive(&mut pulls, 0, 5);
    for _ in 0..5 {
        pulls.release();
    }
    let second = ask(&mut pulls, 0);
    pulls.handle_status(0, first.number, &Status::Moved);
    assert_eq!(pulls.wanted(), 5, "the second one may be with the new leader");
    pulls.handle_status(0, second.number, &Status::Moved);
    assert_eq!(pulls.wanted(), 0);
    let due = pulls.poll_timeout().expect("a pause");
    pulls.handle_timeout(due);
    assert_eq!(ask(&mut pulls, due).count, 10);
    pulls.handle_status(due, second.number, &Status::Moved);
    assert_eq!(
        pulls.wanted(),
        10,
        "the word for an old request says nothing of the new one"
    );
}

#[test]
fn a_reconnect_asks_at_once() {
    let mut pulls = engine(|_| {});
    let request = ask(&mut pulls, 0);
    pulls.handle_status(0, request.number, &Status::NoResponders);
    pulls.handle_disconnect();
    assert_eq!(pulls.poll_request(SECOND), None);
    pulls.handle_connect(SECOND);
    assert_eq!(ask(&mut pulls, SECOND).count, 10);
    // Lost and found before anybody looked.
    pulls.handle_connect(2 * SECOND);
    assert_eq!(ask(&mut pulls, 2 * SECOND).count, 10);
}

#[test]
fn surplus_is_bounded() {
    let mut pulls = engine(|_| {});
    ask(&mut pulls, 0);
    receive(&mut pulls, 0, 20);
    assert_eq!(pulls.handle_message(0), Admission::Surplus);
    assert_eq!((pulls.held(), pulls.counts().surplus), (20, 11));
    assert_eq!(pulls.poll_request(0), None);
}

#[test]
fn limits_of_the_consumer_are_kept_to() {
    let mut pulls = engine(|_| {});
    let request = ask(&mut pulls, 0);
    pulls.handle_status(0, request.number, &Status::BatchTooLarge { most: 4 });
    let due = pulls.poll_timeout().expect("a pause");
    pulls.handle_timeout(due);
    let request = pulls.poll_request(due).expect("a request");
    assert_eq!(request.count, 4);
    pulls.handle_status(due, request.number, &Status::ExpiryTooLong);
    let due = pulls.poll_timeout().expect("a pause");
    pulls.handle_timeout(due);
    let request = pulls.poll_request(due).expect("a request");
    assert_eq!(
        (request.expires, request.heartbeat),
        (Some(15 * SECOND), Some(5 * SECOND))
    );
}

#[test]
fn what_can_never_work_ends_it() {
    for (status, end) in [(Status::NotPull, End::NotPull), (Status::BadRequest, End::BadRequest)] {
        let mut pulls = engine(|_| {});
        let request = ask(&mut pulls, 0);
        pulls.handle_status(0, request.number, &status);
        assert_eq!(
            (pulls.end(), pulls.poll_request(0), pulls.poll_timeout()),
            (Some(end), None, None)
        );
    }
}

#[test]
fn a_fetch_ends_with_its_count() {
    let plan = Plan::Fetch {
        count: 4,
        until: 3 * SECOND,
    };
    let mut pulls = engine(|config| config.plan = plan);
    let request = ask(&mut pulls, 0);
    assert_eq!((request.count, request.expires), (4, Some(3 * SECOND)));
    receive(&mut pulls, 0, 4);
    assert_eq!(pulls.end(), Some(End::Fetched));
    pulls.release();
    assert_eq!(pulls.poll_request(0), None);
}

#[test]
fn a_fetch_ends_with_its_time() {
    let plan = Plan::Fetch {
        count: 4,
        until: 3 * SECOND,
    };
    let mut pulls = engine(|config| config.plan = plan);
    let request = ask(&mut pulls, 0);
    receive(&mut pulls, 0, 1);
    pulls.handle_disconnect();
    pulls.handle_connect(SECOND);
    let again = ask(&mut pulls, SECOND);
    assert_eq!((again.count, again.expires), (3, Some(2 * SECOND)), "only what is left");
    pulls.handle_status(3 * SECOND, request.number, &OVER);
    assert_eq!(pulls.end(), None);
    pulls.handle_status(3 * SECOND, again.number, &Status::Over { undelivered: Some(3) });
    assert_eq!(pulls.end(), Some(End::Fetched));
}

#[test]
fn a_fetch_that_does_not_wait_is_answered_at_once() {
    let plan = Plan::Fetch { count: 4, until: 0 };
    let mut pulls = engine(|config| config.plan = plan);
    let request = ask(&mut pulls, 0);
    assert_eq!((request.expires, request.heartbeat), (None, None));
    pulls.handle_status(0, request.number, &OVER);
    assert_eq!(pulls.end(), Some(End::Fetched));
}

#[test]
fn a_fetch_ends_though_nobody_answers() {
    let plan = Plan::Fetch {
        count: 4,
        until: 3 * SECOND,
    };
    let mut pulls = engine(|config| config.plan = plan);
    pulls.handle_disconnect();
    assert_eq!(pulls.poll_timeout(), Some(3 * SECOND));
    pulls.handle_timeout(3 * SECOND);
    assert_eq!(pulls.end(), Some(End::Fetched));
}

#[test]
fn what_is_stopped_asks_for_nothing() {
    let mut pulls = engine(|_| {});
    pulls.stop();
    assert_eq!(pulls.poll_request(0), None);
    pulls.handle_connect(SECOND);
    assert_eq!(pulls.poll_request(SECOND), None);
}

#[test]
fn memory_is_bounded_however_long_it_runs() {
    let mut pulls = engine(|_| {});
    ask(&mut pulls, 0);
    for _ in 0..100_000 {
        receive(&mut pulls, 0, 1);
        pulls.release();
        let _ = pulls.poll_request(0);
    }
    assert!(pulls.requests.len() <= REMEMBERED);
    assert_eq!(pulls.wanted() + pulls.held(), 10 - pulls.free());
}
