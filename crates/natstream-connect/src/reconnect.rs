//! How long to wait before the next attempt to connect.

use std::panic::resume_unwind;
use std::time::Duration;

use rand::Rng as _;

use crate::end::Patience;
use crate::observe::Signals;

/// The longest wait before the first reconnect attempt; it doubles with each attempt. A server that
/// restarts cleanly is back within some 20 ms.
const FIRST_DELAY: Duration = Duration::from_millis(20);

/// The longest wait between two attempts. async-nats' own is 4 s, and streams are lost after 30 s
/// without a connection.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// The longest wait after the credentials were refused: nothing changes within milliseconds then, and a server that counts
/// failed logins is not to be stormed.
const REFUSED_DELAY: Duration = Duration::from_secs(1);

/// The wait before a reconnect attempt: exponential with full jitter, so that the clients of a
/// server that died do not come back in step. `wait` stands in for all but the first.
pub(crate) fn delay(signals: &Signals, patience: &Patience, wait: Option<Duration>, attempt: usize) -> Duration {
    if signals.is_closing() {
        return abandon();
    }
    if !signals.is_attached() {
        // The first connect tries every server once, and a user waits for it.
        return Duration::ZERO;
    }
    let usual = match wait {
        Some(wait) if attempt > 1 => spread(wait, random()),
        _ => jittered(attempt, random()),
    };
    match patience.is_refused() {
        true => usual.max(REFUSED_DELAY / 2 + share(REFUSED_DELAY / 2, random())),
        false => usual,
    }
}

/// A wait that was asked for, and up to a quarter more.
fn spread(wait: Duration, random: u64) -> Duration {
    wait.saturating_add(share(wait / 4, random))
}

fn share(limit: Duration, random: u64) -> Duration {
    limit.mul_f64(random as f64 / u64::MAX as f64)
}

/// `random` shares out the time up to the limit of this attempt.
fn jittered(attempt: usize, random: u64) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let limit = FIRST_DELAY
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(LONGEST_DELAY);
    share(limit, random)
}

/// Ends the connection task of async-nats, from inside it.
///
/// While async-nats is reconnecting it looks at nothing else: neither a drain nor the end of the
/// last client stops it, and a connection that was closed or given up would come back. Unwinding is the only way out of its loop. It is safe there (this is called between two
/// attempts, where nothing is held but the connection's own things, which the unwinding drops), it
/// is silent (no panic hook runs), and tokio keeps it inside the task.
fn abandon() -> Duration {
    if cfg!(panic = "unwind") {
        resume_unwind(Box::new("the connection was closed or given up while it was down"));
    }
    // With `panic = "abort"` the task stays, and waits for ever.
    Duration::MAX
}

/// For jitter, and the order of servers.
pub(crate) fn random() -> u64 {
    rand::rng().next_u64()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn patient() -> Patience {
        Patience::new(None, None, true)
    }

    #[test]
    fn the_first_connect_does_not_wait() {
        assert_eq!(delay(&Signals::default(), &patient(), None, 5), Duration::ZERO);
    }

    #[test]
    fn waits_that_were_asked_for_are_kept() {
        let signals = Signals::default();
        signals.attach(Arc::default());
        let wait = Some(Duration::from_secs(2));
        assert!(delay(&signals, &patient(), wait, 1) <= FIRST_DELAY);
        for attempt in [2, 3, usize::MAX] {
            let delay = delay(&signals, &patient(), wait, attempt).as_millis();
            assert!((2000..=2500).contains(&delay), "{delay}");
        }
        assert_eq!(spread(Duration::MAX, u64::MAX), Duration::MAX);
    }

    #[test]
    fn refused_credentials_are_not_tried_again_at_once() {
        let signals = Signals::default();
        signals.attach(Arc::default());
        let patience = patient();
        for error in [None, Some("authorization violation")] {
            patience.allows_attempt(1, error).unwrap();
        }
        let delay = delay(&signals, &patience, None, 1);
        assert!((REFUSED_DELAY / 2..=REFUSED_DELAY).contains(&delay), "{delay:?}");
    }

    #[test]
    fn closing_ends_the_task_that_asks() {
        let signals = Arc::new(Signals::default());
        signals.close(crate::EndReason::Closed);
        let delay = std::panic::AssertUnwindSafe(|| delay(&signals, &patient(), None, 1));
        assert!(std::panic::catch_unwind(delay).is_err());
    }

    #[test]
    fn the_delay_doubles_up_to_a_second() {
        let longest: Vec<u128> = (0..9).map(|attempt| jittered(attempt, u64::MAX).as_millis()).collect();
        assert_eq!(longest, [20, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(jittered(usize::MAX, u64::MAX), LONGEST_DELAY);
        assert_eq!(jittered(9, 0), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn the_delay_never_exceeds_a_second(attempt: usize, random: u64) {
            prop_assert!(jittered(attempt, random) <= LONGEST_DELAY);
        }
    }
}
