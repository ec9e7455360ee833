//! What a bucket says of an object (ADR-20).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What stands before a digest.
const SHA_256: &str = "SHA-256=";

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What whoever has put it says of it.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The same in the form of headers.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Vec<String>>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) options: Options,
    /// Its bucket.
    pub bucket: String,
    /// What its chunks are found by: another one each time it is put.
    #[serde(default)]
    pub nuid: String,
    /// Its bytes.
    #[serde(default)]
    pub size: u64,
    /// When it was put, by nats-server's clock, or by that of whoever has put it where nats-server's is not known.
    #[serde(default, deserialize_with = "or_default", rename = "mtime")]
    pub modified: Timestamp,
    /// How many messages it consists of.
    #[serde(default)]
    pub chunks: u64,
    /// `SHA-256=` and its digest in base64 for URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// It was deleted: what there is of it is only this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Options {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) link: Option<Link>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_chunk_size: Option<u64>,
}

/// Another object, or a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Link {
    /// The bucket.
    pub bucket: String,
    /// The object in it; `None` for the bucket as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl ObjectInfo {
    pub(super) fn new(bucket: &str, name: &str, nuid: String) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
            options: Options::default(),
            bucket: bucket.to_owned(),
            nuid,
            size: 0,
            modified: Timestamp::now(),
            chunks: 0,
            digest: None,
            deleted: false,
        }
    }

    /// What it is a link to, if it is one.
    #[must_use]
    pub fn link(&self) -> Option<&Link> {
        self.options.link.as_ref()
    }

    /// Bytes of each of its chunks but the last one, if whoever has put it says so.
    #[must_use]
    pub fn chunk_size(&self) -> Option<u64> {
        self.options.max_chunk_size
    }

    /// Is this its SHA-256? A digest that is missing fits all.
    pub(super) fn fits(&self, digest: &[u8]) -> bool {
        let Some(text) = &self.digest else { return true };
        let is_known = text
            .get(..SHA_256.len())
            .is_some_and(|name| name.eq_ignore_ascii_case(SHA_256));
        let value = text.get(SHA_256.len()..).unwrap_or_default();
        is_known
            && URL_SAFE_NO_PAD
                .decode(value.trim_end_matches('='))
                .is_ok_and(|value| value == digest)
    }
}

/// A digest as it is written.
pub(super) fn digest(digest: &[u8]) -> String {
    format!("{SHA_256}{}", URL_SAFE.encode(digest))
}

/// The last part of the subject that an object's description is at.
pub(super) fn encoded(name: &str) -> String {
    URL_SAFE.encode(name)
}

/// Other clients write `null` for what is empty.
fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_read() {
        let info = r#"{"name":"a/b","description":null,"headers":{"A":["1","2"]},"metadata":null,
            "options":{"max_chunk_size":131072},"bucket":"B","nuid":"n","size":3,"mtime":"0001-01-01T00:00:00Z","chunks":1,
            "digest":"SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0="}"#;
        let info: ObjectInfo = serde_json::from_str(info).expect("an object");
        assert_eq!((info.size, info.chunk_size(), info.link()), (3, Some(131_072), None));
        let abc = ring::digest::digest(&ring::digest::SHA256, b"abc");
        assert!(info.fits(abc.as_ref()));
        assert!(!info.fits(&[0; 32]));
        assert_eq!(info.digest, Some(digest(abc.as_ref())));
    }

    #[test]
    fn a_digest_of_another_kind_does_not_fit() {
        let mut info = ObjectInfo::new("B", "a", "n".to_owned());
        assert!(info.fits(b""), "none is asked for");
        for other in ["SHA-512=AAAA", "", "ä", "SHA-256=", "SHA-256=!"] {
            info.digest = Some(other.to_owned());
            assert!(!info.fits(&[1]), "{other}");
        }
    }

    #[test]
    fn what_is_empty_is_not_written() {
        let mut info = ObjectInfo::new("B", "a", "n".to_owned());
        info.modified = Timestamp::UNIX_EPOCH;
        let text = serde_json::to_string(&info).expect("it has a form");
        assert_eq!(
            text,
            r#"{"name":"a","options":{},"bucket":"B","nuid":"n","size":0,"mtime":"1970-01-01T00:00:00Z","chunks":0}"#
        );
    }
}
