//! What is known of the files of a directory.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use stream_sinks::ReadFormat;

use crate::manifest::{Line, ManifestEntry, lines, read_format, without_compression};
use crate::source::StreamSource;

/// What the manifests of a directory say.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Manifests {
    /// Files that were closed and not removed by retention; of several lines of one file the last counts.
    entries: HashMap<String, (Place, ManifestEntry)>,
    /// Files that retention has removed, or was about to.
    removed: u64,
    writers: BTreeMap<String, WriterNotes>,
}

/// What is known of a writer.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriterNotes {
    /// What it wrote last.
    pub(crate) format: Option<String>,
    pub(crate) source: Option<StreamSource>,
    /// Files that it has closed, those that were removed included.
    pub(crate) files: u64,
    /// The highest sequence in them.
    pub(crate) last: Option<u64>,
    /// The beginning of the last period of them.
    pub(crate) since: Option<i64>,
    /// The first and last sequences of files that retention has removed.
    pub(crate) removed: Vec<(u64, u64)>,
}

/// The writer, and how many lines it had written before.
type Place = (String, usize);

impl Manifests {
    pub(crate) fn add(&mut self, writer: &str, bytes: &[u8]) {
        let notes = self.writers.entry(writer.to_owned()).or_default();
        for (number, line) in lines(bytes).enumerate() {
            match line {
                Line::Opened { format } => notes.format = Some(format),
                Line::Source(source) => notes.source = Some(source),
                Line::Closed(entry) => {
                    notes.files += 1;
                    notes.last = notes.last.max(entry.last);
                    notes.since = notes.since.max(entry.since);
                    let place = (writer.to_owned(), number);
                    self.entries.insert(entry.file.clone(), (place, entry));
                }
                Line::Removed { file } => {
                    if let Some((_, entry)) = self.entries.remove(&file) {
                        self.removed += 1;
                        notes.removed.extend(entry.first.zip(entry.last));
                    }
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

    /// What the writer of this name (`name-id` for one with a writer id) records, if that is a stream.
    #[must_use]
    pub fn source(&self, writer: &str) -> Option<&StreamSource> {
        self.writers.get(writer)?.source.as_ref()
    }

    #[cfg_attr(
        not(feature = "jetstream"),
        expect(dead_code, reason = "streams are compared with it")
    )]
    pub(crate) fn writers(&self) -> impl Iterator<Item = (&str, &WriterNotes)> {
        self.writers.iter().map(|(name, notes)| (name.as_str(), notes))
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
            None => read_format(self.writers.get(self.writer_of(file)?)?.format.as_ref()?),
        }
    }

    /// The writer whose name the file has, or the only one.
    fn writer_of(&self, file: &Path) -> Option<&str> {
        let path = file.to_string_lossy();
        let names = self.writers.keys().filter(|name| path.contains(&***name));
        let named = names.max_by_key(|name| name.len());
        let only = || self.writers.keys().next().filter(|_| self.writers.len() == 1);
        named.or_else(only).map(String::as_str)
    }
}
