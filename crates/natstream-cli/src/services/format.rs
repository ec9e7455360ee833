//! How endpoints are shown to people. Every text is a stranger's.

use std::time::Duration;

use serde_json::Value;

use super::Row;
use crate::exit::printable;
use crate::size;

/// Longest text in a table, in characters.
const MAX_CELL: usize = 64;

/// The columns of the list: heading, content, and whether it stands at the right.
type Column = (&'static str, fn(&Row) -> String, bool);

const COLUMNS: [Column; 19] = [
    ("NAME", |row| cell(&row.name), false),
    ("VERSION", |row| cell(&row.version), false),
    ("ID", |row| cell(&row.id), false),
    ("ENDPOINT", |row| cell(&row.endpoint), false),
    ("SUBJECT", |row| cell(&row.subject), false),
    ("QUEUE", |row| cell(&row.queue), false),
    ("CALLS", |row| row.calls.to_string(), true),
    (FOREIGN, |row| row.foreign.to_string(), true),
    ("ACTIVE", |row| row.active.to_string(), true),
    ("QUEUED", |row| row.queued.to_string(), true),
    ("ITEMS", |row| row.items.to_string(), true),
    ("BYTES", |row| size::display(row.bytes as f64), true),
    ("FAILED", |row| row.failed.to_string(), true),
    ("CANCELLED", |row| row.cancelled.to_string(), true),
    ("REFUSED", |row| row.refused.to_string(), true),
    (DENIED, |row| row.denied.to_string(), true),
    ("RESENT", |row| row.retransmitted.to_string(), true),
    ("STALLED", |row| time(row.stalled_ns), true),
    ("AVERAGE", |row| time(row.average_ns), true),
];

/// The headings of columns that are there only where one of the rows has something in them.
pub(crate) const FOREIGN: &str = "FOREIGN";
pub(crate) const DENIED: &str = "DENIED";

/// Is the column of this heading worth its room?
pub(crate) fn is_wanted<'a>(heading: &str, rows: impl IntoIterator<Item = &'a Row>) -> bool {
    let mut rows = rows.into_iter();
    match heading {
        FOREIGN => rows.any(|row| row.foreign > 0),
        DENIED => rows.any(|row| row.denied > 0),
        _ => true,
    }
}

/// A table with a line for each row, and one above them; each line ends.
pub(crate) fn table<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let columns: Vec<_> = COLUMNS
        .into_iter()
        .filter(|(heading, ..)| is_wanted(heading, rows.iter().copied()))
        .collect();
    let line = |cell: &dyn Fn(&Column) -> String| columns.iter().map(cell).collect::<Vec<_>>();
    let mut lines = vec![line(&|(heading, ..)| (*heading).to_owned())];
    lines.extend(rows.iter().map(|row| line(&|(_, content, _)| content(row))));
    let mut widths = vec![0; columns.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for ((cell, &width), (.., is_right)) in line.iter().zip(&widths).zip(&columns) {
            match is_right {
                true => text.push_str(&format!("{cell:>width$}  ")),
                false => text.push_str(&format!("{cell:<width$}  ")),
            }
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// A text on one line, not too long, and harmless for a terminal; `-` when there is none.
pub(crate) fn cell(text: &str) -> String {
    let text = printable(text).replace('\t', " ");
    let text: String = text
        .chars()
        .map(|c| {
            if is_invisible(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect();
    match text.char_indices().nth(MAX_CELL) {
        _ if text.trim().is_empty() => "-".to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// `value` on one line. JSON allows some control characters as they are, and a terminal may obey them.
pub(crate) fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        match c {
            // All of these are in the first plane, where four digits do.
            c if c.is_control() || is_invisible(c) => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
    line
}

/// Is it a character that changes how others are shown: their direction, their joining, lines?
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// A length of time in two or three digits: `812 µs`, `2.1 ms`, `4.2 s`, `3.5 min`.
pub(crate) fn time(nanos: u64) -> String {
    let seconds = Duration::from_nanos(nanos).as_secs_f64();
    match seconds {
        0.0 => "0".to_owned(),
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.1} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

/// A number for a narrow column: `999999`, `1.0M`, `18.4E`.
pub(crate) fn short_count(count: f64) -> String {
    if count < 1e6 {
        return format!("{count:.0}");
    }
    let (unit, power) = [('M', 1e6), ('G', 1e9), ('T', 1e12), ('P', 1e15), ('E', 1e18)]
        .into_iter()
        .rfind(|(_, power)| count >= *power)
        .unwrap_or(('M', 1e6));
    format!("{:.1}{unit}", count / power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let row = Row {
            name: "orders".to_owned(),
            subject: "orders.search".to_owned(),
            calls: 12_345_678,
            bytes: 1536,
            average_ns: 2_100_000,
            ..Row::default()
        };
        let table = table([&row, &Row::default()]);
        let expected = "\
NAME    VERSION  ID  ENDPOINT  SUBJECT        QUEUE     CALLS  ACTIVE  QUEUED  ITEMS    BYTES  FAILED  CANCELLED  REFUSED  RESENT  STALLED  AVERAGE
orders  -        -   -         orders.search  -      12345678       0       0      0  1.5 KiB       0          0        0       0        0   2.1 ms
-       -        -   -         -              -             0       0       0      0      0 B       0          0        0       0        0        0
";
        assert_eq!(table, expected);
    }

    #[test]
    fn what_is_rare_has_a_column_where_there_is_some() {
        let headings = |rows: &[Row]| {
            let table = table(rows);
            let headings = table.lines().next().unwrap_or_default();
            [FOREIGN, DENIED].map(|heading| headings.split_whitespace().any(|word| word == heading))
        };
        let (foreign, denied) = (
            Row {
                foreign: 3,
                ..Row::default()
            },
            Row {
                denied: 1,
                ..Row::default()
            },
        );
        assert_eq!(headings(&[Row::default()]), [false, false]);
        assert_eq!(headings(&[Row::default(), foreign.clone()]), [true, false]);
        assert_eq!(headings(std::slice::from_ref(&denied)), [false, true]);
        let table = table(&[foreign, denied]);
        let words = |line: usize| {
            table
                .lines()
                .nth(line)
                .unwrap_or_default()
                .split_whitespace()
                .collect::<Vec<_>>()
        };
        let place = |heading| words(0).iter().position(|word| *word == heading);
        let (foreign, denied) = (place(FOREIGN).expect("there"), place(DENIED).expect("there"));
        // Sizes are two words.
        assert_eq!((words(1)[foreign], words(1)[denied + 1]), ("3", "0"));
        assert_eq!((words(2)[foreign], words(2)[denied + 1]), ("0", "1"));
    }

    #[test]
    fn nothing_of_a_stranger_reaches_the_terminal_raw() {
        let hostile = "\u{1b}[2J\u{7}\r\n\t\u{9b}31m\u{202e}\u{200b}\u{2028}é";
        let row = Row {
            name: hostile.to_owned(),
            subject: "x".repeat(1000),
            queue: "\t \t".to_owned(),
            errors: vec![(hostile.to_owned(), u64::MAX)],
            last_error: hostile.to_owned(),
            items: u64::MAX,
            bytes: u64::MAX,
            stalled_ns: u64::MAX,
            ..Row::default()
        };
        let is_harmless = |text: &str| !text.chars().any(|c| (c.is_control() && c != '\n') || is_invisible(c));
        let table = table([&row]);
        assert!(is_harmless(&table) && table.lines().count() == 2, "{table:?}");
        assert!(table.lines().all(|line| line.chars().count() < 600), "{table}");
        let line = json_line(&row.json());
        assert!(is_harmless(&line) && !line.contains('\n'), "{line:?}");
        let back: Value = serde_json::from_str(&line).expect("it is JSON");
        assert_eq!(back, row.json(), "nothing is lost");
    }

    #[test]
    fn times_and_numbers_are_short() {
        for (nanos, text) in [
            (0, "0"),
            (812_000, "812 µs"),
            (2_100_000, "2.1 ms"),
            (4_200_000_000, "4.2 s"),
            (210_000_000_000, "3.5 min"),
            (9_000_000_000_000, "2.5 h"),
            (u64::MAX, "213504.0 d"),
        ] {
            assert_eq!(time(nanos), text);
        }
        for (count, text) in [
            (0.0, "0"),
            (999_999.0, "999999"),
            (1e6, "1.0M"),
            (2.34e9, "2.3G"),
            (u64::MAX as f64, "18.4E"),
            (f64::INFINITY, "infE"),
        ] {
            assert_eq!(short_count(count), text);
        }
    }
}
