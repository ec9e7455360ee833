//! What waits for the sink, bounded in bytes; and what has become of all that came.

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::entry::Entry;
use crate::stats::RecordingStats;

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
    /// When the first of those came that were taken and have no end yet.
    taken_since: Option<SystemTime>,
    closed: bool,
    /// Under this lock, so that they add up.
    counts: RecordingStats,
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

/// What has become of one that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Recorded,
    Refused,
}

impl Buffer {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            queue: Mutex::default(),
            filled: Notify::new(),
            max_bytes,
        }
    }

    /// False when there is no room for it: it is dropped. One always has room in an empty buffer.
    pub(crate) fn push(&self, entry: Entry) -> bool {
        let size = entry.size();
        let mut queue = self.queue.lock();
        queue.counts.received += 1;
        let is_full = queue.counts.waiting > 0 && queue.counts.waiting_bytes.saturating_add(size) > self.max_bytes;
        if queue.closed || is_full {
            queue.counts.dropped += 1;
            return false;
        }
        queue.counts.waiting_bytes += size;
        queue.counts.waiting += 1;
        queue.waiting.push_back(entry);
        let was_empty = queue.waiting.len() == 1;
        drop(queue);
        if was_empty {
            self.filled.notify_one();
        }
        true
    }

    /// Moves the oldest ones into `into`, which is empty, at most `most`. Each is [done](Self::done) later.
    pub(crate) fn take(&self, into: &mut VecDeque<Entry>, most: usize) -> Taken {
        let mut queue = self.queue.lock();
        let count = queue.waiting.len().min(most);
        if count == 0 {
            return if queue.closed { Taken::End } else { Taken::Empty };
        }
        into.extend(queue.waiting.drain(..count));
        queue.taken_since = into.front().and_then(Entry::arrived);
        Taken::Some
    }

    /// This is what became of one that was taken; `next` is the one after it.
    pub(crate) fn done(&self, entry: &Entry, fate: Fate, next: Option<&Entry>) {
        let mut queue = self.queue.lock();
        queue.taken_since = next.and_then(Entry::arrived);
        let counts = &mut queue.counts;
        // After `abandon` there are none.
        if counts.waiting == 0 {
            return;
        }
        counts.waiting -= 1;
        counts.waiting_bytes -= entry.size();
        match fate {
            Fate::Recorded => {
                counts.recorded += 1;
                counts.bytes += entry.payload().len() as u64;
            }
            Fate::Refused => counts.refused += 1,
        }
    }

    /// Nothing more will be pushed.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.filled.notify_one();
    }

    /// What waits is dropped, and what comes from now on.
    pub(crate) fn abandon(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.taken_since = None;
        queue.waiting.clear();
        let counts = &mut queue.counts;
        counts.dropped += std::mem::take(&mut counts.waiting);
        counts.waiting_bytes = 0;
    }

    /// Completes when there may be something to take.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// What has become of all, as far as it is known here.
    pub(crate) fn stats(&self, now: SystemTime) -> RecordingStats {
        let queue = self.queue.lock();
        let oldest = queue
            .taken_since
            .or_else(|| queue.waiting.front().and_then(Entry::arrived));
        let lag = oldest.and_then(|oldest| now.duration_since(oldest).ok());
        RecordingStats {
            lag: lag.unwrap_or_default(),
            ..queue.counts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn counts(buffer: &Buffer) -> [u64; 5] {
        let stats = buffer.stats(START);
        let parts = stats.recorded + stats.dropped + stats.refused + stats.waiting;
        assert_eq!(stats.received, parts, "{stats:?}");
        [
            stats.received,
            stats.recorded,
            stats.dropped,
            stats.refused,
            stats.waiting,
        ]
    }

    #[test]
    fn room_comes_back_when_the_sink_has_taken_one() {
        let entry = || Entry::new("12345678");
        let buffer = Buffer::new(2 * entry().size());
        assert!(buffer.push(entry()) && buffer.push(entry()));
        assert!(!buffer.push(entry()), "no room");
        let mut taken = VecDeque::new();
        assert_eq!(buffer.take(&mut taken, 1), Taken::Some);
        assert!(!buffer.push(entry()), "it is still in memory");
        buffer.done(&taken[0], Fate::Recorded, None);
        assert!(buffer.push(entry()));
        assert_eq!(counts(&buffer), [5, 1, 2, 0, 2]);
        buffer.close();
        taken.clear();
        assert_eq!(buffer.take(&mut taken, 9), Taken::Some);
        assert_eq!((taken.len(), buffer.take(&mut taken, 9)), (2, Taken::End));
        buffer.done(&taken[0], Fate::Refused, taken.get(1));
        assert_eq!(counts(&buffer), [5, 1, 2, 1, 1]);
        buffer.abandon();
        buffer.done(&taken[1], Fate::Recorded, None);
        assert_eq!(counts(&buffer), [5, 1, 3, 1, 0]);
    }

    #[test]
    fn the_lag_is_that_of_the_oldest() {
        let second = std::time::Duration::from_secs(1);
        let buffer = Buffer::new(usize::MAX);
        let lag = |at: u32| buffer.stats(START + at * second).lag.as_secs();
        assert_eq!(lag(9), 0);
        buffer.push(Entry::new("").time(START + second));
        buffer.push(Entry::new("").time(START + 2 * second));
        assert_eq!(lag(9), 8);
        let mut taken = VecDeque::new();
        buffer.take(&mut taken, 9);
        assert_eq!(lag(10), 9, "they are still on their way");
        buffer.done(&taken[0], Fate::Recorded, Some(&taken[1]));
        assert_eq!(lag(10), 8);
        buffer.done(&taken[1], Fate::Recorded, None);
        assert_eq!(lag(10), 0);
    }

    #[test]
    fn one_that_is_larger_than_all_room_is_taken_alone() {
        let buffer = Buffer::new(1);
        assert!(buffer.push(Entry::new("1")));
        assert!(!buffer.push(Entry::new("2")));
    }
}
