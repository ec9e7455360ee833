//! What a handler is asked.

use std::fmt;

use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::time::Instant;

/// A request to a handler.
#[derive(Clone)]
pub struct Request {
    pub(crate) subject: String,
    pub(crate) payload: Bytes,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) deadline: Option<Instant>,
}

impl Request {
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
        self.headers.as_ref()?.get(name).map(|value| value.as_str())
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
