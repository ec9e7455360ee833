//! Why Consul named no servers.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Why there are no servers from Consul.
///
/// Neither it nor its source holds the token.
#[derive(Clone, Debug)]
pub struct ConsulError {
    // Shared: everybody who waits for the first list gets it.
    repr: Arc<Repr>,
}

#[derive(Debug)]
struct Repr {
    kind: ConsulErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What sort of failure a [`ConsulError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConsulErrorKind {
    /// Consul does not take the token, or it may not read the service.
    Forbidden,
    /// What answers is not Consul's API: a page for people, JSON of another shape, too much of it.
    Garbage,
    /// A setting cannot work. Nothing was sent.
    InvalidConfig,
    /// Nobody answers at the address, or the connection broke before the answer was whole.
    Io,
    /// Consul knows no healthy instance with these tags.
    NoServers,
    /// Consul answered with an error: no leader, no such datacentre, too many requests.
    Status,
    /// No answer in time.
    Timeout,
    /// TLS could not be established.
    Tls,
}

impl ConsulError {
    pub(super) fn new(kind: ConsulErrorKind, message: impl Into<String>) -> Self {
        Self::caused(kind, message, None::<std::io::Error>)
    }

    pub(super) fn caused(
        kind: ConsulErrorKind,
        message: impl Into<String>,
        source: Option<impl Error + Send + Sync + 'static>,
    ) -> Self {
        let source = source.map(|source| Box::new(source) as Box<dyn Error + Send + Sync>);
        Self {
            repr: Arc::new(Repr {
                kind,
                message: message.into(),
                source,
            }),
        }
    }

    pub(super) fn config(message: impl Into<String>) -> Self {
        Self::new(ConsulErrorKind::InvalidConfig, message)
    }

    /// What sort of failure it is.
    #[must_use]
    pub fn kind(&self) -> ConsulErrorKind {
        self.repr.kind
    }

    /// Whether the time was up.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == ConsulErrorKind::Timeout
    }

    /// Whether the same question may be answered a moment later without anybody changing anything: whether to wait for that
    /// before giving up.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.kind() {
            ConsulErrorKind::Garbage | ConsulErrorKind::Io | ConsulErrorKind::Status | ConsulErrorKind::Timeout => true,
            ConsulErrorKind::Forbidden
            | ConsulErrorKind::InvalidConfig
            | ConsulErrorKind::NoServers
            | ConsulErrorKind::Tls => false,
        }
    }
}

impl fmt::Display for ConsulError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repr.message)
    }
}

impl Error for ConsulError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.repr
            .source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}
