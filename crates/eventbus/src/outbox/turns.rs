//! Whose turn it is to be handed to the bus, as a machine without I/O: events of the window that are not done.
//!
//! In strict order one event of a subject has its turn at a time. One that was refused for now rests in its place: those of its
//! subject that were accepted later wait behind it, here and not in the bus, which would send them.

use crate::engine::Ordering;
use crate::lanes::{Lanes, Ticket};

/// `E` is an event.
///
/// Memory: the window, in events and bytes; the last event that is added may be larger than what is left of it.
#[derive(Debug)]
pub(super) struct Turns<E> {
    lanes: Lanes<(u64, usize, E)>,
    /// Bytes of all of them.
    bytes: usize,
    ordering: Ordering,
}

/// An event that the bus has.
#[derive(Debug)]
pub(crate) struct Turn {
    number: u64,
    bytes: usize,
    ticket: Ticket,
}

impl Turn {
    /// Its record.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl<E> Turns<E> {
    pub(super) fn new(ordering: Ordering) -> Self {
        Self {
            lanes: Lanes::new(),
            bytes: 0,
            ordering,
        }
    }

    /// May there be another one, in a window of so many events and bytes?
    pub(super) fn has_room(&self, window: usize, window_bytes: usize) -> bool {
        self.lanes.len() < window && self.bytes < window_bytes
    }

    /// An event of so many bytes, behind all that were added before.
    pub(super) fn add(&mut self, number: u64, subject: &str, bytes: usize, event: E) {
        let key = match self.ordering {
            Ordering::Fast => None,
            Ordering::Strict => Some(subject.as_bytes()),
        };
        self.bytes += bytes;
        self.lanes.add(key, (number, bytes, event));
    }

    /// An event that the bus may have now.
    pub(super) fn next(&mut self, now: u64) -> Option<(Turn, E)> {
        self.lanes.wake(now);
        let (ticket, (number, bytes, event)) = self.lanes.next()?;
        Some((Turn { number, bytes, ticket }, event))
    }

    /// It is done: the next one of its subject has its turn.
    pub(super) fn finish(&mut self, turn: Turn) {
        self.bytes -= turn.bytes;
        self.lanes.finish(turn.ticket);
    }

    /// It is handed over again at `at`, and keeps its place until then.
    pub(super) fn rest(&mut self, turn: Turn, at: u64, event: E) {
        self.lanes.retry(turn.ticket, (turn.number, turn.bytes, event), at);
    }

    /// When the first one that rests is to be handed over.
    pub(super) fn wake_at(&self) -> Option<u64> {
        self.lanes.wake_at()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next<E>(turns: &mut Turns<E>, now: u64) -> Option<(u64, Turn, E)> {
        turns.next(now).map(|(turn, event)| (turn.number(), turn, event))
    }

    fn numbers<E>(turns: &mut Turns<E>, now: u64) -> Vec<u64> {
        let taken = std::iter::from_fn(|| next(turns, now));
        taken.map(|(number, ..)| number).collect()
    }

    #[test]
    fn in_strict_order_what_rests_is_not_passed() {
        let mut turns = Turns::new(Ordering::Strict);
        for (number, subject) in [(0, "a"), (1, "a"), (2, "b"), (3, "a")] {
            turns.add(number, subject, 10, ());
        }
        let (number, first, ()) = next(&mut turns, 0).expect("the first");
        assert_eq!((number, numbers(&mut turns, 0)), (0, vec![2]));
        turns.rest(first, 100, ());
        turns.add(4, "a", 10, ());
        turns.add(5, "c", 10, ());
        assert_eq!((numbers(&mut turns, 99), turns.wake_at()), (vec![5], Some(100)));
        let (number, first, ()) = next(&mut turns, 100).expect("its rest is over");
        assert_eq!((number, next(&mut turns, 100).is_none()), (0, true));
        turns.finish(first);
        for expected in [1, 3, 4] {
            let (number, turn, ()) = next(&mut turns, 100).expect("the next one");
            assert_eq!((number, next(&mut turns, 100).is_none()), (expected, true));
            turns.finish(turn);
        }
    }

    #[test]
    fn in_fast_order_others_pass_what_rests() {
        let mut turns = Turns::new(Ordering::Fast);
        (0..3).for_each(|number| turns.add(number, "a", 10, ()));
        let (_, first, ()) = next(&mut turns, 0).expect("the first");
        turns.rest(first, 100, ());
        assert_eq!(
            (numbers(&mut turns, 99), numbers(&mut turns, 100)),
            (vec![1, 2], vec![0])
        );
    }

    #[test]
    fn what_comes_back_from_a_bus_that_is_gone_goes_first_and_in_order() {
        for ordering in [Ordering::Fast, Ordering::Strict] {
            let mut turns = Turns::new(ordering);
            (0..3).for_each(|number| turns.add(number, ["a", "b", "c"][number as usize], 10, ()));
            let mut taken: Vec<Turn> = std::iter::from_fn(|| turns.next(0)).map(|(turn, ())| turn).collect();
            taken.reverse();
            taken.into_iter().for_each(|turn| turns.rest(turn, 0, ()));
            assert_eq!(numbers(&mut turns, 0), [0, 1, 2]);
        }
    }

    #[test]
    fn what_waits_counts_for_the_window() {
        let mut turns = Turns::new(Ordering::Strict);
        assert!(turns.has_room(1, 1));
        turns.add(0, "a", 40, ());
        turns.add(1, "a", 60, ());
        assert!(turns.has_room(3, 101) && !turns.has_room(2, 101) && !turns.has_room(3, 100));
        let (_, first, ()) = next(&mut turns, 0).expect("the first");
        assert!(!turns.has_room(2, 101), "it is in the bus");
        turns.rest(first, 100, ());
        assert!(!turns.has_room(2, 101), "it rests");
        let (_, first, ()) = next(&mut turns, 100).expect("the first");
        turns.finish(first);
        assert!(turns.has_room(2, 61) && !turns.has_room(2, 60));
    }
}
