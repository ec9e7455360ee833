//! Which events the bus gets, and when, without a bus: strict order over refusals, rests and restarts.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use stream_sinks::CrashImage;

use super::*;
use crate::engine::Ordering;
use crate::error::{PublishError, PublishErrorKind};
use crate::outbox::spool::{Item, Spool};
use crate::reply::PublishAck;

const SUBJECTS: [&str; 3] = ["a", "b", "c"];

/// An outbox, the stream that its events go to, and what is under way between them.
struct Play {
    image: CrashImage,
    feeder: Feeder,
    window: usize,
    in_bus: Vec<(Turn, Event)>,
    accepted: Vec<u64>,
    stored: Vec<u64>,
    rejected: BTreeSet<u64>,
}

fn feeder(image: &CrashImage, window: usize) -> Feeder {
    let spool = Spool::on(Arc::new(image.clone()), Path::new("/spool"), false, 8000).expect("open");
    let deliveries = Deliveries::new(spool, false, Ordering::Strict, Some(Box::new(|_| {})));
    let config = FeederConfig {
        window,
        window_bytes: 1 << 20,
        is_durable: false,
    };
    let (routes, stops) = (watch::Sender::new(None), watch::Sender::new(false));
    Feeder::new(Arc::new(deliveries), config, routes.subscribe(), stops.subscribe())
}

fn number(event: &Event) -> u64 {
    let payload = std::str::from_utf8(event.payload()).expect("text");
    payload.parse().expect("a number")
}

/// Which subject it has.
fn subject(number: u64) -> usize {
    (number % 3) as usize
}

impl Play {
    fn new(window: usize) -> Self {
        let image = CrashImage::new();
        Self {
            feeder: feeder(&image, window),
            image,
            window,
            in_bus: Vec::new(),
            accepted: Vec::new(),
            stored: Vec::new(),
            rejected: BTreeSet::new(),
        }
    }

    /// The next event of this subject, if there is room for it.
    fn put(&mut self, subject: usize) {
        let number = (self.accepted.len() * 3 + subject) as u64;
        let event = Event::new(SUBJECTS[subject], format!("{number:040}")).message_id(number.to_string());
        let put = self.feeder.deliveries.spool.put(Item { event, watch: None });
        if matches!(put, Ok(None)) {
            self.accepted.push(number);
        }
    }

    /// The bus gets what it may have.
    async fn take(&mut self) -> bool {
        let Some((turn, event)) = self.feeder.take().await else {
            return false;
        };
        self.in_bus.push((turn, event));
        for name in SUBJECTS {
            let own = self.in_bus.iter().filter(|(_, event)| event.subject() == name).count();
            assert!(own <= 1, "{own} events of one subject are in the bus");
        }
        assert!(self.in_bus.len() <= self.window);
        true
    }

    fn store(&mut self, number: u64) {
        if !self.stored.contains(&number) {
            self.stored.push(number);
        }
    }

    /// The stream takes it, or refuses it as it did before.
    fn ack(&mut self, which: usize) {
        let (turn, event) = self.in_bus.swap_remove(which);
        if self.rejected.contains(&number(&event)) {
            return self.settle(turn, event, PublishErrorKind::Rejected);
        }
        self.store(number(&event));
        let ack = PublishAck {
            stream: "S".into(),
            sequence: 1,
            is_duplicate: false,
            domain: None,
        };
        self.feeder.deliveries.settle(turn, Ok(ack));
    }

    fn refuse(&mut self, which: usize, kind: PublishErrorKind) {
        let (turn, event) = self.in_bus.swap_remove(which);
        self.settle(turn, event, kind);
    }

    fn settle(&self, turn: Turn, event: Event, kind: PublishErrorKind) {
        self.feeder
            .deliveries
            .settle(turn, Err(PublishError::unsent(event, kind)));
    }

    /// It is never stored.
    fn reject(&mut self, which: usize) {
        let number = number(&self.in_bus[which].1);
        if !self.stored.contains(&number) {
            self.rejected.insert(number);
            self.refuse(which, PublishErrorKind::Rejected);
        }
    }

    /// Old ones are set aside, and what is done is forgotten.
    fn tidy(&self) {
        let deliveries = &self.feeder.deliveries;
        let before = deliveries.ledger.lock().next();
        deliveries.set_aside(before);
        assert!(deliveries.forget().is_some());
    }

    /// The process dies, and another one begins. Every other one that was under way has reached the stream.
    fn restart(&mut self, first: usize) {
        let numbers: Vec<u64> = self.in_bus.iter().map(|(_, event)| number(event)).collect();
        for number in numbers.into_iter().skip(first % 2).step_by(2) {
            if !self.rejected.contains(&number) {
                self.store(number);
            }
        }
        self.in_bus.clear();
        self.image = self.image.killed();
        self.feeder = feeder(&self.image, self.window);
    }

    /// Of a subject, as the stream has them.
    fn stored_of(&self, own: usize) -> Vec<u64> {
        let stored = self.stored.iter().copied();
        stored.filter(|number| subject(*number) == own).collect()
    }
}

#[tokio::test]
async fn what_a_full_stream_refused_is_not_passed_nor_after_a_restart() {
    let mut play = Play::new(100);
    [0, 1, 0, 1].into_iter().for_each(|subject| play.put(subject));
    assert!(play.take().await && play.take().await && !play.take().await);
    // It rests for two seconds.
    play.refuse(0, PublishErrorKind::StreamFull);
    play.put(0);
    play.put(2);
    play.ack(0);
    while play.take().await {}
    let in_bus: Vec<&str> = play.in_bus.iter().map(|(_, event)| event.subject()).collect();
    assert_eq!(in_bus, ["b", "c"], "the other subjects go on");
    assert!(play.feeder.deliveries.turns.lock().wake_at().is_some());
    play.ack(1);
    play.ack(0);
    play.tidy();
    play.restart(0);
    play.put(0);
    while play.take().await || !play.in_bus.is_empty() {
        play.ack(0);
    }
    assert_eq!(play.stored_of(0), [0, 6, 12, 18]);
}

#[tokio::test]
async fn what_is_refused_for_good_frees_its_place() {
    let mut play = Play::new(1);
    (0..3).for_each(|_| play.put(0));
    for _ in 0..2 {
        assert!(play.take().await && !play.take().await, "one at a time");
        play.reject(0);
    }
    assert!(play.take().await);
    play.ack(0);
    assert_eq!((play.stored_of(0), play.rejected.len()), (vec![6], 2));
    assert_eq!(play.feeder.deliveries.pending(), 0);
}

#[tokio::test]
async fn the_window_is_bounded_in_events_and_in_bytes() {
    for (window, bytes) in [(4, 1 << 20), (1000, 200)] {
        let mut play = Play::new(window);
        play.feeder.config.window_bytes = bytes;
        (0..40).for_each(|_| play.put(0));
        assert!(play.take().await && !play.take().await);
        // The others are in the files, or wait in the memory of the spool.
        let handed_over = play.feeder.deliveries.ledger.lock().next();
        assert!((2..=5).contains(&handed_over), "{handed_over}");
        for left in (0..40).rev() {
            play.ack(0);
            assert_eq!(play.take().await, left > 0);
        }
        assert!(play.stored.is_sorted() && play.stored.len() == 40);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize),
    Take,
    Ack(usize),
    /// The bus is gone; the stream may have it.
    Lose(usize, bool),
    Reject(usize),
    Tidy,
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let which = any::<usize>;
    prop_oneof![
        8 => (0..3_usize).prop_map(Step::Put),
        8 => Just(Step::Take),
        5 => which().prop_map(Step::Ack),
        3 => (which(), any::<bool>()).prop_map(|(which, is_stored)| Step::Lose(which, is_stored)),
        1 => which().prop_map(Step::Reject),
        1 => Just(Step::Tidy),
        1 => which().prop_map(Step::Restart),
    ]
}

async fn play(window: usize, steps: Vec<Step>) -> Play {
    let mut play = Play::new(window);
    for step in steps {
        let len = play.in_bus.len();
        match step {
            Step::Put(subject) => play.put(subject),
            Step::Take => drop(play.take().await),
            Step::Tidy => play.tidy(),
            Step::Restart(first) => play.restart(first),
            Step::Ack(_) | Step::Lose(..) | Step::Reject(_) if len == 0 => {}
            Step::Ack(which) => play.ack(which % len),
            Step::Reject(which) => play.reject(which % len),
            Step::Lose(which, is_stored) => {
                let number = number(&play.in_bus[which % len].1);
                if is_stored && !play.rejected.contains(&number) {
                    play.store(number);
                }
                play.refuse(which % len, PublishErrorKind::Closed);
            }
        }
    }
    while play.take().await || !play.in_bus.is_empty() {
        play.ack(0);
    }
    play
}

proptest! {
    /// Each subject is stored as it was accepted, each event once, whatever was lost, refused for good, set aside or found by the
    /// next process.
    #[test]
    fn strict_order_outlives_everything(window in 1..20_usize, steps in prop::collection::vec(step(), 1..150)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let play = runtime.block_on(play(window, steps));
        for own in 0..3 {
            let accepted = play.accepted.iter().copied().filter(|number| subject(*number) == own);
            let expected: Vec<u64> = accepted.filter(|number| !play.rejected.contains(number)).collect();
            prop_assert_eq!(play.stored_of(own), expected);
        }
        prop_assert_eq!(play.feeder.deliveries.pending(), 0);
    }
}
