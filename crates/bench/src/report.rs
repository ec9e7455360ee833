//! What a module reports: tables of medians, and plots, in one shape for people, machines and the page.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::machine::Origin;

/// The rounds of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one figure.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[middle]
        } else {
            f64::midpoint(figures[middle - 1], figures[middle])
        };
        Self {
            median,
            min: figures[0],
            max: figures[figures.len() - 1],
        }
    }

    /// A figure of each round, in another unit.
    pub(crate) fn by<R>(rounds: &[R], factor: f64, figure: impl Fn(&R) -> f64) -> Self {
        Self::of(rounds.iter().map(|round| figure(round) * factor))
    }

    /// How many times as large as theirs ours is, round by round.
    pub(crate) fn ratio<R>(ours: &[R], theirs: &[R], figure: impl Fn(&R) -> f64) -> Self {
        Self::of(
            ours.iter()
                .zip(theirs)
                .map(|(ours, theirs)| figure(ours) / figure(theirs)),
        )
    }
}

/// What stands in a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Cell {
    Number(f64),
    Spread(Spread),
    Text(String),
    /// Not measured, or without a meaning.
    None(()),
}

impl Cell {
    /// As people read it.
    pub(crate) fn show(&self, digits: usize) -> String {
        match self {
            Self::Number(number) => format!("{number:.digits$}"),
            Self::Spread(Spread { median, min, max }) => format!("{median:.digits$} ({min:.digits$}–{max:.digits$})"),
            Self::Text(text) => text.clone(),
            Self::None(()) => String::new(),
        }
    }
}

impl From<f64> for Cell {
    /// A ratio to nothing has no meaning, and JSON has no word for it.
    fn from(number: f64) -> Self {
        if number.is_finite() {
            Self::Number(number)
        } else {
            Self::None(())
        }
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number as f64)
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(number as f64)
    }
}

impl From<Spread> for Cell {
    fn from(spread: Spread) -> Self {
        let Spread { median, min, max } = spread;
        if [median, min, max].into_iter().all(f64::is_finite) {
            Self::Spread(spread)
        } else {
            Self::None(())
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(cell: Option<T>) -> Self {
        cell.map_or(Self::None(()), Into::into)
    }
}

/// The name has the unit in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// After the point, where it is shown.
    pub(crate) digits: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
    /// What stands below it.
    pub(crate) notes: Vec<String>,
}

impl Table {
    pub(crate) fn new<'a>(
        title: impl Into<String>,
        columns: impl IntoIterator<Item = (impl Into<std::borrow::Cow<'a, str>>, usize)>,
    ) -> Self {
        let columns = columns.into_iter().map(|(name, digits)| Column {
            name: name.into().into_owned(),
            digits,
        });
        Self {
            title: title.into(),
            columns: columns.collect(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// With a note below it.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// In Markdown.
    fn text(&self) -> String {
        let mut text = format!("\n{}\n\n", self.title);
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        text += &line(self.columns.iter().map(|column| column.name.clone()).collect());
        text += &line(self.columns.iter().map(|_| "---".to_owned()).collect());
        for row in &self.rows {
            let cells = row.iter().zip(&self.columns);
            text += &line(cells.map(|(cell, column)| cell.show(column.digits)).collect());
        }
        for note in &self.notes {
            text += &format!("\n{note}\n");
        }
        text
    }
}

/// One picture; the horizontal axis is logarithmic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    /// Whether the vertical axis is logarithmic too; otherwise it begins at 0.
    pub(crate) is_log: bool,
    pub(crate) series: Vec<Series>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Plot {
    pub(crate) fn new(title: impl Into<String>, x: &str, y: &str) -> Self {
        Self {
            title: title.into(),
            x: x.to_owned(),
            y: y.to_owned(),
            is_log: false,
            series: Vec::new(),
        }
    }

    pub(crate) fn log(mut self) -> Self {
        self.is_log = true;
        self
    }

    pub(crate) fn line(&mut self, name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) {
        self.series.push(Series {
            name: name.into(),
            points: points
                .into_iter()
                .filter(|(x, y)| x.is_finite() && y.is_finite())
                .collect(),
        });
    }
}

/// What one module has measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) module: String,
    /// What is compared with what.
    pub(crate) about: String,
    /// The options of the module, defaults included.
    pub(crate) settings: Map<String, Value>,
    /// How each peer is set.
    pub(crate) peers: Vec<String>,
    pub(crate) origin: Origin,
    pub(crate) tables: Vec<Table>,
    pub(crate) plots: Vec<Plot>,
}

impl Report {
    pub(crate) fn new(module: &str, about: &str, options: &impl Serialize, origin: Origin) -> Self {
        let settings = match serde_json::to_value(options) {
            Ok(Value::Object(settings)) => settings,
            _ => Map::new(),
        };
        Self {
            module: module.to_owned(),
            about: about.to_owned(),
            settings,
            peers: Vec::new(),
            origin,
            tables: Vec::new(),
            plots: Vec::new(),
        }
    }

    pub(crate) fn settings_text(&self) -> String {
        let settings: Vec<String> = self
            .settings
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        settings.join(", ")
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "# {}\n\n{}\nThe first round warms up and does not count; median (minimum–maximum).\n{}\n{}\n",
            self.module,
            self.about,
            self.settings_text(),
            self.origin.text()
        );
        for peer in &self.peers {
            text += &format!("- {peer}\n");
        }
        for table in &self.tables {
            text += &table.text();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([1.0, 2.0]).median, 1.5);
    }

    #[test]
    fn a_cell_reads_back_as_it_was() {
        let cells = [Cell::from(1.5), Spread::of([1.0]).into(), "text".into(), Cell::None(())];
        for cell in cells {
            let json = serde_json::to_string(&cell).unwrap();
            assert_eq!(serde_json::from_str::<Cell>(&json).unwrap(), cell, "{json}");
        }
        assert_eq!(Cell::from(Spread::of([1.0, f64::INFINITY])), Cell::None(()));
        assert_eq!(Cell::from(f64::NAN), Cell::None(()));
    }
}
