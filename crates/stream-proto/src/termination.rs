//! How a stream ended, as the caller sees it.

use bytes::Bytes;

use crate::error::ProtocolError;
use crate::status::Status;

/// The one verdict on a stream (rule 52). "It stopped" is never success.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Termination {
    /// The caller cancelled.
    Cancelled,
    /// Complete: all items arrived, each once, in order, and their number matches.
    Ended {
        /// Number of items.
        items: u64,
        /// What the handler sent with the end.
        trailers: Bytes,
    },
    /// The responder failed, after everything that it had sent before; or there was no memory here for an item that spans
    /// messages (`RESOURCE_EXHAUSTED`).
    Failed(Status),
    /// The stream broke: what came before the gap was delivered.
    Lost {
        /// Items received.
        items: u64,
        /// What happened.
        cause: LostCause,
    },
    /// Nobody serves the subject; certainly not processed.
    NoResponders,
    /// The server did not let this side's user do what the call needs.
    NotPermitted(Denied),
    /// The responder broke the protocol.
    Protocol(ProtocolError),
    /// The responder did not take the call; certainly not processed.
    Refused(Status),
    /// One of the caller's clocks ran out.
    TimedOut(Clock),
    /// No sign of a responder in time. The handler may have run.
    Unanswered,
}

/// The caller's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Clock {
    /// The whole call.
    Deadline,
    /// Until the first item.
    FirstItem,
    /// Between two items.
    Idle,
}

/// What a user may not do, so that its call cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Denied {
    /// Publish to the responder's control subject: credit would never arrive. The handler runs.
    Control,
    /// Subscribe to the subjects that answers arrive at. The handler may run.
    Inbox,
    /// Publish to the subject of the request; certainly not processed.
    Request,
}

/// Why a stream was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostCause {
    /// The own connection was closed, or down for too long.
    Disconnected,
    /// The responder does not know the stream any more.
    Forgotten,
    /// Something is missing, and cannot be asked for without control (rule 66).
    Gap,
    /// Nobody was subscribed to the responder's subject for 5 s.
    Gone,
    /// The subject mapping between the accounts has ended.
    MappingEnded,
    /// The user did not read fast enough, and there is no flow control in this dialect.
    Overflow,
    /// Nothing was heard from the responder for three heartbeats.
    Silent,
    /// Across accounts, nothing came after the first message: the export allows for one response only (rule 63).
    SingleResponse,
}

impl Termination {
    /// Did the call succeed?
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }
}
