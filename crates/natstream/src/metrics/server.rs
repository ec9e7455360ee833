//! Servers, their endpoints, and subscriptions.

use std::time::Duration;

use metrics::{Unit, counter};
use stream_server::{Endpoint, EndpointStats, Server, Subscription, SubscriptionStats};

use super::sealed::Observe;
use super::table::{Kind, Row, Table, level, total};

const ENDPOINT: Table<EndpointStats> = Table {
    labels: &["server", "endpoint"],
    metrics: &[
        total(
            "natstream_server_requests_total",
            Unit::Count,
            "Requests that arrived.",
            |s| s.requests,
        ),
        total(
            "natstream_server_calls_total",
            Unit::Count,
            "Calls whose handler was begun.",
            |s| s.begun,
        ),
        level(
            "natstream_server_active_calls",
            Unit::Count,
            "Calls whose handler runs, or whose sender is in use.",
            |s| s.active as f64,
        ),
        level(
            "natstream_server_queued_calls",
            Unit::Count,
            "Calls that wait for their turn.",
            |s| s.queued as f64,
        ),
        total(
            "natstream_server_refused_total",
            Unit::Count,
            "Requests that were refused.",
            |s| s.refused,
        ),
        total(
            "natstream_server_finished_total",
            Unit::Count,
            "Calls that ended with success.",
            |s| s.finished,
        ),
        total(
            "natstream_server_failed_total",
            Unit::Count,
            "Calls that a handler failed, that panicked, that were aborted, or that a drain ended.",
            |s| s.failed,
        ),
        total(
            "natstream_server_cancelled_total",
            Unit::Count,
            "Calls that the caller ended, or that ended by a clock.",
            |s| s.cancelled,
        ),
        total(
            "natstream_server_items_total",
            Unit::Count,
            "Items that handlers have sent.",
            |s| s.items,
        ),
        total(
            "natstream_server_items_bytes_total",
            Unit::Bytes,
            "Bytes of these items.",
            |s| s.bytes,
        ),
        total(
            "natstream_server_foreign_total",
            Unit::Count,
            "Requests that are not of the native dialect.",
            |s| s.foreign,
        ),
        total(
            "natstream_server_malformed_total",
            Unit::Count,
            "Requests and messages of callers that cannot be read.",
            |s| s.malformed,
        ),
        total(
            "natstream_server_denied_total",
            Unit::Count,
            "Streams that ended since nats-server does not let this user answer.",
            |s| s.denied,
        ),
        total(
            "natstream_server_refused_subjects_total",
            Unit::Count,
            "Requests without a reply subject that may be sent to.",
            |s| s.refused_subjects,
        ),
        total(
            "natstream_server_retransmitted_total",
            Unit::Count,
            "Messages sent again.",
            |s| s.retransmitted,
        ),
        total(
            "natstream_server_rewinds_total",
            Unit::Count,
            "How often callers asked for that and got it.",
            |s| s.rewinds,
        ),
        total(
            "natstream_server_suspicions_total",
            Unit::Count,
            "Suspicions that a caller was gone.",
            |s| s.suspicions,
        ),
        total(
            "natstream_server_ignored_total",
            Unit::Count,
            "Messages of callers that were stale, of unknown kinds or with unknown flags.",
            |s| s.ignored,
        ),
        total(
            "natstream_server_stalled_milliseconds_total",
            Unit::Milliseconds,
            "How long senders have waited for their callers to read.",
            |s| millis(s.stalled),
        ),
        total(
            "natstream_server_processing_milliseconds_total",
            Unit::Milliseconds,
            "How long calls have lasted, all together.",
            |s| millis(s.processing_time),
        ),
    ],
};

const SERVER: Table<Server> = Table {
    labels: &["server"],
    metrics: &[
        level(
            "natstream_server_ready",
            Unit::Count,
            "1 while the connection is up and something is served, else 0.",
            |s| f64::from(u8::from(s.is_ready())),
        ),
        total(
            "natstream_server_strays_total",
            Unit::Count,
            "Messages for streams that are over.",
            |s| s.stats().strays,
        ),
        total(
            "natstream_server_resets_total",
            Unit::Count,
            "Callers that asked for such a stream, and were told that it is forgotten.",
            |s| s.stats().resets,
        ),
    ],
};

const SUBSCRIPTION: Table<SubscriptionStats> = Table {
    labels: &["subscription"],
    metrics: &[
        total(
            "natstream_subscription_received_total",
            Unit::Count,
            "Messages that arrived.",
            |s| s.received,
        ),
        total(
            "natstream_subscription_processed_total",
            Unit::Count,
            "Those whose handler has returned with success.",
            |s| s.processed,
        ),
        total(
            "natstream_subscription_failed_total",
            Unit::Count,
            "Those whose handler has returned an error, or panicked.",
            |s| s.failed,
        ),
        total(
            "natstream_subscription_dropped_total",
            Unit::Count,
            "Those whose handler was not begun.",
            |s| s.dropped,
        ),
        total(
            "natstream_subscription_refused_subjects_total",
            Unit::Count,
            "Those whose reply subject may not be sent to.",
            |s| s.refused_subjects,
        ),
        level(
            "natstream_subscription_in_progress",
            Unit::Count,
            "Those whose handlers run or wait.",
            |s| s.in_progress() as f64,
        ),
    ],
};

/// Those that no table has.
const OTHERS: [Row; 2] = [
    Row {
        name: "natstream_server_errors_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["server", "endpoint", "code"],
        help: "Failed calls and refused requests by their code.",
    },
    Row {
        name: "natstream_server_call_duration_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &["endpoint"],
        help: "From the beginning of a handler until it has returned and the end was sent.",
    },
];

pub(super) fn rows() -> Vec<Row> {
    let tables = SERVER.rows().chain(ENDPOINT.rows()).chain(SUBSCRIPTION.rows());
    tables.chain(OTHERS).collect()
}

/// With its endpoints, as long as it does not drain.
impl Observe for Server {
    fn observe(&self, name: &str) {
        SERVER.tell(&[name], self);
        for endpoint in self.endpoints() {
            endpoint.observe(name);
        }
    }
}

/// The name is that of its server.
impl Observe for Endpoint {
    fn observe(&self, name: &str) {
        let stats = self.stats();
        ENDPOINT.tell(&[name, self.name()], &stats);
        for (code, count) in &stats.errors {
            let labels = [
                ("server", name.to_owned()),
                ("endpoint", self.name().to_owned()),
                ("code", code.to_string()),
            ];
            counter!("natstream_server_errors_total", &labels).absolute(*count);
        }
    }
}

impl Observe for Subscription {
    fn observe(&self, name: &str) {
        SUBSCRIPTION.tell(&[name], &self.stats());
    }
}

/// 584 million years are the most.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
