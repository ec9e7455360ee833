//! Who wants to know what becomes of an event.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_nats::subject::Subject;
use tokio::sync::oneshot;

use crate::batch::Batch;
use crate::error::PublishError;
use crate::reply::PublishAck;

/// What has become of an event.
pub(crate) type Outcome = Result<PublishAck, PublishError>;

/// What has become of an event that somebody asks about, or that has failed.
#[derive(Debug)]
pub(crate) struct Settled<W> {
    pub(crate) watcher: Option<W>,
    pub(crate) outcome: Outcome,
}

/// Can be told what has become of an event.
pub(crate) trait Tell: Send + 'static {
    fn tell(self, outcome: Outcome);
}

/// Nobody asks about single events.
impl Tell for Infallible {
    fn tell(self, _outcome: Outcome) {
        match self {}
    }
}

#[derive(Debug)]
pub(crate) enum Watcher {
    /// Somebody who waits for this event alone.
    One(oneshot::Sender<Outcome>),
    /// An event of a batch, by its place there.
    Batch(Arc<Batch>, usize),
    /// An event of an outbox, by its turn there.
    #[cfg(feature = "spool")]
    Outbox(Arc<crate::outbox::Deliveries>, crate::outbox::Turn),
}

impl Tell for Watcher {
    fn tell(self, outcome: Outcome) {
        match self {
            // Whoever waited may have gone.
            Self::One(waiting) => drop(waiting.send(outcome)),
            Self::Batch(batch, index) => batch.settle(index, outcome),
            #[cfg(feature = "spool")]
            Self::Outbox(deliveries, turn) => deliveries.settle(turn, outcome),
        }
    }
}

/// What will become of an event that was enqueued: [`Bus::enqueue_pending`](crate::Bus::enqueue_pending).
///
/// It is a future. Dropping it changes nothing for the event: it is delivered or fails as if nobody had asked, and its failure
/// goes to [`on_failure`](crate::BusBuilder::on_failure).
///
/// Memory: about 100 bytes, which are not part of the window: any number may be kept.
///
/// # Cancel safety
/// It can be polled again after any interruption; dropping it loses the answer only.
#[derive(Debug)]
#[must_use = "without being awaited it says nothing; `enqueue` is for events that nobody waits for"]
pub struct PendingAck {
    outcome: oneshot::Receiver<Outcome>,
    /// For the case that nobody answers any more, which the accounting excludes. Without the payload, which belongs to the
    /// window.
    subject: Subject,
}

impl PendingAck {
    pub(crate) fn new(event: &crate::Event) -> (Watcher, Self) {
        let (sender, outcome) = oneshot::channel();
        let pending = Self {
            outcome,
            subject: event.subject.clone(),
        };
        (Watcher::One(sender), pending)
    }
}

impl Future for PendingAck {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(cx).map(|outcome| {
            outcome.unwrap_or_else(|_| {
                let event = crate::Event::new(self.subject.clone(), "");
                Err(PublishError::new(event, crate::PublishErrorKind::Closed, 0, true))
            })
        })
    }
}
