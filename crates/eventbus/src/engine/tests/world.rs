//! An engine, a connection and a broker in virtual time. Whatever happens, the truth is checked after each step.

use std::collections::HashMap;

use super::broker::{Answer, Broker, Mood};
use super::*;
use crate::reply::Stored;

/// What a plan does next. `Ticks` of time pass only in `Wait`.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// So many events, to one of four subjects.
    Accept {
        count: u8,
        subject: u8,
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
    /// Answers come this much later from now on, and some twice.
    Delay {
        millis: u64,
        repeats: bool,
    },
    /// Messages on their way overtake each other: other servers, other routes.
    Shuffle,
}

/// On its way to the broker.
#[derive(Debug)]
struct Sent {
    at: u64,
    epoch: u64,
    token: Token,
    subject: String,
    number: u64,
    id: Option<String>,
}

/// On its way back.
#[derive(Debug)]
struct Answered {
    at: u64,
    epoch: u64,
    token: Token,
    answer: Answer,
}

#[derive(Debug)]
enum Fate {
    Acked { sequence: u64 },
    Failed { may_be_stored: bool },
}

#[derive(Debug)]
pub(super) struct World {
    engine: Engine<u64>,
    config: EngineConfig,
    now: u64,
    epoch: u64,
    is_up: bool,
    mood: Mood,
    delay: u64,
    repeats: bool,
    broker: Broker,
    sent: Vec<Sent>,
    answered: Vec<Answered>,
    fates: HashMap<u64, Fate>,
    accepted: u64,
    own_ids: HashMap<u64, bool>,
    random: u64,
}

const SUBJECTS: [&str; 4] = ["a", "b", "c", "d"];

impl World {
    pub(super) fn new(config: EngineConfig, seed: u64) -> Self {
        Self {
            engine: Engine::new(config.clone(), 0),
            config,
            now: 0,
            epoch: 1,
            is_up: true,
            mood: Mood::Well,
            delay: MILLI,
            repeats: false,
            broker: Broker::default(),
            sent: Vec::new(),
            answered: Vec::new(),
            fates: HashMap::new(),
            accepted: 0,
            own_ids: HashMap::new(),
            random: seed,
        }
    }

    pub(super) fn run(&mut self, step: &Step) {
        match *step {
            Step::Accept {
                count,
                subject,
                has_own_id,
                deadline,
            } => {
                for _ in 0..count {
                    let subject = SUBJECTS[usize::from(subject) % SUBJECTS.len()];
                    self.accept(subject, has_own_id, deadline);
                }
            }
            Step::Wait { millis } => self.wait(millis * MILLI),
            Step::Mood(mood) => self.mood = mood,
            Step::Cut { is_read_on } => self.cut(is_read_on),
            Step::Reconnect => self.reconnect(),
            Step::Delay { millis, repeats } => {
                self.delay = millis * MILLI;
                self.repeats = repeats;
            }
            Step::Shuffle => self.shuffle(),
        }
        self.settle();
    }

    /// All is well again; everything must come to its end.
    pub(super) fn finish(mut self) {
        self.mood = Mood::Well;
        self.delay = MILLI;
        self.reconnect();
        // The longest deadline that an event has of its own is 3 s.
        self.wait(self.config.deadline.max(3 * SECOND) + SECOND);
        self.settle();
        assert_eq!(self.engine.counts().pending, 0, "the deadline ends everything");
        assert_eq!(self.engine.oldest(), None);
        assert_eq!(self.engine.in_flight, 0);
        assert!(!self.engine.is_ready());
        assert!(self.engine.lanes.is_empty());
        assert_eq!(self.engine.poll_timeout(), None, "nothing is due any more");
        self.check_truth();
    }

    fn accept(&mut self, subject: &'static str, has_own_id: bool, deadline: Option<u64>) {
        let number = self.accepted;
        let mut event = Event::new(subject, number.to_string());
        if has_own_id {
            event = event.message_id(format!("own-{number}"));
        }
        if let Some(millis) = deadline {
            event = event.deadline(std::time::Duration::from_millis(millis));
        }
        if !self.engine.has_room(event.size()) {
            return;
        }
        self.engine.accept(self.now, event, Some(number));
        self.accepted += 1;
        self.own_ids.insert(number, has_own_id);
        self.settle();
    }

    fn wait(&mut self, nanos: u64) {
        let end = self.now + nanos;
        loop {
            let arrivals = self.sent.iter().map(|sent| sent.at);
            let answers = self.answered.iter().map(|answered| answered.at);
            let next = arrivals.chain(answers).chain(self.engine.poll_timeout()).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.arrive();
            self.engine.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
        self.engine.handle_timeout(end);
        self.settle();
    }

    /// What has arrived on either side by now, in the order in which it does.
    fn arrive(&mut self) {
        let now = self.now;
        self.sent.sort_by_key(|sent| sent.at);
        while self.sent.first().is_some_and(|sent| sent.at <= now) {
            let sent = self.sent.remove(0);
            let answer = self.broker.publish(self.mood, &sent.subject, sent.number, sent.id);
            if answer == Answer::Nothing {
                continue;
            }
            for copy in 0..=u64::from(self.repeats) {
                self.answered.push(Answered {
                    at: now + self.delay * (1 + copy),
                    epoch: self.epoch,
                    token: sent.token,
                    answer: answer.clone(),
                });
            }
        }
        self.answered.sort_by_key(|answered| answered.at);
        while self.answered.first().is_some_and(|answered| answered.at <= now) {
            let Answered {
                epoch, token, answer, ..
            } = self.answered.remove(0);
            // The answers of a lost connection are lost; a late one to the new connection is not.
            if epoch == self.epoch && self.is_up {
                self.answer(token, &answer);
            }
        }
    }

    fn answer(&mut self, token: Token, answer: &Answer) {
        match answer {
            Answer::Stored { sequence, is_duplicate } => {
                let stored = Stored {
                    stream: std::borrow::Cow::Borrowed("S"),
                    sequence: *sequence,
                    is_duplicate: *is_duplicate,
                    domain: None,
                };
                self.engine.handle_stored(token, stored);
            }
            Answer::Refused(refusal) => self.engine.handle_refusal(self.now, token, refusal.clone()),
            Answer::Nothing => return,
        }
        self.settle();
    }

    fn cut(&mut self, is_read_on: bool) {
        if self.is_up {
            self.is_up = false;
            if !is_read_on {
                self.sent.clear();
            }
            self.engine.handle_disconnect(self.epoch);
        }
    }

    fn reconnect(&mut self) {
        if !self.is_up {
            self.is_up = true;
            self.epoch += 1;
        }
    }

    fn shuffle(&mut self) {
        for index in 0..self.sent.len() {
            self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            self.sent[index].at = self.now + (self.random >> 33) % (20 * MILLI);
        }
    }

    /// Sends what can be sent, hears what has become of events, and looks at what must hold.
    fn settle(&mut self) {
        while self.is_up
            && let Some(next) = self.engine.poll_transmit(self.now, self.epoch)
        {
            let number: u64 = std::str::from_utf8(next.payload)
                .expect("digits")
                .parse()
                .expect("digits");
            let own = next
                .headers
                .and_then(|headers| headers.get(async_nats::header::NATS_MESSAGE_ID));
            assert!(own.is_none() || next.id.is_none(), "one id is enough");
            let id = own
                .map(ToString::to_string)
                .or_else(|| next.id.map(|id| format!("bus-{id}")));
            let is_expected = self.config.dedup == Dedup::Id || self.own_ids[&number];
            assert_eq!(id.is_some(), is_expected, "each event has its id");
            assert!(!self.fates.contains_key(&number), "a settled event is not sent");
            self.sent.push(Sent {
                at: self.now + self.delay,
                epoch: self.epoch,
                token: next.token,
                subject: next.subject.to_string(),
                number,
                id,
            });
        }
        while let Some(settled) = self.engine.poll_settled() {
            let number = settled.watcher.expect("each has a watcher");
            let fate = match settled.outcome {
                Ok(ack) => Fate::Acked { sequence: ack.sequence },
                Err(error) => {
                    assert_eq!(
                        error.event().payload(),
                        &number.to_string(),
                        "the event itself comes back"
                    );
                    Fate::Failed {
                        may_be_stored: error.may_be_stored(),
                    }
                }
            };
            if let Fate::Acked { sequence } = fate {
                let stored = &self.broker.stored[sequence as usize - 1];
                assert_eq!(stored.number, number, "what is acked is stored, and is this event");
            }
            assert!(self.fates.insert(number, fate).is_none(), "each event is settled once");
        }
        let counts = self.engine.counts();
        assert_eq!(counts.accepted, self.accepted);
        assert_eq!(counts.accepted, counts.acked + counts.failed + counts.pending as u64);
        assert_eq!(counts.acked + counts.failed, self.fates.len() as u64);
        assert!(counts.pending <= self.config.window);
        assert!(counts.pending <= 1 || counts.pending_bytes <= self.config.window_bytes);
        assert!(self.sent.iter().all(|sent| sent.epoch <= self.epoch));
    }

    /// What the stream has in the end.
    fn check_truth(&self) {
        let mut copies: HashMap<u64, u64> = HashMap::new();
        for stored in &self.broker.stored {
            *copies.entry(stored.number).or_default() += 1;
        }
        for number in 0..self.accepted {
            let copies = copies.get(&number).copied().unwrap_or(0);
            assert!(copies <= 1, "event {number} is stored {copies} times");
            match &self.fates[&number] {
                Fate::Acked { .. } => assert_eq!(copies, 1, "event {number} was acked and is not there"),
                Fate::Failed { may_be_stored: false } => {
                    assert_eq!(copies, 0, "event {number} certainly was not stored, and is there");
                }
                Fate::Failed { may_be_stored: true } => {}
            }
        }
        if self.config.ordering == Ordering::Strict {
            for subject in SUBJECTS {
                let acked = |number: &u64| matches!(self.fates[number], Fate::Acked { .. });
                let of_subject = self.broker.stored.iter().filter(|stored| stored.subject == subject);
                let numbers: Vec<u64> = of_subject.map(|stored| stored.number).filter(acked).collect();
                assert!(numbers.is_sorted(), "`{subject}` is out of order: {numbers:?}");
            }
        }
    }
}
