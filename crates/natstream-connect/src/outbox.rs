//! Messages that belong to no stream, and that must not be lost because the connection is busy.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_nats::message::OutboundMessage;
use parking_lot::Mutex;

use crate::driver::{Driven, Driver};

/// Hands messages over when the connection takes them, in turn with the streams.
///
/// Memory: at most as many messages as it was made for.
pub struct Outbox {
    driver: Driver,
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<OutboundMessage>,
    /// The driver knows that something waits.
    waits: bool,
}

impl Outbox {
    /// An empty one, in which `most` messages may wait.
    #[must_use]
    pub fn new(driver: Driver, most: usize) -> Arc<Self> {
        Arc::new(Self {
            driver,
            most,
            waiting: Mutex::default(),
        })
    }

    /// Sends these messages in order, all or none, now or when the connection takes them. False when there is no room for
    /// them: they are gone.
    #[must_use = "the messages may be gone"]
    pub fn send(self: &Arc<Self>, messages: Vec<OutboundMessage>) -> bool {
        let mut waiting = self.waiting.lock();
        let has_room = waiting.messages.len() + messages.len() <= self.most;
        if has_room {
            waiting.messages.extend(messages);
            self.hand_over(&mut waiting);
        }
        has_room
    }

    fn hand_over(self: &Arc<Self>, waiting: &mut Waiting) {
        let Waiting { messages, waits } = waiting;
        while let Err(error) = self.driver.hand_over(self, waits, || messages.pop_front()) {
            // It was too large, or the connection has been closed; it is gone, and the next one is tried.
            tracing::debug!(%error, "a message could not be handed over");
        }
    }
}

impl Driven for Outbox {
    fn drive(self: Arc<Self>, _now: u64) {
        let mut waiting = self.waiting.lock();
        waiting.waits = false;
        self.hand_over(&mut waiting);
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("waiting", &self.waiting.lock().messages.len())
            .finish_non_exhaustive()
    }
}
