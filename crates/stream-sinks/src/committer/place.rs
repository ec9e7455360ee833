//! Where files are.

use std::{
    any::Any,
    io, iter,
    path::{Path, PathBuf},
};

use super::SharedStorage;
use crate::{
    SinkError,
    storage::make_dir,
    template::{PART, Parsed, Pattern, Template},
};

/// A directory, and how files in it are named.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) storage: SharedStorage,
    pub(crate) dir: PathBuf,
    /// With the writer's id.
    pub(crate) name: String,
    pub(crate) template: Template,
    /// The default ones: files in progress of a process that had another rotation.
    pub(crate) earlier: Vec<Template>,
}

/// Held by the process that writes under a name in a directory.
pub(crate) fn lock_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.lock"))
}

/// The journal of a `.part` file: hidden, and beside it.
pub(crate) fn journal_path(part: &Path) -> PathBuf {
    let name = part.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(PART).unwrap_or(&name);
    part.with_file_name(format!(".{name}.journal"))
}

/// Gives a file its final name, or the next one that is free; tells each name before it is tried.
pub(crate) fn publish(
    place: &Place,
    part: &Path,
    pattern: &Pattern,
    mut index: u64,
    sequences: Option<(u64, u64)>,
    suffix: &str,
    mut announce: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<PathBuf> {
    loop {
        let name = format!("{}{suffix}", pattern.path(index, sequences));
        announce(&name)?;
        let path = place.dir.join(name);
        match place.storage.rename(part, &path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => index += 1,
            Err(error) => return Err(error),
        }
    }
}

impl Place {
    pub(crate) fn lock(&self) -> Result<Box<dyn Any + Send>, SinkError> {
        let path = lock_path(&self.dir, &self.name);
        self.storage.lock(&path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => SinkError::in_use(&path),
            _ => SinkError::storage("cannot lock the directory", &path, error),
        })
    }

    /// The directory that files of a pattern lie in.
    pub(crate) fn dir_of(&self, pattern: &Pattern) -> PathBuf {
        let mut path = self.dir.join(pattern.open_path(0));
        path.pop();
        path
    }

    /// Creates the writer's own directory, so that it survives a power loss too.
    pub(crate) fn make_own_dir(&self, durable: bool) -> io::Result<()> {
        make_dir(&*self.storage, &self.dir, durable)
    }

    /// Creates a directory below it. One that exists may not be durable: its sync may have failed before.
    pub(crate) fn make_dir(&self, dir: &Path, durable: bool) -> io::Result<()> {
        self.storage.create_dir_all(dir)?;
        if durable {
            let parents = dir.ancestors().skip(1);
            for parent in parents.take_while(|parent| parent.starts_with(&self.dir)) {
                self.storage.sync_dir(parent)?;
            }
        }
        Ok(())
    }

    /// The first index behind all that files of this period have.
    pub(crate) fn next_index(&self, pattern: &Pattern) -> io::Result<u64> {
        if self.template.has_sequences() {
            // Their names differ anyway.
            return Ok(0);
        }
        let own = self.template.parse_path(&pattern.path(0, None)).unwrap_or_default();
        let mut next = 0;
        for entry in self.storage.list(&self.dir_of(pattern))? {
            let Some(path) = self.relative(&entry.path) else {
                continue;
            };
            let parsed = self
                .template
                .parse_path(path)
                .or_else(|| self.template.parse_part(path));
            if let Some(parsed) = parsed.filter(|parsed| (parsed.time, parsed.west) == (own.time, own.west)) {
                next = next.max(parsed.index + 1);
            }
        }
        Ok(next)
    }

    /// What the path of a file in progress tells, if it is one of this writer or of one before it.
    pub(crate) fn parse_part(&self, path: &str) -> Option<Parsed> {
        let mut templates = iter::once(&self.template).chain(&self.earlier);
        templates.find_map(|template| template.parse_part(path))
    }

    /// How many directories deep those may lie.
    pub(crate) fn depth(&self) -> usize {
        let earlier = self.earlier.iter().map(Template::depth);
        earlier.fold(self.template.depth(), usize::max)
    }

    pub(crate) fn relative<'a>(&self, path: &'a Path) -> Option<&'a str> {
        path.strip_prefix(&self.dir).ok()?.to_str()
    }
}
