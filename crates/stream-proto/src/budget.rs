//! A shared allowance of bytes.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

/// An allowance of bytes that several streams share.
///
/// Cloning shares it. A connection gives one to all its streams, so that the windows of ten thousand slow readers
/// together stay under one figure; [`within`](Self::within) puts those of all connections under one of the process.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: u64,
    used: AtomicU64,
    /// How many [`Share`]s there are.
    sharers: AtomicU64,
    parent: Option<Budget>,
}

impl Budget {
    /// An allowance of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self::build(limit, None)
    }

    /// An allowance of `limit` bytes, each of which is taken from `parent` too.
    #[must_use]
    pub fn within(limit: u64, parent: &Self) -> Self {
        Self::build(limit, Some(parent.clone()))
    }

    /// Takes `bytes` when that many are left.
    #[must_use]
    pub fn take(&self, bytes: u64) -> bool {
        let taken = self
            .inner
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.inner.limit)
            })
            .is_ok();
        if taken
            && let Some(parent) = &self.inner.parent
            && !parent.take(bytes)
        {
            self.inner.used.fetch_sub(bytes, Ordering::AcqRel);
            return false;
        }
        taken
    }

    /// Gives back `bytes` that [`take`](Self::take) gave.
    pub fn give(&self, bytes: u64) {
        let before = self.inner.used.fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(before >= bytes, "more given back than taken");
        if let Some(parent) = &self.inner.parent {
            parent.give(bytes);
        }
    }

    /// Bytes taken at this moment.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.inner.used.load(Ordering::Acquire)
    }

    fn build(limit: u64, parent: Option<Self>) -> Self {
        let inner = Inner {
            limit,
            used: AtomicU64::new(0),
            sharers: AtomicU64::new(0),
            parent,
        };
        Self { inner: Arc::new(inner) }
    }
}

/// Says that its owner wants much of a budget, as long as it lives. Nothing is taken by it.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
}

impl Share {
    pub(crate) fn of(budget: Budget) -> Self {
        budget.inner.sharers.fetch_add(1, Ordering::AcqRel);
        Self { budget }
    }

    /// An equal part of three quarters. The last quarter is for those that want little.
    pub(crate) fn bytes(&self) -> u64 {
        let Inner { limit, sharers, .. } = &*self.budget.inner;
        limit / 4 * 3 / sharers.load(Ordering::Acquire).max(1)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.inner.sharers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What one owner has taken from a budget; dropping it gives everything back.
#[derive(Debug, Default)]
pub(crate) struct Loan {
    budget: Option<Budget>,
    taken: u64,
}

impl Loan {
    /// Nothing is taken yet; without a budget there is always enough.
    pub(crate) fn from(budget: Option<Budget>) -> Self {
        Self { budget, taken: 0 }
    }

    /// What is taken from.
    pub(crate) fn budget(&self) -> Option<Budget> {
        self.budget.clone()
    }

    /// Is there always enough?
    pub(crate) fn is_unlimited(&self) -> bool {
        self.budget.is_none()
    }

    /// Bytes taken at this moment; without a budget, those that were asked for.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes or gives back what is missing to `bytes`. False, and nothing changed, when there is not enough.
    pub(crate) fn set(&mut self, bytes: u64) -> bool {
        if let Some(budget) = &self.budget {
            if bytes > self.taken && !budget.take(bytes - self.taken) {
                return false;
            }
            if bytes < self.taken {
                budget.give(self.taken - bytes);
            }
        }
        self.taken = bytes;
        true
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_beyond_the_limit() {
        let budget = Budget::new(10);
        let other = budget.clone();
        assert!(budget.take(7));
        assert!(!other.take(4));
        assert!(other.take(3));
        budget.give(7);
        assert_eq!(other.used(), 3);
    }

    #[test]
    fn what_the_parent_has_not_is_not_taken() {
        let process = Budget::new(10);
        let (one, two) = (Budget::within(8, &process), Budget::within(8, &process));
        assert!(one.take(8));
        assert!(!two.take(3));
        assert!(two.take(2));
        assert_eq!((one.used(), two.used(), process.used()), (8, 2, 10));
        one.give(8);
        two.give(2);
        assert_eq!(process.used(), 0);
    }

    #[test]
    fn those_that_want_much_share_three_quarters() {
        let budget = Budget::new(1600);
        let first = Share::of(budget.clone());
        assert_eq!(first.bytes(), 1200);
        let second = Share::of(budget.clone());
        assert_eq!((first.bytes(), second.bytes()), (600, 600));
        drop(first);
        assert_eq!(second.bytes(), 1200);
        assert_eq!(budget.used(), 0);
    }
}
