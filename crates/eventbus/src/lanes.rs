//! What may run now: those of one key one after the other, those of different keys at the same time. What runs is the handler of a
//! message, or the delivery of an event of an outbox.
//!
//! ```text
//!  add ─▶ Ready ─ next ─▶ Running ─ finish ─▶ gone: the next one of its key is ready
//!    │      ▲                └─ retry ─▶ Resting ─ wake ─▶ Ready
//!    └─▶ Behind: an older one of its key is not gone
//! ```
//!
//! One that failed and rests keeps its key: those behind it wait, and it runs again in its place. A message is therefore not given
//! back to nats-server, which would deliver it behind them, and an event stays in the outbox.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use foldhash::fast::RandomState as Numbers;

/// Messages or events that wait, run or rest. `T` is one of them.
///
/// Memory: an entry for each of them, and one for each key that has any. Two keys with one hash wait for each other, which
/// does no harm.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    items: HashMap<u64, Item<T>, Numbers>,
    /// Those that may run, as they are to.
    ready: VecDeque<u64>,
    /// What is behind the first of each key.
    behind: HashMap<u64, VecDeque<u64>>,
    /// Those that rest, by when they are woken.
    resting: BTreeSet<(u64, u64)>,
    next_ticket: u64,
    running: usize,
    hasher: RandomState,
}

#[derive(Debug)]
struct Item<T> {
    /// `None` while it runs.
    value: Option<T>,
    lane: Option<u64>,
}

/// Names what runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

impl<T> Lanes<T> {
    pub(crate) fn new() -> Self {
        Self {
            items: HashMap::default(),
            ready: VecDeque::new(),
            behind: HashMap::new(),
            resting: BTreeSet::new(),
            next_ticket: 0,
            running: 0,
            hasher: RandomState::new(),
        }
    }

    /// Another one, behind all of its key; one without a key waits for nobody.
    pub(crate) fn add(&mut self, key: Option<&[u8]>, value: T) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let lane = key.map(|key| self.hasher.hash_one(key));
        let value = Some(value);
        self.items.insert(ticket, Item { value, lane });
        match lane {
            Some(lane) => match self.behind.get_mut(&lane) {
                Some(behind) => behind.push_back(ticket),
                None => {
                    self.behind.insert(lane, VecDeque::new());
                    self.ready.push_back(ticket);
                }
            },
            None => self.ready.push_back(ticket),
        }
    }

    /// One that may run now. It runs until [`finish`](Self::finish) or [`retry`](Self::retry) says otherwise.
    pub(crate) fn next(&mut self) -> Option<(Ticket, T)> {
        let ticket = self.ready.pop_front()?;
        let value = self.items.get_mut(&ticket)?.value.take()?;
        self.running += 1;
        Some((Ticket(ticket), value))
    }

    /// It is gone: acked, given up, or refused for good. The next one of its key may run.
    pub(crate) fn finish(&mut self, ticket: Ticket) {
        self.running -= 1;
        self.remove(ticket.0);
    }

    /// It failed, and runs again at `at`.
    pub(crate) fn retry(&mut self, ticket: Ticket, value: T, at: u64) {
        self.running -= 1;
        if let Some(item) = self.items.get_mut(&ticket.0) {
            item.value = Some(value);
            self.resting.insert((at, ticket.0));
        }
    }

    /// When the first one that rests is to be woken.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        self.resting.first().map(|(at, _)| *at)
    }

    /// Those whose rest is over may run.
    pub(crate) fn wake(&mut self, now: u64) {
        while self.wake_at().is_some_and(|at| at <= now) {
            let woken = self.resting.pop_first();
            self.ready.extend(woken.map(|(_, ticket)| ticket));
        }
    }

    /// All that do not run, in the order in which they came: to be given back.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        let mut waiting: Vec<u64> = self
            .items
            .iter()
            .filter(|(_, item)| item.value.is_some())
            .map(|(ticket, _)| *ticket)
            .collect();
        waiting.sort_unstable();
        self.ready.clear();
        self.resting.clear();
        self.behind.values_mut().for_each(VecDeque::clear);
        let values = waiting
            .iter()
            .filter_map(|ticket| self.items.remove(ticket)?.value)
            .collect();
        // A key stays taken only while one of its own runs.
        let running: Vec<u64> = self.items.values().filter_map(|item| item.lane).collect();
        self.behind.retain(|lane, _| running.contains(lane));
        values
    }

    /// Those that run.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Those that rest.
    pub(crate) fn resting(&self) -> usize {
        self.resting.len()
    }

    /// Those that run, wait or rest.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    fn remove(&mut self, ticket: u64) {
        let Some(Item { lane: Some(lane), .. }) = self.items.remove(&ticket) else {
            return;
        };
        let Some(behind) = self.behind.get_mut(&lane) else {
            return;
        };
        match behind.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => drop(self.behind.remove(&lane)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(lanes: &mut Lanes<u32>) -> Vec<(Ticket, u32)> {
        std::iter::from_fn(|| lanes.next()).collect()
    }

    fn values(taken: &[(Ticket, u32)]) -> Vec<u32> {
        taken.iter().map(|(_, value)| *value).collect()
    }

    #[test]
    fn one_of_a_key_runs_at_a_time() {
        let mut lanes = Lanes::new();
        for (key, value) in [("a", 1), ("a", 2), ("b", 3), ("a", 4)] {
            lanes.add(Some(key.as_bytes()), value);
        }
        lanes.add(None, 5);
        lanes.add(None, 6);
        let mut first = take(&mut lanes);
        assert_eq!(values(&first), [1, 3, 5, 6]);
        lanes.finish(first.remove(1).0);
        assert!(take(&mut lanes).is_empty(), "nothing is behind `b`");
        lanes.finish(first.remove(0).0);
        assert_eq!(values(&take(&mut lanes)), [2]);
        assert_eq!((lanes.running(), lanes.len()), (3, 4));
    }

    #[test]
    fn one_that_failed_keeps_its_place() {
        let mut lanes = Lanes::new();
        lanes.add(Some(b"a"), 1);
        lanes.add(Some(b"a"), 2);
        lanes.add(Some(b"b"), 3);
        let mut taken = take(&mut lanes);
        assert_eq!(values(&taken), [1, 3]);
        let (ticket, value) = taken.remove(0);
        lanes.retry(ticket, value, 100);
        assert_eq!((lanes.next(), lanes.wake_at()), (None, Some(100)));
        lanes.wake(99);
        assert_eq!(lanes.next(), None);
        lanes.wake(100);
        let (ticket, value) = lanes.next().expect("it runs again");
        assert_eq!((value, lanes.wake_at()), (1, None));
        lanes.finish(ticket);
        assert_eq!(values(&take(&mut lanes)), [2]);
    }

    #[test]
    fn what_does_not_run_can_be_given_back() {
        let mut lanes = Lanes::new();
        for value in 1..4 {
            lanes.add(Some(b"a"), value);
        }
        lanes.add(Some(b"b"), 4);
        let (ticket, _) = lanes.next().expect("the first");
        assert_eq!(lanes.drain(), [2, 3, 4]);
        lanes.add(Some(b"a"), 5);
        lanes.add(Some(b"b"), 6);
        let taken = take(&mut lanes);
        assert_eq!(values(&taken), [6], "`a` still runs");
        lanes.finish(ticket);
        assert_eq!(values(&take(&mut lanes)), [5]);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Add(u8),
        Finish(usize),
        Retry(usize, u64),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..5_u8).prop_map(Step::Add),
            3 => any::<usize>().prop_map(Step::Finish),
            1 => (any::<usize>(), 0..50_u64).prop_map(|(which, pause)| Step::Retry(which, pause)),
            1 => (0..50_u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Those of a key are finished in the order in which they came, one at a time; none is held up for nothing, and
        /// nothing stays behind. Key 0 is no key.
        #[test]
        fn keys_are_kept_in_order(steps in prop::collection::vec(step(), 1..200)) {
            let mut lanes = Lanes::new();
            let mut running: Vec<(Ticket, (u8, u32))> = Vec::new();
            let mut finished: Vec<(u8, u32)> = Vec::new();
            let (mut now, mut count) = (0, 0_u32);
            for step in steps.into_iter().chain((0..500).flat_map(|_| [Step::Wait(50), Step::Finish(0)])) {
                match step {
                    Step::Add(key) => {
                        let bytes = [key];
                        lanes.add((key > 0).then_some(&bytes[..]), (key, count));
                        count += 1;
                    }
                    Step::Finish(which) if !running.is_empty() => {
                        let (ticket, value) = running.remove(which % running.len());
                        finished.push(value);
                        lanes.finish(ticket);
                    }
                    Step::Retry(which, pause) if !running.is_empty() => {
                        let (ticket, value) = running.remove(which % running.len());
                        lanes.retry(ticket, value, now + pause);
                    }
                    Step::Finish(_) | Step::Retry(..) => {}
                    Step::Wait(time) => now += time,
                }
                lanes.wake(now);
                running.extend(std::iter::from_fn(|| lanes.next()));
                for key in 1..5 {
                    let of_key = running.iter().filter(|(_, value)| value.0 == key).count();
                    prop_assert!(of_key <= 1, "{of_key} of one key run");
                }
                prop_assert_eq!(lanes.running(), running.len());
            }
            for key in 1..5 {
                let numbers: Vec<u32> = finished.iter().filter(|value| value.0 == key).map(|value| value.1).collect();
                prop_assert!(numbers.is_sorted(), "key {} is out of order: {:?}", key, numbers);
            }
            prop_assert_eq!(finished.len(), count as usize);
            prop_assert_eq!((lanes.len(), lanes.behind.len()), (0, 0));
        }
    }
}
