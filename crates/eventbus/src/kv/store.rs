//! One bucket: what is done with single keys.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use natstream_connect::{Codec, CodecError, Connection, Json, Lease, token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::entry::OPERATION;
use super::key::Subjects;
use super::{Buckets, Entry, KvError, KvErrorKind, KvInfo, KvSpec, Operation};
use crate::bus::Bus;
use crate::engine::Dedup;
use crate::error::{PublishError, PublishErrorKind};
use crate::event::Event;
use crate::topology::{Reads, Stored, Topology};

/// How long a value is tried to be put, unless its id would be forgotten sooner.
const DEADLINE: Duration = Duration::from_secs(30);

/// A bucket of values `T` by key: bytes, or by [`typed`](Kv::typed) whatever serde knows.
///
/// It is a handle: clones share a bus for what is put, and hold one share of their connection.
///
/// Reads go to any server that has the bucket when there is one replica, and to the leader when there are several, so that
/// whoever has put a value reads it. [`read_any_replica`](Self::read_any_replica) gives that up for speed.
///
/// Memory: that of a [`Bus`] with its defaults.
pub struct Kv<T = Bytes> {
    pub(super) inner: Arc<Inner>,
    reads: Reads,
    encode: fn(&T) -> Result<Bytes, CodecError>,
    pub(super) decode: Decode<T>,
}

/// Makes a value of a payload.
pub(super) type Decode<T> = fn(Bytes) -> Result<T, CodecError>;

pub(super) struct Inner {
    pub(super) connection: Lease,
    pub(super) subjects: Subjects,
    bus: Bus,
    deadline: Duration,
    topology: Topology,
    allows_direct: bool,
}

impl Kv {
    /// Uses a bucket that is there.
    ///
    /// # Errors
    /// [`NotFound`](KvErrorKind::NotFound), and others.
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
    /// As [`Buckets::ensure`]: [`Differs`](KvErrorKind::Differs) when it is there and is not as declared.
    ///
    /// # Cancel safety
    /// Dropped early, the bucket may have been made.
    pub async fn create(connection: impl Into<Lease>, spec: &KvSpec) -> Result<Self, KvError> {
        let connection = connection.into();
        let info = Buckets::new(connection.connection().clone()).ensure(spec).await?;
        Self::of(connection, &info).await
    }

    async fn of(connection: Lease, info: &KvInfo) -> Result<Self, KvError> {
        let subjects = Subjects::new(connection.connection(), &info.bucket)?;
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

    /// The same bucket, on which values are put without ids: faster by half where many are put at once, since nats-server
    /// remembers none. What is not answered is not tried again then: a lost connection fails what is under way as
    /// [`Timeout`](KvErrorKind::Timeout), which [may be stored](KvError::may_be_stored).
    ///
    /// # Errors
    /// [`Connection`](KvErrorKind::Connection).
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
    /// [`NotFound`](KvErrorKind::NotFound) when it was deleted, and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn info(&self) -> Result<KvInfo, KvError> {
        Buckets::new(self.connection().clone()).info(self.bucket()).await
    }

    /// The key's value; `None` when it has none, or was deleted.
    ///
    /// # Errors
    /// [`Decode`](KvErrorKind::Decode), [`InvalidKey`](KvErrorKind::InvalidKey), and others.
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

    /// Puts a value, whatever the key had, and returns its revision.
    ///
    /// # Errors
    /// [`KvError`], which [may be stored](KvError::may_be_stored) or not.
    ///
    /// # Cancel safety
    /// Dropped early, the value may be put.
    pub async fn put(&self, key: &str, value: impl Borrow<T>) -> Result<u64, KvError> {
        let event = self.value(key, value.borrow());
        drop(value);
        self.publish(key, event?).await
    }

    /// Puts a value if the key has none, or was deleted.
    ///
    /// # Errors
    /// [`Exists`](KvErrorKind::Exists) with its revision when it has one. Others as [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn create_value(&self, key: &str, value: impl Borrow<T>) -> Result<u64, KvError> {
        let event = self.value(key, value.borrow());
        drop(value);
        self.create_event(key, event?).await
    }

    /// As [`create_value`](Self::create_value); the value goes after this time, in whole seconds, at least one. The bucket must
    /// [allow it](KvSpec::limit_markers).
    ///
    /// # Errors
    /// As [`create_value`](Self::create_value); [`Rejected`](KvErrorKind::Rejected) when the bucket does not allow it.
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn create_with_ttl(&self, key: &str, value: impl Borrow<T>, ttl: Duration) -> Result<u64, KvError> {
        let event = self.value(key, value.borrow());
        drop(value);
        // Rounded up: a value must not go too soon.
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let event = event?.server_header("Nats-TTL", seconds.max(1));
        self.create_event(key, event).await
    }

    /// Compare and set: puts a value if the key's last revision is this; 0 for a key that has none.
    ///
    /// Two who do so at once: one of them is told that the revision is wrong. An answer that is lost is looked for in the
    /// bucket: where the value is the last one, it was stored.
    ///
    /// # Errors
    /// [`WrongRevision`](KvErrorKind::WrongRevision): another revision is the last one, [`KvError::revision`] if that is
    /// known. With [`may_be_stored`](KvError::may_be_stored), the value was perhaps stored, and overwritten by somebody else
    /// since. Others as [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn update(&self, key: &str, value: impl Borrow<T>, revision: u64) -> Result<u64, KvError> {
        let event = self.value(key, value.borrow());
        drop(value);
        self.publish_expecting(key, event?, revision).await
    }

    /// Deletes a key, and keeps its history. It is no error when there is none. Returns the revision of the deletion.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: &str) -> Result<u64, KvError> {
        self.publish(key, self.marker(key, "DEL")?).await
    }

    /// Deletes a key if its last revision is this.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn delete_revision(&self, key: &str, revision: u64) -> Result<u64, KvError> {
        self.publish_expecting(key, self.marker(key, "DEL")?, revision).await
    }

    /// Deletes a key with its history; what stays is that it was deleted.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn purge(&self, key: &str) -> Result<u64, KvError> {
        let event = self.marker(key, "PURGE")?.server_header("Nats-Rollup", "sub");
        self.publish(key, event).await
    }

    fn value(&self, key: &str, value: &T) -> Result<Event, KvError> {
        let subject = self.inner.subjects.published(key)?;
        let payload = (self.encode)(value);
        let payload = payload.map_err(|error| KvError::codec(KvErrorKind::Encode, self.bucket(), key, error))?;
        Ok(Event::new(subject, payload))
    }

    fn marker(&self, key: &str, operation: &'static str) -> Result<Event, KvError> {
        let subject = self.inner.subjects.published(key)?;
        Ok(Event::new(subject, Bytes::new()).server_header(OPERATION, operation))
    }

    async fn publish(&self, key: &str, event: Event) -> Result<u64, KvError> {
        match self.inner.bus.publish(event).await {
            Ok(ack) => Ok(ack.sequence),
            Err(error) => Err(KvError::publish(self.bucket(), error).at(key)),
        }
    }

    async fn create_event(&self, key: &str, event: Event) -> Result<u64, KvError> {
        let error = match self.publish_expecting(key, event.clone(), 0).await {
            Err(error) if error.kind() == KvErrorKind::WrongRevision => error,
            done => return done,
        };
        let Some(last) = self.last(key, Reads::Leader).await? else {
            return Err(error);
        };
        let exists = |revision| {
            let stored = error.may_be_stored();
            let error = KvError::new(KvErrorKind::Exists, self.bucket()).at(key);
            error.with_revision(revision).with_may_be_stored(stored)
        };
        if Operation::read(Some(&last.headers)) == Operation::Put {
            return Err(exists(Some(last.sequence)));
        }
        match self.publish_expecting(key, event, last.sequence).await {
            Err(error) if error.kind() == KvErrorKind::WrongRevision => Err(exists(error.revision())),
            done => done,
        }
    }

    async fn publish_expecting(&self, key: &str, event: Event, revision: u64) -> Result<u64, KvError> {
        let id = token();
        let event = event.message_id(&id).expect_last_subject_sequence(revision);
        let error = match self.inner.bus.publish(event).await {
            Ok(ack) => return Ok(ack.sequence),
            Err(error) if error.kind() == PublishErrorKind::WrongLast => error,
            Err(error) => return Err(KvError::publish(self.bucket(), error).at(key)),
        };
        let known = last_sequence(&error).filter(|_| !error.may_be_stored());
        let revision = match known {
            Some(revision) => Some(revision),
            // The own copy may be in the way of one that was sent again.
            None => match self.last(key, Reads::Leader).await {
                Ok(Some(last)) if last.headers.get("Nats-Msg-Id").is_some_and(|own| own.as_str() == id) => {
                    return Ok(last.sequence);
                }
                Ok(last) => Some(last.map_or(0, |last| last.sequence)),
                Err(error) => {
                    tracing::debug!(%error, key, "the revision of a key could not be looked up");
                    None
                }
            },
        };
        let error = KvError::publish(self.bucket(), error).at(key);
        Err(error.with_revision(revision))
    }

    async fn last(&self, key: &str, reads: Reads) -> Result<Option<Stored>, KvError> {
        let subject = self.inner.subjects.stored(key)?;
        let found = self
            .inner
            .topology
            .last(&self.inner.subjects.stream, &subject, reads)
            .await;
        found.map_err(|error| KvError::topology(self.bucket(), error).at(key))
    }

    fn read(&self, stored: Stored) -> Result<Entry<T>, KvError> {
        let operation = Operation::read(Some(&stored.headers));
        let key = self.inner.subjects.key(&stored.subject).to_owned();
        let value = match operation {
            Operation::Put => Some(self.decoded(&key, stored.sequence, stored.payload)?),
            _ => None,
        };
        Ok(Entry {
            key,
            value,
            revision: stored.sequence,
            created: stored.stored_at,
            operation,
        })
    }

    fn decoded(&self, key: &str, revision: u64, payload: Bytes) -> Result<T, KvError> {
        (self.decode)(payload).map_err(|error| {
            KvError::codec(KvErrorKind::Decode, self.bucket(), key, error).with_revision(Some(revision))
        })
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

/// The sequence that nats-server says is the last one, if it does.
fn last_sequence(error: &PublishError) -> Option<u64> {
    let refusal = error.refusal()?;
    let (words, number) = refusal.description.rsplit_once(' ')?;
    number.parse().ok().filter(|_| words.ends_with("sequence:"))
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
