//! What the suites of the sinks share.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
};

/// Plain files below a directory that others see, by path from it, sorted by name with numbers as numbers.
///
/// # Panics
/// When one cannot be read.
#[must_use]
pub fn visible(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if !name(&path).starts_with('.') {
                let relative = path.strip_prefix(dir).unwrap().display().to_string();
                found.push((relative, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort_by_key(|(path, _)| key(path));
    found
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// `x.2.log` comes before `x.10.log` and after `x.log`.
fn key(path: &str) -> (String, u64) {
    let stem = path
        .trim_end_matches(".gz")
        .trim_end_matches(".zst")
        .trim_end_matches(".log");
    match stem
        .rsplit_once('.')
        .and_then(|(stem, index)| Some((stem, index.parse().ok()?)))
    {
        Some((stem, index)) => (stem.to_owned(), index),
        None => (stem.to_owned(), 0),
    }
}

/// A directory that does not exist yet, in one that goes with the value.
///
/// # Panics
/// When none can be made.
#[must_use]
pub fn directory() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sink");
    (dir, path)
}

/// SplitMix64: what is random here must be the same for the same seed.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// Another one each time.
    #[must_use]
    pub fn seed() -> u64 {
        RandomState::new().hash_one(0) >> 32
    }

    /// From 1 to `most`.
    ///
    /// # Panics
    /// When that is no `usize`.
    pub fn up_to(&mut self, most: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % most + 1).unwrap()
    }
}
