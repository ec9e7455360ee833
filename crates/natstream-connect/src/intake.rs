//! The messages of a subscription, and how it is left without losing one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::task::coop;
use tokio::time::{Instant, timeout_at};

use crate::connection::Connection;
use crate::supervisor::now;

/// A subscription that got no message for this long is idle: none is likely to be on its way.
const IDLE: Duration = Duration::from_millis(100);

/// How long the last messages may take to come.
const PATIENCE: Duration = Duration::from_millis(250);

/// Messages are counted in stretches of this length: longer than one is on its way.
const STRETCH: Duration = Duration::from_millis(20);

/// Of so many messages that are taken without waiting, one looks at the clock.
const CLOCK_EVERY: u64 = 64;

/// More messages than wait here at a time, with the capacity that subscriptions have by default.
const MOST_WAITING: usize = 65_536;

/// Where the messages of one subscription arrive.
#[derive(Debug)]
pub(crate) struct Intake {
    subscriber: Subscriber,
    /// Messages taken since the subscription began.
    taken: u64,
    last: Option<Instant>,
    stretch: Stretch,
    connection: Connection,
    /// How often the connection had connected when the subscription was made.
    connects: u64,
}

/// How many messages arrive at a time.
#[derive(Debug, Default)]
struct Stretch {
    began: Option<Instant>,
    count: u64,
    /// Of the one before.
    before: u64,
}

impl Stretch {
    fn count(&mut self, now: Instant) {
        let age = self.began.map(|began| now.saturating_duration_since(began));
        if age.is_none_or(|age| age > STRETCH) {
            let is_next = age.is_some_and(|age| age < 2 * STRETCH);
            self.before = if is_next { self.count } else { 0 };
            self.count = 0;
            self.began = Some(now);
        }
        self.count += 1;
    }

    fn most(&self) -> u64 {
        self.count.max(self.before)
    }
}

impl Intake {
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// `connects` is what [`connects`] said before the subscription was made.
    pub(crate) fn new(subscriber: Subscriber, connection: Connection, connects: u64) -> Self {
        Self {
            subscriber,
            connection,
            connects,
            taken: 0,
            last: None,
            stretch: Stretch::default(),
        }
    }

    /// The next message; `None` when there will be none.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let message = self.subscriber.next().await?;
        self.count(now());
        Some(message)
    }

    /// A message that is here already.
    pub(crate) fn try_next(&mut self) -> Option<Message> {
        // Without a budget: an empty queue must be seen as one.
        let message = coop::unconstrained(self.subscriber.next()).now_or_never().flatten()?;
        // It came with the one before, near enough: a look at the clock costs as much as all the rest of this.
        let before = self.last.filter(|_| !self.taken.is_multiple_of(CLOCK_EVERY));
        self.count(before.unwrap_or_else(now));
        Some(message)
    }

    fn count(&mut self, now: Instant) {
        self.taken += 1;
        self.last = Some(now);
        self.stretch.count(now);
    }

    /// It ends after so many messages.
    pub(crate) async fn take_only(&mut self, count: u64) -> Result<(), async_nats::UnsubscribeError> {
        self.subscriber.unsubscribe_after(count).await
    }

    /// Leaves the group, and takes what still arrives.
    ///
    /// async-nats forgets a subscription as soon as it is told to, and drops what nats-server has sent until then. So while
    /// there is traffic the end is agreed on by number: "until so many were delivered", a little more than can be on their
    /// way. Both sides count, and stop at the same message.
    pub(crate) async fn leave(&mut self, mut take: impl FnMut(Message)) {
        let is_idle = self
            .last
            .is_none_or(|last| now().saturating_duration_since(last) > IDLE);
        // After a reconnect nats-server counts from the beginning, and async-nats does not.
        let counts_alike = connects(&self.connection) == self.connects;
        if counts_alike && !is_idle && self.leave_by_number(&mut take).await {
            return;
        }
        if self.subscriber.drain().await.is_ok() {
            while let Some(message) = self.next().await {
                take(message);
            }
        }
    }

    /// True when the last request has come.
    async fn leave_by_number(&mut self, take: &mut impl FnMut(Message)) -> bool {
        // What waits here was delivered: the number must lie above it.
        for _ in 0..MOST_WAITING {
            let Some(message) = self.try_next() else {
                break;
            };
            take(message);
        }
        let last = self.taken + 2 + 2 * self.stretch.most();
        if self.subscriber.unsubscribe_after(last).await.is_err() {
            return false;
        }
        self.take_until(now() + PATIENCE, take).await
    }

    /// Takes messages until then; true when there will be no more.
    async fn take_until(&mut self, until: Instant, take: &mut impl FnMut(Message)) -> bool {
        loop {
            match timeout_at(until, self.next()).await {
                Ok(Some(message)) => take(message),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }
}

/// How often the connection has connected so far.
pub(crate) fn connects(connection: &Connection) -> u64 {
    connection.nats().statistics().connects.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_of_the_last_stretches_counts() {
        let mut stretch = Stretch::default();
        let start = now();
        for (after, most) in [(0, 1), (5, 2), (19, 3), (25, 3), (26, 3), (50, 2), (200, 1)] {
            stretch.count(start + Duration::from_millis(after));
            assert_eq!(stretch.most(), most, "after {after} ms");
        }
    }
}
