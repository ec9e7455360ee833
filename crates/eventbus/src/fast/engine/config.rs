//! How an engine works.

/// Durations are in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Events that are accepted and neither acked nor failed.
    pub(crate) window: usize,
    /// Their bytes. One event alone may be larger.
    pub(crate) window_bytes: usize,
    /// From acceptance to failure.
    pub(crate) deadline: u64,
    /// How many times the flow may be under way.
    pub(crate) outstanding: u64,
    /// A batch ends when no event has come for so long.
    pub(crate) linger: u64,
    /// A batch ends when the stream has not told how far it is for so long.
    pub(crate) patience: u64,
    /// How long the answer to a beginning or an end may take before the stream is asked (again) how far it came.
    pub(crate) answer_timeout: u64,
    /// The pause after the first refusal; it doubles with each further one.
    pub(crate) first_pause: u64,
    pub(crate) longest_pause: u64,
    /// Events without an id of their own are given one.
    pub(crate) gives_ids: bool,
    /// What nobody knows of goes again, ids or not.
    pub(crate) repeats: bool,
    /// Of the jitter.
    pub(crate) seed: u64,
}
