//! How events get into the log, and what of them waits for storage that has failed.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use stream_sinks::SegmentLog;
use tokio::sync::oneshot;

use super::super::record::encode;
use super::Spool;
use crate::event::Event;
use crate::watcher::Outcome;

pub(super) struct Log {
    pub(super) segments: SegmentLog,
    /// Appended, and not written yet: the storage has failed.
    uncommitted: Vec<Uncommitted>,
    /// They will never be.
    is_abandoned: bool,
}

impl Log {
    pub(super) fn new(segments: SegmentLog) -> Self {
        Self {
            segments,
            uncommitted: Vec::new(),
            is_abandoned: false,
        }
    }
}

struct Uncommitted {
    number: u64,
    event: Event,
    written: Option<oneshot::Sender<()>>,
}

/// An event, and who waits for its ack.
#[derive(Debug)]
pub(in crate::outbox) struct Item {
    pub(in crate::outbox) event: Event,
    pub(in crate::outbox) watch: Option<oneshot::Sender<Outcome>>,
}

impl Spool {
    /// Writes an event. When the storage fails it is kept, and whoever wrote it waits until it is written.
    ///
    /// # Errors
    /// The event, when the spool is full.
    pub(in crate::outbox) fn put(&self, item: Item) -> Result<Option<oneshot::Receiver<()>>, Item> {
        let mut log = self.log.lock();
        self.append(&mut log, item)?;
        if self.commit(&mut log) {
            return Ok(None);
        }
        let (written, waiting) = oneshot::channel();
        if let Some(last) = log.uncommitted.last_mut() {
            last.written = Some(written);
        }
        Ok(Some(waiting))
    }

    /// Writes an event, or takes nothing: nobody waits for it to be written.
    ///
    /// # Errors
    /// The event, when the spool is full or the storage fails.
    pub(in crate::outbox) fn try_put(&self, item: Item) -> Result<(), Item> {
        let mut log = self.log.lock();
        if !log.uncommitted.is_empty() && !self.commit(&mut log) {
            return Err(item);
        }
        self.append(&mut log, item)?;
        if self.commit(&mut log) {
            return Ok(());
        }
        let Some(Uncommitted { number, event, .. }) = log.uncommitted.pop() else {
            return Ok(());
        };
        log.segments.withdraw();
        self.note(&log);
        let watch = self.watch_of(number);
        Err(Item { event, watch })
    }

    /// Writes several at once, and tells those who wait. What there is no room for stays.
    pub(in crate::outbox) fn put_all(&self, staged: &mut VecDeque<(Item, oneshot::Sender<()>)>) {
        let mut log = self.log.lock();
        loop {
            let before = staged.len();
            while let Some((item, written)) = staged.pop_front() {
                if let Err(item) = self.append(&mut log, item) {
                    staged.push_front((item, written));
                    break;
                }
                if let Some(last) = log.uncommitted.last_mut() {
                    last.written = Some(written);
                }
            }
            let is_written = self.commit(&mut log);
            // What waits for a commit is limited too, so there may be room now.
            if !is_written || staged.is_empty() || staged.len() == before {
                return;
            }
        }
    }

    /// # Errors
    /// The event, when there is no room.
    fn append(&self, log: &mut Log, item: Item) -> Result<(), Item> {
        let Ok(number) = log.segments.append(&encode(&item.event)) else {
            return Err(item);
        };
        if let Some(watch) = item.watch {
            let mut watches = self.watches.lock();
            // Whoever waited in vain is forgotten in time: without a server there may be as many as events.
            if watches.len() == watches.capacity() {
                watches.retain(|_, watch| !watch.is_closed());
            }
            watches.insert(number, watch);
        }
        log.uncommitted.push(Uncommitted {
            number,
            event: item.event,
            written: None,
        });
        Ok(())
    }

    /// Who waits for the ack of this one.
    pub(in crate::outbox) fn watch_of(&self, number: u64) -> Option<oneshot::Sender<Outcome>> {
        self.watches.lock().remove(&number)
    }

    /// Tries again to write what could not be written. Is everything written?
    pub(in crate::outbox) fn retry(&self) -> bool {
        let mut log = self.log.lock();
        log.uncommitted.is_empty() || self.commit(&mut log)
    }

    /// Nothing is written any more: gives the events that could not be written, and that nobody waits for. The others hear that
    /// they wait in vain.
    ///
    /// When a sync has failed behind a write, they may be found by the next process: then with the ids that they have now.
    pub(in crate::outbox) fn abandon(&self) -> Vec<Event> {
        let mut log = self.log.lock();
        log.is_abandoned = true;
        self.note(&log);
        let is_alone = |record: &Uncommitted| record.written.as_ref().is_none_or(oneshot::Sender::is_closed);
        let alone = log.uncommitted.drain(..).filter(is_alone);
        alone.map(|record| record.event).collect()
    }

    fn commit(&self, log: &mut Log) -> bool {
        let committed = log.segments.commit();
        self.note(log);
        if let Err(error) = committed {
            tracing::warn!(%error, "events cannot be written to the spool; it is tried again");
            return false;
        }
        let mut queue = self.queue.lock();
        for Uncommitted { number, event, written } in log.uncommitted.drain(..) {
            queue.push(number, event);
            if let Some(written) = written {
                // Whoever waited may have gone.
                let _ = written.send(());
            }
        }
        true
    }

    /// Keeps what the log says of itself.
    pub(super) fn note(&self, log: &Log) {
        let next = if log.is_abandoned {
            log.segments.committed()
        } else {
            log.segments.next()
        };
        self.next.store(next, Ordering::Relaxed);
        self.written.store(log.segments.committed(), Ordering::Relaxed);
        self.bytes.store(log.segments.bytes(), Ordering::Relaxed);
    }
}
