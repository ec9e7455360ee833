//! Standard error of a process: passed on line by line, and its end kept.

use std::io::Write as _;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How much is kept: with what else is said, less than a reason may have.
const MAX: usize = 800;

/// A longer line is passed on in parts.
const LONGEST_LINE: usize = 8 * 1024;

/// Reads a pipe to its end, passes on what comes, and keeps the last of it.
#[derive(Debug)]
pub(super) struct Tail<R> {
    pipe: R,
    keeper: Keeper,
}

impl<R: AsyncRead + Unpin> Tail<R> {
    pub(super) fn new(pipe: R) -> Self {
        Self {
            pipe,
            keeper: Keeper::default(),
        }
    }

    /// Reads until the end of the pipe.
    ///
    /// # Cancel safety
    /// Nothing is lost; reading goes on with the next call.
    pub(super) async fn read(&mut self) {
        let mut chunk = [0; 4096];
        loop {
            match self.pipe.read(&mut chunk).await {
                Ok(0) => return,
                Ok(length) => pass_on(&self.keeper.take(&chunk[..length])),
                Err(error) => {
                    tracing::debug!(%error, "standard error of a process cannot be read");
                    return;
                }
            }
        }
    }

    /// The last words.
    pub(super) fn take(mut self) -> String {
        let mut rest = std::mem::take(&mut self.keeper.line);
        if !rest.is_empty() {
            rest.push(b'\n');
            pass_on(&rest);
        }
        self.keeper.last()
    }
}

/// In one piece, so that lines of processes that run at a time stay whole. Nobody may be reading.
fn pass_on(lines: &[u8]) {
    if !lines.is_empty() {
        let _ = std::io::stderr().lock().write_all(lines);
    }
}

#[derive(Debug, Default)]
struct Keeper {
    /// What was not passed on yet.
    line: Vec<u8>,
    /// At most twice as much as is kept.
    last: Vec<u8>,
}

impl Keeper {
    /// What is to be passed on now.
    fn take(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.last.extend_from_slice(&chunk[chunk.len().saturating_sub(MAX)..]);
        if self.last.len() > 2 * MAX {
            self.last.drain(..self.last.len() - MAX);
        }
        self.line.extend_from_slice(chunk);
        let end = match self.line.iter().rposition(|byte| *byte == b'\n') {
            Some(place) => place + 1,
            None if self.line.len() > LONGEST_LINE => self.line.len(),
            None => 0,
        };
        self.line.drain(..end).collect()
    }

    /// Lines, with ` | ` between them.
    fn last(&self) -> String {
        let mut start = self.last.len().saturating_sub(MAX);
        // A byte of the form 10xxxxxx continues a character.
        while self.last.get(start).is_some_and(|byte| byte & 0xC0 == 0x80) {
            start += 1;
        }
        let text = String::from_utf8_lossy(&self.last[start..]);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.join(" | ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_passed_on_whole_and_the_last_are_kept() {
        let mut keeper = Keeper::default();
        assert_eq!(keeper.take(b"one\ntw"), b"one\n");
        assert_eq!(keeper.take(b"o"), b"");
        assert_eq!(keeper.take(b"\n\nthr"), b"two\n\n");
        assert_eq!(
            (keeper.line.as_slice(), keeper.last().as_str()),
            (&b"thr"[..], "one | two | thr")
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut keeper = Keeper::default();
        let mut passed = 0;
        for _ in 0..1000 {
            passed += keeper.take("流".repeat(333).as_bytes()).len();
            assert!(keeper.line.len() <= LONGEST_LINE + 4096 && keeper.last.len() <= 2 * MAX);
        }
        assert_eq!(passed + keeper.line.len(), 999_000);
        let last = keeper.last();
        assert!(last.len() <= MAX && last.chars().all(|c| c == '流'), "{last}");
    }
}
