//! A log in segments: append, read forward, delete from the front.
//!
//! `<base>.seg` holds records from number `base` on, each a [frame](crate::Frames) of its number (8 bytes, little-endian)
//! and its payload: so a damaged length loses its own record only, since the next one can be found and knows its number.
//! `watermark` holds the number of the first record that was not deleted, in two slots that are written by turns.

use std::{
    any::Any,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    Clock as _, DiskStorage, SinkError, SinkErrorKind, Storage, StorageFile, SystemClock,
    format::{FRAME_HEADER_LEN, encode_frame_parts},
    storage::{make_dir, read_all, write_all},
};

mod reader;
mod watermark;

pub use self::reader::SegmentReader;
use self::{reader::scan, watermark::Watermark};

/// How long a log that is not durable goes on without a look whether its file is still there. A look costs as much as half a
/// write, and makes the next write dearer: some file systems then stamp it with a time of its own.
const LOOK: Duration = Duration::from_millis(10);

/// Settings of a [`SegmentLog`].
#[derive(Debug)]
#[must_use = "a log does nothing before it is opened"]
pub struct SegmentLogBuilder {
    dir: PathBuf,
    durable: bool,
    segment_bytes: u64,
    max_bytes: u64,
    max_pending: usize,
    storage: Arc<dyn Storage>,
}

/// An append-only log that is deleted from the front, for spools.
///
/// Records are numbered from 0, and keep their number for good. [`append`](Self::append) takes a record into memory,
/// [`commit`](Self::commit) writes what was appended, all at once: then it survives the death of the process and, when the
/// log is [durable](SegmentLogBuilder::durable), a power loss.
///
/// ```
/// use stream_sinks::SegmentLog;
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let mut log = SegmentLog::builder(dir).open()?;
/// log.append(b"one")?;
/// log.append(b"two")?;
/// log.commit()?;
/// log.delete_through(0)?;
/// let left: Result<Vec<_>, _> = log.read(0).collect();
/// assert_eq!(left?, [(1, b"two".to_vec())]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SegmentLog {
    dir: PathBuf,
    storage: Arc<dyn Storage>,
    durable: bool,
    segment_bytes: u64,
    max_bytes: u64,
    max_pending: usize,
    segments: Vec<Segment>,
    /// The last segment, open to write.
    file: Option<Box<dyn StorageFile>>,
    /// Counts from the last look whether the file is still there.
    looked: Option<SystemClock>,
    /// Frames that were appended and not committed.
    pending: Vec<u8>,
    /// Where the last of them begins.
    last: Option<usize>,
    committed: u64,
    next: u64,
    watermark: Watermark,
    recovery: LogRecovery,
    _lock: Box<dyn Any + Send>,
}

#[derive(Clone, Debug)]
struct Segment {
    base: u64,
    path: PathBuf,
    len: u64,
}

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogRecovery {
    /// Records that are there and were not deleted.
    pub records: u64,
    /// Bytes at the end that were no whole record: a commit that was under way.
    pub cut: u64,
    /// Files with damage, and where it begins. The records behind it are read; what was lost is a gap in the numbers.
    pub damaged: Vec<(PathBuf, u64)>,
}

impl SegmentLogBuilder {
    /// Whether `commit` and `delete_through` wait for the disk, so that what they did survives a power loss. Off by default.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Another segment is begun when the last one has this many bytes; 16 MiB. Space is freed a segment at a time.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes.max(1);
        self
    }

    /// Most bytes on the disk and in memory; then `append` gives [`Full`](SinkErrorKind::Full). 1 GiB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Most bytes that wait for `commit`, and so the memory of a log; 8 MiB. A single record may be larger.
    pub fn max_pending(mut self, bytes: usize) -> Self {
        self.max_pending = bytes;
        self
    }

    /// Another file system.
    pub fn storage(mut self, storage: Arc<dyn Storage>) -> Self {
        self.storage = storage;
        self
    }

    /// Opens or creates it, and cuts a torn end off. It reads all segments once.
    ///
    /// Damage never prevents it: see [`SegmentLog::recovery`].
    ///
    /// # Errors
    /// [`InUse`](SinkErrorKind::InUse); [`Storage`](SinkErrorKind::Storage) when the directory or a file cannot be read.
    pub fn open(self) -> Result<SegmentLog, SinkError> {
        let failed = |what: &str, error| SinkError::storage(what, &self.dir, error);
        let dir = std::path::absolute(&self.dir).map_err(|error| failed("cannot tell where it is", error))?;
        make_dir(&*self.storage, &dir, self.durable).map_err(|error| failed("cannot create the directory", error))?;
        let lock_path = dir.join(".lock");
        let lock = self.storage.lock(&lock_path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => SinkError::in_use(&lock_path),
            _ => SinkError::storage("cannot lock the directory", &lock_path, error),
        })?;
        let watermark =
            Watermark::open(&*self.storage, &dir).map_err(|error| failed("cannot read the watermark", error))?;
        let mut log = SegmentLog {
            segments: Vec::new(),
            file: None,
            looked: None,
            pending: Vec::new(),
            last: None,
            committed: watermark.first(),
            next: watermark.first(),
            watermark,
            recovery: LogRecovery::default(),
            _lock: lock,
            dir,
            storage: self.storage,
            durable: self.durable,
            segment_bytes: self.segment_bytes,
            max_bytes: self.max_bytes,
            max_pending: self.max_pending,
        };
        log.recover()?;
        Ok(log)
    }
}

impl SegmentLog {
    /// Settings for a log in a directory of its own, which may not exist yet.
    pub fn builder(dir: impl AsRef<Path>) -> SegmentLogBuilder {
        SegmentLogBuilder {
            dir: dir.as_ref().to_owned(),
            durable: false,
            segment_bytes: 16 << 20,
            max_bytes: 1 << 30,
            max_pending: 8 << 20,
            storage: Arc::new(DiskStorage::new()),
        }
    }

    fn recover(&mut self) -> Result<(), SinkError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| SinkError::storage("cannot read the segment", &path, error)
        };
        let entries = self.storage.list(&self.dir).map_err(failed(&self.dir))?;
        for entry in entries.iter().filter(|entry| entry.is_file) {
            let base = entry.name().strip_suffix(".seg").and_then(|base| base.parse().ok());
            if let Some(base) = base {
                self.segments.push(Segment {
                    base,
                    path: entry.path.clone(),
                    len: entry.size,
                });
            }
        }
        self.segments.sort_by_key(|segment| segment.base);
        let first = self.watermark.first();
        let count = self.segments.len();
        for (index, segment) in self.segments.iter_mut().enumerate() {
            let file = self.storage.read(&segment.path).map_err(failed(&segment.path))?;
            let bytes = read_all(&*file).map_err(failed(&segment.path))?;
            let found = scan(&bytes, segment.base);
            self.next = self.next.max(found.next).max(segment.base);
            self.recovery.records += found.numbers.iter().filter(|number| **number >= first).count() as u64;
            self.recovery
                .damaged
                .extend(found.damaged.map(|at| (segment.path.clone(), at as u64)));
            let rest = bytes.len() as u64 - found.end as u64;
            if rest > 0 && index + 1 == count {
                self.recovery.cut = rest;
            } else if rest > 0 && found.damaged.is_none() {
                self.recovery.damaged.push((segment.path.clone(), found.end as u64));
            }
            segment.len = found.end as u64;
            if self.durable && index + 1 == count {
                // The process may have died before its sync, or after one that failed: then memory alone may hold this, and
                // count as written.
                let again = self.storage.open(&segment.path).and_then(|mut file| {
                    write_all(&mut *file, &bytes[..found.end], 0)?;
                    file.sync()
                });
                again.map_err(failed(&segment.path))?;
            }
        }
        self.committed = self.next;
        if self.recovery.cut > 0 {
            tracing::warn!(bytes = self.recovery.cut, "a torn end was cut off the segment log");
            self.reopen()?;
        }
        for (path, offset) in &self.recovery.damaged {
            tracing::error!(path = %path.display(), offset, "the segment log is damaged");
        }
        Ok(())
    }

    /// Takes a record into memory, and gives its number.
    ///
    /// # Errors
    /// [`Full`](SinkErrorKind::Full) when too much waits for `commit` or the log has its most bytes;
    /// [`TooLarge`](SinkErrorKind::TooLarge) beyond 1 GiB.
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, SinkError> {
        let len = FRAME_HEADER_LEN + 8 + payload.len();
        if len > crate::format::FRAME_MAX_LEN {
            return Err(SinkError::new(SinkErrorKind::TooLarge, "a record is larger than 1 GiB"));
        }
        if !self.pending.is_empty() && self.pending.len() + len > self.max_pending {
            return Err(SinkError::new(SinkErrorKind::Full, "too much waits for a commit"));
        }
        if self.bytes() + len as u64 > self.max_bytes {
            self.clear();
        }
        if self.bytes() + len as u64 > self.max_bytes {
            return Err(SinkError::new(SinkErrorKind::Full, "the log is full"));
        }
        self.last = Some(self.pending.len());
        let number = self.next;
        encode_frame_parts(&[&number.to_le_bytes(), payload], &mut self.pending);
        self.next += 1;
        Ok(number)
    }

    /// Takes the record back that was appended last, when it is not committed. When a commit of it has failed, a crash may bring
    /// it back.
    pub fn withdraw(&mut self) {
        if let Some(at) = self.last.take() {
            self.pending.truncate(at);
            self.next -= 1;
        }
    }

    /// Removes the segment that stays beside its room, when all in it is deleted.
    fn clear(&mut self) {
        let [segment] = &self.segments[..] else { return };
        if self.first() < self.committed || segment.len == 0 {
            return;
        }
        match self.storage.remove(&segment.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "an empty segment cannot be removed");
            }
            _ => {
                self.segments.clear();
                self.file = None;
            }
        }
    }

    /// Writes what was appended: gives the number behind the last record that is safe.
    ///
    /// When somebody else removes the file, a log that is not durable may take 10 ms to notice; what is written meanwhile is
    /// lost with it.
    ///
    /// # Errors
    /// [`Storage`](SinkErrorKind::Storage): nothing is lost, and the next `commit` tries it again.
    pub fn commit(&mut self) -> Result<u64, SinkError> {
        if self.pending.is_empty() {
            return Ok(self.committed);
        }
        let result = self.try_commit();
        if result.is_err() {
            // After a failed sync only a new handle tells the truth, and a directory may have gone.
            self.file = None;
        }
        result.map(|()| self.committed)
    }

    fn try_commit(&mut self) -> Result<(), SinkError> {
        if self.segments.last().is_none_or(|last| last.len >= self.segment_bytes) {
            self.begin()?;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        let (Some(segment), Some(file)) = (self.segments.last_mut(), &mut self.file) else {
            return Ok(());
        };
        let failed = |what: &str, error| SinkError::storage(what, &segment.path, error);
        write_all(&mut **file, &self.pending, segment.len).map_err(|error| failed("cannot write", error))?;
        if self.durable || self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            if !file.is_linked().map_err(|error| failed("cannot look at", error))? {
                let error = io::ErrorKind::NotFound.into();
                return Err(failed("it was removed by somebody else", error));
            }
            self.looked = Some(SystemClock::new());
        }
        if self.durable {
            file.sync().map_err(|error| failed("cannot sync", error))?;
        }
        segment.len += self.pending.len() as u64;
        self.pending.clear();
        self.last = None;
        self.committed = self.next;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), SinkError> {
        let path = self.dir.join(format!("{:020}.seg", self.committed));
        let failed = |what: &str, error| SinkError::storage(what, &path, error);
        // It may have been removed.
        make_dir(&*self.storage, &self.dir, self.durable)
            .map_err(|error| failed("cannot create the directory", error))?;
        let file = match self.storage.create(&path) {
            // Of an attempt that failed behind this.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.storage.open(&path),
            created => created,
        };
        let file = file.map_err(|error| failed("cannot create", error))?;
        if self.durable {
            self.storage
                .sync_dir(&self.dir)
                .map_err(|error| failed("cannot sync the directory", error))?;
        }
        self.file = Some(file);
        self.segments.push(Segment {
            base: self.committed,
            path: path.clone(),
            len: 0,
        });
        Ok(())
    }

    /// Opens the last segment, and cuts what is behind the last commit.
    fn reopen(&mut self) -> Result<(), SinkError> {
        self.file = None;
        let Some(segment) = self.segments.last() else {
            return Ok(());
        };
        let failed = |error| SinkError::storage("cannot open", &segment.path, error);
        let mut file = match self.storage.open(&segment.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::error!(path = %segment.path.display(), "a segment was removed by somebody else");
                self.segments.pop();
                return self.begin();
            }
            opened => opened.map_err(failed)?,
        };
        if file.size().map_err(failed)? > segment.len {
            file.truncate(segment.len).map_err(failed)?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Deletes all records up to this number, inclusive. Those that were not committed stay.
    ///
    /// # Errors
    /// [`Storage`](SinkErrorKind::Storage): after a crash they may come again.
    pub fn delete_through(&mut self, number: u64) -> Result<(), SinkError> {
        let first = number.saturating_add(1).min(self.committed);
        if first <= self.watermark.first() {
            return Ok(());
        }
        let failed = |error| SinkError::storage("cannot delete", &self.dir, error);
        // Before the segments go: records must not go missing while the watermark points to them.
        self.watermark
            .set(&*self.storage, &self.dir, first, self.durable)
            .map_err(failed)?;
        let mut removed = false;
        while let Some(segment) = self.segments.first() {
            let is_empty = match self.segments.get(1) {
                Some(next) => next.base <= first,
                // The last one stays while there is room beside it: a file is not made for each commit.
                None => first == self.committed && segment.len > self.segment_bytes.min(self.max_bytes / 4),
            };
            if !is_empty {
                break;
            }
            match self.storage.remove(&segment.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
            self.segments.remove(0);
            removed = true;
        }
        if self.segments.is_empty() {
            self.file = None;
        }
        if removed && self.durable {
            self.storage.sync_dir(&self.dir).map_err(failed)?;
        }
        Ok(())
    }

    /// Reads committed records from this number on, or from the first that was not deleted. It sees what is there now, and
    /// does not hinder appending; records that are deleted meanwhile may be left out.
    #[must_use]
    pub fn read(&self, from: u64) -> SegmentReader {
        let from = from.max(self.watermark.first());
        let segments = self.segments.iter();
        let segments = segments
            .map(|segment| (segment.base, segment.path.clone(), segment.len))
            .collect();
        SegmentReader::new(Arc::clone(&self.storage), segments, from)
    }

    /// The number of the first record that was not deleted.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.watermark.first()
    }

    /// The number that the next record gets.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The number behind the last record that is safe.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Bytes on the disk and in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let segments: u64 = self.segments.iter().map(|segment| segment.len).sum();
        segments + self.pending.len() as u64
    }

    /// What was found when it was opened.
    #[must_use]
    pub fn recovery(&self) -> &LogRecovery {
        &self.recovery
    }
}

impl fmt::Debug for SegmentLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentLog")
            .field("dir", &self.dir)
            .field("first", &self.first())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
