//! What is told of a closed file.

use std::{path::PathBuf, time::SystemTime};

/// A closed file: what the close hook gets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// Where it is.
    pub path: PathBuf,
    /// Records in it. Of a file that was recovered without its journal: lines or frames, or 0 where they are not seen.
    pub records: u64,
    /// Bytes of its records, before compression.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// The first and last [sequence](crate::Record::sequence), where records have them.
    pub sequences: Option<(u64, u64)>,
    /// CRC-32C of its records' bytes, before compression.
    pub crc32c: u32,
    /// When it was begun, if that is known.
    pub opened: Option<SystemTime>,
    /// The beginning of the period that it belongs to, if that is known and there are several.
    pub since: Option<SystemTime>,
    /// When it was closed.
    pub closed: SystemTime,
    /// Whether it was left behind by a process that died, and closed by the next one.
    pub recovered: bool,
}
