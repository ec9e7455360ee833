//! Which records of the spool are done, as a machine without I/O.
//!
//! ```text
//!  (numbers)  below the floor │ floor … next: handed over, done or not │ not handed over
//! ```
//!
//! The spool forgets what is below the floor: everything there is done, or was set aside.

use std::collections::{BTreeSet, VecDeque};

/// In the number of an event that an earlier process has set aside; numbers of the log are smaller.
pub(super) const ASIDE: u64 = 1 << 63;

/// Memory: a byte for each record that was handed over and is not below the floor, and a number for each that was set aside.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Of the record at the floor, and those behind it: does nobody need it any more?
    done: VecDeque<bool>,
    floor: u64,
    /// Handed over, and not done.
    open: usize,
    /// Records that were damaged.
    lost: u64,
    /// What is not done, and does not hold the floor: it is kept elsewhere.
    aside: BTreeSet<u64>,
    /// Of those, how many were found and not handed over.
    waiting: usize,
    /// What is done, and still kept elsewhere.
    returned: Vec<u64>,
}

impl Ledger {
    /// Everything below `floor` is done, but what earlier processes have set aside. Numbers of those that are in the log too are
    /// as they are there.
    pub(super) fn new(floor: u64, aside: impl IntoIterator<Item = u64>) -> Self {
        let aside: BTreeSet<u64> = aside.into_iter().collect();
        Self {
            done: VecDeque::new(),
            floor,
            open: 0,
            lost: 0,
            waiting: aside.range(ASIDE..).count(),
            aside,
            returned: Vec::new(),
        }
    }

    /// Record `number` is handed over. Those between it and the one before are damaged, and count as done.
    pub(super) fn hand_over(&mut self, number: u64) {
        self.open += 1;
        if number & ASIDE != 0 {
            self.waiting -= 1;
            return;
        }
        self.pass(number);
        self.done.push_back(self.aside.contains(&number));
        self.rise();
    }

    /// All below `number` that were not handed over are damaged: they count as done.
    pub(super) fn pass(&mut self, number: u64) {
        let lost = number.saturating_sub(self.next());
        self.lost += lost;
        if self.done.is_empty() {
            // Without a place for each: the numbers of a lost watermark may be all that there ever were.
            self.floor += lost;
            return;
        }
        self.done
            .extend(std::iter::repeat_n(true, usize::try_from(lost).unwrap_or(usize::MAX)));
    }

    /// Record `number` is done: acked, or kept as refused. Has the floor risen?
    pub(super) fn finish(&mut self, number: u64) -> bool {
        self.open -= 1;
        if self.aside.remove(&number) {
            self.returned.push(number);
            return false;
        }
        if let Some(done) = self.place(number) {
            *done = true;
        }
        self.rise()
    }

    /// May there be some that are [`stuck`](Self::stuck)?
    pub(super) fn is_held(&self, before: u64) -> bool {
        self.floor < before && self.done.contains(&true)
    }

    /// The records below `before` that keep done ones from being forgotten: without them the floor would rise over some.
    pub(super) fn stuck(&self, before: u64) -> Vec<u64> {
        let records = (self.floor..).zip(&self.done);
        let mut open = Vec::new();
        let mut holding = 0;
        for (number, is_done) in records.take_while(|(number, is_done)| **is_done || *number < before) {
            if *is_done {
                holding = open.len();
            } else {
                open.push(number);
            }
        }
        // Those behind the last done one hold nothing.
        open.truncate(holding);
        open
    }

    /// These are kept elsewhere now, and hold the floor no longer.
    pub(super) fn set_aside(&mut self, numbers: &[u64]) {
        for number in numbers {
            match self.place(*number).filter(|is_done| !**is_done) {
                Some(is_done) => {
                    *is_done = true;
                    self.aside.insert(*number);
                }
                // It was finished meanwhile.
                None => self.returned.push(*number),
            }
        }
        self.rise();
    }

    /// What need not be kept elsewhere any more.
    pub(super) fn returned(&self) -> &[u64] {
        &self.returned
    }

    /// So many of those are not kept any more.
    pub(super) fn swept(&mut self, count: usize) {
        self.returned.drain(..count.min(self.returned.len()));
    }

    /// Nothing below this number needs the log any more.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Is everything below this number done, and all that was found aside?
    pub(super) fn is_done_below(&self, number: u64) -> bool {
        let is_left = |left: &u64| *left < number || left & ASIDE != 0;
        self.floor >= number && !self.aside.first().is_some_and(is_left) && !self.aside.last().is_some_and(is_left)
    }

    /// Behind the last record that was handed over.
    pub(super) fn next(&self) -> u64 {
        self.floor + self.done.len() as u64
    }

    /// Records that are not done: those that are open, and those that were found only aside and are not handed over.
    pub(super) fn left(&self) -> u64 {
        (self.open + self.waiting) as u64
    }

    /// Records that were damaged, so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    fn place(&mut self, number: u64) -> Option<&mut bool> {
        let place = number.checked_sub(self.floor)?;
        self.done.get_mut(usize::try_from(place).ok()?)
    }

    fn rise(&mut self) -> bool {
        let before = self.floor;
        while self.done.front() == Some(&true) {
            self.done.pop_front();
            self.floor += 1;
        }
        self.floor > before
    }
}

#[cfg(test)]
mod tests;
