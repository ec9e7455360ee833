//! What has become of messages.

use std::sync::atomic::{AtomicU64, Ordering};

/// What has become of all messages of a consumer, in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// Messages that came, each delivery counted.
    pub received: u64,
    /// Deliveries of messages that were held already: their ack wait had run out.
    pub repeated: u64,
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
    pub(super) repeated: AtomicU64,
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
            repeated: get(&self.repeated),
            handled: get(&self.handled),
            failed: get(&self.failed),
            dead: get(&self.dead),
            unconfirmed: get(&self.unconfirmed),
            silences: get(&self.silences),
            lag: get(&self.lag),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
