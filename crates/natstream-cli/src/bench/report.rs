//! The table at the end, and the histogram.

use std::time::Duration;

use hdrhistogram::Histogram;
use natstream::connect::ConnectionsStats;
use serde_json::{Value, json};

use super::figures::{Figures, Live};
use crate::services::format::{short_count, time};
use crate::size;

/// Lines of the histogram, at most.
const BARS: usize = 16;

/// The longest bar, in characters.
const WIDTH: usize = 50;

/// A run that is over.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) elapsed: Duration,
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) figures: Figures,
    pub(super) callers: ConnectionsStats,
}

impl Report {
    pub(super) fn text(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let figures = &self.figures;
        let mut rows = vec![
            (
                "items",
                format!("{}, {}/s", self.items, short_count(self.items as f64 / seconds)),
            ),
            (
                "data",
                format!(
                    "{}, {}/s",
                    size::display(self.bytes as f64),
                    size::display(self.bytes as f64 / seconds)
                ),
            ),
            (
                "calls",
                format!(
                    "{} complete, {} failed, {} under way at the end",
                    figures.complete,
                    figures.failed(),
                    figures.stopped
                ),
            ),
        ];
        for (name, histogram) in [("first item", &figures.first_item), ("whole call", &figures.whole)] {
            rows.push((name, percentiles(histogram)));
        }
        let (dialled, lost) = (self.callers.dials_ok, self.callers.dials_failed);
        rows.push((
            "connections",
            format!(
                "{} of {} up, {dialled} dials, {lost} failed",
                self.callers.up, self.callers.connections
            ),
        ));
        let mut text: String = rows
            .into_iter()
            .map(|(name, value)| format!("{name:<12} {value}\n"))
            .collect();
        for (kind, count) in &figures.failures {
            text.push_str(&format!("  failed     {count} {kind}\n"));
        }
        if figures.wrong > 0 {
            text.push_str(&format!("  failed     {} WRONG ITEMS\n", figures.wrong));
        }
        if figures.first_item.len() > 1 {
            text.push_str("\nfirst item\n");
            text.push_str(&bars(&figures.first_item));
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let seconds = self.elapsed.as_secs_f64();
        let figures = &self.figures;
        let summary = |histogram: &Histogram<u64>| {
            json!({
                "p50": histogram.value_at_quantile(0.5),
                "p90": histogram.value_at_quantile(0.9),
                "p99": histogram.value_at_quantile(0.99),
                "max": histogram.max(),
            })
        };
        json!({
            "seconds": seconds,
            "items": self.items,
            "bytes": self.bytes,
            "items_per_second": self.items as f64 / seconds,
            "bytes_per_second": self.bytes as f64 / seconds,
            "complete": figures.complete,
            "failed": figures.failed(),
            "under_way": figures.stopped,
            "wrong": figures.wrong,
            "failures": figures.failures,
            "first_item_us": summary(&figures.first_item),
            "whole_call_us": summary(&figures.whole),
            "connections": self.callers.connections,
            "up": self.callers.up,
            "dials_ok": self.callers.dials_ok,
            "dials_failed": self.callers.dials_failed,
        })
    }
}

/// A line while it runs.
pub(super) fn progress(second: u64, items: u64, callers: &ConnectionsStats, live: &Live) -> String {
    let servers: Vec<String> = callers
        .servers
        .iter()
        .map(|server| {
            let name = server.server.rsplit('/').next().unwrap_or(&server.server);
            format!("{name} {} calls on {}", server.in_flight, server.up)
        })
        .collect();
    format!(
        "{second} s: {} items/s, {} so far; {}",
        short_count(items as f64),
        short_count(live.items() as f64),
        servers.join(", ")
    )
}

fn percentiles(histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return "-".to_owned();
    }
    let at = |quantile| shown(histogram.value_at_quantile(quantile));
    format!(
        "p50 {}, p90 {}, p99 {}, max {}",
        at(0.5),
        at(0.9),
        at(0.99),
        shown(histogram.max())
    )
}

fn shown(micros: u64) -> String {
    time(micros.saturating_mul(1000))
}

/// A bar for each doubling of the time.
fn bars(histogram: &Histogram<u64>) -> String {
    let mut rows: Vec<(u64, u64)> = Vec::new();
    for step in histogram.iter_log(histogram.min().max(1).next_power_of_two(), 2.0) {
        rows.push((step.value_iterated_to() + 1, step.count_since_last_iteration()));
    }
    // The rest of a long tail in one line.
    if rows.len() > BARS {
        let tail: u64 = rows.drain(BARS..).map(|(_, count)| count).sum();
        if let Some(last) = rows.last_mut() {
            *last = (histogram.max(), last.1 + tail);
        }
    }
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let mut text = String::new();
    for (limit, count) in rows {
        let width = (count as f64 / most as f64 * WIDTH as f64).ceil() as usize;
        let share = count as f64 / histogram.len() as f64 * 100.0;
        let bar = "█".repeat(width);
        text.push_str(format!("  < {:>8} {share:>5.1} % {bar}", shown(limit)).trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_has_a_bar_for_each_doubling() {
        let mut histogram = Histogram::<u64>::new(3).expect("valid");
        for (value, count) in [(100, 10), (200, 5), (900, 1)] {
            histogram.record_n(value, count).expect("in range");
        }
        let drawn = bars(&histogram);
        let lengths: Vec<usize> = drawn.lines().map(|line| line.matches('█').count()).collect();
        assert_eq!(lengths, [50, 25, 0, 5], "{drawn}");
        assert!(drawn.starts_with("  <   128 µs  62.5 % "), "{drawn}");
        histogram.record_n(3_600_000_000, 1).expect("in range");
        assert!(bars(&histogram).lines().count() <= BARS);
    }
}
