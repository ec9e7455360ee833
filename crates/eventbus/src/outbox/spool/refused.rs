//! Events that can never be delivered, kept with the reason.

use std::collections::HashSet;

use stream_sinks::{SegmentLog, SinkError};

use super::super::record::decode;
use crate::event::Event;

pub(super) struct Refused {
    log: SegmentLog,
    /// Appended, by their numbers in the spool, when nobody could be told yet that they are written: not to be appended again.
    uncommitted: HashSet<u64>,
}

impl Refused {
    pub(super) fn new(log: SegmentLog) -> Self {
        Self {
            log,
            uncommitted: HashSet::new(),
        }
    }

    /// Keeps event `number`, and why.
    pub(super) fn keep(&mut self, number: u64, record: &[u8], reason: &str) -> Result<(), SinkError> {
        if !self.uncommitted.contains(&number) {
            // What waits for the disk must not take all the room.
            self.log.commit()?;
            let mut kept = Vec::with_capacity(4 + reason.len() + record.len());
            kept.extend_from_slice(&u32::try_from(reason.len()).unwrap_or(u32::MAX).to_le_bytes());
            kept.extend_from_slice(reason.as_bytes());
            kept.extend_from_slice(record);
            self.log.append(&kept)?;
            self.uncommitted.insert(number);
        }
        self.log.commit()?;
        self.uncommitted.remove(&number);
        Ok(())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Result<(u64, Option<Event>, String), SinkError>> + use<> {
        self.log.read(0).map(|record| {
            let (number, record) = record?;
            let (reason, record) = unpack(record);
            Ok((number, decode(&record), reason))
        })
    }

    pub(super) fn forget(&mut self, through: u64) -> Result<(), SinkError> {
        self.log.delete_through(through)
    }
}

fn unpack(mut record: Vec<u8>) -> (String, Vec<u8>) {
    let len = record.first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
    let end = (4 + len).min(record.len());
    let rest = record.split_off(end);
    let reason = String::from_utf8_lossy(record.get(4..).unwrap_or_default()).into_owned();
    (reason, rest)
}
