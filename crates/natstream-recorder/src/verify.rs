//! Are the files what was recorded?

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use stream_sinks::{ReadError, ReadFormat, RecordReader, StoredRecord};

use crate::files::RecordedFiles;
use crate::manifest::{ManifestEntry, ManifestLog, without_compression};
use crate::manifests::Manifests;
use crate::runs::Runs;

/// Findings of one kind that are told of one file.
const MOST_FINDINGS: u64 = 20;

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
    /// Files that retention has removed.
    pub removed: u64,
    /// Files in progress, which are not read.
    pub in_progress: Vec<PathBuf>,
    /// What is wrong; of one file at most some dozens.
    pub findings: Vec<Finding>,
    /// What else is wrong with those files.
    pub more_findings: u64,
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
    /// Sequences do not grow: records are repeated, or out of order. Of files whose format has no place for sequences, those
    /// that were noted are compared.
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
    /// It was closed, retention did not remove it, and it is not there.
    Missing,
    /// A writer that died left it incomplete, and recovery kept what it had to cut off.
    CutOff,
}

/// Reads all closed files below `dir`, and compares with what their writers noted.
///
/// Writers may go on meanwhile. `format` is for files of which no manifest tells how they are read.
///
/// It blocks, and reads with the speed of the disk and of decompression.
///
/// # Errors
/// The directory cannot be read.
pub fn verify(dir: impl AsRef<Path>, format: ReadFormat) -> io::Result<Verified> {
    Ok(read_all(dir.as_ref(), format, &mut |_, _| {})?.verified)
}

/// All that is known after reading.
#[derive(Debug)]
pub(crate) struct ReadAll {
    pub(crate) verified: Verified,
    /// Of each file that was read, in the order of their records.
    #[cfg_attr(
        not(feature = "jetstream"),
        expect(dead_code, reason = "streams are compared with it")
    )]
    pub(crate) covered: Vec<Coverage>,
    #[cfg_attr(
        not(feature = "jetstream"),
        expect(dead_code, reason = "streams are compared with it")
    )]
    pub(crate) manifests: Manifests,
}

/// Which sequences a file has.
#[derive(Debug)]
pub(crate) struct Coverage {
    pub(crate) file: PathBuf,
    pub(crate) writer: String,
    /// Those of its records, where the format has a place for them.
    pub(crate) sequences: Runs,
    /// As its writer has noted.
    pub(crate) entry: Option<ManifestEntry>,
}

/// Reads all, and lets `look` see each record, with its file.
pub(crate) fn read_all(
    dir: &Path,
    format: ReadFormat,
    look: &mut dyn FnMut(&Path, &StoredRecord),
) -> io::Result<ReadAll> {
    let files = RecordedFiles::list(dir)?;
    // After the files: all that were noted when they were listed are in it.
    let manifests = ManifestLog::read(dir)?;
    let mut check = Check {
        dir,
        format,
        manifests,
        seen: HashSet::new(),
        look,
        covered: Vec::new(),
        verified: Verified {
            in_progress: files.in_progress,
            ..Verified::default()
        },
    };
    for path in &files.closed {
        check.file(path);
    }
    for path in files.damaged {
        check.verified.find(&path, FindingKind::CutOff);
    }
    check.missing()?;
    check.overlaps();
    Ok(ReadAll {
        verified: check.verified,
        covered: check.covered,
        manifests: check.manifests,
    })
}

struct Check<'a> {
    dir: &'a Path,
    format: ReadFormat,
    manifests: Manifests,
    /// Names of files that were read.
    seen: HashSet<PathBuf>,
    look: &'a mut dyn FnMut(&Path, &StoredRecord),
    covered: Vec<Coverage>,
    verified: Verified,
}

impl Check<'_> {
    /// Reads one, unless it has been compressed or removed meanwhile: then it is looked for later.
    fn file(&mut self, path: &Path) {
        let name = path.strip_prefix(self.dir).unwrap_or(path).to_owned();
        let format = self.manifests.format_of(&name).unwrap_or(self.format);
        let reader = match RecordReader::open(path, format) {
            Ok(reader) => reader,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                self.seen.insert(without_compression(&name));
                return self.verified.find(path, FindingKind::Unreadable(error));
            }
        };
        self.seen.insert(without_compression(&name));
        let entry = self.manifests.entry(&name).cloned();
        let (writer, _) = self.manifests.order(&name);
        self.verified.unlisted += u64::from(entry.is_none());
        let sequences = self.verified.read(path, reader, entry.as_ref(), self.look);
        self.covered.push(Coverage {
            file: path.to_owned(),
            writer,
            sequences,
            entry,
        });
    }

    /// Compares the files of each writer with each other, in the order of their sequences: names do not tell it where a zone's
    /// clock goes back.
    fn overlaps(&mut self) {
        let ranges = self.covered.iter().filter_map(|file| {
            let noted = || file.entry.as_ref().and_then(|entry| entry.first.zip(entry.last));
            let (first, last) = file.sequences.range().or_else(noted)?;
            Some((file.writer.as_str(), first, last, &file.file))
        });
        let mut ranges: Vec<_> = ranges.collect();
        ranges.sort();
        let mut overlaps = Vec::new();
        for pair in ranges.windows(2) {
            let [(writer, _, last, _), (other, next, _, file)] = *pair else {
                continue;
            };
            if writer != other {
                continue;
            }
            self.verified.gaps += u64::from(next > last.saturating_add(1));
            if next <= last {
                overlaps.push((file.clone(), FindingKind::Overlap { last, next }));
            }
        }
        for (file, kind) in overlaps {
            self.verified.find(&file, kind);
        }
    }

    /// Looks for those that were noted and not read.
    fn missing(&mut self) -> io::Result<()> {
        // Those that were compressed, or closed, while the others were read.
        self.manifests = ManifestLog::read(self.dir)?;
        let mut names: Vec<PathBuf> = self.unread();
        names.sort_by_cached_key(|name| self.manifests.order(name));
        for name in &names {
            for ending in ["", ".gz", ".zst"] {
                let mut path = self.dir.join(name).into_os_string();
                path.push(ending);
                self.file(Path::new(&path));
                if self.seen.contains(name) {
                    break;
                }
            }
        }
        // A removal is noted before it happens: who is not there now, and was not removed, is missing.
        self.manifests = ManifestLog::read(self.dir)?;
        let mut missing = self.unread();
        // Those that were closed since were not looked for.
        missing.retain(|name| names.contains(name));
        missing.sort();
        for name in missing {
            self.verified.find(&self.dir.join(name), FindingKind::Missing);
        }
        self.verified.removed = self.manifests.removed();
        Ok(())
    }

    fn unread(&self) -> Vec<PathBuf> {
        let names = self.manifests.entries().map(|entry| PathBuf::from(&entry.file));
        names.filter(|name| !self.seen.contains(name)).collect()
    }
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

    /// Gives the sequences of its records.
    fn read(
        &mut self,
        path: &Path,
        mut reader: RecordReader,
        entry: Option<&ManifestEntry>,
        look: &mut dyn FnMut(&Path, &StoredRecord),
    ) -> Runs {
        let (mut records, mut last) = (0, 0);
        let mut sequences = Runs::default();
        let (mut damages, mut overlaps) = (Vec::new(), Vec::new());
        let mut more = 0;
        for record in reader.by_ref() {
            let (findings, kind) = match record {
                Ok(record) => {
                    records += 1;
                    look(path, &record);
                    let Some(next) = record.sequence else { continue };
                    sequences.push(next);
                    let before = std::mem::replace(&mut last, next);
                    let (low, high) = self.sequences.unwrap_or((next, next));
                    self.sequences = Some((low.min(next), high.max(next)));
                    // 0: the first one of the file.
                    self.gaps += u64::from(before != 0 && next > before + 1);
                    if before == 0 || next > before {
                        continue;
                    }
                    (&mut overlaps, FindingKind::Overlap { last: before, next })
                }
                Err(error) => (&mut damages, FindingKind::Record(error)),
            };
            match findings.len() as u64 {
                MOST_FINDINGS.. => more += 1,
                _ => findings.push(kind),
            }
        }
        let (bytes, crc32c) = (reader.offset(), reader.crc32c());
        self.files += 1;
        self.records += records;
        self.bytes += bytes;
        match entry {
            // Each byte is as it was written, whatever the payloads look like.
            Some(expected) if (expected.bytes, expected.crc32c) == (bytes, crc32c) => {
                damages.clear();
                more = 0;
            }
            Some(expected) if damages.is_empty() => {
                let found = (records, bytes, crc32c);
                let expected = expected.clone();
                damages.push(FindingKind::Changed { expected, found });
            }
            _ => {}
        }
        self.more_findings += more;
        for kind in damages.into_iter().chain(overlaps) {
            self.find(path, kind);
        }
        sequences
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        match &self.kind {
            FindingKind::Record(ReadError::Io { offset, error, .. }) => {
                write!(f, "cannot be read behind offset {offset}: {error}")
            }
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
            FindingKind::Missing => write!(f, "was closed, and is gone, though not by retention"),
            FindingKind::CutOff => write!(
                f,
                "was cut off behind the last whole record of a file that a writer left"
            ),
        }
    }
}
