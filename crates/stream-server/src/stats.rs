//! Counters of an endpoint.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use stream_proto::{Code, MAX_MESSAGE, OutboundStats, Status};

use crate::endpoint::EndpointShared;
use crate::server::Inner;

/// How often a snapshot is taken again when calls ended meanwhile.
const ATTEMPTS: usize = 3;

/// Counters of an endpoint since it began to serve, with what its running calls have counted so far.
///
/// A snapshot looks at each running call of the server for a moment: about 250 ns for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Requests that arrived.
    pub requests: u64,
    /// Calls whose handler was begun.
    pub begun: u64,
    /// Calls whose handler runs, or whose sender is still in use.
    pub active: u64,
    /// Calls that were accepted and wait for their turn.
    pub queued: u64,
    /// Requests refused: because of a limit, a version, a header that cannot be read, a dialect, or a drain.
    pub refused: u64,
    /// Calls that ended with success.
    pub finished: u64,
    /// Calls that a handler failed, that panicked, that were aborted, or that a drain ended.
    pub failed: u64,
    /// Calls that the caller ended, or that ended by a clock.
    pub cancelled: u64,
    /// Items that handlers have sent.
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
    /// Messages sent again. Those that follow the end of a stream are added when it is confirmed or given up.
    pub retransmitted: u64,
    /// How often callers asked for that and got it.
    pub rewinds: u64,
    /// Suspicions that a caller was gone, after a 503.
    pub suspicions: u64,
    /// Messages of callers that were stale, of unknown kinds or with unknown flags.
    pub ignored: u64,
    /// How long senders have waited for their callers to read, all calls together. In the text and sentinel dialects, where
    /// callers do not say what they have read, for the connection.
    /// A `send` that is dropped while it waits counts until there is room again.
    pub stalled: Duration,
    /// How long calls have lasted, all together: from the beginning of the handler until it has returned and the end was
    /// sent. The time in a queue does not count.
    pub processing_time: Duration,
    /// Failed calls and refused requests by their code, in the order of the codes' numbers; codes that did not occur are
    /// left out.
    pub errors: Vec<(Code, u64)>,
    /// The last of them, as its caller was told: the code, and the message if there is one.
    pub last_error: Option<String>,
}

impl EndpointStats {
    /// How long a call lasts on average; zero when none was begun.
    #[must_use]
    pub fn average_duration(&self) -> Duration {
        let nanos = self.processing_time.as_nanos().checked_div(self.begun.into());
        Duration::from_nanos(saturate(nanos.unwrap_or(0)))
    }

    /// Calls and requests in [`errors`](Self::errors).
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.errors.iter().map(|(_, count)| count).sum()
    }

    /// Adds what a running call has counted, and its endpoint has not.
    pub(crate) fn add(&mut self, call: &Running) {
        self.queued += u64::from(call.is_queued);
        self.stalled = self.stalled.saturating_add(call.stalled);
        self.processing_time = self.processing_time.saturating_add(call.lasted);
        self.items += call.counts.items;
        self.bytes += call.counts.bytes;
        self.malformed += call.counts.malformed;
        self.retransmitted += call.counts.retransmitted;
        self.rewinds += call.counts.rewinds;
        self.suspicions += call.counts.suspicions;
        self.ignored += call.counts.ignored;
    }
}

/// What a running call has counted, and its endpoint has not.
#[derive(Debug, Default)]
pub(crate) struct Running {
    pub(crate) is_queued: bool,
    pub(crate) counts: OutboundStats,
    pub(crate) stalled: Duration,
    pub(crate) lasted: Duration,
}

/// Counters of a server since it began, beside those of its endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Messages for streams that are over.
    pub strays: u64,
    /// Callers that asked for such a stream, and were told that it is forgotten.
    pub resets: u64,
    /// Questions about this service (`$SRV`) that were dropped: without a reply subject, or with one that may not be sent to.
    pub refused_subjects: u64,
}

/// Counters of a subscription since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStats {
    /// Messages that arrived.
    pub received: u64,
    /// Those whose handler has returned with success.
    pub processed: u64,
    /// Those whose handler has returned an error, or panicked.
    pub failed: u64,
    /// Those whose handler was not begun: there was no room, or the server was shut down.
    pub dropped: u64,
    /// Those whose reply subject may not be sent to. They were handled like those without one.
    pub refused_subjects: u64,
}

impl SubscriptionStats {
    /// Messages whose handlers run or wait.
    #[must_use]
    pub fn in_progress(&self) -> u64 {
        self.received
            .saturating_sub(self.processed + self.failed + self.dropped)
    }
}

macro_rules! counters {
    ($counters:ident, $stats:ident, [$($name:ident),* $(,)?], { $($other:ident: $type:ty),* $(,)? }) => {
        /// The counters while they run.
        #[derive(Debug, Default)]
        pub(crate) struct $counters {
            $(pub(crate) $name: AtomicU64,)*
            $($other: $type,)*
        }

        impl $counters {
            fn load(&self) -> $stats {
                let mut stats = $stats::default();
                $(stats.$name = self.$name.load(Ordering::Relaxed);)*
                stats
            }
        }
    };
}

counters!(
    Counters,
    EndpointStats,
    [
        requests,
        begun,
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
        ignored,
    ],
    {
        // In ns, of calls that have ended.
        stalled: AtomicU64,
        // In ns, of calls that are over.
        lasted: AtomicU64,
        errors: Mutex<Errors>,
    }
);

counters!(ServerCounters, ServerStats, [strays, resets, refused_subjects], {});

counters!(
    MessageCounters,
    SubscriptionStats,
    [processed, failed, dropped, received, refused_subjects],
    {}
);

impl MessageCounters {
    pub(crate) fn snapshot(&self) -> SubscriptionStats {
        self.load()
    }
}

impl ServerCounters {
    pub(crate) fn snapshot(&self) -> ServerStats {
        self.load()
    }
}

/// Failed calls and refused requests.
#[derive(Debug, Default)]
struct Errors {
    /// By the number of the code.
    counts: BTreeMap<u8, u64>,
    last: Option<String>,
}

impl Counters {
    /// Without running calls.
    pub(crate) fn snapshot(&self) -> EndpointStats {
        let nanos = |counter: &AtomicU64| Duration::from_nanos(counter.load(Ordering::Relaxed));
        let errors = self.errors.lock();
        EndpointStats {
            stalled: nanos(&self.stalled),
            processing_time: nanos(&self.lasted),
            errors: errors
                .counts
                .iter()
                .map(|(code, count)| (Code::from_u8(*code), *count))
                .collect(),
            last_error: errors.last.clone(),
            ..self.load()
        }
    }

    /// A call failed, or a request was refused.
    pub(crate) fn error(&self, status: &Status) {
        let mut text = status.to_string();
        // About as much as the caller gets.
        if let Some((end, _)) = text.char_indices().find(|(at, c)| at + c.len_utf8() > MAX_MESSAGE) {
            text.truncate(end);
        }
        let mut errors = self.errors.lock();
        *errors.counts.entry(status.code.as_u8()).or_default() += 1;
        errors.last = Some(text);
    }

    /// Adds how long a call that has ended waited for its caller.
    pub(crate) fn add_stalled(&self, time: Duration) {
        add_time(&self.stalled, time);
    }

    /// Adds how long a call that is over has lasted.
    pub(crate) fn add_lasted(&self, time: Duration) {
        add_time(&self.lasted, time);
    }

    /// Adds what a stream has counted, beside its items.
    pub(crate) fn add_protocol(&self, stream: &OutboundStats) {
        let all = [
            (&self.malformed, stream.malformed),
            (&self.retransmitted, stream.retransmitted),
            (&self.rewinds, stream.rewinds),
            (&self.suspicions, stream.suspicions),
            (&self.ignored, stream.ignored),
        ];
        for (counter, more) in all {
            if more > 0 {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        }
    }
}

impl Inner {
    /// The counters of these endpoints, with what their running calls have counted.
    ///
    /// A call that ends while they are gathered may be missing. So they are gathered again then; on a busy endpoint, where
    /// calls end all the time, one that does not matter may be missing in the end.
    pub(crate) fn snapshots(&self, endpoints: &[Arc<EndpointShared>]) -> Vec<EndpointStats> {
        let places: HashMap<_, _> = endpoints.iter().map(Arc::as_ptr).zip(0..).collect();
        let load = || endpoints.iter().map(|endpoint| endpoint.counters.snapshot());
        // Both change when a call's numbers go from the call to its endpoint.
        let moves = |stats: &EndpointStats| (stats.finished + stats.failed + stats.cancelled, stats.active);
        let mut snapshots = Vec::new();
        for _ in 0..ATTEMPTS {
            snapshots = load().collect();
            let before: Vec<_> = snapshots.iter().map(moves).collect();
            for stream in self.running_streams() {
                if let Some(place) = places.get(&stream.endpoint()) {
                    let snapshot: &mut EndpointStats = &mut snapshots[*place];
                    snapshot.add(&stream.running());
                }
            }
            if load().map(|stats| moves(&stats)).eq(before) {
                break;
            }
        }
        snapshots
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// 584 years are the most.
fn add_time(counter: &AtomicU64, time: Duration) {
    let nanos = saturate(time.as_nanos());
    if nanos > 0 {
        let add = |sum: u64| Some(sum.saturating_add(nanos));
        // `add` is never `None`.
        let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// `nanos`, or the most that fits.
pub(crate) fn saturate(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_their_code() {
        let counters = Counters::default();
        for (code, message) in [(13, "first"), (5, ""), (200, "é"), (5, "last")] {
            counters.error(&Status::new(Code::from_u8(code), message));
        }
        let stats = counters.snapshot();
        let expected = [(Code::NotFound, 2), (Code::Internal, 1), (Code::Other(200), 1)];
        assert_eq!((&stats.errors[..], stats.error_count()), (&expected[..], 4));
        assert_eq!(stats.last_error.as_deref(), Some("NOT_FOUND: last"));
        counters.error(&Status::new(Code::Internal, "é".repeat(MAX_MESSAGE)));
        assert!(
            counters
                .snapshot()
                .last_error
                .is_some_and(|text| text.len() <= MAX_MESSAGE)
        );
    }

    #[test]
    fn times_never_overflow() {
        let counters = Counters::default();
        for _ in 0..2 {
            counters.add_lasted(Duration::MAX);
        }
        let mut stats = counters.snapshot();
        assert_eq!(stats.average_duration(), Duration::ZERO, "none was begun");
        (stats.begun, stats.processing_time) = (3, Duration::from_secs(6));
        assert_eq!(stats.average_duration(), Duration::from_secs(2));
        stats.processing_time = Duration::MAX;
        stats.add(&Running {
            lasted: Duration::MAX,
            ..Running::default()
        });
        assert_eq!(stats.average_duration(), Duration::from_nanos(u64::MAX));
    }
}
