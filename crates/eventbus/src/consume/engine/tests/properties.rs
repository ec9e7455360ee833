//! What holds whatever the network and the consumer do.
//!
//! A failure prints the smallest plan that fails. `PROPTEST_CASES` says how many plans are tried.

use proptest::collection::vec;
use proptest::prelude::*;

use super::consumer::Mood;
use super::world::{Step, World};
use super::*;

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        4 => Just(Mood::Well),
        1 => Just(Mood::NoResponders),
        1 => Just(Mood::Deaf),
        1 => Just(Mood::Busy),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..40_usize).prop_map(Step::Publish),
        8 => (1..20_usize).prop_map(Step::Release),
        8 => (0..40_u64).prop_map(|millis| Step::Wait { millis }),
        2 => (0..40_000_u64).prop_map(|millis| Step::Wait { millis }),
        2 => mood().prop_map(Step::Mood),
        1 => any::<bool>().prop_map(|keeps_requests| Step::Cut { keeps_requests }),
        2 => Just(Step::Reconnect),
        1 => Just(Step::Move),
        1 => Just(Step::Delete),
        1 => (0..900_u64).prop_map(|millis| Step::Delay { millis }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Never more is asked for than there are free slots, and whatever happens, all messages come in the end.
    #[test]
    fn no_slot_is_promised_twice_and_none_is_forgotten(
        slots in prop_oneof![Just(1_usize), 2..12_usize, Just(100)],
        most in prop_oneof![Just(1000_usize), 1..6_usize],
        seed in any::<u64>(),
        steps in vec(step(), 1..80),
    ) {
        let mut world = World::new(PullConfig { slots, most, seed, ..config() });
        for step in &steps {
            world.run(step);
        }
        world.finish();
    }
}
