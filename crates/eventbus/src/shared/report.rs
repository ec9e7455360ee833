//! Who hears of events that have failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::error::PublishError;

/// Is told of each event that has failed.
pub(crate) type OnFailure = Box<dyn Fn(PublishError) + Send + Sync>;

/// Tells `on_failure`, or the log.
pub(super) struct Reporter {
    on_failure: Option<OnFailure>,
    /// Failures that nobody is told of.
    untold: Untold,
}

impl Reporter {
    pub(super) fn new(on_failure: Option<OnFailure>) -> Self {
        Self {
            on_failure,
            untold: Untold::default(),
        }
    }

    /// An event that nobody asks about.
    pub(super) fn report(&self, error: PublishError, now: impl FnOnce() -> u64) {
        if let Some(on_failure) = &self.on_failure {
            call(on_failure, error);
        } else if let Some(count) = self.untold.add(now()) {
            let (subject, kind) = (error.event().subject(), error.kind());
            tracing::error!(
                count,
                subject,
                ?kind,
                "events were not delivered, and nobody is told of them"
            );
        }
    }

    /// An event that somebody asks about.
    pub(super) fn report_too(&self, error: &PublishError) {
        if let Some(on_failure) = &self.on_failure {
            call(on_failure, error.clone());
        }
    }
}

fn call(on_failure: &OnFailure, error: PublishError) {
    if catch_unwind(AssertUnwindSafe(|| on_failure(error))).is_err() {
        tracing::error!("`on_failure` of an event bus has panicked");
    }
}

/// Failures that nobody is told of, and that the log is told of once a second: there may be as many as events.
#[derive(Debug, Default)]
struct Untold {
    count: AtomicU64,
    /// When the log was told, in nanoseconds; 0 before the first time.
    told_at: AtomicU64,
}

impl Untold {
    /// Another one. How many the log is to be told of now, if it is.
    fn add(&self, now: u64) -> Option<u64> {
        const SECOND: u64 = 1_000_000_000;
        self.count.fetch_add(1, Relaxed);
        let told_at = self.told_at.load(Relaxed);
        let is_due = told_at == 0 || now.saturating_sub(told_at) >= SECOND;
        let is_mine = is_due
            && self
                .told_at
                .compare_exchange(told_at, now.max(1), Relaxed, Relaxed)
                .is_ok();
        is_mine.then(|| self.count.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_once_a_second_how_many_there_were() {
        let untold = Untold::default();
        let told: Vec<(u64, u64)> = (10..110)
            .map(|tenth| tenth * 100_000_000)
            .filter_map(|now| Some((now / 1_000_000_000, untold.add(now)?)))
            .collect();
        assert_eq!(told[..3], [(1, 1), (2, 10), (3, 10)]);
        assert_eq!(told.len(), 10);
    }
}
