//! What can go wrong while consuming.

use std::error::Error;
use std::fmt;

/// Why a handler did not handle a message.
///
/// Every error becomes one that is tried again, so `?` works in a handler. The handlers of calls have another type of this name,
/// `HandlerError` of stream-server (`natstream::HandlerError`), which says what the caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerError {
    reason: String,
    is_final: bool,
}

impl HandlerError {
    /// It may go well later: the message is tried again.
    #[must_use]
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
            is_final: false,
        }
    }

    /// It will never go well: the message is put aside at once.
    #[must_use]
    pub fn reject(reason: impl fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
            is_final: true,
        }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Is it no use to try again?
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.is_final
    }
}

// It is no `Error` itself: then it could not be made from all of them.
impl<E: Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason.push_str(": ");
            reason.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::retry(reason)
    }
}

/// Why nothing more can be consumed.
#[derive(Debug)]
pub struct ConsumeError {
    kind: ConsumeErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConsumeErrorKind {
    /// The connection is closed.
    Closed,
    /// A setting cannot work.
    Invalid,
    /// JetStream is not enabled, or not there at the moment.
    NotEnabled,
    /// There is no such consumer, or no such stream.
    NotFound,
    /// nats-server does not let this user ask for messages, or receive them.
    NotPermitted,
    /// The consumer pushes, and cannot be asked.
    NotPull,
    /// No stream of the account takes the subject of dead letters: they could not be put aside. `natstream bus stream add`
    /// makes one.
    NoDeadLetterStream,
    /// nats-server refuses for good.
    Rejected,
    /// The stream was deleted and made again, or has lost its newest messages and ends before the position: sequences mean
    /// other messages.
    StreamReplaced,
    /// Somebody else asks this consumer for messages, and whoever wants them in order must be alone.
    InUse,
    /// nats-server is too old for it.
    Unsupported,
    /// nats-server has not answered in time.
    Timeout,
    /// Acks were not confirmed: messages may come again.
    Unconfirmed,
}

impl ConsumeError {
    pub(super) fn new(kind: ConsumeErrorKind) -> Self {
        Self { kind, source: None }
    }

    pub(super) fn because(kind: ConsumeErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            source: Some(source.into()),
        }
    }

    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> ConsumeErrorKind {
        self.kind
    }
}

impl fmt::Display for ConsumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            ConsumeErrorKind::Closed => "the connection is closed",
            ConsumeErrorKind::Invalid => "a setting of the consumer cannot work",
            ConsumeErrorKind::NotEnabled => "JetStream is not enabled, or not there at the moment",
            ConsumeErrorKind::NotFound => "there is no such consumer",
            ConsumeErrorKind::NotPermitted => "nats-server does not permit this user to consume",
            ConsumeErrorKind::NotPull => "the consumer pushes, and cannot be asked for messages",
            ConsumeErrorKind::NoDeadLetterStream => {
                "no stream takes the subject of dead letters; `natstream bus stream add` makes one"
            }
            ConsumeErrorKind::Rejected => "nats-server refuses to give messages",
            ConsumeErrorKind::StreamReplaced => "the stream was deleted and made again, or has lost messages",
            ConsumeErrorKind::InUse => "somebody else asks the consumer for messages",
            ConsumeErrorKind::Unsupported => "nats-server is too old: this needs version 2.14",
            ConsumeErrorKind::Timeout => "JetStream has not answered",
            ConsumeErrorKind::Unconfirmed => "acks were not confirmed, and messages may come again",
        })
    }
}

impl Error for ConsumeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<crate::topology::TopologyError> for ConsumeError {
    fn from(error: crate::topology::TopologyError) -> Self {
        use crate::topology::TopologyErrorKind;
        let kind = match error.kind() {
            TopologyErrorKind::NotEnabled => ConsumeErrorKind::NotEnabled,
            TopologyErrorKind::NotFound => ConsumeErrorKind::NotFound,
            TopologyErrorKind::Connection => ConsumeErrorKind::Closed,
            TopologyErrorKind::Timeout => ConsumeErrorKind::Timeout,
            _ => ConsumeErrorKind::Rejected,
        };
        Self::because(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_tried_again_and_says_its_causes() {
        let error: HandlerError = std::io::Error::other("disk").into();
        assert_eq!((error.reason(), error.is_final()), ("disk", false));
        assert!(HandlerError::reject("x").is_final());
        // Errors can be their reasons, and so can texts of any kind.
        let parsed = "x".parse::<u8>().map_err(HandlerError::reject);
        assert!(parsed.is_err_and(|error| error.is_final()));
        assert_eq!(HandlerError::retry(format!("{} tries", 3)).reason(), "3 tries");
    }
}
