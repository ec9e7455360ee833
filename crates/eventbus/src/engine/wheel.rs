//! The one deadline wheel: when something is due for a slot.

use super::lists::{Links, List, NONE};

/// The wheel's precision, in nanoseconds: 8.4 ms. Nothing is due before its time, and at most this much after it.
pub(super) const TICK: u64 = 1 << 23;

/// One turn is 4.3 s: what is due later is passed over once a turn, and the usual answer comes long before.
const BUCKETS: usize = 512;

/// Setting and giving up a time costs the same for any number of slots, and nothing is allocated.
#[derive(Debug)]
pub(super) struct Wheel {
    buckets: Box<[List]>,
    /// Which buckets are not empty.
    occupied: [u64; BUCKETS / 64],
    links: Links,
    /// The tick at which the slot is due; `u64::MAX` for none.
    due: Vec<u64>,
    /// Everything up to this tick has been taken out.
    cursor: u64,
}

impl Wheel {
    pub(super) fn new(now: u64) -> Self {
        Self {
            buckets: vec![List::EMPTY; BUCKETS].into_boxed_slice(),
            occupied: [0; BUCKETS / 64],
            links: Links::default(),
            due: Vec::new(),
            cursor: now / TICK,
        }
    }

    /// Makes room for one more slot.
    pub(super) fn grow(&mut self) {
        self.links.grow();
        self.due.push(u64::MAX);
    }

    /// `slot` is due at `at`, and at no other time that was set before.
    pub(super) fn set(&mut self, slot: u32, at: u64) {
        // Never what has passed: the bucket of such a tick comes round a turn later.
        let tick = at.div_ceil(TICK).max(self.cursor + 1);
        if self.due[slot as usize] == tick {
            return;
        }
        self.unset(slot);
        self.due[slot as usize] = tick;
        let bucket = bucket(tick);
        self.links.push(&mut self.buckets[bucket], slot);
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
    }

    pub(super) fn unset(&mut self, slot: u32) {
        let tick = std::mem::replace(&mut self.due[slot as usize], u64::MAX);
        if tick == u64::MAX {
            return;
        }
        let bucket = bucket(tick);
        self.links.remove(&mut self.buckets[bucket], slot);
        if self.buckets[bucket].is_empty() {
            self.occupied[bucket / 64] &= !(1 << (bucket % 64));
        }
    }

    /// Takes out every slot that is due at `now`, and adds it to `expired`.
    pub(super) fn expire(&mut self, now: u64, expired: &mut Vec<u32>) {
        let tick = now / TICK;
        let passed = tick.saturating_sub(self.cursor).min(BUCKETS as u64);
        for step in 0..passed {
            let bucket = bucket(tick - step);
            if self.occupied[bucket / 64] & (1 << (bucket % 64)) == 0 {
                continue;
            }
            let mut slot = self.buckets[bucket].first;
            while slot != NONE {
                let next = self.links.after(slot);
                if self.due[slot as usize] <= tick {
                    expired.push(slot);
                }
                slot = next;
            }
        }
        for slot in &*expired {
            self.unset(*slot);
        }
        self.cursor = self.cursor.max(tick);
    }

    /// When to look again; `None` when nothing is due ever. It may be early: a bucket is looked into once a turn.
    pub(super) fn next(&self) -> Option<u64> {
        let from = bucket(self.cursor + 1);
        for step in 0..=self.occupied.len() {
            let index = (from / 64 + step) % self.occupied.len();
            let mut word = self.occupied[index];
            if step == 0 {
                word &= u64::MAX << (from % 64);
            }
            if word != 0 {
                let found = index * 64 + word.trailing_zeros() as usize;
                let ahead = (found + BUCKETS - from) % BUCKETS;
                return Some((self.cursor + 1 + ahead as u64) * TICK);
            }
        }
        None
    }
}

fn bucket(tick: u64) -> usize {
    tick as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Beside a table of times: nothing comes early, nothing more than a tick late, and nothing is forgotten by whoever
        /// follows `next`.
        #[test]
        fn a_slot_comes_when_it_is_due(
            start in 0..u64::MAX / 4,
            times in prop::collection::vec((0..20_000_000_000_u64, any::<bool>()), 1..40),
        ) {
            let mut wheel = Wheel::new(start);
            let mut left: Vec<(u32, u64)> = Vec::new();
            for (slot, (time, is_dropped)) in times.into_iter().enumerate() {
                let slot = slot as u32;
                wheel.grow();
                // Set twice: only the last counts.
                wheel.set(slot, start);
                wheel.set(slot, start + time);
                if is_dropped {
                    wheel.unset(slot);
                } else {
                    left.push((slot, start + time));
                }
            }
            let mut looks = 0;
            while let Some(at) = wheel.next() {
                looks += 1;
                prop_assert!(looks < 10_000, "it comes to an end");
                let mut expired = Vec::new();
                wheel.expire(at, &mut expired);
                for slot in expired {
                    let index = left.iter().position(|(waiting, _)| *waiting == slot).expect("each comes once");
                    let (_, due) = left.swap_remove(index);
                    prop_assert!(due <= at && at < due + 2 * TICK, "due {due}, came {at}");
                }
                prop_assert!(left.iter().all(|(_, due)| *due + TICK > at), "late");
            }
            prop_assert!(left.is_empty());
        }

        /// Somebody who sleeps for long gets everything at once.
        #[test]
        fn nothing_is_missed_after_a_long_sleep(times in prop::collection::vec(0..20_000_000_000_u64, 1..40)) {
            let mut wheel = Wheel::new(0);
            for (slot, time) in times.iter().enumerate() {
                wheel.grow();
                wheel.set(slot as u32, *time);
            }
            let mut expired = Vec::new();
            wheel.expire(30_000_000_000, &mut expired);
            prop_assert_eq!(expired.len(), times.len());
            prop_assert_eq!(wheel.next(), None);
        }
    }
}
