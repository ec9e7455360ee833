//! Events that hold up others, kept beside the log so that it can forget what is behind them.
//!
//! ```text
//!  an event      number in the spool, u64 │ record
//!  what is done  number in the spool, u64
//! ```
//!
//! Little-endian. A number is there once at a time, and again behind its end only when the numbers of the spool have begun again.

use std::collections::{BTreeMap, VecDeque};

use stream_sinks::{SegmentLog, SegmentReader, SinkError, SinkErrorKind};

use super::super::ledger::ASIDE;

/// An event that was read back, by its number in the ledger.
pub(in crate::outbox) type Found = VecDeque<(u64, Vec<u8>)>;

pub(super) struct Aside {
    log: SegmentLog,
    /// The events that are not done, by their numbers in the spool.
    kept: BTreeMap<u64, Kept>,
    /// Bytes of these.
    bytes: u64,
    /// As many bytes as they may have.
    most: u64,
    /// The files may have so many bytes of what is done.
    slack: u64,
    /// Appended, and not said to be written: a commit has failed.
    untold: Vec<u64>,
}

#[derive(Clone, Copy)]
struct Kept {
    /// Its number in the log of these.
    at: u64,
    bytes: u64,
    /// It is only here, since an earlier process: the ledger knows it by another number.
    is_alone: bool,
}

impl Aside {
    /// Reads all files: gives the events that are not done, the oldest first.
    pub(super) fn open(log: SegmentLog, most: u64, slack: u64) -> Result<(Self, Found), SinkError> {
        let mut records = BTreeMap::new();
        for read in log.read(0) {
            let (at, body) = read?;
            let Some((number, record)) = unpack(&body) else {
                tracing::error!(at, "what was set aside has no number");
                continue;
            };
            if record.is_empty() {
                records.remove(&number);
            } else {
                records.insert(number, (at, record.to_vec()));
            }
        }
        let kept = |(number, (at, record)): (&u64, &(u64, Vec<u8>))| {
            let (at, bytes) = (*at, record.len() as u64);
            let is_alone = true;
            (*number, Kept { at, bytes, is_alone })
        };
        let kept: BTreeMap<u64, Kept> = records.iter().map(kept).collect();
        let aside = Self {
            log,
            bytes: kept.values().map(|kept| kept.bytes).sum(),
            kept,
            most,
            slack,
            untold: Vec::new(),
        };
        let found = records.into_iter().map(|(number, (_, record))| (number, record));
        Ok((aside, found.collect()))
    }

    /// The log has these too.
    pub(super) fn are_in_log(&mut self, numbers: &[u64]) {
        for number in numbers {
            if let Some(kept) = self.kept.get_mut(number) {
                kept.is_alone = false;
            }
        }
    }

    /// Bytes of the files.
    pub(super) fn len(&self) -> u64 {
        self.log.bytes()
    }

    /// Was something kept of which nobody is told yet?
    pub(super) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Keeps the records of these numbers, which ascend, as far as there is room: gives those that are kept.
    ///
    /// # Errors
    /// When they cannot be read or written. The next call tells of those that are written then.
    pub(super) fn keep(&mut self, spool: SegmentReader, numbers: &[u64]) -> Result<Vec<u64>, SinkError> {
        // None is kept before one that is older: after a restart these are the first.
        let mut has_room = true;
        let numbers = numbers.iter().copied().filter(|number| !self.kept.contains_key(number));
        let numbers: Vec<u64> = numbers.collect();
        each(spool, numbers, |number, record| {
            let bytes = record.len() as u64;
            has_room &= self.bytes + bytes <= self.most;
            if !has_room {
                return Ok(false);
            }
            let at = self.append(&[&number.to_le_bytes()[..], &record].concat())?;
            let is_alone = false;
            self.kept.insert(number, Kept { at, bytes, is_alone });
            self.bytes += bytes;
            self.untold.push(number);
            Ok(true)
        })?;
        self.log.commit()?;
        Ok(std::mem::take(&mut self.untold))
    }

    /// These are done, by their numbers in the ledger: they are not found any more. It may be called again with the same.
    ///
    /// # Errors
    /// When that cannot be written: after a restart they may be found.
    pub(super) fn forget(&mut self, numbers: &[u64]) -> Result<(), SinkError> {
        for number in numbers {
            let (number, is_alone) = (number & !ASIDE, number & ASIDE != 0);
            if self.kept.get(&number).is_some_and(|kept| kept.is_alone == is_alone) {
                self.append(&number.to_le_bytes())?;
                let kept = self.kept.remove(&number);
                self.bytes -= kept.map_or(0, |kept| kept.bytes);
            }
        }
        self.log.commit()?;
        self.trim()?;
        if self.log.bytes() > 2 * self.bytes + self.slack {
            self.compact()?;
        }
        Ok(())
    }

    /// Writes everything that is kept again at the end, and deletes the rest: the oldest event may be done last.
    fn compact(&mut self) -> Result<(), SinkError> {
        let mut places: Vec<(u64, u64)> = self.kept.iter().map(|(number, kept)| (kept.at, *number)).collect();
        places.sort_unstable();
        let reader = self.log.read(0);
        let mut numbers = places.iter();
        each(reader, places.iter().map(|(at, _)| *at).collect(), |at, body| {
            let number = numbers.find(|(place, _)| *place == at).map(|(_, number)| *number);
            let again = self.append(&body)?;
            if let Some(kept) = number.and_then(|number| self.kept.get_mut(&number)) {
                kept.at = again;
            }
            Ok(true)
        })?;
        self.log.commit()?;
        self.trim()
    }

    /// Deletes what is before all that is kept.
    fn trim(&mut self) -> Result<(), SinkError> {
        let first = self.kept.values().map(|kept| kept.at).min();
        match first.unwrap_or_else(|| self.log.committed()).checked_sub(1) {
            Some(last) => self.log.delete_through(last),
            None => Ok(()),
        }
    }

    fn append(&mut self, body: &[u8]) -> Result<u64, SinkError> {
        match self.log.append(body) {
            // Too much waits for a commit.
            Err(error) if error.kind() == SinkErrorKind::Full => {
                self.log.commit()?;
                self.log.append(body)
            }
            appended => appended,
        }
    }
}

/// Calls `found` with each record that has one of these numbers, which ascend, until it says no.
///
/// # Errors
/// When a file cannot be read, and those of `found`.
pub(super) fn each(
    mut reader: SegmentReader,
    numbers: Vec<u64>,
    mut found: impl FnMut(u64, Vec<u8>) -> Result<bool, SinkError>,
) -> Result<(), SinkError> {
    let mut ahead: Option<(u64, Vec<u8>)> = None;
    for number in numbers {
        if ahead.as_ref().is_none_or(|(at, _)| *at < number) {
            reader.skip_to(number);
            ahead = reader.next().transpose()?;
        }
        if let Some((_, record)) = ahead.take_if(|(at, _)| *at == number)
            && !found(number, record)?
        {
            break;
        }
    }
    Ok(())
}

fn unpack(body: &[u8]) -> Option<(u64, &[u8])> {
    let (number, record) = body.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), record))
}

#[cfg(test)]
mod tests;
