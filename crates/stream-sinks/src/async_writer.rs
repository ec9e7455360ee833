//! A sink as `tokio::io::AsyncWrite`.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use crate::{RollingWriter, line_writer::Begun, shared::Flush};

/// Lines written to it are records of a [`RollingWriter`], as with [`LineWriter`](crate::LineWriter), but without blocking.
///
/// `shutdown` flushes. It does not close the sink, which may have other handles; the end of a text without a newline becomes
/// a record with `flush` or `shutdown`, and is lost by drop.
///
/// # Cancel safety
/// As the trait says: a write that is not ready has taken nothing.
#[derive(Debug)]
pub struct AsyncLineWriter {
    sink: RollingWriter,
    begun: Begun,
    scratch: Vec<u8>,
    flush: Option<Flush>,
}

impl AsyncLineWriter {
    /// Writes to this sink.
    #[must_use]
    pub fn new(sink: RollingWriter) -> Self {
        Self {
            begun: Begun::new(&sink),
            sink,
            scratch: Vec::new(),
            flush: None,
        }
    }

    fn poll_line(&mut self, rest: &[u8], context: &Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            sink, begun, scratch, ..
        } = self;
        begun.end(rest, |line| sink.poll_line(line, scratch, context.waker()))
    }
}

impl AsyncWrite for AsyncLineWriter {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // One that nobody waited for does not answer for what comes now.
        self.flush = None;
        let mut taken = 0;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', _)) if self.begun.ends_refused() => {}
                Some((b'\n', line)) => match self.poll_line(line, context) {
                    Poll::Ready(Ok(())) => {}
                    _ if taken > 0 => return Poll::Ready(Ok(taken)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                },
                _ if taken > 0 && !self.begun.fits(piece) => return Poll::Ready(Ok(taken)),
                _ => self.begun.add(piece)?,
            }
            taken += piece.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.begun.is_empty() {
            ready!(self.poll_line(&[], context))?;
        }
        let flush = match self.flush {
            Some(flush) => flush,
            None => self.sink.shared().flush(),
        };
        self.flush = Some(flush);
        let result = ready!(self.sink.shared().poll_flush(flush, context.waker()));
        self.flush = None;
        Poll::Ready(result.map(drop).map_err(io::Error::from))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
