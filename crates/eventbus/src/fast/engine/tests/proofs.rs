//! What is told of events that a batch in doubt had: by a leader without a majority it may be untrue.

use super::super::super::answer::Answer;
use super::server::Mood;
use super::world::{Step, World};
use super::*;

fn world() -> World {
    let config = Config {
        window: 100,
        gives_ids: true,
        ..config()
    };
    World::new(config, 3, 7)
}

fn accept(count: u8) -> Step {
    Step::Accept {
        count,
        has_own_id: false,
        deadline: None,
    }
}

fn run(world: &mut World, steps: &[Step]) {
    for step in steps {
        world.run(step);
    }
}

/// So many events are sent, and nobody knows what became of the last of them: the batch is forgotten.
fn doubt(world: &mut World, count: u8) {
    run(
        world,
        &[
            accept(count),
            Step::Wait { millis: 20 },
            Step::Cut { is_read_on: true },
            Step::Restart,
            Step::Reconnect,
        ],
    );
    assert_eq!(world.engine.counts().pending, 1);
}

/// The end of the batch overtakes what is still on its way to the old connection, and is answered as that of an unknown one.
/// The event comes after it, is proposed and never stored; meanwhile it comes again.
#[test]
fn an_event_that_was_only_proposed_is_not_acked_as_a_duplicate_of_itself() {
    let mut world = world();
    run(
        &mut world,
        &[
            Step::Mood(Mood::Lags),
            Step::Delay { millis: 300 },
            accept(1),
            Step::Delay { millis: 1 },
            Step::Cut { is_read_on: true },
            Step::Reconnect,
            Step::Wait { millis: 2 },
            // Sent again soon, it comes behind the first one.
            Step::Delay { millis: 400 },
            Step::Wait { millis: 298 },
        ],
    );
    let seen = |world: &World| (world.engine.counts().resent, world.engine.counts().acked);
    assert_eq!((seen(&world), world.server.proposed()), ((1, 0), 1));
    run(&mut world, &[Step::Delay { millis: 1 }, Step::Wait { millis: 5000 }]);
    assert_eq!((seen(&world), world.server.proposed()), ((1, 0), 1), "it is held");
    let well = [Step::LeaderChange, Step::Mood(Mood::Well), Step::Wait { millis: 5000 }];
    run(&mut world, &well);
    assert_eq!(seen(&world), (2, 1));
    assert_eq!(world.server.stored, [0]);
    world.finish();
}

#[test]
fn a_doubt_is_ended_by_one_question() {
    let mut world = world();
    doubt(&mut world, 4);
    let before = world.messages;
    world.wait(200 * MILLI);
    assert_eq!(world.messages - before, 3, "the event, the end, the question");
    assert_eq!(world.engine.counts().acked, 4);
    assert_eq!(world.server.stored, [0, 1, 2, 3]);
    world.finish();
}

#[test]
fn a_new_event_proves_those_in_doubt_before_it() {
    let mut world = world();
    doubt(&mut world, 4);
    run(&mut world, &[accept(3)]);
    let before = world.messages;
    world.wait(200 * MILLI);
    assert_eq!(world.messages - before, 5, "four events, the end");
    assert_eq!(world.engine.counts().acked, 7);
    world.finish();
}

/// Three events are acked. Two more are in doubt, were told of, and the question for the last one is on its way: to nobody, since the answers are made by
/// hand from here on.
fn asked(deadline: u64) -> (World, Place) {
    let mut world = world();
    let own = Step::Accept {
        count: 1,
        has_own_id: true,
        deadline: Some(deadline),
    };
    run(
        &mut world,
        &[
            accept(3),
            own,
            accept(1),
            Step::Wait { millis: 20 },
            Step::Cut { is_read_on: true },
            Step::Restart,
            Step::Reconnect,
        ],
    );
    for _ in 0..1000 {
        world.wait(MILLI / 2);
        let asked = world.sent.iter().map(|(_, _, message)| message.place);
        if let Some(place) = asked.into_iter().find(|place| place.operation == Operation::Ask) {
            world.sent.clear();
            assert_eq!(world.engine.counts().pending, 2);
            return (world, place);
        }
    }
    panic!("nothing was asked: {world:?}");
}

fn refused(err_code: u16) -> Answer {
    Answer::Refused(Refusal {
        code: 400,
        err_code,
        description: "no".to_owned(),
    })
}

#[test]
fn an_answer_that_proves_nothing_acks_nothing() {
    let (mut world, place) = asked(3000);
    let now = world.now;
    for answer in [Answer::Flow { told: 1, flow: 1 }, Answer::Gap, refused(10158)] {
        world.engine.handle_answer(now, place, answer);
        assert_eq!(world.engine.counts().acked, 3);
    }
    let other = Place { batch: 99, ..place };
    world.engine.handle_answer(now, other, Answer::Duplicate);
    assert_eq!(world.engine.counts().acked, 3, "another question's");
    world.engine.handle_answer(now, place, Answer::Duplicate);
    assert_eq!(world.engine.counts().acked, 5);
    world.finish();
}

#[test]
fn what_the_stream_does_not_know_goes_again_in_order() {
    let (mut world, place) = asked(3000);
    let resent = world.engine.counts().resent;
    world.engine.handle_answer(world.now, place, refused(10071));
    world.mood = Mood::Well;
    world.wait(SECOND);
    let counts = world.engine.counts();
    assert_eq!((counts.acked, counts.resent - resent), (5, 2));
    assert_eq!(world.server.stored, [0, 1, 2, 3, 4]);
    world.finish();
}

#[test]
fn an_event_that_nobody_proves_fails_by_its_deadline_and_may_be_stored() {
    let (mut world, _) = asked(2000);
    world.mood = Mood::Deaf;
    world.engine.handle_timeout(2500 * MILLI);
    let error = world.engine.poll_failed().expect("one has failed");
    assert_eq!((error.kind(), error.may_be_stored()), (PublishErrorKind::Timeout, true));
    assert!(!world.engine.is_over(), "the other one is asked for");
    let (due, kind) = (40 * SECOND, PublishErrorKind::Timeout);
    world.engine.handle_timeout(due);
    assert_eq!(world.engine.poll_failed().map(|error| error.kind()), Some(kind));
    assert!(world.engine.is_over(), "{:?}", world.engine);
}

#[test]
fn a_question_is_asked_again_on_the_next_connection() {
    let (mut world, place) = asked(3000);
    world.engine.handle_disconnect(world.now);
    assert!(!world.engine.is_ready(world.now));
    world.engine.handle_connect(world.now);
    let again = world.engine.poll_transmit(world.now).map(|next| next.place);
    assert_eq!(again, Some(place));
    assert!(world.engine.poll_transmit(world.now).is_none(), "once");
}
