//! Puts records into a sink, however often that takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stream_sinks::{Receipt, Record, RecordSink, SinkError, SinkErrorKind};
use tokio::time::{Instant, sleep, sleep_until};

use crate::clock::now;
use crate::entry::Entry;

/// Between two attempts while the storage fails; the sink tries by itself, too.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many records are put in before the time is looked at.
const RECORDS_PER_LOOK: u32 = 256;

#[derive(Debug)]
pub(crate) struct Pump<S> {
    sink: S,
    /// How often the storage failed.
    pub(crate) failures: Arc<AtomicU64>,
    pub(crate) flush_interval: Duration,
    /// The oldest record that was not flushed is so old then; `None` without one.
    flush_at: Option<Instant>,
    /// Since the last look at the clock.
    unlooked: u32,
    is_failing: bool,
}

impl<S: RecordSink> Pump<S> {
    pub(crate) fn new(sink: S, flush_interval: Duration) -> Self {
        Self {
            sink,
            failures: Arc::default(),
            flush_interval,
            flush_at: None,
            unlooked: 0,
            is_failing: false,
        }
    }

    /// Appends it; while the storage fails, again and again.
    ///
    /// # Errors
    /// Of the sink, but for [`Storage`](SinkErrorKind::Storage): this record will never be accepted.
    ///
    /// # Cancel safety
    /// When the future is dropped, the record was not accepted.
    pub(crate) async fn put(&mut self, entry: &Entry) -> Result<(), SinkError> {
        let mut headers = Vec::new();
        self.put_record(entry.record(&mut headers)).await
    }

    /// As [`put`](Self::put).
    pub(crate) async fn put_record(&mut self, record: Record<'_>) -> Result<(), SinkError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.sink.append(record).await {
                Ok(_) => break,
                Err(error) if error.kind() == SinkErrorKind::Storage => self.failed(&error),
                Err(error) => return Err(error),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if self.is_failing {
            self.is_failing = false;
            tracing::info!("the sink takes records again");
        }
        if self.flush_at.is_none() {
            self.flush_at = Some(now() + self.flush_interval);
        }
        Ok(())
    }

    fn failed(&mut self, error: &SinkError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if !self.is_failing {
            self.is_failing = true;
            tracing::warn!(%error, "the sink takes no records at the moment; what it has taken is kept");
        }
    }

    /// Flushes if it is time; only now and then looks whether it is.
    pub(crate) async fn flush_if_due(&mut self) -> Result<(), SinkError> {
        self.unlooked += 1;
        if self.unlooked < RECORDS_PER_LOOK {
            return Ok(());
        }
        self.unlooked = 0;
        match self.flush_at {
            Some(at) if at <= now() => self.try_flush().await,
            _ => Ok(()),
        }
    }

    /// Completes when it is time to flush; never, when there is nothing to flush.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) fn flush_due(&self) -> impl Future<Output = ()> + Send + use<S> {
        // Without a reference to the sink, which may not be `Sync`.
        let flush_at = self.flush_at;
        async move {
            match flush_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Flushes once. A failure of the storage is one of the sink's, which tries again by itself.
    pub(crate) async fn try_flush(&mut self) -> Result<(), SinkError> {
        self.flush_at = None;
        match self.sink.flush().await {
            Err(error) if error.kind() == SinkErrorKind::Storage => {
                self.failed(&error);
                self.flush_at = Some(now() + self.flush_interval.max(FIRST_PAUSE));
                Ok(())
            }
            flushed => flushed.map(drop),
        }
    }

    /// Flushes; while the storage fails, again and again.
    pub(crate) async fn flush(&mut self) -> Result<Receipt, SinkError> {
        self.flush_at = None;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.sink.flush().await {
                Err(error) if error.kind() == SinkErrorKind::Storage => self.failed(&error),
                flushed => return flushed,
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    pub(crate) async fn close(self) -> Result<Receipt, SinkError> {
        self.sink.close().await
    }
}
