//! Figures of a recording.

use std::time::Duration;

/// What has become of messages. `received = recorded + dropped + refused + waiting`, at each moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordingStats {
    /// Messages that arrived.
    pub received: u64,
    /// Messages that the sink accepted.
    pub recorded: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Messages that were dropped since the sink was too slow and the buffer full, or since the recording had to end.
    pub dropped: u64,
    /// Messages that the sink can never take: they are larger than its buffer.
    pub refused: u64,
    /// Messages that did not even arrive, since this process was too slow to take them from async-nats: at least so many.
    pub missed: u64,
    /// Messages that wait for the sink.
    pub waiting: u64,
    /// Bytes that those take, roughly.
    pub waiting_bytes: usize,
    /// How long the oldest of those waits; zero when none does.
    pub lag: Duration,
    /// How often the connection was lost and found again; messages of that time are lost.
    pub reconnects: u64,
    /// How often the sink's storage failed. What it had accepted is kept.
    pub storage_failures: u64,
}
