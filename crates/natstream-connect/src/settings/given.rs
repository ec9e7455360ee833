//! Values as they were given, before anything is made of them.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::error::{Problem, SettingsErrorKind};
use super::keys::Key;
use super::origin::{Origin, Rank};
use crate::secret::{LARGEST_SECRET, trimmed};

/// A value that somebody gave. It has no `Debug`: it may be a secret.
pub(crate) struct Given {
    pub(crate) key: &'static Key,
    pub(crate) raw: Raw,
    pub(crate) origin: Origin,
    pub(crate) rank: Rank,
}

pub(crate) enum Raw {
    List(Vec<String>),
    /// The file that holds the secret.
    SecretFile(PathBuf),
    Text(SecretString),
}

impl Raw {
    pub(crate) fn text(text: impl Into<SecretString>) -> Self {
        Self::Text(text.into())
    }

    /// An empty text counts as not given.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::List(texts) => texts.iter().all(|text| text.trim().is_empty()),
            Self::SecretFile(path) => path.as_os_str().is_empty(),
            Self::Text(text) => text.expose_secret().is_empty(),
        }
    }
}

/// All that was given, and what was noticed meanwhile.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) given: Vec<Given>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
}

impl Gathered {
    /// Adds a value, unless it is empty. Two for one key in one place are a mistake: nobody can know which one is meant.
    pub(crate) fn add(&mut self, new: Given) {
        if new.raw.is_empty() {
            return;
        }
        let same = |old: &&Given| old.key.id == new.key.id && old.rank == new.rank;
        if let Some(old) = self.given.iter().find(same) {
            let message = format!("is given twice; the other one is {}", old.origin);
            let problem = Problem::new(SettingsErrorKind::Conflict, message);
            self.problems.push(problem.of(new.key.name).at(new.origin));
            return;
        }
        if let Raw::SecretFile(path) = &new.raw
            && let Err(problem) = check_secret_file(path)
        {
            self.problems.push(problem.of(new.key.name).at(new.origin.clone()));
        }
        self.given.push(new);
    }
}

/// A secret that is missing is noticed at once, although it is read at each connect.
fn check_secret_file(path: &Path) -> Result<(), Problem> {
    let text = read_limited(path, LARGEST_SECRET).map(SecretString::from)?;
    trimmed(text.expose_secret())
        .map(drop)
        .map_err(|what| Problem::new(SettingsErrorKind::Unreadable, format!("{} {what}", path.display())))
}

/// A file's text, of which no more is read than `limit` and a byte.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<String, Problem> {
    use std::io::Read as _;

    let read = || {
        let mut text = String::new();
        std::fs::File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|error: std::io::Error| {
        let message = format!("cannot read {}", path.display());
        Problem::new(SettingsErrorKind::Unreadable, message).caused_by(error)
    })
}
