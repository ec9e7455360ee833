//! What holds whatever the network and the stream do.
//!
//! A failure prints the smallest plan that fails and the seed; `PROPTEST_RNG_SEED=<seed>` repeats it. `PROPTEST_CASES` says
//! how many plans are tried.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::server::Mood;
use super::world::{Step, World};
use super::*;

/// The environment wins. The seed is new each time, and shown with the failure.
fn cases(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let seed = match default.rng_seed {
        RngSeed::Fixed(seed) => seed,
        _ => RandomState::new().build_hasher().finish(),
    };
    #[expect(clippy::print_stderr, reason = "captured, and shown when the test fails")]
    {
        eprintln!("PROPTEST_RNG_SEED={seed}");
    }
    ProptestConfig {
        cases: std::env::var_os("PROPTEST_CASES").map_or(cases, |_| default.cases),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..default
    }
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        5 => Just(Mood::Well),
        1 => Just(Mood::NoResponders),
        1 => Just(Mood::Busy),
        1 => Just(Mood::Deaf),
        1 => Just(Mood::Mute),
        1 => Just(Mood::Full),
        1 => Just(Mood::Lags),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..12_u8, prop::bool::weighted(0.2), prop::option::weighted(0.2, 0..3000_u64))
            .prop_map(|(count, has_own_id, deadline)| Step::Accept { count, has_own_id, deadline }),
        6 => (0..40_u64).prop_map(|millis| Step::Wait { millis }),
        2 => (0..15_000_u64).prop_map(|millis| Step::Wait { millis }),
        3 => mood().prop_map(Step::Mood),
        1 => any::<bool>().prop_map(|is_read_on| Step::Cut { is_read_on }),
        2 => Just(Step::Reconnect),
        1 => (0..3000_u64).prop_map(|millis| Step::Delay { millis }),
        1 => Just(Step::Shuffle),
        1 => (1..4_u8).prop_map(|nth| Step::Lose { nth }),
        1 => (1..4_u8).prop_map(|nth| Step::LoseAnswers { nth }),
        1 => Just(Step::LeaderChange),
        1 => Just(Step::Restart),
        1 => Just(Step::Flush),
        1 => any::<bool>().prop_map(|is_starved| Step::Starve { is_starved }),
    ]
}

prop_compose! {
    fn configs()(
        window in prop_oneof![1..4_usize, Just(8), 1..200_usize],
        window_bytes in prop_oneof![Just(10_000), 1..100_usize],
        deadline in prop_oneof![Just(30 * SECOND), MILLI..40 * SECOND],
        outstanding in 1..4_u64,
        gives_ids in any::<bool>(),
        repeats in any::<bool>(),
        seed in any::<u64>(),
    ) -> Config {
        Config {
            window,
            window_bytes,
            deadline,
            outstanding,
            gives_ids,
            repeats,
            seed,
            ..config()
        }
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    /// Every event ends once; what is acked is stored, in order; what certainly failed is not; nothing is stored twice, unless
    /// it was asked for; counts agree at every step.
    #[test]
    fn no_event_is_lost_or_lied_about(
        config in configs(),
        max_flow in 1..12_u64,
        steps in vec(step(), 1..80),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(config, max_flow, seed);
        for step in &steps {
            world.run(step);
        }
        world.finish();
    }
}
