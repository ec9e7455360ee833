//! A bucket of objects as it should be, and as it is.

use std::time::Duration;

use super::{ObjectError, ObjectErrorKind};
use crate::topology::{Discard, Storage, StreamInfo, StreamSpec};

/// The longest name of a bucket: nats-server takes 255 bytes for the name of its stream, `OBJ_` included.
const LONGEST_BUCKET: usize = 251;

/// A bucket of objects as it should be.
///
/// What is not declared is nats-server's default when the bucket is made, and is not looked at afterwards.
///
/// # Examples
///
/// ```
/// use eventbus::object::ObjectSpec;
///
/// let spec = ObjectSpec::new("releases").replicas(3).max_bytes(10 << 30);
/// assert_eq!(spec.bucket(), "releases");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a declaration does nothing until the bucket is created"]
pub struct ObjectSpec {
    bucket: String,
    duplicate_window: Option<Duration>,
    stream: StreamSpec,
}

impl ObjectSpec {
    /// A bucket of this name.
    pub fn new(bucket: impl Into<String>) -> Self {
        let bucket = bucket.into();
        // As ADR-20 has it: all clients know a bucket by these.
        let subjects = [format!("$O.{bucket}.C.>"), format!("$O.{bucket}.M.>")];
        let stream = StreamSpec::new(stream(&bucket), subjects)
            .discard(Discard::New)
            .with("allow_rollup_hdrs", true)
            .with("allow_direct", true);
        Self {
            bucket,
            duplicate_window: None,
            stream,
        }
    }

    /// Its name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The age at which an object goes; nats-server: never. The duplicate window is no longer than this.
    ///
    /// Chunks age one by one: an object that is being read may lose its first ones.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.duplicate_window = (age < Duration::from_secs(120)).then_some(age);
        self.stream = self.stream.max_age(age);
        self
    }

    /// Bytes of all objects; nats-server: no limit. A full bucket refuses new objects.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.stream = self.stream.max_bytes(bytes);
        self
    }

    /// Where objects are kept; nats-server: files.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.stream = self.stream.storage(storage);
        self
    }

    /// How many servers have each object: 1 to 5; nats-server: 1.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.stream = self.stream.replicas(replicas);
        self
    }

    /// Objects are compressed on disk; nats-server: no.
    pub fn compression(mut self, compress: bool) -> Self {
        self.stream = self.stream.with("compression", if compress { "s2" } else { "none" });
        self
    }

    /// For people.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.stream = self.stream.description(text);
        self
    }

    /// The stream behind it.
    pub(super) fn stream(&self) -> Result<StreamSpec, ObjectError> {
        check_bucket(&self.bucket)?;
        let stream = self.stream.clone();
        Ok(match self.duplicate_window {
            Some(window) => stream.duplicate_window(window),
            None => stream,
        })
    }
}

/// The stream behind a bucket.
pub(super) fn stream(bucket: &str) -> String {
    format!("OBJ_{bucket}")
}

pub(super) fn check_bucket(bucket: &str) -> Result<(), ObjectError> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if bucket.is_empty() || bucket.len() > LONGEST_BUCKET || !bucket.bytes().all(is_fine) {
        return Err(ObjectError::new(ObjectErrorKind::InvalidBucket, bucket));
    }
    Ok(())
}

/// A bucket as it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BucketInfo {
    /// Its name.
    pub bucket: String,
    /// Bytes of all objects, and of what belongs to them.
    pub bytes: u64,
    /// The stream behind it.
    pub stream: StreamInfo,
}

impl BucketInfo {
    /// `None` when the stream is not that of a bucket.
    pub(super) fn of(stream: StreamInfo) -> Option<Self> {
        Some(Self {
            bucket: stream.name.strip_prefix("OBJ_")?.to_owned(),
            bytes: stream.bytes,
            stream,
        })
    }
}
