//! The caller's side of credit (rules 29 to 34).

use super::config::{INITIAL_WINDOW, MAX_WINDOW, MIN_WINDOW};
use crate::budget::Budget;

#[derive(Debug)]
pub(super) struct Credit {
    window: u64,
    max_window: u64,
    /// What the responder keeps for sending again; it bounds what it sends ahead.
    retention: u64,
    /// End of the last unit all of whose data was taken.
    consumed: u64,
    /// End of the unit whose items the user holds at this moment.
    lent: u64,
    /// The highest limit sent, and the one before.
    granted: u64,
    granted_before: u64,
    /// `next` of the last STATE.
    reported: u64,
    /// `next` when the window grew last.
    grown: u64,
    budget: Option<Budget>,
}

impl Credit {
    pub(super) fn new(max_window: u64, budget: Option<Budget>) -> Self {
        let max_window = max_window.clamp(MIN_WINDOW, MAX_WINDOW);
        let initial = INITIAL_WINDOW.min(max_window);
        let window = match &budget {
            Some(budget) if initial > MIN_WINDOW && !budget.take(initial - MIN_WINDOW) => MIN_WINDOW,
            _ => initial,
        };
        Self {
            window,
            max_window,
            retention: u64::MAX,
            consumed: 0,
            lent: 0,
            granted: window,
            granted_before: 0,
            reported: 0,
            grown: 0,
            budget,
        }
    }

    pub(super) fn set_retention(&mut self, retention: u64) {
        self.retention = retention.max(1);
    }

    pub(super) fn granted(&self) -> u64 {
        self.granted
    }

    /// All data up to `end` was taken.
    pub(super) fn take(&mut self, end: u64) {
        self.consumed = self.consumed.max(end);
        self.lent = self.lent.max(end);
    }

    /// The data up to `end` is in the user's hands.
    pub(super) fn lend(&mut self, end: u64) {
        self.lent = end;
    }

    /// The user has taken what it was lent.
    pub(super) fn release(&mut self) {
        self.consumed = self.consumed.max(self.lent);
    }

    pub(super) fn outstanding(&self, next: u64) -> u64 {
        next - self.consumed
    }

    /// Doubles the window when the last unit, at `position`, was the last that a limit allowed: the responder stood still
    /// while the user had nothing left to read.
    ///
    /// The sender overruns a limit by at most one unit (rule 30), so the unit that crosses it shows that it was held up. A
    /// producer that stops there by chance costs memory only, up to the maximum.
    pub(super) fn grow(&mut self, position: u64, next: u64) {
        let held_up = |limit: u64| position < limit && limit <= next;
        if self.grown == next || !(held_up(self.granted) || held_up(self.granted_before)) {
            return;
        }
        self.grown = next;
        let window = (self.window * 2).min(self.max_window);
        let more = window - self.window;
        if more > 0 && self.budget.as_ref().is_none_or(|budget| budget.take(more)) {
            self.window = window;
        }
    }

    /// Can a sender at `position` go on only when it hears from here? Its limit or its retention may hold it up.
    pub(super) fn holds_up(&self, position: u64) -> bool {
        position >= self.granted.min(self.reported.saturating_add(self.retention))
    }

    /// Is a STATE due (rule 32)?
    pub(super) fn is_due(&self, next: u64) -> bool {
        // Half of a retention of 1 is still something: nothing must not be reason enough.
        let half = (self.window.min(self.retention) / 2).max(1);
        (self.consumed + self.window).saturating_sub(self.granted) >= half || next - self.reported >= half
    }

    /// The limit to send; it counts as sent.
    pub(super) fn grant(&mut self, next: u64) -> u64 {
        let limit = self.granted.max(self.consumed + self.window);
        if limit > self.granted {
            self.granted_before = self.granted;
            self.granted = limit;
        }
        self.reported = next;
        limit
    }

    /// Nothing more is granted: others may have what the window took out of the budget and buffered data does not need.
    pub(super) fn shrink(&mut self, next: u64) {
        let needed = self.outstanding(next).clamp(MIN_WINDOW, self.window);
        if let Some(budget) = &self.budget {
            budget.give(self.window - needed);
        }
        self.window = needed;
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give(self.window - MIN_WINDOW);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_due_when_half_the_window_can_be_granted_or_was_received() {
        let mut credit = Credit::new(1 << 20, None);
        let half = INITIAL_WINDOW / 2;
        assert!(!credit.is_due(half - 1));
        assert!(credit.is_due(half), "received, though not consumed");
        assert_eq!(credit.grant(half), INITIAL_WINDOW, "a limit rises by consumption only");
        assert!(!credit.is_due(half));
        credit.lend(half);
        assert!(!credit.is_due(half), "lent is not taken");
        credit.release();
        assert!(credit.is_due(half));
        assert_eq!(credit.grant(half), INITIAL_WINDOW + half);
    }

    #[test]
    fn the_window_doubles_only_when_a_limit_was_reached() {
        let mut credit = Credit::new(256 * 1024, None);
        credit.grow(10_000, 20_000);
        assert_eq!(credit.window, INITIAL_WINDOW);
        for (extra, window) in [(0, 128), (0, 128), (1, 256), (2, 256)] {
            credit.grow(INITIAL_WINDOW - 1, INITIAL_WINDOW + extra);
            assert_eq!(credit.window, window * 1024);
        }
    }

    #[test]
    fn a_window_goes_back_as_its_data_is_taken() {
        let budget = Budget::new(1 << 20);
        let mut credit = Credit::new(INITIAL_WINDOW, Some(budget.clone()));
        let received = 40_000;
        credit.shrink(received);
        assert_eq!(budget.used(), received - MIN_WINDOW);
        credit.lend(30_000);
        credit.release();
        credit.shrink(received);
        assert_eq!(budget.used(), 10_000 - MIN_WINDOW);
        drop(credit);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn windows_come_out_of_the_budget_and_go_back() {
        let budget = Budget::new(INITIAL_WINDOW);
        let first = Credit::new(1 << 20, Some(budget.clone()));
        let second = Credit::new(1 << 20, Some(budget.clone()));
        assert_eq!((first.window, second.window), (INITIAL_WINDOW, MIN_WINDOW));
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }
}
