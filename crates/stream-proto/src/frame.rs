//! The five kinds of message (rules 10 and 11).

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, Malformed};
use crate::reader::Reader;
use crate::status::Status;
use crate::varint;

/// First byte of every native message. It occurs nowhere in UTF-8.
pub const MARKER: u8 = 0xfe;

const UNIT: u8 = 0x01;
const BEAT: u8 = 0x02;
const RESET: u8 = 0x03;
const STATE: u8 = 0x11;
const CLOSE: u8 = 0x12;

/// UNIT flag: the last unit; a status stands before the data.
const FIN: u8 = 1;
/// STATE flag: send again from `next`.
const REWIND: u8 = 1;

/// One native message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// Responder to caller: data, or the end, or both.
    Unit(Unit),
    /// Responder to caller: alive, and where it stands.
    Beat {
        /// The stream.
        sid: u32,
        /// Which announcement of the control subject this is; the highest counts.
        announce: u64,
        /// The position after the last unit that was sent.
        position: u64,
    },
    /// Responder to caller: this stream is not known here.
    Reset {
        /// The stream.
        sid: u32,
    },
    /// Caller to responder: what was received, and how much may be sent.
    State {
        /// The stream.
        sid: u32,
        /// Send again from `next`.
        rewind: bool,
        /// The position expected next; everything below was received.
        next: u64,
        /// Units below this position may be sent.
        limit: u64,
    },
    /// Caller to responder: the end of its interest.
    Close {
        /// The stream.
        sid: u32,
        /// Why.
        code: CloseCode,
    },
    /// A kind that this version does not know. It is counted and ignored (rule 17).
    Unknown {
        /// The stream.
        sid: u32,
        /// The kind.
        kind: u8,
    },
}

/// A unit: an immutable piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The stream.
    pub sid: u32,
    /// Where it stands on the number line of bytes plus 256 a unit.
    pub position: u64,
    /// Set on the last unit: the status, and how many items the stream has.
    pub fin: Option<(Status, u64)>,
    /// Items, each a length and its bytes.
    pub data: Bytes,
    /// Byte of the payload at which the data begins, for error messages.
    pub(crate) data_offset: usize,
}

/// Largest unit, with all its overhead (rule 14).
pub const MAX_UNIT: usize = 64 * 1024;

/// What each unit costs on the number line beside its data (rule 13).
pub const UNIT_COST: u64 = 256;

impl Unit {
    /// The position of the unit that follows this one.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position
            .saturating_add(self.data.len() as u64)
            .saturating_add(UNIT_COST)
    }
}

/// Why a caller closes a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCode {
    /// Everything was received.
    Done,
    /// The caller lost interest.
    Cancelled,
    /// Nobody here waits for this stream.
    Unwanted,
    /// The caller's deadline passed.
    Deadline,
    /// The responder broke the protocol.
    Protocol,
    /// A number that this version does not know; read as [`Cancelled`](Self::Cancelled).
    Other(u8),
}

impl CloseCode {
    const fn as_u8(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Cancelled => 1,
            Self::Unwanted => 2,
            Self::Deadline => 3,
            Self::Protocol => 4,
            Self::Other(number) => number,
        }
    }

    const fn from_u8(number: u8) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::Cancelled,
            2 => Self::Unwanted,
            3 => Self::Deadline,
            4 => Self::Protocol,
            other => Self::Other(other),
        }
    }
}

impl Frame {
    /// Reads one message.
    ///
    /// # Errors
    /// [`DecodeError`] with the byte at which the payload stops making sense. Kinds and flags that are not known are no
    /// error.
    pub fn decode(payload: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != MARKER {
            return Err(DecodeError {
                offset: 0,
                what: Malformed::NotNative,
            });
        }
        let kind = reader.u8()?;
        let sid = reader.u32()?;
        Ok(match kind {
            UNIT => Self::Unit(decode_unit(sid, reader, payload)?),
            BEAT => Self::Beat {
                sid,
                announce: reader.varint()?,
                position: reader.varint()?,
            },
            RESET => Self::Reset { sid },
            STATE => Self::State {
                sid,
                rewind: reader.u8()? & REWIND != 0,
                next: reader.varint()?,
                limit: reader.varint()?,
            },
            CLOSE => Self::Close {
                sid,
                code: CloseCode::from_u8(reader.u8()?),
            },
            kind => Self::Unknown { sid, kind },
        })
    }

    /// Does this payload, which was [decoded](Self::decode), have flag bits that this version does not know? They are
    /// counted and ignored (rule 17).
    pub(crate) fn has_unknown_flags(payload: &[u8]) -> bool {
        match payload {
            [MARKER, UNIT, _, _, _, _, flags, ..] => flags & !FIN != 0,
            [MARKER, STATE, _, _, _, _, flags, ..] => flags & !REWIND != 0,
            _ => false,
        }
    }

    /// The message that refuses a call (rule 25): the end at position 0, without data. `status` should say
    /// [`not_processed`](Status::not_processed).
    #[must_use]
    pub fn refusal(sid: u32, status: Status) -> Self {
        Self::Unit(Unit {
            sid,
            position: 0,
            fin: Some((status, 0)),
            data: Bytes::new(),
            data_offset: 0,
        })
    }

    /// The stream that this message belongs to.
    #[must_use]
    pub fn sid(&self) -> u32 {
        match self {
            Self::Unit(unit) => unit.sid,
            Self::Beat { sid, .. }
            | Self::Reset { sid }
            | Self::State { sid, .. }
            | Self::Close { sid, .. }
            | Self::Unknown { sid, .. } => *sid,
        }
    }

    /// The message as bytes. A number above 2^62 − 1 is written as that.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32);
        let mut begin = |kind, sid| {
            out.put_u8(MARKER);
            out.put_u8(kind);
            out.put_u32(sid);
        };
        match self {
            Self::Unit(_) => {}
            Self::Beat { sid, .. } => begin(BEAT, *sid),
            Self::Reset { sid } => begin(RESET, *sid),
            Self::State { sid, .. } => begin(STATE, *sid),
            Self::Close { sid, .. } => begin(CLOSE, *sid),
            Self::Unknown { sid, kind } => begin(*kind, *sid),
        }
        match self {
            Self::Unit(unit) => {
                put_unit_header(unit.sid, unit.fin.is_some(), unit.position, &mut out);
                if let Some((status, items)) = &unit.fin {
                    status.block(*items, usize::MAX).put_prefixed(&mut out);
                }
                out.put_slice(&unit.data);
            }
            Self::Beat { announce, position, .. } => {
                varint::put(*announce, &mut out);
                varint::put(*position, &mut out);
            }
            Self::State {
                rewind, next, limit, ..
            } => {
                out.put_u8(if *rewind { REWIND } else { 0 });
                varint::put(*next, &mut out);
                varint::put(*limit, &mut out);
            }
            Self::Close { code, .. } => out.put_u8(code.as_u8()),
            Self::Reset { .. } | Self::Unknown { .. } => {}
        }
        out.freeze()
    }
}

/// The fields of a unit up to the position; then come the status, if it is the last, and the data.
pub(crate) fn put_unit_header(sid: u32, fin: bool, position: u64, out: &mut impl BufMut) {
    out.put_u8(MARKER);
    out.put_u8(UNIT);
    out.put_u32(sid);
    out.put_u8(if fin { FIN } else { 0 });
    varint::put(position, out);
}

/// Length of what [`put_unit_header`] writes.
pub(crate) const fn unit_header_len(position: u64) -> usize {
    7 + varint::len(position)
}

/// The longest that [`put_unit_header`] writes.
pub(crate) const MAX_UNIT_HEADER: usize = unit_header_len(varint::MAX);

fn decode_unit(sid: u32, mut reader: Reader<'_>, payload: &Bytes) -> Result<Unit, DecodeError> {
    if payload.len() > MAX_UNIT {
        // What one message can make the caller keep is bounded here, whatever the server's max_payload.
        return Err(DecodeError {
            offset: MAX_UNIT,
            what: Malformed::UnitTooLarge,
        });
    }
    let flags = reader.u8()?;
    let position = reader.varint()?;
    let fin = if flags & FIN == 0 {
        None
    } else {
        let block = reader.block()?;
        let start = reader.offset() - block.len();
        let decoded = Status::decode(&mut Reader::new(block)).map_err(|error| DecodeError {
            offset: start + error.offset,
            ..error
        })?;
        Some(decoded)
    };
    Ok(Unit {
        sid,
        position,
        fin,
        data: payload.slice(reader.offset()..),
        data_offset: reader.offset(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Code;
    use alloc::vec;
    use alloc::vec::Vec;

    fn samples() -> Vec<Frame> {
        vec![
            Frame::Unit(Unit {
                sid: 1,
                position: 300,
                fin: None,
                data: Bytes::from_static(b"\x01a\x00"),
                data_offset: 9,
            }),
            Frame::Unit(Unit {
                sid: u32::MAX,
                position: 0,
                fin: Some((Status::new(Code::Aborted, "no"), 4)),
                data: Bytes::new(),
                data_offset: 17,
            }),
            Frame::Beat {
                sid: 2,
                announce: 3,
                position: 70_000,
            },
            Frame::Reset { sid: 9 },
            Frame::State {
                sid: 4,
                rewind: true,
                next: 256,
                limit: 65_536,
            },
            Frame::Close {
                sid: 5,
                code: CloseCode::Deadline,
            },
        ]
    }

    #[test]
    fn frames_round_trip() {
        for frame in samples() {
            assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
        }
    }

    #[test]
    fn every_cut_before_the_data_is_an_error_with_its_byte() {
        for frame in samples() {
            let bytes = frame.encode();
            let whole = match &frame {
                Frame::Unit(unit) => unit.data_offset,
                _ => bytes.len(),
            };
            for cut in 0..whole {
                let error = Frame::decode(&bytes.slice(..cut)).expect_err("a cut frame");
                assert_eq!(error.what, Malformed::Truncated, "{frame:?} cut at {cut}");
                assert!(error.offset <= cut);
            }
        }
    }

    #[test]
    fn unknown_kinds_and_flags_are_no_error() {
        let unknown = Frame::Unknown { sid: 1, kind: 0x2a };
        assert_eq!(Frame::decode(&unknown.encode()), Ok(unknown));
        let mut state = Frame::State {
            sid: 4,
            rewind: false,
            next: 1,
            limit: 2,
        }
        .encode()
        .to_vec();
        state[6] = 0x80;
        assert!(matches!(
            Frame::decode(&Bytes::from(state)),
            Ok(Frame::State { rewind: false, .. })
        ));
    }
}
