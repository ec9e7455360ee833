//! Are the files what the stream has?

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};

use eventbus::Scan;
use eventbus::topology::{Retention, StreamInfo, Topology};
use natstream_connect::Connection;
use stream_sinks::ReadFormat;

use super::compared::{StreamCompared, compare};
use super::error::StreamRecordError;
use crate::manifests::WriterNotes;
use crate::runs::Runs;
use crate::source::StreamSource;
use crate::verify::{Coverage, ReadAll, Verified, read_all};

/// Compares recorded files with their stream.
///
/// | setting | default |
/// |---|---|
/// | [`format`](Self::format) | lines; for files that no manifest tells of |
/// | [`payloads`](Self::payloads) | not compared |
///
/// What can be seen depends on the format. Where records have their sequence ([`json_lines`](stream_sinks::Format::json_lines)),
/// each is compared with the stream. Elsewhere the first and last sequence of a file and the number of its records are known,
/// together with the checksum of all its bytes: a file that has fewer records than the stream has messages in its range has a
/// hole in it, wherever.
///
/// Only what the stream still has can be compared.
#[derive(Clone, Debug)]
#[must_use = "it does nothing by itself"]
pub struct StreamVerifier {
    connection: Connection,
    stream: String,
    format: ReadFormat,
    payloads: bool,
}

/// What was found.
#[derive(Debug)]
#[non_exhaustive]
pub struct StreamVerified {
    /// What was found in the files alone.
    pub files: Verified,
    /// What was found of each recorder of the stream in the directory.
    pub recorders: Vec<StreamCompared>,
}

/// Of each file, the sequence of each record where it has one, and a hash of its payload.
type Payloads = HashMap<PathBuf, Vec<(Option<u64>, u64)>>;

impl StreamVerifier {
    /// Compares with this stream.
    pub fn new(connection: Connection, stream: impl Into<String>) -> Self {
        Self {
            connection,
            stream: stream.into(),
            format: ReadFormat::default(),
            payloads: false,
        }
    }

    /// How files are read that no manifest tells of.
    pub fn format(mut self, format: ReadFormat) -> Self {
        self.format = format;
        self
    }

    /// Compares payloads too, of `json_lines` and `length_prefixed` files: the stream is read as a whole.
    pub fn payloads(mut self) -> Self {
        self.payloads = true;
        self
    }

    /// Reads all closed files below `dir`, and what the stream has. Recorders may go on meanwhile.
    ///
    /// Memory: 16 bytes for each run of sequences without a hole; with [`payloads`](Self::payloads) about 32 bytes for each
    /// record.
    ///
    /// # Errors
    /// [`StreamRecordErrorKind`](super::StreamRecordErrorKind): [`Foreign`](super::StreamRecordErrorKind::Foreign) when the
    /// stream is not the one that was recorded, and those of the stream and the directory.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn verify(&self, dir: impl AsRef<Path>) -> Result<StreamVerified, StreamRecordError> {
        let (dir, format, wants_payloads) = (dir.as_ref().to_owned(), self.format, self.payloads);
        let reading = tokio::task::spawn_blocking(move || {
            let mut payloads = Payloads::new();
            let read = read_all(&dir, format, &mut |file, record| {
                if wants_payloads {
                    let hashes = match payloads.get_mut(file) {
                        Some(hashes) => hashes,
                        None => payloads.entry(file.to_owned()).or_default(),
                    };
                    hashes.push((record.sequence, hash(&record.payload)));
                }
            });
            read.map(|read| (read, payloads))
        });
        let read = reading.await.map_err(|_| StreamRecordError::task_ended())?;
        let (read, payloads) = read.map_err(StreamRecordError::manifest)?;
        let ReadAll {
            verified,
            covered,
            manifests,
        } = read;
        let mut recorders = Vec::new();
        for (writer, notes) in manifests.writers() {
            let Some(source) = notes.source.as_ref().filter(|source| source.stream == self.stream) else {
                continue;
            };
            let files: Vec<&Coverage> = covered.iter().filter(|file| file.writer == writer).collect();
            recorders.push(self.compare(source, notes, &files, &payloads).await?);
        }
        if recorders.is_empty() {
            return Err(StreamRecordError::not_recorded(&self.stream));
        }
        Ok(StreamVerified {
            files: verified,
            recorders,
        })
    }

    async fn compare(
        &self,
        source: &StreamSource,
        notes: &WriterNotes,
        files: &[&Coverage],
        payloads: &Payloads,
    ) -> Result<StreamCompared, StreamRecordError> {
        let topology = Topology::new(self.connection.clone());
        let stream = topology.info(&source.stream).await?;
        let created = stream.created.to_string();
        if created != source.created {
            let is = StreamSource {
                created,
                ..source.clone()
            };
            return Err(StreamRecordError::foreign(Some(source.clone()), is));
        }
        let (messages, hashes) = self.messages(source, &stream).await?;
        let mut compared = compare(source, notes, files, &messages);
        compared.stream = (stream.first_sequence, stream.last_sequence);
        for file in files {
            if let Some(records) = payloads.get(&file.file) {
                compared.payloads_of(file, records, &hashes);
            }
        }
        Ok(compared)
    }

    /// What the stream has behind what was acked before, and hashes of it if they are wanted.
    async fn messages(
        &self,
        source: &StreamSource,
        stream: &StreamInfo,
    ) -> Result<(Runs, Vec<(u64, u64)>), StreamRecordError> {
        let (mut messages, mut hashes) = (Runs::default(), Vec::new());
        // There messages leave when they are acked, and nobody but their consumer may read them.
        if stream.retention == Retention::WorkQueue {
            return Ok((messages, hashes));
        }
        let mut scan = Scan::new(self.connection.clone(), &source.stream)
            .filters(&source.filters)
            .from(source.after + 1);
        if !self.payloads {
            scan = scan.without_payloads();
        }
        while let Some(message) = scan.next().await? {
            messages.push(message.sequence());
            if self.payloads {
                hashes.push((message.sequence(), hash(message.payload())));
            }
        }
        Ok((messages, hashes))
    }
}

impl StreamVerified {
    /// Is everything as it should be?
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.files.is_whole() && self.recorders.iter().all(StreamCompared::is_whole)
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
