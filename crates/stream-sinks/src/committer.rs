//! What the writer's thread does with blocks: writes, syncs, closes files. No thread, no clock.
//!
//! Each step can fail, and is taken up again where it stood: what is not durable as the mode asks is kept in memory, and
//! is written again to the same place with the same bytes. So a file never loses on the way what a killed process would
//! have left in it.

use std::{any::Any, collections::VecDeque, io, path::Path, sync::Arc};

use jiff::Timestamp;

use crate::{
    Boundary, Manifest, SinkError, Storage,
    block::Block,
    journal::{Header, Totals},
    storage::dir_of,
    template::{PART, Pattern},
};

mod chunk;
mod part;
mod place;

pub(crate) use self::place::{Place, journal_path, lock_path, publish};
use self::{chunk::Chunk, part::Part};

/// What a committer needs to know.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) place: Place,
    pub(crate) boundary: Boundary,
    /// The level, where files are compressed as they are written.
    pub(crate) zstd: Option<i32>,
    /// Whether anything is ever synced.
    pub(crate) syncs: bool,
    pub(crate) current_link: Option<String>,
}

/// A file that has its final name; its journal goes when its hook was called.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) manifest: Manifest,
    pub(crate) journal: std::path::PathBuf,
}

#[derive(Debug)]
pub(crate) struct Committer {
    settings: Settings,
    /// Taken from producers, not encoded yet.
    pending: VecDeque<Block>,
    /// Encoded, not written. A chunk that failed is written again with the same bytes.
    unwritten: VecDeque<Chunk>,
    part: Option<Part>,
    /// Files up to this number end when all that belongs into them is written.
    seal_through: u64,
    /// Whether the last run failed, so that files must be opened anew.
    broken: bool,
    lock: Option<Box<dyn Any + Send>>,
    last_index: Option<(Pattern, u64)>,
    closed: Vec<Closed>,
    spare: Vec<Vec<u8>>,
    written: u64,
    synced: u64,
    counts: Counts,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) files_closed: u64,
    pub(crate) file_bytes: u64,
    pub(crate) syncs: u64,
    /// Files that somebody else removed or cut while they were written.
    pub(crate) vanished: u64,
}

impl Committer {
    pub(crate) fn new(settings: Settings, lock: Box<dyn Any + Send>) -> Self {
        Self {
            settings,
            pending: VecDeque::new(),
            unwritten: VecDeque::new(),
            part: None,
            seal_through: 0,
            broken: false,
            lock: Some(lock),
            last_index: None,
            closed: Vec::new(),
            spare: Vec::new(),
            written: 0,
            synced: 0,
            counts: Counts::default(),
        }
    }

    /// The file in progress.
    pub(crate) fn current_file(&self) -> Option<&Path> {
        self.part.as_ref().map(|part| &*part.path)
    }

    pub(crate) fn accept(&mut self, blocks: impl IntoIterator<Item = Block>) {
        self.pending.extend(blocks);
    }

    pub(crate) fn seal_through(&mut self, file: u64) {
        self.seal_through = self.seal_through.max(file);
    }

    /// Writes all it has, syncs if asked to, and closes files that have ended.
    ///
    /// # Errors
    /// The storage's. Nothing is lost; the next run goes on.
    pub(crate) fn run(&mut self, sync: bool, now: Timestamp) -> Result<(), SinkError> {
        if self.broken {
            self.reopen()?;
            self.broken = false;
        }
        let result = self.step(sync, now);
        if result.is_err() {
            self.broken = true;
            if let Some(part) = &mut self.part {
                part.drop_torn_tail();
            }
        }
        result
    }

    fn step(&mut self, sync: bool, now: Timestamp) -> Result<(), SinkError> {
        loop {
            let next = self.next_file();
            if let Some(part) = &self.part {
                let number = part.target.file;
                let ends = next.map_or(number <= self.seal_through, |next| next != number);
                if ends {
                    self.seal(now)?;
                    continue;
                }
            }
            if next.is_none() {
                break;
            }
            self.encode()?;
            if self.part.is_none() {
                self.begin(now)?;
            }
            self.write()?;
        }
        self.note()?;
        if sync {
            self.sync()?;
        }
        Ok(())
    }

    /// The number of the file that the next bytes belong into.
    fn next_file(&self) -> Option<u64> {
        let unwritten = self.unwritten.front().map(|chunk| chunk.target.file);
        unwritten.or_else(|| Some(self.pending.front()?.target.file))
    }

    /// Makes a chunk of pending blocks: of one each, or one frame of all that are for one file.
    fn encode(&mut self) -> Result<(), SinkError> {
        if !self.unwritten.is_empty() {
            return Ok(());
        }
        let Some(first) = self.pending.pop_front() else {
            return Ok(());
        };
        let Some(level) = self.settings.zstd else {
            self.unwritten.push_back(Chunk::plain(first));
            return Ok(());
        };
        let file = first.target.file;
        let mut blocks = vec![first];
        while self.pending.front().is_some_and(|block| block.target.file == file) {
            blocks.extend(self.pending.pop_front());
        }
        match Chunk::zstd(&blocks, level) {
            Ok(chunk) => {
                self.unwritten.push_back(chunk);
                self.spare.extend(blocks.into_iter().map(|block| block.data));
                Ok(())
            }
            Err(error) => {
                for block in blocks.into_iter().rev() {
                    self.pending.push_front(block);
                }
                Err(SinkError::storage("cannot compress", &self.settings.place.dir, error))
            }
        }
    }

    fn begin(&mut self, now: Timestamp) -> Result<(), SinkError> {
        let Some(chunk) = self.unwritten.front() else {
            return Ok(());
        };
        let (target, sequenced) = (chunk.target, chunk.sequences.is_some());
        self.relock()?;
        let place = &self.settings.place;
        let pattern = place.template.pattern(&target.period);
        let dir = place.dir_of(&pattern);
        place
            .make_dir(&dir, self.settings.syncs)
            .map_err(|error| SinkError::storage("cannot create the directory", &dir, error))?;
        let mut index = match &self.last_index {
            Some((last, index)) if *last == pattern => index + 1,
            _ => place
                .next_index(&pattern)
                .map_err(|error| SinkError::storage("cannot list the directory", &dir, error))?,
        };
        let suffix = self.suffix();
        let header = Header {
            pattern: pattern.clone(),
            boundary: self.settings.boundary,
            zstd: self.settings.zstd.is_some(),
            sequenced,
            opened: i64::try_from(now.as_nanosecond()).unwrap_or(0),
            since: i64::try_from(target.period.start.as_nanosecond()).ok(),
        };
        let part = loop {
            let path = place.dir.join(format!("{}{suffix}{PART}", pattern.open_path(index)));
            let created = Part::create(place, path.clone(), header.clone(), target, index, self.settings.syncs);
            match created.map_err(|error| SinkError::storage("cannot create the file", &path, error))? {
                Some(part) => break part,
                None => index += 1,
            }
        };
        if self.settings.current_link.is_some() {
            self.link(&part.path);
        }
        self.last_index = Some((pattern, index));
        self.part = Some(part);
        Ok(())
    }

    fn write(&mut self) -> Result<(), SinkError> {
        let (Some(part), Some(chunk)) = (&mut self.part, self.unwritten.front()) else {
            return Ok(());
        };
        part.write(chunk)
            .map_err(|error| SinkError::storage("cannot write", &part.path, error))?;
        if let Some(chunk) = self.unwritten.pop_front() {
            self.counts.file_bytes += chunk.bytes.len() as u64;
            part.end = chunk.end;
            part.unsafe_chunks.push_back(chunk);
        }
        Ok(())
    }

    /// Notes in the journal what was written. Only now does it survive the death of the process for certain.
    fn note(&mut self) -> Result<(), SinkError> {
        let Some(part) = &mut self.part else {
            return Ok(());
        };
        if part.sealed.is_some() {
            return Ok(());
        }
        part.note()
            .map_err(|error| SinkError::storage("cannot write", &part.journal_path, error))?;
        let linked = part
            .is_linked()
            .map_err(|error| SinkError::storage("cannot look at", &part.path, error))?;
        if !linked {
            let error = io::Error::from(io::ErrorKind::NotFound);
            return Err(SinkError::storage(
                "it was removed while it was written",
                &part.path,
                error,
            ));
        }
        self.written = self.written.max(part.end);
        if !self.settings.syncs {
            self.spare.extend(part.is_safe());
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SinkError> {
        let (true, Some(part)) = (self.settings.syncs, &mut self.part) else {
            return Ok(());
        };
        if part.unsafe_chunks.is_empty() {
            return Ok(());
        }
        self.counts.syncs += 1;
        let freed = part
            .sync(&*self.settings.place.storage)
            .map_err(|error| SinkError::storage("cannot sync", &part.path, error))?;
        self.spare.extend(freed);
        self.synced = self.synced.max(part.end);
        Ok(())
    }

    /// Gives the file its final name.
    fn seal(&mut self, now: Timestamp) -> Result<(), SinkError> {
        self.note()?;
        self.sync()?;
        let suffix = self.suffix();
        let Some(part) = &mut self.part else {
            return Ok(());
        };
        let place = &self.settings.place;
        let syncs = self.settings.syncs;
        let path = match &part.sealed {
            Some(path) => path.clone(),
            None => {
                let path = part.publish(place, suffix, syncs);
                let path = path.map_err(|error| SinkError::storage("cannot close the file", &part.path, error))?;
                part.sealed = Some(path.clone());
                path
            }
        };
        if syncs {
            let dir = dir_of(&path);
            match place.storage.sync_dir(dir) {
                // Somebody removed it with the file: there is nothing left to sync, now and later.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.counts.vanished += 1,
                result => result.map_err(|error| SinkError::storage("cannot sync the directory", dir, error))?,
            }
        }
        let manifest = part.manifest(path.clone(), now);
        let journal = part.journal_path.clone();
        tracing::info!(path = %path.display(), records = manifest.records, bytes = manifest.bytes, "file closed");
        self.closed.push(Closed { manifest, journal });
        self.counts.files_closed += 1;
        self.part = None;
        if self.settings.current_link.is_some() {
            self.link(&path);
        }
        Ok(())
    }

    /// After a failure: opens the file anew, and goes back to what is known to be in it.
    fn reopen(&mut self) -> Result<(), SinkError> {
        self.relock()?;
        let Some(part) = &mut self.part else {
            return Ok(());
        };
        if part.sealed.is_some() {
            return Ok(());
        }
        let storage = &*self.settings.place.storage;
        let there = part
            .reopen(storage)
            .map_err(|error| SinkError::storage("cannot open", &part.path, error))?;
        let chunks = part.rewind();
        for chunk in chunks.into_iter().rev() {
            self.unwritten.push_front(chunk);
        }
        if !there {
            tracing::warn!(path = %part.path.display(), "file was removed or cut by somebody else; beginning another");
            self.counts.vanished += 1;
            self.part = None;
            self.last_index = None;
        }
        Ok(())
    }

    /// Nothing is written any more: another writer may have the name.
    pub(crate) fn unlock(&mut self) {
        self.lock = None;
    }

    /// The directory may have been removed, and the lock with it.
    fn relock(&mut self) -> Result<(), SinkError> {
        let place = &self.settings.place;
        let path = lock_path(&place.dir, &place.name);
        match place.storage.read(&path) {
            Ok(_) if self.lock.is_some() => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SinkError::storage("cannot look at the lock", &path, error));
            }
            _ => {}
        }
        place
            .make_own_dir(self.settings.syncs)
            .map_err(|error| SinkError::storage("cannot create the directory", &place.dir, error))?;
        self.lock = None;
        self.lock = Some(place.lock()?);
        Ok(())
    }

    /// A convenience for people; no record depends on it.
    fn link(&self, path: &Path) {
        let place = &self.settings.place;
        let Some(name) = &self.settings.current_link else {
            return;
        };
        let target = path.strip_prefix(&place.dir).unwrap_or(path);
        if let Err(error) = place.storage.link(target, &place.dir.join(name)) {
            tracing::warn!(%error, link = %name, "cannot set the link to the current file");
        }
    }

    fn suffix(&self) -> &'static str {
        if self.settings.zstd.is_some() { ".zst" } else { "" }
    }

    /// Records up to this number, exclusive, survive the death of the process.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Records up to this number, exclusive, survive a power loss.
    pub(crate) fn synced(&self) -> u64 {
        self.synced
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn take_closed(&mut self) -> Vec<Closed> {
        std::mem::take(&mut self.closed)
    }

    pub(crate) fn take_spare(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.spare)
    }

    /// Whether a file is in progress.
    pub(crate) fn is_open(&self) -> bool {
        self.part.is_some()
    }

    /// Bytes that are written and not synced.
    pub(crate) fn unsynced(&self) -> usize {
        let chunks = self.part.iter().flat_map(|part| &part.unsafe_chunks);
        chunks.map(|chunk| chunk.bytes.capacity()).sum()
    }

    /// Bytes of all buffers that it keeps.
    pub(crate) fn held(&self) -> usize {
        let pending: usize = self.pending.iter().map(Block::weight).sum();
        let unwritten: usize = self.unwritten.iter().map(|chunk| chunk.bytes.capacity()).sum();
        pending + unwritten + self.unsynced()
    }
}

/// Needed by the recovery too.
pub(crate) fn totals_to_manifest(
    path: std::path::PathBuf,
    totals: &Totals,
    header: Option<&Header>,
    now: Timestamp,
    recovered: bool,
) -> Manifest {
    let time = |nanos: i64| Timestamp::from_nanosecond(nanos.into()).ok().map(Into::into);
    Manifest {
        path,
        records: totals.records,
        bytes: totals.bytes,
        file_bytes: totals.file_len,
        sequences: totals.sequences,
        crc32c: totals.crc,
        opened: header.and_then(|header| time(header.opened)),
        since: header.and_then(|header| time(header.since?)),
        closed: now.into(),
        recovered,
    }
}

/// For tests and the recovery.
pub(crate) type SharedStorage = Arc<dyn Storage>;
