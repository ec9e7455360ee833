//! One bucket: the handle, and what single keys have.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use natstream_connect::{Codec, CodecError, Connection, Json, Lease};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::key::Subjects;
use super::read::entry;
use super::{Buckets, Entry, KvError, KvInfo, KvSpec};
use crate::bus::Bus;
use crate::consume::Delivered;
use crate::engine::Dedup;
use crate::topology::{Reads, Stored, Topology};

/// How long a value is tried to be put, unless its id would be forgotten sooner.
const DEADLINE: Duration = Duration::from_secs(30);

/// A bucket of values `T` by key: bytes, or by [`typed`](Kv::typed) whatever serde knows.
///
/// It is a handle: clones share a bus for what is put, and hold one share of their connection.
///
/// Reads go to any server that has the bucket when there is one replica, and to the leader when there are several, so that
/// whoever has put a value reads it. [`read_any_replica`](Self::read_any_replica) gives that up for speed. A mirror that others
/// have made of the bucket may answer too, and be behind; one that is opened is read itself, and what is put goes to the bucket
/// that it mirrors.
///
/// Memory: that of a [`Bus`] with its defaults.
pub struct Kv<T = Bytes> {
    pub(super) inner: Arc<Inner>,
    reads: Reads,
    pub(super) encode: fn(&T) -> Result<Bytes, CodecError>,
    pub(super) decode: Decode<T>,
}

/// Makes a value of a payload.
pub(super) type Decode<T> = fn(Bytes) -> Result<T, CodecError>;

pub(super) struct Inner {
    pub(super) connection: Lease,
    pub(super) subjects: Subjects,
    pub(super) bus: Bus,
    deadline: Duration,
    topology: Topology,
    allows_direct: bool,
}

impl Kv {
    /// Uses a bucket that is there.
    ///
    /// # Errors
    /// [`NotFound`](super::KvErrorKind::NotFound), and others.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open(connection: impl Into<Lease>, bucket: &str) -> Result<Self, KvError> {
        let connection = connection.into();
        let info = Buckets::new(connection.connection().clone()).info(bucket).await?;
        Self::of(connection, &info).await
    }

    /// Makes the bucket if it is not there, and uses it.
    ///
    /// # Errors
    /// As [`Buckets::ensure`]: [`Differs`](super::KvErrorKind::Differs) when it is there and is not as declared.
    ///
    /// # Cancel safety
    /// Dropped early, the bucket may have been made.
    pub async fn create(connection: impl Into<Lease>, spec: &KvSpec) -> Result<Self, KvError> {
        let connection = connection.into();
        let info = Buckets::new(connection.connection().clone()).ensure(spec).await?;
        Self::of(connection, &info).await
    }

    async fn of(connection: Lease, info: &KvInfo) -> Result<Self, KvError> {
        let subjects = Subjects::new(connection.connection(), info)?;
        // An id must be known for as long as its value is tried.
        let deadline = match info.stream.duplicate_window {
            Duration::ZERO => DEADLINE,
            window => DEADLINE.min(window),
        };
        let bus = open_bus(&connection, &info.bucket, deadline, Dedup::Id).await?;
        let allows_direct = info.stream.config.get("allow_direct") == Some(&Value::Bool(true));
        let reads = if allows_direct && info.stream.replicas == 1 {
            Reads::Any
        } else {
            Reads::Leader
        };
        Ok(Self {
            reads,
            encode: |value| Ok(value.clone()),
            decode: Ok,
            inner: Arc::new(Inner {
                topology: Topology::new(connection.connection().clone()),
                connection,
                subjects,
                bus,
                deadline,
                allows_direct,
            }),
        })
    }
}

impl<T> Kv<T> {
    /// The same bucket with values of another type, in JSON.
    #[must_use]
    pub fn typed<U: Serialize + DeserializeOwned>(&self) -> Kv<U> {
        self.typed_with::<U, Json>()
    }

    /// The same bucket with values of another type, in the form of a codec.
    #[must_use]
    pub fn typed_with<U: Serialize + DeserializeOwned, C: Codec>(&self) -> Kv<U> {
        Kv {
            inner: self.inner.clone(),
            reads: self.reads,
            encode: |value| C::encode(value),
            decode: |payload| C::decode(&payload),
        }
    }

    /// Reads from any server that has the bucket: faster where there are several, and at times older than what was put.
    #[must_use]
    pub fn read_any_replica(mut self) -> Self {
        if self.inner.allows_direct {
            self.reads = Reads::Any;
        }
        self
    }

    /// The same bucket, on which values are put without ids: faster by a quarter to a half where many are put at once, since
    /// nats-server remembers none. What is not answered is not tried again then: a lost connection fails what is under way as
    /// [`Timeout`](super::KvErrorKind::Timeout), which [may be stored](KvError::may_be_stored).
    ///
    /// # Errors
    /// [`Connection`](super::KvErrorKind::Connection).
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn without_ids(self) -> Result<Self, KvError> {
        let Inner {
            connection,
            subjects,
            deadline,
            topology,
            allows_direct,
            ..
        } = &*self.inner;
        let bus = open_bus(connection, &subjects.bucket, *deadline, Dedup::Off).await?;
        let inner = Inner {
            connection: connection.clone(),
            subjects: subjects.clone(),
            bus,
            deadline: *deadline,
            topology: topology.clone(),
            allows_direct: *allows_direct,
        };
        Ok(Self {
            inner: Arc::new(inner),
            ..self
        })
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.inner.subjects.bucket
    }

    /// The connection that it is on.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        self.inner.connection.connection()
    }

    /// The bucket as it is.
    ///
    /// # Errors
    /// [`NotFound`](super::KvErrorKind::NotFound) when it was deleted, and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn info(&self) -> Result<KvInfo, KvError> {
        Buckets::new(self.connection().clone()).info(self.bucket()).await
    }

    /// The key's value; `None` when it has none, or was deleted.
    ///
    /// # Errors
    /// [`Decode`](super::KvErrorKind::Decode), [`InvalidKey`](super::KvErrorKind::InvalidKey), and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn get(&self, key: &str) -> Result<Option<T>, KvError> {
        Ok(self.entry(key).await?.and_then(|entry| entry.value))
    }

    /// The key's last revision, also where that is a deletion; `None` when there is nothing of it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn entry(&self, key: &str) -> Result<Option<Entry<T>>, KvError> {
        let found = self.last(key, self.reads).await?;
        found.map(|stored| self.read(stored)).transpose()
    }

    /// One revision of a key; `None` when the bucket does not have it, or it is another key's.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn revision(&self, key: &str, revision: u64) -> Result<Option<Entry<T>>, KvError> {
        let subject = self.inner.subjects.stored(key)?;
        if revision == 0 {
            return Ok(None);
        }
        let stream = &self.inner.subjects.stream;
        let found = self.inner.topology.message(stream, revision, self.reads).await;
        let found = found.map_err(|error| KvError::topology(self.bucket(), error).at(key))?;
        let found = found.filter(|stored| stored.subject == subject);
        found.map(|stored| self.read(stored)).transpose()
    }

    pub(super) async fn last(&self, key: &str, reads: Reads) -> Result<Option<Stored>, KvError> {
        let subject = self.inner.subjects.stored(key)?;
        let found = self
            .inner
            .topology
            .last(&self.inner.subjects.stream, &subject, reads)
            .await;
        found.map_err(|error| KvError::topology(self.bucket(), error).at(key))
    }

    fn read(&self, stored: Stored) -> Result<Entry<T>, KvError> {
        let Stored {
            sequence,
            subject,
            payload,
            headers,
            stored_at,
        } = stored;
        let delivered = Delivered {
            subject: subject.into(),
            headers: Some(headers),
            payload,
            sequence,
            stored_at,
        };
        entry(&self.inner.subjects, self.decode, delivered)
    }
}

async fn open_bus(connection: &Lease, bucket: &str, deadline: Duration, dedup: Dedup) -> Result<Bus, KvError> {
    let bus = Bus::builder(connection.clone())
        .deadline(deadline)
        .dedup(dedup)
        .open()
        .await;
    bus.map_err(|error| KvError::open(bucket, error))
}

impl<T> Clone for Kv<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            ..*self
        }
    }
}

impl<T> fmt::Debug for Kv<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kv")
            .field("bucket", &self.bucket())
            .field("reads", &self.reads)
            .field("connection", self.connection())
            .finish_non_exhaustive()
    }
}
