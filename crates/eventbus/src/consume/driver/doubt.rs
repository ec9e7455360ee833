//! Asking nats-server how far the consumer is, when deliveries may have been lost.

use std::pin::Pin;

use super::Session;
use crate::consume::done::{Done, Position};
use crate::consume::gaps::{Gaps, Look};
use crate::consume::restore::Restored;
use crate::topology::{ConsumerInfo, Topology, TopologyError, TopologyErrorKind};

/// The pause between looks while nothing is asked for.
const SOON: u64 = 250_000_000;

/// The pause between looks that only keep the account of what is done.
const LATER: u64 = 10_000_000_000;

type Answer = Result<ConsumerInfo, TopologyError>;

/// Looks at the consumer, one at a time.
#[derive(Default)]
pub(super) struct Looks {
    question: Option<Question>,
    /// No other one before this.
    next_at: u64,
}

struct Question {
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
    /// Deliveries that had come when it was asked.
    arrivals: u64,
    /// Gaps that had been found when it was asked.
    gaps: u64,
}

impl Looks {
    /// The answer, when there is a question.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn answer(&mut self) -> (Answer, u64, u64) {
        match &mut self.question {
            Some(question) => {
                let answer = question.answer.as_mut().await;
                let (arrivals, gaps) = (question.arrivals, question.gaps);
                self.question = None;
                (answer, arrivals, gaps)
            }
            None => std::future::pending().await,
        }
    }
}

impl Session {
    /// When something is due here.
    pub(super) fn doubt_timeout(&self) -> Option<u64> {
        let wait = self.gaps.as_ref().and_then(|gaps| gaps.poll_timeout());
        let look = (self.should_look() && self.looks.question.is_none()).then_some(self.looks.next_at);
        [wait, look].into_iter().flatten().min()
    }

    /// Looks at the consumer if that is due, and ends waits that are over.
    pub(super) fn doubt(&mut self, now: u64) {
        if let Some(gaps) = &mut self.gaps {
            gaps.handle_timeout(now);
        }
        self.admit();
        if !self.should_look() || self.looks.question.is_some() || now < self.looks.next_at {
            return;
        }
        let inner = self.inner.clone();
        let answer = Box::pin(async move {
            let topology = Topology::new(inner.connection.connection().clone());
            topology.consumer(inner.spec.stream(), inner.spec.name()).await
        });
        self.looks.question = Some(Question {
            answer,
            arrivals: self.arrivals,
            gaps: self.done.gaps(),
        });
    }

    pub(super) fn looked(&mut self, answer: Answer, arrivals: u64, gaps: u64) {
        let pause = if self.is_in_doubt() { SOON } else { LATER };
        self.looks.next_at = self.now().saturating_add(pause);
        let now = self.now();
        match (answer, &mut self.gaps) {
            (Ok(info), found) => {
                self.done.handle_position(Position::from(&info), gaps);
                let held = self.held.len();
                let look = Look {
                    // Whatever is here is among what nats-server knows no ack of.
                    missing: info.ack_pending.saturating_sub(held as u64),
                    next: info.deliveries.saturating_add(1),
                    room: self.inner.settings.prefetch.saturating_sub(held) as u64,
                };
                // A delivery that has come meanwhile may not be in the answer.
                if let Some(found) = found.as_mut().filter(|_| arrivals == self.arrivals) {
                    found.handle_look(now, look);
                }
            }
            (Err(error), found) => {
                tracing::debug!(%error, "a consumer was not looked at");
                if let Some(found) = found.as_mut().filter(|_| error.kind() == TopologyErrorKind::NotFound) {
                    // That will be seen when it is asked.
                    found.handle_gone();
                }
            }
        }
        self.admit();
    }

    /// Deliveries may have been lost.
    pub(super) fn begin_doubt(&mut self, now: u64) {
        if let Some(gaps) = &mut self.gaps {
            gaps.handle_doubt(now);
            // An answer from before says nothing of what was lost since.
            self.looks.question = None;
            self.looks.next_at = now;
        }
    }

    /// How many messages may be asked for, those included that are under way.
    pub(super) fn most_wanted(&self) -> usize {
        self.gaps.as_ref().map_or(usize::MAX, Gaps::most_wanted)
    }

    fn is_in_doubt(&self) -> bool {
        self.gaps.as_ref().is_some_and(Gaps::is_doubtful)
    }

    /// The consumer is there, or there again.
    pub(super) fn handle_restored(&mut self, restored: Restored) {
        if restored.stream_is_new {
            self.done = Done::new(restored.position);
        } else if restored.was_made {
            self.done.handle_restored();
        }
        if restored.was_made {
            self.begin_doubt(self.now());
        }
    }

    fn should_look(&self) -> bool {
        self.seen.is_connected() && self.subscriber.is_some() && (self.is_in_doubt() || self.done.is_doubtful())
    }
}
