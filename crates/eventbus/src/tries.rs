//! What every bus is told of its attempts.

use std::time::Duration;

use crate::error::OpenError;

/// How an event, or an atomic batch, is tried until it is settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tries {
    /// From acceptance to failure.
    pub(crate) deadline: Duration,
    /// How long an answer may take.
    pub(crate) answer: Duration,
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
}

impl Default for Tries {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            answer: Duration::from_secs(5),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
        }
    }
}

impl Tries {
    /// `zero` is what is said of a deadline, or a time for an answer, that is none.
    pub(crate) fn check(&self, zero: &'static str) -> Result<(), OpenError> {
        if self.deadline.is_zero() || self.answer.is_zero() {
            return wrong("deadline", zero);
        }
        if self.first_pause.is_zero() || self.longest_pause < self.first_pause {
            return wrong(
                "retry_pause",
                "must not be 0, and the longest not shorter than the first",
            );
        }
        Ok(())
    }
}

/// This setting cannot work.
pub(crate) fn wrong(setting: &'static str, problem: &'static str) -> Result<(), OpenError> {
    Err(OpenError::InvalidSetting { setting, problem })
}
