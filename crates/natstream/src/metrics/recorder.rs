//! Recordings.

use metrics::Unit;
use natstream_recorder::{Recording, RecordingStats};
#[cfg(feature = "eventbus")]
use natstream_recorder::{StreamRecording, StreamRecordingStats};

use super::sealed::Observe;
use super::table::{Row, Table, level, total};

const RECORDING: Table<RecordingStats> = Table {
    labels: &["recording"],
    metrics: &[
        total(
            "natstream_recording_received_messages_total",
            Unit::Count,
            "Messages that arrived.",
            |s| s.received,
        ),
        total(
            "natstream_recording_recorded_messages_total",
            Unit::Count,
            "Messages that the files have taken.",
            |s| s.recorded,
        ),
        total(
            "natstream_recording_recorded_bytes_total",
            Unit::Bytes,
            "Bytes of their payloads.",
            |s| s.bytes,
        ),
        total(
            "natstream_recording_dropped_messages_total",
            Unit::Count,
            "Messages that were dropped: the sink was too slow and the buffer full.",
            |s| s.dropped,
        ),
        total(
            "natstream_recording_refused_messages_total",
            Unit::Count,
            "Messages that the sink can never take.",
            |s| s.refused,
        ),
        total(
            "natstream_recording_missed_messages_total",
            Unit::Count,
            "Messages that did not come: at least so many.",
            |s| s.missed,
        ),
        level(
            "natstream_recording_waiting_messages",
            Unit::Count,
            "Messages that wait for the sink.",
            |s| s.waiting as f64,
        ),
        level(
            "natstream_recording_waiting_bytes",
            Unit::Bytes,
            "Bytes that those take, roughly.",
            |s| s.waiting_bytes as f64,
        ),
        level(
            "natstream_recording_lag_seconds",
            Unit::Seconds,
            "How long the oldest of those waits.",
            |s| s.lag.as_secs_f64(),
        ),
        total(
            "natstream_recording_reconnects_total",
            Unit::Count,
            "How often the connection was lost and found again.",
            |s| s.reconnects,
        ),
        total(
            "natstream_recording_storage_failures_total",
            Unit::Count,
            "How often the sink's storage failed.",
            |s| s.storage_failures,
        ),
    ],
};

/// Those with the names of others mean the same.
#[cfg(feature = "eventbus")]
const STREAM: Table<StreamRecordingStats> = Table {
    labels: &["recording"],
    metrics: &[
        total(
            "natstream_recording_recorded_messages_total",
            Unit::Count,
            "Messages that the files have taken.",
            |s| s.recorded,
        ),
        total(
            "natstream_recording_recorded_bytes_total",
            Unit::Bytes,
            "Bytes of their payloads.",
            |s| s.bytes,
        ),
        total(
            "natstream_recording_safe_messages_total",
            Unit::Count,
            "Messages of a stream that are safe in the files, and were acked then.",
            |s| s.committed,
        ),
        level(
            "natstream_recording_position",
            Unit::Count,
            "All messages of the consumer up to this sequence are safe.",
            |s| s.position as f64,
        ),
        total(
            "natstream_recording_missed_messages_total",
            Unit::Count,
            "Messages that did not come: at least so many.",
            |s| s.missed,
        ),
        total(
            "natstream_recording_deleted_messages_total",
            Unit::Count,
            "Messages that had been deleted from the stream one by one.",
            |s| s.deleted,
        ),
        level(
            "natstream_recording_pending_messages",
            Unit::Count,
            "Messages that the consumer had for us when the last one came.",
            |s| s.pending as f64,
        ),
        total(
            "natstream_recording_reconnects_total",
            Unit::Count,
            "How often the connection was lost and found again.",
            |s| s.reconnects,
        ),
        total(
            "natstream_recording_storage_failures_total",
            Unit::Count,
            "How often the sink's storage failed.",
            |s| s.storage_failures,
        ),
    ],
};

pub(super) fn rows() -> Vec<Row> {
    let rows = RECORDING.rows();
    #[cfg(feature = "eventbus")]
    let rows = rows.chain(STREAM.rows());
    rows.collect()
}

impl Observe for Recording {
    fn observe(&self, name: &str) {
        RECORDING.tell(&[name], &self.stats());
    }
}

/// Its [writer](StreamRecording::writer) has figures of its own.
#[cfg(feature = "eventbus")]
impl Observe for StreamRecording {
    fn observe(&self, name: &str) {
        STREAM.tell(&[name], &self.stats());
    }
}
