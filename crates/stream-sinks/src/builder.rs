//! Settings of a [`RollingWriter`].

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use crate::{
    Clock, Compression, DiskStorage, FileBy, Format, Manifest, Recovery, Retention, RollingWriter, Rotation, SinkError,
    SinkErrorKind, Storage, SystemClock, Zone,
    calendar::Calendar,
    clock::timestamp,
    committer::{Committer, Place, Settings},
    driver,
    format::Encoder,
    janitor::{Care, CareCounts, Hook, Janitor, RemoveHook},
    planner::Planner,
    queue::{Limits, Queue},
    recovery::recover,
    shared::Shared,
    template::Template,
};

/// When written bytes are made to survive a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sync {
    /// With each write, many records at a time: whatever gathers while the disk is busy is one commit. A
    /// [receipt](crate::Receipt) of `flush` then covers a power loss.
    Commit,
    /// After this time, or when unsynced bytes fill half of the buffer: until they are synced, they are kept in memory too,
    /// to be written again if the sync fails. The default, with one second.
    Interval(Duration),
    /// Never, also not when a file is closed. The fastest. Nothing is promised for a power loss, and a failure of the disk
    /// that the system notices only later is not seen.
    None,
}

impl Default for Sync {
    fn default() -> Self {
        Self::Interval(Duration::from_secs(1))
    }
}

/// A [`RollingWriter`] to be opened.
///
/// | setting | default |
/// |---|---|
/// | [`rotation`](Self::rotation) | hourly |
/// | [`template`](Self::template) | `{date}/{name}_{date}{hour}.log`, as the rotation needs |
/// | [`zone`](Self::zone) | UTC |
/// | [`format`](Self::format) | lines |
/// | [`sync`](Self::sync) | every second |
/// | [`flush_interval`](Self::flush_interval) | 1 s |
/// | [`buffer`](Self::buffer) | 8 MiB |
/// | [`retention`](Self::retention) | all files are kept |
/// | [`compression`](Self::compression) | none |
/// | [`close_timeout`](Self::close_timeout) | 10 s |
#[must_use = "a writer does nothing before it is opened"]
pub struct RollingWriterBuilder {
    dir: PathBuf,
    name: String,
    writer_id: Option<String>,
    template: Option<String>,
    rotation: Rotation,
    file_by: FileBy,
    late: Duration,
    not_before: Option<SystemTime>,
    zone: Zone,
    format: Format,
    sync: Sync,
    flush_interval: Duration,
    buffer: usize,
    retention: Retention,
    compression: Option<Compression>,
    zstd: Option<i32>,
    current_link: Option<String>,
    file_mode: Option<u32>,
    dir_mode: Option<u32>,
    hook: Option<Hook>,
    remove_hook: Option<RemoveHook>,
    close_timeout: Duration,
    backoff: (Duration, Duration),
    storage: Option<Arc<dyn Storage>>,
    clock: Arc<dyn Clock>,
}

/// Below this, blocks are so small that producers and the writer's thread wait for each other all the time.
const LEAST_BUFFER: usize = 64 << 10;
/// A write of this size costs little more than its bytes (64 KiB: 44 M lines of 128 B a second), and a whole block still
/// fits into the cache of a core.
const BLOCK: usize = 256 << 10;

impl RollingWriterBuilder {
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        Self {
            dir: dir.to_owned(),
            name: name.to_owned(),
            writer_id: None,
            template: None,
            rotation: Rotation::default(),
            file_by: FileBy::default(),
            late: Duration::from_secs(60),
            not_before: None,
            zone: Zone::default(),
            format: Format::default(),
            sync: Sync::default(),
            flush_interval: Duration::from_secs(1),
            buffer: 8 << 20,
            retention: Retention::unlimited(),
            compression: None,
            zstd: None,
            current_link: None,
            file_mode: None,
            dir_mode: None,
            hook: None,
            remove_hook: None,
            close_timeout: Duration::from_secs(10),
            backoff: (Duration::from_millis(50), Duration::from_secs(5)),
            storage: None,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Sets this writer apart from others with the same name in the directory: its files and its lock have
    /// `<name>-<id>` in place of the name.
    pub fn writer_id(mut self, id: impl Into<String>) -> Self {
        self.writer_id = Some(id.into());
        self
    }

    /// When a file ends.
    pub fn rotation(mut self, rotation: Rotation) -> Self {
        self.rotation = rotation;
        self
    }

    /// Names of closed files, as a path from the directory.
    ///
    /// Fields: `{name}`, `{date}` (YYYYMMDD), `{year}`, `{month}`, `{day}`, `{hour}`, `{minute}`, `{offset}` (such as
    /// `+0200`), `{n}` (nothing, `.1`, `.2`, …), `{first}` and `{last}` (sequences, 20 digits).
    ///
    /// No file is ever replaced: where a name exists, `{n}` grows. Without it in the template, the number stands before the
    /// extension. An hour that comes twice has the offset in its two names, before the number, also without `{offset}`.
    pub fn template(mut self, template: impl Into<String>) -> Self {
        self.template = Some(template.into());
        self
    }

    /// The zone in which periods begin and names are written.
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zone = zone;
        self
    }

    /// Which time decides about a record's file.
    pub fn file_by(mut self, file_by: FileBy) -> Self {
        self.file_by = file_by;
        self
    }

    /// Under [`FileBy::RecordTime`], how long a file whose period is over, by the clock, waits after the last record for
    /// others; 1 minute. A replay of old records that pauses for longer makes more files.
    pub fn late_records(mut self, wait: Duration) -> Self {
        self.late = wait;
        self
    }

    /// Under [`FileBy::RecordTime`], records that are older than this go to the file that one of this time would go to, as they
    /// would have in the writer that wrote it. Of files that it [recovers](Recovery::last_period) a writer knows by itself; this
    /// is for those that were closed, whose [`Manifest::since`] says it.
    pub fn not_before(mut self, time: SystemTime) -> Self {
        self.not_before = Some(time);
        self
    }

    /// What a record looks like.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// When bytes are synced.
    pub fn sync(mut self, sync: Sync) -> Self {
        self.sync = sync;
        self
    }

    /// How long a record stays in memory when few others come.
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush_interval = interval;
        self
    }

    /// Bytes of memory for records on their way, and so the largest record; at least 64 KiB. Allocated as needed, in blocks
    /// of a 32nd to 256 KiB, and kept.
    ///
    /// A writer's memory is at most this, and one block; with a format that is not `lines` or `raw` the largest record for
    /// each handle; with zstd what that needs at its level (about 1 MiB at 3).
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }

    /// Which closed files are removed.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Compresses closed files in the background.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Compresses as it writes, a zstd frame for each commit: the file is readable up to the last commit whenever the process
    /// dies. Names end in `.zst`. Longer flush intervals compress better.
    #[cfg(feature = "zstd")]
    pub fn zstd(mut self, level: i32) -> Self {
        self.zstd = Some(level);
        self
    }

    /// Keeps a symbolic link in the directory that points to the file in progress, or else to the last one. Off by default.
    pub fn current_link(mut self, name: impl Into<String>) -> Self {
        self.current_link = Some(name.into());
        self
    }

    /// Exact permissions of files, such as `0o640`. Not together with [`storage`](Self::storage).
    pub fn file_mode(mut self, mode: u32) -> Self {
        self.file_mode = Some(mode);
        self
    }

    /// Permissions of directories that are created, less the umask. Not together with [`storage`](Self::storage).
    pub fn dir_mode(mut self, mode: u32) -> Self {
        self.dir_mode = Some(mode);
        self
    }

    /// Called with each file that was closed (and compressed, if it is), at least once: again at the next start when the process
    /// died meanwhile, or when it has panicked. It runs in a thread of its own, and holds up only compression, retention, and closing the writer. With
    /// [`Sync::None`] a power loss may lose a call.
    pub fn on_close(mut self, hook: impl Fn(&Manifest) + Send + std::marker::Sync + 'static) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// Called with each file that [retention](Self::retention) is about to remove, in the thread of the other hook. A process
    /// that dies before it is removed calls it again.
    pub fn on_remove(mut self, hook: impl Fn(&Path) + Send + std::marker::Sync + 'static) -> Self {
        self.remove_hook = Some(Arc::new(hook));
        self
    }

    /// How long closing goes on trying while the storage fails. A call of the system that does not return is waited for.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// The first and the longest pause between attempts while the storage fails; 50 ms and 5 s, at least 1 ms. It doubles
    /// in between.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        let first = first.max(Duration::from_millis(1));
        self.backoff = (first, longest.max(first));
        self
    }

    /// Another file system, such as a [`CrashImage`](crate::CrashImage).
    pub fn storage(mut self, storage: Arc<dyn Storage>) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Another clock, such as a [`ManualClock`](crate::ManualClock).
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Creates the directory, takes its lock, recovers what a process that died left in progress, and starts the thread.
    ///
    /// It blocks: recovery reads such files once, about a second for each GB, and writes their last bytes again, as many as the
    /// [buffer](Self::buffer) has: a sync of the process that died may have failed.
    ///
    /// # Errors
    /// [`InvalidConfig`](SinkErrorKind::InvalidConfig), [`InUse`](SinkErrorKind::InUse), or
    /// [`Storage`](SinkErrorKind::Storage) when the directory cannot be created or locked. Files that cannot be recovered
    /// are no error: see [`RollingWriter::recovery`].
    pub fn open(self) -> Result<RollingWriter, SinkError> {
        let opened = self.prepare()?;
        let shared = Arc::new(Shared::new(opened.queue, opened.clock));
        let janitor = Janitor::new(opened.care);
        let counts = Arc::clone(&opened.counts);
        driver::spawn(Arc::clone(&shared), opened.committer, janitor, opened.left)
            .map_err(|error| SinkError::storage("cannot start a thread", &opened.dir, error))?;
        Ok(RollingWriter::new(
            shared,
            opened.encoder,
            opened.recovery,
            counts,
            opened.by_record_time,
        ))
    }

    /// All but the thread: tests drive the parts themselves.
    pub(crate) fn prepare(self) -> Result<Opened, SinkError> {
        let place = self.place()?;
        self.check()?;
        let calendar = Calendar::new(self.zone.resolve()?, self.rotation.unit());
        let dir = place.dir.clone();
        let durable = self.sync != Sync::None;
        place
            .make_own_dir(durable)
            .map_err(|error| SinkError::storage("cannot create the directory", &dir, error))?;
        let lock = place.lock()?;
        // What was not synced was kept in the buffer too, which most probably was as large.
        let unsynced = if durable { self.buffer as u64 } else { 0 };
        let (recovery, left) = recover(&place, self.format.boundary(), unsynced, timestamp(self.clock.now()));
        let counts = Arc::new(CareCounts::default());
        let care = Care {
            place: place.clone(),
            clock: Arc::clone(&self.clock),
            compression: self.compression,
            retention: self.retention,
            hook: self.hook.clone(),
            remove_hook: self.remove_hook.clone(),
            counts: Arc::clone(&counts),
        };
        let settings = Settings {
            place,
            boundary: self.format.boundary(),
            zstd: self.zstd,
            syncs: durable,
            current_link: self.current_link.clone(),
        };
        let limits = Limits {
            capacity: self.buffer,
            block: (self.buffer / 32).clamp(LEAST_BUFFER / 16, BLOCK),
            flush_interval: self.flush_interval,
            sync: self.sync,
            file_by: self.file_by,
            close_timeout: self.close_timeout,
            backoff: self.backoff,
        };
        let floor = self
            .not_before
            .max(recovery.last_period)
            .map_or(Timestamp::MIN, timestamp);
        let planner = Planner::new(calendar, self.rotation, self.file_by, self.late).not_before(floor);
        Ok(Opened {
            queue: Queue::new(planner, limits),
            committer: Committer::new(settings, lock),
            care,
            counts,
            recovery,
            left,
            clock: self.clock,
            encoder: self.format.encoder,
            by_record_time: self.file_by == FileBy::RecordTime,
            dir,
        })
    }

    /// Where its files are, and how they are named.
    pub(crate) fn place(&self) -> Result<Place, SinkError> {
        let name = self.name_of();
        let text = self.template.as_deref();
        let text = text.unwrap_or_else(|| Template::default_for(self.rotation.unit()));
        let storage = self.storage.clone().unwrap_or_else(|| {
            let mut disk = DiskStorage::new();
            if let Some(mode) = self.file_mode {
                disk = disk.file_mode(mode);
            }
            if let Some(mode) = self.dir_mode {
                disk = disk.dir_mode(mode);
            }
            Arc::new(disk)
        });
        let dir = std::path::absolute(&self.dir)
            .map_err(|error| SinkError::storage("cannot tell where it is", &self.dir, error))?;
        Ok(Place {
            storage,
            dir,
            template: Template::parse(text, &name)?,
            earlier: Template::defaults(&name)?,
            name,
        })
    }

    /// The directory that was given.
    #[must_use]
    pub fn dir_of(&self) -> &Path {
        &self.dir
    }

    /// What files, lock and journals are named by: the name, with the [id](Self::writer_id) if there is one.
    #[must_use]
    pub fn name_of(&self) -> String {
        match &self.writer_id {
            Some(id) => format!("{}-{id}", self.name),
            None => self.name.clone(),
        }
    }

    /// When bytes are synced, as it was set.
    #[must_use]
    pub fn sync_of(&self) -> Sync {
        self.sync
    }

    fn check(&self) -> Result<(), SinkError> {
        let invalid = |what: &str| Err(SinkError::new(SinkErrorKind::InvalidConfig, what));
        if self.buffer < LEAST_BUFFER {
            return invalid("the buffer is smaller than 64 KiB");
        }
        if self.buffer > 1 << 30 {
            return invalid("the buffer is larger than 1 GiB");
        }
        if self.zstd.is_some() && self.compression.is_some() {
            return invalid("files that are compressed as written cannot be compressed again");
        }
        let is_name = |name: &String| !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        if !self.current_link.as_ref().is_none_or(is_name) {
            return invalid("the link to the current file is no plain name");
        }
        Ok(())
    }
}

/// The parts of an open writer.
pub(crate) struct Opened {
    pub(crate) queue: Queue,
    pub(crate) committer: Committer,
    pub(crate) care: Care,
    pub(crate) counts: Arc<CareCounts>,
    pub(crate) recovery: Recovery,
    pub(crate) left: Vec<crate::committer::Closed>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) encoder: Encoder,
    pub(crate) by_record_time: bool,
    dir: PathBuf,
}

impl fmt::Debug for RollingWriterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RollingWriterBuilder")
            .field("dir", &self.dir)
            .field("name", &self.name)
            .field("rotation", &self.rotation)
            .field("sync", &self.sync)
            .finish_non_exhaustive()
    }
}
