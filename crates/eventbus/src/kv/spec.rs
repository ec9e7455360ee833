//! A bucket as it should be, and as it is.

use std::time::Duration;

use serde_json::Value;

use super::key::{check_bucket, stream};
use super::{KvError, KvErrorKind};
use crate::nanos;
use crate::topology::{Discard, Storage, StreamInfo, StreamSpec};

/// Revisions of a key that a bucket keeps at most: other clients take no more.
const MOST_HISTORY: u8 = 64;

/// A bucket as it should be.
///
/// What is not declared is nats-server's default when the bucket is made, and is not looked at afterwards; `history` is always
/// declared, 1 unless set.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use eventbus::kv::KvSpec;
///
/// let spec = KvSpec::new("config").history(5).replicas(3).max_age(Duration::from_secs(3600));
/// assert_eq!(spec.bucket(), "config");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a declaration does nothing until the bucket is created"]
pub struct KvSpec {
    bucket: String,
    history: u8,
    marker_age: Option<Duration>,
    duplicate_window: Option<Duration>,
    stream: StreamSpec,
}

impl KvSpec {
    /// A bucket of this name that keeps the last value of each key.
    pub fn new(bucket: impl Into<String>) -> Self {
        let bucket = bucket.into();
        // As ADR-8 has it: all clients know a bucket by these.
        let stream = StreamSpec::new(stream(&bucket), [format!("$KV.{bucket}.>")])
            .discard(Discard::New)
            .with("allow_rollup_hdrs", true)
            .with("allow_direct", true)
            .with("deny_delete", true);
        Self {
            bucket,
            history: 1,
            marker_age: None,
            duplicate_window: None,
            stream,
        }
    }

    /// Its name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Revisions of a key that are kept: 1 to 64; default 1.
    pub fn history(mut self, revisions: u8) -> Self {
        self.history = revisions;
        self
    }

    /// The age at which a value goes; nats-server: never. The duplicate window is no longer than this.
    pub fn max_age(mut self, age: Duration) -> Self {
        // nats-server takes no longer window than this, and two minutes if nothing is said.
        self.duplicate_window = (age < Duration::from_secs(120)).then_some(age);
        self.stream = self.stream.max_age(age);
        self
    }

    /// Bytes of all values; nats-server: no limit. A full bucket refuses new values.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.stream = self.stream.max_bytes(bytes);
        self
    }

    /// Bytes of one value, with its headers; nats-server: no limit but `max_payload`.
    pub fn max_value_size(mut self, bytes: u32) -> Self {
        self.stream = self.stream.max_message_size(bytes);
        self
    }

    /// Where values are kept; nats-server: files.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.stream = self.stream.storage(storage);
        self
    }

    /// How many servers have each value: 1 to 5; nats-server: 1.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.stream = self.stream.replicas(replicas);
        self
    }

    /// Values are compressed on disk; nats-server: no.
    pub fn compression(mut self, compress: bool) -> Self {
        self.stream = self.stream.with("compression", if compress { "s2" } else { "none" });
        self
    }

    /// Values may have ages of their own ([`Kv::create_with_ttl`](super::Kv::create_with_ttl)), and what goes by age leaves a
    /// marker for those who watch, for so long; whole seconds, at least one. nats-server: neither. Needs 2.11, and stays.
    pub fn limit_markers(mut self, age: Duration) -> Self {
        self.marker_age = Some(age);
        self
    }

    /// For people.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.stream = self.stream.description(text);
        self
    }

    /// The stream behind it.
    pub(super) fn stream(&self) -> Result<StreamSpec, KvError> {
        check_bucket(&self.bucket)?;
        if self.history == 0 || self.history > MOST_HISTORY {
            let problem = "a bucket keeps 1 to 64 revisions of a key";
            return Err(KvError::because(KvErrorKind::Rejected, &self.bucket, problem));
        }
        let mut stream = self.stream.clone().with("max_msgs_per_subject", self.history);
        if let Some(window) = self.duplicate_window {
            stream = stream.duplicate_window(window);
        }
        if let Some(age) = self.marker_age {
            stream = stream
                .with("allow_msg_ttl", true)
                .with("subject_delete_marker_ttl", nanos(age));
        }
        Ok(stream)
    }
}

/// A bucket as it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KvInfo {
    /// Its name.
    pub bucket: String,
    /// Revisions of all keys that it has, markers of deleted keys included.
    pub values: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Revisions of a key that it keeps.
    pub history: u64,
    /// The age at which a value goes.
    pub max_age: Option<Duration>,
    /// The stream behind it.
    pub stream: StreamInfo,
}

impl KvInfo {
    /// `None` when the stream is not that of a bucket.
    pub(super) fn of(stream: StreamInfo) -> Option<Self> {
        let bucket = stream.name.strip_prefix("KV_")?.to_owned();
        let number = |name: &str| stream.config.get(name).and_then(Value::as_u64).unwrap_or_default();
        let age = number("max_age");
        Some(Self {
            bucket,
            values: stream.messages,
            bytes: stream.bytes,
            history: number("max_msgs_per_subject"),
            max_age: (age > 0).then(|| Duration::from_nanos(age)),
            stream,
        })
    }
}
