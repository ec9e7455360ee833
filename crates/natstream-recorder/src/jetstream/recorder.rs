//! What is to be recorded, and where it goes on.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use eventbus::topology::{AckPolicy, ConsumerInfo, ConsumerSpec, Retention, StreamInfo, Topology, TopologyErrorKind};
use eventbus::{Consumer, InOrder};
use natstream_connect::{Connection, Lease};
use stream_sinks::{FileBy, RollingWriter, RollingWriterBuilder, Sync};

use super::error::StreamRecordError;
use super::recording::StreamRecording;
use crate::manifest::ManifestLog;
use crate::source::StreamSource;

/// Messages that may be recorded and not acked: many enough for a disk that syncs twenty times a second.
const SLOTS: usize = 20_000;

const COMMIT_INTERVAL: Duration = Duration::from_millis(250);

/// Records the messages of a JetStream consumer into files: each once, whatever is killed.
///
/// | setting | default |
/// |---|---|
/// | [`slots`](Self::slots) | 20,000 messages |
/// | [`commit_interval`](Self::commit_interval) | 250 ms |
/// | [`max_records`](Self::max_records) | none |
/// | [`idle_timeout`](Self::idle_timeout) | none |
///
/// The files hold every message of the consumer up to a position, once and in order. The position is in the journals beside
/// them: it is synced with the data, before the messages are acked. After a kill or a power loss the files are cut to the last
/// commit, and the consumer goes back to it. See [`record`](Self::record).
///
/// ```no_run
/// use eventbus::topology::ConsumerSpec;
/// use natstream_connect::{ConnectConfig, Connection};
/// use natstream_recorder::StreamRecorder;
/// use stream_sinks::{Format, RollingWriter, Sync};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let connection = Connection::connect(ConnectConfig::new("nats://127.0.0.1:4222")).await?;
/// let files = RollingWriter::builder("orders", "orders")
///     .format(Format::json_lines())
///     .sync(Sync::Commit);
/// let consumer = ConsumerSpec::new("ORDERS", "recorder");
///
/// let recording = StreamRecorder::new(files, "jsonl").record(connection, consumer).await?;
/// // … until the process is told to end:
/// let end = recording.stop().await?;
/// println!("{} records, up to message {}", end.stats.recorded, end.stats.position);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it records nothing by itself"]
pub struct StreamRecorder {
    files: RollingWriterBuilder,
    format: String,
    pub(super) settings: Settings,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    slots: usize,
    pub(super) commit_interval: Duration,
    pub(super) max_records: Option<u64>,
    pub(super) idle_timeout: Option<Duration>,
    /// Whether an ack may come before a sync.
    pub(super) syncs: bool,
}

/// All that a recording begins with.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) consumer: Consumer,
    pub(super) in_order: InOrder,
    pub(super) writer: RollingWriter,
    pub(super) source: StreamSource,
    pub(super) position: u64,
    /// Whether what does not come was removed before its time.
    pub(super) counts_gaps: bool,
}

impl StreamRecorder {
    /// Records into these files. `format` is the name of the format, as [`ManifestLog`] has it.
    ///
    /// The recorder sets [`file_by`](RollingWriterBuilder::file_by), [`late_records`](RollingWriterBuilder::late_records),
    /// [`not_before`](RollingWriterBuilder::not_before) and both hooks itself. [`Sync`] decides what an ack means: with
    /// [`Commit`](Sync::Commit) and [`Interval`](Sync::Interval) that a message survives a power loss, with
    /// [`None`](Sync::None) that it survives the death of the process only. With `Interval`, at most [`slots`](Self::slots)
    /// messages are recorded in one interval.
    pub fn new(files: RollingWriterBuilder, format: impl Into<String>) -> Self {
        Self {
            settings: Settings {
                slots: SLOTS,
                commit_interval: COMMIT_INTERVAL,
                max_records: None,
                idle_timeout: None,
                syncs: files.sync_of() != Sync::None,
            },
            files,
            format: format.into(),
        }
    }

    /// How many messages may be recorded and not acked. A consumer that the recorder makes has it as its own limit; one that
    /// is there may have a lower one, which holds then. Half of them make a commit.
    pub fn slots(mut self, messages: usize) -> Self {
        self.settings.slots = messages.max(1);
        self
    }

    /// How long a message may wait for its commit when few others come.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.settings.commit_interval = interval;
        self
    }

    /// Ends by itself after so many messages.
    pub fn max_records(mut self, count: u64) -> Self {
        self.settings.max_records = Some(count);
        self
    }

    /// Ends by itself when no message came for so long, while the connection was there.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.settings.idle_timeout = Some(limit);
        self
    }

    /// Makes the consumer if it is not there, opens the files, and goes on behind the last message in them.
    ///
    /// Messages go to files by the time at which the stream took them, which never goes back here: a message that is stamped
    /// earlier than the one before it goes to the file of that one. So the same stream gives the same files again, as long as
    /// no restart comes between: a restart begins another file.
    ///
    /// A consumer that is made acks all messages up to one at a time, unless the retention of the stream is by work queue. The
    /// first recording begins where the consumer's acks stand.
    ///
    /// # Errors
    /// [`StreamRecordErrorKind`](super::StreamRecordErrorKind). Files that another process has open are
    /// [`InUse`](stream_sinks::SinkErrorKind::InUse).
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    ///
    /// # Cancel safety
    /// Dropped early, the consumer may have been made, and files that were left in progress may have been closed.
    pub async fn record(
        self,
        connection: impl Into<Lease>,
        spec: ConsumerSpec,
    ) -> Result<StreamRecording, StreamRecordError> {
        let lease: Lease = connection.into();
        let connection = lease.connection().clone();
        let topology = Topology::new(connection.clone());
        let stream = topology.info(spec.stream()).await?;
        let policy = match stream.retention {
            Retention::WorkQueue => AckPolicy::Explicit,
            _ => AckPolicy::All,
        };
        self.check_before(&stream, &spec)?;
        let spec = as_it_is(&topology, spec).await?;
        let slots = self.settings.slots;
        let spec = spec.ack_policy(policy).max_ack_pending(slots as u64);
        let consumer = Consumer::builder(lease, spec).prefetch(slots).open().await?;
        let info = consumer.info().await?;
        let source = source_of(&stream, &info);
        let Self {
            files,
            format,
            settings,
        } = self;
        let asked = source.clone();
        let opening = tokio::task::spawn_blocking(move || open(files, format, asked)).await;
        let (writer, source, position) = opening.map_err(|_| StreamRecordError::task_ended())??;
        if position > stream.last_sequence {
            // It may have grown since.
            let last = topology.info(&source.stream).await?.last_sequence;
            if position > last {
                return Err(StreamRecordError::stream_behind(position, last));
            }
        }
        let in_order = consumer.in_order(Some(position)).await?;
        if in_order.stream_created() != stream.created {
            let created = in_order.stream_created().to_string();
            let asked = StreamSource {
                created,
                ..source.clone()
            };
            return Err(StreamRecordError::foreign(Some(source), asked));
        }
        let opened = Opened {
            connection,
            consumer,
            in_order,
            writer,
            // Elsewhere messages leave the stream in the usual course of things.
            counts_gaps: source.filters.is_empty() && stream.retention == Retention::Limits,
            position,
            source,
        };
        Ok(StreamRecording::begin(opened, settings))
    }
}

/// The spec with the subjects of the consumer that is there: one that is deleted is made again as it was.
async fn as_it_is(topology: &Topology, spec: ConsumerSpec) -> Result<ConsumerSpec, StreamRecordError> {
    let there = match topology.consumer(spec.stream(), spec.name()).await {
        Ok(consumer) => consumer.subjects(),
        Err(error) if error.kind() == TopologyErrorKind::NotFound => return Ok(spec),
        Err(error) => return Err(error.into()),
    };
    let mut asked = spec.subjects().to_vec();
    asked.sort();
    if !asked.is_empty() && asked != there {
        return Err(StreamRecordError::other_subjects(asked, there));
    }
    Ok(spec.filters(there))
}

impl StreamRecorder {
    /// What is wrong before anybody has made a consumer.
    fn check_before(&self, stream: &StreamInfo, spec: &ConsumerSpec) -> Result<(), StreamRecordError> {
        let notes = Notes::read(self.files.dir_of(), &self.files.name_of())?;
        let Some(there) = notes.source else { return Ok(()) };
        let asked = StreamSource {
            stream: stream.name.clone(),
            created: stream.created.to_string(),
            consumer: spec.name().to_owned(),
            // The consumer may have been made otherwise: it is asked later.
            ..there.clone()
        };
        if there.is_same(&asked) {
            return Ok(());
        }
        Err(StreamRecordError::foreign(Some(there), asked))
    }
}

fn source_of(stream: &StreamInfo, consumer: &ConsumerInfo) -> StreamSource {
    StreamSource {
        stream: stream.name.clone(),
        created: stream.created.to_string(),
        consumer: consumer.name.clone(),
        filters: consumer.subjects(),
        after: consumer.ack_floor,
    }
}

/// Opens the files; gives what they have, and up to where. It blocks.
fn open(
    files: RollingWriterBuilder,
    format: String,
    asked: StreamSource,
) -> Result<(RollingWriter, StreamSource, u64), StreamRecordError> {
    let name = files.name_of();
    let dir = std::path::absolute(files.dir_of()).map_err(StreamRecordError::manifest)?;
    let log = ManifestLog::new(&dir, &name, format);
    let before = Notes::read(&dir, &name)?;
    let files = log
        .attach_firmly(files)
        .file_by(FileBy::RecordTime)
        // A file ends when the stream says so: a recorder that is behind must not end it early.
        .late_records(Duration::MAX);
    let files = match before.since {
        Some(since) => files.not_before(since),
        None => files,
    };
    let writer = files.open()?;
    let recovery = writer.recovery();
    // Only now nobody else writes: somebody may have, since.
    let notes = Notes::read(&dir, &name)?;
    if notes.since > before.since.max(recovery.last_period) {
        return Err(StreamRecordError::manifest(ErrorKind::ResourceBusy.into()));
    }
    let has_files = notes.files > 0 || recovery.files.iter().any(|file| file.manifest.is_some());
    let source = match notes.source {
        Some(there) if there.is_same(&asked) => there,
        Some(there) => return Err(StreamRecordError::foreign(Some(there), asked)),
        None if has_files || recovery.last_sequence.is_some() => return Err(StreamRecordError::foreign(None, asked)),
        None => {
            log.records(&asked).map_err(StreamRecordError::manifest)?;
            asked
        }
    };
    log.opened().map_err(StreamRecordError::manifest)?;
    let position = source
        .after
        .max(notes.last.unwrap_or_default())
        .max(recovery.last_sequence.unwrap_or_default());
    Ok((writer, source, position))
}

/// What the manifest says of the writer.
#[derive(Default)]
struct Notes {
    source: Option<StreamSource>,
    files: u64,
    last: Option<u64>,
    since: Option<SystemTime>,
}

impl Notes {
    fn read(dir: &Path, name: &str) -> Result<Self, StreamRecordError> {
        let manifests = match ManifestLog::read(dir) {
            Ok(manifests) => manifests,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(StreamRecordError::manifest(error)),
        };
        let Some((_, notes)) = manifests.writers().find(|(writer, _)| *writer == name) else {
            return Ok(Self::default());
        };
        let since = notes.since.and_then(|nanos| {
            let distance = Duration::from_nanos(nanos.unsigned_abs());
            match nanos {
                0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
                _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
            }
        });
        Ok(Self {
            source: notes.source.clone(),
            files: notes.files,
            last: notes.last,
            since,
        })
    }
}
