//! What a `.part` file cannot tell about itself: a small file beside it.
//!
//! It is a sequence of [frames](crate::Frames), each with a checksum. The first is the header. Each commit adds an entry
//! with the totals of the file up to there; the last entry whose checksum fits the file says how much of it is whole.
//! Before a file gets its final name, that name is noted, so that the close hook can be called after a crash too.

use crate::{
    Boundary, Frames,
    format::{FRAME_HEADER_LEN, encode_frame},
    template::Pattern,
};

const HEADER: u8 = 0;
const COMMIT: u8 = 1;
const SEALED: u8 = 2;
/// 1 had no beginning of the period.
const VERSION: u8 = 2;
/// Stands for no beginning.
const ALWAYS: i64 = i64::MIN;

/// What a file holds up to some length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Bytes in the file, and their CRC-32C.
    pub(crate) file_len: u64,
    pub(crate) file_crc: u32,
    /// Bytes of records, and their CRC-32C: the same unless the file is compressed as written.
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
    pub(crate) records: u64,
    /// The first and last sequence, where records have them.
    pub(crate) sequences: Option<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) pattern: Pattern,
    pub(crate) boundary: Boundary,
    /// Whether the file is a sequence of zstd frames.
    pub(crate) zstd: bool,
    /// Whether its records have sequences.
    pub(crate) sequenced: bool,
    /// Nanoseconds since 1970.
    pub(crate) opened: i64,
    /// The beginning of the file's period, likewise; `None` where there is but one.
    pub(crate) since: Option<i64>,
}

/// All that can be read of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Journal {
    pub(crate) header: Option<Header>,
    pub(crate) commits: Vec<Totals>,
    pub(crate) sealed: Option<String>,
}

pub(crate) fn encode_header(header: &Header) -> Vec<u8> {
    let flags = u8::from(header.zstd) | u8::from(header.sequenced) << 1;
    let mut payload = vec![HEADER, VERSION, header.boundary.code(), flags];
    for number in [header.opened, header.since.unwrap_or(ALWAYS)] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
    payload.extend_from_slice(header.pattern.as_str().as_bytes());
    framed(&payload)
}

pub(crate) fn encode_commit(totals: &Totals) -> Vec<u8> {
    let mut payload = vec![COMMIT, u8::from(totals.sequences.is_some())];
    let (first, last) = totals.sequences.unwrap_or_default();
    for number in [totals.file_len, totals.bytes, totals.records, first, last] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
    for crc in [totals.file_crc, totals.crc] {
        payload.extend_from_slice(&crc.to_le_bytes());
    }
    framed(&payload)
}

pub(crate) fn encode_sealed(path: &str) -> Vec<u8> {
    let mut payload = vec![SEALED];
    payload.extend_from_slice(path.as_bytes());
    framed(&payload)
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_HEADER_LEN + payload.len());
    encode_frame(payload, &mut out);
    out
}

impl Journal {
    /// Reads up to the first damage.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut journal = Self::default();
        for payload in Frames::new(bytes).map_while(Result::ok) {
            if journal.add(payload).is_none() {
                break;
            }
        }
        journal
    }

    fn add(&mut self, payload: &[u8]) -> Option<()> {
        let (kind, rest) = payload.split_first()?;
        match *kind {
            HEADER => self.header = Some(decode_header(rest)?),
            COMMIT => self.commits.push(decode_commit(rest)?),
            SEALED => self.sealed = Some(str::from_utf8(rest).ok()?.to_owned()),
            _ => return None,
        }
        Some(())
    }
}

fn decode_header(bytes: &[u8]) -> Option<Header> {
    let (fixed, pattern) = bytes.split_at_checked(11)?;
    let [version, boundary, flags, ..] = *fixed else {
        return None;
    };
    let (since, pattern) = match version {
        1 => (ALWAYS, pattern),
        VERSION => {
            let (since, pattern) = pattern.split_first_chunk()?;
            (i64::from_le_bytes(*since), pattern)
        }
        _ => return None,
    };
    Some(Header {
        pattern: Pattern::from_str(str::from_utf8(pattern).ok()?),
        boundary: Boundary::from_code(boundary),
        zstd: flags & 1 != 0,
        sequenced: flags & 2 != 0,
        opened: i64::from_le_bytes(fixed[3..].try_into().ok()?),
        since: Some(since).filter(|since| *since != ALWAYS),
    })
}

fn decode_commit(bytes: &[u8]) -> Option<Totals> {
    let (sequenced, rest) = bytes.split_first()?;
    (rest.len() == 48).then_some(())?;
    let number = |at: usize| Some(u64::from_le_bytes(rest[at * 8..][..8].try_into().ok()?));
    let crc = |at: usize| Some(u32::from_le_bytes(rest[40 + at * 4..][..4].try_into().ok()?));
    Some(Totals {
        file_len: number(0)?,
        bytes: number(1)?,
        records: number(2)?,
        sequences: (*sequenced == 1).then_some((number(3)?, number(4)?)),
        file_crc: crc(0)?,
        crc: crc(1)?,
    })
}

impl Header {
    /// Whether the end of the last whole record can only be told from the journal, which then must be as durable.
    pub(crate) fn is_needed(&self) -> bool {
        self.boundary == Boundary::Unknown || self.zstd || self.sequenced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> Vec<u8> {
        let header = Header {
            pattern: Pattern::from_str("a/b\u{1}.log"),
            boundary: Boundary::Line,
            zstd: false,
            sequenced: true,
            opened: -5,
            since: Some(-6),
        };
        let totals = Totals {
            file_len: 1,
            file_crc: 2,
            bytes: 3,
            crc: 4,
            records: 5,
            sequences: Some((6, 7)),
        };
        [
            encode_header(&header),
            encode_commit(&totals),
            encode_commit(&Totals::default()),
            encode_sealed("a/b.log"),
        ]
        .concat()
    }

    #[test]
    fn a_journal_is_read_back() {
        let journal = Journal::decode(&bytes());
        let header = journal.header.unwrap();
        assert_eq!(
            (header.pattern.as_str(), header.opened, header.since, header.boundary),
            ("a/b\u{1}.log", -5, Some(-6), Boundary::Line)
        );
        assert!(header.sequenced && !header.zstd);
        assert_eq!(journal.commits[0].sequences, Some((6, 7)));
        assert_eq!(journal.commits[1], Totals::default());
        assert_eq!(journal.sealed.as_deref(), Some("a/b.log"));
    }

    #[test]
    fn headers_of_the_first_version_are_read() {
        let mut payload = vec![HEADER, 1, Boundary::Line.code(), 2];
        payload.extend_from_slice(&7_i64.to_le_bytes());
        payload.extend_from_slice(b"a.log");
        let header = Journal::decode(&framed(&payload)).header.unwrap();
        assert_eq!(
            (header.pattern.as_str(), header.opened, header.since),
            ("a.log", 7, None)
        );
        assert!(header.sequenced);
    }

    #[test]
    fn any_bytes_can_be_read() {
        let whole = bytes();
        for at in 0..whole.len() {
            Journal::decode(&whole[..at]);
            Journal::decode(&whole[at..]);
            let mut flipped = whole.clone();
            flipped[at] ^= 0x55;
            let journal = Journal::decode(&flipped);
            assert_ne!(journal, Journal::decode(&whole), "{at}");
        }
    }
}
