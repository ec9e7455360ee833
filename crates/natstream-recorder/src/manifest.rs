//! A file that says what was recorded into the others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stream_sinks::{Manifest, ReadFormat, RollingWriterBuilder};

use crate::manifests::Manifests;
use crate::source::StreamSource;

/// How often, and with which pause, a line is tried that must be written.
#[cfg(feature = "jetstream")]
const TRIES: u32 = 50;
#[cfg(feature = "jetstream")]
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

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
    /// The beginning of its period, where there are several, in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
}

/// A line.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Line {
    /// A writer has begun, with this format.
    Opened { format: String },
    /// A file has got its final name.
    Closed(ManifestEntry),
    /// What is recorded from now on.
    Source(StreamSource),
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

    /// As [`attach`](Self::attach), but a line that cannot be written is tried again for a while; then the hook fails, and the
    /// file's journal stays until the next start, so that what is in the file is known in any case.
    #[cfg(feature = "jetstream")]
    pub(crate) fn attach_firmly(&self, builder: RollingWriterBuilder) -> RollingWriterBuilder {
        let closed = self.inner.clone();
        self.attach(builder)
            .on_close(move |manifest| closed.note_firmly(&closed.line(manifest)))
    }

    /// Notes what is recorded from now on.
    ///
    /// # Errors
    /// What the system says.
    #[cfg(feature = "jetstream")]
    pub(crate) fn records(&self, source: &StreamSource) -> io::Result<()> {
        self.inner.append(&Line::Source(source.clone()))
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
            since: manifest.since.and_then(nanos),
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

    #[cfg(feature = "jetstream")]
    fn note_firmly(&self, line: &Line) {
        let mut tries = 0;
        while let Err(error) = self.append(line) {
            tries += 1;
            if tries == TRIES {
                tracing::error!(%error, path = %self.path.display(), "what was recorded could not be noted; the next start does it");
                std::panic::resume_unwind(Box::new(error));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn append(&self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        let _writing = self.writing.lock();
        let is_new = !self.path.try_exists()?;
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
        file.sync_data()?;
        if is_new {
            // Its name is to survive a power loss, too.
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
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

/// Within 292 years of 1970.
fn nanos(time: SystemTime) -> Option<i64> {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).ok(),
        Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(|nanos| -nanos),
    }
}

/// Those that can be read: after a power loss the last one may be torn.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = Line> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
}

/// The path that a file had before it was compressed.
pub(crate) fn without_compression(path: &Path) -> PathBuf {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz" | "zst") => path.with_extension(""),
        _ => path.to_owned(),
    }
}
