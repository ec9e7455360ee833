//! nats-server's side of fast ingest, with gaps not allowed: written from `server/stream.go` and `jetstream_batching.go`.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::super::super::answer::Answer;
use super::super::super::place::{Operation, Place};
use super::SECOND;
use crate::reply::Refusal;

/// After which silence a batch is forgotten.
const FORGETS: u64 = 10 * SECOND;

/// A leader without a majority steps down. It forgets batches before: when their events come again, it takes what it has only
/// proposed for duplicates, and tells of them as stored.
const STEPS_DOWN: u64 = 20 * SECOND;

/// How the stream is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// No leader.
    NoResponders,
    /// Its queue is full: 429.
    Busy,
    /// It loses what comes.
    Deaf,
    /// What it says is lost.
    Mute,
    /// It refuses for good.
    Full,
    /// It takes everything, and stores it when the followers answer again.
    Lags,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) place: Place,
    pub(super) body: Body,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Event(u64, Option<String>),
    /// Of a batch.
    End,
    /// A message with this id that expects what never is so.
    Question(String),
}

#[derive(Debug, Default)]
struct Batch {
    last: u64,
    persisted: u64,
    told: u64,
    flow: u64,
    pending: usize,
    commits: bool,
    touched: u64,
    reply: Option<Place>,
}

#[derive(Debug, Default)]
pub(super) struct Server {
    /// The numbers of events, as they are in the stream.
    pub(super) stored: Vec<u64>,
    ids: HashSet<String>,
    /// Proposed, and not stored yet.
    proposed: VecDeque<(Place, u64, Option<String>)>,
    batches: BTreeMap<u64, Batch>,
    lags_since: Option<u64>,
    max_flow: u64,
}

type Answers = Vec<(Place, Answer)>;

fn refusal(code: u16, err_code: u16, description: &str) -> Refusal {
    Refusal {
        code,
        err_code,
        description: description.to_owned(),
    }
}

impl Server {
    pub(super) fn new(max_flow: u64) -> Self {
        Self {
            max_flow,
            ..Self::default()
        }
    }

    pub(super) fn take(&mut self, now: u64, mood: Mood, message: Message) -> Answers {
        let mut answers = self.pass(now);
        let place = message.place;
        match mood {
            Mood::Deaf => {}
            Mood::NoResponders => answers.push((place, Answer::Refused(Refusal::no_responders()))),
            Mood::Busy => answers.push((place, Answer::Refused(refusal(429, 10167, "too many requests")))),
            _ => {
                if mood != Mood::Lags {
                    answers.extend(self.catch_up(now));
                } else if self.lags_since.is_none() {
                    self.lags_since = Some(now);
                }
                self.process(now, mood, message, &mut answers);
            }
        }
        if mood == Mood::Mute { Vec::new() } else { answers }
    }

    /// What time does.
    fn pass(&mut self, now: u64) -> Answers {
        self.batches
            .retain(|_, batch| batch.commits || now < batch.touched + FORGETS);
        match self.lags_since {
            Some(since) if now >= since + STEPS_DOWN => self.change_leader(now),
            _ => Vec::new(),
        }
    }

    fn process(&mut self, now: u64, mood: Mood, message: Message, answers: &mut Answers) {
        let Message { place, body } = message;
        let others = self.batches.len();
        if !self.batches.contains_key(&place.batch) {
            if place.sequence != 1 {
                answers.push((place, Answer::Refused(refusal(400, 10208, "batch publish ID unknown"))));
                return;
            }
            let flow = if others > 0 { 1 } else { self.max_flow };
            let batch = Batch {
                flow,
                ..Batch::default()
            };
            self.batches.insert(place.batch, batch);
        }
        let proposed = &self.proposed;
        let is_proposed = |id: &String| proposed.iter().any(|(_, _, other)| other.as_ref() == Some(id));
        let batch = self.batches.get_mut(&place.batch).expect("it is there");
        batch.touched = now;
        if batch.commits {
            return;
        }
        if place.sequence != batch.last + 1 {
            if place.sequence > batch.last + 1 {
                answers.push((place, Answer::Gap));
            }
            return self.commit(place, answers);
        }
        let (number, id) = match body {
            Body::Event(number, id) => (number, id),
            Body::End => return self.commit(place, answers),
            Body::Question(id) => {
                let is_stored = self.ids.contains(&id);
                let is_proposed = is_proposed(&id);
                return self.answer(place, is_stored, is_proposed, answers);
            }
        };
        batch.last += 1;
        if place.operation == Operation::Start {
            answers.push((
                place,
                Answer::Flow {
                    told: 0,
                    flow: batch.flow,
                },
            ));
        }
        if id.as_ref().is_some_and(|id| self.ids.contains(id) || is_proposed(id)) {
            if batch.pending == 0 {
                batch.persisted = place.sequence;
                batch.flow_control(place, self.max_flow, answers);
            }
            return;
        }
        if mood == Mood::Full {
            let full = refusal(503, 10077, "maximum messages exceeded");
            if batch.last == 1 {
                answers.push((place, Answer::Refused(full)));
                self.batches.remove(&place.batch);
                return;
            }
            let sequence = place.sequence;
            answers.push((
                place,
                Answer::Failed {
                    sequence,
                    refusal: full,
                },
            ));
            batch.last -= 1;
            return self.commit(place, answers);
        }
        batch.pending += 1;
        self.proposed.push_back((place, number, id));
        if mood != Mood::Lags {
            answers.extend(self.catch_up(now));
        }
    }

    /// A batch of one message that is not stored, whatever comes. It may be told of like any other duplicate before.
    fn answer(&mut self, place: Place, is_stored: bool, is_proposed: bool, answers: &mut Answers) {
        assert_eq!((place.sequence, place.operation), (1, Operation::Ask));
        let mut batch = self.batches.remove(&place.batch).expect("it is there");
        if is_stored || is_proposed {
            batch.persisted = 1;
            batch.flow_control(place, self.max_flow, answers);
        }
        let answer = match (is_stored, is_proposed) {
            (true, _) => Answer::Duplicate,
            (_, true) => Answer::Refused(refusal(409, 10158, "duplicate message id is in process")),
            _ => Answer::Refused(refusal(400, 10071, "wrong last sequence: 0")),
        };
        answers.push((place, answer));
    }

    fn commit(&mut self, place: Place, answers: &mut Answers) {
        let batch = self.batches.get_mut(&place.batch).expect("it is there");
        batch.commits = true;
        if batch.pending == 0 {
            let count = batch.last;
            self.batches.remove(&place.batch);
            answers.push((place, Answer::Ended { count }));
        }
    }

    /// Stores what was proposed.
    fn catch_up(&mut self, now: u64) -> Answers {
        self.lags_since = None;
        let mut answers = Vec::new();
        while let Some((place, event, id)) = self.proposed.pop_front() {
            self.stored.push(event);
            self.ids.extend(id);
            let Some(batch) = self.batches.get_mut(&place.batch) else {
                // Forgotten meanwhile: it is taken up again.
                let batch = Batch {
                    last: place.sequence,
                    persisted: place.sequence,
                    flow: self.max_flow,
                    touched: now,
                    reply: Some(place),
                    ..Batch::default()
                };
                self.batches.insert(place.batch, batch);
                continue;
            };
            batch.reply = Some(place);
            batch.pending = batch.pending.saturating_sub(1);
            batch.persisted = if batch.pending == 0 { batch.last } else { place.sequence };
            if batch.commits && batch.persisted == batch.last {
                answers.push((place, Answer::Ended { count: batch.last }));
                self.batches.remove(&place.batch);
            } else {
                batch.flow_control(place, self.max_flow, &mut answers);
            }
        }
        answers
    }

    /// What was only proposed is gone; what was stored of a batch is known.
    pub(super) fn change_leader(&mut self, now: u64) -> Answers {
        self.lags_since = None;
        self.proposed.clear();
        self.batches.retain(|_, batch| batch.persisted > 0);
        let flow = if self.batches.len() > 1 { 1 } else { self.max_flow };
        let mut answers = Vec::new();
        for batch in self.batches.values_mut() {
            batch.pending = 0;
            batch.commits = false;
            batch.touched = now;
            batch.flow = flow;
            (batch.last, batch.told) = (batch.persisted, batch.persisted);
            let told = batch.persisted;
            answers.extend(batch.reply.map(|reply| (reply, Answer::Flow { told, flow })));
        }
        answers
    }

    /// Killed, and back: it knows the stream, and no batch.
    pub(super) fn restart(&mut self) {
        self.batches.clear();
        self.proposed.clear();
        self.lags_since = None;
    }

    /// How many are proposed, and not stored.
    pub(super) fn proposed(&self) -> usize {
        self.proposed.len()
    }

    pub(super) fn copies(&self) -> HashMap<u64, u64> {
        let mut copies = HashMap::new();
        for number in &self.stored {
            *copies.entry(*number).or_default() += 1;
        }
        copies
    }
}

impl Batch {
    fn flow_control(&mut self, place: Place, max: u64, answers: &mut Answers) {
        if self.persisted < self.told + self.flow {
            return;
        }
        let steps = (self.persisted - self.told) / self.flow;
        self.told += steps * self.flow;
        self.flow = (self.flow * 2).min(max);
        answers.push((
            place,
            Answer::Flow {
                told: self.told,
                flow: self.flow,
            },
        ));
    }
}
