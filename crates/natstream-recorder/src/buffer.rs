//! What waits for the sink, bounded in bytes.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::entry::Entry;

/// Between a subscription, which cannot wait, and a sink, which may be slow.
#[derive(Debug)]
pub(crate) struct Buffer {
    queue: Mutex<Queue>,
    filled: Notify,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Entry>,
    /// Of those that wait, and those that were taken and not yet released.
    bytes: usize,
    count: usize,
    closed: bool,
}

/// What was taken, or why there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Some,
    /// Nothing at the moment.
    Empty,
    /// Nothing any more.
    End,
}

impl Buffer {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            queue: Mutex::default(),
            filled: Notify::new(),
            max_bytes,
        }
    }

    /// False when there is no room for it. One always has room in an empty buffer.
    pub(crate) fn push(&self, entry: Entry) -> bool {
        let size = entry.size();
        let mut queue = self.queue.lock();
        if queue.closed || queue.count > 0 && queue.bytes.saturating_add(size) > self.max_bytes {
            return false;
        }
        queue.bytes += size;
        queue.count += 1;
        queue.waiting.push_back(entry);
        let was_empty = queue.waiting.len() == 1;
        drop(queue);
        if was_empty {
            self.filled.notify_one();
        }
        true
    }

    /// Moves the oldest ones to the end of `into`, at most `most`. Each is [released](Self::release) later.
    pub(crate) fn take(&self, into: &mut VecDeque<Entry>, most: usize) -> Taken {
        let mut queue = self.queue.lock();
        let count = queue.waiting.len().min(most);
        if count == 0 {
            return if queue.closed { Taken::End } else { Taken::Empty };
        }
        into.extend(queue.waiting.drain(..count));
        Taken::Some
    }

    /// One that was taken needs its room no more.
    pub(crate) fn release(&self, entry: &Entry) {
        let mut queue = self.queue.lock();
        queue.bytes -= entry.size();
        queue.count -= 1;
    }

    /// Nothing more will be pushed.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.filled.notify_one();
    }

    /// Nothing that was pushed will be released, nothing more has room; tells how many those are.
    pub(crate) fn abandon(&self) -> u64 {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.waiting.clear();
        queue.bytes = 0;
        std::mem::take(&mut queue.count) as u64
    }

    /// Completes when there may be something to take.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// How many were pushed and not released, and their bytes.
    pub(crate) fn level(&self) -> (usize, usize) {
        let queue = self.queue.lock();
        (queue.count, queue.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_back_when_entries_are_released() {
        let entry = || Entry::new("12345678");
        let buffer = Buffer::new(2 * entry().size());
        assert!(buffer.push(entry()) && buffer.push(entry()));
        assert!(!buffer.push(entry()), "no room");
        let mut taken = VecDeque::new();
        assert_eq!(buffer.take(&mut taken, 1), Taken::Some);
        assert!(!buffer.push(entry()), "it is still in memory");
        buffer.release(&taken[0]);
        assert!(buffer.push(entry()));
        assert_eq!(buffer.level().0, 2);
        buffer.close();
        assert_eq!(buffer.take(&mut taken, 9), Taken::Some);
        assert_eq!((taken.len(), buffer.take(&mut taken, 9)), (3, Taken::End));
    }

    #[test]
    fn one_that_is_larger_than_all_room_is_taken_alone() {
        let buffer = Buffer::new(1);
        assert!(buffer.push(Entry::new("1")));
        assert!(!buffer.push(Entry::new("2")));
    }
}
