//! Order, beside a model of a consumer that loses deliveries.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const WAIT: u64 = 100;
const SLOTS: usize = 6;
const NOTHING: [u64; 0] = [];

fn look(missing: u64, next: u64) -> Look {
    Look {
        missing,
        next,
        room: 10,
    }
}

/// The next delivery is the fifth one.
fn whole() -> Gaps<u64> {
    let mut gaps = Gaps::new(WAIT, 0);
    gaps.handle_look(0, look(0, 5));
    gaps
}

/// A delivery whose message is its place; it is new, unless it comes again.
fn deliver(gaps: &mut Gaps<u64>, now: u64, number: u64, place: u64, is_first: bool, is_explained: bool) -> Vec<u64> {
    let delivered = Delivered {
        number,
        place,
        is_first,
        is_explained,
    };
    gaps.handle_delivery(now, delivered, Some(place));
    std::iter::from_fn(|| gaps.poll_message()).collect()
}

#[test]
fn in_the_beginning_predecessors_are_waited_for() {
    let mut gaps: Gaps<u64> = Gaps::new(WAIT, 5);
    assert!(gaps.most_wanted() == 0);
    let look = Look { room: 2, ..look(2, 3) };
    gaps.handle_look(WAIT + 4, look);
    assert!(gaps.most_wanted() == 0);
    gaps.handle_look(WAIT + 5, look);
    assert!(gaps.most_wanted() > 0);
    assert_eq!(deliver(&mut gaps, WAIT + 6, 3, 2, false, false), NOTHING);
    assert_eq!(deliver(&mut gaps, WAIT + 7, 4, 1, false, false), [1, 2]);
}

#[test]
fn what_is_behind_a_gap_waits_for_what_was_lost() {
    let mut gaps = whole();
    assert_eq!(deliver(&mut gaps, 0, 5, 50, true, false), [50]);
    assert_eq!(deliver(&mut gaps, 1, 8, 53, true, true), NOTHING);
    assert_eq!(
        deliver(&mut gaps, 2, 9, 54, true, false),
        NOTHING,
        "it is behind the gap too"
    );
    assert!(gaps.most_wanted() == 0);
    gaps.handle_look(WAIT, look(2, 10));
    assert!(gaps.most_wanted() <= 1, "it is not due again yet");
    gaps.handle_look(WAIT + 1, look(2, 10));
    assert!(gaps.most_wanted() > 0);
    assert_eq!(deliver(&mut gaps, WAIT + 2, 10, 52, false, false), NOTHING);
    assert_eq!(deliver(&mut gaps, WAIT + 3, 11, 51, false, false), [51, 52, 53, 54]);
    assert_eq!(gaps.poll_timeout(), None);
}

#[test]
fn what_was_given_back_comes_at_once() {
    let mut gaps: Gaps<u64> = Gaps::new(WAIT, 0);
    gaps.handle_look(1, look(2, 7));
    assert_eq!(gaps.most_wanted(), 1);
    assert_eq!(deliver(&mut gaps, 2, 7, 51, false, false), NOTHING);
    assert_eq!(gaps.most_wanted(), 1);
    assert_eq!(deliver(&mut gaps, 3, 8, 50, false, false), [50, 51]);
    assert_eq!(gaps.most_wanted(), usize::MAX);
}

#[test]
fn what_is_new_says_that_nothing_was_given_back() {
    let mut gaps: Gaps<u64> = Gaps::new(WAIT, 0);
    gaps.handle_look(1, look(2, 7));
    assert_eq!(deliver(&mut gaps, 2, 7, 60, true, false), NOTHING);
    gaps.handle_look(3, look(2, 8));
    assert_eq!(gaps.most_wanted(), 0, "it is tried once");
    gaps.handle_look(WAIT, look(2, 8));
    assert_eq!(gaps.most_wanted(), usize::MAX);
    deliver(&mut gaps, WAIT, 8, 50, false, false);
    assert_eq!(deliver(&mut gaps, WAIT, 9, 51, false, false), [50, 51, 60]);
}

#[test]
fn doubt_lets_those_that_follow_through_and_ends_when_all_is_here() {
    let mut gaps = whole();
    deliver(&mut gaps, 0, 5, 50, true, false);
    gaps.handle_doubt(10);
    assert_eq!(deliver(&mut gaps, 11, 6, 51, true, true), [51]);
    assert!(gaps.most_wanted() == 0);
    gaps.handle_look(12, look(0, 3));
    assert!(gaps.most_wanted() > 0);
    assert_eq!(
        deliver(&mut gaps, 13, 3, 52, true, false),
        [52],
        "of a server that was killed"
    );
    gaps.handle_doubt(20);
    assert_eq!(deliver(&mut gaps, 21, 5, 54, true, true), NOTHING);
}

#[test]
fn what_is_new_ends_the_wait_for_what_does_not_come() {
    let mut gaps = whole();
    deliver(&mut gaps, 0, 6, 51, true, true);
    gaps.handle_look(WAIT, look(3, 7));
    assert_eq!(deliver(&mut gaps, WAIT, 7, 52, true, false), [51, 52]);
    deliver(&mut gaps, WAIT, 9, 54, true, true);
    gaps.handle_look(2 * WAIT, look(1, 10));
    gaps.handle_timeout(2 * WAIT + gaps.patience());
    assert_eq!(gaps.poll_message(), Some(54), "and so does time");
}

#[test]
fn a_wait_ends_though_nobody_answers() {
    let mut gaps = whole();
    deliver(&mut gaps, 0, 6, 51, true, true);
    gaps.handle_timeout(2 * WAIT);
    assert_eq!(((gaps.most_wanted() > 0), gaps.poll_message()), (true, Some(51)));
}

#[test]
fn a_second_gap_without_a_cause_means_that_somebody_else_consumes() {
    let mut gaps = whole();
    assert_eq!(deliver(&mut gaps, 0, 6, 6, true, false), NOTHING);
    gaps.handle_look(WAIT, look(0, 7));
    assert_eq!(gaps.poll_message(), Some(6));
    assert!(!gaps.poll_shared());
    assert_eq!(
        deliver(&mut gaps, WAIT, 9, 9, true, false),
        [9],
        "it must not stop for ever"
    );
    assert_eq!((gaps.poll_shared(), gaps.poll_shared()), (true, false));
    assert_eq!(
        deliver(&mut gaps, WAIT, 12, 12, true, true),
        NOTHING,
        "a loss is one all the same"
    );
}

#[test]
fn what_there_is_no_room_for_is_not_overtaken() {
    let mut gaps = whole();
    let delivered = Delivered {
        number: 5,
        place: 5,
        is_first: true,
        is_explained: false,
    };
    gaps.handle_surplus(0, delivered);
    assert_eq!(deliver(&mut gaps, 1, 6, 6, true, false), NOTHING);
}

#[test]
fn what_waits_can_be_given_back() {
    let mut gaps = whole();
    deliver(&mut gaps, 0, 7, 53, true, true);
    deliver(&mut gaps, 0, 8, 52, false, true);
    assert!(gaps.drain().eq([52, 53]));
    assert_eq!(gaps.drain().next(), None);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Publish(u64),
    Handle(usize),
    Wait(u64),
    /// Another process takes over, from one that has given back what it had, or has died.
    TakeOver {
        gives_back: bool,
    },
    /// The connection is lost, with so many deliveries on their way; requests may outlive it, and lose more.
    Cut {
        keeps_requests: bool,
        loses: usize,
        outage: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let cut = (any::<bool>(), 0..4_usize, prop_oneof![Just(0), 0..300_u64]);
    prop_oneof![
        4 => (1..10_u64).prop_map(Step::Publish),
        4 => (0..8_usize).prop_map(Step::Handle),
        4 => (0..30_u64).prop_map(Step::Wait),
        1 => (60..300_u64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(|gives_back| Step::TakeOver { gives_back }),
        2 => cut.prop_map(|(keeps_requests, loses, outage)| Step::Cut { keeps_requests, loses, outage }),
    ]
}

/// nats-server and a client in virtual time.
struct World {
    gaps: Gaps<u64>,
    /// False shows that the test can fail.
    heeds: bool,
    now: u64,
    published: u64,
    next_message: u64,
    next_number: u64,
    /// Messages that were delivered and not acked, by when they are due again.
    pending: BTreeMap<u64, u64>,
    known: BTreeSet<u64>,
    redeliver: VecDeque<u64>,
    /// What may still be delivered.
    requested: usize,
    /// Deliveries are lost, and so are signals.
    is_down: bool,
    is_explained: bool,
    held: Vec<u64>,
    ready: Vec<u64>,
    /// Messages as they began first.
    begun: Vec<u64>,
}

impl World {
    fn new(heeds: bool) -> Self {
        Self {
            gaps: Gaps::new(WAIT + 10, 0),
            heeds,
            now: 0,
            published: 0,
            next_message: 1,
            next_number: 1,
            pending: BTreeMap::new(),
            known: BTreeSet::new(),
            redeliver: VecDeque::new(),
            requested: 0,
            is_down: false,
            is_explained: false,
            held: Vec::new(),
            ready: Vec::new(),
            begun: Vec::new(),
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Publish(count) => self.published += count,
            Step::Handle(count) => {
                for message in self.ready.drain(..count.min(self.ready.len())) {
                    self.held.retain(|held| *held != message);
                    self.pending.remove(&message);
                    self.redeliver.retain(|other| *other != message);
                }
            }
            Step::Wait(time) => (0..time).for_each(|_| self.tick()),
            Step::TakeOver { gives_back } => {
                self.gaps = Gaps::new(WAIT + 10, self.now);
                self.requested = 0;
                self.ready.clear();
                let mut held = std::mem::take(&mut self.held);
                held.sort_unstable();
                self.redeliver.extend(held.into_iter().filter(|_| gives_back));
                self.is_explained = false;
            }
            Step::Cut {
                keeps_requests,
                loses,
                outage,
            } => {
                self.is_down = true;
                self.published += loses as u64;
                self.deliver();
                if !keeps_requests {
                    self.requested = 0;
                }
                (0..outage).for_each(|_| self.tick());
                self.is_down = false;
                self.is_explained = true;
                self.gaps.handle_doubt(self.now);
            }
        }
        self.client();
        self.deliver();
    }

    fn tick(&mut self) {
        self.now += 1;
        if !self.is_down {
            for message in &self.held {
                self.pending.insert(*message, self.now + WAIT);
            }
        }
        let due = self.pending.iter().filter(|(_, at)| **at <= self.now);
        let due: Vec<u64> = due.map(|(message, _)| *message).collect();
        for message in due {
            if !self.redeliver.contains(&message) {
                self.redeliver.push_back(message);
            }
        }
        self.client();
        self.deliver();
    }

    fn client(&mut self) {
        if self.is_down {
            return;
        }
        self.gaps.handle_timeout(self.now);
        let missing = (self.pending.len() - self.held.len()) as u64;
        let room = SLOTS.saturating_sub(self.held.len());
        let look = Look {
            missing,
            next: self.next_number,
            room: room as u64,
        };
        self.gaps.handle_look(self.now, look);
        self.take();
        let most = if self.heeds { self.gaps.most_wanted() } else { SLOTS };
        self.requested = self.requested.max(most.min(SLOTS.saturating_sub(self.held.len())));
    }

    fn deliver(&mut self) {
        while self.requested > 0 {
            let message = match self.redeliver.pop_front() {
                Some(message) => message,
                None if self.next_message <= self.published => {
                    self.next_message += 1;
                    self.next_message - 1
                }
                None => return,
            };
            self.requested -= 1;
            let number = self.next_number;
            self.next_number += 1;
            self.pending.insert(message, self.now + WAIT);
            let is_first = self.known.insert(message);
            if self.is_down {
                continue;
            }
            let delivered = Delivered {
                number,
                place: message,
                is_first,
                is_explained: std::mem::take(&mut self.is_explained),
            };
            let is_here = self.held.contains(&message);
            let is_surplus = self.held.len() >= 2 * SLOTS;
            if is_surplus && !is_here {
                self.gaps.handle_surplus(self.now, delivered);
                continue;
            }
            if !is_here {
                self.held.push(message);
            }
            self.gaps
                .handle_delivery(self.now, delivered, (!is_here).then_some(message));
            if !self.heeds {
                self.gaps.mend();
            }
            self.take();
        }
    }

    fn take(&mut self) {
        while let Some(message) = self.gaps.poll_message() {
            self.ready.push(message);
            if !self.begun.contains(&message) {
                self.begun.push(message);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is lost: messages begin in the order of the stream, and all begin.
    #[test]
    fn nothing_overtakes_what_was_lost(steps in vec(step(), 1..60)) {
        let mut world = World::new(true);
        for step in steps {
            world.run(step);
            prop_assert!(world.begun.is_sorted(), "{:?}", world.begun);
        }
        world.run(Step::Publish(1));
        while world.begun.len() < world.published as usize {
            let before = world.begun.len();
            for _ in 0..5 {
                world.run(Step::Handle(2 * SLOTS));
                world.run(Step::Wait(WAIT));
            }
            prop_assert!(world.begun.len() > before, "it goes on");
        }
        prop_assert!(world.begun.iter().copied().eq(1..=world.published), "{:?}", world.begun);
    }
}

/// The property would notice.
#[test]
fn whoever_does_not_heed_gaps_loses_the_order() {
    let mut world = World::new(false);
    world.run(Step::Publish(2));
    world.run(Step::Cut {
        keeps_requests: true,
        loses: 2,
        outage: 0,
    });
    world.run(Step::Publish(2));
    world.run(Step::Handle(SLOTS));
    world.run(Step::Wait(2 * WAIT));
    assert_eq!(world.begun, [1, 2, 5, 6, 3, 4]);
}
