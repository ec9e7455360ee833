//! When to leave a server that the connection should not stay with.

use std::time::Duration;

use tokio::time::Instant;

/// Over how long the clients of a server in lame duck mode leave it. nats-server gives them 10 s before it begins to cut.
/// Those of a server that is taken off the list leave it over the same time.
const SPREAD: Duration = Duration::from_secs(1);

/// When to leave a server: soon, but not with all of its other clients at once (ADR-5).
#[derive(Debug, Default)]
pub(crate) struct Departure {
    planned: Option<(u64, Instant)>,
    /// The epoch that was left last.
    left: u64,
}

impl Departure {
    /// Once for each connection that is to be left.
    pub(crate) fn is_due(&mut self, epoch: u64, leaving: bool, now: Instant, random: u64) -> bool {
        if !leaving || epoch == self.left {
            self.planned = None;
            return false;
        }
        let share = random as f64 / u64::MAX as f64;
        let (planned, at) = *self.planned.get_or_insert_with(|| (epoch, now + SPREAD.mul_f64(share)));
        if planned != epoch {
            self.planned = None;
            return false;
        }
        if at <= now {
            self.left = epoch;
        }
        at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::now;

    #[test]
    fn a_server_is_left_once_and_not_at_once() {
        let start = now();
        let late = start + SPREAD * 9;
        let mut departure = Departure::default();
        assert!(!departure.is_due(1, false, start, u64::MAX));
        assert!(!departure.is_due(1, true, start, u64::MAX / 2));
        assert!(!departure.is_due(1, true, start + SPREAD / 4, 0));
        assert!(departure.is_due(1, true, start + SPREAD, 0));
        assert!(!departure.is_due(1, true, late, 0), "once");
        assert!(departure.is_due(2, true, late, 0), "the next one too");
        assert!(!departure.is_due(3, true, late, u64::MAX));
        assert!(!departure.is_due(3, false, late, 0), "it may stay after all");
    }
}
