//! Why messages were not handled, as long as they are not put aside.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Messages whose last failure is remembered; the oldest ones are forgotten first.
const REMEMBERED: usize = 10_000;

/// The last failure of each message that failed and may come again.
///
/// Memory: an entry and its reason for each, at most 10,000.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    failures: Mutex<BTreeMap<u64, Failure>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// The attempts that were made by then.
    pub(super) attempts: u64,
}

impl Reasons {
    pub(super) fn keep(&self, message: u64, reason: &str, attempts: u64) {
        let mut failures = self.failures.lock();
        let reason = reason.chars().take(super::dead_letter::LONGEST_REASON).collect();
        failures.insert(message, Failure { reason, attempts });
        if failures.len() > REMEMBERED {
            failures.pop_first();
        }
    }

    pub(super) fn of(&self, message: u64) -> Option<Failure> {
        self.failures.lock().get(&message).cloned()
    }

    /// The message is done.
    pub(super) fn forget(&self, message: u64) {
        self.failures.lock().remove(&message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_failure_is_kept_until_the_message_is_done() {
        let reasons = Reasons::default();
        reasons.keep(7, "a", 1);
        reasons.keep(7, "b", 2);
        let last = Failure {
            reason: "b".to_owned(),
            attempts: 2,
        };
        assert_eq!(reasons.of(7), Some(last));
        reasons.forget(7);
        assert_eq!(reasons.of(7), None);
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let reasons = Reasons::default();
        for message in 0..=REMEMBERED as u64 {
            reasons.keep(message, "x", 1);
        }
        assert_eq!(reasons.of(0), None);
        assert!(reasons.of(1).is_some());
    }
}
