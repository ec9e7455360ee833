//! Reads closed files back.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::SystemTime;

mod decode;

use crate::format::{FRAME_HEADER_LEN, FRAME_MAX_LEN, frame_checksum};

/// The longest line that is taken for one.
const MAX_LINE: u64 = FRAME_MAX_LEN as u64;

const PIECE: u64 = 64 << 10;

/// What records look like in a file that is read; [`Format`](crate::Format) is what makes them so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadFormat {
    /// [`Format::lines`](crate::Format::lines).
    #[default]
    Lines,
    /// [`Format::timestamped`](crate::Format::timestamped), in UTC. Lines that do not begin with a time belong to the record
    /// before them.
    Timestamped,
    /// [`Format::json_lines`](crate::Format::json_lines).
    JsonLines,
    /// [`Format::length_prefixed`](crate::Format::length_prefixed).
    LengthPrefixed,
    /// [`Format::raw`](crate::Format::raw): pieces of up to 64 KiB, which are not the records that were written.
    Raw,
}

/// A record that was read: what its format has a place for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredRecord {
    /// The payload.
    pub payload: Vec<u8>,
    /// Where it came from.
    pub subject: Option<String>,
    /// Its number at its source.
    pub sequence: Option<u64>,
    /// When it was made or recorded.
    pub time: Option<SystemTime>,
    /// Its headers.
    pub headers: Vec<(String, String)>,
}

/// Reads the records of one file, from the beginning.
///
/// Files that end in `.gz` and `.zst` are decompressed, with the features `gzip` and `zstd`.
///
/// ```
/// use stream_sinks::{ReadFormat, RecordReader, RollingWriter};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let writer = RollingWriter::builder(dir, "events").template("all.log").open()?;
/// writer.append_blocking("a line")?;
/// writer.close_blocking()?;
/// for record in RecordReader::open(dir.join("all.log"), ReadFormat::Lines)? {
///     assert_eq!(record?.payload, b"a line");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Memory: the largest record, and what decompressing needs.
pub struct RecordReader {
    input: Box<dyn BufRead + Send>,
    format: ReadFormat,
    offset: u64,
    crc32c: u32,
    buffer: Vec<u8>,
    /// What was read ahead: of timestamped records only the next one tells where one ends.
    ahead: Option<Result<StoredRecord, ReadError>>,
    /// After an error that nothing can be read behind.
    is_over: bool,
}

impl RecordReader {
    /// Opens a file.
    ///
    /// # Errors
    /// What the system says; [`Unsupported`](io::ErrorKind::Unsupported) for a compressed file without the feature for it.
    pub fn open(path: impl AsRef<Path>, format: ReadFormat) -> io::Result<Self> {
        let path = path.as_ref();
        let file = File::open(path)?;
        let ending = path.extension().and_then(|ending| ending.to_str());
        Ok(Self::new(decompressed(file, ending)?, format))
    }

    /// Reads what is not compressed.
    pub fn new(input: impl Read + Send + 'static, format: ReadFormat) -> Self {
        Self {
            input: Box::new(BufReader::with_capacity(256 << 10, input)),
            format,
            offset: 0,
            crc32c: 0,
            buffer: Vec::new(),
            ahead: None,
            is_over: false,
        }
    }

    /// How many bytes were read, uncompressed: those of the records so far, and of what was read ahead.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The CRC-32C of those bytes; at the end that of the [`Manifest`](crate::Manifest).
    #[must_use]
    pub fn crc32c(&self) -> u32 {
        self.crc32c
    }

    fn read(&mut self) -> Result<Option<StoredRecord>, ReadError> {
        self.buffer.clear();
        let record = match self.format {
            ReadFormat::LengthPrefixed => self.frame()?,
            ReadFormat::Raw => self.piece()?,
            _ => self.line()?,
        };
        let Some(len) = record else { return Ok(None) };
        let offset = self.offset;
        self.offset += len;
        let decoded = match self.format {
            ReadFormat::Lines | ReadFormat::LengthPrefixed | ReadFormat::Raw => Ok(StoredRecord {
                payload: std::mem::take(&mut self.buffer),
                ..StoredRecord::default()
            }),
            ReadFormat::Timestamped => decode::timestamped(&self.buffer),
            ReadFormat::JsonLines => decode::json(&self.buffer),
        };
        decoded.map(Some).map_err(|what| ReadError::Damaged { offset, what })
    }

    /// Reads a line, without its end, and tells how long it was with it.
    fn line(&mut self) -> Result<Option<u64>, ReadError> {
        let offset = self.offset;
        let read = (&mut self.input).take(MAX_LINE).read_until(b'\n', &mut self.buffer);
        match read.map_err(|error| failed(offset, error))? {
            0 => Ok(None),
            len if self.buffer.last() == Some(&b'\n') => {
                self.crc32c = crc32c::crc32c_append(self.crc32c, &self.buffer);
                self.buffer.pop();
                Ok(Some(len as u64))
            }
            _ => Err(ReadError::Torn { offset }),
        }
    }

    /// The same for what is no record.
    fn piece(&mut self) -> Result<Option<u64>, ReadError> {
        let read = (&mut self.input).take(PIECE).read_to_end(&mut self.buffer);
        let len = read.map_err(|error| failed(self.offset, error))?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &self.buffer);
        Ok((len > 0).then_some(len as u64))
    }

    /// The same for a frame.
    fn frame(&mut self) -> Result<Option<u64>, ReadError> {
        let offset = self.offset;
        let read = (&mut self.input)
            .take(FRAME_HEADER_LEN as u64)
            .read_to_end(&mut self.buffer);
        if read.map_err(|error| failed(offset, error))? == 0 {
            return Ok(None);
        }
        let &[a, b, c, d, e, f, g, h] = &self.buffer[..] else {
            return Err(ReadError::Torn { offset });
        };
        let (len, sum) = ([a, b, c, d], u32::from_le_bytes([e, f, g, h]));
        let size = u32::from_le_bytes(len) as usize;
        let damaged = || ReadError::Damaged {
            offset,
            what: "its length and checksum do not fit it".to_owned(),
        };
        if size > FRAME_MAX_LEN {
            return Err(damaged());
        }
        self.buffer.clear();
        let read = (&mut self.input).take(size as u64).read_to_end(&mut self.buffer);
        if read.map_err(|error| failed(offset, error))? < size {
            return Err(ReadError::Torn { offset });
        }
        if frame_checksum(len, &self.buffer) != sum {
            return Err(damaged());
        }
        for bytes in [&len, &sum.to_le_bytes(), &self.buffer[..]] {
            self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        }
        Ok(Some((FRAME_HEADER_LEN + size) as u64))
    }
}

impl Iterator for RecordReader {
    type Item = Result<StoredRecord, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.format != ReadFormat::Timestamped {
            return self.read_next();
        }
        let mut record = self.ahead.take().or_else(|| self.read_next())?;
        while let Ok(whole) = &mut record {
            match self.read_next() {
                // A payload with a newline.
                Some(Err(ReadError::Damaged { .. })) => {
                    whole.payload.push(b'\n');
                    whole.payload.extend_from_slice(&self.buffer);
                }
                ahead => {
                    self.ahead = ahead;
                    break;
                }
            }
        }
        Some(record)
    }
}

impl RecordReader {
    fn read_next(&mut self) -> Option<Result<StoredRecord, ReadError>> {
        if self.is_over {
            return None;
        }
        let record = self.read().transpose();
        // Behind a line that is no record there may be others; behind a frame that is none, nothing can be found.
        let goes_on = match &record {
            Some(Ok(_)) => true,
            Some(Err(ReadError::Damaged { .. })) => self.format != ReadFormat::LengthPrefixed,
            Some(Err(_)) | None => false,
        };
        self.is_over = !goes_on;
        record
    }
}

impl fmt::Debug for RecordReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordReader")
            .field("format", &self.format)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// By the ending of the file's name.
pub(crate) fn decompressed(file: impl Read + Send + 'static, ending: Option<&str>) -> io::Result<Box<dyn Read + Send>> {
    match ending {
        #[cfg(feature = "gzip")]
        Some("gz") => Ok(Box::new(flate2::read::MultiGzDecoder::new(file))),
        #[cfg(feature = "zstd")]
        Some("zst") => Ok(Box::new(zstd::Decoder::new(file)?)),
        #[cfg(not(feature = "gzip"))]
        Some("gz") => Err(not_built_in()),
        #[cfg(not(feature = "zstd"))]
        Some("zst") => Err(not_built_in()),
        _ => Ok(Box::new(file)),
    }
}

#[cfg(not(all(feature = "gzip", feature = "zstd")))]
fn not_built_in() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "it is compressed, and this program was built without that",
    )
}

/// Why a record could not be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// Bytes that are no record. Lines behind it can be read, frames cannot.
    #[non_exhaustive]
    Damaged {
        /// Where it begins, uncompressed.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The file ends within a record. Nothing follows.
    #[non_exhaustive]
    Torn {
        /// Where the record begins, uncompressed.
        offset: u64,
    },
    /// The system, or what decompresses, failed. Nothing follows.
    #[non_exhaustive]
    Io {
        /// How far it came, uncompressed.
        offset: u64,
        /// What it said.
        error: io::Error,
    },
}

/// A compressed file that ends too early is torn, like any other.
fn failed(offset: u64, error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Torn { offset },
        _ => ReadError::Io { offset, error },
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { offset, what } => write!(f, "the record at offset {offset} is damaged: {what}"),
            Self::Torn { offset } => write!(f, "the record at offset {offset} is incomplete"),
            Self::Io { offset, .. } => write!(f, "cannot be read behind offset {offset}"),
        }
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Damaged { .. } | Self::Torn { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{Format, Record};

    fn written(format: &Format, records: &[Record<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        for record in records {
            match &format.encoder {
                crate::format::Encoder::Copy(newline) => {
                    out.extend_from_slice(record.payload());
                    out.extend_from_slice(if *newline { b"\n" } else { b"" });
                }
                crate::format::Encoder::Custom(formatter) => formatter.encode(record, &mut out),
            }
        }
        out
    }

    fn read(bytes: &[u8], format: ReadFormat) -> Vec<Result<StoredRecord, ReadError>> {
        RecordReader::new(Cursor::new(bytes.to_vec()), format).collect()
    }

    const FORMATS: [(fn() -> Format, ReadFormat); 4] = [
        (Format::lines, ReadFormat::Lines),
        (Format::timestamped, ReadFormat::Timestamped),
        (Format::json_lines, ReadFormat::JsonLines),
        (Format::length_prefixed, ReadFormat::LengthPrefixed),
    ];

    #[cfg(not(feature = "gzip"))]
    #[test]
    fn what_cannot_be_decompressed_here_is_an_error() {
        let refused = decompressed(&b"\x1f\x8b"[..], Some("gz")).map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn what_was_written_is_read() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_795_147_200_123);
        let headers = [("a", "1"), ("a", "2"), ("b", "\"x\"")];
        let full = |payload| {
            let record = Record::new(payload).subject("s.x").sequence(7);
            record.time(time).headers(&headers)
        };
        for (format, read_format) in FORMATS {
            let found = read(&written(&format(), &[full(b"one: [1]"), full(b"")]), read_format);
            let found: Vec<_> = found.into_iter().map(|record| record.expect("whole")).collect();
            assert_eq!(
                found.iter().map(|record| &record.payload[..]).collect::<Vec<_>>(),
                [&b"one: [1]"[..], b""]
            );
            let knows = |record: &StoredRecord| (record.subject.clone(), record.sequence, record.time);
            let expected = match read_format {
                ReadFormat::Lines | ReadFormat::LengthPrefixed | ReadFormat::Raw => (None, None, None),
                ReadFormat::Timestamped => (Some("s.x".to_owned()), None, Some(time)),
                ReadFormat::JsonLines => (Some("s.x".to_owned()), Some(7), Some(time)),
            };
            assert!(found.iter().all(|record| knows(record) == expected), "{read_format:?}");
            let has_headers = read_format == ReadFormat::JsonLines;
            assert_eq!(found[0].headers.len(), if has_headers { 3 } else { 0 });
        }
    }

    #[test]
    fn bytes_that_are_no_text_come_back() {
        let bytes = written(&Format::json_lines(), &[Record::new(b"\xff\n\x00")]);
        let found = read(&bytes, ReadFormat::JsonLines).remove(0).expect("whole");
        assert_eq!(found.payload, b"\xff\n\x00");
    }

    #[test]
    fn a_cut_is_seen_at_every_byte() {
        for (format, read_format) in FORMATS {
            let time = SystemTime::UNIX_EPOCH;
            let one = Record::new(b"one").subject("s").time(time);
            let first = written(&format(), &[one]).len();
            let bytes = written(&format(), &[one, one]);
            for len in 0..bytes.len() {
                let found = read(&bytes[..len], read_format);
                let whole = found.iter().filter(|record| record.is_ok()).count();
                assert_eq!(whole, len / first, "{read_format:?} {len}");
                let torn = matches!(found.last(), Some(Err(ReadError::Torn { .. })));
                assert_eq!(torn, len % first != 0, "{read_format:?} {len}");
            }
        }
    }

    #[test]
    fn behind_a_damaged_line_there_are_others() {
        let found = read(b"{}\nnot json\n{\"data\":\"x\"}\n", ReadFormat::JsonLines);
        let damaged = |record: &Result<_, _>| matches!(record, Err(ReadError::Damaged { .. }));
        assert_eq!(found.iter().map(damaged).collect::<Vec<_>>(), [true, true, false]);
        let text = b"nothing\n[1970-01-01 00:00:00.000] a: x\n\ny\n[1970-01-01 00:00:00.001] b: z\n";
        let found = read(text, ReadFormat::Timestamped);
        assert_eq!(found.iter().map(damaged).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(found[1].as_ref().expect("whole").payload, b"x\n\ny");
    }
}
