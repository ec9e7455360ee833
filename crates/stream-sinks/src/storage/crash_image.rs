//! A file system in memory that knows what a power loss would leave.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{
    Fault, Storage, StorageEntry, StorageFile,
    faults::{Call, off},
};

mod state;

use self::state::{Change, Node, State, apply};

/// A file system in memory with two states: the live one, and the one that a power loss would leave.
///
/// Content becomes durable by [`sync`](StorageFile::sync), names by [`sync_dir`](Storage::sync_dir). What was not synced
/// may survive in parts: any sectors of the content, and any first ones of the changes of names.
///
/// ```
/// use std::path::Path;
/// use stream_sinks::{CrashImage, Storage};
///
/// let image = CrashImage::new();
/// image.create_dir_all(Path::new("/d"))?;
/// image.create(Path::new("/d/lost"))?.write_at(b"x", 0)?;
/// let seed = 1;
/// let after = image.power_loss(seed);
/// # let _ = after;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct CrashImage {
    state: Arc<Mutex<State>>,
    /// Told whenever the fault changes.
    fault_changed: Arc<Condvar>,
}

/// A locked inode.
struct Lock {
    image: CrashImage,
    inode: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.image.state.lock().locked.remove(&self.inode);
    }
}

struct ImageFile {
    image: CrashImage,
    inode: u64,
    _lock: Option<Lock>,
}

impl CrashImage {
    /// An empty one with a root directory.
    #[must_use]
    pub fn new() -> Self {
        let image = Self::default();
        {
            let mut state = image.state.lock();
            state.names.insert("/".into(), Node::Dir);
            state.durable_names.insert("/".into(), Node::Dir);
        }
        image
    }

    /// What is there after the power has failed now. What of the unsynced survives is decided by the seed; 0: nothing,
    /// 1: everything.
    #[must_use]
    pub fn power_loss(&self, seed: u64) -> Self {
        Self::with(self.state.lock().after_power_loss(seed))
    }

    /// What is there after all processes have died now, while the system goes on.
    #[must_use]
    pub fn killed(&self) -> Self {
        Self::with(self.state.lock().after_kill())
    }

    fn with(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
            fault_changed: Arc::default(),
        }
    }

    /// The state, once nothing stalls.
    fn unstalled(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        while state.faults.stalls() {
            self.fault_changed.wait(&mut state);
        }
        state
    }

    /// How many calls have changed or synced something.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state.lock().faults.calls()
    }

    /// Lets the power fail in the call of this number, from 1: it and all later ones fail.
    pub fn power_off_at(&self, call: u64) {
        self.state.lock().faults.power_off_at(call);
    }

    /// Lets calls fail from now on, or no more.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state.lock().faults.set(fault);
        self.fault_changed.notify_all();
    }

    /// Bytes in all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Removes a directory with all that is in it, as somebody else would.
    pub fn remove_dir_all(&self, dir: &Path) {
        let mut state = self.state.lock();
        let gone: Change = state
            .names
            .keys()
            .filter(|path| path.starts_with(dir))
            .map(|path| (path.clone(), None))
            .collect();
        state.change(gone);
    }

    /// The content of all files by path.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state.lock();
        let files = state.names.iter().filter_map(|(path, node)| match node {
            Node::File(inode) => Some((path.clone(), state.inodes.get(inode)?.live.clone())),
            _ => None,
        });
        files.collect()
    }

    fn file(&self, inode: u64, locked: bool) -> Box<dyn StorageFile> {
        let lock = locked.then(|| Lock {
            image: self.clone(),
            inode,
        });
        Box::new(ImageFile {
            image: self.clone(),
            inode,
            _lock: lock,
        })
    }

    fn open_node(&self, path: &Path, locked: bool) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.state.lock();
        state.faults.check(Call::Read)?;
        let Some(Node::File(inode)) = state.names.get(path).cloned() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if locked && !state.locked.insert(inode) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(state);
        Ok(self.file(inode, locked))
    }

    /// Changes names, if the storage lets it.
    fn change(&self, change: impl FnOnce(&mut State) -> io::Result<Change>) -> io::Result<()> {
        let mut state = self.state.lock();
        let dying = state.faults.check(Call::Change)?;
        let change = change(&mut state)?;
        state.change(change);
        if dying { Err(off()) } else { Ok(()) }
    }
}

impl Storage for CrashImage {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let mut created = 0;
        self.change(|state| {
            state.has_dir(path)?;
            if state.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let (inode, change) = state.new_file(path);
            created = inode;
            state.locked.insert(inode);
            Ok(change)
        })?;
        Ok(self.file(created, true))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        self.open_node(path, true)
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        self.open_node(path, false)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = {
            let state = self.state.lock();
            let missing = path.ancestors().filter(|dir| !state.names.contains_key(*dir));
            missing.collect()
        };
        if missing.is_empty() {
            return self.change(|_| Ok(Change::new()));
        }
        // From the top; each is durable by a sync of the one above it.
        missing.reverse();
        for dir in missing {
            self.change(|_| Ok(vec![(dir.to_owned(), Some(Node::Dir))]))?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<StorageEntry>> {
        let mut state = self.state.lock();
        state.faults.check(Call::Read)?;
        if state.names.get(dir) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut entries = Vec::new();
        for (path, node) in state.names.iter().filter(|(path, _)| path.parent() == Some(dir)) {
            let mut entry = StorageEntry::file(path.clone());
            match node {
                Node::Dir => entry = StorageEntry::dir(path.clone()),
                Node::Link(_) => entry.is_file = false,
                Node::File(inode) => {
                    if let Some(inode) = state.inodes.get(inode) {
                        entry.size = inode.live.len() as u64;
                        entry.modified = SystemTime::UNIX_EPOCH + Duration::from_secs(inode.modified);
                    }
                }
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| {
            state.has_dir(to)?;
            if state.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let node = state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            Ok(vec![(to.to_owned(), Some(node.clone())), (from.to_owned(), None)])
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|state| match state.names.get(path) {
            Some(Node::File(_) | Node::Link(_)) => Ok(vec![(path.to_owned(), None)]),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            if state.names.get(path) != Some(&Node::Dir) {
                return Err(io::ErrorKind::NotFound.into());
            }
            if state.names.keys().any(|other| other.parent() == Some(path)) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            Ok(vec![(path.to_owned(), None)])
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.unstalled();
        if state.faults.check(Call::Sync)? {
            return Err(off());
        }
        if state.names.get(dir) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let changes = std::mem::take(&mut state.changes);
        for change in changes {
            // A rename between directories is durable with either of them.
            if change.iter().any(|(path, _)| path.parent() == Some(dir)) {
                apply(&mut state.durable_names, &change);
            } else {
                state.changes.push(change);
            }
        }
        Ok(())
    }

    fn link(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.change(|state| match state.names.get(link) {
            Some(Node::Dir | Node::File(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            _ => Ok(vec![(link.to_owned(), Some(Node::Link(target.to_owned())))]),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send>> {
        let mut state = self.state.lock();
        let inode = match state.names.get(path) {
            Some(Node::File(inode)) => *inode,
            Some(_) => return Err(io::ErrorKind::IsADirectory.into()),
            None => {
                if state.faults.check(Call::Change)? {
                    return Err(off());
                }
                state.has_dir(path)?;
                let (inode, change) = state.new_file(path);
                state.change(change);
                inode
            }
        };
        if !state.locked.insert(inode) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(state);
        Ok(Box::new(Lock {
            image: self.clone(),
            inode,
        }))
    }
}

impl StorageFile for ImageFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.image.unstalled();
        let dying = state.faults.check(Call::Write)?;
        state.ticks += 1;
        // Looking through all files is slow, and without a limit of no use.
        let used = if state.faults.limits() { state.used() } else { 0 };
        let ticks = state.ticks;
        let offset = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let size = state.inodes.get(&self.inode).map_or(0, |inode| inode.live.len());
        let growth = (offset + bytes.len()).saturating_sub(size) as u64;
        let count = state.faults.admit(used, growth, bytes.len());
        if count == 0 && !bytes.is_empty() {
            return Err(state.faults.refusal());
        }
        let inode = state.inodes.entry(self.inode).or_default();
        let end = offset + count;
        if inode.live.len() < end {
            inode.live.resize(end, 0);
        }
        inode.live[offset..end].copy_from_slice(&bytes[..count]);
        inode.dirty.push(offset..end);
        inode.modified = ticks;
        if dying { Err(off()) } else { Ok(count) }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.image.state.lock();
        state.faults.check(Call::Read)?;
        let live = state.inodes.get(&self.inode).map_or(&[][..], |inode| &inode.live);
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|at| live.get(at..))
            .unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.image.state.lock();
        state.faults.check(Call::Read)?;
        Ok(state.inodes.get(&self.inode).map_or(0, |inode| inode.live.len() as u64))
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        let mut state = self.image.state.lock();
        let dying = state.faults.check(Call::Change)?;
        if let (Some(inode), Ok(size)) = (state.inodes.get_mut(&self.inode), usize::try_from(size)) {
            inode.live.resize(size, 0);
        }
        if dying { Err(off()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.image.unstalled();
        let checked = state.faults.check(Call::Sync);
        let Some(inode) = state.inodes.get_mut(&self.inode) else {
            return Ok(());
        };
        match checked {
            Ok(false) => {
                inode.sync();
                Ok(())
            }
            Ok(true) => Err(off()),
            Err(error) => {
                // Pages of a failed sync count as clean: the next sync succeeds, and has not written them.
                inode.dirty.clear();
                Err(error)
            }
        }
    }

    fn is_linked(&self) -> io::Result<bool> {
        let mut state = self.image.state.lock();
        state.faults.check(Call::Read)?;
        Ok(state.names.values().any(|node| *node == Node::File(self.inode)))
    }

    fn set_modified(&mut self, time: SystemTime) -> io::Result<()> {
        let mut state = self.image.state.lock();
        state.faults.check(Call::Change)?;
        let seconds = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        if let Some(inode) = state.inodes.get_mut(&self.inode) {
            inode.modified = seconds;
        }
        Ok(())
    }
}

impl fmt::Debug for CrashImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashImage").finish_non_exhaustive()
    }
}

impl fmt::Debug for ImageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageFile")
            .field("inode", &self.inode)
            .finish_non_exhaustive()
    }
}
