//! The end of an outbox, and waiting for that of all events.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Outbox;
use crate::error::{PublishError, PublishErrorKind, Undelivered};

impl Outbox {
    /// Waits until everything that was accepted so far is delivered, at most this long.
    ///
    /// # Errors
    /// [`Undelivered`]: so many are still in the files, or wait to be written there, and will be delivered; or were refused for
    /// good since the last flush.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn flush(&self, limit: Duration) -> Result<(), Undelivered> {
        let deliveries = &self.handle.deliveries;
        let done = async {
            if let Some(syncer) = &self.handle.syncer {
                syncer.idle(deliveries).await;
            }
            let before = deliveries.spool.next_number();
            loop {
                let mut progress = std::pin::pin!(deliveries.progress.notified());
                progress.as_mut().enable();
                if deliveries.ledger.lock().is_done_below(before) {
                    return;
                }
                progress.await;
            }
        };
        let in_time = tokio::time::timeout(limit, done).await.is_ok();
        let rejected = deliveries.counts.rejected.load(Ordering::Relaxed);
        let failed = rejected - deliveries.counts.told.swap(rejected, Ordering::Relaxed);
        let staged = self.handle.syncer.as_ref().map_or(0, |syncer| syncer.staged());
        let pending = if in_time { 0 } else { deliveries.pending() + staged };
        if failed == 0 && pending == 0 {
            return Ok(());
        }
        Err(Undelivered {
            failed,
            pending,
            given_up: Vec::new(),
        })
    }

    /// Accepts nothing any more, [flushes](Self::flush), and ends delivery. What is not delivered then stays in the files; they
    /// are free for another outbox when the last handle is gone.
    ///
    /// # Errors
    /// As [`flush`](Self::flush). Events that nobody waits for, and that could never be written, are among `given_up`: with
    /// [`SpoolLevel::Power`](super::SpoolLevel::Power), when the storage fails. They are in no file, or in one that could not be
    /// synced.
    ///
    /// # Cancel safety
    /// Dropped early, the outbox accepts nothing, and it can be closed again.
    pub async fn close(&self, limit: Duration) -> Result<(), Undelivered> {
        self.handle.is_closed.store(true, Ordering::Relaxed);
        let flushed = self.flush(limit).await;
        self.handle.stops.send_replace(true);
        let mut feeder = self.handle.feeder.lock().await;
        if let Some(ended) = feeder.as_mut() {
            if let Err(error) = ended.await {
                tracing::error!(%error, "the feeder of an outbox has failed");
            }
            *feeder = None;
        }
        drop(feeder);
        let Some(syncer) = self.handle.syncer.clone() else {
            return flushed;
        };
        let own = syncer.clone();
        // The thread may wait for the disk.
        let ended = tokio::task::spawn_blocking(move || own.join()).await;
        ended.unwrap_or_else(|error| tracing::error!(%error, "the end of an outbox was not waited for"));
        let lost = syncer.lost();
        if lost.is_empty() {
            return flushed;
        }
        let failed = flushed.err().map_or(0, |undelivered| undelivered.failed);
        let given_up = lost.into_iter();
        Err(Undelivered {
            failed: failed + given_up.len() as u64,
            pending: self.handle.deliveries.spooled(),
            given_up: given_up
                .map(|event| PublishError::unsent(event, PublishErrorKind::Closed))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_close_that_is_dropped_can_be_called_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let outbox = Outbox::builder(dir.path()).open().await.expect("open");
        let mut close = Box::pin(outbox.close(Duration::ZERO));
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(close.as_mut().poll(cx).is_ready()));
        assert!(!polled.await, "its feeder has to end first");
        drop(close);
        outbox.close(Duration::ZERO).await.expect("closed");
        assert_eq!(
            Arc::strong_count(&outbox.handle.deliveries),
            1,
            "nobody else has the files"
        );
    }
}
