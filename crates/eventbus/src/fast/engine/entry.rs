//! An event in the queue.

use super::transmission::Given;
use crate::event::Event;
use crate::reply::Refusal;

/// An event that is not settled, or the place of one that failed while it was in the batch.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: Option<Event>,
    pub(super) number: u64,
    pub(super) size: usize,
    pub(super) deadline: u64,
    pub(super) attempts: u32,
    /// A former batch may have brought it into the stream.
    pub(super) in_doubt: bool,
    /// It was sent, and not refused: the stream may know its id, whatever it says of the batch that it was in.
    pub(super) may_be_known: bool,
    /// The batch that is over had it, as far as the stream said; a [question](super::Question) is to prove it.
    pub(super) is_held: bool,
    pub(super) refusal: Option<Box<Refusal>>,
    /// The bus gives it an id.
    is_given: bool,
    has_own_id: bool,
    /// In the batch that it was sent in last.
    worth: Worth,
}

impl Entry {
    /// `is_given`: the bus gives ids to events that have none.
    pub(super) fn new(event: Event, number: u64, size: usize, deadline: u64, is_given: bool) -> Self {
        let has_own_id = event.has_message_id();
        Self {
            event: Some(event),
            number,
            size,
            deadline,
            attempts: 0,
            in_doubt: false,
            may_be_known: false,
            is_held: false,
            refusal: None,
            is_given: is_given && !has_own_id,
            has_own_id,
            worth: Worth::Itself,
        }
    }

    /// What its id is made of, if the bus gives it one.
    pub(super) fn given(&self) -> Option<Given> {
        self.is_given.then_some(Given(self.number))
    }

    /// It goes into a batch. What is the word of the stream on it worth there?
    pub(super) fn send(&mut self) -> Worth {
        let has_id = self.is_given || self.has_own_id;
        self.worth = match (has_id, self.may_be_known) {
            (false, _) => Worth::Proof,
            (true, true) => Worth::Nothing,
            // Others may have stored an event with this id.
            (true, false) if self.has_own_id => Worth::Itself,
            (true, false) => Worth::Proof,
        };
        self.may_be_known = true;
        self.attempts = self.attempts.saturating_add(1);
        self.worth
    }

    pub(super) fn is_weak(&self) -> bool {
        self.event.is_some() && self.worth == Worth::Nothing
    }

    pub(super) fn is_proof(&self) -> bool {
        self.event.is_some() && self.worth == Worth::Proof
    }
}

/// What it proves when the stream tells of an event in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// The stream may have the event from a former batch, and only as a proposal.
    Nothing,
    /// The stream has the event.
    Itself,
    /// It has those before it in the batch too: it cannot be a duplicate.
    Proof,
}
