//! The thread that writes events to the disk, many at a time: a sync takes milliseconds, and none of them may block a task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::deliveries::Deliveries;
use super::spool::Item;
use crate::event::Event;

/// The pause before storage that has failed, or is full, is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Events that wait to be written.
#[derive(Default)]
pub(super) struct Syncer {
    staged: Mutex<Staged>,
    wakes: Condvar,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    /// Events that nobody waits for, and that could not be written before the end.
    lost: Mutex<Vec<Event>>,
}

type Items = VecDeque<(Item, oneshot::Sender<()>)>;

#[derive(Default)]
struct Staged {
    items: Items,
    bytes: usize,
    /// Taken out, and not in the spool yet.
    in_hand: usize,
    is_writing: bool,
    is_over: bool,
}

/// Bytes that wait for the disk at most: what comes then waits for room.
const STAGED_BYTES: usize = 8 << 20;

impl Syncer {
    pub(super) fn begin(deliveries: Arc<Deliveries>) -> std::io::Result<Arc<Self>> {
        let syncer = Arc::new(Self::default());
        let own = syncer.clone();
        let thread = thread::Builder::new().name("outbox-sync".to_owned());
        let thread = thread.spawn(move || own.run(&deliveries))?;
        *syncer.thread.lock() = Some(thread);
        Ok(syncer)
    }

    /// Has an event written: says when that is done.
    ///
    /// # Errors
    /// The event, when too much waits for the disk.
    pub(super) fn put(&self, item: Item) -> Result<oneshot::Receiver<()>, Item> {
        let mut staged = self.staged.lock();
        let size = item.event.size();
        if staged.is_over || staged.bytes > 0 && staged.bytes + size > STAGED_BYTES {
            return Err(item);
        }
        let (written, waiting) = oneshot::channel();
        staged.bytes += size;
        staged.items.push_back((item, written));
        drop(staged);
        self.wakes.notify_one();
        Ok(waiting)
    }

    /// Writes what waits, and ends.
    pub(super) fn end(&self) {
        self.staged.lock().is_over = true;
        self.wakes.notify_one();
    }

    /// Events that wait to be written.
    pub(super) fn staged(&self) -> u64 {
        let staged = self.staged.lock();
        (staged.items.len() + staged.in_hand) as u64
    }

    /// Ends it, and waits for that.
    pub(super) fn join(&self) {
        self.end();
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of an outbox has panicked");
        }
    }

    /// The events that nobody waits for, and that could not be written before the end; once.
    pub(super) fn lost(&self) -> Vec<Event> {
        std::mem::take(&mut self.lost.lock())
    }

    /// Waits until everything is written that was put so far.
    pub(super) async fn idle(&self, deliveries: &Deliveries) {
        loop {
            let mut space = std::pin::pin!(deliveries.space.notified());
            space.as_mut().enable();
            {
                let staged = self.staged.lock();
                if staged.items.is_empty() && !staged.is_writing {
                    return;
                }
            }
            space.await;
        }
    }

    fn run(&self, deliveries: &Deliveries) {
        while let Some(mut items) = self.take(deliveries) {
            self.put_all(deliveries, &mut items);
            while !items.is_empty() || !deliveries.spool.retry() {
                if self.staged.lock().is_over {
                    return self.give_up(deliveries, items);
                }
                thread::sleep(PAUSE);
                self.put_all(deliveries, &mut items);
            }
        }
    }

    /// What waits, as soon as there is something; `None` in the end.
    fn take(&self, deliveries: &Deliveries) -> Option<Items> {
        let items = {
            let mut staged = self.staged.lock();
            staged.is_writing = false;
            deliveries.space.notify_waiters();
            while staged.items.is_empty() && !staged.is_over {
                self.wakes.wait(&mut staged);
            }
            if staged.items.is_empty() {
                return None;
            }
            staged.is_writing = true;
            staged.bytes = 0;
            staged.in_hand = staged.items.len();
            std::mem::take(&mut staged.items)
        };
        deliveries.space.notify_waiters();
        Some(items)
    }

    fn put_all(&self, deliveries: &Deliveries, items: &mut Items) {
        deliveries.spool.put_all(items);
        self.staged.lock().in_hand = items.len();
        deliveries.added();
    }

    /// Those who wait hear that they wait in vain; the other events are kept for whoever closes the outbox.
    fn give_up(&self, deliveries: &Deliveries, mut items: Items) {
        let mut lost = deliveries.spool.abandon();
        let mut staged = self.staged.lock();
        items.append(&mut staged.items);
        (staged.in_hand, staged.is_writing) = (0, false);
        drop(staged);
        let alone = items.into_iter().filter(|(_, written)| written.is_closed());
        lost.extend(alone.map(|(item, _)| item.event));
        *self.lost.lock() = lost;
        deliveries.space.notify_waiters();
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        let lost = self.lost.get_mut().len();
        if lost > 0 {
            tracing::error!(lost, "events of an outbox that was not closed could not be written");
        }
    }
}
