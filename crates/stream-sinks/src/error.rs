//! Errors of sinks and of the segment log.

use std::{error::Error, fmt, io, path::Path, path::PathBuf, sync::Arc};

/// Why a sink did not do what it was asked for.
///
/// Cheap to clone: several waiters may get the same failure.
#[derive(Clone, Debug)]
pub struct SinkError {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: SinkErrorKind,
    what: String,
    path: Option<PathBuf>,
    source: Option<io::Error>,
    unwritten: u64,
}

/// What kind of failure a [`SinkError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SinkErrorKind {
    /// The sink was closed.
    Closed,
    /// The buffer is full; only of calls that do not wait.
    Full,
    /// Another writer has the directory, or the segment log.
    InUse,
    /// A setting is not valid; nothing was touched.
    InvalidConfig,
    /// The storage failed. The record at hand was not accepted; what was accepted before is kept and tried again.
    Storage,
    /// The record is larger than the buffer.
    TooLarge,
}

impl SinkError {
    pub(crate) fn new(kind: SinkErrorKind, what: impl Into<String>) -> Self {
        Self::with(kind, what.into(), None, None, 0)
    }

    /// What was being done, where, and what the system said.
    pub(crate) fn storage(what: &str, path: &Path, source: io::Error) -> Self {
        Self::with(
            SinkErrorKind::Storage,
            what.to_owned(),
            Some(path.to_owned()),
            Some(source),
            0,
        )
    }

    pub(crate) fn in_use(path: &Path) -> Self {
        let what = "another writer has it; give one of them a writer id of its own";
        Self::with(SinkErrorKind::InUse, what.to_owned(), Some(path.to_owned()), None, 0)
    }

    /// The same failure, of a sink that was closed with records in its memory.
    pub(crate) fn leaving(&self, unwritten: u64) -> Self {
        let source = self.inner.source.as_ref().map(copy);
        Self::with(
            self.inner.kind,
            self.inner.what.clone(),
            self.inner.path.clone(),
            source,
            unwritten,
        )
    }

    fn with(
        kind: SinkErrorKind,
        what: String,
        path: Option<PathBuf>,
        source: Option<io::Error>,
        unwritten: u64,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                what,
                path,
                source,
                unwritten,
            }),
        }
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> SinkErrorKind {
        self.inner.kind
    }

    /// What the system said, for [`SinkErrorKind::Storage`].
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.inner.source.as_ref().map(io::Error::kind)
    }

    /// The file or directory that it is about.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// How many accepted records were lost, of a [`close`](crate::RecordSink::close) that gave up; otherwise 0.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.inner.unwritten
    }

    /// May the same call succeed later? True for [`Full`](SinkErrorKind::Full), [`InUse`](SinkErrorKind::InUse) and
    /// [`Storage`](SinkErrorKind::Storage).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            SinkErrorKind::Full | SinkErrorKind::InUse | SinkErrorKind::Storage
        )
    }
}

/// `io::Error` is not `Clone`.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner.path {
            Some(path) => write!(f, "{}: {}", path.display(), self.inner.what)?,
            None => f.write_str(&self.inner.what)?,
        }
        match self.inner.unwritten {
            0 => Ok(()),
            count => write!(f, " ({count} records were not written)"),
        }
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source.as_ref().map(|source| source as _)
    }
}

impl From<SinkError> for io::Error {
    fn from(error: SinkError) -> Self {
        let kind = match error.kind() {
            SinkErrorKind::Closed => io::ErrorKind::BrokenPipe,
            SinkErrorKind::Full => io::ErrorKind::WouldBlock,
            SinkErrorKind::InUse => io::ErrorKind::ResourceBusy,
            SinkErrorKind::InvalidConfig | SinkErrorKind::TooLarge => io::ErrorKind::InvalidInput,
            SinkErrorKind::Storage => error.io_kind().unwrap_or(io::ErrorKind::Other),
        };
        Self::new(kind, error)
    }
}
