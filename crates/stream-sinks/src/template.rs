//! Names of files: from a template and a period to a path, and back.

use jiff::{
    civil::{Date, DateTime},
    tz::Offset,
};

use crate::{SinkError, SinkErrorKind, calendar::Period, calendar::Unit};

/// Endings that a file gets beside its name.
pub(crate) const PART: &str = ".part";
const COMPRESSED: [&str; 2] = [".gz", ".zst"];

/// What stands in a [`Pattern`] for what is known only when a file is closed. No control characters get into names.
const INDEX: char = '\u{1}';
const FIRST: char = '\u{2}';
const LAST: char = '\u{3}';

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Date,
    Day,
    First,
    /// The offset of an hour that comes twice, where the template has no `{offset}`.
    Fold,
    Hour,
    Index,
    Last,
    Minute,
    Month,
    Offset,
    Year,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field),
}

/// A parsed template, with the writer's name put in.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
    /// How many directories deep its files lie.
    depth: usize,
}

/// A name in which only the index and the sequences are open. It is kept in journals, so that a file can be finished under
/// the name that it was begun for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(String);

/// What a name tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Parsed {
    /// Year, month, day, hour, minute.
    pub(crate) time: [i16; 5],
    /// Minutes west of UTC, so that the earlier of two hours with one name is less.
    pub(crate) west: i32,
    pub(crate) first: u64,
    pub(crate) index: u64,
    pub(crate) last: u64,
}

impl Template {
    /// The default: the seeds' layout, as far as the rotation needs it.
    pub(crate) fn default_for(unit: Option<Unit>) -> &'static str {
        match unit {
            Some(Unit::Minute) => "{date}/{name}_{date}{hour}{minute}.log",
            Some(Unit::Hour) => "{date}/{name}_{date}{hour}.log",
            Some(Unit::Day) => "{date}/{name}_{date}.log",
            None => "{name}.log",
        }
    }

    /// All that [`default_for`](Self::default_for) gives.
    pub(crate) fn defaults(name: &str) -> Result<Vec<Self>, SinkError> {
        let units = [None, Some(Unit::Minute), Some(Unit::Hour), Some(Unit::Day)];
        units
            .map(Self::default_for)
            .iter()
            .map(|text| Self::parse(text, name))
            .collect()
    }

    pub(crate) fn parse(text: &str, name: &str) -> Result<Self, SinkError> {
        let invalid = |what: String| SinkError::new(SinkErrorKind::InvalidConfig, what);
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '{', '}']) || name.contains(char::is_control)
        {
            return Err(invalid(format!(
                "the name `{}` is no part of a file name",
                name.escape_debug()
            )));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            push_text(&mut pieces, &rest[..at]);
            let field = rest[at..].strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let Some((field, after)) = field else {
                return Err(invalid(format!("a brace without its other in the template `{text}`")));
            };
            match field {
                "name" => push_text(&mut pieces, name),
                "date" => pieces.push(Piece::Field(Field::Date)),
                "day" => pieces.push(Piece::Field(Field::Day)),
                "first" => pieces.push(Piece::Field(Field::First)),
                "hour" => pieces.push(Piece::Field(Field::Hour)),
                "last" => pieces.push(Piece::Field(Field::Last)),
                "minute" => pieces.push(Piece::Field(Field::Minute)),
                "month" => pieces.push(Piece::Field(Field::Month)),
                "n" => pieces.push(Piece::Field(Field::Index)),
                "offset" => pieces.push(Piece::Field(Field::Offset)),
                "year" => pieces.push(Piece::Field(Field::Year)),
                _ => {
                    return Err(invalid(format!(
                        "there is no field `{{{field}}}` for the template `{text}`"
                    )));
                }
            }
            rest = after;
        }
        push_text(&mut pieces, rest);
        let mut template = Self { pieces, depth: 0 };
        template.check(text)?;
        template.insert_hidden_fields();
        Ok(template)
    }

    /// Components must be names: neither empty, nor hidden, nor a way out of the directory.
    fn check(&mut self, text: &str) -> Result<(), SinkError> {
        let probe: String = self
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Field(Field::Index) => "",
                Piece::Field(_) => "0",
            })
            .collect();
        let components: Vec<&str> = probe.split('/').collect();
        self.depth = components.len() - 1;
        let bad = components.iter().any(|part| part.is_empty() || part.starts_with('.'));
        let ending = [PART].iter().chain(&COMPRESSED).any(|ending| probe.ends_with(ending));
        let misplaced = self.pieces.iter().enumerate().any(|(at, piece)| {
            matches!(piece, Piece::Field(Field::Index | Field::First | Field::Last))
                && self.pieces[at..]
                    .iter()
                    .any(|later| matches!(later, Piece::Text(text) if text.contains('/')))
        });
        if bad || ending || misplaced || probe.contains(char::is_control) {
            return Err(SinkError::new(
                SinkErrorKind::InvalidConfig,
                format!(
                    "the template `{}` does not give a relative path of plain names",
                    text.escape_debug()
                ),
            ));
        }
        Ok(())
    }

    /// The index stands before the file's extension, and the offset of a repeated hour before the index.
    fn insert_hidden_fields(&mut self) {
        let has = |pieces: &[Piece], field| pieces.contains(&Piece::Field(field));
        if !has(&self.pieces, Field::Index) {
            let at = self.pieces.iter().rposition(|piece| matches!(piece, Piece::Text(_)));
            let extension = at.and_then(|at| {
                let Piece::Text(text) = &self.pieces[at] else {
                    return None;
                };
                let dot = text.rfind('.').filter(|dot| !text[*dot..].contains('/'))?;
                Some((at, dot))
            });
            match extension {
                Some((at, dot)) if self.pieces[at + 1..].is_empty() => {
                    let Piece::Text(text) = self.pieces.remove(at) else {
                        return;
                    };
                    let (before, after) = text.split_at(dot);
                    let mut pieces = Vec::new();
                    push_text(&mut pieces, before);
                    pieces.push(Piece::Field(Field::Index));
                    push_text(&mut pieces, after);
                    self.pieces.splice(at..at, pieces);
                }
                _ => self.pieces.push(Piece::Field(Field::Index)),
            }
        }
        if !has(&self.pieces, Field::Offset) {
            let index = self
                .pieces
                .iter()
                .position(|piece| *piece == Piece::Field(Field::Index));
            self.pieces
                .insert(index.unwrap_or(self.pieces.len()), Piece::Field(Field::Fold));
        }
    }

    /// Whether names carry sequences.
    pub(crate) fn has_sequences(&self) -> bool {
        let field = |field| self.pieces.contains(&Piece::Field(field));
        field(Field::First) || field(Field::Last)
    }

    /// Whether names carry the last one.
    pub(crate) fn has_last(&self) -> bool {
        self.pieces.contains(&Piece::Field(Field::Last))
    }

    /// Whether names carry the first one and the last one.
    pub(crate) fn has_both_sequences(&self) -> bool {
        self.has_last() && self.pieces.contains(&Piece::Field(Field::First))
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The name for a period.
    pub(crate) fn pattern(&self, period: &Period) -> Pattern {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field(field) => render(*field, period, &mut out),
            }
        }
        Pattern(out)
    }

    /// The pattern of a file whose pattern is lost: another index still finds its place.
    pub(crate) fn pattern_of_path(&self, path: &str) -> Pattern {
        let index = self.parse_path(path).map_or(0, |parsed| parsed.index);
        let own = if index == 0 { String::new() } else { format!(".{index}") };
        let name = path.rfind('/').map_or(0, |at| at + 1);
        let (before, after) = match path.rfind(&own).filter(|at| index > 0 && *at >= name) {
            Some(at) => (&path[..at], &path[at + own.len()..]),
            None => {
                let dot = path[name..]
                    .rfind('.')
                    .filter(|at| *at > 0)
                    .map_or(path.len(), |at| name + at);
                path.split_at(dot)
            }
        };
        Pattern(format!("{before}{INDEX}{after}"))
    }

    /// What a path from the directory tells, if it is one of a closed file of this template.
    pub(crate) fn parse_path(&self, path: &str) -> Option<Parsed> {
        let path = COMPRESSED
            .iter()
            .find_map(|ending| path.strip_suffix(ending))
            .unwrap_or(path);
        let mut parsed = Parsed::default();
        matches(&self.pieces, path, &mut parsed).then_some(parsed)
    }

    /// The same of a file in progress.
    pub(crate) fn parse_part(&self, path: &str) -> Option<Parsed> {
        self.parse_path(path.strip_suffix(PART)?)
    }
}

impl Pattern {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn from_str(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The path of the closed file. Sequences stand there with 20 digits.
    pub(crate) fn path(&self, index: u64, sequences: Option<(u64, u64)>) -> String {
        let (first, last) = sequences.unwrap_or_default();
        self.fill(index, &format!("{first:020}"), &format!("{last:020}"))
    }

    /// The path while it is written, without [`PART`].
    pub(crate) fn open_path(&self, index: u64) -> String {
        self.fill(index, "0", "0")
    }

    fn fill(&self, index: u64, first: &str, last: &str) -> String {
        let index = if index == 0 { String::new() } else { format!(".{index}") };
        self.0.replace(INDEX, &index).replace(FIRST, first).replace(LAST, last)
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Text(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

fn render(field: Field, period: &Period, out: &mut String) {
    let time: DateTime = period.label;
    let text = match field {
        Field::Date => format!("{:04}{:02}{:02}", time.year(), time.month(), time.day()),
        Field::Day => format!("{:02}", time.day()),
        Field::First => FIRST.into(),
        Field::Fold if !period.ambiguous => return,
        Field::Fold | Field::Offset => offset(period.offset),
        Field::Hour => format!("{:02}", time.hour()),
        Field::Index => INDEX.into(),
        Field::Last => LAST.into(),
        Field::Minute => format!("{:02}", time.minute()),
        Field::Month => format!("{:02}", time.month()),
        Field::Year => format!("{:04}", time.year()),
    };
    out.push_str(&text);
}

fn offset(offset: Offset) -> String {
    let minutes = offset.seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}{:02}", minutes.abs() / 60, minutes.abs() % 60)
}

/// Whether `text` can be read as the pieces; the fields that are optional make it go back.
fn matches(pieces: &[Piece], text: &str, parsed: &mut Parsed) -> bool {
    let Some((piece, rest)) = pieces.split_first() else {
        return text.is_empty();
    };
    let field = match piece {
        Piece::Text(literal) => {
            return text
                .strip_prefix(literal.as_str())
                .is_some_and(|text| matches(rest, text, parsed));
        }
        Piece::Field(field) => *field,
    };
    match field {
        Field::Date => digits(text, 8).is_some_and(|(value, text)| {
            let (year, month, day) = (value / 10_000, value / 100 % 100, value % 100);
            let date = [year, month, day].map(|part| i16::try_from(part).unwrap_or(0));
            is_date(date) && {
                parsed.time[..3].copy_from_slice(&date);
                matches(rest, text, parsed)
            }
        }),
        Field::Year => number(text, 4, 0, rest, parsed),
        Field::Month => number(text, 2, 1, rest, parsed),
        Field::Day => number(text, 2, 2, rest, parsed),
        Field::Hour => number(text, 2, 3, rest, parsed),
        Field::Minute => number(text, 2, 4, rest, parsed),
        Field::First | Field::Last => {
            // 20 digits when closed; a part has one in place of them.
            [20, 1].into_iter().any(|len| {
                digits(text, len).is_some_and(|(value, text)| {
                    match field {
                        Field::First => parsed.first = value,
                        _ => parsed.last = value,
                    }
                    matches(rest, text, parsed)
                })
            })
        }
        Field::Index => {
            let with = text.strip_prefix('.').and_then(|after| {
                let len = after.bytes().take_while(u8::is_ascii_digit).count();
                let value = after[..len]
                    .parse()
                    .ok()
                    .filter(|value| *value > 0 && !after.starts_with('0'));
                value.map(|value: u64| (value, &after[len..]))
            });
            let read = with.is_some_and(|(value, text)| {
                parsed.index = value;
                matches(rest, text, parsed)
            });
            read || {
                parsed.index = 0;
                matches(rest, text, parsed)
            }
        }
        Field::Offset => read_offset(text, rest, parsed),
        Field::Fold => {
            read_offset(text, rest, parsed) || {
                parsed.west = 0;
                matches(rest, text, parsed)
            }
        }
    }
}

fn read_offset(text: &str, rest: &[Piece], parsed: &mut Parsed) -> bool {
    let sign = match text.as_bytes().first() {
        Some(b'+') => -1,
        Some(b'-') => 1,
        _ => return false,
    };
    digits(&text[1..], 4).is_some_and(|(value, text)| {
        let minutes = value / 100 * 60 + value % 100;
        parsed.west = sign * i32::try_from(minutes).unwrap_or(0);
        matches(rest, text, parsed)
    })
}

fn number(text: &str, len: usize, at: usize, rest: &[Piece], parsed: &mut Parsed) -> bool {
    digits(text, len).is_some_and(|(value, text)| {
        parsed.time[at] = i16::try_from(value).unwrap_or(0);
        matches(rest, text, parsed)
    })
}

fn digits(text: &str, len: usize) -> Option<(u64, &str)> {
    let head = text.get(..len)?;
    let all = head.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| Some((head.parse().ok()?, &text[len..]))).flatten()
}

fn is_date([year, month, day]: [i16; 3]) -> bool {
    let (Ok(month), Ok(day)) = (i8::try_from(month), i8::try_from(day)) else {
        return false;
    };
    Date::new(year, month, day).is_ok()
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::TimeZone};

    use super::*;
    use crate::{SinkErrorKind, calendar::Calendar};

    fn period(zone: &str, time: &str) -> Period {
        let time: Timestamp = time.parse().unwrap();
        Calendar::new(TimeZone::get(zone).unwrap(), Some(Unit::Hour)).period(time)
    }

    fn hourly(name: &str) -> Template {
        Template::parse(Template::default_for(Some(Unit::Hour)), name).unwrap()
    }

    #[test]
    fn the_default_is_the_seeds_layout() {
        let pattern = hourly("stream_data").pattern(&period("UTC", "2026-11-20T04:30:00Z"));
        assert_eq!(pattern.path(0, None), "20261120/stream_data_2026112004.log");
        assert_eq!(pattern.path(3, Some((1, 2))), "20261120/stream_data_2026112004.3.log");
    }

    #[test]
    fn the_repeated_hour_has_names_of_its_own() {
        let names = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"].map(|time| {
            let pattern = hourly("x").pattern(&period("Europe/Berlin", time));
            pattern.path(0, None)
        });
        assert_eq!(
            names,
            ["20261025/x_2026102502+0200.log", "20261025/x_2026102502+0100.log"]
        );
        let [first, second] = names.map(|name| hourly("x").parse_path(&name).unwrap());
        assert!(first < second);
    }

    #[test]
    fn names_are_read_back() {
        let texts = [
            "{date}/{name}_{date}{hour}.log",
            "{year}-{month}-{day}T{hour}{minute}{offset}{n}-{first}-{last}.{name}.ndjson",
            "{name}",
            "{name}.log",
            "{hour}/{name}-{n}",
            "v1.2/{name}",
        ];
        let mut previous = None;
        for text in texts {
            let template = Template::parse(text, "a.1").unwrap();
            let pattern = template.pattern(&period("America/New_York", "2026-11-01T06:30:00Z"));
            for index in [0, 1, 12] {
                let path = pattern.path(index, Some((5, 77)));
                let parsed = template.parse_path(&path).unwrap_or_else(|| panic!("{path}"));
                assert_eq!(parsed.index, index, "{path}");
                assert_eq!(template.parse_path(&format!("{path}.gz")), Some(parsed));
                let open = format!("{}{PART}", pattern.open_path(index));
                assert_eq!(template.parse_part(&open).unwrap().index, index, "{open}");
                assert_eq!(template.parse_path(&open), None);
                assert_ne!(previous.replace(path.clone()), Some(path));
            }
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        let template = hourly("x");
        for path in [
            "20261120/y_2026112004.log",
            "20261120/x_2026112004.log.bak",
            "20261120/x_2026112004.01.log",
            "20261320/x_2026132004.log",
            "20261120/x_20261120.log",
            "x_2026112004.log",
            "20261120/x_2026112004.log.gz.zst",
            "",
        ] {
            assert_eq!(template.parse_path(path), None, "{path}");
        }
    }

    #[test]
    fn bad_templates_are_refused() {
        for text in [
            "", "/x", "../x", "a//b", "a/", "{nope}", "{name", "name}", ".x", "a/./b", "x.part", "x.gz", "{n}/x", "a\n",
        ] {
            let error = Template::parse(text, "x").unwrap_err();
            assert_eq!(error.kind(), SinkErrorKind::InvalidConfig, "{text}");
        }
        for name in ["", "a/b", "..", "{n}"] {
            let error = Template::parse("{name}", name).unwrap_err();
            assert_eq!(error.kind(), SinkErrorKind::InvalidConfig, "{name}");
        }
    }
}
