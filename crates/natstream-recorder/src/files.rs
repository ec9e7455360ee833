//! Which files there are, in the order of their records.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::manifest::without_compression;

/// The files below a directory that a writer has made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedFiles {
    /// Complete ones, the oldest records first.
    pub closed: Vec<PathBuf>,
    /// In progress, or left behind by a writer that died and was not started again.
    pub in_progress: Vec<PathBuf>,
    /// What recovery cut off and kept.
    pub damaged: Vec<PathBuf>,
}

impl RecordedFiles {
    /// Looks at `dir` and below it. Hidden files, and all that is no regular file, are left out; of a file and its compressed
    /// form only that.
    ///
    /// The order is that of names in the default layout and in templates whose fields go from the year downwards: an hour that
    /// comes twice is put in its order by its offset, and `.1`, `.2` follow the name without a number.
    ///
    /// # Errors
    /// What the system says.
    pub fn list(dir: impl AsRef<Path>) -> io::Result<Self> {
        let mut files = Self::default();
        files.add(dir.as_ref())?;
        // In the order of names, a compressed file follows the one that it was made of; for a moment there are both.
        files.closed.sort_by_cached_key(|path| (key(path), path.clone()));
        files.closed.reverse();
        files.closed.dedup_by_key(|path| without_compression(path));
        files.closed.reverse();
        files.in_progress.sort();
        files.damaged.sort();
        Ok(files)
    }

    fn add(&mut self, dir: &Path) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let kind = entry.file_type()?;
            if name.starts_with('.') || !(kind.is_dir() || kind.is_file()) {
                continue;
            }
            if kind.is_dir() {
                match self.add(&path) {
                    // Retention removes directories of dates that have nothing left.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    added => added?,
                }
            } else if name.ends_with(".part") {
                self.in_progress.push(path);
            } else if name.ends_with(".damaged") || name.contains(".damaged.") {
                self.damaged.push(path);
            } else {
                self.closed.push(path);
            }
        }
        Ok(())
    }
}

type Key = (PathBuf, String, Reverse<i32>, u64, String);

/// Directory, name without what follows here, offset from UTC, number, ending.
fn key(path: &Path) -> Key {
    let dir = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (mut stem, mut ending) = (name.as_ref(), String::new());
    for compressed in [".gz", ".zst"] {
        stem = stem.strip_suffix(compressed).unwrap_or(stem);
    }
    if let Some((before, last)) = stem.rsplit_once('.')
        && !is_number(last)
    {
        (stem, ending) = (before, last.to_owned());
    }
    let mut number = 0;
    if let Some((before, last)) = stem.rsplit_once('.')
        && is_number(last)
    {
        (stem, number) = (before, last.parse().unwrap_or(u64::MAX));
    }
    // Further east is earlier.
    let mut offset = 0;
    if let Some(at) = stem.rfind(['+', '-'])
        && is_number(&stem[at + 1..])
        && stem.len() == at + 5
    {
        let hours_and_minutes: i32 = stem[at..].parse().unwrap_or_default();
        offset = hours_and_minutes;
        stem = &stem[..at];
    }
    (dir, stem.to_owned(), Reverse(offset), number, ending)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_in_the_order_of_their_records() {
        let dir = tempfile::tempdir().unwrap();
        let names = [
            "20261024/a_2026102423.log.gz",
            "20261025/a_2026102502+0200.log",
            "20261025/a_2026102502+0200.1.log",
            "20261025/a_2026102502+0100.log",
            "20261025/a_2026102503.log",
            "20261025/a_2026102503.2.log.zst",
            "20261025/a_2026102503.10.log",
        ];
        let others = [
            "20261025/a_2026102504.log.part",
            "20261025/a_2026102501.log.damaged",
            "20261025/.a.journal",
            // Its compressed form is there, too.
            "20261024/a_2026102423.log",
        ];
        for name in names.iter().rev().chain(&others) {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink("a_2026102503.log", dir.path().join("current")).unwrap();
        let files = RecordedFiles::list(dir.path()).unwrap();
        let full = |names: &[&str]| names.iter().map(|name| dir.path().join(name)).collect::<Vec<_>>();
        assert_eq!(files.closed, full(&names));
        assert_eq!(files.in_progress, full(&others[..1]));
        assert_eq!(files.damaged, full(&others[1..2]));
    }
}
