//! Sequences that did not come.

/// What became of messages that the stream had and the consumer did not give.
///
/// Where the consumer has a filter, or messages leave the stream when they are acked, nobody can tell, and nothing is counted.
#[derive(Debug)]
pub(super) struct Gaps {
    last: u64,
    counts: bool,
    /// First and last of each gap that was not looked at yet.
    open: Vec<(u64, u64)>,
    /// Messages that the stream has removed from its beginning before they came: by its limits, or by a purge.
    pub(super) missed: u64,
    /// Messages that were deleted one by one.
    pub(super) deleted: u64,
}

impl Gaps {
    /// Messages behind `after` are to come. `counts`: whether all of the stream's are.
    pub(super) fn new(after: u64, counts: bool) -> Self {
        Self {
            last: after,
            counts,
            open: Vec::new(),
            missed: 0,
            deleted: 0,
        }
    }

    pub(super) fn arrive(&mut self, sequence: u64) {
        if self.counts && sequence > self.last + 1 {
            self.open.push((self.last + 1, sequence - 1));
        }
        self.last = sequence;
    }

    /// Is there something to be looked at?
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The stream begins with this sequence. Gives how many more messages were missed.
    pub(super) fn judge(&mut self, stream_first: u64) -> u64 {
        let mut missed = 0;
        for (first, last) in self.open.drain(..) {
            let before = (last + 1).min(stream_first).saturating_sub(first);
            missed += before;
            self.deleted += last + 1 - first - before;
        }
        self.missed += missed;
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_stream_has_removed_is_missed() {
        let mut gaps = Gaps::new(10, true);
        for sequence in [11, 15, 16, 20] {
            gaps.arrive(sequence);
        }
        assert!(gaps.has_open());
        // 12 to 14 are gone from the beginning; of 17 to 19 the first one too, the others were deleted.
        assert_eq!(gaps.judge(18), 4);
        assert_eq!((gaps.missed, gaps.deleted, gaps.has_open()), (4, 2, false));
        gaps.arrive(21);
        assert_eq!((gaps.has_open(), gaps.judge(100)), (false, 0));
    }

    #[test]
    fn behind_a_filter_nobody_can_tell() {
        let mut gaps = Gaps::new(0, false);
        gaps.arrive(50);
        assert!(!gaps.has_open());
    }
}
