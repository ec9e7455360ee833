//! A limit on how often something is answered.

use parking_lot::Mutex;
use tokio::time::Instant;

/// Allows so many things a second, whatever a peer sends.
#[derive(Debug)]
pub struct RateLimit {
    per_second: u32,
    /// The second that is counted, and how many there were in it.
    window: Mutex<(Instant, u32)>,
}

impl RateLimit {
    /// Allows `per_second` things in each second that begins with one of them.
    #[must_use]
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second,
            window: Mutex::new((now, 0)),
        }
    }

    /// May one more be done at `now`? It counts if so.
    pub fn allow(&self, now: Instant) -> bool {
        let mut window = self.window.lock();
        if now.saturating_duration_since(window.0).as_secs() >= 1 {
            *window = (now, 0);
        }
        let allowed = window.1 < self.per_second;
        window.1 += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only differences count")]
    fn each_second_has_its_own_allowance() {
        let start = Instant::now();
        let limit = RateLimit::new(2, start);
        let taken = |millis| {
            let now = start + Duration::from_millis(millis);
            (0..5).filter(|_| limit.allow(now)).count()
        };
        assert_eq!((taken(0), taken(999), taken(1000)), (2, 0, 2));
    }
}
