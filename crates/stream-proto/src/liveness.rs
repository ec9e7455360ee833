//! Is the peer there, and is the own connection up (rules 45, 48 and 49)?

use alloc::boxed::Box;
use core::time::Duration;

use crate::time::{Instant, Millis, earliest};

/// A 503 is a suspicion: it says that nobody is subscribed at this moment. This long without another ends it.
const CALM: Duration = Duration::from_secs(1);
/// This long with 503s all the time: the peer is gone.
const GONE: Duration = Duration::from_secs(5);
/// How often a suspected peer is probed.
const PROBE: Duration = Duration::from_millis(250);

/// The clocks of one side that judge the other, and its own connection.
#[derive(Debug)]
pub(crate) struct Liveness {
    heartbeat: Millis,
    outage_limit: Millis,
    /// Does silence count?
    is_watching: bool,
    silent: Option<Instant>,
    suspicion: Option<Box<Suspicion>>,
    /// Somebody has ended an alias of the own subject: when that is a verdict.
    farewell: Option<Instant>,
    /// When the own connection has been down for too long; set while it is down.
    outage: Option<Instant>,
}

#[derive(Debug)]
struct Suspicion {
    gone: Instant,
    calm: Instant,
    probe: Instant,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Nothing.
    Fine,
    /// Ask the suspected peer for a sign.
    Probe,
    /// Nobody was subscribed for 5 s.
    Gone,
    /// Nothing was heard for three heartbeats.
    Silent,
    /// The own connection is down for too long.
    Outage,
    /// An alias was ended, and the peer is silent since.
    Ended,
}

impl Liveness {
    pub(crate) fn new(heartbeat: Duration, outage_limit: Duration) -> Self {
        Self {
            heartbeat: heartbeat.into(),
            outage_limit: outage_limit.into(),
            is_watching: false,
            silent: None,
            suspicion: None,
            farewell: None,
            outage: None,
        }
    }

    /// A bare empty message: the peer has ended the alias, or another stream one of its own.
    pub(crate) fn farewell(&mut self, now: Instant) {
        if self.is_up() && self.farewell.is_none() {
            self.farewell = Some(now + GONE);
        }
    }

    /// The heartbeat interval.
    pub(crate) fn heartbeat(&self) -> Duration {
        self.heartbeat.into()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.outage.is_none()
    }

    /// From `now` on, silence counts.
    pub(crate) fn watch(&mut self, heartbeat: Duration, now: Instant) {
        self.heartbeat = heartbeat.into();
        self.is_watching = true;
        self.restart(now);
    }

    /// Silence does not count any more.
    pub(crate) fn unwatch(&mut self) {
        self.is_watching = false;
        self.silent = None;
    }

    /// A valid message of the peer.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.suspicion = None;
        self.farewell = None;
        self.restart(now);
    }

    /// The clocks begin anew.
    pub(crate) fn restart(&mut self, now: Instant) {
        if self.is_watching && self.is_up() {
            self.silent = Some(now + self.heartbeat() * 3);
        }
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.gone = now + GONE;
        }
        self.farewell = self.farewell.map(|_| now + GONE);
    }

    /// A 503 from the peer's subject. True when it begins a suspicion.
    pub(crate) fn no_responders(&mut self, now: Instant) -> bool {
        let is_new = self.is_up() && self.suspicion.is_none();
        if self.is_up() {
            let suspicion = self.suspicion.get_or_insert_with(|| {
                Box::new(Suspicion {
                    gone: now + GONE,
                    calm: now,
                    probe: now + PROBE,
                })
            });
            suspicion.calm = now + CALM;
        }
        is_new
    }

    pub(crate) fn disconnected(&mut self, now: Instant) {
        if self.is_up() {
            self.outage = Some(now + self.outage_limit.into());
            self.silent = None;
            self.suspicion = None;
            self.farewell = None;
        }
    }

    pub(crate) fn reconnected(&mut self, now: Instant) {
        self.outage = None;
        self.suspicion = None;
        self.restart(now);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let suspicion = self.suspicion.as_ref();
        let suspicion = suspicion.map(|suspicion| suspicion.gone.min(suspicion.calm).min(suspicion.probe));
        earliest(earliest(self.silent, self.outage), earliest(suspicion, self.farewell))
    }

    pub(crate) fn judge(&mut self, now: Instant) -> Judgement {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if passed(self.outage) {
            return Judgement::Outage;
        }
        if let Some(suspicion) = &mut self.suspicion {
            if suspicion.calm <= now {
                self.suspicion = None;
            } else if suspicion.gone <= now {
                return Judgement::Gone;
            } else if suspicion.probe <= now {
                suspicion.probe = now + PROBE;
                return Judgement::Probe;
            }
        }
        if passed(self.farewell) {
            return Judgement::Ended;
        }
        if passed(self.silent) {
            return Judgement::Silent;
        }
        Judgement::Fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: Duration = Duration::from_secs(5);
    const LIMIT: Duration = Duration::from_secs(30);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn watching() -> Liveness {
        let mut liveness = Liveness::new(H, LIMIT);
        liveness.watch(H, at(0));
        liveness
    }

    /// The judgements that are not `Fine`, each with its moment, with a 503 at each of `refusals`.
    fn judged(liveness: &mut Liveness, refusals: &[u64], until: u64) -> alloc::vec::Vec<(u64, Judgement)> {
        let mut judged = alloc::vec::Vec::new();
        for now in 0..=until {
            if refusals.contains(&now) {
                liveness.no_responders(at(now));
            }
            match liveness.judge(at(now)) {
                Judgement::Fine => {}
                judgement => judged.push((now, judgement)),
            }
        }
        judged
    }

    #[test]
    fn silence_counts_three_heartbeats_from_the_last_message() {
        let mut liveness = watching();
        liveness.heard(at(2000));
        assert_eq!(liveness.next(), Some(at(17_000)));
        assert_eq!(liveness.judge(at(16_999)), Judgement::Fine);
        assert_eq!(liveness.judge(at(17_000)), Judgement::Silent);
    }

    #[test]
    fn one_503_is_probed_for_a_second_and_then_forgotten() {
        let judged = judged(&mut watching(), &[0], 10_000);
        let probes: alloc::vec::Vec<_> = [250, 500, 750].map(|at| (at, Judgement::Probe)).into();
        assert_eq!(judged, probes);
    }

    #[test]
    fn five_seconds_of_503_are_a_verdict() {
        let refusals: alloc::vec::Vec<_> = (0..60).map(|n| n * 250).collect();
        let judged = judged(&mut watching(), &refusals, 5000);
        assert_eq!(judged.last(), Some(&(5000, Judgement::Gone)));
        assert!(
            judged[..judged.len() - 1]
                .iter()
                .all(|(_, judgement)| *judgement == Judgement::Probe)
        );
    }

    #[test]
    fn a_message_ends_the_suspicion() {
        let mut liveness = watching();
        liveness.no_responders(at(0));
        liveness.heard(at(4900));
        liveness.no_responders(at(4900));
        assert_ne!(liveness.judge(at(5500)), Judgement::Gone);
    }

    #[test]
    fn while_the_connection_is_down_only_the_outage_counts() {
        let mut liveness = watching();
        liveness.no_responders(at(0));
        liveness.disconnected(at(1000));
        liveness.no_responders(at(1000));
        assert_eq!(liveness.next(), Some(at(31_000)));
        liveness.reconnected(at(30_000));
        assert_eq!(liveness.next(), Some(at(45_000)));
        liveness.disconnected(at(31_000));
        assert_eq!(liveness.judge(at(61_000)), Judgement::Outage);
    }
}
