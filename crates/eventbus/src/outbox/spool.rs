//! The files of an outbox, and what of them is in memory too.
//!
//! ```text
//!  put ─▶ log ─ committed ─▶ queue in memory ─▶ next
//!                 └─ the queue is full ─▶ read from the log until that is caught up with ─▶ next
//! ```
//!
//! Locks are taken in this order: log, queue.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Arc;

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
    rejected: Mutex<SegmentLog>,
    /// Who waits for acks.
    watches: Mutex<HashMap<u64, oneshot::Sender<Outcome>>>,
    /// Segments that were damaged when it was opened.
    damaged: u64,
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
    /// Where to go on; `None` when there is no more for now.
    pub(super) reader: Option<SegmentReader>,
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
        let damaged = &segments.recovery().damaged;
        for (path, offset) in damaged {
            set_aside(dir, path, *offset);
        }
        let rejected = log(dir.join(REJECTED)).open()?;
        let has_records = segments.first() < segments.committed();
        Ok(Self {
            damaged: damaged.len() as u64,
            queue: Mutex::new(Queue {
                on_disk_from: has_records.then(|| segments.first()),
                ..Queue::default()
            }),
            log: Mutex::new(Log {
                segments,
                uncommitted: Vec::new(),
            }),
            rejected: Mutex::new(rejected),
            watches: Mutex::default(),
        })
    }

    /// The number of the first record that is not done.
    pub(super) fn first(&self) -> u64 {
        self.log.lock().segments.first()
    }

    /// Records that were found when it was opened, and segments with damage.
    pub(super) fn found(&self) -> (u64, u64) {
        (self.log.lock().segments.recovery().records, self.damaged)
    }

    /// The number that the next record gets.
    pub(super) fn next_number(&self) -> u64 {
        self.log.lock().segments.next()
    }

    /// Bytes of the files.
    pub(super) fn bytes(&self) -> u64 {
        self.log.lock().segments.bytes()
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
        if let Err(error) = log.segments.commit() {
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
    pub(super) fn load(&self, from: u64, reader: Option<SegmentReader>) -> Result<Loaded, SinkError> {
        let mut reader = reader.unwrap_or_else(|| self.log.lock().segments.read(from));
        let (mut records, mut bytes) = (VecDeque::new(), 0);
        while bytes < LOAD_BYTES {
            let Some(record) = reader.next() else {
                self.caught_up(records.back().map_or(from, |(number, _)| number + 1));
                return Ok(Loaded { records, reader: None });
            };
            let (number, record) = record?;
            bytes += record.len();
            let event = decode(&record);
            records.push_back((number, event.ok_or(record)));
        }
        if let Some((last, _)) = records.back() {
            self.queue.lock().on_disk_from = Some(last + 1);
        }
        Ok(Loaded {
            records,
            reader: Some(reader),
        })
    }

    /// Everything before `next` was read. From here on events come through memory again, unless more was written meanwhile.
    fn caught_up(&self, next: u64) {
        let log = self.log.lock();
        let mut queue = self.queue.lock();
        queue.on_disk_from = (next < log.segments.committed()).then_some(next);
    }

    /// Forgets everything before this number.
    pub(super) fn forget_before(&self, number: u64) {
        let Some(last) = number.checked_sub(1) else { return };
        if let Err(error) = self.log.lock().segments.delete_through(last) {
            tracing::warn!(%error, "delivered events cannot be deleted from the spool, and may be sent again after a restart");
        }
    }

    /// Keeps an event that can never be delivered, and why.
    ///
    /// # Errors
    /// When it cannot be written: then it must not be forgotten.
    pub(super) fn reject(&self, record: &[u8], reason: &str) -> Result<(), SinkError> {
        let mut kept = Vec::with_capacity(4 + reason.len() + record.len());
        kept.extend_from_slice(&u32::try_from(reason.len()).unwrap_or(u32::MAX).to_le_bytes());
        kept.extend_from_slice(reason.as_bytes());
        kept.extend_from_slice(record);
        let mut rejected = self.rejected.lock();
        rejected.append(&kept)?;
        rejected.commit().map(drop)
    }

    /// The events that could never be delivered, and why.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn rejected(&self) -> Result<Vec<(u64, Option<Event>, String)>, SinkError> {
        let reader = self.rejected.lock().read(0);
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
        self.rejected.lock().delete_through(through)
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
mod tests {
    use super::*;
    use std::path::PathBuf;
    use stream_sinks::{CrashImage, Fault};

    fn spool(dir: &Path) -> Spool {
        Spool::open(dir, false, 1 << 20).expect("damage never keeps it from opening")
    }

    fn put(spool: &Spool, text: &str) {
        let event = Event::new("s", text.to_owned()).message_id(text);
        let put = spool.put(Item { event, watch: None });
        assert!(matches!(put, Ok(None)), "it is written");
    }

    /// The payloads of all that is to be delivered.
    fn rest(spool: &Spool) -> Vec<String> {
        let mut payloads = Vec::new();
        let mut reader = None;
        loop {
            match spool.next() {
                Next::Event(_, event) => payloads.push(String::from_utf8(event.payload().to_vec()).expect("text")),
                Next::OnDisk(from) => {
                    let loaded = spool.load(from, reader.take()).expect("read");
                    reader = loaded.reader;
                    let events = loaded.records.into_iter().filter_map(|(_, event)| event.ok());
                    payloads.extend(events.map(|event| String::from_utf8(event.payload().to_vec()).expect("text")));
                }
                Next::Nothing => return payloads,
            }
        }
    }

    const TEXTS: [&str; 6] = ["one", "two", "three", "four", "five", "six"];

    /// A directory with six events, of which the first two are done, and its files.
    fn filled() -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().expect("a directory");
        {
            let spool = spool(dir.path());
            TEXTS.iter().for_each(|text| put(&spool, text));
            spool.forget_before(2);
        }
        let entries = fs::read_dir(dir.path()).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let mut files: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
        files.sort();
        files.retain(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0));
        assert!(files.len() >= 2, "a segment and the watermark: {files:?}");
        (dir, files)
    }

    #[test]
    fn events_come_from_memory_and_after_a_restart_from_files() {
        let (dir, _) = filled();
        let spool = spool(dir.path());
        assert_eq!(spool.found(), (4, 0));
        put(&spool, "seven");
        assert_eq!(rest(&spool), ["three", "four", "five", "six", "seven"]);
        put(&spool, "eight");
        assert!(matches!(spool.next(), Next::Event(7, _)), "from memory");
    }

    #[test]
    fn a_full_disk_makes_producers_wait_and_loses_nothing() {
        for is_durable in [false, true] {
            let image = CrashImage::new();
            let open =
                |image: &CrashImage| Spool::on(Arc::new(image.clone()), Path::new("/spool"), is_durable, 1 << 20);
            let spool = open(&image).expect("open");
            put(&spool, "one");
            image.set_fault(Some(Fault::Full(0)));
            let event = |text: &str| Event::new("s", text.to_owned()).message_id(text);
            let waiting = |text: &str| {
                let put = spool.put(Item {
                    event: event(text),
                    watch: None,
                });
                put.ok().flatten().expect("it waits")
            };
            let (mut two, mut three) = (waiting("two"), waiting("three"));
            assert!(!spool.retry() && two.try_recv().is_err());
            assert_eq!(rest(&spool), ["one"], "what is not written is not delivered");
            image.set_fault(None);
            assert!(spool.retry());
            assert!(two.try_recv().is_ok() && three.try_recv().is_ok());
            assert_eq!(rest(&spool), ["two", "three"]);
            drop(spool);
            let image = if is_durable {
                image.power_loss(7)
            } else {
                image.killed()
            };
            assert_eq!(rest(&open(&image).expect("open")), ["one", "two", "three"]);
        }
    }

    #[test]
    fn any_byte_may_change() {
        let (dir, files) = filled();
        for file in files {
            let whole = fs::read(&file).expect("a file");
            for place in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[place] ^= 0x55;
                let copy = tempfile::tempdir().expect("a directory");
                for entry in fs::read_dir(dir.path()).expect("a directory") {
                    let path = entry.expect("an entry").path();
                    if path.is_file() {
                        fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copied");
                    }
                }
                fs::write(copy.path().join(file.file_name().expect("a name")), bytes).expect("written");
                let spool = spool(copy.path());
                let left = rest(&spool);
                // Events that are done may come again, the stream knows them by their ids; of the others one is lost at most.
                let known: Vec<&str> = TEXTS
                    .into_iter()
                    .filter(|text| left.iter().any(|left| left == text))
                    .collect();
                assert_eq!(known, left, "{}: {place}", file.display());
                let open = TEXTS[2..]
                    .iter()
                    .filter(|text| left.iter().any(|left| left == *text))
                    .count();
                assert!(open >= 3, "{}: {place}: {left:?}", file.display());
                // Nobody is told of none that is lost.
                let (_, damaged) = spool.found();
                assert!(
                    open == 4 || damaged == 1 || left.last().is_none_or(|last| last != "six"),
                    "{place}: {left:?}"
                );
            }
        }
    }

    #[test]
    fn any_file_may_be_cut_anywhere() {
        let (dir, files) = filled();
        let segment = files
            .iter()
            .find(|path| path.extension().is_some_and(|end| end == "seg"))
            .expect("a segment");
        let whole = fs::read(segment).expect("a file");
        for len in (0..whole.len()).rev() {
            fs::write(segment, &whole[..len]).expect("written");
            let left = rest(&spool(dir.path()));
            assert!(
                TEXTS[2..].starts_with(&left.iter().map(String::as_str).collect::<Vec<_>>()),
                "{len}: {left:?}"
            );
        }
    }
}
