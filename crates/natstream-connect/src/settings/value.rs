//! Values of their types.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::duration::parse_duration;
use super::given::{Given, Raw};
use super::keys::{Form, Key};
use crate::secret::Secret;
use crate::servers::{IntoServers, ServerList};

/// What stands for a secret where people read.
pub(crate) const REDACTED: &str = "[redacted]";

#[derive(Clone)]
pub(crate) enum Value {
    /// `None` for no limit.
    Attempts(Option<usize>),
    Count(NonZeroUsize),
    Duration(Duration),
    Flag(bool),
    List(Vec<String>),
    Path(PathBuf),
    Secret(Secret),
    Servers(ServerList),
    Text(String),
    Url(String),
}

impl Value {
    /// Makes a value of what was given, or says what is wrong with it.
    pub(crate) fn parse(given: &Given) -> Result<Self, String> {
        match &given.raw {
            Raw::SecretFile(path) => Ok(Self::Secret(Secret::file(path))),
            Raw::Text(text) if given.key.form == Form::Secret => Ok(Self::Secret(text.clone().into())),
            Raw::Text(text) => Self::parse_text(given.key, text),
            Raw::List(texts) => match given.key.form {
                Form::Servers => ServerList::parse(&texts.into_servers()).map(Self::Servers),
                _ => Ok(Self::List(texts.into_servers())),
            },
        }
    }

    fn parse_text(key: &Key, text: &SecretString) -> Result<Self, String> {
        let text = text.expose_secret();
        let value = match key.form {
            Form::Attempts => attempts(text).map(Self::Attempts),
            Form::Count => text.parse().map(Self::Count).map_err(|_| "it is not a number from 1"),
            Form::Duration => positive(text).map(Self::Duration),
            Form::Flag => flag(text).map(Self::Flag),
            Form::List => Ok(Self::List(text.into_servers())),
            Form::Path => Ok(Self::Path(text.into())),
            Form::Url => Ok(Self::Url(text.to_owned())),
            Form::Servers => return ServerList::parse(&text.into_servers()).map(Self::Servers),
            Form::Secret | Form::Ignored | Form::Text => Ok(Self::Text(text.to_owned())),
        };
        value.map_err(|what| match key.is_shown() {
            true => format!("`{text}`: {what}"),
            false => what.to_owned(),
        })
    }
}

/// As people see it: secrets are redacted, and URLs without user info.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attempts(None) => f.write_str("-1"),
            Self::Attempts(Some(attempts)) => attempts.fmt(f),
            Self::Count(count) => count.fmt(f),
            Self::Duration(duration) => humantime::format_duration(*duration).fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::List(texts) => f.write_str(&texts.join(",")),
            Self::Path(path) => path.display().fmt(f),
            Self::Secret(secret) => match secret.path() {
                Some(path) => write!(f, "{REDACTED} in {}", path.display()),
                None => f.write_str(REDACTED),
            },
            Self::Servers(list) => {
                for (index, address) in list.addresses.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{}", address.as_url_str())?;
                }
                Ok(())
            }
            Self::Text(text) => f.write_str(text),
            Self::Url(url) => match url.rsplit_once('@') {
                Some((before, host)) => {
                    let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
                    let separator = if scheme.is_empty() { "" } else { "://" };
                    write!(f, "{scheme}{separator}{REDACTED}@{host}")
                }
                None => f.write_str(url),
            },
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// -1 is for ever, as in nats.go.
fn attempts(text: &str) -> Result<Option<usize>, &'static str> {
    match text {
        "-1" => Ok(None),
        _ => text
            .parse()
            .map(Some)
            .map_err(|_| "it is not a number of attempts (-1: for ever, 0: none)"),
    }
}

fn positive(text: &str) -> Result<Duration, &'static str> {
    match parse_duration(text)? {
        Duration::ZERO => Err("the time is 0"),
        // Ten years: more cannot be waited for in earnest, and would overflow clocks.
        duration if duration > Duration::from_secs(10 * 365 * 24 * 3600) => Err("the time is too long"),
        duration => Ok(duration),
    }
}

/// What Go's `strconv.ParseBool` and YAML take.
fn flag(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err("it is neither true nor false"),
    }
}
