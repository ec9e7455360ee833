//! The files of an outbox, and what of them is in memory too.
//!
//! ```text
//!  put ─▶ log ─ committed ─▶ queue in memory ─▶ next
//!                 └─ the queue is full ─▶ read from the log until that is caught up with ─▶ next
//! ```
//!
//! Beside the log are `waiting`, events that would keep it from forgetting others, and `rejected`, those that nobody takes.
//!
//! Locks are taken in this order: log, queue.

mod aside;
mod queue;
mod refused;
mod writing;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use stream_sinks::{DiskStorage, SegmentLog, SinkError, Storage};
use tokio::sync::oneshot;

use self::aside::Aside;
use self::queue::Queue;
pub(super) use self::queue::{Next, Reading, Records};
use self::refused::Refused;
pub(super) use self::writing::Item;
use self::writing::Log;
use super::ledger::ASIDE;
use super::record::decode;
use crate::event::Event;
use crate::watcher::Outcome;

/// Small, since a segment is read as a whole.
const SEGMENT_BYTES: u64 = 4 << 20;

/// At least so many segments, since room comes back by segments.
const SEGMENTS: u64 = 8;

/// Events that are set aside have this part of the bytes.
const ASIDE_PART: u64 = 4;

/// Where damaged files, refused events and those that are set aside go.
const DAMAGED: &str = "damaged";
const REJECTED: &str = "rejected";
const WAITING: &str = "waiting";

pub(super) struct Spool {
    log: Mutex<Log>,
    queue: Mutex<Queue>,
    rejected: Mutex<Refused>,
    aside: Mutex<Aside>,
    /// What was found aside when it was opened, until somebody takes it.
    found_aside: Mutex<Records>,
    /// Records of the log of which there is a copy aside.
    copies: Vec<u64>,
    /// Who waits for acks.
    watches: Mutex<HashMap<u64, oneshot::Sender<Outcome>>>,
    /// What was found when it was opened.
    found: Found,
    /// What the log says of itself, for whoever must not wait for the disk.
    next: AtomicU64,
    written: AtomicU64,
    bytes: AtomicU64,
    aside_bytes: AtomicU64,
    /// Something was set aside of which nobody is told yet.
    has_untold: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// The first record that is not done.
    pub(super) first: u64,
    /// Behind the last record.
    pub(super) next: u64,
    /// In the log.
    records: u64,
    /// Only aside.
    aside: u64,
    /// Segments with damage.
    pub(super) damaged: u64,
}

impl Spool {
    /// Reads all files once.
    pub(super) fn open(dir: &Path, is_durable: bool, max_bytes: u64) -> Result<Self, SinkError> {
        Self::on(Arc::new(DiskStorage::new()), dir, is_durable, max_bytes)
    }

    pub(super) fn on(
        storage: Arc<dyn Storage>,
        dir: &Path,
        is_durable: bool,
        max_bytes: u64,
    ) -> Result<Self, SinkError> {
        let log = |dir| SegmentLog::builder(dir).durable(is_durable).storage(storage.clone());
        let segment_bytes = SEGMENT_BYTES.min(max_bytes / SEGMENTS);
        let segments = log(dir.to_owned())
            .segment_bytes(segment_bytes)
            .max_bytes(max_bytes)
            .open()?;
        let waiting = log(dir.join(WAITING)).segment_bytes(segment_bytes).max_bytes(u64::MAX);
        let waiting = waiting.open()?;
        let damaged = [(&segments, dir.to_owned()), (&waiting, dir.join(WAITING))];
        for (log, dir) in &damaged {
            for (path, offset) in &log.recovery().damaged {
                set_aside(dir, path, *offset);
            }
        }
        let damaged = damaged.iter().map(|(log, _)| log.recovery().damaged.len() as u64).sum();
        let (mut aside, mut waiting) = Aside::open(waiting, max_bytes / ASIDE_PART, segment_bytes)?;
        let copies = copies(&segments, &waiting)?;
        // They come from the log, in its order.
        aside.are_in_log(&copies);
        waiting.retain(|(number, _)| copies.binary_search(number).is_err());
        let found = Found {
            first: segments.first(),
            next: segments.next(),
            records: segments.recovery().records,
            aside: waiting.len() as u64,
            damaged,
        };
        let waiting = waiting.into_iter().map(|(number, record)| {
            let event = decode(&record);
            (number | ASIDE, event.ok_or(record))
        });
        Ok(Self {
            found,
            found_aside: Mutex::new(waiting.collect()),
            copies,
            next: AtomicU64::new(segments.next()),
            written: AtomicU64::new(segments.committed()),
            bytes: AtomicU64::new(segments.bytes()),
            aside_bytes: AtomicU64::new(aside.len()),
            has_untold: AtomicBool::new(false),
            aside: Mutex::new(aside),
            queue: Mutex::new(Queue::new((found.first < found.next).then_some(found.first))),
            log: Mutex::new(Log::new(segments)),
            rejected: Mutex::new(Refused::new(log(dir.join(REJECTED)).open()?)),
            watches: Mutex::default(),
        })
    }

    /// What was found when it was opened.
    pub(super) fn found(&self) -> Found {
        self.found
    }

    /// What earlier processes have set aside, the oldest first: it is older than all in the log.
    pub(super) fn found_aside(&self) -> Records {
        std::mem::take(&mut self.found_aside.lock())
    }

    /// The numbers of all that is aside, as long as nobody has taken them.
    pub(super) fn numbers_aside(&self) -> Vec<u64> {
        let found = self.found_aside.lock();
        let numbers = found.iter().map(|(number, _)| number);
        numbers.chain(&self.copies).copied().collect()
    }

    /// Records of the log that were damaged when it was opened.
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
        self.bytes.load(Ordering::Relaxed) + self.aside_bytes.load(Ordering::Relaxed)
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

    /// Keeps the events of these numbers, which ascend, elsewhere, so that the log may forget them: gives those that are written
    /// there, maybe some of an earlier call.
    ///
    /// # Errors
    /// When that fails: the log must not forget them.
    pub(super) fn set_aside(&self, numbers: &[u64]) -> Result<Vec<u64>, SinkError> {
        let reader = self.log.lock().segments.read(numbers.first().copied().unwrap_or(0));
        let mut aside = self.aside.lock();
        let kept = aside.keep(reader, numbers);
        self.aside_bytes.store(aside.len(), Ordering::Relaxed);
        self.has_untold.store(aside.has_untold(), Ordering::Relaxed);
        kept
    }

    /// Was something set aside of which nobody is told yet?
    pub(super) fn has_untold(&self) -> bool {
        self.has_untold.load(Ordering::Relaxed)
    }

    /// Forgets events that were set aside, by their numbers in the ledger. `false` when the files have failed: it may be tried
    /// again.
    pub(super) fn forget_aside(&self, numbers: &[u64]) -> bool {
        let mut aside = self.aside.lock();
        let forgotten = aside.forget(numbers);
        self.aside_bytes.store(aside.len(), Ordering::Relaxed);
        if let Err(error) = &forgotten {
            tracing::warn!(%error, "delivered events cannot be deleted from the spool, and may be sent again after a restart");
        }
        forgotten.is_ok()
    }

    /// Keeps event `number`, that can never be delivered, and why.
    ///
    /// # Errors
    /// When it cannot be written: then it must not be forgotten, and this is to be called again.
    pub(super) fn reject(&self, number: u64, record: &[u8], reason: &str) -> Result<(), SinkError> {
        self.rejected.lock().keep(number, record, reason)
    }

    /// The events that could never be delivered, and why.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn rejected(&self) -> Result<Vec<(u64, Option<Event>, String)>, SinkError> {
        let all = self.rejected.lock().all();
        all.collect()
    }

    /// Forgets rejected events up to this number.
    ///
    /// # Errors
    /// When they cannot be deleted.
    pub(super) fn forget_rejected(&self, through: u64) -> Result<(), SinkError> {
        self.rejected.lock().forget(through)
    }
}

impl Found {
    /// Events that are to be delivered.
    pub(super) fn events(&self) -> u64 {
        self.records + self.aside
    }
}

/// The records of the log that are aside too: a process ended before the log could forget them.
fn copies(log: &SegmentLog, aside: &aside::Found) -> Result<Vec<u64>, SinkError> {
    let mut copies = Vec::new();
    let numbers = aside
        .iter()
        .map(|(number, _)| *number)
        .filter(|number| *number >= log.first());
    let mut own = aside.iter();
    aside::each(log.read(log.first()), numbers.collect(), |number, record| {
        // Numbers may have begun again, when files were lost: then it is another event.
        if own.find(|(at, _)| *at == number).is_some_and(|(_, own)| *own == record) {
            copies.push(number);
        }
        Ok(true)
    })?;
    Ok(copies)
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
