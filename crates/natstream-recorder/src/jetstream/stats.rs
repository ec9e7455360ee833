//! Figures of a stream's recording.

/// What has become of messages since the recording began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamRecordingStats {
    /// Messages that the files have taken.
    pub recorded: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Messages of them that are safe, as the files' sync mode means it, and were acked then.
    pub committed: u64,
    /// The position: all messages of the consumer up to this sequence are safe, those of earlier recordings included.
    pub position: u64,
    /// Messages that the stream had and removed before they came, by its limits or a purge: they are in no file. Not known
    /// where the consumer has a filter.
    pub missed: u64,
    /// Sequences between messages that were recorded whose messages had been deleted one by one.
    pub deleted: u64,
    /// Messages that the consumer had for us when the last one came.
    pub pending: u64,
    /// How often the connection was lost and found again; nothing is lost by that.
    pub reconnects: u64,
    /// How often the sink's storage failed. Messages waited.
    pub storage_failures: u64,
}
