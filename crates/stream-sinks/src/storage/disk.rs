//! The real file system.

use std::{
    any::Any,
    fs::{self, File, FileTimes, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    path::Path,
    time::SystemTime,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Storage, StorageEntry, StorageFile};

/// Files of the operating system, with given permissions.
#[derive(Clone, Debug, Default)]
pub struct DiskStorage {
    file_mode: Option<u32>,
    dir_mode: Option<u32>,
}

impl DiskStorage {
    /// With the permissions that the process's umask gives.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Exact permissions of new files, such as `0o640`, whatever the umask.
    #[must_use]
    pub fn file_mode(mut self, mode: u32) -> Self {
        self.file_mode = Some(mode);
        self
    }

    /// Permissions of new directories, such as `0o750`, less the umask.
    #[must_use]
    pub fn dir_mode(mut self, mode: u32) -> Self {
        self.dir_mode = Some(mode);
        self
    }
}

/// Renames without replacing.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_over_own(from, to),
        result => Ok(result?),
    }
}

/// For file systems that cannot refuse to replace: takes the name with an empty file, and replaces that.
///
/// A process that is killed in between leaves the empty file. (A second name for the file, and then removing the first,
/// would leave its records twice.)
fn rename_over_own(from: &Path, to: &Path) -> io::Result<()> {
    fs::symlink_metadata(from)?;
    OpenOptions::new().write(true).create_new(true).open(to)?;
    fs::rename(from, to).inspect_err(|_| {
        let _ = fs::remove_file(to);
    })
}

fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::Error(error) => error,
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
    })
}

impl Storage for DiskStorage {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(self.file_mode.unwrap_or(0o666))
            .open(path)?;
        if let Some(mode) = self.file_mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        lock(&file)?;
        Ok(Box::new(DiskFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        lock(&file)?;
        Ok(Box::new(DiskFile(file)))
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(DiskFile(File::open(path)?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(self.dir_mode.unwrap_or(0o777))
            .create(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<StorageEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            entries.push(StorageEntry {
                path: entry.path(),
                is_dir: metadata.is_dir(),
                is_file: metadata.is_file(),
                size: metadata.len(),
                modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            });
        }
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        rename_new(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match File::open(dir)?.sync_all() {
            // What a file system without syncs of directories says.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result,
        }
    }

    fn link(&self, target: &Path, link: &Path) -> io::Result<()> {
        match fs::symlink_metadata(link) {
            Ok(metadata) if !metadata.is_symlink() => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(_) if fs::read_link(link)? == target => return Ok(()),
            _ => {}
        }
        let mut temporary = link.as_os_str().to_owned();
        temporary.push(".new");
        // Left behind by a process that was killed here.
        let _ = fs::remove_file(&temporary);
        symlink(target, &temporary)?;
        fs::rename(&temporary, link)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(self.file_mode.unwrap_or(0o666)).open(path)?;
        lock(&file)?;
        Ok(Box::new(file))
    }
}

#[derive(Debug)]
struct DiskFile(File);

impl StorageFile for DiskFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(&self.0, bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(self.0.metadata()?.nlink() > 0)
    }

    fn set_modified(&mut self, time: SystemTime) -> io::Result<()> {
        self.0.set_times(FileTimes::new().set_modified(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_rename_replaces_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| dir.path().join(name));
        for rename in [rename_new, rename_over_own] {
            fs::write(&from, "new").unwrap();
            fs::write(&to, "old").unwrap();
            assert_eq!(rename(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&to).unwrap(), b"old");
            fs::remove_file(&to).unwrap();
            rename(&from, &to).unwrap();
            assert_eq!(fs::read(&to).unwrap(), b"new");
            assert_eq!(
                rename(&from, &to.with_extension("x")).unwrap_err().kind(),
                io::ErrorKind::NotFound
            );
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
            fs::remove_file(&to).unwrap();
        }
    }
}
