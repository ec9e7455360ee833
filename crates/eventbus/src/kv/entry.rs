//! What a bucket has of a key.

use async_nats::{HeaderMap, HeaderValue};
use jiff::Timestamp;

/// One revision of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry<T> {
    /// The key.
    pub key: String,
    /// The value; `None` where the key was deleted.
    pub value: Option<T>,
    /// Its revision: those of a bucket count up, over all of its keys.
    pub revision: u64,
    /// When the bucket took it, by nats-server's clock.
    pub created: Timestamp,
    /// What was done.
    pub operation: Operation,
}

/// What was done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// It was deleted; its history is there.
    Delete,
    /// Its value went by age.
    Expire,
    /// It was deleted with its history.
    Purge,
    /// It got a value.
    Put,
}

/// Headers of ADR-8 and ADR-48.
pub(super) const OPERATION: &str = "KV-Operation";
const REASON: &str = "Nats-Marker-Reason";

impl Operation {
    /// What the headers say; what nobody knows is a value, as other clients have it.
    pub(super) fn read(headers: Option<&HeaderMap>) -> Self {
        let text = |name: &str| headers?.get(name).map(HeaderValue::as_str);
        match (text(OPERATION), text(REASON)) {
            (Some("DEL"), _) => Self::Delete,
            (Some("PURGE"), _) => Self::Purge,
            (Some(_), _) => Self::Put,
            (None, Some("MaxAge")) => Self::Expire,
            (None, Some("Purge")) => Self::Purge,
            (None, Some("Remove")) => Self::Delete,
            (None, _) => Self::Put,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read() {
        for (name, value, operation) in [
            (OPERATION, "DEL", Operation::Delete),
            (OPERATION, "PURGE", Operation::Purge),
            (OPERATION, "PUT", Operation::Put),
            (REASON, "MaxAge", Operation::Expire),
            (REASON, "Purge", Operation::Purge),
            (REASON, "Remove", Operation::Delete),
            ("Other", "DEL", Operation::Put),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value);
            assert_eq!(Operation::read(Some(&headers)), operation, "{name}: {value}");
        }
        assert_eq!(Operation::read(None), Operation::Put);
    }
}
