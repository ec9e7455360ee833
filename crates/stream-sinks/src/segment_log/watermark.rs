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
}

impl Watermark {
    pub(super) fn open(storage: &dyn Storage, dir: &Path) -> io::Result<Self> {
        let bytes = match storage.read(&dir.join("watermark")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            file => read_all(&*file?)?,
        };
        let slot = |index: usize| {
            let bytes = bytes.get(index * 512..)?;
            let payload = Frames::new(bytes).next()?.ok()?;
            Some(u64::from_le_bytes(payload.try_into().ok()?))
        };
        let (one, two) = (slot(0).unwrap_or(0), slot(1).unwrap_or(0));
        Ok(Self {
            first: one.max(two),
            slot: u64::from(two > one),
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
            if created {
                storage.sync_dir(dir)?;
            }
        }
        self.first = first;
        self.slot = slot;
        Ok(())
    }
}
