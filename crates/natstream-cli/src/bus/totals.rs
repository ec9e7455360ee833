//! How many events were published: while it goes on, and in the end.

use natstream::eventbus::{BusStats, FastStats};
use serde_json::json;
use tokio::time::interval;

use super::publish::PROGRESS;
use super::tally::Tally;
use crate::console::Console;
use crate::program::Context;

/// What has become of all events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) accepted: u64,
    pub(super) acked: u64,
    pub(super) duplicates: u64,
    pub(super) failed: u64,
    pub(super) retried: u64,
}

impl From<BusStats> for Totals {
    fn from(stats: BusStats) -> Self {
        Self {
            accepted: stats.accepted,
            acked: stats.acked,
            duplicates: stats.duplicates,
            failed: stats.failed,
            retried: stats.retried,
        }
    }
}

impl From<FastStats> for Totals {
    fn from(stats: FastStats) -> Self {
        Self {
            accepted: stats.accepted,
            acked: stats.acked,
            // The stream acks them as any others.
            duplicates: 0,
            failed: stats.failed,
            retried: stats.retried,
        }
    }
}

/// Tells how far it is, now and then; never completes.
pub(super) async fn progress(console: Console, totals: impl Fn() -> Totals, expected: Option<u64>) {
    let mut ticks = interval(PROGRESS);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Totals {
            accepted,
            acked,
            failed,
            ..
        } = totals();
        let of = expected.map_or_else(String::new, |expected| format!(" of {expected}"));
        let pending = accepted.saturating_sub(acked + failed);
        console.progress(&format!("{acked}{of} acked, {pending} under way, {failed} failed"));
    }
}

pub(super) fn summarize(context: &Context, totals: Totals, tally: &Tally, seconds: f64) {
    let Totals {
        accepted,
        acked,
        duplicates,
        failed,
        retried,
    } = totals;
    let rate = if seconds > 0.0 { acked as f64 / seconds } else { 0.0 };
    context.console.summary(
        || {
            format!(
                "published: {accepted} accepted, {acked} acked ({duplicates} duplicate), {failed} failed, {retried} retried, \
                 {rate:.0} events/s"
            )
        },
        || {
            json!({
                "accepted": accepted,
                "acked": acked,
                "duplicate": duplicates,
                "failed": failed,
                "retried": retried,
                "seconds": seconds,
                "events_per_second": rate,
                "failures": tally.json(),
            })
        },
    );
}
