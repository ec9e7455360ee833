//! Length and checksum before each payload; also the frame of the segment log.

use std::{error::Error, fmt};

use super::{Boundary, Formatter};
use crate::Record;

/// Length and checksum.
pub(crate) const HEADER_LEN: usize = 8;
/// A length beyond this is taken for damage, so that no reader allocates by it.
pub(crate) const MAX_LEN: usize = 1 << 30;

pub(super) struct LengthPrefixed;

impl Formatter for LengthPrefixed {
    fn encode(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        encode(record.payload(), out);
    }

    fn boundary(&self) -> Boundary {
        Boundary::Frame
    }
}

pub(crate) fn encode(payload: &[u8], out: &mut Vec<u8>) {
    encode_parts(&[payload], out);
}

/// A payload that comes in parts.
pub(crate) fn encode_parts(payload: &[&[u8]], out: &mut Vec<u8>) {
    // A payload beyond `MAX_LEN` does not fit into the sink's buffer, and is refused there.
    let len: usize = payload.iter().map(|part| part.len()).sum();
    let len = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&len);
    let sum = payload
        .iter()
        .fold(checksum(len, &[]), |sum, part| crc32c::crc32c_append(sum, part));
    out.extend_from_slice(&sum.to_le_bytes());
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

/// Over the length too: a run of zeros is not a sequence of empty frames.
pub(crate) fn checksum(len: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&len), payload)
}

/// Reads what [`Format::length_prefixed`](crate::Format::length_prefixed) has written.
///
/// ```
/// use stream_sinks::Frames;
///
/// # let file = Vec::new();
/// for payload in Frames::new(&file) {
///     println!("{} bytes", payload?.len());
/// }
/// # Ok::<(), stream_sinks::FrameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    offset: usize,
}

/// Bytes that are no whole frame. Nothing follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// Length and checksum do not fit the payload, at this offset.
    #[non_exhaustive]
    Damaged {
        /// Where the frame begins.
        offset: usize,
    },
    /// The bytes end within the frame that begins at this offset.
    #[non_exhaustive]
    Torn {
        /// Where the frame begins.
        offset: usize,
    },
}

impl<'a> Frames<'a> {
    /// Reads frames from the beginning of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// The offset behind the last whole frame that was read.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn read(&mut self) -> Option<Result<&'a [u8], FrameError>> {
        let offset = self.offset;
        let rest = &self.bytes[offset..];
        if rest.is_empty() {
            return None;
        }
        let (Some(len), Some(sum)) = (four(rest, 0), four(rest, 4)) else {
            return Some(Err(FrameError::Torn { offset }));
        };
        let size = u32::from_le_bytes(len) as usize;
        if size > MAX_LEN {
            return Some(Err(FrameError::Damaged { offset }));
        }
        let Some(payload) = rest[HEADER_LEN..].get(..size) else {
            return Some(Err(FrameError::Torn { offset }));
        };
        if checksum(len, payload) != u32::from_le_bytes(sum) {
            return Some(Err(FrameError::Damaged { offset }));
        }
        self.offset += HEADER_LEN + size;
        Some(Ok(payload))
    }
}

fn four(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at + 4)?.try_into().ok()
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<&'a [u8], FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.read()?;
        if item.is_err() {
            // The error is the last item.
            self.bytes = &self.bytes[..self.offset];
        }
        Some(item)
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { offset } => write!(f, "the frame at offset {offset} is damaged"),
            Self::Torn { offset } => write!(f, "the frame at offset {offset} is incomplete"),
        }
    }
}

impl Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(b"one", &mut bytes);
        encode(b"", &mut bytes);
        bytes
    }

    #[test]
    fn frames_come_back() {
        let bytes = two();
        let frames: Result<Vec<_>, _> = Frames::new(&bytes).collect();
        assert_eq!(frames.unwrap(), [&b"one"[..], b""]);
    }

    #[test]
    fn a_cut_is_seen_at_every_byte() {
        let bytes = two();
        for len in 0..bytes.len() {
            let mut frames = Frames::new(&bytes[..len]);
            let whole = frames.by_ref().take_while(Result::is_ok).count();
            assert_eq!(whole, usize::from(len >= 11), "{len}");
            assert_eq!(frames.offset(), if len >= 11 { 11 } else { 0 });
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        for bit in 0..two().len() * 8 {
            let mut bytes = two();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Frames::new(&bytes).any(|frame| frame.is_err()), "{bit}");
        }
        assert!(Frames::new(&[0; 64]).next().unwrap().is_err());
    }
}
