//! Which closed files go.

use std::{
    collections::HashSet,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use crate::{StorageEntry, template::Parsed};

/// How many closed files are kept; without a limit, all. The oldest by name go first, and each limit counts for itself.
///
/// Only files that match the writer's template are touched; `.damaged` ones stay. They go when a file is closed, and when a writer opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    max_files: Option<usize>,
    max_age: Option<Duration>,
    max_bytes: Option<u64>,
}

impl Retention {
    /// Keeps all.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self {
            max_files: None,
            max_age: None,
            max_bytes: None,
        }
    }

    /// At most this many closed files.
    #[must_use]
    pub const fn max_files(mut self, count: usize) -> Self {
        self.max_files = Some(count);
        self
    }

    /// None that was changed longer ago.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// At most this many bytes on the disk in closed files. The newest one stays, however large.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    pub(crate) fn is_unlimited(&self) -> bool {
        *self == Self::unlimited()
    }
}

/// The files to remove, oldest first. Those that are pending count, and stay.
pub(crate) fn expired(
    retention: &Retention,
    mut files: Vec<(Parsed, StorageEntry)>,
    pending: &HashSet<PathBuf>,
    now: SystemTime,
) -> Vec<PathBuf> {
    files.sort_by(|(a, x), (b, y)| (a, &x.path).cmp(&(b, &y.path)));
    let mut bytes: u64 = files.iter().map(|(_, entry)| entry.size).sum();
    let mut count = files.len();
    let mut gone = Vec::new();
    for (_, entry) in files {
        let many = retention.max_files.is_some_and(|most| count > most);
        let old = retention
            .max_age
            .is_some_and(|most| now.duration_since(entry.modified).is_ok_and(|age| age > most));
        let large = retention.max_bytes.is_some_and(|most| bytes > most) && count > 1;
        if (many || old || large) && !pending.contains(&entry.path) {
            count -= 1;
            bytes -= entry.size;
            gone.push(entry.path);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Files of 10 bytes, named and changed at hours 0 to 4.
    fn files() -> Vec<(Parsed, StorageEntry)> {
        [3, 1, 4, 0, 2]
            .into_iter()
            .map(|hour| {
                let mut entry = StorageEntry::file(PathBuf::from(hour.to_string()));
                entry.size = 10;
                entry.modified = at(hour);
                let time = [2026, 11, 20, i16::try_from(hour).unwrap(), 0];
                (
                    Parsed {
                        time,
                        ..Parsed::default()
                    },
                    entry,
                )
            })
            .collect()
    }

    fn at(hour: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(hour * 3600)
    }

    fn check(retention: Retention, expected: &[&str]) {
        let gone = expired(&retention, files(), &HashSet::new(), at(5));
        assert_eq!(
            gone,
            expected.iter().map(PathBuf::from).collect::<Vec<_>>(),
            "{retention:?}"
        );
    }

    #[test]
    fn the_oldest_go() {
        let all = Retention::unlimited();
        check(all, &[]);
        check(all.max_files(3), &["0", "1"]);
        check(all.max_bytes(29), &["0", "1", "2"]);
        check(all.max_bytes(0), &["0", "1", "2", "3"]);
        check(all.max_age(Duration::from_secs(3 * 3600)), &["0", "1"]);
        check(all.max_files(4).max_bytes(30), &["0", "1"]);
        check(all.max_files(0), &["0", "1", "2", "3", "4"]);
        let pending = HashSet::from(["1".into()]);
        let gone = expired(&all.max_files(3), files(), &pending, at(5));
        assert_eq!(gone, [Path::new("0"), Path::new("2")]);
    }
}
