//! What a record looks like in a file.

use std::{fmt, sync::Arc};

use crate::Record;

mod frame;
mod json;
mod timestamped;

pub use self::frame::{FrameError, Frames};
pub(crate) use self::frame::{
    HEADER_LEN as FRAME_HEADER_LEN, MAX_LEN as FRAME_MAX_LEN, checksum as frame_checksum, encode as encode_frame,
    encode_parts as encode_frame_parts,
};

/// How records become bytes.
///
/// | format | a record is | after a crash without a journal |
/// |---|---|---|
/// | [`lines`](Self::lines) | its payload and a newline | cut after the last newline |
/// | [`raw`](Self::raw) | its payload | all is kept |
/// | [`timestamped`](Self::timestamped) | `[2026-11-20 04:00:00.000] subject: payload` and a newline | cut after the last newline |
/// | [`json_lines`](Self::json_lines) | an object in a line | cut after the last newline |
/// | [`length_prefixed`](Self::length_prefixed) | length, checksum, payload | cut after the last whole record |
/// | [`custom`](Self::custom) | what a [`Formatter`] makes of it | as the formatter's [`Boundary`] says |
#[derive(Clone)]
pub struct Format {
    pub(crate) encoder: Encoder,
    boundary: Boundary,
}

#[derive(Clone)]
pub(crate) enum Encoder {
    /// Copied into the buffer as it is, for speed; `true`: with a newline.
    Copy(bool),
    Custom(Arc<dyn Formatter>),
}

/// How the end of a record is seen in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Boundary {
    /// Records are frames of [`Format::length_prefixed`].
    Frame,
    /// A record ends with a newline, and contains no other.
    Line,
    /// It is not seen. What a crash left behind the last commit is cut off, though it may be whole.
    Unknown,
}

impl Boundary {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Line => 1,
            Self::Frame => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Line,
            2 => Self::Frame,
            _ => Self::Unknown,
        }
    }
}

/// Makes bytes of records, for [`Format::custom`].
///
/// A closure `Fn(&Record, &mut Vec<u8>)` is one too, with [`Boundary::Unknown`] and without a time.
pub trait Formatter: Send + Sync + 'static {
    /// Appends the record to `out`, which is a producer's own buffer and may hold other records: it must only grow.
    fn encode(&self, record: &Record<'_>, out: &mut Vec<u8>);

    /// How the end of a record is seen in a file.
    fn boundary(&self) -> Boundary {
        Boundary::Unknown
    }

    /// Whether records without a time shall be given that of `append`, which costs a reading of the clock each.
    fn needs_time(&self) -> bool {
        false
    }
}

impl<F: Fn(&Record<'_>, &mut Vec<u8>) + Send + Sync + 'static> Formatter for F {
    fn encode(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        self(record, out);
    }
}

impl Format {
    /// A line for each record. A payload with newlines is several lines, and a crash may cut between them.
    #[must_use]
    pub fn lines() -> Self {
        Self {
            encoder: Encoder::Copy(true),
            boundary: Boundary::Line,
        }
    }

    /// Payloads one after another.
    #[must_use]
    pub fn raw() -> Self {
        Self {
            encoder: Encoder::Copy(false),
            boundary: Boundary::Unknown,
        }
    }

    /// `[2026-11-20 04:00:00.000] subject: payload`, a line for each record, with the time in UTC.
    ///
    /// The time is that of the record, or else of `append`.
    #[must_use]
    pub fn timestamped() -> Self {
        Self::custom(timestamped::Timestamped::new(crate::Zone::Utc))
    }

    /// [`timestamped`](Self::timestamped) with the time in a zone.
    #[must_use]
    pub fn timestamped_in(zone: crate::Zone) -> Self {
        Self::custom(timestamped::Timestamped::new(zone))
    }

    /// A JSON object in a line for each record, with `subject`, `sequence`, `time` (RFC 3339, UTC), `headers` (an object of
    /// arrays) and `data`, or `data_base64` where the payload is no UTF-8. What is not known is left out, except the time.
    #[must_use]
    pub fn json_lines() -> Self {
        Self::custom(json::JsonLines)
    }

    /// Length and checksum before each payload: 4 bytes of length and 4 of CRC-32C over length and payload, both
    /// little-endian. [`Frames`] reads them.
    #[must_use]
    pub fn length_prefixed() -> Self {
        Self::custom(frame::LengthPrefixed)
    }

    /// Your own. Encoding happens in the producer, outside of any lock.
    #[must_use]
    pub fn custom(formatter: impl Formatter) -> Self {
        Self {
            boundary: formatter.boundary(),
            encoder: Encoder::Custom(Arc::new(formatter)),
        }
    }

    /// How the end of a record is seen in a file.
    #[must_use]
    pub fn boundary(&self) -> Boundary {
        self.boundary
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::lines()
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Format")
            .field("boundary", &self.boundary)
            .finish_non_exhaustive()
    }
}
