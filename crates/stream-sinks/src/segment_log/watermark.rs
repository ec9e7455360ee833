//! Which record is the first that was not deleted.

use std::{io, path::Path};

use crate::{
    Storage,
    format::Frames,
    format::encode_frame,
    storage::{read_all, write_all},
};

const SLOT: u64 = 512;

/// Two slots, a sector each, which are written by turns: a torn one leaves the other.
#[derive(Debug)]
pub(super) struct Watermark {
    first: u64,
    slot: u64,
    /// The directory may not know the file yet.
    is_new: bool,
}

impl Watermark {
    pub(super) fn open(storage: &dyn Storage, dir: &Path) -> io::Result<Self> {
        let path = dir.join("watermark");
        let bytes = match storage.read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            file => read_all(&*file?)?,
        };
        let is_new = bytes.len() < 2 * SLOT as usize;
        if is_new && let Err(error) = reserve(storage, &path, bytes.len() as u64) {
            tracing::debug!(%error, "no room is reserved for the watermark");
        }
        let slot = |index: usize| {
            let bytes = bytes.get(index * 512..)?;
            let payload = Frames::new(bytes).next()?.ok()?;
            Some(u64::from_le_bytes(payload.try_into().ok()?))
        };
        let (one, two) = (slot(0).unwrap_or(0), slot(1).unwrap_or(0));
        Ok(Self {
            first: one.max(two),
            slot: u64::from(two > one),
            is_new,
        })
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn set(&mut self, storage: &dyn Storage, dir: &Path, first: u64, durable: bool) -> io::Result<()> {
        let path = dir.join("watermark");
        let (mut file, created) = match storage.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (storage.create(&path)?, true),
            file => (file?, false),
        };
        let mut frame = Vec::new();
        encode_frame(&first.to_le_bytes(), &mut frame);
        let slot = 1 - self.slot;
        write_all(&mut *file, &frame, slot * SLOT)?;
        if durable {
            file.sync()?;
            if created || self.is_new {
                storage.sync_dir(dir)?;
                self.is_new = false;
            }
        }
        self.first = first;
        self.slot = slot;
        Ok(())
    }
}

/// Takes the room of both slots while there is some: on a full disk, nothing could be deleted without it.
fn reserve(storage: &dyn Storage, path: &Path, len: u64) -> io::Result<()> {
    let mut file = match storage.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => storage.create(path)?,
        file => file?,
    };
    let room = (2 * SLOT).saturating_sub(len);
    write_all(&mut *file, &vec![0; room as usize], len)
}
