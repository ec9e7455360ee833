//! What the user's code at the caller does.

use bytes::Bytes;
use stream_proto::Inbound;

use crate::plan::ReaderPlan;
use crate::rng::Rng;
use crate::time::{MS, Nanos, instant};

#[derive(Debug)]
pub(crate) struct Reader {
    plan: ReaderPlan,
    rng: Rng,
    /// When it reads next; `None` while it waits for the stream.
    pub(crate) next: Option<Nanos>,
    /// It waits until then at most, and does something else first.
    pub(crate) leaves_at: Option<Nanos>,
    /// Takes whole units at a time.
    by_unit: bool,
    /// It has seen the end.
    is_done: bool,
}

impl Reader {
    pub(crate) fn new(plan: ReaderPlan, now: Nanos, mut rng: Rng) -> Self {
        let next = match plan {
            ReaderPlan::Late(time) => now + time,
            _ => now,
        };
        let by_unit = rng.chance(300);
        Self {
            plan,
            rng,
            next: Some(next),
            leaves_at: None,
            by_unit,
            is_done: false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    pub(crate) fn stop(&mut self) {
        self.is_done = true;
        self.next = None;
        self.leaves_at = None;
    }

    /// There is something to read.
    pub(crate) fn notify(&mut self, now: Nanos) {
        if self.next.is_none() && !self.is_done {
            self.next = Some(now);
        }
    }

    /// Is tired of waiting, and does something else.
    pub(crate) fn leave(&mut self, now: Nanos, inbound: &mut Inbound) {
        self.leaves_at = None;
        inbound.pause_waiting(instant(now));
        self.next = Some(now + self.pause());
    }

    /// Reads until it pauses, or must wait, or is done. What it got goes into `items`.
    pub(crate) fn run(&mut self, now: Nanos, inbound: &mut Inbound, items: &mut Vec<Bytes>) {
        self.next = None;
        self.leaves_at = None;
        let most = match self.plan {
            ReaderPlan::Slow(_) => 1,
            ReaderPlan::Pausing(_) => self.rng.spread(1..=100),
            ReaderPlan::Eager | ReaderPlan::Late(_) => u64::MAX,
        };
        let mut count = 0;
        while count < most {
            let before = items.len();
            if self.by_unit {
                items.extend(inbound.poll_items(instant(now)).into_iter().flatten());
            } else {
                items.extend(inbound.poll_item(instant(now)));
            }
            if items.len() == before {
                self.is_done = inbound.termination().is_some();
                if !self.is_done && self.rng.chance(50) {
                    self.leaves_at = Some(now + self.rng.time(MS..=(2_000 * MS)));
                }
                return;
            }
            count += (items.len() - before) as u64;
        }
        self.next = Some(now + self.pause());
    }

    fn pause(&mut self) -> Nanos {
        match self.plan {
            ReaderPlan::Slow(most) | ReaderPlan::Pausing(most) => self.rng.time(1..=most),
            ReaderPlan::Eager | ReaderPlan::Late(_) => self.rng.time(1..=(100 * MS)),
        }
    }
}
