//! What can go wrong with a bucket.

use std::error::Error;
use std::fmt;

use natstream_connect::CodecError;

use crate::consume::{ConsumeError, ConsumeErrorKind};
use crate::error::{OpenError, PublishError, PublishErrorKind};
use crate::topology::{Difference, TopologyError, TopologyErrorKind};

/// Why something was not done with a bucket or a key.
#[derive(Debug)]
pub struct KvError {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: KvErrorKind,
    bucket: String,
    key: Option<String>,
    revision: Option<u64>,
    may_be_stored: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KvErrorKind {
    /// The connection is closed, or could not take the question.
    Connection,
    /// A value cannot be read as what it should be; [`KvError::key`] and [`KvError::revision`] say which.
    Decode,
    /// The bucket is there and is not as it should be; [`KvError::differences`] says where. Nothing was changed.
    Differs,
    /// The value has no form that can be stored.
    Encode,
    /// The key has a value already; [`KvError::revision`] is its revision.
    Exists,
    /// The bucket is full.
    Full,
    /// No bucket can have this name: letters, digits, `-` and `_`.
    InvalidBucket,
    /// No key can be this: letters, digits and `-/_=.`, without a dot at its ends or two together; in a filter `*` and `>`
    /// too. Or there are 64 parts or more.
    InvalidKey,
    /// JetStream is not enabled for this account, or nobody answers.
    NotEnabled,
    /// There is no such bucket.
    NotFound,
    /// nats-server does not permit it to this user.
    NotPermitted,
    /// What nats-server said cannot be read.
    Protocol,
    /// nats-server refuses for good.
    Rejected,
    /// The bucket was deleted and made again: revisions count from 1, and what is known of it means nothing.
    Replaced,
    /// Nobody has answered in time.
    Timeout,
    /// The value is larger than the bucket or nats-server takes. Its id takes some 60 bytes of `max_payload`, and none
    /// [without ids](super::Kv::without_ids).
    TooLarge,
    /// The key's revision is not what was expected; [`KvError::revision`] is what it is, 0 for none, if that is known.
    WrongRevision,
}

impl KvError {
    pub(super) fn new(kind: KvErrorKind, bucket: &str) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                bucket: bucket.to_owned(),
                key: None,
                revision: None,
                may_be_stored: false,
                source: None,
            }),
        }
    }

    pub(super) fn because(kind: KvErrorKind, bucket: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let mut error = Self::new(kind, bucket);
        error.inner.source = Some(source.into());
        error
    }

    pub(super) fn codec(kind: KvErrorKind, bucket: &str, key: &str, error: CodecError) -> Self {
        Self::because(kind, bucket, error).at(key)
    }

    pub(super) fn at(mut self, key: &str) -> Self {
        self.inner.key = Some(key.to_owned());
        self
    }

    pub(super) fn with_revision(mut self, revision: Option<u64>) -> Self {
        self.inner.revision = revision;
        self
    }

    pub(super) fn with_may_be_stored(mut self, may_be_stored: bool) -> Self {
        self.inner.may_be_stored = may_be_stored;
        self
    }

    pub(super) fn publish(bucket: &str, error: PublishError) -> Self {
        let kind = match error.kind() {
            PublishErrorKind::Closed => KvErrorKind::Connection,
            PublishErrorKind::Invalid => KvErrorKind::InvalidKey,
            PublishErrorKind::NoResponders => KvErrorKind::NotEnabled,
            PublishErrorKind::NotPermitted => KvErrorKind::NotPermitted,
            PublishErrorKind::StreamFull => KvErrorKind::Full,
            PublishErrorKind::TooLarge => KvErrorKind::TooLarge,
            PublishErrorKind::Timeout | PublishErrorKind::Unknown => KvErrorKind::Timeout,
            PublishErrorKind::WrongLast => KvErrorKind::WrongRevision,
            PublishErrorKind::Rejected => KvErrorKind::Rejected,
        };
        let may_be_stored = error.may_be_stored();
        Self::because(kind, bucket, error).with_may_be_stored(may_be_stored)
    }

    pub(super) fn topology(bucket: &str, error: TopologyError) -> Self {
        let kind = match error.kind() {
            TopologyErrorKind::Connection => KvErrorKind::Connection,
            TopologyErrorKind::Differs => KvErrorKind::Differs,
            TopologyErrorKind::InvalidName => KvErrorKind::InvalidBucket,
            TopologyErrorKind::NotEnabled => KvErrorKind::NotEnabled,
            TopologyErrorKind::NotFound => KvErrorKind::NotFound,
            TopologyErrorKind::Protocol => KvErrorKind::Protocol,
            TopologyErrorKind::Rejected => KvErrorKind::Rejected,
            TopologyErrorKind::Timeout => KvErrorKind::Timeout,
        };
        Self::because(kind, bucket, error)
    }

    pub(super) fn consume(bucket: &str, error: ConsumeError) -> Self {
        let kind = match error.kind() {
            ConsumeErrorKind::Closed => KvErrorKind::Connection,
            ConsumeErrorKind::NotEnabled => KvErrorKind::NotEnabled,
            ConsumeErrorKind::NotFound => KvErrorKind::NotFound,
            ConsumeErrorKind::NotPermitted => KvErrorKind::NotPermitted,
            ConsumeErrorKind::StreamReplaced => KvErrorKind::Replaced,
            ConsumeErrorKind::Timeout => KvErrorKind::Timeout,
            _ => KvErrorKind::Rejected,
        };
        Self::because(kind, bucket, error)
    }

    pub(super) fn open(bucket: &str, error: OpenError) -> Self {
        let kind = match &error {
            OpenError::Closed => KvErrorKind::Connection,
            _ => KvErrorKind::Rejected,
        };
        Self::because(kind, bucket, error)
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> KvErrorKind {
        self.inner.kind
    }

    /// The bucket that was meant; empty for a list of them.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.inner.bucket
    }

    /// The key that was meant.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.inner.key.as_deref()
    }

    /// The revision that the key has, or that could not be read.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.inner.revision
    }

    /// May the value have been stored all the same? An answer was lost then. False is certain.
    #[must_use]
    pub fn may_be_stored(&self) -> bool {
        self.inner.may_be_stored
    }

    /// Where the bucket's stream is not as it should be.
    #[must_use]
    pub fn differences(&self) -> &[Difference] {
        let source = self.inner.source.as_deref();
        let error = source.and_then(|source| source.downcast_ref::<TopologyError>());
        error.map_or(&[], TopologyError::differences)
    }
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            bucket,
            key,
            revision,
            may_be_stored,
            ..
        } = &*self.inner;
        f.write_str(match kind {
            KvErrorKind::Connection => "the bucket could not be asked",
            KvErrorKind::Decode => "the value cannot be read as what it should be",
            KvErrorKind::Differs => "the bucket is not as it should be",
            KvErrorKind::Encode => "the value cannot be stored in this form",
            KvErrorKind::Exists => "the key has a value already",
            KvErrorKind::Full => "the bucket is full",
            KvErrorKind::InvalidBucket => "no bucket can have this name",
            KvErrorKind::InvalidKey => "this cannot be a key",
            KvErrorKind::NotEnabled => "JetStream is not enabled for this account, or nobody answers",
            KvErrorKind::NotFound => "there is no such bucket",
            KvErrorKind::NotPermitted => "nats-server does not permit this user to do it",
            KvErrorKind::Protocol => "the answer of JetStream cannot be read",
            KvErrorKind::Rejected => "JetStream refuses",
            KvErrorKind::Replaced => "the bucket was deleted and made again",
            KvErrorKind::Timeout => "JetStream has not answered",
            KvErrorKind::TooLarge => "the value is too large",
            KvErrorKind::WrongRevision => "the key's revision is not what was expected",
        })?;
        write!(f, " (`{bucket}`")?;
        if let Some(key) = key {
            write!(f, ", key `{key}`")?;
        }
        if let Some(revision) = revision {
            write!(f, ", revision {revision}")?;
        }
        if *may_be_stored {
            f.write_str(", it may be stored")?;
        }
        f.write_str(")")
    }
}

impl Error for KvError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}
