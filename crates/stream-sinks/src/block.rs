//! Records on their way to the disk.

use crate::planner::Target;

/// Records of one file, encoded, in a buffer that is used again.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) data: Vec<u8>,
    pub(crate) target: Target,
    pub(crate) records: u64,
    /// The number behind its last record's.
    pub(crate) end: u64,
    /// The first and last sequence.
    pub(crate) sequences: Option<(u64, u64)>,
}

impl Block {
    pub(crate) fn weight(&self) -> usize {
        self.data.capacity()
    }
}

/// Both ranges, the earlier one first.
pub(crate) fn join(earlier: Option<(u64, u64)>, later: Option<(u64, u64)>) -> Option<(u64, u64)> {
    match (earlier, later) {
        (Some((first, _)), Some((_, last))) => Some((first, last)),
        (earlier, later) => earlier.or(later),
    }
}
