//! How far away the responder is, and how fast it uses a window up.

use core::time::Duration;

use crate::time::Instant;

/// A window that lasts longer is larger than its stream needs, however far away the responder is.
const SLOW: Duration = Duration::from_secs(1);

/// So many round trips, if that is more.
const SLOW_TRIPS: u32 = 8;

/// What came of a window that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Consumed so soon that the responder waited for credit, or would have with a little more speed.
    Fast,
    /// Nothing can be said yet, or the size is right.
    Even,
    /// It lasts longer than it has to.
    Slow,
}

/// Measures without asking for anything: a grant is answered by the units that only it allows.
#[derive(Debug)]
pub(super) struct Pace {
    /// The shortest time from a grant to a unit that needed it. It is never less than the round trip, and about that
    /// whenever the responder was waiting.
    ///
    /// It is for the life of a stream: later ones are longer for what lies in queues on the way.
    round_trip: Option<Duration>,
    /// A grant, and the first position that nothing before it allowed.
    timed: Option<(Instant, u64)>,
    /// Since when a window is being used up, and its end.
    round: Option<(Instant, u64)>,
}

impl Pace {
    /// The Open leaves at `now`, and allows the first unit.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            round_trip: None,
            timed: Some((now, 0)),
            round: None,
        }
    }

    /// The unit at `position` was accepted.
    pub(super) fn arrived(&mut self, now: Instant, position: u64) {
        if let Some((at, first)) = self.timed
            && position >= first
        {
            let took = now.saturating_since(at);
            self.round_trip = Some(self.round_trip.map_or(took, |least| least.min(took)));
            self.timed = None;
        }
    }

    /// `limit` is sent at `now`; the highest one so far was `before`.
    pub(super) fn granted(&mut self, now: Instant, before: u64, limit: u64) {
        let is_raised = limit > before;
        if is_raised && self.timed.is_none() {
            self.timed = Some((now, before));
        }
        // Only a limit that was raised shows by its end that a round trip has passed: the way to an older one may have been
        // free long since.
        let end = if is_raised { limit } else { u64::MAX };
        if self.round.is_none_or(|(_, old)| old == u64::MAX && is_raised) {
            self.round = Some((now, end));
        }
    }

    /// How the window was used that ends here: everything up to `consumed` was taken.
    pub(super) fn look(&mut self, now: Instant, consumed: u64) -> Use {
        let Some((since, end)) = self.round else {
            return Use::Even;
        };
        let took = now.saturating_since(since);
        let trip = self.round_trip.unwrap_or_default();
        let is_slow = took > SLOW.max(trip.saturating_mul(SLOW_TRIPS));
        if consumed < end && !is_slow {
            return Use::Even;
        }
        self.round = None;
        // A responder that waits for credit uses a window in a round trip and what sending the half of it takes; at 7/4 it
        // waits for a seventh of the time.
        if is_slow {
            Use::Slow
        } else if took < trip.saturating_mul(7) / 4 {
            Use::Fast
        } else {
            Use::Even
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(millis)
    }

    /// The round trip is 100 ms, and a window from 0 to 1,000 is granted at 1 s.
    fn pace() -> Pace {
        let mut pace = Pace::new(at(0));
        pace.arrived(at(100), 0);
        pace.granted(at(1000), 0, 1000);
        pace
    }

    #[test]
    fn the_shortest_way_from_a_grant_to_what_it_allows_counts() {
        let mut pace = Pace::new(at(0));
        pace.arrived(at(300), 0);
        for (sent, first_allowed, other, answered) in [(1000, 500, 1080, 1200), (2000, 700, 2001, 2090)] {
            pace.granted(at(sent), first_allowed, first_allowed + 200);
            // It needed no grant: the answer of one that was given before.
            pace.arrived(at(other), first_allowed - 1);
            // Not timed: another one is on its way.
            pace.granted(at(other), first_allowed + 200, first_allowed + 300);
            pace.arrived(at(answered), first_allowed);
        }
        assert_eq!(pace.round_trip, Some(Duration::from_millis(90)));
    }

    #[test]
    fn a_window_is_judged_when_it_is_consumed() {
        for (at_millis, verdict) in [
            (1170, Use::Fast),
            (1180, Use::Even),
            (1999, Use::Even),
            (2001, Use::Slow),
        ] {
            let mut pace = pace();
            assert_eq!(pace.look(at(1050), 999), Use::Even, "not yet");
            assert_eq!(pace.look(at(at_millis), 1000), verdict, "{at_millis}");
            assert_eq!(pace.look(at(at_millis + 5000), 5000), Use::Even, "once");
        }
    }

    #[test]
    fn far_away_a_window_may_last_longer() {
        let mut pace = Pace::new(at(0));
        pace.arrived(at(500), 0);
        pace.granted(at(1000), 0, 1000);
        assert_eq!(pace.look(at(5000), 1000), Use::Even);
        pace.granted(at(5000), 1000, 2000);
        assert_eq!(pace.look(at(9001), 2000), Use::Slow);
    }

    #[test]
    fn a_window_that_nothing_comes_through_is_slow() {
        let mut pace = pace();
        assert_eq!(pace.look(at(2001), 10), Use::Slow);
        pace.granted(at(2001), 1000, 1000);
        assert_eq!(pace.look(at(2002), 1000), Use::Even, "that could be sent long before");
        pace.granted(at(2500), 1000, 2000);
        assert_eq!(pace.look(at(2600), 2000), Use::Fast, "what was raised begins anew");
    }

    #[test]
    fn without_a_round_trip_nothing_is_fast() {
        let mut pace = Pace::new(at(0));
        pace.granted(at(0), 0, 1000);
        assert_eq!(pace.look(at(0), 1000), Use::Even);
    }
}
