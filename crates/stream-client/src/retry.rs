//! When a call is made again (rule 28).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use stream_proto::{Code, LostCause, Status, Termination};

use crate::error::RequestError;

/// When a call is made again, and after how long. It is given to [`RequestBuilder::retry`](crate::RequestBuilder::retry).
///
/// | the call ended | asked again |
/// |---|---|
/// | nobody serves the subject; refused as unavailable, or for want of room | always: it was certainly not processed |
/// | unanswered; lost, failed or out of time before the first item | unless [`only_unprocessed`](Self::only_unprocessed) is set: the handler may run twice |
/// | lost, failed or out of time after items | with [`restart`](Self::restart), or with [`resume`](crate::RequestBuilder::resume) |
/// | the total deadline passed; cancelled; not valid or not permitted; the export allows for one response only; the responder broke the protocol | never |
///
/// "Failed" is what the responder marks as retryable, and the codes `UNKNOWN`, `RESOURCE_EXHAUSTED`, `ABORTED`, `INTERNAL`,
/// `UNAVAILABLE` and `DEADLINE_EXCEEDED`. The other codes would come back again; [`retry_if`](Self::retry_if) can say otherwise.
/// When a responder says how long to wait, that is waited at least. A wait that would outlast the total deadline is not
/// begun: the call ends with its last error.
///
/// Each try again takes from the [`RetryBudget`](crate::RetryBudget) of the pool, so that callers do not make an outage worse.
#[derive(Clone)]
pub struct RetryPolicy {
    retries: u32,
    backoff: Backoff,
    restart: bool,
    only_unprocessed: bool,
    attempt_deadline: Option<Duration>,
    predicate: Option<Predicate>,
}

type Predicate = Arc<dyn Fn(&RequestError) -> bool + Send + Sync>;

#[derive(Clone, Copy, Debug)]
enum Backoff {
    Fixed(Duration),
    Exponential { first: Duration, max: Duration },
}

impl RetryPolicy {
    /// Up to `retries` more attempts after the first, with the same pause before each.
    #[must_use]
    pub fn fixed(retries: u32, delay: Duration) -> Self {
        Self::new(retries, Backoff::Fixed(delay))
    }

    /// Up to `retries` more attempts after the first, with pauses that grow: each is drawn at random between nothing and a
    /// bound, which begins with 100 ms and doubles up to 10 s (full jitter).
    #[must_use]
    pub fn exponential(retries: u32) -> Self {
        Self::exponential_between(retries, Duration::from_millis(100), Duration::from_secs(10))
    }

    /// As [`exponential`](Self::exponential), with a bound that begins with `first` and doubles up to `max`.
    #[must_use]
    pub fn exponential_between(retries: u32, first: Duration, max: Duration) -> Self {
        Self::new(retries, Backoff::Exponential { first, max })
    }

    fn new(retries: u32, backoff: Backoff) -> Self {
        Self {
            retries,
            backoff,
            restart: false,
            only_unprocessed: false,
            attempt_deadline: None,
            predicate: None,
        }
    }

    /// Asks again from the beginning also after items were delivered: they come once more then, and
    /// [`Responses::attempt`](crate::Responses::attempt) says so.
    #[must_use]
    pub fn restart(mut self) -> Self {
        self.restart = true;
        self
    }

    /// Asks again only what was certainly not processed, for calls whose handler must not run twice.
    #[must_use]
    pub fn only_unprocessed(mut self) -> Self {
        self.only_unprocessed = true;
        self
    }

    /// Time for each attempt, within the total deadline of the call. The handler is told the smaller of the two.
    #[must_use]
    pub fn attempt_deadline(mut self, deadline: Duration) -> Self {
        self.attempt_deadline = Some(deadline);
        self
    }

    /// Decides which errors are worth another attempt, in place of the codes above. Whether one is safe is not its to say:
    /// after items, and with [`only_unprocessed`](Self::only_unprocessed), the table above holds.
    #[must_use]
    pub fn retry_if(mut self, predicate: impl Fn(&RequestError) -> bool + Send + Sync + 'static) -> Self {
        self.predicate = Some(Arc::new(predicate));
        self
    }

    pub(crate) fn attempt_limit(&self) -> Option<Duration> {
        self.attempt_deadline
    }

    /// How long to wait before the next attempt after `failures` in a row, or `None` when there is none.
    ///
    /// `may_continue` says that nothing was delivered yet, or that the caller can go on from where it is.
    pub(crate) fn delay(&self, ended: &Ended<'_>, failures: u32, may_continue: bool) -> Option<Duration> {
        let is_safe =
            (ended.is_unprocessed() && may_continue) || (!self.only_unprocessed && (may_continue || self.restart));
        let is_worth_it = match &self.predicate {
            Some(predicate) => !ended.is_final() && predicate(ended.error),
            None => ended.may_go_better(),
        };
        if failures > self.retries || !is_safe || !is_worth_it {
            return None;
        }
        let pause = match self.backoff {
            Backoff::Fixed(delay) => delay,
            Backoff::Exponential { first, max } => full_jitter(first, max, failures - 1),
        };
        Some(pause.max(ended.retry_after()))
    }
}

/// A random time up to `first` × 2^`doublings`, and at most `max`.
fn full_jitter(first: Duration, max: Duration, doublings: u32) -> Duration {
    let bound = first
        .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
        .min(max);
    bound.mul_f64(f64::from(natstream_connect::random_u32()) / f64::from(u32::MAX))
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) termination: &'a Termination,
    pub(crate) error: &'a RequestError,
    /// The total deadline of the call has passed.
    pub(crate) is_out_of_time: bool,
}

impl Ended<'_> {
    fn status(&self) -> Option<&Status> {
        match self.termination {
            Termination::Failed(status) | Termination::Refused(status) => Some(status),
            _ => None,
        }
    }

    /// Did certainly no handler run?
    fn is_unprocessed(&self) -> bool {
        match self.termination {
            Termination::NoResponders | Termination::Refused(_) => true,
            Termination::Failed(status) => status.not_processed,
            _ => false,
        }
    }

    /// Is it the end, whatever anybody thinks of it?
    fn is_final(&self) -> bool {
        let is_final = matches!(
            self.termination,
            Termination::Cancelled
                | Termination::Ended { .. }
                | Termination::NotPermitted(_)
                | Termination::Protocol(_)
                // Of an export that allows for one response only.
                | Termination::Lost {
                    cause: LostCause::SingleResponse,
                    ..
                }
        );
        is_final || self.is_out_of_time
    }

    fn may_go_better(&self) -> bool {
        let by_code = |status: &Status| {
            let codes = [
                Code::Unknown,
                Code::ResourceExhausted,
                Code::Aborted,
                Code::Internal,
                Code::Unavailable,
                Code::DeadlineExceeded,
            ];
            status.retryable || codes.contains(&status.code)
        };
        !self.is_final() && self.status().is_none_or(by_code)
    }

    fn retry_after(&self) -> Duration {
        self.status().and_then(|status| status.retry_after).unwrap_or_default()
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("retries", &self.retries)
            .field("backoff", &self.backoff)
            .field("restart", &self.restart)
            .field("only_unprocessed", &self.only_unprocessed)
            .field("attempt_deadline", &self.attempt_deadline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: Duration = Duration::from_millis(500);

    fn delay(policy: &RetryPolicy, termination: &Termination, failures: u32, delivered: bool) -> Option<Duration> {
        let error = RequestError::from_termination("s", 0, termination).expect("a failure");
        let ended = Ended {
            termination,
            error: &error,
            is_out_of_time: false,
        };
        policy.delay(&ended, failures, !delivered)
    }

    fn failed(code: Code) -> Termination {
        Termination::Failed(Status::new(code, ""))
    }

    fn lost() -> Termination {
        Termination::Lost {
            items: 0,
            cause: LostCause::Gone,
        }
    }

    #[test]
    fn only_so_many_attempts_follow() {
        let policy = RetryPolicy::fixed(2, D);
        let nobody = Termination::NoResponders;
        assert_eq!(delay(&policy, &nobody, 1, false), Some(D));
        assert_eq!(delay(&policy, &nobody, 2, false), Some(D));
        assert_eq!(delay(&policy, &nobody, 3, false), None);
        assert_eq!(delay(&RetryPolicy::fixed(0, D), &nobody, 1, false), None);
    }

    #[test]
    fn after_items_only_a_restart_asks_again() {
        for end in [
            lost(),
            failed(Code::Unknown),
            Termination::TimedOut(stream_proto::Clock::Idle),
        ] {
            assert_eq!(delay(&RetryPolicy::fixed(1, D), &end, 1, true), None, "{end:?}");
            assert_eq!(
                delay(&RetryPolicy::fixed(1, D).restart(), &end, 1, true),
                Some(D),
                "{end:?}"
            );
            assert_eq!(delay(&RetryPolicy::fixed(1, D), &end, 1, false), Some(D), "{end:?}");
        }
    }

    #[test]
    fn what_may_have_been_processed_is_not_asked_again_when_that_is_forbidden() {
        let policy = RetryPolicy::fixed(1, D).only_unprocessed().restart();
        let refused = Termination::Refused(Status::new(Code::Unavailable, ""));
        for end in [Termination::NoResponders, refused] {
            assert_eq!(delay(&policy, &end, 1, false), Some(D), "{end:?}");
        }
        for end in [Termination::Unanswered, lost(), failed(Code::Unavailable)] {
            assert_eq!(delay(&policy, &end, 1, false), None, "{end:?}");
        }
    }

    #[test]
    fn what_would_come_back_again_is_not_asked_again() {
        let policy = RetryPolicy::fixed(1, D).restart();
        for code in [
            Code::InvalidArgument,
            Code::NotFound,
            Code::PermissionDenied,
            Code::Unimplemented,
        ] {
            assert_eq!(delay(&policy, &failed(code), 1, false), None, "{code:?}");
            let flagged = Termination::Failed(Status {
                retryable: true,
                ..Status::new(code, "")
            });
            assert_eq!(
                delay(&policy, &flagged, 1, false),
                Some(D),
                "the responder knows better"
            );
        }
        let picky = policy.retry_if(|error| error.status().is_some_and(|status| status.code == Code::NotFound));
        assert_eq!(delay(&picky, &failed(Code::NotFound), 1, false), Some(D));
        assert_eq!(delay(&picky, &lost(), 1, false), None);
        assert_eq!(delay(&picky, &Termination::Cancelled, 1, false), None);
    }

    #[test]
    fn pauses_stay_below_a_bound_that_doubles_and_respect_the_responder() {
        let policy = RetryPolicy::exponential_between(9, Duration::from_millis(100), Duration::from_millis(500));
        for (failures, bound) in [(1, 100), (2, 200), (3, 400), (4, 500), (9, 500)] {
            for _ in 0..50 {
                let pause = delay(&policy, &Termination::NoResponders, failures, false).expect("a retry");
                assert!(pause <= Duration::from_millis(bound), "{pause:?} after {failures}");
            }
        }
        let busy = Termination::Refused(Status {
            retry_after: Some(Duration::from_secs(3)),
            ..Status::new(Code::ResourceExhausted, "")
        });
        assert_eq!(delay(&policy, &busy, 1, false), Some(Duration::from_secs(3)));
        assert!(full_jitter(Duration::from_secs(1), Duration::from_secs(9), u32::MAX) <= Duration::from_secs(9));
    }
}
