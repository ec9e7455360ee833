//! Messages that may have ended a process with their handler: one at a time, in the order of the stream.
//!
//! All that ended with a process comes again within its ack wait, in any order. The first of them in the order of the stream
//! is the one whose handler ran, since they run in that order: so one that comes waits that long for those before it.

use std::collections::BTreeMap;

/// Those that wait. `T` is a message.
///
/// Memory: an entry for each of them. There are no more than nats-server lets be unacked, as they take no place of others.
#[derive(Debug)]
pub(super) struct Suspects<T> {
    /// Nanoseconds within which all that was here with a message has come again.
    wait: u64,
    /// By their numbers in the stream, with when they may run.
    waiting: BTreeMap<u64, (u64, T)>,
    running: Option<u64>,
}

impl<T> Suspects<T> {
    pub(super) fn new(wait: u64) -> Self {
        Self {
            wait,
            waiting: BTreeMap::new(),
            running: None,
        }
    }

    /// One has come.
    pub(super) fn add(&mut self, now: u64, number: u64, value: T) {
        self.waiting.insert(number, (now.saturating_add(self.wait), value));
    }

    /// The next one to run, until it is [finished](Self::finish).
    pub(super) fn poll(&mut self, now: u64) -> Option<T> {
        self.poll_timeout().filter(|at| *at <= now)?;
        let (number, (_, value)) = self.waiting.pop_first()?;
        self.running = Some(number);
        Some(value)
    }

    /// When one may run.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let (_, (at, _)) = self.waiting.first_key_value()?;
        self.running.is_none().then_some(*at)
    }

    /// A message is not being handled any more.
    pub(super) fn finish(&mut self, number: u64) {
        self.running = self.running.filter(|running| *running != number);
    }

    /// All that wait: to be given back.
    pub(super) fn drain(&mut self) -> Vec<T> {
        std::mem::take(&mut self.waiting)
            .into_values()
            .map(|(_, value)| value)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_run_one_by_one_in_the_order_of_the_stream() {
        let mut suspects = Suspects::new(0);
        for number in [7, 3, 5] {
            suspects.add(0, number, number);
        }
        assert_eq!((suspects.poll(0), suspects.poll(0)), (Some(3), None));
        suspects.finish(5);
        assert_eq!(suspects.poll(0), None, "another one was finished");
        suspects.finish(3);
        assert_eq!((suspects.poll(0), suspects.poll_timeout()), (Some(5), None));
        suspects.finish(5);
        assert_eq!(suspects.drain(), [7]);
        assert_eq!(suspects.poll(0), None);
    }

    #[test]
    fn one_waits_for_those_that_come_again_after_it() {
        let mut suspects = Suspects::new(100);
        suspects.add(10, 7, 7);
        assert_eq!((suspects.poll(109), suspects.poll_timeout()), (None, Some(110)));
        suspects.add(90, 3, 3);
        assert_eq!((suspects.poll(110), suspects.poll_timeout()), (None, Some(190)));
        assert_eq!(suspects.poll(190), Some(3));
        suspects.finish(3);
        assert_eq!(suspects.poll(190), Some(7));
    }
}
