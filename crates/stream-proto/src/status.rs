//! How a stream ended, in the responder's words: the status block of the last unit.

use alloc::string::{String, ToString};
use core::fmt;
use core::time::Duration;

use bytes::{BufMut, Bytes};

use crate::error::{DecodeError, Malformed};
use crate::reader::Reader;
use crate::varint;

/// Longest message of a [`Status`] on the wire, in bytes; what is longer is cut at a character.
pub const MAX_MESSAGE: usize = 1024;

/// Longest details of a [`Status`] on the wire, in bytes; longer ones are left out.
pub const MAX_DETAILS: usize = 4096;

const NOT_PROCESSED: u8 = 1;
const RETRYABLE: u8 = 1 << 1;

/// The result of a call. The numbers are those of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// Success.
    Ok,
    /// The call was cancelled.
    Cancelled,
    /// An error without a better code.
    Unknown,
    /// The request was wrong, whatever the state of the system.
    InvalidArgument,
    /// The deadline passed.
    DeadlineExceeded,
    /// Something asked for does not exist.
    NotFound,
    /// Something to be created exists.
    AlreadyExists,
    /// The caller may not do this.
    PermissionDenied,
    /// A quota, a queue or memory is used up.
    ResourceExhausted,
    /// The system is not in the state that the call needs.
    FailedPrecondition,
    /// The call was given up half-way.
    Aborted,
    /// Past the valid range.
    OutOfRange,
    /// Not implemented here.
    Unimplemented,
    /// A broken invariant.
    Internal,
    /// Not available now; trying again may help.
    Unavailable,
    /// Data was lost or damaged for good.
    DataLoss,
    /// Who is calling is not known.
    Unauthenticated,
    /// A number that this version does not know.
    Other(u8),
}

/// Every known code with its number and its name on a terminal.
const CODES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

impl Code {
    /// The number on the wire.
    #[must_use]
    pub fn as_u8(self) -> u8 {
        match self {
            Self::Other(number) => number,
            known => CODES
                .iter()
                .position(|(code, _)| *code == known)
                .map_or(2, |index| index as u8),
        }
    }

    /// The code with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Self {
        CODES
            .get(usize::from(number))
            .map_or(Self::Other(number), |(code, _)| *code)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "CODE_{number}"),
            known => f.write_str(CODES[usize::from(known.as_u8())].1),
        }
    }
}

/// What the responder says at the end of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The code.
    pub code: Code,
    /// For people; at most [`MAX_MESSAGE`] bytes travel.
    pub message: String,
    /// Opaque bytes for the caller, the trailers on success; at most [`MAX_DETAILS`] bytes travel.
    pub details: Bytes,
    /// The handler certainly did not run.
    pub not_processed: bool,
    /// Asking again may help.
    pub retryable: bool,
    /// How long to wait before asking again, in whole milliseconds on the wire.
    pub retry_after: Option<Duration>,
}

impl Status {
    /// A status with a message and nothing else set.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Bytes::new(),
            not_processed: false,
            retryable: false,
            retry_after: None,
        }
    }

    /// Success without trailers.
    #[must_use]
    pub fn ok() -> Self {
        Self::new(Code::Ok, "")
    }

    /// Success?
    #[must_use]
    pub fn is_ok(&self) -> bool {
        // By number: `Other(0)` travels as success.
        self.code.as_u8() == Code::Ok.as_u8()
    }

    /// The block `code, flags, retry-after ms, items, message, details`, which takes at most `room` bytes with its length
    /// before it, or as many as it takes without message and details.
    pub(crate) fn block(&self, items: u64, room: usize) -> Block<'_> {
        let mut flags = 0;
        if self.not_processed {
            flags |= NOT_PROCESSED;
        }
        if self.retryable {
            flags |= RETRYABLE;
        }
        let retry_after = self.retry_after.map_or(0, |after| {
            // 0 says "none": a shorter wait than a millisecond is rounded up.
            u64::try_from(after.as_millis()).map_or(varint::MAX, |ms| ms.clamp(1, varint::MAX))
        });
        let mut block = Block {
            code: self.code.as_u8(),
            flags,
            retry_after,
            items,
            message: "",
            details: &[],
        };
        // The three lengths take one byte each while there is nothing, and two at most.
        let room = room.saturating_sub(block.prefixed_len() + 3);
        block.message = cut(&self.message, MAX_MESSAGE.min(room));
        if self.details.len() <= MAX_DETAILS.min(room - block.message.len()) {
            block.details = &self.details;
        }
        block
    }

    /// Reads a block that fills `reader`; what stands after the details is ignored. Also the number of items.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<(Self, u64), DecodeError> {
        let code = Code::from_u8(reader.u8()?);
        let flags = reader.u8()?;
        let retry_after = reader.varint()?;
        let items = reader.varint()?;
        let message = reader.block()?;
        if message.len() > MAX_MESSAGE {
            return Err(reader.error(Malformed::StatusTooLong));
        }
        let details = reader.block()?;
        if details.len() > MAX_DETAILS {
            return Err(reader.error(Malformed::StatusTooLong));
        }
        let status = Self {
            code,
            message: String::from_utf8_lossy(message).to_string(),
            details: Bytes::copy_from_slice(details),
            not_processed: flags & NOT_PROCESSED != 0,
            retryable: flags & RETRYABLE != 0,
            retry_after: (retry_after > 0).then(|| Duration::from_millis(retry_after)),
        };
        Ok((status, items))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            write!(f, "{}", self.code)
        } else {
            write!(f, "{}: {}", self.code, self.message)
        }
    }
}

/// A status as it travels: what does not fit is cut or left out.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    code: u8,
    flags: u8,
    retry_after: u64,
    items: u64,
    message: &'a str,
    details: &'a [u8],
}

impl Block<'_> {
    /// Length of what [`put_prefixed`](Self::put_prefixed) writes.
    pub(crate) fn prefixed_len(&self) -> usize {
        varint::len(self.len() as u64) + self.len()
    }

    /// Appends the block with its length before it.
    pub(crate) fn put_prefixed(&self, out: &mut impl BufMut) {
        varint::put(self.len() as u64, out);
        out.put_u8(self.code);
        out.put_u8(self.flags);
        varint::put(self.retry_after, out);
        varint::put(self.items, out);
        varint::put(self.message.len() as u64, out);
        out.put_slice(self.message.as_bytes());
        varint::put(self.details.len() as u64, out);
        out.put_slice(self.details);
    }

    fn len(&self) -> usize {
        let message = varint::len(self.message.len() as u64) + self.message.len();
        let details = varint::len(self.details.len() as u64) + self.details.len();
        2 + varint::len(self.retry_after) + varint::len(self.items) + message + details
    }
}

/// The longest prefix of `text` with at most `max` bytes that ends at a character.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn round_trip(status: &Status, items: u64, room: usize) -> (Status, u64) {
        let mut out = BytesMut::new();
        let block = status.block(items, room);
        block.put_prefixed(&mut out);
        assert_eq!(out.len(), block.prefixed_len());
        assert!(out.len() <= room.max(16));
        let mut reader = Reader::new(&out);
        let block = reader.block().expect("a length and as many bytes");
        Status::decode(&mut Reader::new(block)).expect("what was encoded decodes")
    }

    #[test]
    fn codes_keep_their_numbers() {
        for number in 0..=u8::MAX {
            assert_eq!(Code::from_u8(number).as_u8(), number);
        }
        assert_eq!(Code::Unauthenticated.as_u8(), 16);
    }

    #[test]
    fn a_full_status_round_trips() {
        let status = Status {
            details: Bytes::from_static(b"\x00\xff"),
            not_processed: true,
            retryable: true,
            retry_after: Some(Duration::from_millis(1500)),
            ..Status::new(Code::Unavailable, "比特流中断")
        };
        assert_eq!(round_trip(&status, 7, 8192), (status, 7));
    }

    #[test]
    fn what_does_not_fit_is_cut_or_left_out() {
        let status = Status {
            details: Bytes::from_static(&[1; MAX_DETAILS + 1]),
            ..Status::new(Code::Internal, "é".repeat(MAX_MESSAGE))
        };
        let (short, _) = round_trip(&status, 0, 8192);
        assert_eq!(short.message.len(), MAX_MESSAGE);
        assert!(short.details.is_empty());
        let (tiny, _) = round_trip(&status, 0, 64);
        assert!(tiny.message.len() <= 64 && !tiny.message.is_empty());
    }
}
