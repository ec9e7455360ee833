//! Where a value came from.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from, for people and for error messages.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// [`Loader::set`](super::Loader::set).
    Code,
    /// A context of the `nats` CLI.
    Context {
        /// Its file.
        path: PathBuf,
    },
    /// Nobody gave one.
    Default,
    /// A configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line of the value, from 1.
        line: u64,
    },
    /// An option of a command line, as the user knows it: `--timeout`.
    Flag(String),
    /// A variable of the environment.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code => f.write_str("the program"),
            Self::Context { path } => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
        }
    }
}

/// What is stronger than what; less is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Flags and code.
    Given,
    /// `NATSTREAM_*`.
    Own,
    /// `ISA_CLOUD_NATS_*`.
    IsaCloud,
    /// `NATS_*`, as the `nats` CLI has them.
    NatsCli,
    File,
    Context,
    Default,
}
