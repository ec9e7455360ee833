//! What is shown: the latest answers, their rates, and in which order.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::services::{Gathered, Row};

/// By what the rows are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Name,
    Active,
    Items,
    Bytes,
    Failed,
    Stalled,
}

impl Sort {
    pub(super) const ALL: [(char, Self, &'static str); 6] = [
        ('n', Self::Name, "name"),
        ('a', Self::Active, "active"),
        ('i', Self::Items, "items/s"),
        ('b', Self::Bytes, "bytes/s"),
        ('f', Self::Failed, "failed"),
        ('s', Self::Stalled, "stalled"),
    ];

    /// The larger, the further up.
    fn weight(self, line: &Line) -> f64 {
        match self {
            Self::Name => 0.0,
            Self::Active => line.row.active as f64,
            Self::Items => line.items_rate.unwrap_or(0.0),
            Self::Bytes => line.bytes_rate.unwrap_or(0.0),
            Self::Failed => line.row.failed as f64,
            Self::Stalled => line.row.stalled_ns as f64,
        }
    }
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) row: Row,
    /// Items a second since the answer before; `None` for an endpoint that is new.
    pub(super) items_rate: Option<f64>,
    pub(super) bytes_rate: Option<f64>,
    arrived: Instant,
}

/// What is to be done after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Draw,
    Quit,
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct View {
    pub(super) server: String,
    pub(super) interval: Duration,
    pub(super) is_connected: bool,
    /// False until the first answers were gathered.
    pub(super) is_asked: bool,
    pub(super) lines: Vec<Line>,
    pub(super) services: usize,
    pub(super) sort: Sort,
    /// The first line that is shown.
    pub(super) first: usize,
    /// Lines that fit into the terminal.
    pub(super) page: usize,
}

impl View {
    pub(super) fn new(server: String, interval: Duration) -> Self {
        Self {
            server,
            interval,
            is_connected: true,
            is_asked: false,
            lines: Vec::new(),
            services: 0,
            sort: Sort::default(),
            first: 0,
            page: 1,
        }
    }

    /// Takes new answers in the place of the old ones. While the connection is down, the old ones stay.
    pub(super) fn update(&mut self, gathered: Gathered) {
        if !self.is_connected && gathered.services == 0 {
            return;
        }
        let before: HashMap<_, _> = self.lines.iter().map(|line| (line.row.key(), line)).collect();
        let lines = gathered
            .rows
            .into_iter()
            .map(|(row, arrived)| {
                let rates = before.get(&row.key()).map(|old| {
                    let time = arrived.saturating_duration_since(old.arrived);
                    [(old.row.items, row.items), (old.row.bytes, row.bytes)].map(|(old, new)| rate(old, new, time))
                });
                Line {
                    items_rate: rates.map(|[items, _]| items),
                    bytes_rate: rates.map(|[_, bytes]| bytes),
                    row,
                    arrived,
                }
            })
            .collect();
        self.lines = lines;
        self.services = gathered.services;
        self.is_asked = true;
        self.arrange();
    }

    pub(super) fn handle(&mut self, event: &Event) -> Action {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.handle_key(key),
            _ => Action::Draw,
        }
    }

    fn handle_key(&mut self, key: &KeyEvent) -> Action {
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Action::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return Action::Quit,
            KeyCode::Char(c) => {
                if let Some((_, sort, _)) = Sort::ALL.into_iter().find(|(key, ..)| *key == c) {
                    self.sort = sort;
                    self.first = 0;
                    self.arrange();
                }
            }
            KeyCode::Up => self.first = self.first.saturating_sub(1),
            KeyCode::Down => self.first = self.first.saturating_add(1),
            KeyCode::PageUp => self.first = self.first.saturating_sub(self.page),
            KeyCode::PageDown => self.first = self.first.saturating_add(self.page),
            KeyCode::Home => self.first = 0,
            KeyCode::End => self.first = self.lines.len(),
            _ => {}
        }
        Action::Draw
    }

    /// `page` lines fit; no line is shown beyond the last.
    pub(super) fn fit(&mut self, page: usize) {
        self.page = page.max(1);
        self.first = self.first.min(self.lines.len().saturating_sub(self.page));
    }

    fn arrange(&mut self) {
        let sort = self.sort;
        self.lines.sort_by(|a, b| {
            let weights = sort.weight(b).total_cmp(&sort.weight(a));
            weights.then_with(|| a.row.key().cmp(&b.row.key()))
        });
    }
}

/// How fast a counter grows, each second. One that fell begins again: a stranger may say anything.
fn rate(old: u64, new: u64, time: Duration) -> f64 {
    match time.as_secs_f64() {
        0.0 => 0.0,
        seconds => new.saturating_sub(old) as f64 / seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    fn row(name: &str, items: u64) -> Row {
        Row {
            name: name.to_owned(),
            items,
            bytes: items.saturating_mul(100),
            ..Row::default()
        }
    }

    fn gathered(rows: &[Row], at: Instant) -> Gathered {
        Gathered {
            rows: rows.iter().map(|row| (row.clone(), at)).collect(),
            services: rows.len(),
        }
    }

    fn view() -> View {
        View::new("nats://127.0.0.1:4222".to_owned(), Duration::from_secs(1))
    }

    fn press(view: &mut View, code: KeyCode) -> Action {
        view.handle(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    fn names(view: &View) -> Vec<&str> {
        view.lines.iter().map(|line| line.row.name.as_str()).collect()
    }

    #[test]
    fn rates_are_differences_over_the_time_between() {
        let (start, mut view) = (now(), view());
        view.update(gathered(&[row("a", 100)], start));
        assert_eq!((view.lines[0].items_rate, view.lines[0].bytes_rate), (None, None));
        let later = start + Duration::from_millis(500);
        view.update(gathered(&[row("a", 150), row("b", 7)], later));
        assert_eq!(
            (view.lines[0].items_rate, view.lines[0].bytes_rate),
            (Some(100.0), Some(10_000.0))
        );
        assert_eq!(view.lines[1].items_rate, None, "it is new");
    }

    #[test]
    fn numbers_of_strangers_make_no_rate_that_is_no_number() {
        for (old, new, millis, expected) in [
            (u64::MAX, 0, 1000, 0.0),
            (0, 10, 0, 0.0),
            (0, u64::MAX, 1000, u64::MAX as f64),
            (10, 10, 1000, 0.0),
        ] {
            assert_eq!(rate(old, new, Duration::from_millis(millis)), expected);
        }
        // One that answers twice, and one that goes back in time.
        let (start, mut view) = (now(), view());
        let twice = [row("a", u64::MAX), row("a", 0)];
        view.update(gathered(&twice, start + Duration::from_secs(1)));
        view.update(gathered(&twice, start));
        assert!(view.lines.iter().all(|line| line.items_rate == Some(0.0)));
    }

    #[test]
    fn keys_sort_and_end() {
        let (start, mut view) = (now(), view());
        let (mut busy, mut broken) = (row("busy", 0), row("broken", 5));
        (busy.active, broken.failed) = (3, 9);
        view.update(gathered(&[broken.clone(), busy.clone()], start));
        busy.items = 500;
        view.update(gathered(&[broken, busy], start + Duration::from_secs(1)));
        for (key, first) in [
            ('i', "busy"),
            ('f', "broken"),
            ('a', "busy"),
            ('n', "broken"),
            ('x', "broken"),
        ] {
            assert_eq!(press(&mut view, KeyCode::Char(key)), Action::Draw);
            assert_eq!(names(&view)[0], first, "{key}");
        }
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(&mut view, code), Action::Quit);
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.handle(&Event::Key(interrupt)), Action::Quit);
        assert_eq!(press(&mut view, KeyCode::Char('c')), Action::Draw);
    }

    #[test]
    fn scrolling_ends_at_the_last_line() {
        let mut view = view();
        let rows: Vec<_> = (10..30).map(|number| row(&number.to_string(), 0)).collect();
        view.update(gathered(&rows, now()));
        view.fit(5);
        for (code, first) in [
            (KeyCode::Up, 0),
            (KeyCode::Down, 1),
            (KeyCode::PageDown, 6),
            (KeyCode::End, 15),
            (KeyCode::PageDown, 15),
            (KeyCode::PageUp, 10),
            (KeyCode::Home, 0),
        ] {
            press(&mut view, code);
            view.fit(5);
            assert_eq!(view.first, first, "{code:?}");
        }
    }

    #[test]
    fn an_outage_leaves_the_last_answers() {
        let mut view = view();
        view.update(gathered(&[row("a", 1)], now()));
        view.is_connected = false;
        view.update(Gathered::default());
        assert_eq!(names(&view), ["a"]);
        view.is_connected = true;
        view.update(Gathered::default());
        assert!(view.lines.is_empty(), "it has gone");
    }
}
