//! An engine, a connection and a server in virtual time. Whatever happens, the truth is checked after each step.

use std::collections::HashMap;

use super::super::super::answer::Answer;
use super::server::{Body, Message, Mood, Server};
use super::*;

/// What a plan does next.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// So many events.
    Accept {
        count: u8,
        has_own_id: bool,
        deadline: Option<u64>,
    },
    Wait {
        millis: u64,
    },
    Mood(Mood),
    /// The connection is lost. What was on its way may still arrive: the server reads the old socket on.
    Cut {
        is_read_on: bool,
    },
    Reconnect,
    /// Messages take this much longer from now on.
    Delay {
        millis: u64,
    },
    /// Answers on their way overtake each other.
    Shuffle,
    /// Messages on their way are lost: every `nth`.
    Lose {
        nth: u8,
    },
    /// So are answers.
    LoseAnswers {
        nth: u8,
    },
    LeaderChange,
    Restart,
    Flush,
    /// Somebody waits for room, or does no more.
    Starve {
        is_starved: bool,
    },
}

#[derive(Debug)]
enum Fate {
    Acked,
    Failed { may_be_stored: bool },
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) config: Config,
    pub(super) now: u64,
    epoch: u64,
    pub(super) is_up: bool,
    pub(super) mood: Mood,
    delay: u64,
    pub(super) server: Server,
    /// When, on which connection, what.
    pub(super) sent: Vec<(u64, u64, Message)>,
    pub(super) answered: Vec<(u64, u64, Place, Answer)>,
    failed: HashMap<u64, Fate>,
    accepted: u64,
    /// So many went to the stream.
    pub(super) messages: u64,
    random: u64,
}

impl World {
    pub(super) fn new(config: Config, max_flow: u64, seed: u64) -> Self {
        Self {
            engine: Engine::new(config.clone()),
            config,
            now: 0,
            epoch: 1,
            is_up: true,
            mood: Mood::Well,
            delay: MILLI,
            server: Server::new(max_flow),
            sent: Vec::new(),
            answered: Vec::new(),
            failed: HashMap::new(),
            accepted: 0,
            messages: 0,
            random: seed,
        }
    }

    pub(super) fn run(&mut self, step: &Step) {
        match *step {
            Step::Accept {
                count,
                has_own_id,
                deadline,
            } => (0..count).for_each(|_| self.accept(has_own_id, deadline)),
            Step::Wait { millis } => self.wait(millis * MILLI),
            Step::Mood(mood) => self.mood = mood,
            Step::Cut { is_read_on } => self.cut(is_read_on),
            Step::Reconnect => self.reconnect(),
            Step::Delay { millis } => self.delay = millis * MILLI,
            Step::Shuffle => self.shuffle(),
            Step::Lose { nth } => {
                let mut index = 0;
                self.sent.retain(|_| {
                    index += 1;
                    index % usize::from(nth) != 0
                });
            }
            Step::LoseAnswers { nth } => {
                let mut index = 0;
                self.answered.retain(|_| {
                    index += 1;
                    index % usize::from(nth) != 0
                });
            }
            Step::LeaderChange => {
                let answers = self.server.change_leader(self.now);
                self.say(answers);
            }
            Step::Restart => self.server.restart(),
            Step::Flush => self.engine.hurry(),
            Step::Starve { is_starved } => self.engine.set_starved(is_starved),
        }
        self.settle();
    }

    /// All is well again; everything must come to its end.
    pub(super) fn finish(mut self) {
        self.mood = Mood::Well;
        self.delay = MILLI;
        self.reconnect();
        // The longest deadline that an event has of its own is 3 s.
        self.wait(self.config.deadline.max(3 * SECOND) + 40 * SECOND);
        assert_eq!(self.engine.counts().pending, 0, "the deadline ends everything");
        assert!(self.engine.is_over(), "{:?}", self.engine);
        assert!(self.engine.queue.is_empty() && self.engine.own_deadlines.is_empty());
        assert_eq!(self.engine.poll_timeout(), None, "nothing is due any more");
        self.check_truth();
    }

    pub(super) fn accept(&mut self, has_own_id: bool, deadline: Option<u64>) {
        let number = self.accepted;
        let mut event = Event::new("s", number.to_string());
        if has_own_id {
            event = event.message_id(format!("own-{number}"));
        }
        if let Some(millis) = deadline {
            event = event.deadline(std::time::Duration::from_millis(millis));
        }
        if !self.engine.has_room(event.size()) {
            return;
        }
        self.engine.accept(self.now, event);
        self.accepted += 1;
        self.settle();
    }

    pub(super) fn wait(&mut self, nanos: u64) {
        let end = self.now + nanos;
        loop {
            let arrivals = self.sent.iter().map(|(at, ..)| *at);
            let answers = self.answered.iter().map(|(at, ..)| *at);
            let next = arrivals.chain(answers).chain(self.engine.poll_timeout()).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.arrive();
            self.engine.handle_timeout(self.now);
            self.settle();
            assert!(
                self.engine.poll_timeout().is_none_or(|due| due > self.now),
                "what is due is done"
            );
        }
        self.now = end;
        self.engine.handle_timeout(end);
        self.settle();
    }

    fn arrive(&mut self) {
        let now = self.now;
        // Stable: a connection keeps its order.
        self.sent.sort_by_key(|(at, ..)| *at);
        while self.sent.first().is_some_and(|(at, ..)| *at <= now) {
            let (_, _, message) = self.sent.remove(0);
            let answers = self.server.take(now, self.mood, message);
            self.say(answers);
        }
        self.answered.sort_by_key(|(at, ..)| *at);
        while self.answered.first().is_some_and(|(at, ..)| *at <= now) {
            let (_, epoch, place, answer) = self.answered.remove(0);
            // The answers of a lost connection are lost; a late one to the new connection is not.
            if epoch == self.epoch && self.is_up {
                self.engine.handle_answer(now, place, answer);
                self.settle();
            }
        }
    }

    fn say(&mut self, answers: Vec<(Place, Answer)>) {
        let at = self.now + self.delay;
        let epoch = self.epoch;
        let answers = answers.into_iter().map(|(place, answer)| (at, epoch, place, answer));
        self.answered.extend(answers);
    }

    pub(super) fn cut(&mut self, is_read_on: bool) {
        if self.is_up {
            self.is_up = false;
            if !is_read_on {
                self.sent.clear();
            }
            self.engine.handle_disconnect(self.now);
        }
    }

    pub(super) fn reconnect(&mut self) {
        if !self.is_up {
            self.is_up = true;
            self.epoch += 1;
            self.engine.handle_connect(self.now);
            self.settle();
        }
    }

    fn shuffle(&mut self) {
        for index in 0..self.answered.len() {
            self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            self.answered[index].0 = self.now + (self.random >> 33) % (20 * MILLI);
        }
    }

    /// Sends what can be sent, hears what has failed, and looks at what must hold.
    pub(super) fn settle(&mut self) {
        while let Some(next) = self.engine.poll_transmit(self.now) {
            assert!(self.is_up, "nothing is sent into a lost connection");
            let place = next.place;
            let body = match next.content {
                Content::Event { payload, headers, id } => {
                    let number = number(payload);
                    let own = headers.and_then(|headers| headers.get(async_nats::header::NATS_MESSAGE_ID));
                    assert!(own.is_none() || id.is_none(), "one id is enough");
                    let id = id.map(|Given(id)| format!("bus-{id}"));
                    let id = id.or_else(|| own.map(ToString::to_string));
                    assert!(!self.failed.contains_key(&number), "a settled event is not sent");
                    Body::Event(number, id)
                }
                Content::End => Body::End,
                Content::Question(Id::Given(Given(id))) => Body::Question(format!("bus-{id}")),
                Content::Question(Id::Own(id)) => Body::Question(id.to_owned()),
            };
            assert_eq!(matches!(body, Body::End), place.operation == Operation::End);
            assert_eq!(matches!(body, Body::Question(_)), place.operation == Operation::Ask);
            // A slower connection never lets a message overtake those before it.
            let before = self.sent.iter().filter(|(_, epoch, _)| *epoch == self.epoch);
            let before = before.map(|(at, ..)| *at).max().unwrap_or(0);
            let at = (self.now + self.delay).max(before);
            self.sent.push((at, self.epoch, Message { place, body }));
            self.messages += 1;
        }
        while let Some(error) = self.engine.poll_failed() {
            let number = number(error.event().payload());
            let fate = Fate::Failed {
                may_be_stored: error.may_be_stored(),
            };
            assert!(self.failed.insert(number, fate).is_none(), "each event fails once");
        }
        let counts = self.engine.counts();
        assert_eq!(counts.accepted, self.accepted);
        assert_eq!(counts.accepted, counts.acked + counts.failed + counts.pending as u64);
        assert_eq!(counts.failed, self.failed.len() as u64);
        assert!(counts.pending <= self.config.window);
        assert!(counts.pending <= 1 || counts.pending_bytes <= self.config.window_bytes);
        assert!(self.engine.sent <= self.engine.queue.len());
    }

    /// What the stream has in the end: an event that has not failed was acked.
    fn check_truth(&self) {
        let copies = self.server.copies();
        let fate = |number: &u64| self.failed.get(number).unwrap_or(&Fate::Acked);
        for number in 0..self.accepted {
            let copies = copies.get(&number).copied().unwrap_or(0);
            if self.config.gives_ids || !self.config.repeats {
                assert!(copies <= 1, "event {number} is stored {copies} times");
            }
            match fate(&number) {
                Fate::Acked => assert!(copies >= 1, "event {number} was acked and is not there"),
                Fate::Failed { may_be_stored: false } => {
                    assert_eq!(copies, 0, "event {number} certainly was not stored, and is there");
                }
                Fate::Failed { may_be_stored: true } => {}
            }
        }
        let mut seen = std::collections::HashSet::new();
        let stored = self.server.stored.iter().filter(|number| seen.insert(**number));
        let acked: Vec<&u64> = stored.filter(|number| matches!(fate(number), Fate::Acked)).collect();
        assert!(acked.is_sorted(), "out of order: {acked:?}");
    }
}

/// Of an event.
fn number(payload: &[u8]) -> u64 {
    let digits = std::str::from_utf8(payload).expect("digits");
    digits.parse().expect("digits")
}
