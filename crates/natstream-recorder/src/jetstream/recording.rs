//! A stream that is recorded.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use natstream_connect::Connection;
use parking_lot::Mutex;
use stream_sinks::{Receipt, RollingWriter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::error::StreamRecordError;
use super::recorder::{Opened, Settings};
use super::session::Session;
use super::stats::StreamRecordingStats;
use crate::pump::Pump;
use crate::source::StreamSource;

/// The messages of a consumer on their way into files, in a task of its own. Made by
/// [`StreamRecorder::record`](super::StreamRecorder::record).
///
/// # Drop
/// Ends the recording as [`stop`](Self::stop) does, as long as the process and the runtime live.
#[must_use = "dropping it ends the recording"]
pub struct StreamRecording {
    shared: Arc<Shared>,
    writer: RollingWriter,
    source: StreamSource,
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamRecordingEnd {
    /// All that became of the messages.
    pub stats: StreamRecordingStats,
    /// What the sink said when it was closed.
    pub receipt: Receipt,
    /// Why it ended.
    pub reason: StreamEndReason,
    /// Whether nats-server has confirmed all acks. Otherwise the next recording is given some messages again, and acks them.
    pub confirmed: bool,
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamEndReason {
    /// It was [stopped](StreamRecording::stop).
    Stopped,
    /// There were [enough](super::StreamRecorder::max_records) messages.
    Enough,
    /// None came for [too long](super::StreamRecorder::idle_timeout).
    Idle,
}

pub(super) type End = Result<StreamRecordingEnd, StreamRecordError>;

pub(super) struct Shared {
    connection: Connection,
    /// At the beginning.
    epoch: u64,
    failures: Arc<AtomicU64>,
    pub(super) stats: Mutex<StreamRecordingStats>,
    pub(super) stop: CancellationToken,
    end: watch::Sender<Option<End>>,
}

impl StreamRecording {
    pub(super) fn begin(opened: Opened, settings: Settings) -> Self {
        let stats = StreamRecordingStats {
            position: opened.position,
            ..StreamRecordingStats::default()
        };
        let pump = Pump::new(opened.writer.clone(), settings.commit_interval);
        let shared = Arc::new(Shared {
            failures: pump.failures.clone(),
            epoch: opened.connection.state().borrow().epoch,
            connection: opened.connection.clone(),
            stats: Mutex::new(stats),
            stop: CancellationToken::new(),
            end: watch::Sender::new(None),
        });
        let (writer, source) = (opened.writer.clone(), opened.source.clone());
        let ends = Ends(shared.clone());
        let session = Session::new(opened, pump, settings, shared.clone());
        #[expect(clippy::disallowed_methods, reason = "one task for each recording")]
        tokio::spawn(async move {
            let end = session.run().await;
            ends.0.end.send_replace(Some(end));
        });
        Self { shared, writer, source }
    }

    /// Figures of this moment.
    #[must_use]
    pub fn stats(&self) -> StreamRecordingStats {
        let mut stats = *self.shared.stats.lock();
        let epoch = self.shared.connection.state().borrow().epoch;
        stats.storage_failures = self.shared.failures.load(Ordering::Relaxed);
        stats.reconnects = epoch.saturating_sub(self.shared.epoch);
        stats
    }

    /// What is recorded.
    #[must_use]
    pub fn source(&self) -> &StreamSource {
        &self.source
    }

    /// The files: their state, their figures, what was recovered. Closing them ends the recording with an error.
    #[must_use]
    pub fn writer(&self) -> &RollingWriter {
        &self.writer
    }

    /// Takes no more messages, closes the file, acks what is in it, and waits for the acks to be confirmed.
    ///
    /// It takes as long as closing the file may ([`close_timeout`](stream_sinks::RollingWriterBuilder::close_timeout)), and at
    /// most 15 s for the acks. What the files have not taken is not acked.
    ///
    /// # Errors
    /// As [`ended`](Self::ended).
    ///
    /// # Cancel safety
    /// It goes on by itself.
    pub async fn stop(&self) -> Result<StreamRecordingEnd, StreamRecordError> {
        self.shared.stop.cancel();
        self.ended().await
    }

    /// Completes when the recording has ended. Whatever heals by itself does not end it: a lost connection, an election, a
    /// consumer that is deleted, a full disk.
    ///
    /// # Errors
    /// [`StreamRecordErrorKind`](super::StreamRecordErrorKind).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ended(&self) -> Result<StreamRecordingEnd, StreamRecordError> {
        let mut end = self.shared.end.subscribe();
        loop {
            if let Some(end) = &*end.borrow_and_update() {
                return end.clone().map(|end| StreamRecordingEnd {
                    stats: self.stats(),
                    ..end
                });
            }
            if end.changed().await.is_err() {
                // Not while this handle has the sender.
                return Err(StreamRecordError::task_ended());
            }
        }
    }
}

impl Drop for StreamRecording {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl fmt::Debug for StreamRecording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamRecording")
            .field("source", &self.source)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// A task that goes without a word, since its runtime ends or it panics, has ended too.
struct Ends(Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end.send_if_modified(|end| {
            let is_missing = end.is_none();
            if is_missing {
                *end = Some(Err(StreamRecordError::task_ended()));
            }
            is_missing
        });
    }
}
