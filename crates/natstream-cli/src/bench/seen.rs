//! Which messages have come.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The messages of a stream that begins with 1. A bit for each.
#[derive(Debug)]
pub(super) struct Seen {
    bits: Vec<AtomicU64>,
    count: u64,
    distinct: AtomicU64,
    repeated: AtomicU64,
    all: Notify,
}

impl Seen {
    pub(super) fn new(count: u64) -> Self {
        Self {
            bits: (0..=count / 64).map(|_| AtomicU64::new(0)).collect(),
            count,
            distinct: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            all: Notify::new(),
        }
    }

    /// One has come; true when it is the last that was missing. Those that nobody expects are not counted.
    pub(super) fn note(&self, sequence: u64) -> bool {
        let index = usize::try_from(sequence / 64).ok();
        let Some(bits) = index.and_then(|index| self.bits.get(index)) else {
            return false;
        };
        if sequence == 0 || sequence > self.count {
            return false;
        }
        let bit = 1 << (sequence % 64);
        if bits.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            self.repeated.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let is_last = self.distinct.fetch_add(1, Ordering::AcqRel) + 1 == self.count;
        if is_last {
            self.all.notify_waiters();
        }
        is_last
    }

    /// Completes when all have come.
    pub(super) async fn all(&self) {
        let all = self.all.notified();
        let mut all = std::pin::pin!(all);
        // Before it looks, so that the last one is not missed.
        all.as_mut().enable();
        if !self.is_complete() {
            all.await;
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.distinct.load(Ordering::Acquire) == self.count
    }

    /// How many have come, each counted once.
    pub(super) fn distinct(&self) -> &AtomicU64 {
        &self.distinct
    }

    /// How often one came again.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn each_message_counts_once() {
        let seen = Seen::new(128);
        let mut all = std::pin::pin!(seen.all());
        assert!((1..128).all(|sequence| !seen.note(sequence)));
        assert!(!seen.note(64) && !seen.note(0) && !seen.note(129) && !seen.note(u64::MAX));
        assert!(all.as_mut().now_or_never().is_none() && !seen.is_complete());
        assert!(seen.note(128));
        assert!(all.now_or_never().is_some() && seen.is_complete());
        assert_eq!((seen.distinct().load(Ordering::Relaxed), seen.repeated()), (128, 1));
        // Whoever comes later does not wait.
        assert!(seen.all().now_or_never().is_some());
    }
}
