//! Single situations.

use super::super::super::answer::Answer;
use super::server::Mood;
use super::world::{Step, World};
use super::*;

fn accept(count: u8) -> Step {
    Step::Accept {
        count,
        has_own_id: false,
        deadline: None,
    }
}

fn world(config: Config) -> World {
    World::new(config, 2, 7)
}

fn roomy() -> Config {
    Config {
        window: 100,
        ..config()
    }
}

fn run(world: &mut World, steps: &[Step]) {
    for step in steps {
        world.run(step);
    }
}

/// How many are acked, failed, pending, resent.
fn counts(world: &World) -> (u64, u64, usize, u64) {
    let counts = world.engine.counts();
    (counts.acked, counts.failed, counts.pending, counts.resent)
}

#[test]
fn only_the_first_goes_before_the_stream_has_answered() {
    let mut world = world(roomy());
    run(&mut world, &[accept(9)]);
    assert_eq!(world.sent.len(), 1);
    // To the stream and back: then three times its flow of 2.
    world.wait(2 * MILLI);
    assert_eq!(world.sent.len(), 5, "six under way, one of which has arrived");
    world.wait(20 * MILLI);
    assert_eq!(
        counts(&world),
        (8, 0, 1, 0),
        "the stream tells after each second message"
    );
    world.wait(60 * MILLI);
    assert_eq!(
        counts(&world),
        (9, 0, 0, 0),
        "the end of an idle batch tells of the rest"
    );
    assert!(world.engine.is_over());
    world.finish();
}

#[test]
fn a_flush_does_not_wait_until_the_batch_is_idle() {
    let mut world = world(roomy());
    run(&mut world, &[accept(3), Step::Flush, Step::Wait { millis: 10 }]);
    assert_eq!(counts(&world), (3, 0, 0, 0));
    world.finish();
}

#[test]
fn whoever_waits_for_room_does_not_wait_until_the_batch_is_idle() {
    let mut world = world(roomy());
    let starve = Step::Starve { is_starved: true };
    run(&mut world, &[accept(3), starve, Step::Wait { millis: 10 }]);
    assert_eq!(counts(&world), (3, 0, 0, 0));
    world.finish();
}

#[test]
fn a_batch_goes_on_when_the_stream_will_make_room_by_itself() {
    let mut world = world(roomy());
    let starve = |is_starved| Step::Starve { is_starved };
    for acked in [2, 4] {
        let wait = Step::Wait { millis: 10 };
        run(&mut world, &[accept(2), starve(true), wait, starve(false)]);
        assert_eq!(counts(&world), (acked, 0, 0, 0), "told after each second message");
    }
    assert_eq!(world.engine.counts().batches, 1);
    world.finish();
}

#[test]
fn a_gap_sends_the_rest_again_and_stores_nothing_twice() {
    let mut world = world(roomy());
    run(
        &mut world,
        &[
            accept(9),
            Step::Wait { millis: 2 },
            Step::Lose { nth: 2 },
            Step::Wait { millis: 500 },
        ],
    );
    let (acked, failed, pending, resent) = counts(&world);
    assert_eq!((acked, failed, pending), (9, 0, 0));
    assert!(resent > 0);
    assert_eq!(world.server.stored, (0..9).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn a_lost_connection_costs_no_event_while_the_stream_knows_the_batch() {
    for is_read_on in [false, true] {
        let mut world = world(roomy());
        run(
            &mut world,
            &[
                accept(9),
                Step::Wait { millis: 3 },
                Step::Cut { is_read_on },
                Step::Wait { millis: 5000 },
                Step::Reconnect,
                Step::Wait { millis: 500 },
            ],
        );
        let (acked, failed, pending, _) = counts(&world);
        assert_eq!((acked, failed, pending), (9, 0, 0));
        assert_eq!(world.server.stored, (0..9).collect::<Vec<_>>());
        world.finish();
    }
}

#[test]
fn a_batch_that_was_forgotten_is_unknown_without_ids_and_goes_again_with_them() {
    for (gives_ids, repeats) in [(false, false), (true, false), (false, true)] {
        let mut world = world(Config {
            gives_ids,
            repeats,
            ..roomy()
        });
        run(
            &mut world,
            &[
                accept(9),
                Step::Wait { millis: 3 },
                Step::Cut { is_read_on: true },
                Step::Wait { millis: 5 },
                Step::Restart,
                Step::Reconnect,
                Step::Wait { millis: 500 },
            ],
        );
        let (acked, failed, pending, _) = counts(&world);
        assert_eq!((acked + failed, pending), (9, 0));
        assert_eq!(failed > 0, !gives_ids && !repeats, "{failed} have failed");
        assert_eq!(world.server.stored.len() > 9, repeats, "{:?}", world.server.stored);
        world.finish();
    }
}

#[test]
fn a_change_of_leaders_loses_and_repeats_nothing() {
    let mut world = world(roomy());
    run(
        &mut world,
        &[
            accept(20),
            Step::Wait { millis: 4 },
            Step::Mood(Mood::Lags),
            Step::Wait { millis: 3 },
            Step::LeaderChange,
            Step::Mood(Mood::NoResponders),
            Step::Wait { millis: 4000 },
            Step::Mood(Mood::Well),
            Step::Wait { millis: 3000 },
        ],
    );
    let (acked, failed, pending, resent) = counts(&world);
    assert_eq!((acked, failed, pending), (20, 0, 0));
    assert!(resent > 0);
    assert_eq!(world.server.stored, (0..20).collect::<Vec<_>>());
    world.finish();
}

#[test]
fn a_refused_event_fails_and_the_others_go_on() {
    let mut world = world(roomy());
    run(&mut world, &[accept(4), Step::Wait { millis: 20 }]);
    world.run(&Step::Mood(Mood::Full));
    run(
        &mut world,
        &[accept(1), Step::Wait { millis: 20 }, Step::Mood(Mood::Well)],
    );
    run(&mut world, &[accept(3), Step::Wait { millis: 200 }]);
    assert_eq!(counts(&world), (7, 1, 0, 0));
    assert_eq!(world.server.stored, [0, 1, 2, 3, 5, 6, 7]);
    world.finish();
}

#[test]
fn a_lost_flow_message_stalls_nobody_for_longer_than_the_patience() {
    let mut world = world(Config {
        outstanding: 1,
        ..roomy()
    });
    run(&mut world, &[accept(50), Step::Wait { millis: 2 }]);
    world.wait(MILLI);
    world.run(&Step::LoseAnswers { nth: 1 });
    run(&mut world, &[Step::Wait { millis: 3000 }]);
    assert_eq!(counts(&world).0, 50);
    world.finish();
}

#[test]
fn what_does_not_concern_the_batch_changes_nothing() {
    let mut world = world(roomy());
    run(&mut world, &[accept(6), Step::Wait { millis: 4 }]);
    let before = world.engine.counts();
    let place = Place {
        batch: 99,
        sequence: 6,
        operation: Operation::End,
    };
    for answer in [Answer::Gap, Answer::Ended { count: 99 }, Answer::Stored] {
        world.engine.handle_answer(world.now, place, answer);
    }
    assert_eq!(world.engine.counts(), before);
    // More than was sent nobody can have.
    let place = Place { batch: 1, ..place };
    let answer = Answer::Flow { told: 1000, flow: 7 };
    world.engine.handle_answer(world.now, place, answer);
    assert_eq!(world.engine.counts().acked, 6);
}

#[test]
fn what_is_not_permitted_fails_and_blocks_nothing() {
    let mut world = world(roomy());
    world.mood = Mood::Deaf;
    run(&mut world, &[accept(2), Step::Wait { millis: 4 }]);
    world.engine.handle_denied(world.now, |subject| subject == "s");
    let error = world.engine.poll_failed().expect("one has failed");
    assert_eq!(
        (error.kind(), error.may_be_stored()),
        (PublishErrorKind::NotPermitted, false)
    );
    // The next one may be another subject's: a new batch begins with it.
    assert!(world.engine.is_ready(world.now));
}

/// A store may refuse one message of a batch and take those behind it; nothing that it says of these counts for that one.
#[test]
fn a_refusal_in_the_middle_is_not_undone_by_what_is_told_of_later_ones() {
    let full = Refusal {
        code: 503,
        err_code: 10077,
        description: "maximum messages exceeded".to_owned(),
    };
    let busy = Refusal {
        code: 429,
        err_code: 10167,
        description: "too many requests".to_owned(),
    };
    for (refusal, expected) in [(full, (5, 1, 0, 0)), (busy, (5, 0, 1, 0))] {
        let mut world = world(roomy());
        run(&mut world, &[accept(6), Step::Wait { millis: 2 }]);
        // From here on the answers are made by hand.
        world.sent.clear();
        world.answered.clear();
        let place = |sequence, operation| Place {
            batch: 1,
            sequence,
            operation,
        };
        let now = world.now;
        let refused = Answer::Refused(refusal);
        world.engine.handle_answer(now, place(3, Operation::Append), refused);
        let flow = Answer::Flow { told: 6, flow: 2 };
        world.engine.handle_answer(now, place(6, Operation::Append), flow);
        assert_eq!(world.engine.counts().acked, 2, "up to the one that was refused");
        let ended = Answer::Ended { count: 6 };
        world.engine.handle_answer(now, place(7, Operation::End), ended);
        assert_eq!(counts(&world), expected);
        if let Some(error) = world.engine.poll_failed() {
            assert_eq!(error.event().payload(), "2");
            assert_eq!(
                (error.kind(), error.may_be_stored()),
                (PublishErrorKind::StreamFull, false)
            );
        }
        // What may be taken later goes again, and nothing else.
        let at = world.engine.poll_timeout().unwrap_or(now);
        let again = world.engine.poll_transmit(at);
        let again = again.filter(|next| matches!(next.content, Content::Event { .. }));
        assert_eq!(again.is_some(), expected.2 == 1);
    }
}

/// All of it is told: nobody waits for what its end would tell, and the stream may be gone for ever.
#[test]
fn the_end_of_a_batch_that_nobody_waits_for_is_not_asked_for_again() {
    for mood in [Mood::NoResponders, Mood::Busy, Mood::Deaf] {
        let mut world = world(roomy());
        run(&mut world, &[accept(2), Step::Wait { millis: 10 }]);
        assert_eq!(counts(&world), (2, 0, 0, 0));
        assert!(!world.engine.is_over(), "it is open");
        let before = world.messages;
        run(&mut world, &[Step::Mood(mood), Step::Wait { millis: 10_000 }]);
        assert!(world.engine.is_over(), "{mood:?}");
        assert_eq!(world.messages - before, 1, "{mood:?}");
        world.finish();
    }
}

#[test]
fn the_pause_before_a_refused_end_goes_again_doubles() {
    let mut world = world(roomy());
    run(&mut world, &[accept(3), Step::Wait { millis: 10 }]);
    assert_eq!(counts(&world), (2, 0, 1, 0));
    let before = world.messages;
    run(
        &mut world,
        &[Step::Mood(Mood::NoResponders), Step::Wait { millis: 10_000 }],
    );
    // 50 ms at first, 2 s at most, and up to a half of that less.
    let ends = world.messages - before;
    assert!((7..=18).contains(&ends), "{ends}");
    run(&mut world, &[Step::Mood(Mood::Well), Step::Wait { millis: 2000 }]);
    assert_eq!(counts(&world).2, 0);
    world.finish();
}

/// A leader that has forgotten a batch stores what it has proposed of it, and counts the first of that alone.
#[test]
fn a_count_that_comes_after_the_batch_was_forgotten_is_a_doubt() {
    let mut world = world(roomy());
    run(
        &mut world,
        &[
            Step::Mood(Mood::Lags),
            accept(2),
            Step::Wait { millis: 4 },
            Step::Mood(Mood::NoResponders),
            Step::Wait { millis: 10_100 },
            Step::Mood(Mood::Well),
            Step::Wait { millis: 3000 },
        ],
    );
    assert_eq!(counts(&world), (1, 1, 0, 0));
    assert_eq!(world.server.stored, [0, 1], "nothing twice");
    world.finish();
}
