//! How much of a file is whole.

use std::io;

use crate::{
    Boundary, Frames, StorageFile,
    format::{FRAME_HEADER_LEN, FRAME_MAX_LEN},
    journal::{Journal, Totals},
    storage::{read_all, read_full},
};

/// Files are read in pieces of this size: large enough that calls cost little, small enough for any machine.
pub(super) const BUFFER: usize = 1 << 20;
/// Disks lose or keep at least this much.
const SECTOR: u64 = 512;

pub(super) struct Scanned {
    /// What is whole.
    pub(super) totals: Totals,
    /// Whether more than a torn record is behind it: what had been committed and is not what it was, or whole records.
    pub(super) damaged: bool,
}

impl Scanned {
    /// With nothing behind it but what was torn.
    fn clean(totals: Totals) -> Self {
        Self { totals, damaged: false }
    }
}

/// Trusts the journal as far as its checksums fit the file, and then the records' own boundaries.
pub(super) fn scan(file: &dyn StorageFile, journal: &Journal, boundary: Boundary, zstd: bool) -> io::Result<Scanned> {
    let size = file.size()?;
    let mut commits = journal.commits.clone();
    commits.sort_by_key(|totals| totals.file_len);
    let mut whole = Totals::default();
    let (mut at, mut crc) = (0, 0);
    let mut buffer = vec![0; BUFFER];
    // Those beyond the end of a file that was cut say nothing.
    for totals in commits.into_iter().take_while(|totals| totals.file_len <= size) {
        crc = checksum(file, crc, at, totals.file_len, &mut buffer)?;
        at = totals.file_len;
        if crc != totals.file_crc {
            return Ok(Scanned {
                totals: whole,
                damaged: true,
            });
        }
        whole = totals;
    }
    // Behind the last commit: whole records were written, but the process died before it said so. Their sequences are not
    // known, so that whoever resumes by sequence will bring them again.
    let has_sequences = |totals: &Totals| totals.sequences.is_some();
    let sequenced =
        journal.commits.iter().any(has_sequences) || journal.header.as_ref().is_some_and(|header| header.sequenced);
    if sequenced || (zstd && journal.header.is_some()) {
        return Ok(Scanned::clean(whole));
    }
    match boundary {
        _ if zstd => frames_of_zstd(file, size),
        Boundary::Line => lines(file, whole, size, &mut buffer),
        Boundary::Frame => frames(file, whole, size, &mut buffer),
        // There was no journal at all: all of it is as good as any part.
        Boundary::Unknown if journal.header.is_none() => {
            let crc = checksum(file, whole.file_crc, whole.file_len, size, &mut buffer)?;
            Ok(Scanned::clean(Totals {
                file_len: size,
                file_crc: crc,
                bytes: size,
                crc,
                ..whole
            }))
        }
        Boundary::Unknown => Ok(Scanned::clean(whole)),
    }
}

fn checksum(file: &dyn StorageFile, mut crc: u32, from: u64, to: u64, buffer: &mut [u8]) -> io::Result<u32> {
    let mut at = from;
    while at < to {
        let want = usize::try_from(to - at).unwrap_or(usize::MAX).min(buffer.len());
        let count = read_full(file, &mut buffer[..want], at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        crc = crc32c::crc32c_append(crc, &buffer[..count]);
        at += count as u64;
    }
    Ok(crc)
}

/// Up to the last newline before a sector that never reached the disk.
fn lines(file: &dyn StorageFile, before: Totals, size: u64, buffer: &mut [u8]) -> io::Result<Scanned> {
    let mut whole = before;
    let mut at = before.file_len;
    // Behind the last newline, not yet in `whole`.
    let mut crc = before.file_crc;
    let mut records = before.records;
    while at < size {
        let count = read_full(file, buffer, at)?;
        if count == 0 {
            break;
        }
        let hole = hole(&buffer[..count], at);
        let piece = &buffer[..hole.unwrap_or(count)];
        if let Some(last) = piece.iter().rposition(|byte| *byte == b'\n') {
            let (lines, rest) = piece.split_at(last + 1);
            crc = crc32c::crc32c_append(crc, lines);
            records += lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            let file_len = at + lines.len() as u64;
            let bytes = before.bytes + (file_len - before.file_len);
            whole = Totals {
                file_len,
                file_crc: crc,
                bytes,
                crc,
                records,
                sequences: None,
            };
            crc = crc32c::crc32c_append(crc, rest);
        } else {
            crc = crc32c::crc32c_append(crc, piece);
        }
        if let Some(hole) = hole {
            let damaged = has_line(file, at + hole as u64, buffer)?;
            return Ok(Scanned { totals: whole, damaged });
        }
        at += count as u64;
    }
    Ok(Scanned::clean(whole))
}

/// Whether a line ends behind an offset.
fn has_line(file: &dyn StorageFile, mut at: u64, buffer: &mut [u8]) -> io::Result<bool> {
    loop {
        let count = read_full(file, buffer, at)?;
        if count == 0 || buffer[..count].contains(&b'\n') {
            return Ok(count > 0);
        }
        at += count as u64;
    }
}

/// Where zeros begin that reach the end of a sector. Text has none; a sector that was not written before the power failed
/// reads as them.
fn hole(bytes: &[u8], offset: u64) -> Option<usize> {
    let mut start = None;
    for (index, byte) in bytes.iter().enumerate() {
        if *byte != 0 {
            start = None;
            continue;
        }
        let begin = *start.get_or_insert(index);
        if (offset + index as u64 + 1).is_multiple_of(SECTOR) {
            return Some(begin);
        }
    }
    None
}

fn frames(file: &dyn StorageFile, before: Totals, size: u64, buffer: &mut [u8]) -> io::Result<Scanned> {
    let mut whole = before;
    let mut frame = Vec::new();
    loop {
        if !read_frame(file, whole.file_len, size, &mut frame)? {
            // A torn one, unless others are found behind it.
            let count = read_full(file, buffer, whole.file_len)?;
            let is_frame = |at| matches!(Frames::new(&buffer[at..count]).next(), Some(Ok(_)));
            return Ok(Scanned {
                totals: whole,
                damaged: (1..count).any(is_frame),
            });
        }
        let total = frame.len();
        let crc = crc32c::crc32c_append(whole.file_crc, &frame);
        whole = Totals {
            file_len: whole.file_len + total as u64,
            file_crc: crc,
            bytes: whole.bytes + total as u64,
            crc,
            records: whole.records + 1,
            sequences: None,
        };
    }
}

/// Reads a whole frame with its header, if there is one.
fn read_frame(file: &dyn StorageFile, at: u64, size: u64, frame: &mut Vec<u8>) -> io::Result<bool> {
    let mut header = [0; FRAME_HEADER_LEN];
    if read_full(file, &mut header, at)? < header.len() {
        return Ok(false);
    }
    let len = header.first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
    let total = FRAME_HEADER_LEN + len;
    if len > FRAME_MAX_LEN || total as u64 > size - at {
        return Ok(false);
    }
    frame.resize(total, 0);
    Ok(read_full(file, frame, at)? == total && matches!(Frames::new(frame).next(), Some(Ok(_))))
}

/// Whole frames that can be decompressed, of a file without a journal.
#[cfg(feature = "zstd")]
fn frames_of_zstd(file: &dyn StorageFile, size: u64) -> io::Result<Scanned> {
    /// What each frame begins with.
    const MAGIC: [u8; 4] = zstd::zstd_safe::MAGICNUMBER.to_le_bytes();

    let bytes = read_all(file)?;
    debug_assert_eq!(bytes.len() as u64, size);
    let mut whole = Totals::default();
    loop {
        let at = usize::try_from(whole.file_len).unwrap_or(usize::MAX);
        let rest = bytes.get(at..).unwrap_or_default();
        let mut count = Counted::default();
        let len = zstd::zstd_safe::find_frame_compressed_size(rest).ok();
        let len = len.filter(|len| (1..=rest.len()).contains(len));
        let len = len.filter(|len| zstd::stream::copy_decode(&rest[..*len], &mut count).is_ok());
        let Some(len) = len else {
            return Ok(Scanned {
                totals: whole,
                damaged: rest.windows(4).skip(1).any(|bytes| bytes == MAGIC),
            });
        };
        whole = Totals {
            file_len: whole.file_len + len as u64,
            file_crc: crc32c::crc32c_append(whole.file_crc, &rest[..len]),
            bytes: whole.bytes + count.len as u64,
            crc: crc32c::crc32c_combine(whole.crc, count.crc, count.len),
            records: whole.records + count.lines,
            sequences: None,
        };
    }
}

#[cfg(feature = "zstd")]
#[derive(Default)]
struct Counted {
    len: usize,
    crc: u32,
    lines: u64,
}

#[cfg(feature = "zstd")]
impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.len += bytes.len();
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Without the feature nobody can tell; it is left as it is.
#[cfg(not(feature = "zstd"))]
fn frames_of_zstd(_file: &dyn StorageFile, _size: u64) -> io::Result<Scanned> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "a compressed file without a journal needs the feature `zstd`",
    ))
}

/// How far a journal can be read.
pub(super) fn readable_len(journal: &dyn StorageFile) -> io::Result<u64> {
    let bytes = read_all(journal)?;
    let mut frames = Frames::new(&bytes);
    while let Some(Ok(_)) = frames.next() {}
    Ok(frames.offset() as u64)
}
