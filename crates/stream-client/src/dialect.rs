//! The dialects of a call.

use std::fmt;
use std::str::FromStr;

use stream_proto::PlainDialect;

/// How a call is made, and what its answer is read as.
///
/// Only the native dialect has flow control, cancels and heartbeats, and notices what is lost: see
/// [`Guarantee`](crate::Guarantee). The others are for responders that know nothing of it. There, silence is a
/// timeout (30 s without an item, unless [`idle_timeout`](crate::RequestBuilder::idle_timeout) says otherwise), a connection of
/// this side that breaks ends the call as lost, and so does a reader that leaves more than 16 MiB waiting.
///
/// Its text form is that of the program's `--dialect`: `native`, `text`, `sentinel`, `auto:text`, `auto:sentinel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// That of natstream.
    #[default]
    Native,
    /// Each item is a message, `__STREAM_END__` ends the answer, `__STREAM_ERROR__` and a text fail it.
    Text,
    /// Each item is a message, an empty one ends the answer (NATS ADR-47), and the headers of a service error (ADR-32) fail it.
    Sentinel,
    /// Asks natively, and reads an answer that is not native as [`Text`](Self::Text). Its first item must not begin with
    /// the byte 0xFE, which text never does.
    AutoText,
    /// Asks natively, and reads an answer that is not native as [`Sentinel`](Self::Sentinel). Its first item must not begin
    /// with the byte 0xFE, which text never does.
    ///
    /// An empty first message is an answer without items. Across accounts it may also be the end of a native answer that was
    /// lost as a whole.
    AutoSentinel,
}

const NAMES: [(Dialect, &str); 5] = [
    (Dialect::Native, "native"),
    (Dialect::Text, "text"),
    (Dialect::Sentinel, "sentinel"),
    (Dialect::AutoText, "auto:text"),
    (Dialect::AutoSentinel, "auto:sentinel"),
];

impl Dialect {
    /// The plain dialect that is spoken, or may be.
    pub(crate) fn plain(self) -> Option<PlainDialect> {
        match self {
            Self::Native => None,
            Self::Text | Self::AutoText => Some(PlainDialect::Text),
            Self::Sentinel | Self::AutoSentinel => Some(PlainDialect::Sentinel),
        }
    }

    /// Its text form.
    pub(crate) fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(dialect, _)| *dialect == self)
            .map_or("", |(_, name)| name)
    }

    /// Is the request one of the native dialect?
    pub(crate) fn asks_natively(self) -> bool {
        !matches!(self, Self::Text | Self::Sentinel)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(dialect, _)| dialect == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// A text that names no dialect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a dialect; there are native, text, sentinel, auto:text, auto:sentinel")]
pub struct DialectError(String);

impl FromStr for Dialect {
    type Err = DialectError;

    fn from_str(text: &str) -> Result<Self, DialectError> {
        let found = NAMES.iter().find(|(_, name)| *name == text);
        found
            .map(|(dialect, _)| *dialect)
            .ok_or_else(|| DialectError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (dialect, name) in NAMES {
            assert_eq!(name.parse(), Ok(dialect));
            assert_eq!(dialect.to_string(), name);
        }
        assert!("auto".parse::<Dialect>().is_err());
    }
}
