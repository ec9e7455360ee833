//! A file that says what was recorded into the others.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stream_sinks::{Manifest, ReadFormat, RollingWriterBuilder};

/// What is known of a closed file: a line of a [`ManifestLog`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ManifestEntry {
    /// Its path from the directory, without the ending of a compression.
    pub file: String,
    /// `line`, `raw`, `timestamped`, `jsonl` or `length-prefixed`.
    pub format: String,
    /// Records in it.
    pub records: u64,
    /// Bytes of its records, before compression.
    pub bytes: u64,
    /// Their CRC-32C.
    pub crc32c: u32,
    /// The first sequence, where records have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// The last sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
}

/// A line.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// A writer has begun, with this format.
    Opened { format: String },
    /// A file has got its final name.
    Closed(ManifestEntry),
    /// Retention is about to remove it.
    Removed { file: String },
}

impl ManifestEntry {
    /// How the file is read.
    #[must_use]
    pub fn read_format(&self) -> Option<ReadFormat> {
        read_format(&self.format)
    }
}

/// Names of formats, as `natstream record --format` has them.
#[must_use]
pub fn read_format(name: &str) -> Option<ReadFormat> {
    Some(match name {
        "line" => ReadFormat::Lines,
        "raw" => ReadFormat::Raw,
        "timestamped" => ReadFormat::Timestamped,
        "jsonl" => ReadFormat::JsonLines,
        "length-prefixed" => ReadFormat::LengthPrefixed,
        _ => return None,
    })
}

/// A hidden file beside those of a writer, with a line for each that was closed or removed by retention.
/// [`verify`](crate::verify) compares.
///
/// ```
/// use natstream_recorder::ManifestLog;
/// use stream_sinks::RollingWriter;
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let manifests = ManifestLog::new(dir, "test", "line");
/// let writer = manifests.attach(RollingWriter::builder(dir, "test")).open()?;
/// manifests.opened()?;
/// writer.append_blocking("a line")?;
/// writer.close_blocking()?;
/// let verified = natstream_recorder::verify(dir, Default::default())?;
/// assert!(verified.is_whole() && verified.records == 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ManifestLog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    path: PathBuf,
    format: String,
    /// That of the recorder before: what it left is in its format.
    format_before: OnceLock<String>,
    /// Held while a line is written.
    writing: Mutex<()>,
}

impl ManifestLog {
    /// That of the writer of this name (`name-id` for one with a writer id) in `dir`; it is made with the first line.
    pub fn new(dir: impl Into<PathBuf>, name: impl AsRef<str>, format: impl Into<String>) -> Self {
        let dir = dir.into();
        // As a writer tells of its files.
        let dir = std::path::absolute(&dir).unwrap_or(dir);
        let inner = Inner {
            path: dir.join(format!(".{}.manifest", name.as_ref())),
            dir,
            format: format.into(),
            format_before: OnceLock::new(),
            writing: Mutex::new(()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Has the writer tell what it closes and removes. A line that cannot be written is logged, and the file is then one that
    /// no manifest tells of.
    pub fn attach(&self, builder: RollingWriterBuilder) -> RollingWriterBuilder {
        let (closed, removed) = (self.inner.clone(), self.inner.clone());
        builder
            .on_close(move |manifest| closed.note(&closed.line(manifest)))
            .on_remove(move |path| {
                let file = removed.name_of(path);
                removed.note(&Line::Removed { file });
            })
    }

    /// Notes that a writer has begun: files that are not noted yet are in its format.
    ///
    /// # Errors
    /// What the system says.
    pub fn opened(&self) -> io::Result<()> {
        self.inner.format_before();
        let format = self.inner.format.clone();
        self.inner.append(&Line::Opened { format })
    }

    /// What all manifests in `dir` say.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(dir: impl AsRef<Path>) -> io::Result<Manifests> {
        let mut manifests = Manifests::default();
        for file in fs::read_dir(dir)? {
            let file = file?;
            let name = file.file_name();
            let name = name.to_string_lossy();
            if let Some(name) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".manifest")) {
                manifests.add(name, &fs::read(file.path())?);
            }
        }
        Ok(manifests)
    }
}

impl Inner {
    fn line(&self, manifest: &Manifest) -> Line {
        let format = match manifest.recovered {
            true => self.format_before(),
            false => &self.format,
        };
        Line::Closed(ManifestEntry {
            file: self.name_of(&manifest.path),
            format: format.to_owned(),
            records: manifest.records,
            bytes: manifest.bytes,
            crc32c: manifest.crc32c,
            first: manifest.sequences.map(|(first, _)| first),
            last: manifest.sequences.map(|(_, last)| last),
        })
    }

    fn name_of(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.dir).unwrap_or(path);
        without_compression(path).to_string_lossy().into_owned()
    }

    /// What the last recorder said when it began. Asked before this one says so.
    fn format_before(&self) -> &str {
        self.format_before.get_or_init(|| {
            let bytes = fs::read(&self.path).unwrap_or_default();
            let formats = lines(&bytes).filter_map(|line| match line {
                Line::Opened { format } => Some(format),
                _ => None,
            });
            formats.last().unwrap_or_else(|| self.format.clone())
        })
    }

    fn note(&self, line: &Line) {
        if let Err(error) = self.append(line) {
            tracing::error!(%error, path = %self.path.display(), "what was recorded could not be noted; the files are complete");
        }
    }

    fn append(&self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        let _writing = self.writing.lock();
        let mut file = OpenOptions::new()
            .read(true)
            .create(true)
            .append(true)
            .open(&self.path)?;
        if !ends_with_newline(&mut file)? {
            // What was written last was cut off: it must not take this line with it.
            bytes.insert(0, b'\n');
        }
        file.write_all(&bytes)?;
        file.sync_data()
    }
}

fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Those that can be read: after a power loss the last one may be torn.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Line> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
}

/// What the manifests of a directory say.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Manifests {
    /// Files that were closed and not removed by retention; of several lines of one file the last counts.
    entries: HashMap<String, (Place, ManifestEntry)>,
    /// Files that retention has removed, or was about to.
    removed: u64,
    /// Of each writer, what it wrote last.
    formats: BTreeMap<String, String>,
}

/// The writer, and how many lines it had written before.
type Place = (String, usize);

impl Manifests {
    fn add(&mut self, writer: &str, bytes: &[u8]) {
        for (number, line) in lines(bytes).enumerate() {
            match line {
                Line::Opened { format } => {
                    self.formats.insert(writer.to_owned(), format);
                }
                Line::Closed(entry) => {
                    let place = (writer.to_owned(), number);
                    self.entries.insert(entry.file.clone(), (place, entry));
                }
                Line::Removed { file } => {
                    self.removed += u64::from(self.entries.remove(&file).is_some());
                }
            }
        }
    }

    /// What is known of a file, by its path from the directory, compressed or not.
    #[must_use]
    pub fn entry(&self, file: impl AsRef<Path>) -> Option<&ManifestEntry> {
        self.known(file.as_ref()).map(|(_, entry)| entry)
    }

    fn known(&self, file: &Path) -> Option<&(Place, ManifestEntry)> {
        self.entries.get(&*without_compression(file).to_string_lossy())
    }

    /// All files that were closed and not removed by retention.
    pub fn entries(&self) -> impl Iterator<Item = &ManifestEntry> {
        self.entries.values().map(|(_, entry)| entry)
    }

    /// Files that retention has removed, or was about to.
    #[must_use]
    pub fn removed(&self) -> u64 {
        self.removed
    }

    /// Who wrote it, and when in order: that of writers is that of their names.
    pub(crate) fn order(&self, file: &Path) -> Place {
        match self.known(file) {
            Some((place, _)) => place.clone(),
            // What is not noted yet is new.
            None => (self.writer_of(file).unwrap_or_default().to_owned(), usize::MAX),
        }
    }

    /// How a file is read that may not be noted yet; `None` where nobody says.
    #[must_use]
    pub fn format_of(&self, file: impl AsRef<Path>) -> Option<ReadFormat> {
        let file = file.as_ref();
        match self.entry(file) {
            Some(entry) => entry.read_format(),
            None => read_format(self.formats.get(self.writer_of(file)?)?),
        }
    }

    /// The writer whose name the file has, or the only one.
    fn writer_of(&self, file: &Path) -> Option<&str> {
        let path = file.to_string_lossy();
        let names = self.formats.keys().filter(|name| path.contains(&***name));
        let named = names.max_by_key(|name| name.len());
        let only = || self.formats.keys().next().filter(|_| self.formats.len() == 1);
        named.or_else(only).map(String::as_str)
    }
}

/// The path that a file had before it was compressed.
pub(crate) fn without_compression(path: &Path) -> PathBuf {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz" | "zst") => path.with_extension(""),
        _ => path.to_owned(),
    }
}
