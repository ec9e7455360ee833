//! Streams that are over but may be asked for again (rule 55).

use std::collections::VecDeque;
use std::sync::{LazyLock, Weak};

use parking_lot::Mutex;

use crate::stream::StreamShared;

/// Most streams that are kept after their end.
const MAX_STREAMS: usize = 10_000;

/// Most bytes that they keep.
const MAX_BYTES: u64 = 16 << 20;

/// Fewer that have gone are left alone. Each keeps its block on the heap, about 1 KiB, until it is removed here.
const MIN_PURGE: usize = 64;

/// Those of this process.
pub(crate) static FINISHED: LazyLock<Finished> = LazyLock::new(Finished::default);

/// Streams that have ended and wait for the caller's confirmation. The oldest is forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    streams: VecDeque<(Weak<StreamShared>, u64)>,
    bytes: u64,
    /// Streams that were forgotten since the last purge.
    gone: usize,
}

impl Finished {
    /// Adds a stream that keeps `bytes`, and forgets the oldest ones that there is no room for.
    pub(crate) fn add(&self, stream: Weak<StreamShared>, bytes: u64) {
        let mut forgotten = Vec::new();
        let mut queue = self.queue.lock();
        queue.bytes += bytes;
        queue.streams.push_back((stream, bytes));
        // Not each time: looking at all of them costs as much as ten being forgotten.
        if queue.is_too_large() && queue.gone > queue.streams.len() / 10 {
            queue.purge();
        }
        while queue.is_too_large()
            && let Some((stream, bytes)) = queue.streams.pop_front()
        {
            queue.bytes -= bytes;
            forgotten.push(stream);
        }
        drop(queue);
        for stream in forgotten.iter().filter_map(Weak::upgrade) {
            stream.forget();
        }
    }

    /// A stream that was added is forgotten.
    pub(crate) fn gone(&self) {
        let mut queue = self.queue.lock();
        queue.gone += 1;
        if queue.gone > MIN_PURGE.max(queue.streams.len() / 2) {
            queue.purge();
        }
    }
}

impl Queue {
    /// Removes those that were confirmed and have gone by themselves.
    fn purge(&mut self) {
        self.gone = 0;
        self.streams.retain(|(stream, _)| stream.strong_count() > 0);
        self.bytes = self.streams.iter().map(|(_, bytes)| bytes).sum();
    }

    fn is_too_large(&self) -> bool {
        self.bytes > MAX_BYTES || self.streams.len() > MAX_STREAMS
    }
}
