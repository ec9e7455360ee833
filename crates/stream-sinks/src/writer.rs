//! The handle of a rolling writer.

use std::{
    fmt,
    future::poll_fn,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    task::{Poll, Waker},
    time::{Duration, SystemTime},
};

use crate::{
    LineWriter, Receipt, Record, RecordSink, Recovery, RollingWriterBuilder, SinkError,
    clock::timestamp,
    format::Encoder,
    janitor::CareCounts,
    queue::{Gate, Piece},
    shared::Shared,
};

/// Files of records that roll by the hour, and survive.
///
/// A file grows as `….part`, with a hidden journal beside it, and appears under its final name when it is complete; no
/// file is ever replaced. Handles are cloned for several producers. One thread writes; a second one exists while closed
/// files are compressed or removed. No runtime is needed.
///
/// Records are copied into a buffer, and written when a block of it is full, after the
/// [flush interval](RollingWriterBuilder::flush_interval), or when asked.
///
/// While the storage fails (a full disk, a directory that was removed), nothing is accepted:
/// [`append`](RecordSink::append) gives the error, what had been accepted is kept and tried again, and
/// [`ready`](Self::ready) tells when it works.
///
/// ```
/// use stream_sinks::RollingWriter;
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let writer = RollingWriter::builder(dir, "events").open()?;
/// writer.append_blocking("a line")?;
/// let receipt = writer.close_blocking()?;
/// assert_eq!(receipt.survive_power_loss, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Drop
/// With the last handle the writer closes in the background; what the storage then does not take within the
/// [time for closing](RollingWriterBuilder::close_timeout), or before the process ends, is lost. Close it to know.
pub struct RollingWriter {
    shared: Arc<Shared>,
    owners: Arc<Owners>,
    encoder: Encoder,
    by_record_time: bool,
    /// A record of a format that is not just copied.
    scratch: Vec<u8>,
}

/// What all handles have in common; closes the writer with the last one.
struct Owners {
    shared: Arc<Shared>,
    recovery: Recovery,
    care: Arc<CareCounts>,
}

/// Whether a writer accepts records.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SinkState {
    /// It does.
    Accepting,
    /// The storage fails, and is tried again.
    #[non_exhaustive]
    Blocked {
        /// What failed last.
        error: SinkError,
        /// For how long.
        since: Duration,
    },
    /// It was closed.
    Closed,
}

/// What a writer has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkStats {
    /// Records that were accepted, and their bytes in the file's format.
    pub accepted: u64,
    /// See [`accepted`](Self::accepted).
    pub bytes: u64,
    /// Records that survive the death of the process.
    pub written: u64,
    /// Records that survive a power loss.
    pub synced: u64,
    /// Bytes of buffers in use.
    pub buffered: usize,
    /// Bytes written to files.
    pub file_bytes: u64,
    /// Files that got their final name.
    pub files_closed: u64,
    /// Files that were compressed after they were closed.
    pub files_compressed: u64,
    /// Files that retention removed.
    pub files_removed: u64,
    /// Files that somebody else removed or cut while they were written.
    pub files_vanished: u64,
    /// Syncs of data.
    pub syncs: u64,
    /// Attempts to write, sync or close that failed.
    pub storage_failures: u64,
    /// Compressions, removals and hooks that failed.
    pub care_failures: u64,
}

impl RollingWriter {
    /// Settings for a writer of files of this name in this directory, both of which may not exist yet.
    pub fn builder(dir: impl AsRef<Path>, name: impl AsRef<str>) -> RollingWriterBuilder {
        RollingWriterBuilder::new(dir.as_ref(), name.as_ref())
    }

    pub(crate) fn new(
        shared: Arc<Shared>,
        encoder: Encoder,
        recovery: Recovery,
        care: Arc<CareCounts>,
        by_record_time: bool,
    ) -> Self {
        let owners = Owners {
            shared: Arc::clone(&shared),
            recovery,
            care,
        };
        Self {
            shared,
            owners: Arc::new(owners),
            encoder,
            by_record_time,
            scratch: Vec::new(),
        }
    }

    /// [`append`](RecordSink::append) without a runtime: waits while the buffer is full.
    ///
    /// # Errors
    /// As `append`.
    #[inline]
    pub fn append_blocking<'a>(&self, record: impl Into<Record<'a>>) -> Result<u64, SinkError> {
        let record = record.into();
        if let Encoder::Copy(newline) = self.encoder {
            return self
                .shared
                .push_blocking(&self.piece(&record, record.payload(), newline));
        }
        let mut scratch = Vec::new();
        let record = self.encode(record, &mut scratch);
        self.shared.push_blocking(&self.piece(&record, &scratch, false))
    }

    /// Appends without waiting.
    ///
    /// # Errors
    /// [`Full`](crate::SinkErrorKind::Full), and as `append`.
    pub fn try_append<'a>(&self, record: impl Into<Record<'a>>) -> Result<u64, SinkError> {
        let mut scratch = Vec::new();
        match self.poll_append(record.into(), &mut scratch, None) {
            Poll::Ready(result) => result,
            // Not without a waker.
            Poll::Pending => unreachable!("only waits with a waker"),
        }
    }

    /// One attempt. The scratch holds the encoded record, also for the next attempt.
    fn poll_append(
        &self,
        record: Record<'_>,
        scratch: &mut Vec<u8>,
        waker: Option<&Waker>,
    ) -> Poll<Result<u64, SinkError>> {
        if let Encoder::Copy(newline) = self.encoder {
            return self
                .shared
                .poll_push(&self.piece(&record, record.payload(), newline), waker);
        }
        scratch.clear();
        let record = self.encode(record, scratch);
        self.shared.poll_push(&self.piece(&record, scratch, false), waker)
    }

    /// Outside of the lock: a slow or panicking formatter is its producer's own affair.
    fn encode<'a>(&self, mut record: Record<'a>, out: &mut Vec<u8>) -> Record<'a> {
        if let Encoder::Custom(formatter) = &self.encoder {
            if formatter.needs_time() && record.time_of().is_none() {
                record = record.time(self.shared.clock.now());
            }
            formatter.encode(&record, out);
        }
        record
    }

    fn piece<'a>(&self, record: &Record<'_>, bytes: &'a [u8], newline: bool) -> Piece<'a> {
        let time = if self.by_record_time { record.time_of() } else { None };
        Piece {
            bytes,
            newline,
            sequence: record.sequence_of(),
            time: time.map(|time: SystemTime| timestamp(time)),
        }
    }

    /// [`flush`](RecordSink::flush) without a runtime.
    ///
    /// # Errors
    /// As `flush`.
    pub fn flush_blocking(&self) -> Result<Receipt, SinkError> {
        self.shared.flush_blocking(self.shared.flush())
    }

    /// Ends the current file now, whatever the rotation says, and tells when it has its final name. The next record begins
    /// another one.
    ///
    /// # Errors
    /// As `flush`.
    ///
    /// # Cancel safety
    /// The file is ended all the same.
    pub async fn roll(&self) -> Result<Receipt, SinkError> {
        let flush = self.shared.roll();
        poll_fn(|context| self.shared.poll_flush(flush, context.waker())).await
    }

    /// Ends the current file if its period has been over for so long, by the clock; gives whether it does. The file gets its
    /// final name in the background.
    ///
    /// For those who under [`FileBy::RecordTime`](crate::FileBy::RecordTime) know better than
    /// [`late_records`](RollingWriterBuilder::late_records) that no record of the period can come any more.
    #[must_use = "it tells whether a file ends"]
    pub fn roll_overdue(&self, wait: Duration) -> bool {
        self.shared.roll_overdue(wait)
    }

    /// [`close`](RecordSink::close) without a runtime. Ends all handles' writer.
    ///
    /// # Errors
    /// As `close`.
    pub fn close_blocking(self) -> Result<Receipt, SinkError> {
        self.shared.close();
        self.shared.closed_blocking()
    }

    /// Waits until records are accepted; at once, unless the storage fails.
    ///
    /// # Errors
    /// [`Closed`](crate::SinkErrorKind::Closed).
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    pub async fn ready(&self) -> Result<(), SinkError> {
        poll_fn(|context| self.shared.poll_ready(context.waker())).await
    }

    /// What is durable now.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        self.shared.receipt()
    }

    /// Whether records are accepted.
    #[must_use]
    pub fn state(&self) -> SinkState {
        let now = self.shared.clock.elapsed();
        let queue = self.shared.queue();
        match (queue.gate(), queue.failure()) {
            (Gate::Closing | Gate::Closed, _) => SinkState::Closed,
            (Gate::Blocked, Some(error)) => SinkState::Blocked {
                error: error.clone(),
                since: now.saturating_sub(queue.blocked_since().unwrap_or(now)),
            },
            _ => SinkState::Accepting,
        }
    }

    /// What was done since it was opened.
    #[must_use]
    pub fn stats(&self) -> SinkStats {
        let queue = self.shared.queue();
        let counts = queue.counts();
        let care = &self.owners.care;
        SinkStats {
            accepted: queue.accepted(),
            bytes: queue.bytes(),
            written: queue.written(),
            synced: queue.synced(),
            buffered: queue.buffered(),
            file_bytes: counts.file_bytes,
            files_closed: counts.files_closed,
            files_compressed: care.compressed.load(Ordering::Relaxed),
            files_removed: care.removed.load(Ordering::Relaxed),
            files_vanished: counts.vanished,
            syncs: counts.syncs,
            storage_failures: queue.failures(),
            care_failures: care.failures.load(Ordering::Relaxed),
        }
    }

    /// The file in progress; `None` between files.
    #[must_use]
    pub fn current_file(&self) -> Option<PathBuf> {
        self.shared.current_file()
    }

    /// What was found and mended when it was opened.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.owners.recovery
    }

    /// A [`std::io::Write`] of which each line is a record.
    #[must_use]
    pub fn line_writer(&self) -> LineWriter {
        LineWriter::new(self.clone())
    }

    pub(crate) fn is_own_thread(&self) -> bool {
        self.shared.is_own_thread()
    }

    /// Bytes of the buffer, and so of the largest record.
    pub(crate) fn buffer(&self) -> usize {
        self.shared.queue().capacity()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn poll_line(&self, line: &[u8], scratch: &mut Vec<u8>, waker: &Waker) -> Poll<Result<u64, SinkError>> {
        self.poll_append(Record::new(line), scratch, Some(waker))
    }
}

impl RecordSink for RollingWriter {
    async fn append(&mut self, record: Record<'_>) -> Result<u64, SinkError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = poll_fn(|context| self.poll_append(record, &mut scratch, Some(context.waker()))).await;
        self.scratch = scratch;
        result
    }

    async fn flush(&mut self) -> Result<Receipt, SinkError> {
        let flush = self.shared.flush();
        poll_fn(|context| self.shared.poll_flush(flush, context.waker())).await
    }

    async fn close(self) -> Result<Receipt, SinkError> {
        self.shared.close();
        poll_fn(|context| self.shared.poll_closed(context.waker())).await
    }
}

impl Clone for RollingWriter {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            owners: Arc::clone(&self.owners),
            encoder: self.encoder.clone(),
            by_record_time: self.by_record_time,
            scratch: Vec::new(),
        }
    }
}

impl Drop for Owners {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for RollingWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RollingWriter")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
