//! What the responder's half says to its driver.

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// No credit: say so with [`Outbound::wait_for_credit`](super::Outbound::wait_for_credit) and wait for [`OutboundEvent::Ready`].
    #[error("the caller has no room for more at the moment")]
    Blocked,
    /// The dialect has no form for the item. It ends the stream.
    #[error("the dialect of the caller cannot represent the item")]
    NotRepresentable,
    /// The stream has ended.
    #[error("the stream has ended")]
    Ended,
    /// The item is larger than both sides agreed on.
    #[error("an item of {size} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The agreed limit.
        max: u64,
    },
}

/// Why a stream ended before the handler ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The caller cancelled, or does not know the stream any more.
    Cancelled,
    /// The total deadline passed.
    Deadline,
    /// The own connection was closed, or down for too long.
    Disconnected,
    /// Nothing was heard from the caller for three heartbeats, or nobody was subscribed to its subject for 5 s.
    Gone,
    /// The server does not let this side's user publish to the caller.
    NotPermitted,
    /// The caller says that this side broke the protocol.
    Protocol,
    /// The caller did not read for longer than the stall limit.
    Stalled,
    /// This side ended the stream: it drains, or the handler failed.
    Local,
}

/// What happened to an [`Outbound`](super::Outbound).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutboundEvent {
    /// [`Outbound::push`](super::Outbound::push) takes items again.
    Ready,
    /// The stream ended before the handler ended it; nothing more is taken.
    Closed(CloseReason),
    /// The stream is over and its end confirmed, or not worth waiting for: drop the machine once
    /// [`Outbound::poll_transmit`](super::Outbound::poll_transmit) is drained.
    Forgotten,
}

/// Counters of an [`Outbound`](super::Outbound) (rule 70).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboundStats {
    /// Items taken.
    pub items: u64,
    /// Bytes of items taken.
    pub bytes: u64,
    /// Units sent again.
    pub retransmitted: u64,
    /// Requests to send again that were followed.
    pub rewinds: u64,
    /// Messages that were ignored: another stream, an unknown kind, a stale position. Those with flags that are not known count too.
    pub ignored: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Suspicions that the caller is gone, after a 503.
    pub suspicions: u64,
}
