//! How long things took, each of them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::services::format::time;

/// Times beyond an hour count as an hour.
const LONGEST: u64 = 3_600_000_000;

/// Lines of a drawing, at most.
const BARS: usize = 16;

/// The longest bar, in characters.
const WIDTH: usize = 50;

/// The quantiles that are told, in words and as keys.
const QUANTILES: [(f64, &str, &str); 4] = [
    (0.5, "p50", "p50"),
    (0.9, "p90", "p90"),
    (0.99, "p99", "p99"),
    (0.999, "p99.9", "p999"),
];

/// Times in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Times(Histogram<u64>);

impl Times {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_max(LONGEST, 3);
        Self(histogram.unwrap_or_else(|error| unreachable!("3 digits are allowed: {error}")))
    }

    pub(super) fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros);
    }

    pub(super) fn add(&mut self, other: &Self) {
        let added = self.0.add(&other.0);
        added.unwrap_or_else(|error| unreachable!("all have the same bounds: {error}"));
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    #[cfg(test)]
    pub(super) fn max(&self) -> u64 {
        self.0.max()
    }

    /// `p50 120 µs, …`; `-` when there is none.
    pub(super) fn text(&self) -> String {
        if self.0.is_empty() {
            return "-".to_owned();
        }
        let quantiles = QUANTILES.map(|(quantile, name, _)| format!("{name} {}", micros(self.at(quantile))));
        format!("{}, max {}", quantiles.join(", "), micros(self.0.max()))
    }

    /// In microseconds.
    pub(super) fn json(&self) -> Value {
        let mut json = json!({ "count": self.len(), "max": self.0.max() });
        for (quantile, _, key) in QUANTILES {
            json[key] = json!(self.at(quantile));
        }
        json
    }

    /// A bar for each doubling of the time.
    pub(super) fn bars(&self) -> String {
        let histogram = &self.0;
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
            let share = count as f64 / histogram.len().max(1) as f64 * 100.0;
            let bar = "#".repeat(width);
            text.push_str(format!("  < {:>8} {share:>5.1} % {bar}", micros(limit)).trim_end());
            text.push('\n');
        }
        text
    }
}

/// Microseconds, for people.
pub(super) fn micros(micros: u64) -> String {
    time(micros.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(values: &[(u64, u64)]) -> Times {
        let mut times = Times::new();
        for (micros, count) in values {
            for _ in 0..*count {
                times.record(Duration::from_micros(*micros));
            }
        }
        times
    }

    #[test]
    fn a_histogram_has_a_bar_for_each_doubling() {
        let mut times = times(&[(100, 10), (200, 5), (900, 1)]);
        let drawn = times.bars();
        let lengths: Vec<usize> = drawn.lines().map(|line| line.matches('#').count()).collect();
        assert_eq!(lengths, [50, 25, 0, 5], "{drawn}");
        assert!(drawn.starts_with("  <   128 µs  62.5 % #"), "{drawn}");
        times.record(Duration::from_secs(7200));
        assert!((LONGEST..LONGEST + LONGEST / 1000).contains(&times.max()));
        assert!(times.bars().lines().count() <= BARS);
    }

    #[test]
    fn nothing_has_no_quantiles_and_no_bars_of_length() {
        let none = Times::new();
        assert_eq!(none.text(), "-");
        assert!(!none.bars().contains('#'));
    }

    #[test]
    fn histograms_add_up() {
        let mut sum = times(&[(100, 990)]);
        sum.add(&times(&[(5000, 10)]));
        let json = sum.json();
        assert_eq!(
            (&json["count"], &json["p50"], &json["p90"]),
            (&json!(1000), &json!(100), &json!(100))
        );
        assert!(
            json["p999"].as_u64() >= Some(5000) && json["max"].as_u64() >= Some(5000),
            "{json}"
        );
        assert!(sum.text().starts_with("p50 100 µs, p90 100 µs, p99 "), "{}", sum.text());
    }
}
