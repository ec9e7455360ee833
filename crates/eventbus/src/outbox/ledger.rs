//! Which records of the spool are done, as a machine without I/O.
//!
//! ```text
//!  (numbers)  below the floor │ floor … next: handed over, done or not │ not handed over
//! ```
//!
//! The spool forgets what is below the floor: everything there is done.

use std::collections::{BTreeMap, VecDeque};

/// `E` is an event.
///
/// Memory: a byte for each record that was handed over and is not below the floor, and the events that wait for another
/// attempt.
#[derive(Debug)]
pub(super) struct Ledger<E> {
    /// Of the record at the floor, and those behind it: is it done?
    done: VecDeque<bool>,
    floor: u64,
    /// Handed over, and nobody has said what became of it.
    under_way: usize,
    /// What is to be tried again, by when.
    resting: BTreeMap<(u64, u64), E>,
    /// Records that were damaged.
    lost: u64,
}

impl<E> Ledger<E> {
    /// Everything below `floor` is done.
    pub(super) fn new(floor: u64) -> Self {
        Self {
            done: VecDeque::new(),
            floor,
            under_way: 0,
            resting: BTreeMap::new(),
            lost: 0,
        }
    }

    /// Record `number` is handed over, for the first time. Those between it and the one before are damaged, and count as done.
    pub(super) fn hand_over(&mut self, number: u64) {
        self.pass(number);
        self.done.push_back(false);
        self.under_way += 1;
        self.rise();
    }

    /// All below `number` that were not handed over are damaged: they count as done.
    pub(super) fn pass(&mut self, number: u64) {
        let next = self.floor + self.done.len() as u64;
        let lost = number.saturating_sub(next);
        self.lost += lost;
        if self.done.is_empty() {
            // Without a place for each: the numbers of a lost watermark may be all that there ever were.
            self.floor += lost;
            return;
        }
        self.done
            .extend(std::iter::repeat_n(true, usize::try_from(lost).unwrap_or(usize::MAX)));
    }

    /// Record `number` is done: acked, or set aside. Has the floor risen?
    pub(super) fn finish(&mut self, number: u64) -> bool {
        self.under_way -= 1;
        let place = number
            .checked_sub(self.floor)
            .and_then(|place| usize::try_from(place).ok());
        if let Some(done) = place.and_then(|place| self.done.get_mut(place)) {
            *done = true;
        }
        self.rise()
    }

    /// Record `number` is to be handed over again at `at`.
    pub(super) fn rest(&mut self, number: u64, at: u64, event: E) {
        self.under_way -= 1;
        self.resting.insert((at, number), event);
    }

    /// A record that is to be handed over again now.
    pub(super) fn wake(&mut self, now: u64) -> Option<(u64, E)> {
        let first = self.resting.first_entry().filter(|first| first.key().0 <= now)?;
        let ((_, number), event) = first.remove_entry();
        self.under_way += 1;
        Some((number, event))
    }

    /// When the first one that rests is to be handed over.
    pub(super) fn wake_at(&self) -> Option<u64> {
        self.resting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Everything below this number is done.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Records that are under way or rest.
    pub(super) fn open(&self) -> usize {
        self.under_way + self.resting.len()
    }

    /// Records that were handed over, and are not below the floor, but done.
    pub(super) fn done_above(&self) -> u64 {
        self.done.len() as u64 - self.open() as u64
    }

    /// Records that were damaged, so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    fn rise(&mut self) -> bool {
        let before = self.floor;
        while self.done.front() == Some(&true) {
            self.done.pop_front();
            self.floor += 1;
        }
        self.floor > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_floor_waits_for_the_oldest() {
        let mut ledger = Ledger::<()>::new(5);
        for number in [5, 6, 8] {
            ledger.hand_over(number);
        }
        assert!(!ledger.finish(6));
        assert_eq!((ledger.floor(), ledger.open(), ledger.done_above()), (5, 2, 2));
        assert!(ledger.finish(5));
        assert_eq!(ledger.floor(), 8, "7 was damaged");
        ledger.rest(8, 100, ());
        assert_eq!((ledger.wake(99), ledger.wake_at()), (None, Some(100)));
        assert_eq!(ledger.wake(100), Some((8, ())));
        assert!(ledger.finish(8));
        assert_eq!((ledger.floor(), ledger.open(), ledger.done_above()), (9, 0, 0));
    }

    #[test]
    fn what_is_lost_costs_nothing() {
        let mut ledger = Ledger::<()>::new(0);
        ledger.hand_over(1 << 60);
        assert_eq!(
            (ledger.floor(), ledger.lost(), ledger.done_above()),
            (1 << 60, 1 << 60, 0)
        );
        ledger.pass((1 << 60) + 3);
        assert_eq!((ledger.lost(), ledger.done_above()), ((1 << 60) + 2, 2));
        assert!(ledger.finish(1 << 60));
        assert_eq!((ledger.floor(), ledger.open()), ((1 << 60) + 3, 0));
    }

    proptest! {
        /// The floor never passes a record that is not done, and reaches the end.
        #[test]
        fn the_floor_is_what_it_says(
            gaps in prop::collection::vec(1..3_u64, 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 60),
            rests in prop::collection::vec(prop::bool::weighted(0.2), 60),
        ) {
            let numbers: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let mut ledger = Ledger::new(0);
            let mut open = numbers.clone();
            for number in &numbers {
                ledger.hand_over(*number);
            }
            for (place, (which, rests)) in order.iter().zip(rests).enumerate() {
                if open.is_empty() {
                    break;
                }
                let number = open.remove(which.index(open.len()));
                if rests {
                    ledger.rest(number, place as u64, number);
                    let (woken, event) = ledger.wake(place as u64).expect("it rested");
                    prop_assert_eq!(woken, event);
                    open.push(woken);
                } else {
                    ledger.finish(number);
                }
                prop_assert!(open.iter().all(|open| *open >= ledger.floor()));
                prop_assert_eq!(ledger.open(), open.len());
            }
            for number in open {
                ledger.finish(number);
            }
            prop_assert_eq!(ledger.floor(), numbers[numbers.len() - 1] + 1);
        }
    }
}
