//! An object that is to be put.

use std::fmt;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use natstream_connect::user_header;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::info::Options;
use super::upload::Upload;
use super::{ObjectError, ObjectErrorKind, ObjectInfo, Objects};

/// What all clients take when nothing is said.
const CHUNK_SIZE: usize = 128 << 10;

/// An object that is to be put: made by [`Objects::put`], begun by [`read`](Self::read), [`stream`](Self::stream) or
/// [`bytes`](Self::bytes).
#[must_use = "nothing is put before its bytes are given"]
pub struct Put {
    objects: Objects,
    name: String,
    description: String,
    metadata: std::collections::BTreeMap<String, String>,
    headers: std::collections::BTreeMap<String, Vec<String>>,
    chunk_size: usize,
    progress: Option<Box<dyn FnMut(u64) + Send>>,
}

impl Put {
    pub(super) fn new(objects: Objects, name: String) -> Self {
        Self {
            objects,
            name,
            description: String::new(),
            metadata: Default::default(),
            headers: Default::default(),
            chunk_size: CHUNK_SIZE,
            progress: None,
        }
    }

    /// For people.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// Something to be said of it, by name.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// The same in the form of a header. One that cannot be sent is left out of no object: putting fails.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.entry(name.into()).or_default().push(value.into());
        self
    }

    /// Bytes of a chunk; default 128 KiB, which is what other clients take. It must fit into nats-server's `max_payload`.
    pub fn chunk_size(mut self, bytes: usize) -> Self {
        self.chunk_size = bytes;
        self
    }

    /// Is told how many bytes are stored, each time some are: in order, from the task that puts.
    pub fn on_progress(mut self, progress: impl FnMut(u64) + Send + 'static) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Puts all that a reader gives.
    ///
    /// # Errors
    /// [`Source`](ObjectErrorKind::Source) with the reader's error; [`Full`](ObjectErrorKind::Full),
    /// [`TooLarge`](ObjectErrorKind::TooLarge), [`Timeout`](ObjectErrorKind::Timeout) and others: there is no such object then,
    /// or the one that was there before. Only with [`LeftBehind`](ObjectErrorKind::LeftBehind) the object is there, and
    /// perhaps where the error says that it [may be](ObjectError::may_be_stored).
    ///
    /// # Cancel safety
    /// Dropped early, the object is not there, unless this was about to return, and its chunks are removed in the background
    /// when none of them is under way any more: [`Objects::removed`] waits for it. Dropped while it was about to return, it may
    /// leave the chunks of this object, or of the one before, until they are [swept](Objects::sweep).
    pub async fn read(self, mut from: impl AsyncRead + Unpin) -> Result<ObjectInfo, ObjectError> {
        let (mut upload, chunk_size) = self.begin()?;
        let put = async {
            loop {
                let mut chunk = BytesMut::with_capacity(chunk_size);
                while chunk.len() < chunk_size {
                    let room = chunk_size - chunk.len();
                    let read = (&mut from).take(room as u64).read_buf(&mut chunk).await;
                    if read.map_err(|error| upload.source(error))? == 0 {
                        break;
                    }
                }
                let is_last = chunk.len() < chunk_size;
                if !chunk.is_empty() {
                    upload.add(chunk.freeze()).await?;
                }
                if is_last {
                    return upload.finish().await;
                }
            }
        };
        let done = put.await;
        upload.end(done).await
    }

    /// Puts all that a stream gives, in chunks of the set size whatever the sizes of its items are.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    /// As [`read`](Self::read).
    pub async fn stream<E>(
        self,
        mut from: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<ObjectInfo, ObjectError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut upload, chunk_size) = self.begin()?;
        let put = async {
            let mut chunk = BytesMut::with_capacity(chunk_size);
            while let Some(item) = from.next().await {
                let mut item = item.map_err(|error| upload.source(error))?;
                while !item.is_empty() {
                    let part = item.split_to(item.len().min(chunk_size - chunk.len()));
                    chunk.extend_from_slice(&part);
                    if chunk.len() == chunk_size {
                        let full = std::mem::replace(&mut chunk, BytesMut::with_capacity(chunk_size));
                        upload.add(full.freeze()).await?;
                    }
                }
            }
            if !chunk.is_empty() {
                upload.add(chunk.freeze()).await?;
            }
            upload.finish().await
        };
        let done = put.await;
        upload.end(done).await
    }

    /// Puts these bytes, without copying them.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    /// As [`read`](Self::read).
    pub async fn bytes(self, bytes: impl Into<Bytes>) -> Result<ObjectInfo, ObjectError> {
        let mut bytes = bytes.into();
        let (mut upload, chunk_size) = self.begin()?;
        let put = async {
            while !bytes.is_empty() {
                upload.add(bytes.split_to(chunk_size.min(bytes.len()))).await?;
            }
            upload.finish().await
        };
        let done = put.await;
        upload.end(done).await
    }

    fn begin(self) -> Result<(Upload, usize), ObjectError> {
        let Self {
            objects,
            name,
            description,
            metadata,
            headers,
            chunk_size,
            progress,
        } = self;
        objects.inner.check_name(&name)?;
        let connection = objects.inner.connection.connection();
        // Headers of the bus besides.
        if chunk_size == 0 || chunk_size.saturating_add(256) > connection.max_payload() {
            return Err(objects.inner.error(ObjectErrorKind::TooLarge, &name));
        }
        for (name, value) in headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
        {
            if user_header(name, value).is_none() {
                let problem = format!("the header `{name}` cannot be sent");
                return Err(ObjectError::because(
                    ObjectErrorKind::InvalidName,
                    objects.bucket(),
                    problem,
                ));
            }
        }
        let mut info = ObjectInfo::new(objects.bucket(), &name, natstream_connect::token());
        info.description = description;
        info.metadata = metadata;
        info.headers = headers;
        info.options = Options {
            link: None,
            max_chunk_size: Some(chunk_size as u64),
        };
        let window = objects.window_bytes.max(chunk_size);
        Ok((Upload::new(objects.inner, info, window, progress), chunk_size))
    }
}

impl fmt::Debug for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put")
            .field("bucket", &self.objects.bucket())
            .field("name", &self.name)
            .field("chunk_size", &self.chunk_size)
            .finish_non_exhaustive()
    }
}
