//! The last line of standard error, in bounded memory.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Longest line that is kept: what a status takes along.
const MAX: usize = 1024;

/// Reads a pipe to its end, and keeps the last line that is not blank.
#[derive(Debug)]
pub(crate) struct LastLine<R> {
    pipe: R,
    keeper: Keeper,
}

impl<R: AsyncRead + Unpin> LastLine<R> {
    pub(crate) fn new(pipe: R) -> Self {
        Self {
            pipe,
            keeper: Keeper::default(),
        }
    }

    /// Reads until the end of the pipe.
    ///
    /// # Cancel safety
    /// Nothing is lost; reading goes on with the next call.
    pub(crate) async fn read(&mut self) {
        let mut chunk = [0; 4096];
        loop {
            match self.pipe.read(&mut chunk).await {
                Ok(0) => return,
                Ok(length) => self.keeper.take(&chunk[..length]),
                Err(error) => {
                    tracing::debug!(%error, "standard error of a process cannot be read");
                    return;
                }
            }
        }
    }

    /// The line, if there was one.
    pub(crate) fn take(self) -> Option<String> {
        self.keeper.last()
    }
}

#[derive(Debug, Default)]
struct Keeper {
    /// The line that is being read, cut.
    current: Vec<u8>,
    /// The last one before it that is not blank.
    last: Vec<u8>,
}

impl Keeper {
    fn take(&mut self, chunk: &[u8]) {
        for (index, part) in chunk.split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                self.end_line();
            }
            // One more than is kept: whether the cut goes through a character shows only behind it.
            let room = (MAX + 1).saturating_sub(self.current.len());
            self.current.extend_from_slice(&part[..part.len().min(room)]);
        }
    }

    fn end_line(&mut self) {
        if !self.current.trim_ascii().is_empty() {
            std::mem::swap(&mut self.last, &mut self.current);
        }
        self.current.clear();
    }

    fn last(mut self) -> Option<String> {
        self.end_line();
        let text = match self.last.len() > MAX {
            true => cut(&self.last),
            false => &self.last,
        };
        let text = String::from_utf8_lossy(text);
        let mut text = text.trim();
        // What was not UTF-8 has become longer.
        while text.len() > MAX {
            text = &text[..text.char_indices().next_back()?.0];
        }
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// The first [`MAX`] bytes, or fewer: not a part of a character.
fn cut(line: &[u8]) -> &[u8] {
    let mut end = MAX;
    // A byte of the form 10xxxxxx continues a character, which has at most four bytes.
    while end > MAX - 4 && line[end] & 0xC0 == 0x80 {
        end -= 1;
    }
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(chunks: &[&[u8]]) -> Option<String> {
        let mut keeper = Keeper::default();
        for chunk in chunks {
            keeper.take(chunk);
            assert!(keeper.current.len() <= MAX + 1 && keeper.last.len() <= MAX + 1);
        }
        keeper.last()
    }

    #[test]
    fn the_last_line_is_kept() {
        for (chunks, line) in [
            (&[&b""[..]][..], None),
            (&[b"\n \n"], None),
            (&[b"one\ntwo\n"], Some("two")),
            (&[b"one\ntwo"], Some("two")),
            (&[b"one\ntwo\n\n \n"], Some("two")),
            (&[b"o", b"ne\r", b"\n"], Some("one")),
            (&["比特".as_bytes(), "流\n".as_bytes()], Some("比特流")),
        ] {
            assert_eq!(last(chunks).as_deref(), line, "{chunks:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        assert_eq!(last(&[&[b'x'; 5000]]).unwrap(), "x".repeat(MAX));
        for shift in 0..3 {
            let line = "x".repeat(shift) + &"流".repeat(1000);
            let kept = last(&[line.as_bytes(), b"\n"]).unwrap();
            assert!(
                kept.len() > MAX - 3 && line.starts_with(&kept),
                "{shift}: {}",
                kept.len()
            );
        }
        let kept = last(&[&[0xFF; 5000]]).unwrap();
        assert!(kept.len() <= MAX && kept.chars().all(|c| c == '\u{FFFD}'));
    }
}
