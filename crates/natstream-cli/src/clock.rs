//! The clock, for what summaries say about time.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a summary says how long things took")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
