//! Records NATS subjects, answers and other streams into sinks: files that survive crashes and full disks.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use natstream_connect::{ConnectConfig, Connection};
//! use natstream_recorder::Recorder;
//! use stream_sinks::{Format, RollingWriter};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let connection = Connection::connect(ConnectConfig::new("nats://127.0.0.1:4222")).await?;
//! let files = RollingWriter::builder("logs", "access").format(Format::timestamped()).open()?;
//!
//! let recording = Recorder::new(files).subscribe(&connection, "access.>", None).await?;
//! // … until the process is told to end:
//! let recorded = recording.stop(Duration::from_secs(10)).await?;
//! println!("{} records, {} dropped", recorded.stats.recorded, recorded.stats.dropped);
//! # Ok(())
//! # }
//! ```
//!
//! - [`Recorder::record`] takes any stream, an answer's items for instance, no faster than the sink does.
//! - [`Recorder::subscribe`] takes the messages on a subject. NATS waits for nobody, so what a slow disk leaves no room for is
//!   dropped, counted and said aloud ([`RecordingStats`]).
//! - [`verify`] reads recorded files, and compares them with what a [`ManifestLog`] noted when they were closed.
//!
//! # What survives what
//! A record that the sink accepted is kept while its process lives, through full disks and removed directories; what survives
//! the process, and a power loss, is said by the [`Receipt`](stream_sinks::Receipt). Messages that come while the connection
//! is down, or while no recorder runs, are lost: that is NATS without JetStream.
//!
//! # Features
//! None is on by default.
//! - `jetstream`: `StreamRecorder`, which records the messages of a JetStream consumer, each once, whatever is killed.
//! - `gzip`, `zstd`: compression of closed files, and [`verify`] for them.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod buffer;
mod clock;
mod entry;
mod files;
#[cfg(feature = "jetstream")]
mod jetstream;
mod manifest;
mod manifests;
mod pump;
mod recorder;
mod recording;
mod runs;
mod source;
mod stats;
mod verify;

#[cfg(feature = "jetstream")]
#[cfg_attr(docsrs, doc(cfg(feature = "jetstream")))]
pub use self::jetstream::{
    StreamCompared, StreamEndReason, StreamRecordError, StreamRecordErrorKind, StreamRecorder, StreamRecording,
    StreamRecordingEnd, StreamRecordingStats, StreamVerified, StreamVerifier,
};
pub use self::{
    entry::Entry,
    files::RecordedFiles,
    manifest::{ManifestEntry, ManifestLog, read_format},
    manifests::Manifests,
    recorder::{RecordError, Recorded, Recorder},
    recording::{Recording, RecordingEnd, RecordingError},
    source::StreamSource,
    stats::RecordingStats,
    verify::{Finding, FindingKind, Verified, verify},
};
