//! Many events at once, and what became of each.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::PublishError;
use crate::reply::PublishAck;
use crate::watcher::Outcome;

/// What became of the events of a [batch](crate::Bus::publish_batch), in their order.
#[derive(Debug)]
#[must_use = "events that failed are in here and nowhere else, unless `on_failure` is set"]
pub struct BatchReport {
    outcomes: Vec<Outcome>,
}

impl BatchReport {
    /// Are all events acked?
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.outcomes.iter().all(Result::is_ok)
    }

    /// What became of each event, in the order of the batch.
    pub fn outcomes(&self) -> &[Result<PublishAck, PublishError>] {
        &self.outcomes
    }

    /// As [`outcomes`](Self::outcomes), to be kept.
    #[must_use]
    pub fn into_outcomes(self) -> Vec<Result<PublishAck, PublishError>> {
        self.outcomes
    }

    /// How many events are acked, duplicates included.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.is_ok()).count()
    }

    /// How many of the acked events the stream had already.
    #[must_use]
    pub fn duplicates(&self) -> usize {
        let acks = self.outcomes.iter().flatten();
        acks.filter(|ack| ack.is_duplicate).count()
    }

    /// The events that failed, each with its place in the batch.
    pub fn failed(&self) -> impl Iterator<Item = (usize, &PublishError)> {
        let outcomes = self.outcomes.iter().enumerate();
        outcomes.filter_map(|(index, outcome)| Some((index, outcome.as_ref().err()?)))
    }
}

/// A batch that is under way.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    outcomes: Mutex<Outcomes>,
    done: Notify,
}

#[derive(Debug, Default)]
struct Outcomes {
    outcomes: Vec<Option<Outcome>>,
    settled: usize,
    /// How many there are, once all were accepted.
    all: Option<usize>,
}

impl Batch {
    pub(crate) fn settle(&self, index: usize, outcome: Outcome) {
        let mut outcomes = self.outcomes.lock();
        if outcomes.outcomes.len() <= index {
            outcomes.outcomes.resize_with(index + 1, || None);
        }
        outcomes.outcomes[index] = Some(outcome);
        outcomes.settled += 1;
        let is_done = outcomes.all == Some(outcomes.settled);
        drop(outcomes);
        if is_done {
            self.done.notify_one();
        }
    }

    /// Waits for the rest of `all` events.
    pub(crate) async fn done(self: Arc<Self>, all: usize) -> BatchReport {
        let is_done = {
            let mut outcomes = self.outcomes.lock();
            outcomes.all = Some(all);
            outcomes.settled == all
        };
        if !is_done {
            self.done.notified().await;
        }
        let outcomes = std::mem::take(&mut self.outcomes.lock().outcomes);
        BatchReport {
            outcomes: outcomes.into_iter().flatten().collect(),
        }
    }
}
