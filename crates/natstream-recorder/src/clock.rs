//! The time, for a recorder's own task.

use std::time::SystemTime;

use tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a recorder's task is a driver of its own")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "records carry the time of their arrival")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
