//! How long a message that failed waits before its next attempt.

use std::time::Duration;

use crate::nanos;
use crate::pause::random;

/// Pauses that grow, half of each being random: messages that failed together come back apart.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    /// The whole pause after the first failure, after the second, and so on; the last one is used again.
    pauses: Vec<u64>,
    random: u64,
}

impl Backoff {
    /// `None` for no pause at all: nats-server would deliver the message again at once, and hundreds of times a second.
    pub(crate) fn new(pauses: &[Duration], seed: u64) -> Option<Self> {
        let pauses: Vec<u64> = pauses.iter().map(|pause| nanos(*pause)).collect();
        let is_fine = !pauses.is_empty() && !pauses.contains(&0);
        is_fine.then_some(Self { pauses, random: seed })
    }

    /// The pause, in nanoseconds, after attempt number `attempt`, counted from 1.
    pub(crate) fn pause(&mut self, attempt: u64) -> u64 {
        let last = self.pauses.len() - 1;
        let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(last).min(last);
        let whole = self.pauses[index];
        whole / 2 + random(&mut self.random) % (whole / 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_those_of_the_list_and_stay_between_a_half_and_the_whole() {
        let pauses = [Duration::from_nanos(100), Duration::from_nanos(1000)];
        let mut backoff = Backoff::new(&pauses, 7).expect("pauses");
        for (attempt, whole) in [(0, 100), (1, 100), (2, 1000), (3, 1000), (u64::MAX, 1000)] {
            let all: Vec<u64> = (0..100).map(|_| backoff.pause(attempt)).collect();
            assert!(all.iter().all(|pause| (whole / 2..=whole).contains(pause)), "{all:?}");
            assert!(all.iter().any(|pause| *pause != all[0]), "no two come back together");
        }
    }

    #[test]
    fn there_is_always_a_pause() {
        assert!(Backoff::new(&[], 1).is_none());
        assert!(Backoff::new(&[Duration::from_secs(1), Duration::ZERO], 1).is_none());
        let mut backoff = Backoff::new(&[Duration::MAX], 1).expect("a pause");
        assert!(backoff.pause(1) > 0);
    }
}
