//! Failures of calls, in the words of a handler that made them.

use stream_proto::{Code, Status};

use crate::error::{Clock, RequestError, RequestErrorKind};

impl RequestError {
    /// The failure as a [`Status`], for a handler that passes it on to its own caller: `HandlerError::upstream` takes either.
    ///
    /// For `Failed` and `Refused` these are the responder's words: code, message, details and `retry_after`. Otherwise the
    /// message is the text of this error, and the code is one of these:
    ///
    /// | kind | code |
    /// |---|---|
    /// | `Connection`, `Lost`, `NoResponders`, `Unanswered` | `UNAVAILABLE` |
    /// | `Timeout` | `DEADLINE_EXCEEDED`; `UNAVAILABLE` when the request was never sent |
    /// | `Cancelled` | `CANCELLED`; `RESOURCE_EXHAUSTED` when the answer exceeded a limit of this side |
    /// | `Decode`, `InvalidRequest`, `NotPermitted`, `Protocol` | `INTERNAL`: the own caller can do nothing about it |
    ///
    /// It is `retryable` when the responder says so, or when the request was certainly not processed and no item has come
    /// ([`is_retryable`](Self::is_retryable)). `not_processed` is never set: the handler that passes it on has run.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let status = match self.status() {
            Some(status) => status.clone(),
            None => Status::new(self.code(), self.to_string()),
        };
        // An attempt before this one may have brought the items.
        let is_unprocessed = self.kind() != RequestErrorKind::Failed && self.is_retryable() && self.items() == 0;
        Status {
            not_processed: false,
            retryable: status.retryable || is_unprocessed,
            ..status
        }
    }

    /// The code of what the responder has not said itself.
    fn code(&self) -> Code {
        match self.kind() {
            RequestErrorKind::Timeout => match self.clock() {
                Some(Clock::Connect | Clock::InFlight) => Code::Unavailable,
                _ => Code::DeadlineExceeded,
            },
            RequestErrorKind::Cancelled if self.is_too_much() => Code::ResourceExhausted,
            RequestErrorKind::Cancelled => Code::Cancelled,
            RequestErrorKind::Decode
            | RequestErrorKind::InvalidRequest
            | RequestErrorKind::NotPermitted
            | RequestErrorKind::Protocol => Code::Internal,
            // The last two come with a status.
            RequestErrorKind::Connection
            | RequestErrorKind::Lost
            | RequestErrorKind::NoResponders
            | RequestErrorKind::Unanswered
            | RequestErrorKind::Failed
            | RequestErrorKind::Refused => Code::Unavailable,
        }
    }
}

/// See [`RequestError::to_status`].
impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        error.to_status()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use stream_proto::{Denied, LostCause, Termination};

    use super::*;
    use crate::error::Flaw;

    fn ended(items: u64, termination: &Termination) -> Status {
        let error = RequestError::from_termination("s", items, termination);
        error.expect("not a success").to_status()
    }

    #[test]
    fn the_words_of_the_responder_are_passed_on_whole() {
        let words = Status {
            details: Bytes::from_static(b"more"),
            retryable: true,
            retry_after: Some(Duration::from_secs(2)),
            ..Status::new(Code::FailedPrecondition, "locked")
        };
        assert_eq!(ended(3, &Termination::Failed(words.clone())), words);
        let for_good = Status::new(Code::NotFound, "no such order");
        assert_eq!(ended(0, &Termination::Failed(for_good.clone())), for_good);
    }

    #[test]
    fn who_passes_a_refusal_on_has_run() {
        let words = Status {
            not_processed: true,
            ..Status::new(Code::ResourceExhausted, "busy")
        };
        let passed_on = ended(0, &Termination::Refused(words));
        assert!(!passed_on.not_processed && passed_on.retryable);
        assert_eq!(passed_on.code, Code::ResourceExhausted);
    }

    #[test]
    fn only_what_was_certainly_not_processed_is_retryable() {
        let lost = Termination::Lost {
            items: 1,
            cause: LostCause::Silent,
        };
        let verdicts = [
            (0, Termination::NoResponders, Code::Unavailable, true),
            // Of an attempt that was to go on after these.
            (2, Termination::NoResponders, Code::Unavailable, false),
            (0, Termination::Unanswered, Code::Unavailable, false),
            (1, lost, Code::Unavailable, false),
            (0, Termination::Cancelled, Code::Cancelled, false),
            (0, Termination::NotPermitted(Denied::Request), Code::Internal, false),
        ];
        for (items, verdict, code, retryable) in verdicts {
            let status = ended(items, &verdict);
            assert_eq!((status.code, status.retryable), (code, retryable), "{verdict:?}");
        }
        let errors = [
            (RequestError::timeout("s", Clock::Connect), Code::Unavailable, true),
            (RequestError::timeout("s", Clock::InFlight), Code::Unavailable, true),
            (
                RequestError::timeout("s", Clock::Deadline),
                Code::DeadlineExceeded,
                false,
            ),
            (RequestError::timeout("s", Clock::Idle), Code::DeadlineExceeded, false),
            (RequestError::closed("s", "closed"), Code::Unavailable, false),
            (RequestError::too_much("s", 9, 100), Code::ResourceExhausted, false),
            (RequestError::invalid("s", Flaw::Subject, "bad"), Code::Internal, false),
        ];
        for (error, code, retryable) in errors {
            let status = Status::from(error);
            assert_eq!((status.code, status.retryable), (code, retryable), "{status}");
        }
    }
}
