//! A token bucket.

use std::{num::NonZeroU64, time::Duration};

use tokio::time::Instant;

/// What a link that was idle may send at once, as time at its rate. A timer of tokio is late by
/// a millisecond or more; the bytes of that time are caught up with.
const BURST: Duration = Duration::from_millis(20);

/// The bytes that go in one piece, as a part of a second: half of the burst.
const PIECES_PER_SECOND: u64 = 100;

/// Lets bytes pass at a rate, which may change at any time.
///
/// It keeps the moment at which all bytes so far have gone at the rate. That is never later than
/// now, except by the rounding of the last piece.
#[derive(Debug)]
pub(super) struct Bucket {
    gone: Instant,
}

impl Bucket {
    pub(super) fn new(now: Instant) -> Self {
        Self { gone: now }
    }

    /// How many of `len` bytes may go now, or when some may.
    pub(super) fn take(&mut self, rate: NonZeroU64, len: usize, now: Instant) -> Result<usize, Instant> {
        let piece = (rate.get() / PIECES_PER_SECOND).max(1);
        let piece = usize::try_from(piece).map_or(len, |piece| piece.min(len));
        let time = duration(rate, piece);
        let idle_since = now.checked_sub(BURST.max(time)).unwrap_or(now);
        let gone = self.gone.max(idle_since) + time;
        if gone > now {
            return Err(gone);
        }
        self.gone = gone;
        Ok(piece)
    }

    /// Gives back bytes that were taken and could not go.
    pub(super) fn refund(&mut self, rate: NonZeroU64, len: usize) {
        self.gone = self.gone.checked_sub(duration(rate, len)).unwrap_or(self.gone);
    }
}

/// How long `len` bytes take, rounded up: never faster than the limit.
fn duration(rate: NonZeroU64, len: usize) -> Duration {
    let nanos = (len as u128 * 1_000_000_000).div_ceil(u128::from(rate.get()));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long `len` bytes take through a bucket that waits as told.
    fn time_of(rate: u64, mut len: usize) -> Duration {
        let rate = NonZeroU64::new(rate).unwrap();
        let start = Instant::now();
        let mut now = start;
        let mut bucket = Bucket::new(start);
        while len > 0 {
            match bucket.take(rate, len, now) {
                Ok(taken) => len -= taken,
                Err(at) => {
                    assert!(at > now, "a wait that is over");
                    now = at;
                }
            }
        }
        now - start
    }

    #[test]
    fn bytes_take_their_time() {
        for (rate, len) in [
            (1, 3),
            (10, 20),
            (1_000, 1_000),
            (1_000_000, 3_000_000),
            (1 << 40, 1 << 38),
        ] {
            let exact = duration(NonZeroU64::new(rate).unwrap(), len);
            let taken = time_of(rate, len);
            assert!(taken >= exact, "{rate}: {taken:?} < {exact:?}");
            assert!(
                taken <= exact + Duration::from_millis(1),
                "{rate}: {taken:?} > {exact:?}"
            );
        }
    }

    #[test]
    fn an_idle_time_saves_no_more_than_the_burst() {
        let rate = NonZeroU64::new(1_000_000).unwrap();
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let later = start + Duration::from_secs(60);
        let mut at_once = 0;
        while let Ok(taken) = bucket.take(rate, usize::MAX, later) {
            at_once += taken;
        }
        assert_eq!(at_once, 20_000);
    }

    #[test]
    fn what_could_not_go_is_given_back() {
        let rate = NonZeroU64::new(1_000).unwrap();
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let at = bucket.take(rate, 10, start).unwrap_err();
        assert_eq!(bucket.take(rate, 10, at), Ok(10));
        bucket.refund(rate, 10);
        assert_eq!(bucket.take(rate, 10, at), Ok(10));
        bucket.take(rate, 10, at).unwrap_err();
    }
}
