//! The buckets of an account.

use natstream_connect::Connection;

use super::key::{check_bucket, stream};
use super::{KvError, KvInfo, KvSpec};
use crate::topology::{Changes, Topology, TopologyErrorKind};

/// The buckets of an account: looked at, changed and deleted. One is used by [`Kv`](super::Kv).
///
/// Each method asks JetStream's API, for at most 10 s while a cluster has no leader.
#[derive(Clone, Debug)]
pub struct Buckets {
    topology: Topology,
}

impl Buckets {
    /// The buckets of the account that this connection is in, and in its JetStream domain.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self {
            topology: Topology::new(connection),
        }
    }

    /// Makes the bucket if it is not there, and compares it if it is.
    ///
    /// # Errors
    /// [`Differs`](super::KvErrorKind::Differs) when it is there and is not as declared; nothing was changed then.
    /// [`KvErrorKind`](super::KvErrorKind) has the others.
    ///
    /// # Cancel safety
    /// Dropped early, the bucket may have been made.
    pub async fn ensure(&self, spec: &KvSpec) -> Result<KvInfo, KvError> {
        let info = self.topology.ensure(&spec.stream()?).await;
        Self::read(spec.bucket(), info)
    }

    /// Makes a bucket that is there as declared. What is not declared stays as it is.
    ///
    /// # Errors
    /// [`Differs`](super::KvErrorKind::Differs) when a change is not among those that are meant: then nothing was changed.
    ///
    /// # Cancel safety
    /// Dropped early, the bucket may have been changed.
    pub async fn update(&self, spec: &KvSpec, changes: Changes) -> Result<KvInfo, KvError> {
        let info = self.topology.update(&spec.stream()?, changes).await;
        Self::read(spec.bucket(), info)
    }

    /// A bucket as it is.
    ///
    /// # Errors
    /// [`NotFound`](super::KvErrorKind::NotFound), and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn info(&self, bucket: &str) -> Result<KvInfo, KvError> {
        check_bucket(bucket)?;
        Self::read(bucket, self.topology.info(&stream(bucket)).await)
    }

    /// All buckets, by name.
    ///
    /// # Errors
    /// [`KvErrorKind`](super::KvErrorKind).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn list(&self) -> Result<Vec<KvInfo>, KvError> {
        let streams = self.topology.list().await;
        let streams = streams.map_err(|error| KvError::topology("", error))?;
        Ok(streams.into_iter().filter_map(KvInfo::of).collect())
    }

    /// Deletes a bucket and all that it has.
    ///
    /// # Errors
    /// [`NotFound`](super::KvErrorKind::NotFound), and others.
    ///
    /// # Cancel safety
    /// Dropped early, the bucket may be gone.
    pub async fn delete(&self, bucket: &str) -> Result<(), KvError> {
        check_bucket(bucket)?;
        let deleted = self.topology.delete(&stream(bucket)).await;
        deleted.map_err(|error| KvError::topology(bucket, error))
    }

    fn read<T>(bucket: &str, info: Result<T, crate::topology::TopologyError>) -> Result<KvInfo, KvError>
    where
        T: Into<crate::topology::StreamInfo>,
    {
        let info = info.map_err(|error| match error.kind() {
            TopologyErrorKind::NotFound => KvError::because(super::KvErrorKind::NotFound, bucket, error),
            _ => KvError::topology(bucket, error),
        })?;
        KvInfo::of(info.into()).ok_or_else(|| KvError::new(super::KvErrorKind::Protocol, bucket))
    }
}
