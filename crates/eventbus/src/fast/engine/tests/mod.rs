//! The engine beside a model of nats-server that loses, delays, forgets and changes leaders.

mod behaviour;
mod proofs;
mod properties;
mod server;
mod world;

use super::super::place::Place;
use super::*;
use crate::reply::Refusal;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

fn config() -> Config {
    Config {
        window: 8,
        window_bytes: 10_000,
        deadline: 30 * SECOND,
        outstanding: 3,
        linger: 50 * MILLI,
        patience: SECOND,
        answer_timeout: 5 * SECOND,
        first_pause: 50 * MILLI,
        longest_pause: 2 * SECOND,
        gives_ids: false,
        repeats: false,
        seed: 1,
    }
}
