//! Counters of an endpoint.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of an endpoint since it began to serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Requests that arrived.
    pub requests: u64,
    /// Calls whose handler runs, or whose sender is still in use.
    pub active: u64,
    /// Requests refused: because of a limit, a version, a header that cannot be read, a dialect, or a drain.
    pub refused: u64,
    /// Calls that ended with success.
    pub finished: u64,
    /// Calls that a handler failed, that panicked, that were aborted, or that a drain ended.
    pub failed: u64,
    /// Calls that the caller ended, or that ended by a clock.
    pub cancelled: u64,
    /// Items sent.
    pub items: u64,
    /// Bytes of items sent.
    pub bytes: u64,
    /// Requests that are not of the native dialect.
    pub foreign: u64,
    /// Requests whose header cannot be read, and those without a usable reply subject, which are dropped.
    pub malformed: u64,
}

macro_rules! counters {
    ($($name:ident),*) => {
        /// The counters while they run.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> EndpointStats {
                EndpointStats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters!(
    requests, active, refused, finished, failed, cancelled, items, bytes, foreign, malformed
);

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
