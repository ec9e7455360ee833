//! What a delivery says of those before it, and which messages are in their place.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use super::Session;
use crate::consume::gaps::Delivered;
use crate::consume::message::Message;

impl Session {
    /// Lets those messages be handled that are in their place.
    pub(super) fn admit(&mut self) {
        let Some(gaps) = &mut self.gaps else { return };
        while let Some(message) = gaps.poll_message() {
            let key = self.inner.settings.key.of(&message).map(Cow::into_owned);
            self.lanes.add(key.as_deref(), message);
        }
        if gaps.poll_shared() && !std::mem::replace(&mut self.is_shared, true) {
            tracing::warn!(
                stream = self.inner.spec.stream(),
                consumer = self.inner.spec.name(),
                "somebody else consumes too: messages of one key may be out of order"
            );
        }
    }

    pub(super) fn delivered(&mut self, message: &Message) -> Delivered {
        let disturbances = self.disturbances();
        let before = std::mem::replace(&mut self.disturbances, disturbances);
        Delivered {
            number: message.consumer_sequence(),
            place: message.sequence(),
            is_first: message.delivered() == 1,
            is_explained: before != disturbances,
        }
    }

    /// What can lose deliveries: how often the connection has connected, and has dropped messages that nobody took.
    fn disturbances(&self) -> (u64, u64) {
        let connection = self.inner.connection.connection();
        let connects = connection.nats().statistics().connects.load(Ordering::Relaxed);
        (connects, self.losses.count())
    }
}
