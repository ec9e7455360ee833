//! A file that says what was recorded into the others.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stream_sinks::{Manifest, ReadFormat};

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

/// A hidden file beside those of a writer, to which a line is appended for each that is closed. [`verify`](crate::verify)
/// compares.
#[derive(Debug)]
pub struct ManifestLog {
    dir: PathBuf,
    name: String,
    format: String,
}

impl ManifestLog {
    /// That of the writer of this name in `dir`; it is made with the first line. `format` is written into each line.
    pub fn new(dir: impl Into<PathBuf>, name: impl Into<String>, format: impl Into<String>) -> Self {
        let dir = dir.into();
        Self {
            // As a writer tells of its files.
            dir: std::path::absolute(&dir).unwrap_or(dir),
            name: name.into(),
            format: format.into(),
        }
    }

    /// For [`RollingWriterBuilder::on_close`](stream_sinks::RollingWriterBuilder::on_close).
    pub fn hook(self) -> impl Fn(&Manifest) + Send + Sync + 'static {
        move |manifest| {
            if let Err(error) = self.append(manifest) {
                let file = manifest.path.display();
                tracing::error!(%error, %file, "what was recorded into a file could not be noted; the file is complete");
            }
        }
    }

    fn append(&self, manifest: &Manifest) -> io::Result<()> {
        let path = manifest.path.strip_prefix(&self.dir).unwrap_or(&manifest.path);
        let entry = ManifestEntry {
            file: without_compression(path).to_string_lossy().into_owned(),
            format: self.format.clone(),
            records: manifest.records,
            bytes: manifest.bytes,
            crc32c: manifest.crc32c,
            first: manifest.sequences.map(|(first, _)| first),
            last: manifest.sequences.map(|(_, last)| last),
        };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let path = self.dir.join(format!(".{}.manifest", self.name));
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(&line)?;
        file.sync_data()
    }

    /// All entries of all writers in `dir`, in the order in which their files were closed. A line that cannot be read (the last
    /// one after a power loss) is left out; of several of one file the last counts.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(dir: impl AsRef<Path>) -> io::Result<Vec<ManifestEntry>> {
        let mut entries: Vec<ManifestEntry> = Vec::new();
        for file in fs::read_dir(dir)? {
            let file = file?;
            let name = file.file_name();
            let name = name.to_string_lossy();
            if !(name.starts_with('.') && name.ends_with(".manifest")) {
                continue;
            }
            let text = String::from_utf8_lossy(&fs::read(file.path())?).into_owned();
            entries.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
        }
        let mut seen = std::collections::HashSet::new();
        entries.reverse();
        entries.retain(|entry| seen.insert(entry.file.clone()));
        entries.reverse();
        Ok(entries)
    }
}

/// The path that a file had before it was compressed.
pub(crate) fn without_compression(path: &Path) -> PathBuf {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz" | "zst") => path.with_extension(""),
        _ => path.to_owned(),
    }
}
