use std::collections::BTreeSet;

use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use super::table::{Kind, Row, Table, level, total};
use super::*;

/// The row of the page for this metric.
fn written(row: &Row) -> String {
    let kind = match row.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let labels: Vec<String> = row.labels.iter().map(|label| format!("`{label}`")).collect();
    let unit = row.unit.as_str();
    format!(
        "| `{}` | {kind} | {unit} | {} | {} |",
        row.name,
        labels.join(", "),
        row.help
    )
}

#[test]
#[cfg(all(
    feature = "client",
    feature = "recorder",
    feature = "server",
    feature = "sinks",
    feature = "spool"
))]
fn the_page_lists_all_metrics_and_no_others() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/observability.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let listed: BTreeSet<&str> = page.lines().filter(|line| line.starts_with("| `natstream_")).collect();
    let rows: Vec<String> = rows().iter().map(written).collect();
    let expected: BTreeSet<&str> = rows.iter().map(String::as_str).collect();
    assert_eq!(
        listed,
        expected,
        "the rows that the page should have:\n{}",
        rows.join("\n")
    );
}

#[test]
fn names_say_what_metrics_are() {
    for row in rows() {
        assert!(row.name.starts_with("natstream_"), "{row:?}");
        assert_eq!(row.name.ends_with("_total"), row.kind == Kind::Counter, "{row:?}");
        let is_in_name = match row.unit {
            ::metrics::Unit::Count => true,
            unit => row.name.contains(unit.as_str()),
        };
        assert!(is_in_name, "{row:?}");
        assert!(row.help.ends_with('.'), "{row:?}");
    }
}

#[test]
fn figures_reach_the_recorder_with_their_labels() {
    const TABLE: Table<u64> = Table {
        labels: &["thing"],
        metrics: &[
            total("natstream_test_total", ::metrics::Unit::Count, "A counter.", |s| *s),
            level("natstream_test", ::metrics::Unit::Count, "A gauge.", |s| *s as f64),
        ],
    };
    let recorder = DebuggingRecorder::new();
    let seen = recorder.snapshotter();
    ::metrics::with_local_recorder(&recorder, || {
        TABLE.rows().for_each(|row| row.describe());
        TABLE.tell(&["a"], &3);
        TABLE.tell(&["a"], &7);
        TABLE.tell(&["b"], &1);
    });
    let mut values: Vec<_> = seen
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, help, value)| {
            let (kind, key) = key.into_parts();
            let label = key.labels().next().expect("a label").value().to_owned();
            assert!(help.is_some(), "{key}");
            match value {
                DebugValue::Counter(value) => (kind, label, value),
                DebugValue::Gauge(value) => (kind, label, value.into_inner() as u64),
                DebugValue::Histogram(_) => unreachable!("there is none"),
            }
        })
        .collect();
    values.sort();
    let expected = [
        (MetricKind::Counter, "a".to_owned(), 7),
        (MetricKind::Counter, "b".to_owned(), 1),
        (MetricKind::Gauge, "a".to_owned(), 7),
        (MetricKind::Gauge, "b".to_owned(), 1),
    ];
    assert_eq!(values, expected);
}
