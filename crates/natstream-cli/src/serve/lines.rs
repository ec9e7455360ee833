//! Lines of a reader, in bounded memory.

use std::io;

use bytes::{Buf as _, BytesMut};
use natstream::{Code, HandlerError, ResponseSender};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes that are read at once: what a pipe holds.
const CHUNK: usize = 64 * 1024;

/// Cuts what `reader` gives into lines.
///
/// Memory: the longest line that is allowed, and 64 KiB.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// Bytes at the beginning of the buffer that have no newline in them.
    searched: usize,
    /// Bytes at the beginning of the buffer that were handed out.
    handed_out: usize,
    max: u64,
    total: u64,
}

/// Why there is no next line.
#[derive(Debug)]
pub(crate) enum LineError {
    Io(io::Error),
    TooLong { max: u64 },
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of at most `max` bytes.
    pub(crate) fn new(reader: R, max: u64) -> Self {
        Self {
            reader,
            buffer: BytesMut::new(),
            searched: 0,
            handed_out: 0,
            max,
            total: 0,
        }
    }

    /// The next line that ends with a newline, without it; `None` at the end of what there is at this moment.
    pub(crate) async fn next(&mut self) -> Result<Option<&[u8]>, LineError> {
        self.buffer.advance(std::mem::take(&mut self.handed_out));
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let length = match found {
                Some(at) => self.searched + at,
                None => self.buffer.len(),
            };
            if length as u64 > self.max {
                return Err(LineError::TooLong { max: self.max });
            }
            if found.is_some() {
                self.searched = 0;
                self.handed_out = length + 1;
                return Ok(Some(&self.buffer[..length]));
            }
            self.searched = length;
            self.buffer.reserve(CHUNK);
            let mut limited = (&mut self.reader).take(CHUNK as u64);
            let read = limited.read_buf(&mut self.buffer).await.map_err(LineError::Io)?;
            self.total += read as u64;
            if read == 0 {
                return Ok(None);
            }
        }
    }

    /// What stands behind the last newline; empty when there is nothing. It is gone then.
    pub(crate) fn rest(&mut self) -> BytesMut {
        self.buffer.advance(std::mem::take(&mut self.handed_out));
        self.searched = 0;
        self.buffer.split()
    }

    /// Bytes read so far.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

impl From<LineError> for HandlerError {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Io(error) => Self::internal(format!("the lines cannot be read: {error}")),
            LineError::TooLong { max } => Self::new(
                Code::ResourceExhausted,
                format!("a line is longer than the largest item, {max} bytes"),
            ),
        }
    }
}

/// Sends every line that there is at this moment.
pub(crate) async fn send_lines<R: AsyncRead + Unpin>(
    lines: &mut Lines<R>,
    out: &mut ResponseSender,
) -> Result<(), HandlerError> {
    while let Some(line) = lines.next().await? {
        out.send(line).await?;
    }
    Ok(())
}

/// Sends what stands behind the last newline, if there is anything.
pub(crate) async fn send_rest<R: AsyncRead + Unpin>(
    lines: &mut Lines<R>,
    out: &mut ResponseSender,
) -> Result<(), HandlerError> {
    let rest = lines.rest();
    if !rest.is_empty() {
        out.send(&rest).await?;
    }
    Ok(())
}

/// Sends every line until the end, the last one also when it has no newline.
pub(crate) async fn send_all<R: AsyncRead + Unpin>(
    lines: &mut Lines<R>,
    out: &mut ResponseSender,
) -> Result<(), HandlerError> {
    send_lines(lines, out).await?;
    send_rest(lines, out).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &[u8], max: u64) -> Result<Vec<Vec<u8>>, LineError> {
        let mut lines = Lines::new(text, max);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await? {
            all.push(line.to_vec());
        }
        let rest = lines.rest();
        if !rest.is_empty() {
            all.push(rest.to_vec());
        }
        assert_eq!(lines.total(), text.len() as u64);
        Ok(all)
    }

    #[tokio::test]
    async fn lines_are_cut_at_newlines() {
        for (text, lines) in [
            (&b""[..], &[][..]),
            (b"\n", &[&b""[..]]),
            (b"a\nb\n", &[b"a", b"b"]),
            (b"a\n\nb", &[b"a", b"", b"b"]),
            (b"a\r\n\xff\0", &[b"a\r", b"\xff\0"]),
        ] {
            assert_eq!(all(text, 16).await.unwrap(), lines, "{text:?}");
        }
    }

    #[tokio::test]
    async fn lines_longer_than_what_is_read_at_once() {
        let line = vec![b'x'; 3 * CHUNK + 17];
        let text = [&line[..], b"\n", &line[..]].concat();
        assert_eq!(
            all(&text, line.len() as u64).await.unwrap(),
            [line.clone(), line.clone()]
        );
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_an_error() {
        assert_eq!(all(b"123\n123", 3).await.unwrap().len(), 2);
        for text in [&b"1234\n"[..], b"1234", b"1\n1234\n1"] {
            assert!(
                matches!(all(text, 3).await, Err(LineError::TooLong { max: 3 })),
                "{text:?}"
            );
        }
        let mut lines = Lines::new(tokio::io::repeat(b'x'), 1_000_000);
        assert!(matches!(lines.next().await, Err(LineError::TooLong { .. })));
        assert!(lines.buffer.len() <= 1_000_000 + CHUNK);
    }
}
