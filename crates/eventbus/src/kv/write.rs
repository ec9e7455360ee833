//! What is put and deleted.

use std::borrow::Borrow;
use std::time::Duration;

use bytes::Bytes;
use natstream_connect::token;

use super::entry::OPERATION;
use super::{Kv, KvError, KvErrorKind, Operation};
use crate::error::{PublishError, PublishErrorKind};
use crate::event::Event;
use crate::topology::Reads;

/// How often a key that is to be created may be created and deleted by others at the same moment, before it looks like a fault.
const RIVALS: u32 = 100;

impl<T> Kv<T> {
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
    /// [allow it](super::KvSpec::limit_markers).
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
        self.publish_expecting(key, event?, &token(), revision).await
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
        let event = self.marker(key, "DEL")?;
        self.publish_expecting(key, event, &token(), revision).await
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
        // The same one each time: a copy that was stored, and deleted by somebody else since, is not stored again.
        let id = token();
        let mut expected = 0;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match self.publish_expecting(key, event.clone(), &id, expected).await {
                Err(error) if error.kind() == KvErrorKind::WrongRevision => error,
                done => return done,
            };
            let last = self.last(key, Reads::Leader).await?;
            if let Some(last) = &last
                && Operation::read(Some(&last.headers)) == Operation::Put
            {
                let exists = KvError::new(KvErrorKind::Exists, self.bucket()).at(key);
                let exists = exists.with_revision(Some(last.sequence));
                return Err(exists.with_may_be_stored(error.may_be_stored()));
            }
            if attempts == RIVALS {
                return Err(error);
            }
            // It was deleted, or has gone by age since.
            expected = last.map_or(0, |last| last.sequence);
        }
    }

    async fn publish_expecting(&self, key: &str, event: Event, id: &str, revision: u64) -> Result<u64, KvError> {
        let event = event.message_id(id).expect_last_subject_sequence(revision);
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
}

/// The sequence that nats-server says is the last one, if it does.
fn last_sequence(error: &PublishError) -> Option<u64> {
    let refusal = error.refusal()?;
    let (words, number) = refusal.description.rsplit_once(' ')?;
    number.parse().ok().filter(|_| words.ends_with("sequence:"))
}
