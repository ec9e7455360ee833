//! Why an outbox could not be opened.

use stream_sinks::{SinkError, SinkErrorKind};

/// Why an outbox could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// Another process has this directory, or another outbox of this one.
    #[error("another outbox has this directory")]
    InUse(#[source] SinkError),
    /// A setting cannot work.
    #[error("`{setting}` {problem}")]
    #[non_exhaustive]
    InvalidSetting {
        /// The builder's method.
        setting: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The directory or a file in it cannot be read or made.
    #[error("the files of the outbox cannot be used")]
    Storage(#[source] SinkError),
    /// A thread or task of it could not be begun.
    #[error("a thread of the outbox cannot run")]
    Task(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<SinkError> for OutboxError {
    fn from(error: SinkError) -> Self {
        match error.kind() {
            SinkErrorKind::InUse => Self::InUse(error),
            _ => Self::Storage(error),
        }
    }
}
