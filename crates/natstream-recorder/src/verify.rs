//! Are the files what was recorded?

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use stream_sinks::{ReadError, ReadFormat, RecordReader};

use crate::files::RecordedFiles;
use crate::manifest::{ManifestEntry, ManifestLog, without_compression};

/// What was found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Verified {
    /// Complete files that were read.
    pub files: u64,
    /// Records in them.
    pub records: u64,
    /// Their bytes, uncompressed.
    pub bytes: u64,
    /// The lowest and the highest sequence, where records have them.
    pub sequences: Option<(u64, u64)>,
    /// How often the next sequence was more than one higher. Usual where a stream's subjects were filtered.
    pub gaps: u64,
    /// Files that no [`ManifestLog`] tells of: only their records were looked at.
    pub unlisted: u64,
    /// Files that a manifest tells of and that are gone, all of them older than those that are there: retention.
    pub expired: u64,
    /// Files in progress, which are not read.
    pub in_progress: Vec<PathBuf>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Something that is wrong with a file.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub kind: FindingKind,
}

/// What is wrong with a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum FindingKind {
    /// A record is torn or damaged, or the file cannot be read.
    Record(ReadError),
    /// It cannot be opened.
    Unreadable(io::Error),
    /// Sequences do not grow: records are repeated, or out of order.
    #[non_exhaustive]
    Overlap {
        /// The sequence before.
        last: u64,
        /// That of the record.
        next: u64,
    },
    /// It is not what was recorded into it.
    #[non_exhaustive]
    Changed {
        /// What the manifest says.
        expected: ManifestEntry,
        /// Records that are in it, their bytes and their CRC-32C.
        found: (u64, u64, u32),
    },
    /// It was closed, and is not there, though older ones are.
    Missing,
    /// A writer that died left it incomplete, and recovery kept what it had to cut off.
    CutOff,
}

/// Reads all closed files below `dir`, and compares with what their writers noted.
///
/// `format` is for files that no manifest tells of.
///
/// It blocks, and reads with the speed of the disk and of decompression.
///
/// # Errors
/// The directory cannot be read.
pub fn verify(dir: impl AsRef<Path>, format: ReadFormat) -> io::Result<Verified> {
    let dir = dir.as_ref();
    // Before the files: one that is closed meanwhile is unlisted, and not missing.
    let entries = ManifestLog::read(dir)?;
    let files = RecordedFiles::list(dir)?;
    let listed: HashMap<&str, &ManifestEntry> = entries.iter().map(|entry| (&*entry.file, entry)).collect();
    let mut verified = Verified {
        in_progress: files.in_progress,
        ..Verified::default()
    };
    let mut last = None;
    for path in &files.closed {
        let name = name_in(dir, path);
        let entry = listed.get(&*name).copied();
        verified.unlisted += u64::from(entry.is_none());
        verified.file(path, entry, format, &mut last);
    }
    for path in files.damaged {
        verified.find(&path, FindingKind::CutOff);
    }
    let there: Vec<String> = files.closed.iter().map(|path| name_in(dir, path)).collect();
    let mut is_behind = false;
    for entry in &entries {
        if there.contains(&entry.file) {
            is_behind = true;
        } else if is_behind {
            verified.find(&dir.join(&entry.file), FindingKind::Missing);
        } else {
            verified.expired += 1;
        }
    }
    Ok(verified)
}

fn name_in(dir: &Path, path: &Path) -> String {
    let path = path.strip_prefix(dir).unwrap_or(path);
    without_compression(path).to_string_lossy().into_owned()
}

impl Verified {
    /// Is everything as it should be?
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, file: &Path, kind: FindingKind) {
        self.findings.push(Finding {
            file: file.to_owned(),
            kind,
        });
    }

    fn file(&mut self, path: &Path, entry: Option<&ManifestEntry>, format: ReadFormat, last: &mut Option<u64>) {
        self.files += 1;
        let format = entry.and_then(ManifestEntry::read_format).unwrap_or(format);
        let mut reader = match RecordReader::open(path, format) {
            Ok(reader) => reader,
            Err(error) => return self.find(path, FindingKind::Unreadable(error)),
        };
        let mut records = 0;
        let mut is_read = true;
        for record in reader.by_ref() {
            match record {
                Ok(record) => {
                    records += 1;
                    if let Some(sequence) = record.sequence {
                        self.sequence(path, sequence, last);
                    }
                }
                Err(error) => {
                    is_read = false;
                    self.find(path, FindingKind::Record(error));
                }
            }
        }
        let (bytes, crc32c) = (reader.offset(), reader.crc32c());
        self.records += records;
        self.bytes += bytes;
        if let Some(expected) = entry
            && is_read
        {
            // Payloads may have newlines of their own.
            let counts = !matches!(format, ReadFormat::Raw | ReadFormat::Lines | ReadFormat::Timestamped);
            let differs = (expected.bytes, expected.crc32c) != (bytes, crc32c) || counts && expected.records != records;
            if differs {
                let expected = expected.clone();
                let found = (records, bytes, crc32c);
                self.find(path, FindingKind::Changed { expected, found });
            }
        }
    }

    fn sequence(&mut self, path: &Path, next: u64, last: &mut Option<u64>) {
        let (low, high) = self.sequences.unwrap_or((next, next));
        self.sequences = Some((low.min(next), high.max(next)));
        match *last {
            Some(last) if next <= last => self.find(path, FindingKind::Overlap { last, next }),
            Some(last) if next > last + 1 => self.gaps += 1,
            _ => {}
        }
        *last = Some(next);
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        match &self.kind {
            FindingKind::Record(error) => write!(f, "{error}"),
            FindingKind::Unreadable(error) => write!(f, "cannot be opened: {error}"),
            FindingKind::Overlap { last, next } => write!(f, "record {next} follows record {last}"),
            FindingKind::Changed {
                expected,
                found: (records, bytes, crc32c),
            } => write!(
                f,
                "{} bytes with checksum {:08x} were recorded ({} records), and {bytes} with {crc32c:08x} are there ({records})",
                expected.bytes, expected.crc32c, expected.records
            ),
            FindingKind::Missing => write!(f, "was closed, and is gone though older files are there"),
            FindingKind::CutOff => write!(
                f,
                "was cut off behind the last whole record of a file that a writer left"
            ),
        }
    }
}
