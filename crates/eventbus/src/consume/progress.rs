//! Which messages nats-server is to be told of that they are still being handled.

use std::collections::BTreeSet;

/// Messages that are held, by when the next signal for each is due.
///
/// There is no timer for a message: one of the consumer goes off when the first is due. Memory: an entry for each held message.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Well below the ack wait: a signal may be late, and is not confirmed.
    interval: u64,
    due: BTreeSet<(u64, u64)>,
}

/// When the signal for a message is due: to be given back when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due(u64);

impl Progress {
    /// With this ack wait, in nanoseconds.
    pub(crate) fn new(ack_wait: u64) -> Self {
        Self {
            // Two signals may be lost or late.
            interval: (ack_wait / 3).max(1),
            due: BTreeSet::new(),
        }
    }

    /// Message `number` has come.
    pub(crate) fn begin(&mut self, now: u64, number: u64) -> Due {
        let at = now.saturating_add(self.interval);
        self.due.insert((at, number));
        Due(at)
    }

    /// Message `number` is done.
    pub(crate) fn end(&mut self, number: u64, due: Due) {
        self.due.remove(&(due.0, number));
    }

    /// A message of which a signal is due, and when the next one is.
    pub(crate) fn poll(&mut self, now: u64) -> Option<(u64, Due)> {
        self.poll_timeout().filter(|at| *at <= now)?;
        let (_, number) = self.due.pop_first()?;
        Some((number, self.begin(now, number)))
    }

    /// When a signal is due.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_told_three_times_in_an_ack_wait() {
        let mut progress = Progress::new(30);
        progress.begin(0, 7);
        let mut told = Vec::new();
        for now in 0..100 {
            while let Some((number, _)) = progress.poll(now) {
                told.push((now, number));
            }
        }
        let expected: Vec<(u64, u64)> = (1..10).map(|turn| (turn * 10, 7)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_done_is_not_told() {
        let mut progress = Progress::new(30);
        let first = progress.begin(0, 1);
        progress.begin(5, 2);
        assert_eq!(progress.poll_timeout(), Some(10));
        progress.end(1, first);
        assert_eq!(progress.poll_timeout(), Some(15));
        let (number, due) = progress.poll(15).expect("one is due");
        assert_eq!((number, progress.poll(15)), (2, None));
        progress.end(2, due);
        assert_eq!(progress.poll_timeout(), None);
    }

    #[test]
    fn a_signal_that_is_late_is_told_once() {
        let mut progress = Progress::new(30);
        progress.begin(0, 1);
        assert!(progress.poll(1000).is_some());
        assert!(progress.poll(1000).is_none());
    }
}
