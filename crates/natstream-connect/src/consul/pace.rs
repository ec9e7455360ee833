//! When to ask next, and after what.

use std::time::Duration;

/// The longest pause after the first failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What an answer that came in good order is followed by: a service that flaps is asked about ten times in a second at most.
const BREATH: Duration = Duration::from_millis(100);

/// The point in Consul's history that is known: `X-Consul-Index`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Index(u64);

impl Index {
    /// What to ask with; 0 asks for what there is, without waiting.
    pub(super) fn get(self) -> u64 {
        self.0
    }

    /// Takes over the index of an answer. One that goes backwards says that history has begun again (a restored snapshot, a new
    /// cluster), and the next question asks for everything; 0 counts as 1, since one cannot wait with it.
    pub(super) fn advance(&mut self, next: Option<u64>) {
        self.0 = match next.map(|next| next.max(1)) {
            None => 0,
            Some(next) if next < self.0 => 0,
            Some(next) => next,
        };
    }

    pub(super) fn forget(&mut self) {
        self.0 = 0;
    }
}

/// The pauses between questions.
#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: u32,
}

impl Pace {
    /// After an answer. One that was not held back though it has nothing new counts as a failure: something that does not
    /// know blocking queries must not be asked in a loop.
    pub(super) fn answered(&mut self, in_good_order: bool, random: u64) -> Duration {
        if in_good_order {
            self.failures = 0;
            return BREATH;
        }
        self.failed(random)
    }

    /// Exponential, and jittered over its second half: the clients of a Consul that comes back do not come back in step.
    pub(super) fn failed(&mut self, random: u64) -> Duration {
        let limit = FIRST_PAUSE
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        limit / 2 + (limit / 2).mul_f64(random as f64 / u64::MAX as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_goes_forward_or_back_to_the_beginning() {
        let mut index = Index::default();
        for (next, expected) in [
            (Some(7), 7),
            (Some(7), 7),
            (Some(9), 9),
            (Some(8), 0),
            (Some(8), 8),
            (None, 0),
            (Some(0), 1),
            (Some(0), 1),
            (Some(u64::MAX), u64::MAX),
        ] {
            index.advance(next);
            assert_eq!(index.get(), expected, "after {next:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_their_limit_and_begin_again() {
        let mut pace = Pace::default();
        let longest: Vec<u128> = (0..11).map(|_| pace.failed(u64::MAX).as_millis()).collect();
        assert_eq!(
            longest,
            [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]
        );
        assert_eq!(pace.failed(0), LONGEST_PAUSE / 2);
        assert_eq!(pace.answered(true, 0), BREATH);
        assert_eq!(pace.answered(false, u64::MAX), FIRST_PAUSE);
        pace.failures = u32::MAX;
        assert_eq!(pace.failed(u64::MAX), LONGEST_PAUSE);
    }
}
