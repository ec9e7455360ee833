//! Messages that async-nats has dropped: the queue of their subscription was full.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_nats::Subscriber;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// One subscription that somebody watches.
#[derive(Debug, Default)]
pub(crate) struct Overflow {
    has_happened: AtomicBool,
    count: AtomicU64,
    wake: Notify,
}

impl Overflow {
    /// How many messages were dropped so far; more, where async-nats was too busy to say so.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Completes when messages of the subscription were dropped since the last time.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn happened(&self) {
        loop {
            let notified = self.wake.notified();
            if self.has_happened.swap(false, Ordering::AcqRel) {
                return;
            }
            notified.await;
        }
    }
}

/// The subscriptions of a client that are watched, by async-nats's numbers.
#[derive(Debug, Default)]
pub(crate) struct Overflows(Mutex<HashMap<u64, Weak<Overflow>>>);

impl Overflows {
    /// Watches a subscription until what is returned is dropped.
    pub(crate) fn watch(&self, subscriber: &Subscriber) -> Arc<Overflow> {
        let overflow = Arc::new(Overflow::default());
        if let Some(number) = number(subscriber) {
            let mut watched = self.0.lock();
            watched.retain(|_, overflow| overflow.strong_count() > 0);
            watched.insert(number, Arc::downgrade(&overflow));
        }
        overflow
    }

    /// A message of this subscription was dropped.
    pub(crate) fn note(&self, number: u64) {
        let overflow = self.0.lock().get(&number).and_then(Weak::upgrade);
        if let Some(overflow) = overflow {
            overflow.count.fetch_add(1, Ordering::Relaxed);
            if !overflow.has_happened.swap(true, Ordering::AcqRel) {
                overflow.wake.notify_one();
            }
        }
    }
}

/// The number that async-nats tells of slow consumers by. It is private, and shown by `Debug` only.
fn number(subscriber: &Subscriber) -> Option<u64> {
    let text = format!("{subscriber:?}");
    let (_, after) = text.split_once("sid: ")?;
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_numbers_of_subscriptions_are_known() {
        let client = async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .connect("nats://127.0.0.1:1")
            .await
            .unwrap();
        let (first, second) = (
            client.subscribe("a").await.unwrap(),
            client.subscribe("b").await.unwrap(),
        );
        let (first, second) = (number(&first).unwrap(), number(&second).unwrap());
        assert_eq!(second, first + 1);
    }
}
