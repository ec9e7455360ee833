//! A sink as `std::io::Write`.

use std::{
    io::{self, Write},
    task::Poll,
};

use crate::{Record, RollingWriter, SinkError, SinkErrorKind};

/// Lines written to it are records of a [`RollingWriter`], without their newline; the sink's format adds its own.
///
/// It blocks while the buffer is full. The end of a text that has no newline waits for more, and becomes a record with
/// [`flush`](Write::flush) or drop. `flush` waits until all is handed to the operating system.
///
/// A line that is larger than the sink's buffer is refused, once and with all that follows up to its end; so its beginning
/// takes no more memory than that buffer.
///
/// It serves as the writer of `tracing-subscriber`, with a handle for each event. What the sink's own thread logs (that a file
/// was closed, that the storage fails) is left out there: a sink does not wait for itself, and an idle one stays so.
///
/// ```
/// # use stream_sinks::RollingWriter;
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let writer = RollingWriter::builder(dir, "app").open()?;
/// let lines = writer.line_writer();
/// let subscriber = tracing_subscriber::fmt().with_writer(move || lines.clone()).finish();
/// tracing::subscriber::with_default(subscriber, || tracing::info!("started"));
/// writer.close_blocking()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LineWriter {
    sink: RollingWriter,
    begun: Begun,
}

/// A line that has not ended yet.
#[derive(Debug)]
pub(crate) struct Begun {
    bytes: Vec<u8>,
    /// What is larger never becomes a record.
    most: usize,
    /// Its beginning was refused, and the rest goes the same way.
    refused: bool,
}

impl Begun {
    pub(crate) fn new(sink: &RollingWriter) -> Self {
        Self {
            bytes: Vec::new(),
            most: sink.buffer(),
            refused: false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether [`add`](Self::add) takes it.
    pub(crate) fn fits(&self, part: &[u8]) -> bool {
        self.refused || self.bytes.len() + part.len() <= self.most
    }

    /// Takes a part of a line that does not end in it.
    pub(crate) fn add(&mut self, part: &[u8]) -> io::Result<()> {
        if !self.fits(part) {
            self.bytes = Vec::new();
            self.refused = true;
            return Err(SinkError::new(SinkErrorKind::TooLarge, "a line is larger than the sink's buffer").into());
        }
        if !self.refused {
            self.bytes.extend_from_slice(part);
        }
        Ok(())
    }

    /// At the end of a line: whether it was refused before.
    pub(crate) fn ends_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// Gives the whole line to `append`. It is kept while that fails or is not ready, so that the rest of a line does not become
    /// a record of its own; but not when it never fits.
    pub(crate) fn end<T>(
        &mut self,
        rest: &[u8],
        append: impl FnOnce(&[u8]) -> Poll<Result<T, SinkError>>,
    ) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            return append(rest).map(|result| result.map(drop).map_err(io::Error::from));
        }
        let begun = self.bytes.len();
        self.bytes.extend_from_slice(rest);
        let result = append(&self.bytes);
        let done = match &result {
            Poll::Ready(Ok(_)) => true,
            Poll::Ready(Err(error)) => error.kind() == SinkErrorKind::TooLarge,
            Poll::Pending => false,
        };
        self.bytes.truncate(if done { 0 } else { begun });
        result.map(|result| result.map(drop).map_err(io::Error::from))
    }
}

impl LineWriter {
    pub(crate) fn new(sink: RollingWriter) -> Self {
        Self {
            begun: Begun::new(&sink),
            sink,
        }
    }

    fn line(&mut self, rest: &[u8]) -> io::Result<()> {
        let sink = &self.sink;
        let append = |line: &[u8]| Poll::Ready(sink.append_blocking(Record::new(line)));
        match self.begun.end(rest, append) {
            Poll::Ready(result) => result,
            Poll::Pending => unreachable!("it blocks"),
        }
    }

    fn end_line(&mut self) -> io::Result<()> {
        if self.begun.is_empty() {
            return Ok(());
        }
        self.line(&[])
    }
}

impl Write for LineWriter {
    /// Takes whole lines, or the beginning of one.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.sink.is_own_thread() {
            return Ok(bytes.len());
        }
        let mut taken = 0;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', _)) if self.begun.ends_refused() => {}
                Some((b'\n', line)) => match self.line(line) {
                    Ok(()) => {}
                    // The caller learns of it when it writes the rest.
                    Err(_) if taken > 0 => return Ok(taken),
                    Err(error) => return Err(error),
                },
                _ if taken > 0 && !self.begun.fits(piece) => return Ok(taken),
                _ => self.begun.add(piece)?,
            }
            taken += piece.len();
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.sink.is_own_thread() {
            return Ok(());
        }
        self.end_line()?;
        self.sink.flush_blocking()?;
        Ok(())
    }
}

impl Clone for LineWriter {
    /// For another thread: a line that has begun stays with the original.
    fn clone(&self) -> Self {
        Self::new(self.sink.clone())
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        if let Err(error) = self.end_line() {
            tracing::error!(%error, "the last line was not accepted");
        }
    }
}
