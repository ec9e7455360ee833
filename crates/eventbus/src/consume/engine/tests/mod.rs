//! The engine beside a model of a pull consumer.

mod behaviour;
mod consumer;
mod properties;
mod world;

use super::*;
use crate::consume::status::Status;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

fn config() -> PullConfig {
    PullConfig {
        slots: 10,
        most: 1000,
        bytes: None,
        expires: 30 * SECOND,
        heartbeat: 5 * SECOND,
        first_pause: 50 * MILLI,
        longest_pause: 2 * SECOND,
        plan: Plan::Continuous,
        seed: 1,
    }
}
