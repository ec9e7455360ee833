//! What is to be delivered next: from memory, or read from the files.

use std::collections::VecDeque;

use stream_sinks::{SegmentReader, SinkError};

use super::super::record::decode;
use super::Spool;
use crate::event::Event;

/// Bytes of events that wait in memory; what is beyond them is read from the files again.
const QUEUE_BYTES: usize = 32 << 20;

/// Bytes that are read from the files at once.
const LOAD_BYTES: usize = 4 << 20;

#[derive(Default)]
pub(super) struct Queue {
    events: VecDeque<(u64, Event)>,
    bytes: usize,
    /// From this number on events are in the files only.
    on_disk_from: Option<u64>,
}

/// Events by their numbers; one that this version cannot read is its bytes.
pub(in crate::outbox) type Records = VecDeque<(u64, Result<Event, Vec<u8>>)>;

/// What is to be delivered next.
pub(in crate::outbox) enum Next {
    Event(u64, Event),
    /// The files have it, from this number on.
    OnDisk(u64),
    Nothing,
}

/// Records that were read back.
pub(in crate::outbox) struct Loaded {
    pub(in crate::outbox) records: Records,
    /// There are no others below this number.
    pub(in crate::outbox) to: u64,
    /// Where to go on; `None` when there is no more for now.
    pub(in crate::outbox) reader: Option<Reading>,
}

/// The files as they were at some time.
pub(in crate::outbox) struct Reading {
    reader: SegmentReader,
    /// All below this number was written then.
    to: u64,
}

impl Queue {
    /// Events are in the files from this number on, or nowhere.
    pub(super) fn new(on_disk_from: Option<u64>) -> Self {
        Self {
            on_disk_from,
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, number: u64, event: Event) {
        let size = event.size();
        let has_room = self.events.is_empty() || self.bytes + size <= QUEUE_BYTES;
        if self.on_disk_from.is_none() && has_room {
            self.bytes += size;
            self.events.push_back((number, event));
        } else {
            self.on_disk_from.get_or_insert(number);
        }
    }
}

impl Spool {
    /// What is to be delivered next.
    pub(in crate::outbox) fn next(&self) -> Next {
        let mut queue = self.queue.lock();
        match (queue.events.pop_front(), queue.on_disk_from) {
            (Some((number, event)), _) => {
                queue.bytes -= event.size();
                Next::Event(number, event)
            }
            (None, Some(from)) => Next::OnDisk(from),
            (None, None) => Next::Nothing,
        }
    }

    /// Reads on in the files.
    ///
    /// # Errors
    /// When a file cannot be read; it may be tried again.
    pub(in crate::outbox) fn load(&self, from: u64, reading: Option<Reading>) -> Result<Loaded, SinkError> {
        let mut reading = reading.unwrap_or_else(|| {
            let log = self.log.lock();
            Reading {
                reader: log.segments.read(from),
                to: log.segments.committed(),
            }
        });
        let (mut records, mut bytes, mut to) = (VecDeque::new(), 0, from);
        while bytes < LOAD_BYTES {
            let Some(record) = reading.reader.next() else {
                // Also what is damaged at the end, or was removed by somebody.
                let to = to.max(reading.to);
                self.caught_up(to);
                return Ok(Loaded {
                    records,
                    to,
                    reader: None,
                });
            };
            let (number, record) = record?;
            bytes += record.len();
            to = number + 1;
            let event = decode(&record);
            records.push_back((number, event.ok_or(record)));
        }
        self.queue.lock().on_disk_from = Some(to);
        Ok(Loaded {
            records,
            to,
            reader: Some(reading),
        })
    }

    /// Everything before `next` was read. From here on events come through memory again, unless more was written meanwhile.
    fn caught_up(&self, next: u64) {
        let log = self.log.lock();
        let mut queue = self.queue.lock();
        queue.on_disk_from = (next < log.segments.committed()).then_some(next);
    }
}
