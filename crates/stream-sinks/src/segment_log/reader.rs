//! Reading segments.

use std::{
    collections::VecDeque,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    vec,
};

use crate::{Frames, SinkError, Storage, storage::read_full};

/// Records of a [`SegmentLog`](crate::SegmentLog) with their numbers, in order.
///
/// It holds one segment in memory at a time.
pub struct SegmentReader {
    storage: Arc<dyn Storage>,
    /// Base, path and length.
    segments: VecDeque<(u64, PathBuf, u64)>,
    from: u64,
    current: vec::IntoIter<(u64, Vec<u8>)>,
}

impl SegmentReader {
    pub(super) fn new(storage: Arc<dyn Storage>, segments: VecDeque<(u64, PathBuf, u64)>, from: u64) -> Self {
        Self {
            storage,
            segments,
            from,
            current: Vec::new().into_iter(),
        }
    }

    /// Goes on with the first record from this number on. Segments that end before it are not read. Never goes back.
    pub fn skip_to(&mut self, number: u64) {
        self.from = self.from.max(number);
        while self.current.as_slice().first().is_some_and(|(at, _)| *at < number) {
            self.current.next();
        }
    }

    fn load(&mut self, base: u64, path: &Path, len: u64) -> io::Result<()> {
        let file = match self.storage.read(path) {
            // Deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let size = usize::try_from(len.min(file.size()?)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; size];
        let filled = read_full(&*file, &mut bytes, 0)?;
        bytes.truncate(filled);
        let mut records = Vec::new();
        each(&bytes, base, |number, payload, _| {
            if number >= self.from {
                records.push((number, payload.to_vec()));
            }
        });
        self.current = records.into_iter();
        Ok(())
    }
}

impl Iterator for SegmentReader {
    type Item = Result<(u64, Vec<u8>), SinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.current.next() {
                return Some(Ok(record));
            }
            let (base, path, len) = self.segments.pop_front()?;
            if self.segments.front().is_some_and(|(next, ..)| *next <= self.from) {
                continue;
            }
            if let Err(error) = self.load(base, &path, len) {
                return Some(Err(SinkError::storage("cannot read the segment", &path, error)));
            }
        }
    }
}

/// What is in a segment.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) numbers: Vec<u64>,
    /// The number behind the last record's.
    pub(super) next: u64,
    /// Behind the last whole record.
    pub(super) end: usize,
    /// Where the first damage begins that has whole records behind it.
    pub(super) damaged: Option<usize>,
}

pub(super) fn scan(bytes: &[u8], base: u64) -> Scan {
    let mut scan = Scan::default();
    let mut expected = 0;
    each(bytes, base, |number, payload, at| {
        if at != expected && scan.damaged.is_none() {
            scan.damaged = Some(expected);
        }
        scan.numbers.push(number);
        scan.next = number + 1;
        expected = at + crate::format::FRAME_HEADER_LEN + 8 + payload.len();
        scan.end = expected;
    });
    scan
}

/// Calls `found` with the number, the payload and the offset of each whole record. Behind damage it goes on with the next
/// bytes that are a record with a higher number.
fn each<'a>(bytes: &'a [u8], base: u64, mut found: impl FnMut(u64, &'a [u8], usize)) {
    let mut least = base;
    let mut at = 0;
    while at < bytes.len() {
        match record(&bytes[at..]).filter(|(number, ..)| *number >= least) {
            Some((number, payload, len)) => {
                found(number, payload, at);
                least = number + 1;
                at += len;
            }
            None => at += 1,
        }
    }
}

fn record(bytes: &[u8]) -> Option<(u64, &[u8], usize)> {
    let mut frames = Frames::new(bytes);
    let body = frames.next()?.ok()?;
    let (number, payload) = body.split_first_chunk()?;
    let number = u64::from_le_bytes(*number);
    // No log has so many records; others count on from it.
    (number < u64::MAX).then(|| (number, payload, frames.offset()))
}

impl fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentReader")
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}
