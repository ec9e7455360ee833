//! How many attempts a pool makes beside the first ones.

use parking_lot::Mutex;
use tokio::time::Instant;

/// Bounds the attempts that a pool makes again, as a share of its calls: when a service is in trouble, its callers do not
/// multiply the load.
///
/// Each call puts in `ratio` of a token, and `per_second` tokens come by themselves; each try again takes one. At most what comes
/// in ten seconds is saved, or what a thousand calls put in, if that is more; a new budget begins with the former. When it is used up, calls end with the error that they have.
#[derive(Debug)]
pub struct RetryBudget {
    ratio: f64,
    per_second: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: f64,
    refilled: Option<Instant>,
}

/// Seconds for which unused tokens are kept.
const SAVED: f64 = 10.0;

impl RetryBudget {
    /// Tries again for `ratio` of all calls (0.2: every fifth), and for `per_second` beside these.
    ///
    /// A pool that is not told otherwise has `RetryBudget::new(0.2, 10)`.
    ///
    /// # Panics
    /// When `ratio` is negative or not a number.
    #[must_use]
    pub fn new(ratio: f64, per_second: u32) -> Self {
        assert!(
            ratio >= 0.0 && ratio.is_finite(),
            "the share of calls cannot be {ratio}"
        );
        let per_second = f64::from(per_second);
        Self {
            ratio,
            per_second,
            state: Mutex::new(State {
                tokens: per_second * SAVED,
                refilled: None,
            }),
        }
    }

    /// A call is made.
    pub(crate) fn deposit(&self, now: Instant) {
        let mut state = self.state.lock();
        self.refill(&mut state, now);
        // A service with many calls saves what ten seconds of them give, but the rate is not known: a thousand is plenty.
        let most = (self.per_second * SAVED).max(1000.0 * self.ratio);
        state.tokens = (state.tokens + self.ratio).min(most);
    }

    /// May another attempt be made?
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        self.refill(&mut state, now);
        let is_enough = state.tokens >= 1.0;
        if is_enough {
            state.tokens -= 1.0;
        }
        is_enough
    }

    fn refill(&self, state: &mut State, now: Instant) {
        let last = state.refilled.replace(now).unwrap_or(now);
        let most = (self.per_second * SAVED).max(state.tokens);
        let more = now.saturating_duration_since(last).as_secs_f64() * self.per_second;
        state.tokens = (state.tokens + more).min(most);
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(0.2, 10)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> Instant {
        Instant::now()
    }

    fn count(budget: &RetryBudget, now: Instant) -> usize {
        (0..10_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn a_share_of_the_calls_may_be_repeated() {
        let budget = RetryBudget::new(0.5, 0);
        let now = start();
        assert_eq!(count(&budget, now), 0);
        for _ in 0..100 {
            budget.deposit(now);
        }
        assert_eq!(count(&budget, now), 50);
        for _ in 0..1_000_000 {
            budget.deposit(now);
        }
        assert_eq!(count(&budget, now), 500, "what is saved is bounded");
    }

    #[test]
    fn a_pool_with_few_calls_may_repeat_some_every_second() {
        let budget = RetryBudget::new(0.0, 2);
        let now = start();
        assert_eq!(count(&budget, now), 20);
        assert_eq!(count(&budget, now + Duration::from_secs(3)), 6);
        assert_eq!(count(&budget, now + Duration::from_secs(3600)), 20);
    }
}
