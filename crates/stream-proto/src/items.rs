//! Items inside the data of units (rule 12): `length, bytes`, in a row.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::{Buf, Bytes};

use crate::budget::Budget;
use crate::error::{DecodeError, Malformed};
use crate::varint;

/// The whole items of one unit, cut out of the received buffer without copying.
///
/// Each item keeps the buffer of its unit (at most 64 KiB) alive; copy an item that is kept for long.
#[derive(Clone, Debug, Default)]
pub struct Items {
    assembled: Option<Bytes>,
    data: Bytes,
}

impl Items {
    /// One item that is a message of its own.
    pub(crate) fn one(item: Bytes) -> Self {
        Self {
            assembled: Some(item),
            data: Bytes::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.assembled.is_none() && self.data.is_empty()
    }
}

impl Iterator for Items {
    type Item = Bytes;

    #[inline]
    fn next(&mut self) -> Option<Bytes> {
        if let Some(item) = self.assembled.take() {
            return Some(item);
        }
        if self.data.is_empty() {
            // An empty rest would keep the whole message alive while the user waits for the next one.
            self.data = Bytes::new();
            return None;
        }
        // The scanner has read these lengths before: anything else would be a bug of ours, and ends the iteration.
        let (len, size) = varint::peek(&self.data).ok()?;
        let end = size.checked_add(usize::try_from(len).ok()?)?;
        if end > self.data.len() {
            return None;
        }
        let mut item = self.data.split_to(end);
        item.advance(size);
        Some(item)
    }
}

/// Checks units in the order of the stream and finds where whole items begin and end.
///
/// A unit that turns out to be malformed may have changed it: work on a copy, and keep that when the unit is accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanner {
    max_item: u64,
    /// Bytes that are missing of the item at the end of the last unit.
    missing: u64,
    items: u64,
}

/// The data of a unit, divided.
#[derive(Debug)]
pub(crate) struct Chunk {
    data: Bytes,
    /// The end of an item that began in an earlier unit.
    head: usize,
    /// Where the last whole item ends; an unfinished one follows.
    whole: usize,
}

impl Scanner {
    pub(crate) fn new(max_item: u64) -> Self {
        Self {
            // What cannot be addressed cannot be put together either.
            max_item: max_item.min(isize::MAX as u64),
            missing: 0,
            items: 0,
        }
    }

    /// The largest item that is taken.
    pub(crate) fn max_item(&self) -> u64 {
        self.max_item
    }

    /// Whole items so far.
    pub(crate) fn items(&self) -> u64 {
        self.items
    }

    /// Does an item wait for its rest?
    pub(crate) fn is_inside_item(&self) -> bool {
        self.missing > 0
    }

    /// Checks the data of the next unit; `offset` is where it stands in its message.
    pub(crate) fn scan(&mut self, data: Bytes, offset: usize) -> Result<Chunk, DecodeError> {
        let head = usize::try_from(self.missing).map_or(data.len(), |missing| missing.min(data.len()));
        let was_inside = self.missing > 0;
        self.missing -= head as u64;
        if was_inside && self.missing == 0 {
            self.items += 1;
        }
        let mut at = head;
        while at < data.len() {
            let error = |what| DecodeError {
                offset: offset + at,
                what,
            };
            let (len, size) = varint::peek(&data[at..]).map_err(|cause| error(cause.into()))?;
            if len > self.max_item {
                return Err(error(Malformed::ItemTooLarge));
            }
            let available = (data.len() - at - size) as u64;
            if available < len {
                self.missing = len - available;
                break;
            }
            self.items += 1;
            at += size + len as usize;
        }
        Ok(Chunk { data, head, whole: at })
    }
}

impl Chunk {
    /// Bytes of items that span units, with their lengths.
    fn pieces(&self) -> u64 {
        (self.head + self.data.len() - self.whole) as u64
    }
}

/// Puts together items that span units.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    budget: Option<Budget>,
    /// Boxed: few streams have one at a time.
    unfinished: Option<Box<Unfinished>>,
}

/// An item of which parts are missing.
#[derive(Debug, Default)]
struct Unfinished {
    buffer: Vec<u8>,
    len: usize,
    /// Taken from the budget: what is in the buffer, and what will come to it from chunks that wait.
    reserved: u64,
}

impl Assembly {
    pub(crate) fn new(budget: Option<Budget>) -> Self {
        Self {
            budget,
            unfinished: None,
        }
    }

    /// Makes room for what [`accept`](Self::accept) will copy of this chunk. False when the budget is used up.
    pub(crate) fn reserve(&mut self, chunk: &Chunk) -> bool {
        let Some(budget) = &self.budget else { return true };
        let pieces = chunk.pieces();
        if pieces == 0 {
            return true;
        }
        let taken = budget.take(pieces);
        if taken {
            self.unfinished.get_or_insert_default().reserved += pieces;
        }
        taken
    }

    /// Takes a chunk apart: the items that are whole with it, if any.
    pub(crate) fn accept(&mut self, chunk: Chunk) -> Option<Items> {
        let Chunk { mut data, head, whole } = chunk;
        let tail = data.split_off(whole);
        let mut items = Items::default();
        if head > 0 {
            let unfinished = self.unfinished.get_or_insert_default();
            unfinished.extend(&data.split_to(head));
            if unfinished.buffer.len() == unfinished.len {
                items.assembled = Some(Bytes::from(core::mem::take(&mut unfinished.buffer)));
                let len = core::mem::take(&mut unfinished.len) as u64;
                self.release(len + varint::len(len) as u64);
            }
        }
        items.data = data;
        // The scanner has checked the length.
        if let Ok((len, size)) = varint::peek(&tail) {
            let unfinished = self.unfinished.get_or_insert_default();
            unfinished.len = len as usize;
            unfinished.extend(&tail[size..]);
        } else if self.unfinished.as_ref().is_some_and(|unfinished| unfinished.is_done()) {
            self.unfinished = None;
        }
        (!items.is_empty()).then_some(items)
    }

    /// Gives back to the budget, if there is one, what was reserved.
    fn release(&mut self, bytes: u64) {
        if let (Some(budget), Some(unfinished)) = (&self.budget, &mut self.unfinished) {
            budget.give(bytes);
            unfinished.reserved -= bytes;
        }
    }
}

impl Unfinished {
    /// Is there nothing left to wait for?
    fn is_done(&self) -> bool {
        self.len == 0 && self.reserved == 0
    }

    /// Grows to twice what has arrived, and never beyond the item's length: an announced length alone costs nothing.
    fn extend(&mut self, bytes: &[u8]) {
        let needed = self.buffer.len() + bytes.len();
        if needed > self.buffer.capacity() {
            let capacity = (needed * 2).min(self.len.max(needed));
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
        self.buffer.extend_from_slice(bytes);
    }
}

impl Drop for Assembly {
    fn drop(&mut self) {
        self.release(self.unfinished.as_ref().map_or(0, |unfinished| unfinished.reserved));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn encode(items: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for item in items {
            varint::put(item.len() as u64, &mut out);
            out.extend_from_slice(item);
        }
        out
    }

    /// The items that come out when `bytes` is cut into units at `cuts`.
    fn through(bytes: &[u8], cuts: &[usize]) -> Result<(Vec<Bytes>, u64), DecodeError> {
        let mut scanner = Scanner::new(1000);
        let mut assembly = Assembly::default();
        let mut out = Vec::new();
        let mut start = 0;
        for &end in cuts.iter().chain([&bytes.len()]) {
            let chunk = scanner.scan(Bytes::copy_from_slice(&bytes[start..end]), 0)?;
            out.extend(assembly.accept(chunk).into_iter().flatten());
            start = end;
        }
        assert!(!scanner.is_inside_item());
        Ok((out, scanner.items()))
    }

    #[test]
    fn items_are_cut_out_whole_wherever_a_long_one_is_split() {
        let items: [&[u8]; 4] = [b"a", b"", &[7; 300], b"last"];
        let bytes = encode(&items);
        // The long item's length stands at 3 and takes two bytes; a length is never split.
        for cut in 5..305 {
            let (out, count) = through(&bytes, &[cut]).expect("well formed");
            assert_eq!(out, items, "cut at {cut}");
            assert_eq!(count, 4);
        }
        let (out, _) = through(&bytes, &[5, 100, 100, 200, 305]).expect("well formed");
        assert_eq!(out, items);
    }

    #[test]
    fn a_split_length_and_an_item_too_large_are_errors() {
        let bytes = encode(&[&[1; 100]]);
        assert_eq!(
            through(&bytes, &[1]).map_err(|error| error.what),
            Err(Malformed::Truncated)
        );
        let error = through(&encode(&[b"ok", &vec![0; 1001]]), &[]).expect_err("too large");
        assert_eq!((error.what, error.offset), (Malformed::ItemTooLarge, 3));
    }

    #[test]
    fn an_announced_length_allocates_nothing_by_itself() {
        let mut scanner = Scanner::new(u64::MAX);
        let mut assembly = Assembly::default();
        let mut bytes = Vec::new();
        varint::put(1 << 40, &mut bytes);
        bytes.push(1);
        let chunk = scanner.scan(Bytes::from(bytes), 0).expect("a beginning");
        assert!(assembly.accept(chunk).is_none());
        let unfinished = assembly.unfinished.as_ref().expect("an item that waits for its rest");
        assert!(unfinished.buffer.capacity() <= 64);
    }
}
