//! One object on its way into a bucket: chunks in order through a window of acks, then what makes an object of them.
//!
//! Chunks have no numbers: their order in the stream is the object. The bus may store one behind those that came after it, when
//! nats-server has refused it at first. So a chunk is kept until those before it and itself are known to be in order; where
//! they are not, what came too early is removed, and stored again one by one.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::subject::Subject;
use bytes::Bytes;
use ring::digest::{Context, SHA256};

use super::info::digest;
use super::removal::Removal;
use super::store::Inner;
use super::{ObjectError, ObjectErrorKind, ObjectInfo};
use crate::error::PublishError;
use crate::event::Event;
use crate::reply::PublishAck;
use crate::topology::delete_message;
use crate::watcher::PendingAck;

/// How long whoever puts an object that fails waits until its chunks are removed; they are removed later all the same.
const REMOVED: Duration = Duration::from_secs(10);

/// Memory: the window, and one chunk.
pub(super) struct Upload {
    store: Arc<Inner>,
    info: ObjectInfo,
    subject: Subject,
    /// Bytes that may be under way, at most and at the moment.
    most: usize,
    limit: usize,
    window: VecDeque<Under>,
    in_window: usize,
    /// The number in the stream of the last chunk that is known to be in order.
    last: u64,
    stored: u64,
    digest: Context,
    progress: Option<Box<dyn FnMut(u64) + Send>>,
    /// Nothing is to be removed: the object is there, or it was done.
    is_over: bool,
}

/// A chunk that is not known to be in order yet.
struct Under {
    payload: Bytes,
    ack: PendingAck,
}

impl Upload {
    pub(super) fn new(
        store: Arc<Inner>,
        info: ObjectInfo,
        most: usize,
        progress: Option<Box<dyn FnMut(u64) + Send>>,
    ) -> Self {
        Self {
            subject: store.chunks(&info.nuid).into(),
            store,
            info,
            most,
            limit: most,
            window: VecDeque::new(),
            in_window: 0,
            last: 0,
            stored: 0,
            digest: Context::new(&SHA256),
            progress,
            is_over: false,
        }
    }

    /// The next chunk, when there is room.
    pub(super) async fn add(&mut self, payload: Bytes) -> Result<(), ObjectError> {
        self.digest.update(&payload);
        self.info.chunks += 1;
        self.info.size += payload.len() as u64;
        while !self.window.is_empty() && self.in_window + payload.len() > self.limit {
            self.confirm().await?;
        }
        self.in_window += payload.len();
        self.send(payload).await
    }

    /// Waits for all chunks, looks whether they are there, and makes the object of them.
    pub(super) async fn finish(&mut self) -> Result<ObjectInfo, ObjectError> {
        while !self.window.is_empty() {
            self.confirm().await?;
        }
        let empty = Context::new(&SHA256);
        let context = std::mem::replace(&mut self.digest, empty);
        self.info.digest = Some(digest(context.finish().as_ref()));
        self.store.check(&self.info).await?;
        // From here on the object may be there, also for whoever does not wait for the answer.
        self.is_over = true;
        let replaced = match self.store.publish_info(&self.info).await {
            Ok(replaced) => replaced,
            Err(error) => {
                self.is_over = error.may_be_stored();
                return Err(error);
            }
        };
        self.store
            .purge(&self.info.name, [replaced.map(|info| info.nuid)])
            .await?;
        Ok(self.info.clone())
    }

    /// Removes what was stored, unless the object is there.
    pub(super) async fn end(mut self, done: Result<ObjectInfo, ObjectError>) -> Result<ObjectInfo, ObjectError> {
        if done.is_err()
            && let Some(removal) = self.give_up()
        {
            // The time is over, or the runtime: both say nothing of the put.
            let _ = tokio::time::timeout(REMOVED, removal.spawn()).await;
        }
        done.map_err(|error| match error.name() {
            Some(_) => error,
            None => error.of(&self.info.name),
        })
    }

    /// What has to be removed, if anything; said once.
    fn give_up(&mut self) -> Option<Removal> {
        if self.info.chunks == 0 || std::mem::replace(&mut self.is_over, true) {
            return None;
        }
        Some(Removal {
            store: self.store.clone(),
            subject: self.subject.clone(),
            under_way: self.window.drain(..).map(|under| under.ack).collect(),
        })
    }

    pub(super) fn source(&self, error: impl Into<Box<dyn Error + Send + Sync>>) -> ObjectError {
        ObjectError::because(ObjectErrorKind::Source, &self.store.bucket, error)
    }

    /// Waits for the oldest chunk.
    async fn confirm(&mut self) -> Result<(), ObjectError> {
        let Some((payload, sequence)) = self.next_ack().await? else {
            return Ok(());
        };
        if sequence > self.last {
            self.is_stored(sequence, payload.len());
            self.limit = self.most.min(self.limit + payload.len() / 8);
            return Ok(());
        }
        self.mend(sequence, payload).await
    }

    /// The oldest chunk and its number; `None` when none is under way. It is one of the window until that is known: whoever
    /// removes them has to wait for it.
    async fn next_ack(&mut self) -> Result<Option<(Bytes, u64)>, ObjectError> {
        let Some(under) = self.window.front_mut() else {
            return Ok(None);
        };
        let ack: Result<PublishAck, PublishError> = (&mut under.ack).await;
        let under = self.window.pop_front();
        let ack = ack.map_err(|error| ObjectError::publish(&self.store.bucket, error))?;
        Ok(under.map(|under| (under.payload, ack.sequence)))
    }

    /// The chunk at `sequence` stands before one that it should stand behind: it and all that came after it are stored anew.
    async fn mend(&mut self, sequence: u64, payload: Bytes) -> Result<(), ObjectError> {
        tracing::debug!(
            bucket = self.store.bucket,
            sequence,
            "chunks are stored again, in order"
        );
        // Whoever refuses some of many takes fewer; with time there are more again.
        self.limit = self.in_window / 4;
        let mut misplaced = vec![(payload, sequence)];
        while let Some(next) = self.next_ack().await? {
            misplaced.push(next);
        }
        for (_, sequence) in &misplaced {
            let removed = delete_message(self.store.topology.connection(), &self.store.stream, *sequence).await;
            removed.map_err(|error| self.store.topology_error(error))?;
        }
        for (payload, _) in misplaced {
            self.send(payload).await?;
            if let Some((payload, sequence)) = self.next_ack().await? {
                self.is_stored(sequence, payload.len());
            }
        }
        Ok(())
    }

    async fn send(&mut self, payload: Bytes) -> Result<(), ObjectError> {
        let event = Event::new(self.subject.clone(), payload.clone());
        // Nobody handles a chunk, which may have no room for more headers.
        let ack = self.store.bus.accept_pending(event).await;
        let ack = ack.map_err(|error| ObjectError::publish(&self.store.bucket, error))?;
        self.window.push_back(Under { payload, ack });
        Ok(())
    }

    fn is_stored(&mut self, sequence: u64, bytes: usize) {
        self.last = sequence;
        self.in_window -= bytes;
        self.stored += bytes as u64;
        if let Some(progress) = &mut self.progress {
            progress(self.stored);
        }
    }
}

impl Inner {
    /// Are as many chunks there as there should be? A retry behind the end of the duplicate window stores one twice.
    async fn check(&self, info: &ObjectInfo) -> Result<(), ObjectError> {
        let subject = self.chunks(&info.nuid);
        let subjects = self.topology.subjects(&self.stream, &subject, 0).await;
        let subjects = subjects.map_err(|error| self.topology_error(error))?;
        if subjects.get(&subject).copied().unwrap_or_default() == info.chunks {
            return Ok(());
        }
        Err(self.error(ObjectErrorKind::Incomplete, &info.name))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(removal) = self.give_up() {
            drop(removal.spawn());
        }
    }
}
