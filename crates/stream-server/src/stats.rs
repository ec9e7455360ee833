//! Counters of an endpoint.

use std::sync::atomic::{AtomicU64, Ordering};

use stream_proto::OutboundStats;

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
    /// Items sent, of calls that have ended.
    pub items: u64,
    /// Bytes of these items.
    pub bytes: u64,
    /// Requests that are not of the native dialect.
    pub foreign: u64,
    /// Requests whose header cannot be read, and messages of callers that cannot be read.
    pub malformed: u64,
    /// Streams that ended since nats-server refused to deliver what they sent: this user may not answer.
    pub denied: u64,
    /// Requests that were dropped: without a reply subject, or with one that may not be sent to.
    pub refused_subjects: u64,
    /// Messages sent again, of streams whose end was confirmed or given up.
    pub retransmitted: u64,
    /// How often callers asked for that and got it.
    pub rewinds: u64,
    /// Suspicions that a caller was gone, after a 503.
    pub suspicions: u64,
    /// Messages of callers that were stale, of unknown kinds or with unknown flags.
    pub ignored: u64,
}

/// Counters of a server since it began, beside those of its endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Messages for streams that are over.
    pub strays: u64,
    /// Callers that asked for such a stream, and were told that it is forgotten.
    pub resets: u64,
}

macro_rules! counters {
    ($counters:ident, $stats:ident, $($name:ident),*) => {
        /// The counters while they run.
        #[derive(Debug, Default)]
        pub(crate) struct $counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl $counters {
            pub(crate) fn snapshot(&self) -> $stats {
                $stats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters!(
    Counters,
    EndpointStats,
    requests,
    active,
    refused,
    finished,
    failed,
    cancelled,
    items,
    bytes,
    foreign,
    malformed,
    denied,
    refused_subjects,
    retransmitted,
    rewinds,
    suspicions,
    ignored
);

counters!(ServerCounters, ServerStats, strays, resets);

impl Counters {
    /// Adds what a stream that is over has counted, beside its items.
    pub(crate) fn add_protocol(&self, stream: &OutboundStats) {
        let all = [
            (&self.malformed, stream.malformed),
            (&self.retransmitted, stream.retransmitted),
            (&self.rewinds, stream.rewinds),
            (&self.suspicions, stream.suspicions),
            (&self.ignored, stream.ignored),
        ];
        for (counter, more) in all {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
