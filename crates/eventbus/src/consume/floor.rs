//! Up to where everything is done.

use std::collections::BTreeMap;

/// Numbers that are done in any order, and the highest one up to which all are.
///
/// Only numbers that [began](Self::begin) count: a consumer with a filter skips some. One that is given back to nats-server,
/// to be delivered again, must not be finished here, and the floor waits for it: whoever gives messages back cannot ask the
/// floor what was done. Memory: an entry for each that began and is not below the floor.
#[derive(Debug, Default)]
pub(crate) struct Floor {
    /// Those above the floor: is it done?
    above: BTreeMap<u64, bool>,
    floor: u64,
}

impl Floor {
    /// `number` is to be done. False when that is so already, or it is below the floor: it was delivered once more.
    pub(crate) fn begin(&mut self, number: u64) -> bool {
        if number <= self.floor || self.above.contains_key(&number) {
            return false;
        }
        self.above.insert(number, false);
        true
    }

    /// `number` is done. The new floor, if it has risen.
    pub(crate) fn finish(&mut self, number: u64) -> Option<u64> {
        *self.above.get_mut(&number)? = true;
        let before = self.floor;
        while let Some(first) = self.above.first_entry().filter(|first| *first.get()) {
            self.floor = first.remove_entry().0;
        }
        (self.floor > before).then_some(self.floor)
    }

    /// Everything up to `number` is done, here or elsewhere.
    pub(crate) fn raise(&mut self, number: u64) {
        if number > self.floor {
            self.above = self.above.split_off(&(number + 1));
            self.floor = number;
            while let Some(first) = self.above.first_entry().filter(|first| *first.get()) {
                self.floor = first.remove_entry().0;
            }
        }
    }

    /// Everything up to this number is done; 0 when nothing is.
    pub(crate) fn get(&self) -> u64 {
        self.floor
    }

    /// How many have begun and are not below the floor.
    pub(crate) fn len(&self) -> usize {
        self.above.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_floor_waits_for_the_slowest() {
        let mut floor = Floor::default();
        for number in [3, 4, 9] {
            assert!(floor.begin(number));
        }
        assert_eq!(floor.finish(9), None);
        assert_eq!(floor.finish(4), None);
        assert_eq!(floor.finish(3), Some(9));
        assert_eq!((floor.get(), floor.len()), (9, 0));
        assert!(!floor.begin(4), "what is below the floor is done");
        assert_eq!(floor.finish(4), None);
    }

    #[test]
    fn what_is_done_elsewhere_raises_the_floor() {
        let mut floor = Floor::default();
        for number in [3, 4, 9] {
            floor.begin(number);
        }
        floor.finish(9);
        floor.raise(3);
        assert_eq!((floor.get(), floor.len()), (3, 2));
        floor.raise(2);
        assert_eq!(floor.get(), 3);
        floor.raise(5);
        assert_eq!((floor.get(), floor.len()), (9, 0));
    }

    proptest! {
        /// The floor never passes one that is not done, and reaches the last one in the end.
        #[test]
        fn the_floor_is_what_it_says(order in Just((1..30_u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut floor = Floor::default();
            for number in 1..30 {
                floor.begin(number);
            }
            let mut done = Vec::new();
            for number in order {
                floor.finish(number);
                done.push(number);
                prop_assert!((1..=floor.get()).all(|below| done.contains(&below)));
                prop_assert!(!done.contains(&(floor.get() + 1)));
            }
            prop_assert_eq!(floor.get(), 29);
        }
    }
}
