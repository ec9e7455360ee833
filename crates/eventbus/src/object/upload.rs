//! One object on its way into a bucket: chunks in order through a window of acks, then what makes an object of them.
//!
//! Chunks have no numbers: their order in the stream is the object. The bus may store one behind those that came after it, when
//! nats-server has refused it at first. So a chunk is kept until those before it and itself are known to be in order; where
//! they are not, what came too early is removed, and stored again one by one.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::subject::Subject;
use bytes::Bytes;
use natstream_connect::token;
use ring::digest::{Context, SHA256};
use serde_json::json;

use super::info::digest;
use super::store::Inner;
use super::{ObjectError, ObjectErrorKind, ObjectInfo};
use crate::event::Event;
use crate::topology::{delete_message, prefix};
use crate::watcher::PendingAck;

/// How long chunks of an object that failed are waited for, before they are removed.
const SETTLE: Duration = Duration::from_secs(5);

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
        let event = Event::new(self.subject.clone(), payload.clone());
        let ack = self.store.send(event).await?;
        self.window.push_back(Under { payload, ack });
        Ok(())
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
        if done.is_err() && !self.is_over {
            // What is still under way would be stored behind the removal.
            let settled = async {
                for under in &mut self.window {
                    let _ = (&mut under.ack).await;
                }
            };
            let settled = tokio::time::timeout(SETTLE, settled).await;
            let purged = self.store.topology.purge(&self.store.stream, &self.subject).await;
            match purged {
                Ok(_) => self.is_over = settled.is_ok(),
                Err(error) => {
                    tracing::warn!(%error, bucket = self.store.bucket, "chunks of an object that was not put are left behind")
                }
            }
        }
        done.map_err(|error| match error.name() {
            Some(_) => error,
            None => error.of(&self.info.name),
        })
    }

    pub(super) fn source(&self, error: impl Into<Box<dyn Error + Send + Sync>>) -> ObjectError {
        ObjectError::because(ObjectErrorKind::Source, &self.store.bucket, error)
    }

    /// Waits for the oldest chunk.
    async fn confirm(&mut self) -> Result<(), ObjectError> {
        let Some(under) = self.window.front_mut() else {
            return Ok(());
        };
        let ack = (&mut under.ack).await;
        let Some(under) = self.window.pop_front() else {
            return Ok(());
        };
        let sequence = ack
            .map_err(|error| ObjectError::publish(&self.store.bucket, error))?
            .sequence;
        if sequence > self.last {
            self.is_stored(sequence, under.payload.len());
            self.limit = self.most.min(self.limit + under.payload.len() / 8);
            return Ok(());
        }
        self.mend(sequence, under.payload).await
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
        let mut payloads = vec![payload];
        let mut misplaced = vec![sequence];
        while let Some(under) = self.window.pop_front() {
            let ack = under.ack.await;
            let ack = ack.map_err(|error| ObjectError::publish(&self.store.bucket, error))?;
            misplaced.push(ack.sequence);
            payloads.push(under.payload);
        }
        for sequence in misplaced {
            let removed = delete_message(self.store.topology.connection(), &self.store.stream, sequence).await;
            removed.map_err(|error| self.store.topology_error(error))?;
        }
        for payload in payloads {
            let event = Event::new(self.subject.clone(), payload.clone());
            let ack = self.store.send(event).await?.await;
            let ack = ack.map_err(|error| ObjectError::publish(&self.store.bucket, error))?;
            self.is_stored(ack.sequence, payload.len());
        }
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
    async fn send(&self, event: Event) -> Result<PendingAck, ObjectError> {
        let ack = self.bus.enqueue_pending(event).await;
        ack.map_err(|error| ObjectError::publish(&self.bucket, error))
    }

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
        if self.is_over || self.info.chunks == 0 {
            return;
        }
        let connection = self.store.connection.connection();
        let told = connection.driver().try_send(OutboundMessage {
            subject: format!("{}.STREAM.PURGE.{}", prefix(connection), self.store.stream).into(),
            // Nobody listens: the answer is of no use.
            reply: Some(format!("{}.{}", connection.inbox_prefix(), token()).into()),
            payload: json!({ "filter": self.subject.as_str() }).to_string().into(),
            headers: None,
        });
        if let Err(error) = told {
            tracing::warn!(%error, bucket = self.store.bucket, "chunks of an object that was not put are left behind");
        }
    }
}
