//! What became of a batch that was not handled as a whole.

use std::error::Error;
use std::fmt;

use super::error::HandlerError;

/// Why a batch was not handled, and which of its messages are done all the same.
///
/// Every error becomes one, so `?` works in a handler: then all messages of the batch are tried again.
///
/// ```
/// use eventbus::BatchError;
///
/// // Up to 17 they are in the file; 18 can never be; the rest come again.
/// let error = BatchError::retry("the disk is full").done_through(17).reject(18, "no JSON");
/// assert_eq!(error.reason(), "the disk is full");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchError {
    reason: String,
    done_through: u64,
    rejected: Vec<(u64, String)>,
}

impl BatchError {
    /// It may go well later: what is not named otherwise is tried again.
    #[must_use]
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
            done_through: 0,
            rejected: Vec::new(),
        }
    }

    /// Messages up to this number of the stream are done, and are acked.
    #[must_use]
    pub fn done_through(mut self, sequence: u64) -> Self {
        self.done_through = sequence;
        self
    }

    /// This message will never go well, and is put aside; see
    /// [`dead_letters`](crate::ConsumerBuilder::dead_letters). It may lie among those that are done.
    #[must_use]
    pub fn reject(mut self, sequence: u64, reason: impl fmt::Display) -> Self {
        self.rejected.push((sequence, reason.to_string()));
        self
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What it says of one message; `None`: it is done.
    pub(super) fn of(&self, sequence: u64) -> Option<HandlerError> {
        let rejected = self.rejected.iter().find(|(number, _)| *number == sequence);
        match rejected {
            Some((_, reason)) => Some(HandlerError::reject(reason)),
            None if sequence <= self.done_through => None,
            None => Some(HandlerError::retry(&self.reason)),
        }
    }
}

// It is no `Error` itself: then it could not be made from all of them.
impl<E: Error> From<E> for BatchError {
    fn from(error: E) -> Self {
        Self::retry(HandlerError::from(error).reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_has_its_own_verdict() {
        let error = BatchError::retry("later")
            .done_through(5)
            .reject(3, "never")
            .reject(8, "no");
        for (sequence, expected) in [
            (2, None),
            (3, Some(HandlerError::reject("never"))),
            (5, None),
            (6, Some(HandlerError::retry("later"))),
            (8, Some(HandlerError::reject("no"))),
        ] {
            assert_eq!(error.of(sequence), expected, "{sequence}");
        }
        let all: BatchError = std::io::Error::other("disk").into();
        assert_eq!(all.of(1), Some(HandlerError::retry("disk")));
    }
}
