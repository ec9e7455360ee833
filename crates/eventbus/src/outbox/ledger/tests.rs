//! The floor, whatever becomes of the records above it.

use super::*;
use proptest::prelude::*;

#[test]
fn the_floor_waits_for_the_oldest() {
    let mut ledger = Ledger::new(5, []);
    for number in [5, 6, 8] {
        ledger.hand_over(number);
    }
    assert!(!ledger.finish(6));
    assert_eq!((ledger.floor(), ledger.left(), ledger.next()), (5, 2, 9));
    assert!(ledger.finish(5));
    assert_eq!(ledger.floor(), 8, "7 was damaged");
    assert!(ledger.finish(8));
    assert_eq!((ledger.floor(), ledger.left(), ledger.next()), (9, 0, 9));
}

#[test]
fn what_is_lost_costs_nothing() {
    let mut ledger = Ledger::new(0, []);
    ledger.hand_over(1 << 60);
    assert_eq!(
        (ledger.floor(), ledger.lost(), ledger.next()),
        (1 << 60, 1 << 60, (1 << 60) + 1)
    );
    ledger.pass((1 << 60) + 3);
    assert_eq!((ledger.lost(), ledger.next()), ((1 << 60) + 2, (1 << 60) + 3));
    assert!(ledger.finish(1 << 60));
    assert_eq!((ledger.floor(), ledger.left()), ((1 << 60) + 3, 0));
}

#[test]
fn what_is_set_aside_does_not_hold_the_floor() {
    let mut ledger = Ledger::new(0, []);
    for number in 0..6 {
        ledger.hand_over(number);
    }
    for number in [1, 3] {
        ledger.finish(number);
    }
    assert!(ledger.stuck(0).is_empty(), "none is that old");
    assert_eq!(ledger.stuck(2), [0], "2 is younger");
    assert_eq!(ledger.stuck(9), [0, 2], "nothing is done behind 4");
    ledger.finish(2);
    ledger.set_aside(&[0, 2]);
    assert_eq!((ledger.floor(), ledger.left()), (4, 3));
    assert_eq!(ledger.returned(), [2], "it was finished meanwhile");
    assert!(ledger.stuck(9).is_empty());
    ledger.finish(4);
    ledger.finish(5);
    assert_eq!((ledger.floor(), ledger.is_done_below(6)), (6, false));
    ledger.finish(0);
    assert!(ledger.is_done_below(6));
    assert_eq!((ledger.returned(), ledger.left()), (&[2, 0][..], 0));
    ledger.swept(1);
    assert_eq!(ledger.returned(), [0]);
}

#[test]
fn what_was_found_aside_is_done_by_itself() {
    // 8 is in the log too.
    let mut ledger = Ledger::new(7, [ASIDE | 3, ASIDE | 20, 8]);
    assert_eq!(ledger.left(), 2, "it is not handed over");
    assert!(!ledger.is_done_below(0));
    let numbers = [ASIDE | 3, ASIDE | 20, 7, 8];
    for number in numbers {
        ledger.hand_over(number);
    }
    for number in numbers {
        assert_eq!(
            (ledger.floor(), ledger.is_done_below(9)),
            (if number == 8 { 9 } else { 7 }, false)
        );
        ledger.finish(number);
    }
    assert_eq!((ledger.floor(), ledger.left()), (9, 0));
    assert!(ledger.is_done_below(9) && !ledger.is_done_below(10));
    assert_eq!(ledger.returned(), [ASIDE | 3, ASIDE | 20, 8]);
}

proptest! {
    /// What the floor has passed is done, or set aside; and what is set aside comes back once.
    #[test]
    fn whatever_is_set_aside_comes_back(
        steps in prop::collection::vec((0..5_u8, any::<prop::sample::Index>()), 1..200),
    ) {
        let mut ledger = Ledger::new(0, [ASIDE | 1]);
        ledger.hand_over(ASIDE | 1);
        let (mut open, mut aside, mut back, mut next) = (vec![ASIDE | 1], vec![ASIDE | 1], Vec::new(), 0);
        for (step, which) in steps {
            match step {
                0 | 1 => {
                    ledger.hand_over(next);
                    open.push(next);
                    next += 1;
                }
                2 | 3 if !open.is_empty() => {
                    let number = open.swap_remove(which.index(open.len()));
                    ledger.finish(number);
                    if aside.contains(&number) {
                        back.push(number);
                    }
                }
                _ => {
                    let before = ledger.floor();
                    let older_than = which.index(next as usize + 1) as u64;
                    let stuck = ledger.stuck(older_than);
                    prop_assert!(stuck.is_empty() || ledger.is_held(older_than));
                    ledger.set_aside(&stuck);
                    prop_assert_eq!(stuck.is_empty(), ledger.floor() == before, "it frees something");
                    aside.extend(&stuck);
                }
            }
            let held = open.iter().filter(|number| !aside.contains(number)).min();
            prop_assert_eq!(ledger.floor(), held.copied().unwrap_or_else(|| ledger.next()));
            prop_assert_eq!(ledger.returned(), &back);
            prop_assert_eq!(ledger.left(), open.len() as u64);
            prop_assert_eq!(ledger.is_done_below(next), open.is_empty());
        }
    }

    /// The floor never passes a record that is not done, and reaches the end.
    #[test]
    fn the_floor_is_what_it_says(
        gaps in prop::collection::vec(1..3_u64, 1..60),
        order in prop::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        let numbers: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
        let mut ledger = Ledger::new(0, []);
        let mut open = numbers.clone();
        for number in &numbers {
            ledger.hand_over(*number);
        }
        for which in order {
            if open.is_empty() {
                break;
            }
            ledger.finish(open.remove(which.index(open.len())));
            prop_assert!(open.iter().all(|open| *open >= ledger.floor()));
            prop_assert_eq!(ledger.left(), open.len() as u64);
        }
        for number in open {
            ledger.finish(number);
        }
        prop_assert_eq!(ledger.floor(), numbers[numbers.len() - 1] + 1);
    }
}
