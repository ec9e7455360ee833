//! What has become of messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What has become of all messages of a consumer, in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// Messages that came, each delivery counted.
    pub received: u64,
    /// Those of the received that had been delivered before, here or elsewhere.
    pub redelivered: u64,
    /// Deliveries of messages that were held already: their ack wait had run out.
    pub repeated: u64,
    /// Deliveries beyond what there is room for: requests from before a reconnect were served all the same.
    pub surplus: u64,
    /// Requests for messages.
    pub requests: u64,
    /// Messages that are here now, those included that are handled.
    pub held: u64,
    /// Messages that are handled now.
    pub in_flight: u64,
    /// Messages that have failed and wait here for their next attempt: with a key. Without one they wait at nats-server.
    pub resting: u64,
    /// Messages that were handled, and whose ack is on its way or confirmed.
    pub handled: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Messages that were put aside.
    pub dead: u64,
    /// Acks that nobody has confirmed: their messages may be delivered once more.
    pub unconfirmed: u64,
    /// How often nothing was heard for two heartbeats.
    pub silences: u64,
    /// How many messages the consumer had for us after the last one that came: how far it lags behind.
    pub lag: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) received: AtomicU64,
    pub(super) redelivered: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) surplus: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) held: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) resting: AtomicU64,
    pub(super) handled: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) unconfirmed: AtomicU64,
    pub(super) silences: AtomicU64,
    pub(super) lag: AtomicU64,
}

impl Counts {
    pub(super) fn stats(&self) -> ConsumerStats {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ConsumerStats {
            received: get(&self.received),
            redelivered: get(&self.redelivered),
            repeated: get(&self.repeated),
            surplus: get(&self.surplus),
            requests: get(&self.requests),
            held: get(&self.held),
            in_flight: get(&self.in_flight),
            resting: get(&self.resting),
            handled: get(&self.handled),
            failed: get(&self.failed),
            dead: get(&self.dead),
            unconfirmed: get(&self.unconfirmed),
            silences: get(&self.silences),
            lag: get(&self.lag),
        }
    }
}

/// The part of one session in the figures that all sessions of a consumer share. When it is dropped, what is now is nothing.
#[derive(Debug)]
pub(super) struct Share {
    counts: Arc<Counts>,
    now: Now,
}

/// What a session has now, and how often it has asked so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Now {
    pub(super) held: u64,
    /// Of handlers that do not [say so](InFlight) themselves.
    pub(super) in_flight: u64,
    pub(super) resting: u64,
    pub(super) requests: u64,
    pub(super) surplus: u64,
}

impl Share {
    pub(super) fn new(counts: Arc<Counts>) -> Self {
        Self {
            counts,
            now: Now::default(),
        }
    }

    pub(super) fn set(&mut self, now: Now) {
        let before = std::mem::replace(&mut self.now, now);
        let counts = &self.counts;
        for (counter, before, now) in [
            (&counts.held, before.held, now.held),
            (&counts.in_flight, before.in_flight, now.in_flight),
            (&counts.resting, before.resting, now.resting),
            (&counts.requests, before.requests, now.requests),
            (&counts.surplus, before.surplus, now.surplus),
        ] {
            if now != before {
                // It wraps, and so takes away what there is less of.
                counter.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(Now {
            requests: self.now.requests,
            surplus: self.now.surplus,
            ..Now::default()
        });
    }
}

/// A handler that runs, for as long as this lives.
pub(super) struct InFlight<'a>(&'a Counts);

impl<'a> InFlight<'a> {
    pub(super) fn begin(counts: &'a Counts) -> Self {
        count(&counts.in_flight);
        Self(counts)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_share_the_figures_and_leave_nothing_behind() {
        let counts = Arc::new(Counts::default());
        let now = |held, requests| Now {
            held,
            requests,
            ..Now::default()
        };
        let mut first = Share::new(counts.clone());
        let mut second = Share::new(counts.clone());
        first.set(now(5, 2));
        second.set(now(3, 1));
        first.set(now(2, 4));
        assert_eq!((counts.stats().held, counts.stats().requests), (5, 5));
        drop(first);
        drop(second);
        assert_eq!((counts.stats().held, counts.stats().requests), (0, 5));
    }
}
