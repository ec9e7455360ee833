//! The proof that the stream has an event which came to it more than once.
//!
//! A leader takes an event whose id it has only proposed for a duplicate, and in a batch tells of it as if it were stored. If it
//! has lost its majority, the proposal is never stored. So an event that was in a batch before is held when it is told of in a
//! later one, until one of these proves it:
//! - an event behind it in the same batch that cannot be a duplicate is told of;
//! - the stream knows the id of the last one: a message with that id which can never be stored is answered as a duplicate only
//!   when the event is stored.
//!
//! Either proves all events before it: a leader takes the events of a batch in their order, so that none is stored without those
//! before it.

use super::super::answer::Answer;
use super::super::place::{Operation, Place};
use super::transmission::{Content, Id, Transmission};
use super::{Engine, Entry};
use crate::reply::{Meaning, Refusal};

/// Whether the stream has the last of the events that are held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// It is sent as a batch of its own.
    number: u64,
    /// The event's.
    event: u64,
    /// When it is sent (again).
    pub(super) due: u64,
    /// How often the stream had no answer yet.
    refused: u32,
}

impl Engine {
    /// Of so many events at the front of the queue that are told: how many are the stream's for certain?
    pub(super) fn proven(&self, told: usize) -> usize {
        let Some(batch) = self.batch.as_ref() else {
            return 0;
        };
        if batch.weak < self.first_sequence() {
            return told;
        }
        let told = self.queue.iter().take(told);
        let proof = told.clone().rposition(Entry::is_proof).map_or(0, |place| place + 1);
        proof + told.skip(proof).take_while(|entry| !entry.is_weak()).count()
    }

    /// Holds the event at this place of the queue until it is proven.
    pub(super) fn hold(&mut self, index: usize) {
        if let Some(entry) = self.queue.get_mut(index) {
            entry.is_held = true;
            entry.in_doubt = true;
        }
    }

    /// Plans to ask for the last event that is held, if there is one.
    pub(super) fn plan_question(&mut self, now: u64) {
        let held = |entry: &&Entry| entry.is_held && entry.event.is_some();
        let last = self.queue.iter().rev().find(held).map(|entry| entry.number);
        self.question = last.map(|event| {
            self.batches += 1;
            Question {
                number: self.batches,
                event,
                due: now,
                refused: 0,
            }
        });
    }

    /// After events have failed: the one that is asked for may be among them.
    pub(super) fn check_question(&mut self, now: u64) {
        if let Some(question) = self.question
            && self.held_event(question.event).is_none()
        {
            self.plan_question(now);
        }
    }

    /// Whatever was asked, the answer is lost with the connection.
    pub(super) fn ask_anew(&mut self, now: u64) {
        if let Some(question) = &mut self.question {
            question.due = now;
        }
    }

    /// The question as a message.
    pub(super) fn ask(&mut self, now: u64) -> Option<Transmission<'_>> {
        let question = self.question.as_mut()?;
        question.due = now.saturating_add(self.config.answer_timeout);
        let Question { number, event, .. } = *question;
        let entry = self.held_event(event)?;
        let event = entry.event.as_ref()?;
        let id = match entry.given() {
            Some(given) => Id::Given(given),
            None => Id::Own(event.own_message_id()?),
        };
        Some(Transmission {
            place: Place {
                batch: number,
                sequence: 1,
                operation: Operation::Ask,
            },
            subject: &event.subject,
            content: Content::Question(id),
        })
    }

    fn held_event(&self, number: u64) -> Option<&Entry> {
        let index = self.queue.binary_search_by_key(&number, |entry| entry.number).ok()?;
        self.queue.get(index).filter(|entry| entry.event.is_some())
    }

    /// An answer to a question.
    pub(super) fn handle_word(&mut self, now: u64, place: Place, answer: Answer) {
        let Some(question) = self.question.filter(|question| question.number == place.batch) else {
            return;
        };
        match answer {
            Answer::Duplicate => {
                for index in 0..self.queue.len() {
                    if self.queue[index].is_held {
                        self.ack_at(index);
                    }
                }
                self.fruitless = 0;
                self.question = None;
                self.trim();
            }
            Answer::Refused(refusal) if is_later(&refusal) => {
                let pause = self.pause(question.refused);
                self.question = Some(Question {
                    due: now.saturating_add(pause),
                    refused: question.refused.saturating_add(1),
                    ..question
                });
            }
            // It does not have the last one, and of the others nothing is known: all go again, in their order.
            Answer::Refused(_) | Answer::Ended { .. } | Answer::Stored => {
                for entry in &mut self.queue {
                    entry.is_held = false;
                }
                self.question = None;
                let pause = self.pause(self.fruitless);
                self.fruitless = self.fruitless.saturating_add(1);
                self.rests_until = Some(now.saturating_add(pause));
            }
            // Of the batch that the question is for nats-server.
            Answer::Flow { .. } | Answer::Gap | Answer::Failed { .. } => {}
        }
    }
}

/// May the stream have another answer in a while? A proposal is stored then, or gone with its leader.
fn is_later(refusal: &Refusal) -> bool {
    matches!(refusal.meaning(), Meaning::Later | Meaning::InProcess)
}
