//! What a handler is asked.

use std::fmt;

use async_nats::{HeaderMap, HeaderName, Message};
use bytes::Bytes;
use natstream_connect::{Codec, Json};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::error::HandlerError;

/// A request to a handler.
#[derive(Clone)]
pub struct Request {
    pub(crate) subject: String,
    pub(crate) payload: Bytes,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) deadline: Option<Instant>,
}

impl Request {
    pub(crate) fn new(message: Message, deadline: Option<Instant>) -> Self {
        Self {
            subject: message.subject.to_string(),
            // A copy: it is cut out of a read buffer of 64 KiB, which it would keep alive.
            payload: Bytes::copy_from_slice(&message.payload),
            headers: message.headers,
            deadline,
        }
    }

    /// The subject that was asked; with a wildcard endpoint, which one of them.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The body.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// All headers, the protocol's own included.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.headers.as_ref()
    }

    /// The value of a header, the first if there are several. Names are case-sensitive, as in NATS.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        // A name that cannot be one would panic in there.
        let name: HeaderName = name.parse().ok()?;
        self.headers.as_ref()?.get(name).map(|value| value.as_str())
    }

    /// The body, which is JSON, as a `T`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the parser's words, for the caller: `?` in a handler.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        self.decode::<T, Json>()
    }

    /// The body, in the form of this codec, as a `T`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the codec's words, for the caller: `?` in a handler.
    pub fn decode<T: DeserializeOwned, C: Codec>(&self) -> Result<T, HandlerError> {
        C::decode(&self.payload)
            .map_err(|error| HandlerError::invalid(format!("the payload cannot be decoded: {error}")))
    }

    /// When the caller gives up, if it said so. The stream ends by itself then.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

/// Without payload and headers, which may hold secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("subject", &self.subject)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}
