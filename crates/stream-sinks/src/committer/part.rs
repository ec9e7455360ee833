//! A file in progress.

use std::{collections::VecDeque, io, path::PathBuf};

use jiff::Timestamp;

use super::{Place, chunk::Chunk, journal_path, publish, totals_to_manifest};
use crate::{
    Manifest, Storage, StorageFile,
    journal::{self, Header, Journal, Totals},
    planner::Target,
    storage::{dir_of, read_all, write_all},
};

#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    file: Box<dyn StorageFile>,
    pub(super) journal_path: PathBuf,
    pub(super) journal: Box<dyn StorageFile>,
    /// Where the next entry goes.
    pub(super) journal_len: u64,
    /// How much of it is as safe as the mode asks, and the entries behind that: after a failed sync they are written again, and
    /// never others over them, since they have promised something.
    journal_safe: u64,
    journal_tail: Vec<u8>,
    journal_again: bool,
    pub(super) header: Header,
    pub(super) target: Target,
    pub(super) index: u64,
    pub(super) written: Totals,
    noted: Totals,
    safe: Totals,
    /// Bytes that were noted once, and so promised to survive a kill: they stay in the file while they are written again.
    promised: u64,
    /// Written, and not as safe as the mode asks: written again after a failure.
    pub(super) unsafe_chunks: VecDeque<Chunk>,
    /// The number behind the last record that was written.
    pub(super) end: u64,
    /// Whether its name survives a power loss.
    named: bool,
    /// Its final path, once it has that.
    pub(super) sealed: Option<PathBuf>,
}

impl Part {
    /// Begins a file; `None` when the name is taken.
    ///
    /// The journal comes first, and where records need it, it is durable before they come: whoever finds a file finds out
    /// how it was written.
    pub(super) fn create(
        place: &Place,
        path: PathBuf,
        header: Header,
        target: Target,
        index: u64,
        syncs: bool,
    ) -> io::Result<Option<Self>> {
        let storage = &*place.storage;
        if storage.read(&path).is_ok() {
            return Ok(None);
        }
        let journal_path = journal_path(&path);
        let journal = match storage.create(&journal_path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match storage.open(&journal_path) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                opened => {
                    let opened = opened?;
                    if Journal::decode(&read_all(&*opened)?).sealed.is_some() {
                        // Of a closed file whose hook is still to be called.
                        return Ok(None);
                    }
                    // Left over by an attempt that failed behind this.
                    drop(opened);
                    storage.remove(&journal_path)?;
                    storage.create(&journal_path)
                }
            },
            created => created,
        };
        let mut journal = journal?;
        let entry = journal::encode_header(&header);
        write_all(&mut *journal, &entry, 0)?;
        if syncs && header.is_needed() {
            journal.sync()?;
            storage.sync_dir(dir_of(&path))?;
        }
        let file = match storage.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                storage.remove(&journal_path)?;
                return Ok(None);
            }
            created => created?,
        };
        let journal_len = entry.len() as u64;
        Ok(Some(Self {
            path,
            file,
            journal_path,
            journal,
            journal_len,
            journal_safe: journal_len,
            journal_tail: Vec::new(),
            journal_again: false,
            header,
            target,
            index,
            written: Totals::default(),
            noted: Totals::default(),
            safe: Totals::default(),
            promised: 0,
            unsafe_chunks: VecDeque::new(),
            end: 0,
            named: false,
            sealed: None,
        }))
    }

    pub(super) fn write(&mut self, chunk: &Chunk) -> io::Result<()> {
        write_all(&mut *self.file, &chunk.bytes, self.written.file_len)?;
        self.written = chunk.add_to(&self.written);
        Ok(())
    }

    /// After a write that failed halfway. It is written again to the same place, but until then readers need not see it.
    pub(super) fn drop_torn_tail(&mut self) {
        let whole = self.written.file_len.max(self.promised);
        if self.sealed.is_none() && self.file.size().is_ok_and(|size| size > whole) {
            let _ = self.file.truncate(whole);
        }
    }

    pub(super) fn note(&mut self) -> io::Result<()> {
        if self.noted == self.written {
            return Ok(());
        }
        if self.journal_again {
            write_all(&mut *self.journal, &self.journal_tail, self.journal_safe)?;
            self.journal_again = false;
        }
        let entry = journal::encode_commit(&self.written);
        write_all(&mut *self.journal, &entry, self.journal_len)?;
        self.journal_len += entry.len() as u64;
        self.journal_tail.extend_from_slice(&entry);
        self.noted = self.written;
        self.promised = self.promised.max(self.written.file_len);
        Ok(())
    }

    /// Gives it its final name, which is noted before.
    pub(super) fn publish(&mut self, place: &Place, suffix: &str, syncs: bool) -> io::Result<PathBuf> {
        let Self {
            path,
            header,
            index,
            journal,
            journal_len,
            written,
            ..
        } = self;
        publish(
            place,
            path,
            &header.pattern,
            *index,
            written.sequences,
            suffix,
            |path| {
                // Written over when the name was taken.
                write_all(&mut **journal, &journal::encode_sealed(path), *journal_len)?;
                if syncs { journal.sync() } else { Ok(()) }
            },
        )
    }

    pub(super) fn is_linked(&self) -> io::Result<bool> {
        self.file.is_linked()
    }

    /// Gives back buffers that are not needed any more.
    pub(super) fn sync(&mut self, storage: &dyn Storage) -> io::Result<Vec<Vec<u8>>> {
        self.file.sync()?;
        if self.header.is_needed() || self.written.sequences.is_some() {
            self.journal.sync()?;
        }
        if !self.named {
            storage.sync_dir(dir_of(&self.path))?;
            self.named = true;
        }
        Ok(self.is_safe())
    }

    /// All that was written is as safe as the mode asks: gives back buffers.
    pub(super) fn is_safe(&mut self) -> Vec<Vec<u8>> {
        self.safe = self.written;
        self.journal_safe = self.journal_len;
        self.journal_tail.clear();
        self.unsafe_chunks.drain(..).map(|chunk| chunk.bytes).collect()
    }

    /// Opens both files anew. `Ok(false)`: the file is gone, or shorter than it was.
    pub(super) fn reopen(&mut self, storage: &dyn Storage) -> io::Result<bool> {
        // Their locks go with them, so that they can be taken again.
        let gone = Box::new(Gone);
        self.file = gone;
        self.journal = Box::new(Gone);
        let opened = storage.open(&self.path).and_then(|file| {
            let size = file.size()?;
            let journal = storage.open(&self.journal_path)?;
            Ok((file, size, journal))
        });
        match opened {
            Ok((file, size, journal)) if size >= self.safe.file_len => {
                self.file = file;
                self.journal = journal;
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Goes back to what is safe: gives what must be written again.
    pub(super) fn rewind(&mut self) -> VecDeque<Chunk> {
        if !self.unsafe_chunks.is_empty() {
            self.written = self.safe;
            self.noted = self.safe;
            self.journal_again = true;
        }
        std::mem::take(&mut self.unsafe_chunks)
    }

    pub(super) fn manifest(&self, path: PathBuf, now: Timestamp) -> Manifest {
        totals_to_manifest(path, &self.written, Some(&self.header), now, false)
    }
}

/// Stands for a file while it is not open.
#[derive(Debug)]
struct Gone;

impl StorageFile for Gone {
    fn write_at(&mut self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn size(&self) -> io::Result<u64> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn is_linked(&self) -> io::Result<bool> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn set_modified(&mut self, _: std::time::SystemTime) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
}
