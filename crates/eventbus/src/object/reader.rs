//! An object on its way out of a bucket.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use natstream_connect::Driver;
use ring::digest::SHA256;
use tokio::io::{AsyncRead, ReadBuf};

use super::description::Found;
use super::store::Inner;
use super::{ObjectError, ObjectErrorKind, ObjectInfo};
use crate::consume::{Begin, Ordered};
use crate::topology::Reads;

/// Chunks that are asked for at once; how many bytes that may be is limited besides.
const SLOTS: usize = 256;

/// How long chunks may be missing that should be there: the server that is asked may be behind the leader.
const MISSING: std::time::Duration = std::time::Duration::from_secs(10);

/// Reads an object: by [`AsyncRead`], or chunk by chunk. Made by [`Objects::get`](super::Objects::get).
///
/// What was read is the object only when the reader has ended without an error: its digest is known at the end. An error comes
/// as one of input and output; [`ObjectError::in_io`] has what it was. After an error it gives the end, so that nobody reads on.
///
/// Memory: about 8 MiB that wait to be read.
pub struct ObjectReader {
    state: State,
    rest: Bytes,
    info: Arc<ObjectInfo>,
}

/// What comes next, or the end.
type Chunk = Result<Option<Bytes>, ObjectError>;

enum State {
    Idle(Box<Chunks>),
    Reading(BoxFuture<'static, (Box<Chunks>, Chunk)>),
    /// It has ended, well or not.
    Over,
}

struct Chunks {
    store: Arc<Inner>,
    info: Arc<ObjectInfo>,
    /// `None` when there are none, or all were read.
    ordered: Option<Ordered>,
    chunks: u64,
    bytes: u64,
    digest: ring::digest::Context,
}

impl ObjectReader {
    pub(super) async fn open(store: Arc<Inner>, found: Found) -> Result<Self, ObjectError> {
        let info = Arc::new(found.info);
        let ordered = if info.chunks > 0 {
            let filter = format!("C.{}", info.nuid);
            let ordered = store.ordered(&filter, Begin::All, SLOTS).await;
            Some(ordered.map_err(|error| error.of(&info.name))?)
        } else {
            None
        };
        Ok(Self {
            rest: Bytes::new(),
            state: State::Idle(Box::new(Chunks {
                store,
                info: info.clone(),
                ordered,
                chunks: 0,
                bytes: 0,
                digest: ring::digest::Context::new(&SHA256),
            })),
            info,
        })
    }

    /// What is known of the object.
    #[must_use]
    pub fn info(&self) -> &ObjectInfo {
        &self.info
    }

    /// The next bytes, without copying them; `None` when all were given and are those that were put.
    ///
    /// # Errors
    /// [`Digest`](ObjectErrorKind::Digest), [`Incomplete`](ObjectErrorKind::Incomplete),
    /// [`Replaced`](ObjectErrorKind::Replaced), and others: what was given before is not the object.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ObjectError> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Chunk> {
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Over => return Poll::Ready(Ok(None)),
                State::Idle(mut chunks) => {
                    self.state = State::Reading(Box::pin(async move {
                        let next = chunks.next().await;
                        (chunks, next)
                    }));
                }
                State::Reading(mut reading) => {
                    let Poll::Ready((chunks, next)) = reading.as_mut().poll(cx) else {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    if matches!(next, Ok(Some(_))) {
                        self.state = State::Idle(chunks);
                    }
                    return Poll::Ready(next);
                }
            }
        }
    }
}

impl AsyncRead for ObjectReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.poll_chunk(cx)) {
                Ok(Some(chunk)) => self.rest = chunk,
                Ok(None) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        let count = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl Chunks {
    async fn next(&mut self) -> Chunk {
        if self.chunks == self.info.chunks {
            self.ordered = None;
            return self.check().map(|()| None);
        }
        let began = Driver::clock();
        loop {
            let Some(ordered) = &mut self.ordered else {
                return Err(self.error(ObjectErrorKind::Incomplete));
            };
            let next = ordered.next_or_none().await;
            if let Some(message) = next.map_err(|error| self.store.consume(error).of(&self.info.name))? {
                self.chunks += 1;
                self.bytes += message.payload.len() as u64;
                if self.bytes > self.info.size {
                    return Err(self.error(ObjectErrorKind::Digest));
                }
                self.digest.update(&message.payload);
                return Ok(Some(message.payload));
            }
            // Chunks are not there that should be.
            self.is_still_there().await?;
            if began.elapsed() > MISSING {
                return Err(self.error(ObjectErrorKind::Incomplete));
            }
            self.reopen().await?;
        }
    }

    /// Begins anew behind what was read.
    async fn reopen(&mut self) -> Result<(), ObjectError> {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        if let Some(ordered) = &mut self.ordered {
            let again = ordered.again().await;
            again.map_err(|error| self.store.consume(error).of(&self.info.name))?;
        }
        Ok(())
    }

    async fn is_still_there(&self) -> Result<(), ObjectError> {
        let found = self.store.find(&self.info.name, Reads::Leader).await?;
        if found.is_some_and(|found| found.info.nuid == self.info.nuid && !found.info.deleted) {
            return Ok(());
        }
        Err(self.error(ObjectErrorKind::Replaced))
    }

    fn check(&mut self) -> Result<(), ObjectError> {
        let digest = std::mem::replace(&mut self.digest, ring::digest::Context::new(&SHA256)).finish();
        if self.bytes == self.info.size && self.info.fits(digest.as_ref()) {
            return Ok(());
        }
        Err(self.error(ObjectErrorKind::Digest))
    }

    fn error(&self, kind: ObjectErrorKind) -> ObjectError {
        self.store.error(kind, &self.info.name)
    }
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectReader")
            .field("info", &self.info)
            .field("is_over", &matches!(self.state, State::Over))
            .finish_non_exhaustive()
    }
}
