//! How well a server does: a score that forgets, and when to try it again.

use std::time::Duration;

use crate::error::ConnectErrorKind;

/// A failure counts half as much after this time.
const HALF_LIFE: Duration = Duration::from_secs(30);

/// Longest wait after the first failed dial; it doubles with each one in a row.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// Longest wait between two dials.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// One server, as far as dials and lost connections tell. Times count from an origin that the owner chooses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// Failures, each worth less as time passes.
    penalty: f64,
    as_of: Duration,
    failures_in_a_row: u32,
    failed_at: Option<Duration>,
    /// Why the last dial failed.
    failure: Option<ConnectErrorKind>,
    /// No dial before this.
    not_before: Duration,
}

impl Health {
    /// Between 0, for one that always fails, and 1.
    pub(crate) fn score(&self, now: Duration) -> f64 {
        1.0 / (1.0 + self.penalty_at(now))
    }

    /// When it may be dialled.
    pub(crate) fn not_before(&self) -> Duration {
        self.not_before
    }

    /// Notes why a dial failed; whether that is another reason than before.
    pub(crate) fn note_failure(&mut self, kind: ConnectErrorKind) -> bool {
        self.failure.replace(kind) != Some(kind)
    }

    /// Why the last dial failed.
    pub(crate) fn failure(&self) -> Option<ConnectErrorKind> {
        self.failure
    }

    /// Has the last dial failed?
    pub(crate) fn is_failing(&self) -> bool {
        self.failures_in_a_row > 0
    }

    /// A dial succeeded.
    pub(crate) fn succeeded(&mut self) {
        self.failures_in_a_row = 0;
        self.failed_at = None;
        self.failure = None;
        self.not_before = Duration::ZERO;
    }

    /// A dial that began at `since` failed; `share`, between 0 and 1, is drawn at random, so that clients do not come back in
    /// step. Of several that were under way together the first one counts.
    pub(crate) fn failed(&mut self, since: Duration, now: Duration, share: f64) {
        if self.failed_at.is_some_and(|at| since <= at) {
            return;
        }
        self.failed_at = Some(now);
        self.count(now);
        let doublings = self.failures_in_a_row.min(20);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let longest = FIRST_BACKOFF.saturating_mul(1 << doublings).min(LONGEST_BACKOFF);
        // At least half of it: a server that is down must not be dialled in a loop by chance.
        self.not_before = now + longest.mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0);
    }

    /// A connection to it was lost.
    pub(crate) fn lost(&mut self, now: Duration) {
        self.count(now);
    }

    fn count(&mut self, now: Duration) {
        self.penalty = self.penalty_at(now) + 1.0;
        self.as_of = now;
    }

    fn penalty_at(&self, now: Duration) -> f64 {
        let age = now.saturating_sub(self.as_of);
        self.penalty * 0.5_f64.powf(age.as_secs_f64() / HALF_LIFE.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn failures_are_forgotten_by_half_each_half_minute() {
        let mut health = Health::default();
        assert_eq!(health.score(S), 1.0);
        health.lost(S);
        assert_eq!(health.score(S), 0.5);
        assert_eq!(health.score(S + HALF_LIFE), 1.0 / 1.5);
        assert!(health.score(S + 20 * HALF_LIFE) > 0.999);
    }

    #[test]
    fn the_wait_doubles_and_begins_anew_after_a_success() {
        let mut health = Health::default();
        let mut waits = Vec::new();
        let mut now = S;
        for _ in 0..11 {
            health.failed(now, now, 1.0);
            waits.push((health.not_before() - now).as_millis());
            now = health.not_before();
        }
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[10], 30_000);
        health.succeeded();
        assert_eq!(health.not_before(), Duration::ZERO);
        health.failed(now, now, 0.0);
        assert_eq!(health.not_before() - now, FIRST_BACKOFF / 2);
        health.failed(now, now, 1.0);
        assert_eq!(health.not_before() - now, FIRST_BACKOFF / 2, "it was under way before");
        for _ in 0..100 {
            now = health.not_before();
            health.failed(now, now, 1.0);
        }
        assert_eq!(health.not_before() - now, LONGEST_BACKOFF);
    }
}
