//! The batch: when it ends, and what follows from it.

use std::collections::BTreeMap;

use async_nats::subject::Subject;

use super::super::place::{Operation, Place};
use super::{Config, Engine, Entry};
use crate::error::PublishErrorKind;
use crate::pause::pause;
use crate::reply::{Meaning, Refusal};

/// How often an end that nobody answers is sent: longer than a leader without a majority thinks that it is one. The next one
/// knows the batch, and whatever is in doubt without an id is lost.
const TRIES: u32 = 6;

/// After which silence nats-server forgets a batch. A leader that stores what it has proposed only then takes the batch up
/// again, with the first of its messages and without those behind it, and counts too few.
const FORGETS: u64 = 10_000_000_000;

/// One batch.
#[derive(Debug)]
pub(super) struct Batch {
    number: u64,
    /// Where its end goes: to a subject that the stream takes.
    pub(super) subject: Subject,
    /// The place of its next message.
    pub(super) next: u64,
    /// The stream tells how far it is after so many messages.
    pub(super) flow: u64,
    /// The last place of which the stream has said so.
    pub(super) told: u64,
    /// The stream has refused these, whatever it says of later ones.
    pub(super) holes: BTreeMap<u64, Refusal>,
    pub(super) phase: Phase,
    /// When the last event was sent.
    pub(super) sent_at: u64,
    /// When the stream has told of progress, or the first event was sent for which it has not.
    pub(super) progress_at: u64,
    /// Something of it is in the stream.
    pub(super) is_fruitful: bool,
    /// It has one event only: the batch before was refused, and so may this one be.
    pub(super) is_probe: bool,
    /// The connection was lost meanwhile.
    pub(super) was_cut: bool,
    /// The place of the last event that the stream may take for a duplicate; 0 if there is none.
    pub(super) weak: u64,
    /// That of the last one which proves those before it; 0 if there is none.
    pub(super) proof: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first message is sent, and not answered.
    Starting,
    Open,
    /// No event follows. The end is sent when it is `due`, and was sent so many times without an answer.
    Closing {
        due: u64,
        tries: u32,
        /// How often nobody took it.
        refused: u32,
    },
}

impl Phase {
    /// The end is to be sent at `due`, for the first time.
    pub(super) fn closing(due: u64) -> Self {
        Self::Closing {
            due,
            tries: 0,
            refused: 0,
        }
    }
}

impl Batch {
    pub(super) fn new(number: u64, subject: Subject, is_probe: bool, now: u64) -> Self {
        Self {
            is_probe,
            was_cut: false,
            number,
            subject,
            next: 1,
            flow: 0,
            told: 0,
            holes: BTreeMap::new(),
            phase: Phase::Starting,
            sent_at: now,
            progress_at: now,
            is_fruitful: false,
            weak: 0,
            proof: 0,
        }
    }

    pub(super) fn place(&self, sequence: u64, operation: Operation) -> Place {
        Place {
            batch: self.number,
            sequence,
            operation,
        }
    }

    /// May another message be under way?
    pub(super) fn has_credit(&self, outstanding: u64) -> bool {
        self.next - 1 < self.told.saturating_add(self.flow.saturating_mul(outstanding))
    }

    /// Was its first event refused, which ends a batch before it has begun?
    ///
    /// The stream answers to the first message before it looks at the event, so that others may have followed.
    pub(super) fn is_stillborn(&self) -> bool {
        self.told == 0 && self.holes.contains_key(&1) && !self.was_cut
    }

    /// Has the stream told of all that was sent?
    pub(super) fn is_told(&self) -> bool {
        self.told + 1 == self.next && self.holes.is_empty()
    }

    /// No event follows; the end is sent then, unless that is planned for earlier.
    pub(super) fn close(&mut self, at: u64) {
        self.phase = match self.phase {
            Phase::Closing {
                due,
                tries: 0,
                refused: 0,
            } => Phase::closing(due.min(at)),
            Phase::Closing { .. } => return,
            Phase::Starting | Phase::Open => Phase::closing(at),
        };
    }
}

impl Engine {
    /// Is this the batch that is under way?
    pub(super) fn is_current(&self, place: Place) -> bool {
        self.batch.as_ref().is_some_and(|batch| batch.number == place.batch)
    }

    /// When something is due for the batch.
    pub(super) fn batch_due(&self, batch: &Batch) -> Option<u64> {
        let Config {
            linger,
            patience,
            answer_timeout,
            ..
        } = self.config;
        match batch.phase {
            Phase::Starting => Some(batch.sent_at.saturating_add(answer_timeout)),
            Phase::Open => {
                let is_idle = self.sent == self.queue.len();
                let idle = is_idle.then(|| batch.sent_at.saturating_add(linger));
                let stalled = (self.sent > 0).then(|| batch.progress_at.saturating_add(patience));
                idle.into_iter().chain(stalled).min()
            }
            // Nothing can be sent before the connection is back.
            Phase::Closing { due, .. } => self.is_up.then_some(due),
        }
    }

    /// Ends the batch when all that somebody waits for is in it, or nothing follows that would prove what is in it, or make the
    /// stream tell of it.
    pub(super) fn close_if_done(&mut self, now: u64) {
        let Some(batch) = &mut self.batch else {
            return;
        };
        let hurry = |number: u64| number < self.hurry_before;
        let waits = self.sent > 0 && self.queue.front().is_some_and(|first| hurry(first.number));
        let is_sent = self.queue.get(self.sent).is_none_or(|next| !hurry(next.number));
        let is_unproven = batch.weak > batch.proof;
        let is_stuck = self.is_starved && self.sent > 0 && batch.next - 1 - batch.told < batch.flow;
        let is_all = self.sent == self.queue.len();
        if batch.phase == Phase::Open && (waits && is_sent || is_all && (is_unproven || is_stuck)) {
            batch.close(now);
        }
    }

    /// Does what is due for the batch.
    pub(super) fn batch_timeout(&mut self, now: u64) {
        let Some(batch) = &self.batch else {
            return;
        };
        if self.batch_due(batch).is_none_or(|due| due > now) {
            return;
        }
        // Where all of it is told, the end is a courtesy: nobody waits for the answer.
        let most = if batch.is_told() { 1 } else { TRIES };
        let gives_up = matches!(batch.phase, Phase::Closing { tries, .. } if tries >= most);
        if gives_up {
            self.resolve(now, None);
        } else if let Some(batch) = &mut self.batch {
            batch.close(now);
        }
    }

    /// Settles what the stream has told, up to its first hole, and as far as that is proven.
    pub(super) fn advance(&mut self, told: u64) {
        let first = self.first_sequence();
        let Some(batch) = &mut self.batch else {
            return;
        };
        // What was never sent, nobody can have.
        let told = told.min(batch.next - 1);
        batch.told = batch.told.max(told);
        let known = match batch.holes.first_key_value() {
            Some((hole, _)) => batch.told.min(hole - 1),
            None => batch.told,
        };
        batch.is_fruitful |= known >= first;
        let told = usize::try_from((known + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        for _ in 0..self.proven(told) {
            self.ack_front();
        }
    }

    /// The batch is over. `count`: the stream has so many of its messages; `None`: nobody knows.
    pub(super) fn resolve(&mut self, now: u64, count: Option<u64>) {
        let first = self.first_sequence();
        let Some(batch) = self.batch.take() else {
            return;
        };
        let last = batch.next - 1;
        let told = batch.told.max(count.unwrap_or(0)).min(last);
        let is_late = now >= batch.sent_at.saturating_add(FORGETS) && !batch.is_stillborn();
        let proof = (first..=told).rev().find(|sequence| {
            let entry = self.queue.get((sequence - first) as usize);
            !batch.holes.contains_key(sequence) && entry.is_some_and(Entry::is_proof)
        });
        let proof = proof.unwrap_or(0);
        let mut is_fruitful = batch.is_fruitful;
        let is_refused = !batch.holes.is_empty();
        let (mut index, mut rests, mut is_held) = (0, false, false);
        for sequence in first..=last {
            if let Some(refusal) = batch.holes.get(&sequence) {
                rests |= self.refuse(index, refusal.clone());
                index += 1;
            } else if sequence <= told {
                is_fruitful = true;
                if sequence > proof && self.queue.get(index).is_some_and(Entry::is_weak) {
                    self.hold(index);
                    is_held = true;
                    index += 1;
                } else if index == 0 {
                    self.ack_front();
                } else {
                    self.ack_at(index);
                    index += 1;
                }
            } else {
                if count.is_none() || is_late {
                    self.doubt(index);
                }
                index += 1;
            }
        }
        self.sent = 0;
        // Those that are settled behind one that is not.
        self.trim();
        if is_held {
            self.plan_question(now);
        }
        self.is_careful = is_refused || !is_fruitful;
        self.fruitless = if is_fruitful {
            0
        } else {
            self.fruitless.saturating_add(1)
        };
        // An event that was refused for good is a reason to fail, and none to wait.
        if rests || !is_fruitful && !is_refused {
            let pause = self.pause(self.fruitless.saturating_sub(1));
            self.rests_until = Some(now.saturating_add(pause));
        }
    }

    /// The stream has an event that is behind one that it has not.
    pub(super) fn ack_at(&mut self, index: usize) {
        let Some(entry) = self.queue.get_mut(index) else {
            return;
        };
        let (number, deadline, size) = (entry.number, entry.deadline, entry.size);
        if let Some(event) = entry.event.take() {
            self.counts.acked += 1;
            self.leave(number, deadline, size, &event);
        }
    }

    /// The stream has refused the event at this place. Does it go again, after a pause?
    fn refuse(&mut self, index: usize, refusal: Refusal) -> bool {
        let kind = match refusal.meaning() {
            Meaning::Later | Meaning::InProcess => None,
            Meaning::Full => Some(PublishErrorKind::StreamFull),
            Meaning::Never => Some(PublishErrorKind::Rejected),
            Meaning::TooLarge => Some(PublishErrorKind::TooLarge),
            Meaning::WrongLast => Some(PublishErrorKind::WrongLast),
        };
        if let Some(entry) = self.queue.get_mut(index) {
            entry.refusal = Some(Box::new(refusal));
            entry.may_be_known = false;
        }
        if let Some(kind) = kind {
            self.fail(index, kind, false);
        }
        kind.is_none()
    }

    /// Nobody knows whether the stream has the event at this place.
    fn doubt(&mut self, index: usize) {
        let Some(event) = self.queue.get(index).and_then(|entry| entry.event.as_ref()) else {
            return;
        };
        if !self.may_repeat(event) {
            self.fail(index, PublishErrorKind::Unknown, true);
        } else if let Some(entry) = self.queue.get_mut(index) {
            entry.in_doubt = true;
        }
    }

    pub(super) fn pause(&mut self, refusals: u32) -> u64 {
        let Config {
            first_pause,
            longest_pause,
            ..
        } = self.config;
        pause(first_pause, longest_pause, refusals, &mut self.jitter)
    }
}
