//! A call that nobody took in the first seconds after a reconnect (rule 26).

use std::sync::Arc;
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use natstream_connect::{RouteGuard, Router};
use stream_proto::{HEADER, Inbound, InboundConfig, Instant};

use crate::call::Call;

/// For this long after the own reconnect, a 503 may only mean that the responder is still on its way back.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// How often a new attempt is made meanwhile.
const INTERVAL: Duration = Duration::from_millis(250);

/// What a new attempt needs. It exists only for calls that are made within [`GRACE`], until they are answered.
#[derive(Debug)]
pub(crate) struct Reopen {
    pub(crate) router: Router,
    pub(crate) subject: String,
    /// The user's; ours is added for each attempt.
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
    pub(crate) config: InboundConfig,
    /// When the total deadline passes.
    pub(crate) deadline: Option<Instant>,
    /// The end of the grace.
    pub(crate) until: Instant,
    /// The next attempt, once one has failed.
    pub(crate) at: Option<Instant>,
}

impl Reopen {
    /// Plans the next attempt; false when the grace is over.
    pub(crate) fn plan(&mut self, now: Instant) -> bool {
        let at = now + INTERVAL;
        let is_in_time = at <= self.until && self.deadline.is_none_or(|deadline| at < deadline);
        self.at = is_in_time.then_some(at);
        is_in_time
    }

    /// A new attempt under a fresh token, which the responder cannot mistake for the one before.
    pub(crate) fn attempt(&self, call: &Arc<Call>, now: Instant) -> (Inbound, RouteGuard, OutboundMessage) {
        let mut config = self.config.clone();
        config.deadline = self.deadline.map(|deadline| deadline.saturating_since(now));
        let inbound = Inbound::new(config, now);
        let route = self.router.add(call.clone());
        let mut headers = self.headers.clone();
        headers.insert(HEADER, inbound.open().encode().as_str());
        let open = OutboundMessage {
            subject: Subject::from(self.subject.as_str()),
            reply: Some(route.subject()),
            headers: Some(headers),
            payload: self.payload.clone(),
        };
        (inbound, route, open)
    }
}
