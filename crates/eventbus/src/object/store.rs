//! One bucket of objects.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use natstream_connect::{Connection, Lease, token};
use serde_json::Value;

use super::info::Options;
use super::removal::Removals;
use super::spec::{check_bucket, stream};
use super::{BucketInfo, Link, ObjectError, ObjectErrorKind, ObjectInfo, ObjectReader, ObjectSpec, Put};
use crate::bus::Bus;
use crate::consume::{Begin, Ordered, OrderedSpec};
use crate::topology::{Changes, Reads, StreamInfo, Topology, TopologyError};

/// How long a chunk is tried to be put, unless its id would be forgotten sooner.
const DEADLINE: Duration = Duration::from_secs(30);

/// Bytes of chunks that are not acked yet: 64 of them, which is more than a fast network has under way.
const WINDOW_BYTES: usize = 8 << 20;

/// Chunks that are not acked yet, of all objects together: 32 MiB of those of the usual size.
const WINDOW: usize = 256;

/// A name may be so long: base64 makes a third more of it, and subjects have limits in practice.
const LONGEST_NAME: usize = 2048;

/// How many links lead to an object at most.
const LINKS: u32 = 2;

/// A bucket of objects.
///
/// It is a handle: clones share a bus for what is put, and hold one share of their connection.
#[derive(Clone)]
pub struct Objects {
    pub(super) inner: Arc<Inner>,
    pub(super) window_bytes: usize,
}

pub(super) struct Inner {
    pub(super) connection: Lease,
    pub(super) bus: Bus,
    pub(super) topology: Topology,
    pub(super) bucket: String,
    pub(super) stream: String,
    pub(super) removals: Removals,
    pub(super) reads: Reads,
}

impl Objects {
    /// Uses a bucket that is there.
    ///
    /// # Errors
    /// [`NoBucket`](ObjectErrorKind::NoBucket), and others.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open(connection: impl Into<Lease>, bucket: &str) -> Result<Self, ObjectError> {
        let connection = connection.into();
        check_bucket(bucket)?;
        let info = Topology::new(connection.connection().clone())
            .info(&stream(bucket))
            .await;
        Self::of(connection, bucket, info).await
    }

    /// Makes the bucket if it is not there, compares it if it is, and uses it.
    ///
    /// # Errors
    /// [`Differs`](ObjectErrorKind::Differs) when it is there and is not as declared; nothing was changed then.
    ///
    /// # Cancel safety
    /// Dropped early, the bucket may have been made.
    pub async fn create(connection: impl Into<Lease>, spec: &ObjectSpec) -> Result<Self, ObjectError> {
        let connection = connection.into();
        let topology = Topology::new(connection.connection().clone());
        let info = topology.ensure(&spec.stream()?).await;
        Self::of(connection, spec.bucket(), info).await
    }

    /// Makes a bucket that is there as declared, and uses it. What is not declared stays as it is.
    ///
    /// # Errors
    /// [`Differs`](ObjectErrorKind::Differs) when a change is not among those that are meant: then nothing was changed.
    ///
    /// # Cancel safety
    /// Dropped early, the bucket may have been changed.
    pub async fn update(
        connection: impl Into<Lease>,
        spec: &ObjectSpec,
        changes: Changes,
    ) -> Result<Self, ObjectError> {
        let connection = connection.into();
        let topology = Topology::new(connection.connection().clone());
        let info = topology.update(&spec.stream()?, changes).await;
        Self::of(connection, spec.bucket(), info).await
    }

    /// All buckets of the account, by name.
    ///
    /// # Errors
    /// [`ObjectErrorKind`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn buckets(connection: &Connection) -> Result<Vec<BucketInfo>, ObjectError> {
        let streams = Topology::new(connection.clone()).list().await;
        let streams = streams.map_err(|error| ObjectError::topology("", error))?;
        Ok(streams.into_iter().filter_map(BucketInfo::of).collect())
    }

    /// Deletes a bucket and all that it has.
    ///
    /// # Errors
    /// [`NoBucket`](ObjectErrorKind::NoBucket), and others.
    ///
    /// # Cancel safety
    /// Dropped early, the bucket may be gone.
    pub async fn delete_bucket(connection: &Connection, bucket: &str) -> Result<(), ObjectError> {
        check_bucket(bucket)?;
        let deleted = Topology::new(connection.clone()).delete(&stream(bucket)).await;
        deleted.map_err(|error| ObjectError::topology(bucket, error))
    }

    async fn of(connection: Lease, bucket: &str, info: Result<StreamInfo, TopologyError>) -> Result<Self, ObjectError> {
        let info = info.map_err(|error| ObjectError::topology(bucket, error))?;
        // An id must be known for as long as its chunk is tried.
        let deadline = match info.duplicate_window {
            Duration::ZERO => DEADLINE,
            window => DEADLINE.min(window),
        };
        let bus = Bus::builder(connection.clone()).window(WINDOW).deadline(deadline);
        let bus = bus.open().await;
        let bus = bus.map_err(|error| ObjectError::open(bucket, error))?;
        let allows_direct = info.config.get("allow_direct") == Some(&Value::Bool(true));
        Ok(Self {
            inner: Arc::new(Inner {
                topology: Topology::new(connection.connection().clone()),
                connection,
                bus,
                bucket: bucket.to_owned(),
                stream: stream(bucket),
                removals: Removals::default(),
                // Whoever has put an object finds it: other replicas may be behind.
                reads: if allows_direct && info.replicas == 1 {
                    Reads::Any
                } else {
                    Reads::Leader
                },
            }),
            window_bytes: WINDOW_BYTES,
        })
    }

    /// How many bytes of an object may be under way; default 8 MiB, at most 32 MiB. So much more than a chunk is kept for each
    /// object that is put.
    #[must_use]
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.inner.bucket
    }

    /// Puts an object in place of what has this name, if anything has: to be set up.
    pub fn put(&self, name: impl Into<String>) -> Put {
        Put::new(self.clone(), name.into())
    }

    /// Begins to read an object; links are followed.
    ///
    /// # Errors
    /// [`NotFound`](ObjectErrorKind::NotFound), [`IsLink`](ObjectErrorKind::IsLink), and others. What goes wrong later, the
    /// reader tells.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn get(&self, name: &str) -> Result<ObjectReader, ObjectError> {
        let mut store = self.inner.clone();
        let mut name = name.to_owned();
        for _ in 0..LINKS {
            let found = store.expect(&name).await?;
            let Some(link) = found.info.link() else {
                return ObjectReader::open(store, found).await;
            };
            let Some(target) = &link.name else { break };
            if link.bucket != store.bucket {
                store = Self::open(store.connection.clone(), &link.bucket).await?.inner;
            }
            name = target.clone();
        }
        Err(store.error(ObjectErrorKind::IsLink, &name))
    }

    /// What is known of an object; links are not followed.
    ///
    /// # Errors
    /// [`NotFound`](ObjectErrorKind::NotFound), and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn info(&self, name: &str) -> Result<ObjectInfo, ObjectError> {
        Ok(self.inner.expect(name).await?.info)
    }

    /// All objects, by name.
    ///
    /// Memory: what is known of each.
    ///
    /// # Errors
    /// [`ObjectErrorKind`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn list(&self) -> Result<Vec<ObjectInfo>, ObjectError> {
        let mut objects = BTreeMap::new();
        let mut found = self.inner.ordered("M.>", Begin::LastOfEach, 1024).await?;
        while let Some(message) = found.next_there().await.map_err(|error| self.inner.consume(error))? {
            let mut info = self.inner.read(&message.payload)?;
            info.modified = message.stored_at;
            if info.deleted {
                objects.remove(&info.name);
            } else {
                objects.insert(info.name.clone(), info);
            }
        }
        Ok(objects.into_values().collect())
    }

    /// Deletes an object. Who is reading it gets [`Replaced`](ObjectErrorKind::Replaced).
    ///
    /// # Errors
    /// [`NotFound`](ObjectErrorKind::NotFound); [`LeftBehind`](ObjectErrorKind::LeftBehind): it is deleted, and uses space; and
    /// others.
    ///
    /// # Cancel safety
    /// Dropped early, it may be deleted, and its chunks may be left for [`sweep`](Self::sweep).
    pub async fn delete(&self, name: &str) -> Result<(), ObjectError> {
        let mut info = self.inner.expect(name).await?.info;
        info.size = 0;
        info.chunks = 0;
        info.digest = None;
        info.deleted = true;
        let replaced = self.inner.publish_info(&info).await?;
        // Its own number stays the same, so that a deletion that is said twice is known.
        self.inner
            .purge(name, [Some(info.nuid), replaced.map(|info| info.nuid)])
            .await
    }

    /// Makes a link to an object of this bucket or another one, in place of what has this name: who reads the one reads the
    /// other.
    ///
    /// # Errors
    /// [`IsLink`](ObjectErrorKind::IsLink) when `target` is one. Others as [`Put::read`].
    ///
    /// # Cancel safety
    /// Dropped early, the link may have been made.
    pub async fn link(&self, name: &str, target: &ObjectInfo) -> Result<ObjectInfo, ObjectError> {
        if target.link().is_some() {
            return Err(self.inner.error(ObjectErrorKind::IsLink, &target.name));
        }
        self.inner.check_name(name)?;
        let mut info = ObjectInfo::new(self.bucket(), name, token());
        info.options = Options {
            link: Some(Link {
                bucket: target.bucket.clone(),
                name: Some(target.name.clone()),
            }),
            max_chunk_size: None,
        };
        let replaced = self.inner.publish_info(&info).await?;
        self.inner.purge(name, [replaced.map(|info| info.nuid)]).await?;
        Ok(info)
    }
}

impl Inner {
    pub(super) fn chunks(&self, nuid: &str) -> String {
        format!("$O.{}.C.{nuid}", self.bucket)
    }

    pub(super) fn error(&self, kind: ObjectErrorKind, name: &str) -> ObjectError {
        ObjectError::new(kind, &self.bucket).of(name)
    }

    pub(super) fn consume(&self, error: crate::ConsumeError) -> ObjectError {
        ObjectError::consume(&self.bucket, error)
    }

    pub(super) fn topology_error(&self, error: TopologyError) -> ObjectError {
        ObjectError::topology(&self.bucket, error)
    }

    pub(super) fn check_name(&self, name: &str) -> Result<(), ObjectError> {
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(self.error(ObjectErrorKind::InvalidName, name));
        }
        Ok(())
    }

    pub(super) async fn ordered(&self, filter: &str, begin: Begin, slots: usize) -> Result<Ordered, ObjectError> {
        let spec = OrderedSpec {
            stream: self.stream.clone(),
            filters: vec![format!("$O.{}.{filter}", self.bucket)],
            begin,
            headers_only: false,
            slots,
        };
        let ordered = Ordered::open(self.connection.clone(), spec).await;
        ordered.map_err(|error| self.consume(error))
    }

    pub(super) fn read(&self, payload: &[u8]) -> Result<ObjectInfo, ObjectError> {
        let info = serde_json::from_slice(payload);
        info.map_err(|error| ObjectError::because(ObjectErrorKind::Protocol, &self.bucket, error))
    }

    /// Removes chunks that no object uses any more.
    pub(super) async fn purge(
        &self,
        name: &str,
        nuids: impl IntoIterator<Item = Option<String>>,
    ) -> Result<(), ObjectError> {
        for nuid in nuids.into_iter().flatten().filter(|nuid| !nuid.is_empty()) {
            let purged = self.topology.purge(&self.stream, &self.chunks(&nuid)).await;
            purged.map_err(|error| ObjectError::because(ObjectErrorKind::LeftBehind, &self.bucket, error).of(name))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects")
            .field("bucket", &self.inner.bucket)
            .field("window_bytes", &self.window_bytes)
            .field("connection", self.inner.connection.connection())
            .finish_non_exhaustive()
    }
}
