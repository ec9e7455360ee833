//! What the caller's half says to its driver.

/// What the driver does with the subject that a message brought along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlUse {
    /// Nothing.
    Ignore,
    /// Keep it for the end: it is mapped, and not the newest. At the end of the attempt one bare empty message goes to each
    /// mapped subject that was seen, those of [`Use`](Self::Use) included (rule 61).
    Keep,
    /// The message is of a responder that does not speak this protocol, and [`InboundConfig::plain`](super::InboundConfig::plain)
    /// allows for that: go on with [`Inbound::into_plain`](super::Inbound::into_plain), and give it this message.
    Plain,
    /// Answer a message of another stream there with `CLOSE(UNWANTED)` for this `sid` (rules 8 and 9).
    Refuse(u32),
    /// Send what [`Inbound::poll_transmit`](super::Inbound::poll_transmit) returns there from now on.
    Use,
}

/// What happened to an [`Inbound`](super::Inbound).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InboundEvent {
    /// The first message of the stream was accepted; its headers are the responder's metadata.
    Locked,
    /// There is something for the user: items, or the verdict.
    Readable,
    /// Nothing more arrives, and nothing more is to be sent once `poll_transmit` is drained, but for one bare empty message
    /// to each mapped control subject.
    Terminated,
}

/// Counters of an [`Inbound`](super::Inbound) (rule 70).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboundStats {
    /// Whole items received.
    pub items: u64,
    /// Units received a second time.
    pub retransmitted: u64,
    /// Gaps seen.
    pub gaps: u64,
    /// Messages of another responder.
    pub foreign_responder: u64,
    /// Messages that could not be read. One that names this stream ends it.
    pub malformed: u64,
    /// Suspicions that the responder is gone, after a 503.
    pub suspicions: u64,
    /// Messages that were ignored otherwise, those after the end included, and those with flags that are not known.
    pub ignored: u64,
}
