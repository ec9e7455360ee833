//! How an engine works.

/// Whether the stream can know an event that it has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dedup {
    /// Every event carries a `Nats-Msg-Id`: its own, or one that the bus makes of a random prefix and a number. An event
    /// whose answer is lost can be sent again: the stream keeps the first copy, as long as its duplicate window is longer
    /// than the [deadline](crate::BusBuilder::deadline).
    #[default]
    Id,
    /// No header is added, which is faster. Only refusals that prove that nothing was stored (503, 429) are tried again. An
    /// event whose answer is lost, with the connection or by the deadline, fails as
    /// [`Unknown`](crate::PublishErrorKind::Unknown). Events with an id of their own are treated as under [`Id`](Self::Id).
    Off,
}

/// In which order the stream has the events of one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ordering {
    /// As they were accepted, as long as nothing is tried again. An event that was refused or whose connection was lost may
    /// come behind later ones.
    #[default]
    Fast,
    /// Always as they were accepted: one event of a subject is under way at a time, which makes one for each round trip.
    /// Events of different subjects do not wait for each other. Needs [`Dedup::Id`].
    ///
    /// An event that fails lets the next ones pass; if it [may be stored](crate::PublishError::may_be_stored), it may be
    /// behind them.
    Strict,
}

/// Durations are in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct EngineConfig {
    /// Events that are accepted and neither acked nor failed.
    pub(crate) window: usize,
    /// Their bytes. One event alone may be larger.
    pub(crate) window_bytes: usize,
    /// From acceptance to failure.
    pub(crate) deadline: u64,
    /// How long an answer may take before the event is sent again.
    pub(crate) ack_timeout: u64,
    /// The pause after the first refusal; it doubles with each further one.
    pub(crate) first_pause: u64,
    pub(crate) longest_pause: u64,
    pub(crate) dedup: Dedup,
    pub(crate) ordering: Ordering,
    /// Of the jitter.
    pub(crate) seed: u64,
}
