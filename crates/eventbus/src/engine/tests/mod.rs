//! The engine beside a model of nats-server that loses, repeats, delays and refuses.

mod behaviour;
mod broker;
mod properties;
mod world;

use super::*;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

fn config() -> EngineConfig {
    EngineConfig {
        window: 8,
        window_bytes: 10_000,
        deadline: 30 * SECOND,
        ack_timeout: 5 * SECOND,
        first_pause: 50 * MILLI,
        longest_pause: 2 * SECOND,
        dedup: Dedup::Id,
        ordering: Ordering::Fast,
        seed: 1,
    }
}
