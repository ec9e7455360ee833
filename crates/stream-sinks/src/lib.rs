//! Files of records that roll by the hour, and survive kills, power loss, full disks and daylight-saving days.
//!
//! ```
//! use stream_sinks::{Format, Record, RollingWriter, Rotation};
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let writer = RollingWriter::builder(dir, "orders")
//!     .rotation(Rotation::HOURLY.or_size(1 << 30))
//!     .format(Format::json_lines())
//!     .open()?;
//! writer.append_blocking(Record::new(b"42").subject("orders.new").sequence(1))?;
//! writer.flush_blocking()?;
//! writer.close_blocking()?; // <dir>/20261120/orders_2026112004.log
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`RecordSink`] is what all sinks can do: append, flush with a [`Receipt`] of what is durable, close.
//! - [`RollingWriter`] is one that writes files; [`RollingWriterBuilder`] lists its settings.
//! - [`ClosedFile`] is a file that was written, and [`RecordReader`] reads it back.
//! - [`SegmentLog`] is a log to append to, read, and delete from the front, for spools.
//! - [`Storage`] is the file system under both, and [`CrashImage`] one that tests can pull the plug of.
//!
//! # What survives what
//! `append` returns when a record is in memory. After `flush`, the receipt says how many records survive the death of the
//! process, and how many a power loss, by the [`Sync`] mode. What was left in progress is recovered at the next start: cut
//! after the last whole record, and closed under its final name.
//!
//! # Features
//! None is on by default.
//! - `gzip`: [`Compression`] of closed files with gzip.
//! - `tokio`: `AsyncLineWriter`, an `AsyncWrite`.
//! - `zstd`: [`Compression`] of closed files with zstd, or as they are written.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "tokio")]
mod async_writer;
mod block;
mod builder;
mod calendar;
mod clock;
mod closed_file;
mod committer;
mod compress;
mod driver;
mod error;
mod format;
mod janitor;
mod journal;
mod line_writer;
mod manifest;
mod planner;
mod queue;
mod reader;
mod record;
mod recovery;
mod retention;
mod segment_log;
mod shared;
mod sink;
mod storage;
mod template;
#[cfg(test)]
mod tests;
mod writer;

#[cfg(feature = "tokio")]
pub use self::async_writer::AsyncLineWriter;
pub use self::{
    builder::{RollingWriterBuilder, Sync},
    calendar::Zone,
    clock::{Clock, ManualClock, SystemClock},
    closed_file::ClosedFile,
    compress::Compression,
    error::{SinkError, SinkErrorKind},
    format::{Boundary, Format, Formatter, FrameError, Frames},
    line_writer::LineWriter,
    manifest::Manifest,
    planner::{FileBy, Rotation},
    reader::{ReadError, ReadFormat, RecordReader, StoredRecord},
    record::Record,
    recovery::{RecoveredFile, Recovery},
    retention::Retention,
    segment_log::{LogRecovery, SegmentLog, SegmentLogBuilder, SegmentReader},
    sink::{BoxFuture, DynRecordSink, Receipt, RecordSink},
    storage::{CrashImage, DiskStorage, Fault, Storage, StorageEntry, StorageFile},
    writer::{RollingWriter, SinkState, SinkStats},
};
