//! Figures in lines: a table for people, an object of each line for scripts.

use serde_json::{Map, Value, json};

use super::histogram::micros;
use super::spent::Spent;
use crate::services::format::short_count;
use crate::size;

/// One line. Each figure has a heading for people and a key for scripts.
#[derive(Debug)]
pub(super) struct Row {
    cells: Vec<Cell>,
    json: Map<String, Value>,
}

#[derive(Debug)]
struct Cell {
    heading: &'static str,
    text: String,
    is_right: bool,
}

impl Row {
    /// A line of `natstream bench NAME`.
    pub(super) fn new(name: &str) -> Self {
        let mut json = Map::new();
        json.insert("bench".to_owned(), json!(name));
        Self {
            cells: Vec::new(),
            json,
        }
    }

    pub(super) fn text(mut self, heading: &'static str, key: &str, text: &str) -> Self {
        self.cells.push(Cell {
            heading,
            text: text.to_owned(),
            is_right: false,
        });
        self.json_only(key, text)
    }

    pub(super) fn count(self, heading: &'static str, key: &str, count: u64) -> Self {
        self.cell(heading, count.to_string()).json_only(key, count)
    }

    /// So many a second.
    pub(super) fn rate(self, heading: &'static str, key: &str, rate: f64) -> Self {
        self.cell(heading, short_count(rate)).json_only(key, rate)
    }

    /// Microseconds.
    pub(super) fn micros(self, heading: &'static str, key: &str, time: u64) -> Self {
        self.cell(heading, micros(time)).json_only(key, time)
    }

    /// Time, data and processor time of so many, which are `bytes` together.
    pub(super) fn spent(self, spent: &Spent, count: u64, bytes: u64) -> Self {
        let data = spent.per_second(bytes);
        let (each, processors) = (spent.cpu_of_each(count), spent.processors());
        self.cell("DATA/S", size::display(data))
            .json_only("bytes_per_second", data)
            .cell("CPU EACH", cost(each))
            .json_only("cpu_ns_each", each)
            .cell("CPUS", format!("{processors:.2}"))
            .json_only("cpu_seconds", spent.cpu.as_secs_f64())
            .cell("SECONDS", format!("{:.2}", spent.time.as_secs_f64()))
            .json_only("seconds", spent.time.as_secs_f64())
    }

    /// What only scripts are told.
    pub(super) fn json_only(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.json.insert(key.to_owned(), value.into());
        self
    }

    fn cell(mut self, heading: &'static str, text: String) -> Self {
        self.cells.push(Cell {
            heading,
            text,
            is_right: true,
        });
        self
    }
}

/// Processor time, in nanoseconds.
pub(super) fn cost(nanos: Option<f64>) -> String {
    let Some(nanos) = nanos else {
        return "-".to_owned();
    };
    match nanos {
        nanos if nanos < 1e3 => format!("{nanos:.0} ns"),
        nanos if nanos < 1e6 => format!("{:.2} µs", nanos / 1e3),
        nanos => format!("{:.1} ms", nanos / 1e6),
    }
}

/// The lines as they are printed; all have the same headings.
pub(super) fn text(rows: &[Row], is_json: bool) -> String {
    if is_json {
        return rows.iter().map(|row| format!("{}\n", json!(row.json))).collect();
    }
    let Some(first) = rows.first() else {
        return String::new();
    };
    let headings = first.cells.iter().map(|cell| (cell.heading, cell.is_right)).collect();
    let mut lines: Vec<Vec<(&str, bool)>> = vec![headings];
    lines.extend(rows.iter().map(|row| {
        let cells = row.cells.iter();
        cells.map(|cell| (cell.text.as_str(), cell.is_right)).collect()
    }));
    let mut widths = vec![0; first.cells.len()];
    for line in &lines {
        for (width, (text, _)) in widths.iter_mut().zip(line) {
            *width = text.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for line in &lines {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|((text, is_right), width)| match is_right {
                true => format!("{text:>width$}"),
                false => format!("{text:<width$}"),
            });
        let cells: Vec<String> = cells.collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rows() -> Vec<Row> {
        let spent = Spent {
            time: Duration::from_secs(2),
            cpu: Duration::from_secs(1),
        };
        [("memory", 1_000_000_u64), ("file", 50)]
            .map(|(storage, count)| {
                Row::new("bus")
                    .text("STORAGE", "storage", storage)
                    .count("EVENTS", "count", count)
                    .rate("EVENTS/S", "events_per_second", spent.per_second(count))
                    .spent(&spent, count, 1024 * count)
                    .micros("P50", "p50_us", 120)
                    .json_only("retried", 0)
            })
            .into()
    }

    #[test]
    fn a_table_is_aligned() {
        let expected = "\
STORAGE   EVENTS  EVENTS/S     DATA/S  CPU EACH  CPUS  SECONDS     P50
memory   1000000    500000  488.3 MiB   1.00 µs  0.50     2.00  120 µs
file          50        25   25.0 KiB   20.0 ms  0.50     2.00  120 µs
";
        assert_eq!(text(&rows(), false), expected);
        assert_eq!(text(&[], false), "");
    }

    #[test]
    fn each_line_is_an_object() {
        let text = text(&rows(), true);
        let objects: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(objects.len(), 2);
        let expected = json!({
            "bench": "bus", "storage": "file", "count": 50, "events_per_second": 25.0, "bytes_per_second": 25_600.0,
            "cpu_ns_each": 2e7, "cpu_seconds": 1.0, "seconds": 2.0, "p50_us": 120, "retried": 0,
        });
        assert_eq!(objects[1], expected);
    }

    #[test]
    fn processor_time_is_shown_in_its_unit() {
        let shown = [Some(59.4), Some(1551.0), Some(2.5e6), None].map(cost);
        assert_eq!(shown, ["59 ns", "1.55 µs", "2.5 ms", "-"]);
    }
}
