//! The files of an outbox, and what of them is in memory too.
//!
//! ```text
//!  put ─▶ log ─ committed ─▶ queue in memory ─▶ next
//!                 └─ the queue is full ─▶ read from the log until that is caught up with ─▶ next
//! ```
//!
//! Locks are taken in this order: log, queue.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use stream_sinks::{DiskStorage, SegmentLog, SegmentReader, SinkError, Storage};
use tokio::sync::oneshot;

use super::record::{decode, encode};
use crate::event::Event;
use crate::watcher::Outcome;

/// Bytes of events that wait in memory; what is beyond them is read from the files again.
const QUEUE_BYTES: usize = 32 << 20;

/// Bytes that are read from the files at once.
const LOAD_BYTES: usize = 4 << 20;

/// Small, since a segment is read as a whole.
const SEGMENT_BYTES: u64 = 4 << 20;

/// Where damaged files and refused events go.
const DAMAGED: &str = "damaged";
const REJECTED: &str = "rejected";

pub(super) struct Spool {
    log: Mutex<Log>,
    queue: Mutex<Queue>,
    rejected: Mutex<Rejected>,
    /// Who waits for acks.
    watches: Mutex<HashMap<u64, oneshot::Sender<Outcome>>>,
    /// What was found when it was opened.
    found: Found,
    /// What the log says of itself, for whoever must not wait for the disk.
    next: AtomicU64,
    written: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// The first record that is not done.
    pub(super) first: u64,
    /// Behind the last record.
    pub(super) next: u64,
    pub(super) records: u64,
    /// Segments with damage.
    pub(super) damaged: u64,
}

struct Rejected {
    log: SegmentLog,
    /// Appended, by their numbers in the spool, when nobody could be told yet that they are written: not to be appended again.
    uncommitted: HashSet<u64>,
}

struct Log {
    segments: SegmentLog,
    /// Appended, and not written yet: the storage has failed.
    uncommitted: Vec<Uncommitted>,
}

struct Uncommitted {
    number: u64,
    event: Event,
    written: Option<oneshot::Sender<()>>,
}

/// An event, and who waits for its ack.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) event: Event,
    pub(super) watch: Option<oneshot::Sender<Outcome>>,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<(u64, Event)>,
    bytes: usize,
    /// From this number on events are in the files only.
    on_disk_from: Option<u64>,
}

/// What is to be delivered next.
pub(super) enum Next {
    Event(u64, Event),
    /// The files have it, from this number on.
    OnDisk(u64),
    Nothing,
}

/// Records that were read back.
pub(super) struct Loaded {
    pub(super) records: VecDeque<(u64, Result<Event, Vec<u8>>)>,
    /// There are no others below this number.
    pub(super) to: u64,
    /// Where to go on; `None` when there is no more for now.
    pub(super) reader: Option<Reading>,
}

/// The files as they were at some time.
pub(super) struct Reading {
    reader: SegmentReader,
    /// All below this number was written then.
    to: u64,
}

impl Spool {
    /// Reads all files once.
    pub(super) fn open(dir: &Path, is_durable: bool, max_bytes: u64) -> Result<Self, SinkError> {
        Self::on(Arc::new(DiskStorage::new()), dir, is_durable, max_bytes)
    }

    fn on(storage: Arc<dyn Storage>, dir: &Path, is_durable: bool, max_bytes: u64) -> Result<Self, SinkError> {
        let log = |dir| SegmentLog::builder(dir).durable(is_durable).storage(storage.clone());
        let segments = log(dir.to_owned())
            .segment_bytes(SEGMENT_BYTES)
            .max_bytes(max_bytes)
            .open()?;
        let recovery = segments.recovery();
        for (path, offset) in &recovery.damaged {
            set_aside(dir, path, *offset);
        }
        let found = Found {
            first: segments.first(),
            next: segments.next(),
            records: recovery.records,
            damaged: recovery.damaged.len() as u64,
        };
        let rejected = log(dir.join(REJECTED)).open()?;
        Ok(Self {
            found,
            next: AtomicU64::new(segments.next()),
            written: AtomicU64::new(segments.committed()),
            bytes: AtomicU64::new(segments.bytes()),
            queue: Mutex::new(Queue {
                on_disk_from: (found.first < found.next).then_some(found.first),
                ..Queue::default()
            }),
            log: Mutex::new(Log {
                segments,
                uncommitted: Vec::new(),
            }),
            rejected: Mutex::new(Rejected {
                log: rejected,
                uncommitted: HashSet::new(),
            }),
            watches: Mutex::default(),
        })
    }

    /// What was found when it was opened.
    pub(super) fn found(&self) -> Found {
        self.found
    }

    /// Records that were damaged when it was opened.
    pub(super) fn lost(&self) -> u64 {
        let Found {
            first, next, records, ..
        } = self.found;
        (next - first).saturating_sub(records)
    }

    /// The number that the next record gets.
    pub(super) fn next_number(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The number behind the last record that is in the files.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Bytes of the files.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Keeps what the log says of itself.
    fn note(&self, log: &Log) {
        self.next.store(log.segments.next(), Ordering::Relaxed);
        self.written.store(log.segments.committed(), Ordering::Relaxed);
        self.bytes.store(log.segments.bytes(), Ordering::Relaxed);
    }

    /// Writes an event. When the storage fails it is kept, and whoever wrote it waits until it is written.
    ///
    /// # Errors
    /// The event, when the spool is full.
    pub(super) fn put(&self, item: Item) -> Result<Option<oneshot::Receiver<()>>, Item> {
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
    pub(super) fn try_put(&self, item: Item) -> Result<(), Item> {
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
    pub(super) fn put_all(&self, staged: &mut VecDeque<(Item, oneshot::Sender<()>)>) {
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
    pub(super) fn watch_of(&self, number: u64) -> Option<oneshot::Sender<Outcome>> {
        self.watches.lock().remove(&number)
    }

    /// Tries again to write what could not be written. Is everything written?
    pub(super) fn retry(&self) -> bool {
        let mut log = self.log.lock();
        log.uncommitted.is_empty() || self.commit(&mut log)
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

    /// What is to be delivered next.
    pub(super) fn next(&self) -> Next {
        let mut queue = self.queue.lock();
        match (queue.events.pop_front(), queue.on_disk_from) {
            (Some((number, event)), _) => {
                queue.bytes -= event.size();
                Next::Event(number, event)
            }
            (None, Some(from)) => Next::OnDisk(from),
            (None, None) => Next::Nothing,
        }
    }

    /// Reads on in the files.
    ///
    /// # Errors
    /// When a file cannot be read; it may be tried again.
    pub(super) fn load(&self, from: u64, reading: Option<Reading>) -> Result<Loaded, SinkError> {
        let mut reading = reading.unwrap_or_else(|| {
            let log = self.log.lock();
            Reading {
                reader: log.segments.read(from),
                to: log.segments.committed(),
            }
        });
        let (mut records, mut bytes, mut to) = (VecDeque::new(), 0, from);
        while bytes < LOAD_BYTES {
            let Some(record) = reading.reader.next() else {
                // Also what is damaged at the end, or was removed by somebody.
                let to = to.max(reading.to);
                self.caught_up(to);
                return Ok(Loaded {
                    records,
                    to,
                    reader: None,
                });
            };
            let (number, record) = record?;
            bytes += record.len();
            to = number + 1;
            let event = decode(&record);
            records.push_back((number, event.ok_or(record)));
        }
        self.queue.lock().on_disk_from = Some(to);
        Ok(Loaded {
            records,
            to,
            reader: Some(reading),
        })
    }

    /// Everything before `next` was read. From here on events come through memory again, unless more was written meanwhile.
    fn caught_up(&self, next: u64) {
        let log = self.log.lock();
        let mut queue = self.queue.lock();
        queue.on_disk_from = (next < log.segments.committed()).then_some(next);
    }

    /// Forgets everything before this number. `false` when the files have failed: it may be tried again.
    pub(super) fn forget_before(&self, number: u64) -> bool {
        let Some(last) = number.checked_sub(1) else { return true };
        let mut log = self.log.lock();
        let deleted = log.segments.delete_through(last);
        self.note(&log);
        if let Err(error) = &deleted {
            tracing::warn!(%error, "delivered events cannot be deleted from the spool, and may be sent again after a restart");
        }
        deleted.is_ok()
    }

    /// Keeps event `number`, that can never be delivered, and why.
    ///
    /// # Errors
    /// When it cannot be written: then it must not be forgotten, and this is to be called again.
    pub(super) fn reject(&self, number: u64, record: &[u8], reason: &str) -> Result<(), SinkError> {
        let Rejected { log, uncommitted } = &mut *self.rejected.lock();
        if !uncommitted.contains(&number) {
            // What waits for the disk must not take all the room.
            log.commit()?;
            let mut kept = Vec::with_capacity(4 + reason.len() + record.len());
            kept.extend_from_slice(&u32::try_from(reason.len()).unwrap_or(u32::MAX).to_le_bytes());
            kept.extend_from_slice(reason.as_bytes());
            kept.extend_from_slice(record);
            log.append(&kept)?;
            uncommitted.insert(number);
        }
        log.commit()?;
        uncommitted.remove(&number);
        Ok(())
    }

    /// The events that could never be delivered, and why.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn rejected(&self) -> Result<Vec<(u64, Option<Event>, String)>, SinkError> {
        let reader = self.rejected.lock().log.read(0);
        reader
            .map(|record| {
                let (number, record) = record?;
                let (reason, record) = unpack(record);
                Ok((number, decode(&record), reason))
            })
            .collect()
    }

    /// Forgets rejected events up to this number.
    ///
    /// # Errors
    /// When they cannot be deleted.
    pub(super) fn forget_rejected(&self, through: u64) -> Result<(), SinkError> {
        self.rejected.lock().log.delete_through(through)
    }
}

impl Queue {
    fn push(&mut self, number: u64, event: Event) {
        let size = event.size();
        let has_room = self.events.is_empty() || self.bytes + size <= QUEUE_BYTES;
        if self.on_disk_from.is_none() && has_room {
            self.bytes += size;
            self.events.push_back((number, event));
        } else {
            self.on_disk_from.get_or_insert(number);
        }
    }
}

fn unpack(mut record: Vec<u8>) -> (String, Vec<u8>) {
    let len = record.first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
    let end = (4 + len).min(record.len());
    let rest = record.split_off(end);
    let reason = String::from_utf8_lossy(record.get(4..).unwrap_or_default()).into_owned();
    (reason, rest)
}

/// The rest of a damaged segment is delivered, and the segment is deleted then: what is in it may still be worth something.
fn set_aside(dir: &Path, path: &Path, offset: u64) {
    let target = dir.join(DAMAGED);
    let name = path.file_name().unwrap_or(path.as_os_str());
    let copied = fs::create_dir_all(&target).and_then(|()| fs::copy(path, target.join(name)));
    match copied {
        Ok(_) => tracing::error!(path = %target.join(name).display(), offset, "a damaged file of the spool was copied"),
        Err(error) => {
            tracing::error!(path = %path.display(), offset, %error, "a damaged file of the spool cannot be copied")
        }
    }
}

#[cfg(test)]
mod tests;
