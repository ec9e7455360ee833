//! Events of one stream and the batch that they go in, as a machine without I/O: time and answers are arguments.
//!
//! ```text
//!  no batch ── first event ─▶ Starting ── first answer ─▶ Open ── idle, stalled, flush ─▶ Closing
//!     ▲                          │ refused                  │ gap, error, disconnect       │
//!     └──────────────────────────┴──── what the stream has is known, or cannot be ─────────┘
//! ```
//!
//! The queue keeps every event until its fate is known. The first [`Engine::sent`] of them are in the batch, under ascending
//! numbers. A batch ends with a message that asks the stream how far it came: whatever the stream does not have by then goes
//! in the next batch, first. When the stream has forgotten the batch, nobody knows: then only events that may come twice go
//! again. What the stream then has from before, it may have proposed only: [`proof`] asks for its id before it is acked.
//!
//! After each call: take what [`Engine::poll_transmit`] gives while the connection takes messages, and what
//! [`Engine::poll_failed`] gives; call [`Engine::handle_timeout`] at [`Engine::poll_timeout`].

mod answers;
mod batch;
mod config;
mod entry;
mod expiry;
mod proof;
#[cfg(test)]
mod tests;
mod transmission;

use std::collections::{BTreeSet, VecDeque};

use self::batch::{Batch, Phase};
use self::entry::{Entry, Worth};
use self::proof::Question;
use super::place::Operation;
use crate::error::{PublishError, PublishErrorKind};
use crate::event::Event;

pub(crate) use self::config::Config;
pub(crate) use self::transmission::{Content, Given, Id, Transmission};

#[derive(Debug)]
pub(crate) struct Engine {
    config: Config,
    /// As they were accepted; settled ones leave at the front.
    queue: VecDeque<Entry>,
    /// So many of the queue are in the batch.
    sent: usize,
    batch: Option<Batch>,
    /// Between two batches: some events are told, and nobody has proven it. No batch begins before.
    question: Option<Question>,
    /// Batches and questions so far.
    batches: u64,
    is_up: bool,
    /// No batch begins before.
    rests_until: Option<u64>,
    /// Batches in a row that brought nothing into the stream.
    fruitless: u32,
    /// The last batch was refused, or brought nothing: the next one tries with one event.
    is_careful: bool,
    /// Events before this number are flushed: somebody waits for them.
    hurry_before: u64,
    /// Somebody waits for room that there is not.
    is_starved: bool,
    /// Events with a deadline of their own, by it.
    own_deadlines: BTreeSet<(u64, u64)>,
    failed: VecDeque<PublishError>,
    next_number: u64,
    jitter: u64,
    counts: Counts,
}

/// What has happened so far. `accepted = acked + failed + pending` at any moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) acked: u64,
    pub(crate) failed: u64,
    pub(crate) pending: usize,
    pub(crate) pending_bytes: usize,
    /// Attempts after an event's first.
    pub(crate) resent: u64,
    /// Batches that were begun.
    pub(crate) batches: u64,
}

impl Engine {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            queue: VecDeque::new(),
            sent: 0,
            batch: None,
            question: None,
            batches: 0,
            is_up: true,
            rests_until: None,
            fruitless: 0,
            is_careful: false,
            hurry_before: 0,
            is_starved: false,
            own_deadlines: BTreeSet::new(),
            failed: VecDeque::new(),
            next_number: 0,
            jitter: config.seed,
            counts: Counts::default(),
            config,
        }
    }

    /// Is there room for an event of this size? A single one is taken whatever its size.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        let Counts {
            pending, pending_bytes, ..
        } = self.counts;
        pending < self.config.window && (pending == 0 || size <= self.config.window_bytes.saturating_sub(pending_bytes))
    }

    /// Takes an event for which there [is room](Self::has_room).
    pub(crate) fn accept(&mut self, now: u64, event: Event) {
        let size = event.size();
        let number = self.next_number;
        let deadline = match event.own_deadline() {
            None => now.saturating_add(self.config.deadline),
            Some(own) => {
                let deadline = now.saturating_add(crate::nanos(own));
                self.own_deadlines.insert((deadline, number));
                deadline
            }
        };
        self.next_number += 1;
        self.counts.accepted += 1;
        self.counts.pending += 1;
        self.counts.pending_bytes += size;
        let is_given = self.config.gives_ids;
        self.queue
            .push_back(Entry::new(event, number, size, deadline, is_given));
    }

    /// Ends the batch if that is what is left to do: before asking whether anything [is ready](Self::is_ready).
    pub(crate) fn plan(&mut self, now: u64) {
        self.close_if_done(now);
    }

    /// Is anything to be handed over?
    pub(crate) fn is_ready(&self, now: u64) -> bool {
        if !self.is_up {
            return false;
        }
        if let Some(question) = &self.question {
            return question.due <= now;
        }
        match &self.batch {
            None => self.sent < self.queue.len() && self.rests_until.is_none_or(|until| until <= now),
            Some(batch) => match batch.phase {
                Phase::Starting => false,
                Phase::Open => self.sent < self.queue.len() && batch.has_credit(self.config.outstanding),
                Phase::Closing { due, .. } => due <= now,
            },
        }
    }

    /// The next message to hand over.
    pub(crate) fn poll_transmit(&mut self, now: u64) -> Option<Transmission<'_>> {
        self.close_if_done(now);
        if !self.is_ready(now) {
            return None;
        }
        if self.question.is_some() {
            return self.ask(now);
        }
        if let Some(Batch {
            phase: Phase::Closing { due, tries, .. },
            ..
        }) = &mut self.batch
        {
            *tries += 1;
            *due = now.saturating_add(self.config.answer_timeout);
            let batch = self.batch.as_ref()?;
            return Some(Transmission {
                place: batch.place(batch.next, Operation::End),
                subject: &batch.subject,
                content: Content::End,
            });
        }
        // Whoever failed before its turn has left its place.
        while self.queue.get(self.sent)?.event.is_none() {
            self.queue.remove(self.sent);
        }
        let entry = &mut self.queue[self.sent];
        let worth = entry.send();
        let event = entry.event.as_ref()?;
        let batch = match &mut self.batch {
            Some(batch) => batch,
            none => {
                self.batches += 1;
                self.counts.batches += 1;
                self.rests_until = None;
                none.insert(Batch::new(self.batches, event.subject.clone(), self.is_careful, now))
            }
        };
        let operation = if batch.next == 1 {
            Operation::Start
        } else {
            Operation::Append
        };
        let place = batch.place(batch.next, operation);
        match worth {
            Worth::Nothing => batch.weak = batch.next,
            Worth::Itself => {}
            Worth::Proof => batch.proof = batch.next,
        }
        if self.sent == 0 {
            batch.progress_at = now;
        }
        batch.next += 1;
        batch.sent_at = now;
        self.sent += 1;
        self.counts.resent += u64::from(entry.attempts > 1);
        Some(Transmission {
            place,
            subject: &event.subject,
            content: Content::Event {
                payload: &event.payload,
                headers: event.headers(),
                id: entry.given(),
            },
        })
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), which may be early.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        let batch = self.batch.as_ref().and_then(|batch| self.batch_due(batch));
        let rest = self.rests_until.filter(|_| self.is_up && self.batch.is_none());
        let rest = rest.filter(|_| !self.queue.is_empty());
        let question = self.question.as_ref().map(|question| question.due);
        let question = question.filter(|_| self.is_up);
        [batch, rest, question, self.poll_expiry()].into_iter().flatten().min()
    }

    /// As [`poll_timeout`](Self::poll_timeout), for deadlines of events alone: they come whether or not anything can be sent.
    pub(crate) fn poll_expiry(&self) -> Option<u64> {
        let own = self.own_deadlines.first().map(|(deadline, _)| *deadline);
        let oldest = self.queue.iter().find(|entry| entry.event.is_some());
        let deadline = oldest.map(|entry| entry.deadline);
        own.into_iter().chain(deadline).min()
    }

    /// An event that has failed; each is said once.
    pub(crate) fn poll_failed(&mut self) -> Option<PublishError> {
        self.failed.pop_front()
    }

    /// Is there something for [`poll_failed`](Self::poll_failed)?
    pub(crate) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// After how many messages the stream tells how far it is, at the moment; 0 without a batch.
    pub(crate) fn flow(&self) -> u64 {
        self.batch.as_ref().map_or(0, |batch| batch.flow)
    }

    /// The number that the next event gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Somebody waits for all that was accepted so far: the batch ends when it is sent.
    pub(crate) fn hurry(&mut self) {
        self.hurry_before = self.next_number;
    }

    /// Does somebody wait for room that there is not? Where the bytes are the limit, the stream may have nothing to tell of
    /// before the batch ends.
    pub(crate) fn set_starved(&mut self, is_starved: bool) {
        self.is_starved = is_starved;
    }

    /// The number of the oldest event that is not settled.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let first = self.queue.iter().find(|entry| entry.event.is_some());
        first.map(|entry| entry.number)
    }

    /// Are there no events, and no batch?
    pub(crate) fn is_over(&self) -> bool {
        self.counts.pending == 0 && self.batch.is_none()
    }

    /// How many events with a number below this one are not settled.
    pub(crate) fn pending_before(&self, number: u64) -> u64 {
        let before = self.queue.iter().take_while(|entry| entry.number < number);
        before.filter(|entry| entry.event.is_some()).count() as u64
    }

    /// May the event come twice?
    fn may_repeat(&self, event: &Event) -> bool {
        self.config.repeats || self.config.gives_ids || event.has_message_id()
    }

    /// The place of the queue's first event in the batch.
    fn first_sequence(&self) -> u64 {
        self.batch.as_ref().map_or(0, |batch| batch.next - self.sent as u64)
    }

    /// Settles the front of the queue: the stream has it.
    fn ack_front(&mut self) {
        let Some(entry) = self.queue.pop_front() else {
            return;
        };
        self.sent = self.sent.saturating_sub(1);
        if let Some(event) = entry.event {
            self.counts.acked += 1;
            self.leave(entry.number, entry.deadline, entry.size, &event);
        }
    }

    /// Fails the event at this place of the queue, which stays empty. `may_be_stored` besides earlier doubts.
    fn fail(&mut self, index: usize, kind: PublishErrorKind, may_be_stored: bool) {
        let Some(entry) = self.queue.get_mut(index) else {
            return;
        };
        let Some(event) = entry.event.take() else {
            return;
        };
        let (number, deadline, size) = (entry.number, entry.deadline, entry.size);
        let (attempts, may_be_stored) = (entry.attempts, entry.in_doubt || may_be_stored);
        let refusal = entry.refusal.take().map(|refusal| *refusal);
        self.leave(number, deadline, size, &event);
        self.counts.failed += 1;
        let error = PublishError::new(event, kind, attempts, may_be_stored).with_refusal(refusal);
        self.failed.push_back(error);
    }

    fn leave(&mut self, number: u64, deadline: u64, size: usize, event: &Event) {
        self.counts.pending -= 1;
        self.counts.pending_bytes -= size;
        if event.own_deadline().is_some() {
            self.own_deadlines.remove(&(deadline, number));
        }
    }

    /// Gives up the places of events that have failed, as far as no batch needs them.
    fn trim(&mut self) {
        while self.sent == 0 && self.queue.front().is_some_and(|entry| entry.event.is_none()) {
            self.queue.pop_front();
        }
    }
}
