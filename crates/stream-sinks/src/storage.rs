//! What writers need of a file system, so that tests can take it away.

use std::{
    any::Any,
    fmt, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

mod crash_image;
mod disk;
mod faults;

pub use self::{crash_image::CrashImage, disk::DiskStorage, faults::Fault};

/// A file system, as far as sinks need one.
///
/// [`DiskStorage`] is the real one. [`CrashImage`] is one for tests, which knows what a power loss would leave.
/// Paths are complete: they begin with the writer's directory. Implementations are called from the writer's thread and
/// from the one that compresses.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Creates a file to write, locked for this process.
    ///
    /// # Errors
    /// `AlreadyExists` when there is one; `NotFound` without its directory.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;

    /// Opens a file to read and write, locked for this process.
    ///
    /// # Errors
    /// `WouldBlock` when somebody else holds its lock.
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;

    /// Opens a file to read.
    ///
    /// # Errors
    /// Those of the system.
    fn read(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;

    /// Creates a directory and those above it; none that exists is an error.
    ///
    /// # Errors
    /// Those of the system.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// What is in a directory, in any order.
    ///
    /// # Errors
    /// `NotFound` without it.
    fn list(&self, dir: &Path) -> io::Result<Vec<StorageEntry>>;

    /// Renames a file in one step, and never replaces another.
    ///
    /// # Errors
    /// `AlreadyExists` when `to` exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `DirectoryNotEmpty`, and those of the system.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes what was created, renamed and removed in a directory survive a power loss.
    ///
    /// # Errors
    /// Those of the system.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Lets `link` point to `target`, which is relative to the link's directory; replaces another link in one step.
    ///
    /// # Errors
    /// `AlreadyExists` when `link` is no link.
    fn link(&self, target: &Path, link: &Path) -> io::Result<()>;

    /// Takes a lock that ends with the process or with the returned value.
    ///
    /// # Errors
    /// `WouldBlock` when somebody holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send>>;
}

/// An open file. Its lock, if it has one, ends with it.
pub trait StorageFile: fmt::Debug + Send {
    /// Writes at an offset, perhaps not all: gives how many bytes.
    ///
    /// # Errors
    /// Those of the system. Some bytes may have been written.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Reads at an offset, perhaps not all: gives how many bytes, 0 at the end.
    ///
    /// # Errors
    /// Those of the system.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Bytes in the file.
    ///
    /// # Errors
    /// Those of the system.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file.
    ///
    /// # Errors
    /// Those of the system.
    fn truncate(&mut self, size: u64) -> io::Result<()>;

    /// Makes the content survive a power loss.
    ///
    /// # Errors
    /// Those of the system. After one, what the file holds is not known: writers write it again, through a new handle.
    fn sync(&mut self) -> io::Result<()>;

    /// Whether the file still has a name. Writing to one without is of no use.
    ///
    /// # Errors
    /// Those of the system.
    fn is_linked(&self) -> io::Result<bool>;

    /// Sets the time of the last change.
    ///
    /// # Errors
    /// Those of the system.
    fn set_modified(&mut self, time: SystemTime) -> io::Result<()>;
}

/// A file or directory in a directory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StorageEntry {
    /// The whole path.
    pub path: PathBuf,
    /// Whether it is a directory; links are not.
    pub is_dir: bool,
    /// Whether it is a plain file.
    pub is_file: bool,
    /// Bytes of a file.
    pub size: u64,
    /// When it was changed last.
    pub modified: SystemTime,
}

impl StorageEntry {
    /// An empty file that was never changed.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        Self {
            path,
            is_dir: false,
            is_file: true,
            size: 0,
            modified: SystemTime::UNIX_EPOCH,
        }
    }

    /// A directory.
    #[must_use]
    pub fn dir(path: PathBuf) -> Self {
        Self {
            is_dir: true,
            is_file: false,
            ..Self::file(path)
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// Writes all of it.
pub(crate) fn write_all(file: &mut dyn StorageFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills the buffer as far as the file reaches: gives how many bytes.
pub(crate) fn read_full(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// All of a file that is known to be small.
pub(crate) fn read_all(file: &dyn StorageFile) -> io::Result<Vec<u8>> {
    let size = usize::try_from(file.size()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut bytes = vec![0; size];
    let filled = read_full(file, &mut bytes, 0)?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// A file as `std::io::Read`.
#[derive(Debug)]
pub(crate) struct Source {
    file: Box<dyn StorageFile>,
    offset: u64,
}

impl Source {
    pub(crate) fn open(storage: &dyn Storage, path: &Path) -> io::Result<Self> {
        let file = storage.read(path)?;
        Ok(Self { file, offset: 0 })
    }
}

impl io::Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(1 << 18);
        let count = read_full(&*self.file, &mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Creates a directory and, where that is asked for, lets it survive a power loss with those above it.
pub(crate) fn make_dir(storage: &dyn Storage, dir: &Path, durable: bool) -> io::Result<()> {
    storage.create_dir_all(dir)?;
    if durable {
        for parent in dir.ancestors().skip(1) {
            match storage.sync_dir(parent) {
                // It belongs to others, and was there before.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                result => result?,
            }
        }
    }
    Ok(())
}

/// The directory that a file lies in.
pub(crate) fn dir_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
