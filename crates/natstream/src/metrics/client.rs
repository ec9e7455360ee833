//! Pools.

use metrics::Unit;
use stream_client::{Pool, PoolStats};

use super::sealed::Observe;
use super::table::{Kind, Row, Table, level, total};

const POOL: Table<PoolStats> = Table {
    labels: &["pool"],
    metrics: &[
        total(
            "natstream_pool_attempts_total",
            Unit::Count,
            "Attempts of calls that have ended, whatever the verdict.",
            |s| s.attempts,
        ),
        level(
            "natstream_pool_in_flight",
            Unit::Count,
            "Attempts of calls, and requests for one reply, that run.",
            |s| s.in_flight as f64,
        ),
        total(
            "natstream_pool_requests_total",
            Unit::Count,
            "Requests for one reply that were sent and have ended.",
            |s| s.requests,
        ),
        total(
            "natstream_pool_published_messages_total",
            Unit::Count,
            "Messages that were handed over.",
            |s| s.published,
        ),
        total(
            "natstream_pool_retries_total",
            Unit::Count,
            "Attempts that were made again.",
            |s| s.retries,
        ),
        total("natstream_pool_items_total", Unit::Count, "Items received.", |s| {
            s.items
        }),
        total(
            "natstream_pool_retransmitted_total",
            Unit::Count,
            "Messages that arrived a second time.",
            |s| s.retransmitted,
        ),
        total(
            "natstream_pool_gaps_total",
            Unit::Count,
            "Gaps seen: something was lost on the way, and asked for again.",
            |s| s.gaps,
        ),
        total(
            "natstream_pool_foreign_responder_total",
            Unit::Count,
            "Messages of another responder than the one that a stream was bound to.",
            |s| s.foreign_responder,
        ),
        total(
            "natstream_pool_malformed_total",
            Unit::Count,
            "Messages that could not be read.",
            |s| s.malformed,
        ),
        total(
            "natstream_pool_ignored_total",
            Unit::Count,
            "Messages of unknown kinds, with unknown flags, or after the end.",
            |s| s.ignored,
        ),
        total(
            "natstream_pool_suspicions_total",
            Unit::Count,
            "Suspicions that a responder was gone.",
            |s| s.suspicions,
        ),
        total(
            "natstream_pool_strays_total",
            Unit::Count,
            "Messages for calls that were over.",
            |s| s.strays,
        ),
        total(
            "natstream_pool_refused_subjects_total",
            Unit::Count,
            "Subjects that a responder named and that may not be sent to.",
            |s| s.refused_subjects,
        ),
    ],
};

/// Of all pools together: where a call ends, nobody knows what the pool is called.
const TIMES: [Row; 3] = [
    Row {
        name: "natstream_pool_call_duration_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &["outcome"],
        help: "From the request of a call to its verdict; `outcome` is `complete` or `incomplete`.",
    },
    Row {
        name: "natstream_pool_first_item_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &[],
        help: "From the request of a call to its first item.",
    },
    Row {
        name: "natstream_pool_request_duration_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &["outcome"],
        help: "From a request for one reply to the reply, or to the error.",
    },
];

pub(super) fn rows() -> Vec<Row> {
    POOL.rows().chain(TIMES).collect()
}

impl Observe for Pool {
    fn observe(&self, name: &str) {
        POOL.tell(&[name], &self.stats());
    }
}
