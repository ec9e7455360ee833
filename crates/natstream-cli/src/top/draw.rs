//! Puts the view on the screen.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Paragraph, Row as TableRow, Table};

use super::view::{Line, Sort, View};
use crate::services::format::{self, cell, short_count, time};
use crate::size;

/// Blanks between two columns.
const GAP: u16 = 2;

/// Letters of an id: enough to tell instances apart.
const ID: usize = 8;

/// A column of the table.
struct Column {
    heading: &'static str,
    width: u16,
    /// The columns with the lowest ranks are shown, of equal ones the first; others when there is room for all up to them.
    rank: u8,
    is_right: bool,
    content: fn(&Line) -> String,
}

const COLUMNS: [Column; 18] = [
    left("NAME", 18, 2, |line| cell(&line.row.name)),
    left("ID", 8, 13, |line| {
        cell(&line.row.id.chars().take(ID).collect::<String>())
    }),
    left("SUBJECT", 24, 0, |line| cell(&line.row.subject)),
    right("ACTIVE", 7, 1, |line| short_count(line.row.active as f64)),
    right("QUEUED", 7, 10, |line| short_count(line.row.queued as f64)),
    right("CALLS", 7, 6, |line| short_count(line.row.calls as f64)),
    right(format::FOREIGN, 7, 6, |line| short_count(line.row.foreign as f64)),
    right("ITEMS/S", 8, 3, |line| line.items_rate.map_or_else(dash, short_count)),
    right("BYTES/S", 10, 4, |line| {
        line.bytes_rate.map_or_else(dash, size::display)
    }),
    right("ITEMS", 7, 11, |line| short_count(line.row.items as f64)),
    right("BYTES", 10, 12, |line| size::display(line.row.bytes as f64)),
    right("FAILED", 7, 5, |line| short_count(line.row.failed as f64)),
    right("CANCELLED", 9, 9, |line| short_count(line.row.cancelled as f64)),
    right("REFUSED", 7, 7, |line| short_count(line.row.refused as f64)),
    right(format::DENIED, 7, 5, |line| short_count(line.row.denied as f64)),
    right("RESENT", 7, 14, |line| short_count(line.row.retransmitted as f64)),
    right("STALLED", 9, 8, |line| time(line.row.stalled_ns)),
    right("AVERAGE", 9, 15, |line| time(line.row.average_ns)),
];

const fn left(heading: &'static str, width: u16, rank: u8, content: fn(&Line) -> String) -> Column {
    Column {
        heading,
        width,
        rank,
        is_right: false,
        content,
    }
}

const fn right(heading: &'static str, width: u16, rank: u8, content: fn(&Line) -> String) -> Column {
    Column {
        heading,
        width,
        rank,
        is_right: true,
        content,
    }
}

fn dash() -> String {
    "-".to_owned()
}

/// Draws everything, and tells the view how many lines there was room for.
pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    // One line is the headings'.
    view.fit(usize::from(body.height.saturating_sub(1)));
    frame.render_widget(Paragraph::new(header(view)), head);
    frame.render_widget(Paragraph::new(footer(view)), foot);

    let columns = columns(body.width, &view.lines);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let headings = columns.iter().map(|column| aligned(column, column.heading.to_owned()));
    let rows = view.lines.iter().skip(view.first).take(view.page);
    let rows = rows.map(|line| TableRow::new(columns.iter().map(|column| aligned(column, (column.content)(line)))));
    let widths = columns.iter().map(|column| match column.is_right {
        true => Constraint::Length(column.width),
        // Texts share what is left.
        false => Constraint::Min(column.width),
    });
    let table = Table::new(rows, widths)
        .header(TableRow::new(headings).style(bold))
        .column_spacing(GAP);
    frame.render_widget(table, body);
}

fn aligned(column: &Column, text: String) -> Text<'static> {
    let alignment = match column.is_right {
        true => Alignment::Right,
        false => Alignment::Left,
    };
    Text::from(text).alignment(alignment)
}

/// Those that there is room for, in their order.
fn columns(width: u16, lines: &[Line]) -> Vec<&'static Column> {
    static ALL: [Column; COLUMNS.len()] = COLUMNS;
    let rows = || lines.iter().map(|line| &line.row);
    let wanted = ALL.iter().enumerate();
    let mut wanted: Vec<_> = wanted
        .filter(|(_, column)| format::is_wanted(column.heading, rows()))
        .collect();
    wanted.sort_by_key(|(_, column)| column.rank);
    let mut used = 0;
    let mut fits = |column: &Column| {
        used += column.width + GAP;
        // The first has no gap before it.
        used - GAP <= width
    };
    let shown = wanted.iter().take_while(|(_, column)| fits(column)).count();
    // One column is shown in any case.
    wanted.truncate(shown.max(1));
    wanted.sort_by_key(|(place, _)| *place);
    wanted.into_iter().map(|(_, column)| column).collect()
}

fn header(view: &View) -> Text<'static> {
    let what = match (view.is_connected, view.is_asked, view.lines.len()) {
        (false, ..) => "the connection is lost; reconnecting".to_owned(),
        (true, false, _) => "asking".to_owned(),
        (true, true, 0) => "no streaming endpoint answers".to_owned(),
        (true, true, lines) => format!("{lines} endpoints, {} services", view.services),
    };
    let interval = humantime::format_duration(view.interval);
    Text::from(vec![
        Span::styled("natstream top", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!("  {}  every {interval}  {what}", cell(&view.server))),
    ])
}

fn footer(view: &View) -> Text<'static> {
    let mut spans = vec![Span::raw("q quit  sort:")];
    for (key, sort, word) in Sort::ALL {
        let style = match sort == view.sort {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        spans.push(Span::raw(" "));
        spans.push(Span::styled(format!("{key} {word}"), style));
    }
    if view.lines.len() > view.page {
        let last = (view.first + view.page).min(view.lines.len());
        spans.push(Span::raw(format!(
            "  {}-{last} of {}",
            view.first + 1,
            view.lines.len()
        )));
    }
    Text::from(spans)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::clock::now;
    use crate::services::{Gathered, Row};

    fn row(name: &str, items: u64) -> Row {
        Row {
            name: name.to_owned(),
            id: "abcdefghijklmnop".to_owned(),
            subject: format!("{name}.search"),
            calls: 12,
            active: 3,
            items,
            bytes: items * 1000,
            stalled_ns: 1_500_000,
            average_ns: 2_100_000,
            ..Row::default()
        }
    }

    fn view(rows: &[Row], later: &[Row]) -> View {
        let mut view = View::new("nats://127.0.0.1:4222".to_owned(), Duration::from_secs(1));
        let start = now();
        for (rows, at) in [(rows, start), (later, start + Duration::from_secs(1))] {
            view.update(Gathered {
                rows: rows.iter().map(|row| (row.clone(), at)).collect(),
                services: rows.len(),
            });
        }
        view
    }

    /// The screen, line by line.
    fn shown(view: &mut View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
        terminal.draw(|frame| draw(frame, view)).expect("drawn");
        let buffer = terminal.backend().buffer();
        let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| line(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn a_wide_screen_shows_everything() {
        let mut view = view(&[row("orders", 100)], &[row("orders", 350)]);
        let lines = shown(&mut view, 220, 5);
        assert_eq!(
            lines[0],
            "natstream top  nats://127.0.0.1:4222  every 1s  1 endpoints, 1 services"
        );
        let usual = COLUMNS.iter();
        for column in usual.filter(|column| ![format::FOREIGN, format::DENIED].contains(&column.heading)) {
            assert!(
                lines[1].contains(column.heading),
                "{} is not in {lines:#?}",
                column.heading
            );
        }
        let words: Vec<_> = lines[2].split_whitespace().collect();
        let expected = "orders abcdefgh orders.search 3 0 12 250 244.1 KiB 350 341.8 KiB 0 0 0 0 1.5 ms 2.1 ms";
        assert_eq!(words.join(" "), expected);
        assert!(lines[4].starts_with("q quit  sort: n name"));
    }

    #[test]
    fn a_narrow_screen_shows_what_matters_most() {
        let mut view = view(&[], &[row("orders", 1)]);
        let lines = shown(&mut view, 80, 4);
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            ["NAME", "SUBJECT", "ACTIVE", "ITEMS/S", "BYTES/S"]
        );
        assert_eq!(
            lines[2].split_whitespace().collect::<Vec<_>>(),
            ["orders", "orders.search", "3", "-", "-"]
        );
    }

    #[test]
    fn what_is_rare_has_a_column_where_there_is_some() {
        let rare = Row {
            foreign: 2_000_000,
            denied: 4,
            ..row("orders", 1)
        };
        let mut view = view(&[], &[rare, row("prices", 1)]);
        let lines = shown(&mut view, 240, 5);
        for (heading, content) in [(format::FOREIGN, "2.0M"), (format::DENIED, "4")] {
            // A column of numbers ends where its heading ends.
            let end = lines[1].find(heading).expect("a heading") + heading.len();
            assert!(lines[2][..end].ends_with(&format!("  {content}")), "{lines:#?}");
            assert!(lines[3][..end].ends_with("  0"), "{lines:#?}");
        }
        // What was denied is told before what is merely interesting.
        let narrow = shown(&mut view, 100, 5);
        assert!(
            narrow[1].contains(format::DENIED) && !narrow[1].contains("CALLS"),
            "{narrow:#?}"
        );
    }

    #[test]
    fn no_size_of_the_screen_panics() {
        let rows: Vec<_> = (0..10).map(|number| row(&format!("s{number}"), 1)).collect();
        let mut view = view(&rows, &rows);
        for width in [1, 2, 10, 25, 33, 1000] {
            for height in [1, 2, 3, 4, 100] {
                shown(&mut view, width, height);
            }
        }
        let lines = shown(&mut view, 120, 6);
        assert!(lines[5].ends_with("1-3 of 10"), "{lines:#?}");
    }

    #[test]
    fn strangers_do_not_reach_the_terminal_raw() {
        let hostile = Row {
            name: "\u{1b}[2J\u{7}\n\u{9b}31m".to_owned(),
            id: "\u{1b}]0;x\u{7}".to_owned(),
            subject: "\u{202e}evil\t".repeat(1000),
            items: u64::MAX,
            stalled_ns: u64::MAX,
            ..Row::default()
        };
        let mut view = view(&[Row::default()], &[hostile]);
        for line in shown(&mut view, 200, 5) {
            assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        }
    }

    #[test]
    fn the_header_tells_when_there_is_nothing_to_show() {
        let mut view = View::new(String::new(), Duration::from_secs(1));
        assert!(shown(&mut view, 80, 3)[0].ends_with("asking"));
        view.update(Gathered::default());
        assert!(shown(&mut view, 80, 3)[0].ends_with("no streaming endpoint answers"));
        view.is_connected = false;
        assert!(shown(&mut view, 80, 3)[0].ends_with("reconnecting"));
    }
}
