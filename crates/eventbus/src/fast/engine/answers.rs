//! What the stream says, and what the connection does.

use super::super::answer::Answer;
use super::super::place::{Operation, Place};
use super::batch::Phase;
use super::{Engine, Entry};
use crate::error::{PublishError, PublishErrorKind};
use crate::reply::{Meaning, Refusal};

/// nats-server's number for a batch that it does not know (any more).
const UNKNOWN_BATCH: u16 = 10208;

/// How long a stream that ends a batch by itself has for its word, in nanoseconds. It comes right behind: only a lost one is
/// asked for.
const ITS_OWN_END: u64 = 1_000_000_000;

impl Engine {
    /// An answer to the message at `place`. One to a former batch says nothing any more.
    pub(crate) fn handle_answer(&mut self, now: u64, place: Place, answer: Answer) {
        if place.operation == Operation::Ask {
            return self.handle_word(now, place, answer);
        }
        if !self.is_current(place) {
            return;
        }
        match answer {
            Answer::Flow { told, flow } => self.handle_flow(now, told, flow),
            Answer::Gap => self.close(now.saturating_add(ITS_OWN_END)),
            Answer::Failed { sequence, refusal } => {
                self.dig(sequence, refusal);
                self.close(now.saturating_add(ITS_OWN_END));
            }
            Answer::Ended { count } => self.resolve(now, Some(count)),
            // An older server: it took the event as any other.
            Answer::Stored | Answer::Duplicate => {
                if place.operation == Operation::Start {
                    self.resolve(now, Some(1));
                }
            }
            Answer::Refused(refusal) => self.handle_refusal(now, place, refusal),
        }
    }

    fn handle_flow(&mut self, now: u64, told: u64, flow: u64) {
        let Some(batch) = &mut self.batch else {
            return;
        };
        if batch.phase == Phase::Starting {
            batch.phase = Phase::Open;
            if batch.is_probe {
                batch.close(now);
            }
        }
        // One that was overtaken by a later one.
        if told < batch.told {
            return;
        }
        batch.flow = flow.max(1);
        if told > batch.told {
            batch.progress_at = now;
        }
        self.advance(told);
    }

    fn handle_refusal(&mut self, now: u64, place: Place, refusal: Refusal) {
        let is_forgotten = refusal.err_code == UNKNOWN_BATCH;
        let Some(batch) = &mut self.batch else {
            return;
        };
        match (place.operation, batch.phase) {
            // The last word on the batch was said, and is lost; or there never was one that the stream knew.
            (Operation::End, _) if is_forgotten => {
                let count = batch.is_stillborn().then_some(0);
                self.resolve(now, count);
            }
            // All of it is told already, and the stream may never be back.
            (Operation::End, Phase::Closing { .. }) if batch.is_told() => self.resolve(now, Some(0)),
            (Operation::End, Phase::Closing { tries, refused, .. }) => {
                // No leader, or a full queue: again in a while.
                let pause = self.pause(refused);
                if let Some(batch) = &mut self.batch {
                    batch.phase = Phase::Closing {
                        due: now.saturating_add(pause),
                        // It was not heard, so that no answer is missing.
                        tries: tries.saturating_sub(1),
                        refused: refused.saturating_add(1),
                    };
                }
            }
            (Operation::End | Operation::Ask, _) => {}
            // The word that ends a batch may be behind this one.
            _ if is_forgotten => batch.close(now),
            (Operation::Start, Phase::Starting) => {
                self.dig(1, refusal);
                self.resolve(now, Some(0));
            }
            (Operation::Start | Operation::Append, _) => {
                let pause = if refusal.meaning() == Meaning::Later {
                    self.config.first_pause
                } else {
                    0
                };
                self.dig(place.sequence, refusal);
                self.close(now.saturating_add(pause));
            }
        }
    }

    /// The stream does not have this message of the batch.
    fn dig(&mut self, sequence: u64, refusal: Refusal) {
        let first = self.first_sequence();
        if let Some(batch) = &mut self.batch
            && (first..batch.next).contains(&sequence)
        {
            batch.holes.insert(sequence, refusal);
        }
    }

    fn close(&mut self, at: u64) {
        if let Some(batch) = &mut self.batch {
            batch.close(at);
        }
    }

    /// The connection is lost. The stream may know the batch when it is back.
    pub(crate) fn handle_disconnect(&mut self, now: u64) {
        self.is_up = false;
        if let Some(batch) = &mut self.batch {
            batch.was_cut = true;
            batch.phase = Phase::closing(now);
        }
    }

    /// The connection is there.
    pub(crate) fn handle_connect(&mut self, now: u64) {
        self.is_up = true;
        self.ask_anew(now);
        if let Some(batch) = &mut self.batch {
            batch.was_cut = true;
            batch.phase = Phase::closing(now);
        }
    }

    /// The message at `place` was not taken by the connection, and never will be.
    pub(crate) fn handle_not_sent(&mut self, now: u64, place: Place, kind: PublishErrorKind) {
        // A question is asked again when it is not answered.
        if !self.is_current(place) || place.operation == Operation::End {
            return;
        }
        let index = place.sequence.saturating_sub(self.first_sequence());
        self.fail(usize::try_from(index).unwrap_or(usize::MAX), kind, false);
        self.close(now);
    }

    /// nats-server does not let this user publish to the subjects that `denied` knows.
    ///
    /// It does not say which messages it refused: when the permission was taken away meanwhile, the stream may have some of
    /// them. Only before the first ack it is taken for certain that there never was one.
    pub(crate) fn handle_denied(&mut self, now: u64, denied: impl Fn(&str) -> bool) {
        let may_be_stored = self.counts.acked > 0;
        let mut is_hit = false;
        for index in 0..self.queue.len() {
            let Entry { event, is_held, .. } = &self.queue[index];
            if index >= self.sent && !is_held {
                continue;
            }
            if event.as_ref().is_some_and(|event| denied(event.subject())) {
                self.fail(index, PublishErrorKind::NotPermitted, may_be_stored);
                is_hit = true;
            }
        }
        if is_hit {
            self.close(now);
        }
        self.drop_dead_batch();
        self.check_question(now);
    }

    /// No answer will ever come: all fail, for this reason.
    pub(crate) fn handle_end(&mut self, kind: PublishErrorKind) {
        for index in 0..self.queue.len() {
            self.fail(index, kind, index < self.sent);
        }
        self.queue.clear();
        self.sent = 0;
        self.batch = None;
        self.question = None;
    }

    /// As [`handle_end`](Self::handle_end), and says what has failed by that.
    pub(crate) fn give_up(&mut self, kind: PublishErrorKind) -> Vec<PublishError> {
        let before = self.failed.len();
        self.handle_end(kind);
        self.failed.iter().skip(before).cloned().collect()
    }

    /// A batch of which nobody waits for an event any more, and that is about to end, is left to itself.
    pub(super) fn drop_dead_batch(&mut self) {
        let is_closing = self
            .batch
            .as_ref()
            .is_some_and(|batch| matches!(batch.phase, Phase::Closing { .. }));
        let is_dead = self.queue.iter().take(self.sent).all(|entry| entry.event.is_none());
        if is_closing && is_dead && self.sent > 0 {
            self.queue.drain(..self.sent);
            self.sent = 0;
            self.batch = None;
        }
        self.trim();
    }
}
