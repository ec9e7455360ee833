//! What is measured of a stream, beside what its machine counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stream_proto::{CloseReason, Code, Instant, OutboundStats, Status};

use super::{State, StreamShared};
use crate::endpoint::EndpointShared;
use crate::stats::{Counters, Running, count};

/// Small, since every stream has one: 24 bytes.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// When the handler began, in ns; 0 before.
    began: u64,
    /// How long senders have waited, in ns. While one waits, the moment at which it began to is subtracted.
    stalled: u64,
    /// What the endpoint's counters have of the machine's, if that is anything.
    counted: Option<Box<OutboundStats>>,
}

impl Meter {
    /// The handler begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.began = now.as_nanos().max(1);
    }

    /// A sender begins to wait; none did.
    pub(super) fn stall(&mut self, now: Instant) {
        self.stalled = self.stalled.wrapping_sub(now.as_nanos());
    }

    /// It waits no more.
    pub(super) fn go_on(&mut self, now: Instant) {
        self.stalled = self.stalled.wrapping_add(now.as_nanos());
    }

    /// How long senders have waited until `now`; `waits` says whether one does.
    pub(super) fn stalled(&self, waits: bool, now: Instant) -> Duration {
        let since = if waits { now.as_nanos() } else { 0 };
        Duration::from_nanos(self.stalled.wrapping_add(since))
    }

    /// How long the call has lasted at `now`; zero when its handler has not begun.
    pub(super) fn lasted(&self, now: Instant) -> Duration {
        match self.began {
            0 => Duration::ZERO,
            began => Duration::from_nanos(now.as_nanos().saturating_sub(began)),
        }
    }

    /// Adds to the endpoint's counters what they do not have yet of `stats`, beside the items.
    pub(super) fn count(&mut self, stats: &OutboundStats, counters: &Counters) {
        let more = self.uncounted(stats);
        let is_any = [
            more.malformed,
            more.retransmitted,
            more.rewinds,
            more.suspicions,
            more.ignored,
        ]
        .iter()
        .any(|more| *more > 0);
        if is_any {
            counters.add_protocol(&more);
            self.counted = Some(Box::new(*stats));
        }
    }

    /// What of `stats` the endpoint's counters do not have. Items and bytes are left as they are.
    pub(super) fn uncounted(&self, stats: &OutboundStats) -> OutboundStats {
        let mut more = *stats;
        if let Some(counted) = &self.counted {
            more.malformed -= counted.malformed;
            more.retransmitted -= counted.retransmitted;
            more.rewinds -= counted.rewinds;
            more.suspicions -= counted.suspicions;
            more.ignored -= counted.ignored;
        }
        more
    }

    /// What a call that runs has counted, and its endpoint has not.
    pub(super) fn running(&self, stats: &OutboundStats, waits: bool, now: Instant) -> Running {
        Running {
            is_queued: self.began == 0,
            counts: self.uncounted(stats),
            stalled: self.stalled(waits, now),
            lasted: self.lasted(now),
        }
    }
}

impl StreamShared {
    /// Counts the stream once when it has ended.
    pub(super) fn count_end(&self, state: &mut State) {
        let (end, closed) = (state.outbound.end(), state.outbound.closed());
        if state.is_counted || (end.is_none() && closed.is_none()) {
            return;
        }
        let counters = &self.endpoint.counters;
        count(match (closed, end) {
            (None, Some(status)) if status.is_ok() => &counters.finished,
            (None | Some(CloseReason::Local | CloseReason::NotPermitted), status) => {
                let given_up = || match closed {
                    Some(CloseReason::NotPermitted) => Status::new(
                        Code::PermissionDenied,
                        "nats-server lets this user not answer the caller",
                    ),
                    _ => Status::new(Code::Aborted, "the stream was given up"),
                };
                // It may have been given up after its handler had said that all is well.
                let failure = status.filter(|status| !status.is_ok()).cloned();
                counters.error(&failure.unwrap_or_else(given_up));
                &counters.failed
            }
            (Some(_), _) => &counters.cancelled,
        });
        let stats = state.outbound.stats();
        counters.items.fetch_add(stats.items, Ordering::Relaxed);
        counters.bytes.fetch_add(stats.bytes, Ordering::Relaxed);
        // Nobody waits any more.
        counters.add_stalled(state.meter.stalled(false, Instant::default()));
        state.is_counted = true;
        self.count_protocol(state);
    }

    /// Adds to the endpoint's counters what they do not have yet, beside the items.
    pub(super) fn count_protocol(&self, state: &mut State) {
        let stats = state.outbound.stats();
        state.meter.count(&stats, &self.endpoint.counters);
    }

    /// The endpoint, for comparisons.
    pub(crate) fn endpoint(&self) -> *const EndpointShared {
        Arc::as_ptr(&self.endpoint)
    }

    /// What the call has counted, and its endpoint has not.
    pub(crate) fn running(&self) -> Running {
        let state = self.state.lock();
        let mut running = state
            .meter
            .running(&state.outbound.stats(), state.waker.is_some(), self.now());
        running.is_queued &= !state.handler_returned;
        if state.is_counted {
            (running.counts.items, running.counts.bytes, running.stalled) = Default::default();
        }
        if state.is_done {
            running.lasted = Default::default();
        }
        running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn waits_add_up() {
        let mut meter = Meter::default();
        meter.stall(at(100));
        assert_eq!(meter.stalled(true, at(130)), Duration::from_nanos(30));
        meter.go_on(at(150));
        assert_eq!(meter.stalled(false, at(500)), Duration::from_nanos(50));
        meter.stall(at(1000));
        meter.go_on(at(1001));
        assert_eq!(meter.stalled(false, at(1001)), Duration::from_nanos(51));
    }

    #[test]
    fn a_call_lasts_from_its_beginning() {
        let mut meter = Meter::default();
        assert_eq!(meter.lasted(at(7)), Duration::ZERO);
        meter.begin(at(0));
        assert_eq!(meter.lasted(at(7)), Duration::from_nanos(6));
    }

    #[test]
    fn what_was_counted_is_counted_once() {
        let (mut meter, counters) = (Meter::default(), Counters::default());
        let mut stats = OutboundStats::default();
        meter.count(&stats, &counters);
        stats.retransmitted = 3;
        for rewinds in [1, 1, 2] {
            stats.rewinds = rewinds;
            meter.count(&stats, &counters);
        }
        stats.retransmitted = 5;
        assert_eq!(meter.uncounted(&stats).retransmitted, 2);
        let counted = counters.snapshot();
        assert_eq!((counted.retransmitted, counted.rewinds), (3, 2));
    }

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Meter>(), 24);
    }
}
