//! What is wrong with a configuration.

use std::error::Error;
use std::fmt;
use std::io;

use super::origin::Origin;

/// Why there are no settings.
///
/// It holds everything that was found to be wrong, at least one [`Problem`]; [`kind`](Self::kind), [`key`](Self::key) and
/// [`origin`](Self::origin) are those of the first. No text in it holds a secret: the value of a secret key and of a server
/// URL is never quoted.
#[derive(Debug)]
pub struct SettingsError {
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Problem {
    kind: SettingsErrorKind,
    key: Option<&'static str>,
    origin: Option<Origin>,
    message: String,
    source: Option<io::Error>,
}

/// What sort of mistake a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SettingsErrorKind {
    /// Two values exclude each other.
    Conflict,
    /// A value needs another one that is not there.
    Incomplete,
    /// A value is not of its form.
    InvalidValue,
    /// A configuration file or context is not YAML or JSON, or too large.
    Syntax,
    /// There is no such context.
    UnknownContext,
    /// There is no such key.
    UnknownKey,
    /// A file cannot be read.
    Unreadable,
    /// A value that has a meaning for others, and cannot be honoured here.
    Unsupported,
}

impl Problem {
    pub(crate) fn new(kind: SettingsErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            key: None,
            origin: None,
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn of(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    pub(crate) fn at(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    pub(crate) fn caused_by(mut self, source: io::Error) -> Self {
        self.source = Some(source);
        self
    }

    /// What sort of mistake it is.
    #[must_use]
    pub fn kind(&self) -> SettingsErrorKind {
        self.kind
    }

    /// The key that it is about, by the name that it has in a file.
    #[must_use]
    pub fn key(&self) -> Option<&'static str> {
        self.key
    }

    /// Where it was found.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Who gave it on the command line knows it by that name.
        let flag = self.origin.as_ref().filter(|origin| matches!(origin, Origin::Flag(_)));
        match (flag, self.key) {
            (Some(flag), _) => flag.fmt(f)?,
            (None, Some(key)) => write!(f, "`{key}`")?,
            (None, None) => return self.fmt_elsewhere(f),
        }
        // "`username` needs `password`", "`timeout`: `soon` is …".
        let separator = match self.kind {
            SettingsErrorKind::Incomplete => " ",
            _ => ": ",
        };
        write!(f, "{separator}{}", self.message)?;
        match &self.origin {
            Some(origin) if flag.is_none() => write!(f, " ({origin})"),
            _ => Ok(()),
        }
    }
}

impl Problem {
    /// A problem that is about no key.
    fn fmt_elsewhere(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as &(dyn Error + 'static))
    }
}

impl SettingsError {
    /// `problems` is not empty.
    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Everything that is wrong, at least one problem.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// Takes the problems out.
    #[must_use]
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// What sort of mistake the first one is.
    #[must_use]
    pub fn kind(&self) -> SettingsErrorKind {
        self.problems
            .first()
            .map_or(SettingsErrorKind::InvalidValue, Problem::kind)
    }

    /// The key that the first one is about, by the name that it has in a file.
    #[must_use]
    pub fn key(&self) -> Option<&'static str> {
        self.problems.first().and_then(Problem::key)
    }

    /// Where the first one was found.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.problems.first().and_then(Problem::origin)
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for SettingsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problems.first().and_then(Error::source)
    }
}
