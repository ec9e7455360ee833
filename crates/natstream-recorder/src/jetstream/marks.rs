//! Which message was which record.

use std::collections::VecDeque;

/// The sequences of records that a sink has taken and that are not safe yet.
///
/// Memory: 16 bytes for each [`push`](Self::push).
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// How many records there were, and the sequence of the last of them.
    marks: VecDeque<(u64, u64)>,
    records: u64,
}

impl Marks {
    /// The sink has taken so many more, the last of which has this sequence.
    pub(super) fn push(&mut self, records: u64, sequence: u64) {
        if records > 0 {
            self.records += records;
            self.marks.push_back((self.records, sequence));
        }
    }

    /// So many records are safe: the sequence up to which messages are, if it has risen.
    pub(super) fn safe(&mut self, records: u64) -> Option<u64> {
        let done = self.marks.partition_point(|(upto, _)| *upto <= records);
        self.marks.drain(..done).next_back().map(|(_, sequence)| sequence)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Records that the sink has taken.
    pub(super) fn records(&self) -> u64 {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_batches_are_safe() {
        let mut marks = Marks::default();
        marks.push(0, 7);
        assert!(marks.is_empty());
        marks.push(3, 10);
        marks.push(2, 20);
        assert_eq!((marks.safe(2), marks.safe(4), marks.safe(4)), (None, Some(10), None));
        assert_eq!((marks.safe(9), marks.is_empty(), marks.records()), (Some(20), true, 5));
    }
}
