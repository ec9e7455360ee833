//! How an engine works.

/// Durations are in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct PullConfig {
    /// Messages that may be held and asked for at once.
    pub(crate) slots: usize,
    /// Messages in one request at most: the consumer may have a limit of its own.
    pub(crate) most: usize,
    /// Bytes of messages in one request at most. A message that is larger would never come.
    pub(crate) bytes: Option<usize>,
    /// How long a request waits at the consumer.
    pub(crate) expires: u64,
    /// How often nats-server says that it knows a request.
    pub(crate) heartbeat: u64,
    /// The pause after the first refusal; it doubles with each further one.
    pub(crate) first_pause: u64,
    pub(crate) longest_pause: u64,
    pub(crate) plan: Plan,
    /// Of the jitter.
    pub(crate) seed: u64,
}

/// How much is asked for in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// As much as there is room for, until it is stopped.
    Continuous,
    /// So many messages, as far as they come until then.
    Fetch { count: usize, until: u64 },
}

/// How much longer than it waits at the consumer a request may take: the way there and back, and a busy server.
pub(super) const GRACE: u64 = 2_000_000_000;

/// The shortest wait that a request asks for: nats-server takes nothing for no limit.
pub(super) const SHORTEST: u64 = 1_000_000;

/// Requests that are remembered. nats-server serves the requests of a consumer in turn, one message each, and none asks for
/// more than twice what the others do: when so many came after one, it has got all of its messages.
pub(super) const REMEMBERED: usize = 64;
