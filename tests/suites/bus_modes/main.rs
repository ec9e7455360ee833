//! Every mode of publishing under the same faults: what the table in `docs/guarantees.md` says of them.
//!
//! Fast ingest and atomic batches have suites of their own for faults of the server, and the outbox has.

mod faults;
mod outbox;
mod producer;
mod refused;

use std::time::Duration;

/// A cluster needs some time to form and to elect on a busy machine.
const LONG: Duration = Duration::from_secs(90);
