//! Events of a window, each acked by itself: an engine with its messages.

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

use async_nats::client::Statistics;
use async_nats::message::OutboundMessage;
use async_nats::subject::Subject;
use natstream_connect::{Arrival, Connection, Denials};

use crate::engine::{Counts, Engine, Token};
use crate::error::{PublishError, PublishErrorKind};
use crate::event::Event;
use crate::outgoing::Outgoing;
use crate::reply::{self, Refusal, Reply};
use crate::shared::Machine;
use crate::watcher::{Settled, Watcher};

pub(super) struct Window {
    engine: Engine<Watcher>,
    outgoing: Outgoing,
    /// How often the connection was made: the epoch of what is handed over next, or the one before.
    statistics: Arc<Statistics>,
    /// The attempt that was handed over last.
    last: Option<Token>,
}

impl Window {
    /// `ids`: nobody else gives ids that begin with this.
    pub(super) fn new(engine: Engine<Watcher>, connection: &Connection, ids: Option<String>) -> Self {
        Self {
            engine,
            outgoing: Outgoing::new(ids),
            statistics: connection.nats().statistics(),
            last: None,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.engine.counts()
    }
}

impl Machine for Window {
    type Watcher = Watcher;
    type Answer<'a> = (Token, Reply<'a>);

    fn set_route(&mut self, route: &Subject) {
        self.outgoing.set_route(route);
    }

    fn has_room(&self, size: usize) -> bool {
        self.engine.has_room(size)
    }

    fn is_roomy(&self) -> bool {
        self.engine.is_roomy()
    }

    fn accept(&mut self, now: u64, event: Event, watcher: Option<Watcher>) {
        self.engine.accept(now, event, watcher);
    }

    fn next_number(&self) -> u64 {
        self.engine.next_number()
    }

    fn oldest(&self) -> Option<u64> {
        self.engine.oldest()
    }

    fn pending_before(&self, number: u64) -> u64 {
        self.engine.pending_before(number)
    }

    fn failed(&self) -> u64 {
        self.engine.counts().failed
    }

    fn is_over(&self) -> bool {
        self.engine.oldest().is_none()
    }

    fn is_ready(&mut self, _now: u64) -> bool {
        self.engine.is_ready()
    }

    fn poll_transmit(&mut self, now: u64) -> Option<OutboundMessage> {
        // Read before it is handed over: what goes to a newer connection is sent again at worst.
        let epoch = self.statistics.connects.load(Acquire);
        let attempt = self.engine.poll_transmit(now, epoch)?;
        self.last = Some(attempt.token);
        Some(self.outgoing.message(attempt))
    }

    fn handle_not_sent(&mut self, _now: u64, kind: PublishErrorKind) {
        if let Some(token) = self.last {
            self.engine.handle_not_sent(token, kind);
        }
    }

    fn poll_timeout(&self, _now: u64, _is_blocked: bool) -> Option<u64> {
        self.engine.poll_timeout()
    }

    fn handle_timeout(&mut self, now: u64) {
        self.engine.handle_timeout(now);
    }

    fn read<'a>(arrival: &'a Arrival<'_>) -> Option<Self::Answer<'a>> {
        let token = Token::read(arrival.rest)?;
        let message = &arrival.message;
        let reply = match message.status {
            Some(async_nats::StatusCode::NO_RESPONDERS) => Reply::Refused(Refusal::no_responders()),
            // A 429 comes with a status, and with what an answer without one has.
            _ => reply::read(&message.payload)?,
        };
        Some((token, reply))
    }

    fn handle_answer(&mut self, now: impl FnOnce() -> u64, (token, reply): Self::Answer<'_>) -> bool {
        match reply {
            Reply::Stored(stored) => {
                self.engine.handle_stored(token, stored);
                self.engine.is_ready()
            }
            Reply::Refused(refusal) => {
                self.engine.handle_refusal(now(), token, refusal);
                true
            }
        }
    }

    fn handle_connection(&mut self, _now: u64, _is_up: bool, connection: &Connection) {
        // The epoch whose connection is certainly gone.
        let state = *connection.state().borrow();
        let lost = if state.is_connected() {
            state.epoch.saturating_sub(1)
        } else {
            state.epoch
        };
        self.engine.handle_disconnect(lost);
    }

    fn handle_denied(&mut self, _now: u64, denied: &Denials) {
        self.engine.handle_denied(|subject| denied.publish(subject));
    }

    fn handle_end(&mut self, kind: PublishErrorKind) {
        self.engine.handle_end(kind);
    }

    fn give_up(&mut self, kind: PublishErrorKind) -> Vec<PublishError> {
        self.engine.give_up(kind)
    }

    fn has_settled(&self) -> bool {
        self.engine.has_settled()
    }

    fn poll_settled(&mut self) -> Option<Settled<Watcher>> {
        self.engine.poll_settled()
    }
}
