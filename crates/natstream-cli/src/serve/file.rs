//! Answers from a file: an item for each line, and for those that are added to it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use natstream::{Code, Handler, HandlerError, Request, ResponseSender};

use super::lines::{Lines, send_all, send_lines, send_rest};
use crate::exit::{Exit, Failure};

/// How often a followed file is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Answers with the lines of a file.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    follow: bool,
}

impl File {
    /// Checks that the file can be read.
    pub(crate) fn new(path: &Path, follow: bool) -> Result<Self, Failure> {
        let check = || match std::fs::metadata(path)? {
            metadata if metadata.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            // A pipe cannot be opened just to look.
            metadata if metadata.is_file() => std::fs::File::open(path).map(drop),
            _ => Ok(()),
        };
        check().map_err(|error| {
            let error = anyhow::Error::new(error).context(format!("cannot read {}", path.display()));
            Failure::new(Exit::Usage, error)
        })?;
        Ok(Self {
            path: path.to_owned(),
            follow,
        })
    }

    async fn open(&self, max_item: u64) -> Result<Opened, HandlerError> {
        let opened = async {
            let file = tokio::fs::File::open(&self.path).await?;
            let metadata = file.metadata().await?;
            match metadata.is_dir() {
                true => Err(io::Error::from(io::ErrorKind::IsADirectory)),
                false => Ok(Opened {
                    identity: identity(&metadata),
                    lines: Lines::new(file, max_item),
                }),
            }
        };
        opened.await.map_err(|error| {
            let code = match error.kind() {
                io::ErrorKind::NotFound => Code::NotFound,
                io::ErrorKind::PermissionDenied => Code::PermissionDenied,
                _ => Code::Unavailable,
            };
            HandlerError::new(code, format!("cannot read {}: {error}", self.path.display()))
        })
    }

    /// Sends the lines of the file, of what is added to it, and of the files that take its place.
    async fn follow(&self, out: &mut ResponseSender) -> Result<(), HandlerError> {
        let mut opened = self.open(out.max_item()).await?;
        loop {
            send_lines(&mut opened.lines, out).await?;
            match self.change(&opened).await {
                Change::None => tokio::time::sleep(LOOK).await,
                Change::Other => {
                    // What was written before the other file took its place.
                    send_all(&mut opened.lines, out).await?;
                    // It may be gone again; then this one is looked for.
                    match self.open(out.max_item()).await {
                        Ok(other) => opened = other,
                        Err(error) if error.status().code == Code::NotFound => tokio::time::sleep(LOOK).await,
                        Err(error) => return Err(error),
                    }
                }
                Change::Truncated => {
                    send_rest(&mut opened.lines, out).await?;
                    opened = self.open(out.max_item()).await?;
                }
            }
        }
    }

    async fn change(&self, opened: &Opened) -> Change {
        match tokio::fs::metadata(&self.path).await {
            Ok(metadata) if identity(&metadata) != opened.identity => Change::Other,
            Ok(metadata) if metadata.len() < opened.lines.total() => Change::Truncated,
            // It may come back.
            _ => Change::None,
        }
    }
}

impl Handler for File {
    async fn handle(&self, _request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
        let closed = out.closed();
        let answer = async {
            if self.follow {
                return self.follow(&mut out).await;
            }
            let mut opened = self.open(out.max_item()).await?;
            send_all(&mut opened.lines, &mut out).await
        };
        tokio::select! {
            biased;
            outcome = answer => outcome,
            _ = closed => Err(HandlerError::new(Code::Cancelled, "the call is over")),
        }
    }
}

#[derive(Debug)]
struct Opened {
    identity: (u64, u64),
    lines: Lines<tokio::fs::File>,
}

/// What happened to a followed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    /// Another file has its name.
    Other,
    /// It is shorter than what was read of it.
    Truncated,
}

/// The device and the number of a file on it.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
