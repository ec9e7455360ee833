//! What keys and names of buckets may be (ADR-8), and the subjects behind them.

use natstream_connect::Connection;

use super::{KvError, KvErrorKind, KvInfo};
use crate::topology::prefix;

/// The longest name of a bucket: nats-server takes 255 bytes for the name of its stream, `KV_` included.
const LONGEST_BUCKET: usize = 252;

/// A key has a subject of nats-server, which has limits of its own in practice.
const LONGEST_KEY: usize = 1024;

/// The subjects of a bucket.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    pub(super) bucket: String,
    pub(super) stream: String,
    /// What subjects of stored values begin with.
    stored: String,
    /// What subjects that values are published to begin with: in another domain nats-server maps them.
    published: String,
}

impl Subjects {
    pub(super) fn new(connection: &Connection, info: &KvInfo) -> Result<Self, KvError> {
        check_bucket(&info.bucket)?;
        let mirror = info.stream.config.get("mirror");
        let text = |path: &str| mirror?.pointer(path)?.as_str();
        // A mirror has the subjects of what it mirrors, and what is put goes there.
        let origin = text("/name").and_then(|name| name.strip_prefix("KV_"));
        let stored = format!("$KV.{}.", origin.unwrap_or(&info.bucket));
        let api = text("/external/api").map(str::to_owned);
        let api = api.or_else(|| connection.jetstream_domain().map(|_| prefix(connection)));
        Ok(Self {
            published: match api {
                Some(api) => format!("{api}.{stored}"),
                None => stored.clone(),
            },
            stream: stream(&info.bucket),
            bucket: info.bucket.clone(),
            stored,
        })
    }

    /// Where the values of a key are.
    pub(super) fn stored(&self, key: &str) -> Result<String, KvError> {
        self.check(key, false)?;
        Ok(format!("{}{key}", self.stored))
    }

    /// What values of a key are published to.
    pub(super) fn published(&self, key: &str) -> Result<String, KvError> {
        self.check(key, false)?;
        Ok(format!("{}{key}", self.published))
    }

    /// Where the values of all keys are that a filter means.
    pub(super) fn filter(&self, filter: &str) -> Result<String, KvError> {
        self.check(filter, true)?;
        Ok(format!("{}{filter}", self.stored))
    }

    /// The key whose values are at `subject`.
    pub(super) fn key<'a>(&self, subject: &'a str) -> &'a str {
        subject.strip_prefix(&self.stored).unwrap_or(subject)
    }

    fn check(&self, key: &str, is_filter: bool) -> Result<(), KvError> {
        if is_key(key, is_filter) {
            return Ok(());
        }
        Err(KvError::new(KvErrorKind::InvalidKey, &self.bucket).at(key))
    }
}

/// The stream behind a bucket.
pub(super) fn stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

pub(super) fn check_bucket(bucket: &str) -> Result<(), KvError> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if bucket.is_empty() || bucket.len() > LONGEST_BUCKET || !bucket.bytes().all(is_fine) {
        return Err(KvError::new(KvErrorKind::InvalidBucket, bucket));
    }
    Ok(())
}

fn is_key(key: &str, is_filter: bool) -> bool {
    let mut parts = key.split('.').peekable();
    let mut is_fine = key.len() <= LONGEST_KEY;
    while let Some(part) = parts.next() {
        let is_wildcard = is_filter && (part == "*" || (part == ">" && parts.peek().is_none()));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_' | b'=');
        is_fine &= is_wildcard || (!part.is_empty() && part.bytes().all(is_plain));
    }
    is_fine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_the_adr_says() {
        for key in ["a", "a.b", "Az09-/_=.x", "_kv", "a/b/c"] {
            assert!(is_key(key, false) && is_key(key, true), "{key}");
        }
        for key in [
            "",
            ".",
            ".a",
            "a.",
            "a..b",
            "a b",
            "ä",
            "a\n",
            "a$",
            "*a",
            "a.>.b",
            &"x".repeat(1025),
        ] {
            assert!(!is_key(key, false) && !is_key(key, true), "{key}");
        }
        for filter in [">", "*", "a.*", "a.>", "*.b.*"] {
            assert!(!is_key(filter, false) && is_key(filter, true), "{filter}");
        }
    }

    #[test]
    fn buckets_are_names() {
        for bucket in ["a", "A-b_9", &"x".repeat(252)] {
            assert!(check_bucket(bucket).is_ok(), "{bucket}");
        }
        for bucket in ["", "a.b", "a b", "ä", "a*", ">", &"x".repeat(253)] {
            let error = check_bucket(bucket).expect_err("no name");
            assert_eq!(error.kind(), KvErrorKind::InvalidBucket, "{bucket}");
        }
    }
}
