//! Calls that follow from a seed, and what may become of them when things fail.
//!
//! A [`Plan`] says everything about one call: what its handler sends, how it is read, what is set. Both sides derive it from
//! the seed and the number of the call, so every item that arrives can be compared with the one that was sent.

mod call;
mod handler;
mod item;
mod plan;
mod progress;
mod rng;
mod tally;
mod verdict;

pub use call::{Caller, Outcome, Verdict};
pub use handler::{Ledger, serve};
pub use plan::{End, Plan, Reader, Retry};
pub use progress::{PER_CALL, Progress};
pub use rng::Rng;
pub use tally::Tally;
pub use verdict::judge;
