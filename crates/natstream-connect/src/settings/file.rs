//! A configuration file, in YAML.
//!
//! It is one mapping of keys to texts or lists of texts. Values are taken literally: `password: 0123` is these four digits.

use std::fmt;
use std::path::Path;

use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Error, Options, Spanned};

use super::error::{Problem, SettingsErrorKind};
use super::given::{Gathered, Given, Raw, read_limited};
use super::keys::{self, Key};
use super::origin::{Origin, Rank};

/// The largest file. The longest configuration that makes sense has some 10 KiB.
const LARGEST: u64 = 1024 * 1024;

/// How many unknown keys are named; a file with more of them is another sort of file.
const REPORTED: usize = 20;

pub(crate) fn gather(path: &Path, gathered: &mut Gathered) {
    let text = match read_limited(path, LARGEST) {
        Ok(text) => text,
        Err(problem) => return gathered.problems.push(problem),
    };
    if text.len() as u64 > LARGEST {
        let message = format!("{} is larger than 1 MiB", path.display());
        gathered.problems.push(Problem::new(SettingsErrorKind::Syntax, message));
        return;
    }
    gather_text(&text, path, gathered);
}

pub(crate) fn gather_text(text: &str, path: &Path, gathered: &mut Gathered) {
    let at = |line| Origin::File {
        path: path.to_owned(),
        line,
    };
    let mut document = Document::default();
    let parsed = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
        yaml.deserialize_option(&mut document)
    });
    if let Err(error) = parsed {
        gathered.problems.push(problem(&error, path, document.current));
    }
    let mut unknown_keys = 0_usize;
    for Entry { name, value, line } in document.entries {
        let (key, raw) = match (keys::find(&name), keys::find_file(&name), value) {
            (Some(key), _, raw) => (key, raw),
            (None, Some(key), Raw::Text(path)) => (key, Raw::SecretFile(path.expose_secret().into())),
            _ => {
                unknown_keys += 1;
                if unknown_keys <= REPORTED {
                    gathered.problems.push(unknown(&name).at(at(line)));
                }
                continue;
            }
        };
        gathered.add(Given {
            key,
            raw,
            origin: at(line),
            rank: Rank::File,
        });
    }
    if let Some(more @ 1..) = unknown_keys.checked_sub(REPORTED) {
        let message = format!("{} has {more} more unknown keys", path.display());
        gathered
            .problems
            .push(Problem::new(SettingsErrorKind::UnknownKey, message));
    }
}

/// Far above what a configuration needs, and far below what hurts.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 20_000,
            max_nodes: 10_000,
            max_depth: 16,
            flow_nesting_limit: 16,
            max_aliases: 100,
            max_anchors: 100,
            max_recorded_anchor_events: 10_000,
            max_recorded_anchor_bytes: 1024 * 1024,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        // They quote the lines around a mistake, with the passwords on them.
        with_snippet: false,
    }
}

/// Says where, and what in words of our own: those of the parser may quote the file.
fn problem(error: &Error, path: &Path, current: Option<&'static Key>) -> Problem {
    let error = error.without_snippet();
    let location = error.location();
    let line = location.map_or(0, |location| location.line());
    let origin = Origin::File {
        path: path.to_owned(),
        line,
    };
    if let (Some(key), Error::Unexpected { .. } | Error::SerdeInvalidType { .. }) = (current, error) {
        let message = match key.is_list() {
            true => "it is neither a text nor a list of texts",
            false => "it is not a text, number or truth value",
        };
        return Problem::new(SettingsErrorKind::InvalidValue, message)
            .of(key.name)
            .at(origin);
    }
    let what = match error {
        Error::DuplicateMappingKey { .. } => "a key stands here for the second time".to_owned(),
        Error::Eof { .. } => "the YAML ends too early".to_owned(),
        Error::MultipleDocuments { .. } => "a second document begins here".to_owned(),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "it is nested too deep, or has too many values or aliases".to_owned()
        }
        Error::MergeKeyNotAllowed { .. } => "merge keys are not supported".to_owned(),
        Error::Unexpected { .. } | Error::SerdeInvalidType { .. } => {
            "this is not a mapping of keys to values, `key: value`".to_owned()
        }
        _ => format!(
            "this is not YAML, column {} (a text with `: ` or ` #` in it, or one that begins with a special character, stands in \
             quotes)",
            location.map_or(0, |location| location.column())
        ),
    };
    Problem::new(SettingsErrorKind::Syntax, what).at(origin)
}

fn unknown(name: &str) -> Problem {
    // A file that is no configuration may have a secret where a key should be.
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut message = match !name.is_empty() && name.len() <= 40 && name.chars().all(is_key) {
        true => format!("unknown key `{name}`"),
        false => "unknown key".to_owned(),
    };
    let known = keys::all_names();
    if let Some(meant) = keys::suggest(name, known.iter().map(String::as_str)) {
        message += &format!("; did you mean `{meant}`?");
    }
    Problem::new(SettingsErrorKind::UnknownKey, message)
}

/// What has been read so far.
#[derive(Default)]
struct Document {
    entries: Vec<Entry>,
    /// The key whose value is being read.
    current: Option<&'static Key>,
}

struct Entry {
    name: String,
    value: Raw,
    line: u64,
}

impl<'de> Visitor<'de> for &mut Document {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let key = keys::find(&name).or_else(|| keys::find_file(&name));
            self.current = key;
            let (value, line) = match key {
                Some(key) if key.is_list() => {
                    let Spanned { value, referenced, .. } = map.next_value::<Spanned<Texts>>()?;
                    (Raw::List(value.0), referenced.line())
                }
                Some(_) => {
                    let Spanned { value, referenced, .. } = map.next_value::<Spanned<Option<String>>>()?;
                    (Raw::text(value.unwrap_or_default()), referenced.line())
                }
                None => {
                    let Spanned { referenced, .. } = map.next_value::<Spanned<IgnoredAny>>()?;
                    (Raw::List(Vec::new()), referenced.line())
                }
            };
            self.current = None;
            self.entries.push(Entry { name, value, line });
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Document {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// A list, or one text.
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_unit<E>(self) -> Result<Texts, E> {
        Ok(Texts(Vec::new()))
    }

    fn visit_none<E>(self) -> Result<Texts, E> {
        Ok(Texts(Vec::new()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element::<Option<String>>()? {
            texts.extend(text);
        }
        Ok(Texts(texts))
    }
}
