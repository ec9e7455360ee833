//! What happens to closed files, in the background: compression, the close hook, retention.

use std::{
    collections::{HashSet, VecDeque},
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use parking_lot::{Condvar, Mutex};

use crate::{
    Manifest,
    clock::Clock,
    committer::{Closed, Place},
    compress::{self, Compression},
    recovery::{journaled, walk},
    retention::{self, Retention},
    template::PART,
};

pub(crate) type Hook = Arc<dyn Fn(&Manifest) + Send + Sync>;
pub(crate) type RemoveHook = Arc<dyn Fn(&Path) + Send + Sync>;

/// Handle of the thread that cares for closed files. The thread exists only while there is something to do.
#[derive(Clone)]
pub(crate) struct Janitor {
    inner: Arc<Inner>,
}

struct Inner {
    care: Care,
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    running: bool,
}

enum Job {
    /// Looks for what an earlier process did not finish.
    Start(Vec<Closed>),
    Closed(Closed),
}

type Pending<'a> = &'a dyn Fn() -> HashSet<PathBuf>;

/// What is done.
pub(crate) struct Care {
    pub(crate) place: Place,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) compression: Option<Compression>,
    pub(crate) retention: Retention,
    pub(crate) hook: Option<Hook>,
    pub(crate) remove_hook: Option<RemoveHook>,
    pub(crate) counts: Arc<CareCounts>,
}

#[derive(Debug, Default)]
pub(crate) struct CareCounts {
    pub(crate) compressed: AtomicU64,
    pub(crate) removed: AtomicU64,
    /// What failed, and is tried again with the next file or at the next start.
    pub(crate) failures: AtomicU64,
}

impl Janitor {
    pub(crate) fn new(care: Care) -> Self {
        Self {
            inner: Arc::new(Inner {
                care,
                state: Mutex::default(),
                idle: Condvar::new(),
            }),
        }
    }

    pub(crate) fn start(&self, left: Vec<Closed>) {
        self.add([Job::Start(left)]);
    }

    pub(crate) fn submit(&self, closed: Vec<Closed>) {
        self.add(closed.into_iter().map(Job::Closed));
    }

    fn add(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut state = self.inner.state.lock();
        state.jobs.extend(jobs);
        if state.running {
            return;
        }
        state.running = true;
        drop(state);
        let inner = Arc::clone(&self.inner);
        let spawned = thread::Builder::new()
            .name("stream-sink-old".into())
            .spawn(move || inner.work());
        if spawned.is_err() {
            // No thread to be had: then here, and the writer waits.
            self.inner.work();
        }
    }

    /// Waits until nothing is left to do.
    pub(crate) fn wait(&self) {
        let mut state = self.inner.state.lock();
        while state.running {
            self.inner.idle.wait(&mut state);
        }
    }
}

impl Inner {
    fn work(&self) {
        loop {
            let mut state = self.state.lock();
            let Some(job) = state.jobs.pop_front() else {
                state.running = false;
                self.idle.notify_all();
                return;
            };
            drop(state);
            match job {
                Job::Start(left) => self.care.start(left, &|| self.pending()),
                Job::Closed(closed) => self.care.closed(closed, &|| self.pending()),
            }
        }
    }

    fn pending(&self) -> HashSet<PathBuf> {
        let state = self.state.lock();
        let pending = state.jobs.iter().filter_map(|job| match job {
            Job::Closed(closed) => Some(closed.manifest.path.clone()),
            Job::Start(_) => None,
        });
        pending.collect()
    }
}

impl Care {
    /// `pending` gives the files whose turn comes later.
    pub(crate) fn start(&self, left: Vec<Closed>, pending: Pending<'_>) {
        for closed in left {
            self.finish(closed);
        }
        self.compress_leftovers();
        self.retain(pending);
    }

    pub(crate) fn closed(&self, closed: Closed, pending: Pending<'_>) {
        self.finish(closed);
        self.retain(pending);
    }

    /// The journal goes last: while it is there, the hook is called again after a crash.
    fn finish(&self, closed: Closed) {
        let mut manifest = closed.manifest;
        if let Some(path) = self.compress(&manifest.path) {
            if let Ok(file) = self.place.storage.read(&path) {
                manifest.file_bytes = file.size().unwrap_or(manifest.file_bytes);
            }
            manifest.path = path;
        }
        if let Some(hook) = &self.hook
            && catch_unwind(AssertUnwindSafe(|| hook(&manifest))).is_err()
        {
            // It is called again at the next start.
            return self.failed("the close hook panicked", &manifest.path, None);
        }
        match self.place.storage.remove(&closed.journal) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.failed("cannot remove the journal", &closed.journal, Some(&error));
            }
            _ => {}
        }
    }

    /// Gives the compressed file's path.
    fn compress(&self, path: &Path) -> Option<PathBuf> {
        let compression = self.compression.as_ref().filter(|_| !compress::is_compressed(path))?;
        match compress::compress(&*self.place.storage, path, compression) {
            Ok(path) => {
                self.counts.compressed.fetch_add(1, Ordering::Relaxed);
                Some(path)
            }
            Err(error) => {
                self.failed("cannot compress", path, Some(&error));
                None
            }
        }
    }

    /// Closed files that a process that died, or a full disk, left as they were.
    fn compress_leftovers(&self) {
        for entry in walk(&self.place, &self.place.dir, self.place.template.depth()) {
            if let Some(own) = compress::temporary_of(&entry.path)
                && self.place.relative(&own).is_some_and(|path| self.is_ours(path))
            {
                let _ = compress::remove_temporary(&*self.place.storage, &entry.path);
            }
            let ours = self.place.relative(&entry.path).is_some_and(|path| self.is_ours(path));
            if entry.is_file && ours {
                self.compress(&entry.path);
            }
        }
    }

    fn is_ours(&self, path: &str) -> bool {
        !path.ends_with(PART) && self.place.template.parse_path(path).is_some()
    }

    fn retain(&self, pending: Pending<'_>) {
        if self.retention.is_unlimited() {
            return;
        }
        let mut files = Vec::new();
        for entry in walk(&self.place, &self.place.dir, self.place.template.depth()) {
            let parsed = self
                .place
                .relative(&entry.path)
                .and_then(|path| self.place.template.parse_path(path));
            if let Some(parsed) = parsed.filter(|_| entry.is_file) {
                files.push((parsed, entry));
            }
        }
        // After the files: what got its name meanwhile is pending, and not among them.
        let mut waiting = pending();
        waiting.extend(journaled(&self.place));
        for path in retention::expired(&self.retention, files, &waiting, self.clock.now()) {
            if let Some(hook) = &self.remove_hook
                && catch_unwind(AssertUnwindSafe(|| hook(&path))).is_err()
            {
                self.failed("the hook for removals panicked", &path, None);
            }
            match self.place.storage.remove(&path) {
                Ok(()) => {
                    self.counts.removed.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(path = %path.display(), "old file removed");
                    self.remove_empty(path.parent());
                }
                Err(error) => self.failed("cannot remove an old file", &path, Some(&error)),
            }
        }
    }

    /// Directories of dates that have nothing left. Removing one that has is refused.
    fn remove_empty(&self, dir: Option<&Path>) {
        let mut dir = dir;
        while let Some(path) = dir.filter(|path| path.starts_with(&self.place.dir) && *path != self.place.dir) {
            if self.place.storage.remove_dir(path).is_err() {
                return;
            }
            dir = path.parent();
        }
    }

    fn failed(&self, what: &str, path: &Path, error: Option<&io::Error>) {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
        let error = error.map(ToString::to_string);
        tracing::warn!(path = %path.display(), error, "{what}");
    }
}

impl fmt::Debug for Janitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Janitor").finish_non_exhaustive()
    }
}
