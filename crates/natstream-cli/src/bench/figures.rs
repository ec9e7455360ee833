//! What is counted during a run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use natstream::RequestError;

use super::histogram::Times;
use super::load::{Called, Outcome};
use crate::exit::{Exit, Failure};

/// Counters that all callers share; read while they run.
#[derive(Debug, Default)]
pub(super) struct Live {
    items: AtomicU64,
    bytes: AtomicU64,
}

impl Live {
    pub(super) fn item(&self, size: u64) {
        self.items.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
    }

    pub(super) fn items(&self) -> u64 {
        self.items.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What became of the calls.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) complete: u64,
    /// Not at their end when the time was over.
    pub(super) stopped: u64,
    /// Answers that were not what was ordered.
    pub(super) wrong: u64,
    /// How many failed in which way.
    pub(super) failures: BTreeMap<String, u64>,
    /// One of them, whole.
    pub(super) sample: Option<Box<RequestError>>,
    pub(super) first_item: Times,
    /// Of calls that were complete.
    pub(super) whole: Times,
}

impl Figures {
    pub(super) fn new() -> Self {
        Self {
            complete: 0,
            stopped: 0,
            wrong: 0,
            failures: BTreeMap::new(),
            sample: None,
            first_item: Times::new(),
            whole: Times::new(),
        }
    }

    /// Counts a call.
    pub(super) fn add(&mut self, called: Called) {
        if let Some(time) = called.first_item {
            self.first_item.record(time);
        }
        match called.outcome {
            Outcome::Complete => {
                self.complete += 1;
                self.whole.record(called.whole);
            }
            Outcome::Stopped => self.stopped += 1,
            Outcome::Wrong => self.wrong += 1,
            Outcome::Failed(error) => {
                *self.failures.entry(kind(&error)).or_default() += 1;
                self.sample.get_or_insert(error);
            }
        }
    }

    pub(super) fn failed(&self) -> u64 {
        self.wrong + self.failures.values().sum::<u64>()
    }

    /// The failure of the command, unless all calls were what they had to be.
    pub(super) fn into_failure(self) -> Option<Failure> {
        let failed = self.failed();
        match (self.wrong, self.sample) {
            (0, None) => None,
            (0, Some(error)) => {
                let failure = Failure::from(*error);
                Some(Failure {
                    error: failure.error.context(format!("{failed} calls failed, one of them so")),
                    // It speaks of options that are not here.
                    hint: None,
                    ..failure
                })
            }
            (wrong, _) => Some(Failure::text(
                Exit::Lost,
                format!("{wrong} of {failed} calls that failed brought items that were not theirs"),
            )),
        }
    }
}

/// The sort of a failure, for a table.
fn kind(error: &RequestError) -> String {
    match error.status() {
        Some(status) => format!("{:?} ({})", error.kind(), status.code),
        None => format!("{:?}", error.kind()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn calls_are_counted_by_their_ends() {
        let mut figures = Figures::new();
        for outcome in [Outcome::Complete, Outcome::Complete, Outcome::Stopped, Outcome::Wrong] {
            figures.add(Called {
                first_item: Some(Duration::from_millis(2)),
                whole: Duration::from_millis(5),
                items: 1,
                outcome,
            });
        }
        assert_eq!((figures.complete, figures.stopped, figures.failed()), (2, 1, 1));
        assert_eq!((figures.first_item.len(), figures.whole.len()), (4, 2));
        assert!((5000..5010).contains(&figures.whole.max()));
        assert_eq!(figures.into_failure().map(|failure| failure.exit), Some(Exit::Lost));
    }

    #[test]
    fn calls_that_all_went_well_are_no_failure() {
        assert!(Figures::new().into_failure().is_none());
    }
}
