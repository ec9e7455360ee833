//! What can go wrong with objects.

use std::error::Error;
use std::{fmt, io};

use crate::consume::{ConsumeError, ConsumeErrorKind};
use crate::error::{OpenError, PublishError, PublishErrorKind};
use crate::topology::{Difference, TopologyError, TopologyErrorKind};

/// Why something was not done with a bucket or an object.
#[derive(Debug)]
pub struct ObjectError {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: ObjectErrorKind,
    bucket: String,
    name: Option<String>,
    may_be_stored: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ObjectErrorKind {
    /// The connection is closed, or could not take the question.
    Connection,
    /// The bucket is there and is not as it should be; [`ObjectError::differences`] says where. Nothing was changed.
    Differs,
    /// What was read is not what was put: the digest, or the size, is another.
    Digest,
    /// The bucket is full.
    Full,
    /// Chunks are missing.
    Incomplete,
    /// No bucket can have this name: letters, digits, `-` and `_`.
    InvalidBucket,
    /// No object can have this name: it is empty, or too long.
    InvalidName,
    /// The object is a link to a whole bucket, or to another link, and cannot be read or linked to.
    IsLink,
    /// It is done, but chunks that belong to no object any more could not be removed: [`sweep`](super::Objects::sweep) does.
    LeftBehind,
    /// There is no such bucket.
    NoBucket,
    /// There is no such object.
    NotFound,
    /// JetStream is not enabled for this account, or nobody answers.
    NotEnabled,
    /// nats-server does not permit it to this user.
    NotPermitted,
    /// What nats-server, or another client, said cannot be read.
    Protocol,
    /// nats-server refuses for good.
    Rejected,
    /// The object was replaced or deleted while it was read, or the whole bucket was.
    Replaced,
    /// What is to be put could not be read.
    Source,
    /// Nobody has answered in time.
    Timeout,
    /// A chunk is larger than the bucket or nats-server takes.
    TooLarge,
}

impl ObjectError {
    pub(super) fn new(kind: ObjectErrorKind, bucket: &str) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                bucket: bucket.to_owned(),
                name: None,
                may_be_stored: false,
                source: None,
            }),
        }
    }

    pub(super) fn because(
        kind: ObjectErrorKind,
        bucket: &str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        let mut error = Self::new(kind, bucket);
        error.inner.source = Some(source.into());
        error
    }

    pub(super) fn of(mut self, name: &str) -> Self {
        self.inner.name = Some(name.to_owned());
        self
    }

    /// What was to be published is perhaps there.
    pub(super) fn with_may_be_stored(mut self, may_be_stored: bool) -> Self {
        self.inner.may_be_stored |= may_be_stored;
        self
    }

    pub(super) fn publish(bucket: &str, error: PublishError) -> Self {
        let kind = match error.kind() {
            PublishErrorKind::Closed => ObjectErrorKind::Connection,
            PublishErrorKind::NoResponders => ObjectErrorKind::NotEnabled,
            PublishErrorKind::NotPermitted => ObjectErrorKind::NotPermitted,
            PublishErrorKind::StreamFull => ObjectErrorKind::Full,
            PublishErrorKind::TooLarge => ObjectErrorKind::TooLarge,
            PublishErrorKind::Timeout | PublishErrorKind::Unknown => ObjectErrorKind::Timeout,
            PublishErrorKind::Invalid => ObjectErrorKind::InvalidName,
            PublishErrorKind::Rejected | PublishErrorKind::WrongLast => ObjectErrorKind::Rejected,
        };
        let may_be_stored = error.may_be_stored();
        Self::because(kind, bucket, error).with_may_be_stored(may_be_stored)
    }

    pub(super) fn topology(bucket: &str, error: TopologyError) -> Self {
        let kind = match error.kind() {
            TopologyErrorKind::Connection => ObjectErrorKind::Connection,
            TopologyErrorKind::Differs => ObjectErrorKind::Differs,
            TopologyErrorKind::InvalidName => ObjectErrorKind::InvalidBucket,
            TopologyErrorKind::NotEnabled => ObjectErrorKind::NotEnabled,
            TopologyErrorKind::NotFound => ObjectErrorKind::NoBucket,
            TopologyErrorKind::Protocol => ObjectErrorKind::Protocol,
            TopologyErrorKind::Rejected => ObjectErrorKind::Rejected,
            TopologyErrorKind::Timeout => ObjectErrorKind::Timeout,
        };
        Self::because(kind, bucket, error)
    }

    pub(super) fn consume(bucket: &str, error: ConsumeError) -> Self {
        let kind = match error.kind() {
            ConsumeErrorKind::Closed => ObjectErrorKind::Connection,
            ConsumeErrorKind::NotEnabled => ObjectErrorKind::NotEnabled,
            ConsumeErrorKind::NotFound => ObjectErrorKind::NoBucket,
            ConsumeErrorKind::NotPermitted => ObjectErrorKind::NotPermitted,
            ConsumeErrorKind::StreamReplaced => ObjectErrorKind::Replaced,
            ConsumeErrorKind::Timeout => ObjectErrorKind::Timeout,
            _ => ObjectErrorKind::Rejected,
        };
        Self::because(kind, bucket, error)
    }

    pub(super) fn open(bucket: &str, error: OpenError) -> Self {
        let kind = match &error {
            OpenError::Closed => ObjectErrorKind::Connection,
            _ => ObjectErrorKind::Rejected,
        };
        Self::because(kind, bucket, error)
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> ObjectErrorKind {
        self.inner.kind
    }

    /// The bucket that was meant; empty for a list of them.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.inner.bucket
    }

    /// The object that was meant.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.inner.name.as_deref()
    }

    /// May the object be there all the same, or be deleted? An answer was lost then. False is certain.
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

    /// The error that a reader of [`ObjectReader`](super::ObjectReader) has met, inside one of input and output.
    #[must_use]
    pub fn in_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<ObjectError> for io::Error {
    fn from(error: ObjectError) -> Self {
        let kind = match error.kind() {
            ObjectErrorKind::Digest | ObjectErrorKind::Replaced => io::ErrorKind::InvalidData,
            ObjectErrorKind::Incomplete => io::ErrorKind::UnexpectedEof,
            ObjectErrorKind::Timeout => io::ErrorKind::TimedOut,
            ObjectErrorKind::NotPermitted => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, bucket, name, .. } = &*self.inner;
        f.write_str(match kind {
            ObjectErrorKind::Connection => "the bucket could not be asked",
            ObjectErrorKind::Differs => "the bucket is not as it should be",
            ObjectErrorKind::Digest => "what was read is not what was put",
            ObjectErrorKind::Full => "the bucket is full",
            ObjectErrorKind::Incomplete => "chunks of the object are missing",
            ObjectErrorKind::InvalidBucket => "no bucket can have this name",
            ObjectErrorKind::InvalidName => "no object can have this name",
            ObjectErrorKind::IsLink => "the object is a link to a bucket, or to another link",
            ObjectErrorKind::LeftBehind => "it is done, but chunks that are no longer used could not be removed",
            ObjectErrorKind::NoBucket => "there is no such bucket",
            ObjectErrorKind::NotFound => "there is no such object",
            ObjectErrorKind::NotEnabled => "JetStream is not enabled for this account, or nobody answers",
            ObjectErrorKind::NotPermitted => "nats-server does not permit this user to do it",
            ObjectErrorKind::Protocol => "what is said of the object cannot be read",
            ObjectErrorKind::Rejected => "JetStream refuses",
            ObjectErrorKind::Replaced => "the object was replaced or deleted meanwhile",
            ObjectErrorKind::Source => "what is to be put could not be read",
            ObjectErrorKind::Timeout => "JetStream has not answered",
            ObjectErrorKind::TooLarge => "a chunk is too large",
        })?;
        write!(f, " (`{bucket}`")?;
        if let Some(name) = name {
            write!(f, ", object `{name}`")?;
        }
        if self.inner.may_be_stored {
            f.write_str(", it may be done")?;
        }
        f.write_str(")")
    }
}

impl Error for ObjectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}
