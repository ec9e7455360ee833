//! The caller's side of credit (rules 29 to 34).

use super::config::{INITIAL_WINDOW, MAX_WINDOW, MIN_WINDOW, NEAR_WINDOW};
use super::pace::{Pace, Use};
use crate::budget::{Budget, Loan, Share};
use crate::time::Instant;

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
    pace: Pace,
    /// What the window takes out of the budget: all that is granted, but for what each stream has always.
    loan: Loan,
    /// Its part of what there is for windows above [`NEAR_WINDOW`], since it asked for one.
    share: Option<Share>,
}

impl Credit {
    /// The limit of the Open, which leaves at `now`, is the first window.
    pub(super) fn new(max_window: u64, budget: Option<Budget>, now: Instant) -> Self {
        let max_window = max_window.clamp(MIN_WINDOW, MAX_WINDOW);
        let initial = INITIAL_WINDOW.min(max_window);
        let mut loan = Loan::from(budget);
        let window = if loan.set(initial - MIN_WINDOW) {
            initial
        } else {
            MIN_WINDOW
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
            pace: Pace::new(now),
            loan,
            share: None,
        }
    }

    /// The unit at `position` was accepted.
    pub(super) fn arrived(&mut self, now: Instant, position: u64) {
        self.pace.arrived(now, position);
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

    /// Doubles the window, up to [`NEAR_WINDOW`], when the last unit, at `position`, was the last that a limit allowed: the
    /// responder stood still while the user had nothing left to read.
    ///
    /// The sender overruns a limit by at most one unit (rule 30), so the unit that crosses it shows that it was held up. A
    /// producer that stops there by chance costs memory only, up to the maximum.
    pub(super) fn grow(&mut self, position: u64, next: u64) {
        let held_up = |limit: u64| position < limit && limit <= next;
        if self.grown == next || !(held_up(self.granted) || held_up(self.granted_before)) {
            return;
        }
        self.grown = next;
        self.widen((self.window * 2).min(self.max_window).min(NEAR_WINDOW));
    }

    /// Makes the window what the pace asks for: larger where the round trip is the reason that it is used up, smaller
    /// where it lasts long, and never above its share of the connection.
    fn adapt(&mut self, now: Instant) {
        // What the responder does not keep cannot be on its way.
        let most = self.max_window.min(self.retention);
        match self.pace.look(now, self.consumed) {
            Use::Fast if self.window >= NEAR_WINDOW && self.window < most => {
                if self.share.is_none() {
                    self.share = self.loan.budget().map(Share::of);
                }
                self.widen((self.window * 2).min(most).min(self.share()));
            }
            // Surer than a unit that happens to be the last, which is what `grow` goes by.
            Use::Fast if self.window < NEAR_WINDOW => {
                self.widen((self.window * 2).min(self.max_window).min(NEAR_WINDOW))
            }
            Use::Slow => {
                self.share = None;
                self.window = (self.window / 2).max(INITIAL_WINDOW.min(self.window));
            }
            Use::Fast | Use::Even => {}
        }
        if self.share.is_some() {
            // Others want theirs.
            self.window = self.window.min(self.share());
        }
    }

    fn widen(&mut self, window: u64) {
        if window > self.window && self.hold(window) {
            self.window = window;
        }
    }

    /// Takes out of the budget what is missing to `window`, or gives back what is more. What was granted cannot be taken
    /// back: until it is used, it counts.
    fn hold(&mut self, window: u64) -> bool {
        let granted = self.granted.saturating_sub(self.consumed);
        self.loan.set(window.max(granted).saturating_sub(MIN_WINDOW))
    }

    /// The largest window while others want large ones too.
    fn share(&self) -> u64 {
        let share = self.share.as_ref().map_or(u64::MAX, Share::bytes);
        share.max(NEAR_WINDOW)
    }

    /// Can a sender at `position` go on only when it hears from here? Its limit or its retention may hold it up.
    pub(super) fn holds_up(&self, position: u64) -> bool {
        let kept = self.retention.min(NEAR_WINDOW);
        position >= self.granted.min(self.reported.saturating_add(kept))
    }

    /// Is a STATE due (rule 32)?
    pub(super) fn is_due(&self, next: u64) -> bool {
        // Half of a retention of 1 is still something: nothing must not be reason enough. A large window is no reason to
        // say less: the responder may keep no more than that.
        let half = (self.window.min(self.retention).min(NEAR_WINDOW) / 2).max(1);
        (self.consumed + self.window).saturating_sub(self.granted) >= half || next - self.reported >= half
    }

    /// The limit to send; it counts as sent.
    pub(super) fn grant(&mut self, now: Instant, next: u64) -> u64 {
        self.adapt(now);
        let limit = self.granted.max(self.consumed + self.window);
        self.pace.granted(now, self.granted, limit);
        if limit > self.granted {
            self.granted_before = self.granted;
            self.granted = limit;
        }
        self.reported = next;
        // It only gives back: the window was paid for when it grew.
        self.hold(self.window);
        limit
    }

    /// Nothing more is granted: others may have what the window took out of the budget and buffered data does not need.
    pub(super) fn shrink(&mut self, next: u64) {
        self.share = None;
        let needed = self.outstanding(next).saturating_sub(MIN_WINDOW);
        self.loan.set(needed.min(self.loan.taken()));
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(millis)
    }

    #[test]
    fn a_state_is_due_when_half_the_window_can_be_granted_or_was_received() {
        let mut credit = Credit::new(1 << 20, None, at(0));
        let half = INITIAL_WINDOW / 2;
        assert!(!credit.is_due(half - 1));
        assert!(credit.is_due(half), "received, though not consumed");
        assert_eq!(
            credit.grant(at(1), half),
            INITIAL_WINDOW,
            "a limit rises by consumption only"
        );
        assert!(!credit.is_due(half));
        credit.lend(half);
        assert!(!credit.is_due(half), "lent is not taken");
        credit.release();
        assert!(credit.is_due(half));
        assert_eq!(credit.grant(at(2), half), INITIAL_WINDOW + half);
    }

    #[test]
    fn the_window_doubles_only_when_a_limit_was_reached() {
        let mut credit = Credit::new(256 * 1024, None, at(0));
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
        let mut credit = Credit::new(INITIAL_WINDOW, Some(budget.clone()), at(0));
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
    fn a_large_window_is_no_reason_to_say_less() {
        let mut credit = Credit::new(8 << 20, None, at(0));
        credit.window = 8 << 20;
        assert_eq!(credit.grant(at(0), 0), 8 << 20);
        let half = NEAR_WINDOW / 2;
        assert!(!credit.is_due(half - 1));
        assert!(credit.is_due(half), "the responder may keep no more than twice that");
        assert!(!credit.holds_up(NEAR_WINDOW - 1));
        assert!(credit.holds_up(NEAR_WINDOW), "or wait for this");
    }

    #[test]
    fn windows_come_out_of_the_budget_and_go_back() {
        let budget = Budget::new(INITIAL_WINDOW);
        let first = Credit::new(1 << 20, Some(budget.clone()), at(0));
        let second = Credit::new(1 << 20, Some(budget.clone()), at(0));
        assert_eq!((first.window, second.window), (INITIAL_WINDOW, MIN_WINDOW));
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }
}
