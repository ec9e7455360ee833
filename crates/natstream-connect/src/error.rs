//! Why there is no connection, or no answer on it.

use std::error::Error;
use std::fmt;

use crate::classify::Verdict;
use crate::credentials::CredentialsProblem;
use crate::tls::TlsProblem;

/// Why [`Connection::connect`](crate::Connection::connect) failed.
///
/// `Display` says what failed and where, [`source`](Error::source) why in the words of the layer
/// below, and [`hint`](Self::hint) what to look at. None of them holds a secret; servers are shown
/// without user info.
#[derive(Debug)]
pub struct ConnectError {
    // Boxed: a `Result` with it stays small.
    repr: Box<Repr>,
}

#[derive(Debug)]
enum Repr {
    Config {
        field: &'static str,
        message: String,
        source: Option<std::io::Error>,
    },
    Servers {
        /// At least one, in the order in which the servers were tried.
        failures: Vec<Failure>,
        /// The index of the failure that says most.
        decisive: usize,
    },
}

/// Why one server could not be used.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) server: String,
    pub(crate) verdict: Verdict,
    pub(crate) cause: Option<async_nats::ConnectError>,
}

/// What sort of failure a [`ConnectError`] is.
///
/// Where several servers failed in different ways, it is the one that says most: the first in this
/// order: `Authentication`, `Tls`, `Rejected`, `Protocol`, `Timeout`, `Io`, `Refused`, `Dns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// The server did not accept the credentials, or a callback could not produce them.
    Authentication,
    /// The host name has no address.
    Dns,
    /// A setting cannot work; [`ConnectError::field`] names it. Nothing was sent.
    InvalidConfig,
    /// The connection broke, or the network cannot reach the server.
    ///
    /// A server that cuts a connection off says why, but the end may overtake the reason: then a
    /// full server, or one that misses a client certificate, ends up here.
    Io,
    /// What answers there is not a NATS server.
    Protocol,
    /// Nobody listens at that address.
    Refused,
    /// The server turned the connection away for another reason than its credentials: too many
    /// connections, for example.
    Rejected,
    /// No answer in time.
    Timeout,
    /// TLS could not be established: certificates, host name, or only one side wants TLS.
    Tls,
}

impl ConnectErrorKind {
    /// How much a failure of this kind says; less is more.
    fn rank(self) -> u8 {
        match self {
            Self::InvalidConfig => 0,
            Self::Authentication => 1,
            Self::Tls => 2,
            Self::Rejected => 3,
            Self::Protocol => 4,
            Self::Timeout => 5,
            Self::Io => 6,
            Self::Refused => 7,
            Self::Dns => 8,
        }
    }
}

impl ConnectError {
    /// What several searches came to, each for another server; `None` when there were none.
    pub(crate) fn all(errors: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut failures = Vec::new();
        for error in errors {
            match *error.repr {
                Repr::Servers { failures: more, .. } => failures.extend(more),
                // One setting that cannot work is the same for all.
                Repr::Config { .. } => return Some(error),
            }
        }
        (!failures.is_empty()).then(|| Self::servers(failures))
    }

    pub(crate) fn config(field: &'static str, message: impl Into<String>) -> Self {
        Self::config_caused(field, message.into(), None)
    }

    fn config_caused(field: &'static str, message: String, source: Option<std::io::Error>) -> Self {
        Self {
            repr: Box::new(Repr::Config { field, message, source }),
        }
    }

    /// `failures` is not empty.
    pub(crate) fn servers(failures: Vec<Failure>) -> Self {
        let ranks = failures
            .iter()
            .enumerate()
            .map(|(index, failure)| (failure.verdict.kind.rank(), index));
        let decisive = ranks.min().map_or(0, |(_, index)| index);
        Self {
            repr: Box::new(Repr::Servers { failures, decisive }),
        }
    }

    fn decisive(&self) -> Option<&Failure> {
        match &*self.repr {
            Repr::Config { .. } => None,
            Repr::Servers { failures, decisive } => failures.get(*decisive),
        }
    }

    /// What sort of failure it is.
    #[must_use]
    pub fn kind(&self) -> ConnectErrorKind {
        self.decisive()
            .map_or(ConnectErrorKind::InvalidConfig, |failure| failure.verdict.kind)
    }

    /// The setting of [`ConnectConfig`](crate::ConnectConfig) that cannot work, where the kind is
    /// [`InvalidConfig`](ConnectErrorKind::InvalidConfig).
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match &*self.repr {
            Repr::Config { field, .. } => Some(field),
            Repr::Servers { .. } => None,
        }
    }

    /// The servers that were tried, without user info, and how each failed.
    pub fn servers_tried(&self) -> impl Iterator<Item = (&str, ConnectErrorKind)> {
        let failures = match &*self.repr {
            Repr::Config { .. } => [].as_slice(),
            Repr::Servers { failures, .. } => failures,
        };
        failures
            .iter()
            .map(|failure| (failure.server.as_str(), failure.verdict.kind))
    }

    /// What to look at, where this crate has a guess.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        self.decisive().and_then(|failure| failure.verdict.hint)
    }

    /// Whether the same connect may succeed later without anybody changing the settings.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.kind() {
            ConnectErrorKind::Dns
            | ConnectErrorKind::Io
            | ConnectErrorKind::Refused
            | ConnectErrorKind::Rejected
            | ConnectErrorKind::Timeout => true,
            ConnectErrorKind::Authentication
            | ConnectErrorKind::InvalidConfig
            | ConnectErrorKind::Protocol
            | ConnectErrorKind::Tls => false,
        }
    }

    /// Whether the time was up.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == ConnectErrorKind::Timeout
    }
}

impl From<CredentialsProblem> for ConnectError {
    fn from(problem: CredentialsProblem) -> Self {
        Self::config_caused("credentials", problem.message, problem.source)
    }
}

impl From<TlsProblem> for ConnectError {
    fn from(problem: TlsProblem) -> Self {
        Self::config_caused("tls", problem.message, problem.source)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.repr {
            Repr::Config { field, message, .. } => {
                write!(f, "the setting `{field}` cannot work: {message}")
            }
            Repr::Servers { failures, .. } => match failures.as_slice() {
                [failure] => write!(f, "cannot connect to {}: {}", failure.server, failure.verdict.reason),
                _ => {
                    write!(f, "cannot connect to any server")?;
                    for (index, failure) in failures.iter().enumerate() {
                        let separator = if index == 0 { ':' } else { ';' };
                        write!(f, "{separator} {}: {}", failure.server, failure.verdict.reason)?;
                    }
                    Ok(())
                }
            },
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &*self.repr {
            Repr::Config { source, .. } => source.as_ref().map(|source| source as &(dyn Error + 'static)),
            // async-nats' own error would print its source a second time, so it is left out of the
            // chain.
            Repr::Servers { .. } => self.decisive()?.cause.as_ref()?.source(),
        }
    }
}

/// Why [`Connection::fence`](crate::Connection::fence) or
/// [`Connection::close`](crate::Connection::close) could not confirm anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceError {
    kind: FenceErrorKind,
}

/// What sort of failure a [`FenceError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FenceErrorKind {
    /// The connection has ended for good.
    Closed,
    /// The connection was down, or broke: what was published before may be lost.
    Disconnected,
    /// No answer in time.
    Timeout,
}

/// For those who build on fences.
impl From<FenceErrorKind> for FenceError {
    fn from(kind: FenceErrorKind) -> Self {
        Self::new(kind)
    }
}

impl FenceError {
    pub(crate) fn new(kind: FenceErrorKind) -> Self {
        Self { kind }
    }

    /// What sort of failure it is.
    #[must_use]
    pub fn kind(&self) -> FenceErrorKind {
        self.kind
    }

    /// Whether a later fence may succeed. It says nothing about what was published before this one.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind != FenceErrorKind::Closed
    }

    /// Whether the time was up.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind == FenceErrorKind::Timeout
    }
}

impl fmt::Display for FenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            FenceErrorKind::Closed => "the connection is closed",
            FenceErrorKind::Disconnected => "the connection was lost before the server confirmed what was sent",
            FenceErrorKind::Timeout => "the server did not confirm in time what was sent",
        })
    }
}

impl Error for FenceError {}
