//! Virtual time.

use stream_proto::Instant;

/// Nanoseconds since the run began.
pub(crate) type Nanos = u64;

pub(crate) const US: Nanos = 1_000;
pub(crate) const MS: Nanos = 1_000_000;
pub(crate) const S: Nanos = 1_000_000_000;

pub(crate) fn instant(now: Nanos) -> Instant {
    Instant::from_nanos(now)
}

/// The earlier of two moments that may not come.
pub(crate) fn earlier(a: Option<Nanos>, b: Option<Nanos>) -> Option<Nanos> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, None) => a,
        (None, b) => b,
    }
}
