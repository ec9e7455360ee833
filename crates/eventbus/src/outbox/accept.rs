//! How events get into the files.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Outbox;
use super::spool::Item;
use crate::error::{PublishError, PublishErrorKind};
use crate::event::Event;
use crate::watcher::Outcome;

/// nats-server takes no payload that is larger.
const MOST_BYTES: usize = 64 << 20;

/// What a record needs besides subject, headers and payload, an id that is given included.
const RECORD_BYTES: u64 = 256;

/// How often those who wait while the storage fails try again.
const RETRY: Duration = Duration::from_millis(250);

impl Outbox {
    pub(super) async fn accept(
        &self,
        event: Event,
        watch: Option<oneshot::Sender<Outcome>>,
    ) -> Result<(), PublishError> {
        // A producer that never has to wait lets others run.
        tokio::task::coop::consume_budget().await;
        let event = self.prepare(event)?;
        // Events that wait for the disk may have to be given back.
        let copy = self.handle.syncer.as_ref().map(|_| event.clone());
        let mut item = Item { event, watch };
        let deliveries = &self.handle.deliveries;
        let mut space = None;
        let written = loop {
            match self.put(item) {
                Ok(written) => break written,
                Err(full) if self.handle.is_closed.load(Ordering::Relaxed) => {
                    return Err(PublishError::unsent(full.event, PublishErrorKind::Closed));
                }
                Err(full) => item = full,
            }
            match space.take() {
                // Room may also come by a disk that works again, of which nobody tells.
                Some(space) => drop(tokio::time::timeout(RETRY, space).await),
                // From here on none is missed, so it is looked for once more. Most find some at once.
                None => {
                    let mut next = Box::pin(deliveries.space.notified());
                    next.as_mut().enable();
                    space = Some(next);
                }
            }
        };
        let Some(mut written) = written else { return Ok(()) };
        loop {
            match (tokio::time::timeout(RETRY, &mut written).await, &copy) {
                (Ok(Ok(())), _) => return Ok(()),
                // It was never written, and never will be.
                (Ok(Err(_)), Some(event)) => return Err(PublishError::unsent(event.clone(), PublishErrorKind::Closed)),
                // The storage fails. After a close nobody else tries again.
                (_, None) => drop(deliveries.spool.retry()),
                (Err(_), Some(_)) => {}
            }
        }
    }

    /// Writes it, or has it written: then there is something to wait for.
    fn put(&self, item: Item) -> Result<Option<oneshot::Receiver<()>>, Item> {
        let deliveries = &self.handle.deliveries;
        let written = match &self.handle.syncer {
            Some(syncer) => Some(syncer.put(item)?),
            None => deliveries.spool.put(item)?,
        };
        if self.handle.syncer.is_none() && written.is_some() {
            // Whoever waits may go.
            deliveries.failing.notify_one();
        }
        deliveries.added();
        Ok(written)
    }

    /// Looks whether it can be published at all, and gives it an id.
    pub(super) fn prepare(&self, event: Event) -> Result<Event, PublishError> {
        if self.handle.is_closed.load(Ordering::Relaxed) {
            return Err(PublishError::unsent(event, PublishErrorKind::Closed));
        }
        if let Some(flaw) = event.flaw() {
            return Err(PublishError::invalid(event, flaw));
        }
        // What can never be in the files would wait for ever.
        if event.wire_len() > MOST_BYTES || event.size() as u64 + RECORD_BYTES > self.handle.max_bytes {
            return Err(PublishError::unsent(event, PublishErrorKind::TooLarge));
        }
        if event.has_message_id() {
            return Ok(event);
        }
        let number = self.handle.next_id.fetch_add(1, Ordering::Relaxed);
        Ok(event.message_id(format!("{}.{number}", self.handle.ids)))
    }
}
