//! Standard output: data, and nothing else.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt as _, Interest, Stdout};

use crate::exit::{Exit, Failure};

/// Bytes that are gathered before they are written, if more follow at once.
const CAPACITY: usize = 64 * 1024;

/// A buffer in front of standard output, which a thread of the runtime writes to: a reader that stops for a while holds up
/// nothing but the items.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Stdout,
    buffer: Vec<u8>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self {
            stdout: tokio::io::stdout(),
            buffer: Vec::with_capacity(CAPACITY),
        }
    }

    /// Where to put the next item; call [`write_if_full`](Self::write_if_full) afterwards.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes when there is enough to write; does not wait until it has been read.
    pub(crate) async fn write_if_full(&mut self) -> io::Result<()> {
        match self.buffer.len() >= CAPACITY {
            true => self.write().await,
            false => Ok(()),
        }
    }

    /// Writes everything, and waits for it.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.write().await?;
        self.stdout.flush().await
    }

    async fn write(&mut self) -> io::Result<()> {
        self.stdout.write_all(&self.buffer).await?;
        self.buffer.clear();
        // One large item does not keep its memory for ever.
        self.buffer.shrink_to(CAPACITY);
        Ok(())
    }
}

/// Writes all of this, and waits for it. That nobody reads it is not an error.
pub(crate) async fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = Output::new();
    output.buffer().extend_from_slice(bytes);
    match output.flush().await.map_err(failure) {
        Err(Some(failure)) => Err(failure),
        Ok(()) | Err(None) => Ok(()),
    }
}

/// Why it cannot be written. `None` for a closed pipe, which is not an error; a full disk is.
pub(crate) fn failure(error: io::Error) -> Option<Failure> {
    (error.kind() != io::ErrorKind::BrokenPipe).then(|| {
        let error = anyhow::Error::new(error).context("standard output cannot be written to");
        Failure::new(Exit::Lost, error)
    })
}

/// Completes when nobody can read standard output any more. Only for pipes and sockets; files have no reader.
pub(crate) async fn closed() {
    if watch().await.is_err() {
        std::future::pending().await
    }
}

async fn watch() -> io::Result<()> {
    let stdout: OwnedFd = io::stdout().as_fd().try_clone_to_owned()?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe; what that asks for, an `OwnedFd` guarantees"
    )]
    let stdout = AsyncFd::with_interest(stdout, Interest::ERROR)?;
    loop {
        let mut guard = stdout.ready(Interest::ERROR).await?;
        if guard.ready().is_error() {
            return Ok(());
        }
        guard.clear_ready();
    }
}
