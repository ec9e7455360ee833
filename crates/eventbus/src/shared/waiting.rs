//! Those who wait: for room, and for the end of all that was accepted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::{Machine, Shared};
use crate::error::PublishError;
use crate::event::Event;
use crate::producers::Ticket;

/// Those who wait until all events before a number are settled.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    waiting: Vec<(u64, oneshot::Sender<()>)>,
    /// Failures that a flush has told of.
    told: u64,
}

impl Flushes {
    /// Another one.
    pub(super) fn wait(&mut self, before: u64) -> oneshot::Receiver<()> {
        let (done, flushed) = oneshot::channel();
        self.waiting.retain(|(_, done)| !done.is_closed());
        self.waiting.push((before, done));
        flushed
    }

    /// Has any come to its end? `oldest` is the number of the oldest event that is not settled.
    pub(super) fn are_done(&self, oldest: impl FnOnce() -> Option<u64>) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let oldest = oldest().unwrap_or(u64::MAX);
        self.waiting.iter().any(|(before, _)| *before <= oldest)
    }

    /// Those that have.
    pub(super) fn take_done(&mut self, oldest: Option<u64>) -> Vec<oneshot::Sender<()>> {
        let oldest = oldest.unwrap_or(u64::MAX);
        let done = self.waiting.extract_if(.., |(before, _)| *before <= oldest);
        done.map(|(_, done)| done).collect()
    }

    /// How many of `failed` nobody was told of yet.
    pub(super) fn tell_failed(&mut self, failed: u64) -> u64 {
        failed - std::mem::replace(&mut self.told, failed)
    }
}

/// Takes part in the queue for room while it is polled.
pub(super) struct Accept<'a, M: Machine> {
    shared: &'a Arc<Shared<M>>,
    ticket: Option<Ticket>,
    event: Option<Event>,
    /// Whoever it is goes with the event, when that is taken.
    watcher: Option<M::Watcher>,
}

impl<'a, M: Machine> Accept<'a, M> {
    pub(super) fn new(shared: &'a Arc<Shared<M>>, event: Event, watcher: Option<M::Watcher>) -> Self {
        Self {
            shared,
            ticket: None,
            event: Some(event),
            watcher,
        }
    }

    /// Whoever wants to know of an event that was not taken.
    pub(super) fn into_watcher(mut self) -> Option<M::Watcher> {
        self.watcher.take()
    }
}

// Nothing in it is pinned.
impl<M: Machine> Unpin for Accept<'_, M> {}

impl<M: Machine> Future for Accept<'_, M> {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            shared,
            ticket,
            event,
            watcher,
        } = &mut *self;
        shared.poll_accept(cx, ticket, event, watcher)
    }
}

impl<M: Machine> Drop for Accept<'_, M> {
    fn drop(&mut self) {
        // The next one may have room.
        if let Some(ticket) = self.ticket {
            self.shared.step(|state, _| state.producers.leave(ticket));
        }
    }
}
