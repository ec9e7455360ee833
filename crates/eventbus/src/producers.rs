//! Producers that wait for room in the window, first come, first served.

use std::collections::VecDeque;
use std::task::Waker;

/// Who waits.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    waiting: VecDeque<Waiting>,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    size: usize,
    /// `None`: it was woken, and has not come yet.
    waker: Option<Waker>,
}

/// A place among those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

impl Producers {
    /// Is it this one's turn, if there is room? `None`: it does not wait yet.
    pub(crate) fn is_turn_of(&self, ticket: Option<Ticket>) -> bool {
        match (self.waiting.front(), ticket) {
            (None, _) => true,
            (Some(first), Some(ticket)) => first.ticket == ticket,
            (Some(_), None) => false,
        }
    }

    /// Waits with an event of this size.
    pub(crate) fn wait(&mut self, ticket: &mut Option<Ticket>, size: usize, waker: &Waker) {
        let known = ticket
            .and_then(|ticket| self.place(ticket))
            .and_then(|place| self.waiting.get_mut(place));
        if let Some(known) = known {
            known.waker = Some(waker.clone());
            return;
        }
        let new = Ticket(self.next);
        self.next += 1;
        self.waiting.push_back(Waiting {
            ticket: new,
            size,
            waker: Some(waker.clone()),
        });
        *ticket = Some(new);
    }

    /// Tickets grow.
    fn place(&self, ticket: Ticket) -> Option<usize> {
        self.waiting
            .binary_search_by_key(&ticket.0, |waiting| waiting.ticket.0)
            .ok()
    }

    /// Waits no more.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        if let Some(place) = self.place(ticket) {
            self.waiting.remove(place);
        }
    }

    /// The first one's waker, unless it was woken already, if `has_room` for its event.
    pub(crate) fn wake(&mut self, has_room: impl FnOnce(usize) -> bool) -> Option<Waker> {
        let first = self.waiting.front_mut().filter(|first| first.waker.is_some())?;
        has_room(first.size).then(|| first.waker.take()).flatten()
    }

    /// All of them: there is nothing to wait for any more.
    pub(crate) fn wake_all(&mut self) -> Vec<Waker> {
        self.waiting.drain(..).filter_map(|waiting| waiting.waker).collect()
    }

    /// Does the first one wait to be woken, with an event for which `has_room` says so?
    pub(crate) fn is_waiting(&self, has_room: impl FnOnce(usize) -> bool) -> bool {
        let first = self.waiting.front().filter(|first| first.waker.is_some());
        first.is_some_and(|first| has_room(first.size))
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}
