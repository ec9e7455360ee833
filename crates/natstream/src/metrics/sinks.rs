//! Files of records.

use metrics::Unit;
use stream_sinks::{RollingWriter, SinkStats};

use super::sealed::Observe;
use super::table::{Row, Table, level, total};

const SINK: Table<SinkStats> = Table {
    labels: &["sink"],
    metrics: &[
        total(
            "natstream_sink_accepted_records_total",
            Unit::Count,
            "Records that were accepted.",
            |s| s.accepted,
        ),
        total(
            "natstream_sink_accepted_bytes_total",
            Unit::Bytes,
            "Bytes of these records, in the form of the file.",
            |s| s.bytes,
        ),
        total(
            "natstream_sink_written_records_total",
            Unit::Count,
            "Records that survive the death of the process.",
            |s| s.written,
        ),
        total(
            "natstream_sink_synced_records_total",
            Unit::Count,
            "Records that survive a power loss.",
            |s| s.synced,
        ),
        level(
            "natstream_sink_buffered_bytes",
            Unit::Bytes,
            "Bytes of buffers in use.",
            |s| s.buffered as f64,
        ),
        total(
            "natstream_sink_file_bytes_total",
            Unit::Bytes,
            "Bytes written to files.",
            |s| s.file_bytes,
        ),
        total(
            "natstream_sink_closed_files_total",
            Unit::Count,
            "Files that got their final name.",
            |s| s.files_closed,
        ),
        total(
            "natstream_sink_compressed_files_total",
            Unit::Count,
            "Files that were compressed after they were closed.",
            |s| s.files_compressed,
        ),
        total(
            "natstream_sink_removed_files_total",
            Unit::Count,
            "Files that retention removed.",
            |s| s.files_removed,
        ),
        total(
            "natstream_sink_vanished_files_total",
            Unit::Count,
            "Files that somebody else removed or cut while they were written.",
            |s| s.files_vanished,
        ),
        total("natstream_sink_syncs_total", Unit::Count, "Syncs of data.", |s| s.syncs),
        total(
            "natstream_sink_storage_failures_total",
            Unit::Count,
            "Attempts to write, sync or close that failed.",
            |s| s.storage_failures,
        ),
        total(
            "natstream_sink_care_failures_total",
            Unit::Count,
            "Compressions, removals and hooks that failed.",
            |s| s.care_failures,
        ),
    ],
};

pub(super) fn rows() -> Vec<Row> {
    SINK.rows().collect()
}

impl Observe for RollingWriter {
    fn observe(&self, name: &str) {
        SINK.tell(&[name], &self.stats());
    }
}
