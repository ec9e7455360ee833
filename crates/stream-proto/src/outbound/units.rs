//! The units of one stream: the one under construction, and those kept for sending again.

use alloc::collections::VecDeque;

use bytes::{Buf as _, BufMut, Bytes, BytesMut};

use crate::frame::{self, UNIT_COST};
use crate::status::Status;
use crate::varint;

/// Target size of a message while small items are gathered: above 4 KiB, where async-nats stops copying payloads, and
/// small enough for low latency and fine-grained credit (`docs/performance.md`).
const TARGET: usize = 8 * 1024;

/// An item of this size or more leaves in a message of its own.
const ALONE: usize = 4 * 1024;

/// Places for units that a stream keeps when all of them are acknowledged.
const KEPT_PLACES: usize = 512;

/// First allocation for a unit when the one before was not filled: interactive streams send a few small items each time.
const SMALL: usize = 256;

/// Room before the header of a unit: a short status, as that of most ends, then stands before data that is in place already.
const ROOM: usize = 16;

/// A buffer that is too small grows by this, since the larger ones cost the most.
const GROWTH: usize = 3;

/// A sealed unit. Its bytes never change: sending it again is a clone.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) position: u64,
    pub(super) end: u64,
    pub(super) payload: Bytes,
    pub(super) fin: bool,
    /// Whole items of the stream up to its end.
    items: u64,
}

impl Sealed {
    pub(super) fn has_data(&self) -> bool {
        self.end > self.position + UNIT_COST
    }
}

#[derive(Debug)]
pub(super) struct Units {
    sid: u32,
    max: usize,
    /// Small items are gathered up to this size.
    target: usize,
    /// The message under construction behind some room, header included; empty while nothing was put into it.
    open: BytesMut,
    open_position: u64,
    /// Whole items put in.
    items: u64,
    last_was_full: bool,
    sealed: VecDeque<Sealed>,
    /// Index into `sealed` of the unit to send next.
    cursor: usize,
    /// End of the highest unit ever sent.
    sent: u64,
    /// Whole items below the oldest unit kept.
    acked_items: u64,
}

impl Units {
    pub(super) fn new(sid: u32, max: usize) -> Self {
        Self {
            sid,
            max,
            target: max.min(TARGET),
            open: BytesMut::new(),
            open_position: 0,
            items: 0,
            last_was_full: false,
            sealed: VecDeque::new(),
            cursor: 0,
            sent: 0,
            acked_items: 0,
        }
    }

    /// Puts an item in, sealing units that are full.
    ///
    /// The first unit that it needs is begun in any case. A further one only below `limit`: what is left of a long item
    /// then is returned.
    #[inline]
    pub(super) fn put<'a>(&mut self, item: &'a [u8], limit: u64) -> &'a [u8] {
        let needed = varint::len(item.len() as u64) + item.len();
        if item.len() >= ALONE || self.open.is_empty() || self.open_len() + needed > self.target {
            self.seal();
            // Units can be so small (a tiny max_payload) that even a short item is split.
            if item.len() >= ALONE || frame::unit_header_len(self.open_position) + needed > self.max {
                self.begin(needed);
                varint::put(item.len() as u64, &mut self.open);
                return self.put_rest(item, limit);
            }
            self.begin(if self.last_was_full {
                self.target
            } else {
                needed.max(SMALL)
            });
        }
        let capacity = self.open.capacity();
        if self.open.len() + needed > capacity {
            let grown = (capacity * GROWTH).min(ROOM + self.target) - self.open.len();
            self.open.reserve(grown.max(needed));
        }
        varint::put(item.len() as u64, &mut self.open);
        self.open.put_slice(item);
        self.items += 1;
        if self.open_len() >= self.target {
            self.seal();
        }
        &[]
    }

    /// Continues a long item: fills units to the largest size, each sealed at once, and begins each below `limit`.
    pub(super) fn put_rest<'a>(&mut self, mut rest: &'a [u8], limit: u64) -> &'a [u8] {
        while !rest.is_empty() {
            if self.open.is_empty() {
                if self.open_position >= limit {
                    return rest;
                }
                self.begin(rest.len());
            }
            let (part, after) = rest.split_at(rest.len().min(self.max - self.open_len()));
            self.open.put_slice(part);
            self.items += u64::from(after.is_empty());
            self.seal_open();
            rest = after;
        }
        rest
    }

    /// Closes the unit under construction, if it has data.
    pub(super) fn seal(&mut self) {
        if !self.open.is_empty() {
            self.last_was_full = self.open_len() > self.target / 2;
            self.seal_open();
        }
    }

    /// Closes the first unit even without data: it must leave in time (rule 21). Without effect later.
    pub(super) fn seal_first(&mut self) {
        if self.open_position == 0 {
            if self.open.is_empty() {
                self.begin(0);
            }
            self.seal_open();
        }
    }

    /// Writes the end into the unit under construction, or into one of its own when there is no room for it.
    pub(super) fn seal_fin(&mut self, status: &Status) {
        let status = status.block(self.items, self.max - frame::MAX_UNIT_HEADER);
        let status_len = status.prefixed_len();
        if self.open_len() + status_len > self.max {
            self.seal();
        }
        let mut message = core::mem::take(&mut self.open);
        let data = ROOM + frame::unit_header_len(self.open_position);
        let data_len = message.len().saturating_sub(data);
        // The status stands before the data.
        if message.is_empty() || status_len > ROOM {
            let mut anew = BytesMut::with_capacity(data + status_len + data_len);
            anew.put_bytes(0, data + status_len);
            anew.put_slice(message.get(data..).unwrap_or_default());
            message = anew;
            message.advance(ROOM);
        } else {
            message.advance(ROOM - status_len);
        }
        let mut front: &mut [u8] = &mut message;
        frame::put_unit_header(self.sid, true, self.open_position, &mut front);
        status.put_prefixed(&mut front);
        self.push_sealed(data_len, fit(message), true);
    }

    /// Forgets units below `next`. False when `next` is not the edge of a unit that was sent and is still kept.
    pub(super) fn ack(&mut self, next: u64) -> bool {
        let is_edge = next == self.sent
            || next < self.sent && self.sealed.binary_search_by_key(&next, |unit| unit.position).is_ok();
        if !is_edge {
            return false;
        }
        while let Some(unit) = self.sealed.front().filter(|unit| unit.end <= next) {
            self.acked_items = unit.items;
            self.sealed.pop_front();
            self.cursor = self.cursor.saturating_sub(1);
        }
        // A stream that was fast once keeps no room for as many units as a window of small ones has.
        if self.sealed.is_empty() && self.sealed.capacity() > KEPT_PLACES {
            self.sealed.shrink_to(KEPT_PLACES);
        }
        true
    }

    /// Sends again from `next`, which [`ack`](Self::ack) has accepted as the oldest.
    pub(super) fn rewind(&mut self) {
        self.cursor = 0;
    }

    /// Sends the last unit again.
    pub(super) fn repeat_last(&mut self) {
        self.cursor = self.cursor.min(self.sealed.len().saturating_sub(1));
    }

    /// The unit that [`next`](Self::next) shows was handed out.
    pub(super) fn advance(&mut self) {
        if let Some(unit) = self.sealed.get(self.cursor) {
            self.sent = self.sent.max(unit.end);
            self.cursor += 1;
        }
    }

    /// Drops everything that was never sent.
    pub(super) fn discard_unsent(&mut self) {
        while self.sealed.back().is_some_and(|unit| unit.end > self.sent) {
            self.sealed.pop_back();
        }
        self.cursor = self.cursor.min(self.sealed.len());
        self.open = BytesMut::new();
        self.open_position = self.sent;
        self.items = self.sealed.back().map_or(self.acked_items, |unit| unit.items);
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.sealed = VecDeque::new();
        self.cursor = 0;
        self.open = BytesMut::new();
    }

    /// The unit to send next.
    pub(super) fn next(&self) -> Option<&Sealed> {
        self.sealed.get(self.cursor)
    }

    /// Position of the unit under construction.
    pub(super) fn open_position(&self) -> u64 {
        self.open_position
    }

    /// Is there something in the unit under construction?
    pub(super) fn has_open_data(&self) -> bool {
        !self.open.is_empty()
    }

    /// Position after the last unit handed out.
    pub(super) fn cursor_position(&self) -> u64 {
        self.next().map_or(self.open_position, |unit| unit.position)
    }

    /// End of the highest unit ever handed out.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Position of the oldest unit kept.
    pub(super) fn acked(&self) -> u64 {
        self.sealed.front().map_or(self.open_position, |unit| unit.position)
    }

    /// Bytes kept, as the number line counts them.
    pub(super) fn kept(&self) -> u64 {
        self.open_position - self.acked() + self.open_len() as u64
    }

    fn open_len(&self) -> usize {
        self.open.len().saturating_sub(ROOM)
    }

    fn begin(&mut self, data: usize) {
        let header = frame::unit_header_len(self.open_position);
        self.open = BytesMut::with_capacity(ROOM + (header + data).min(self.max));
        self.open.put_bytes(0, ROOM);
        frame::put_unit_header(self.sid, false, self.open_position, &mut self.open);
    }

    fn seal_open(&mut self) {
        let mut message = core::mem::take(&mut self.open);
        message.advance(ROOM);
        let data = message.len() - frame::unit_header_len(self.open_position);
        self.push_sealed(data, fit(message), false);
    }

    fn push_sealed(&mut self, data: usize, payload: Bytes, fin: bool) {
        let end = self.open_position + UNIT_COST + data as u64;
        self.sealed.push_back(Sealed {
            position: self.open_position,
            end,
            payload,
            fin,
            items: self.items,
        });
        self.open_position = end;
    }
}

/// A buffer that was meant for more would be kept until it is acknowledged, and the number line counts only what is in it:
/// without this, a retention of 1 MiB could hold 30 MiB.
fn fit(message: BytesMut) -> Bytes {
    if message.capacity() > 2 * message.len() + SMALL - ROOM {
        Bytes::copy_from_slice(&message)
    } else {
        message.freeze()
    }
}
