//! Events of one stream in batches: an engine with its messages.

use std::convert::Infallible;

use async_nats::message::OutboundMessage;
use async_nats::subject::Subject;
use natstream_connect::{Arrival, Connection, Denials};

use super::answer::Answer;
use super::engine::{Counts, Engine};
use super::outgoing::Outgoing;
use super::place::Place;
use super::subjects::Subjects;
use crate::error::{PublishError, PublishErrorKind};
use crate::event::{Event, Flaw};
use crate::reply::Refusal;
use crate::shared::Machine;
use crate::watcher::Settled;

pub(super) struct Ingest {
    engine: Engine,
    outgoing: Outgoing,
    subjects: Subjects,
    /// What was handed over last.
    last: Option<Place>,
}

impl Ingest {
    pub(super) fn new(engine: Engine, outgoing: Outgoing, subjects: Subjects) -> Self {
        Self {
            engine,
            outgoing,
            subjects,
            last: None,
        }
    }

    /// What has happened, and after how many messages the stream tells how far it is.
    pub(super) fn counts(&self) -> (Counts, u64) {
        (self.engine.counts(), self.engine.flow())
    }
}

impl Machine for Ingest {
    type Watcher = Infallible;
    /// What is behind the route, and the answer.
    type Answer<'a> = (&'a str, Answer);

    fn set_route(&mut self, route: &Subject) {
        self.outgoing.set_route(route);
    }

    fn flaw(&self, event: &Event) -> Option<Flaw> {
        let elsewhere = || {
            let is_taken = self.subjects.take(&event.subject);
            (!is_taken).then(|| Flaw::Elsewhere(self.subjects.stream().to_owned()))
        };
        event.batch_flaw().or_else(elsewhere)
    }

    fn has_room(&self, size: usize) -> bool {
        self.engine.has_room(size)
    }

    fn accept(&mut self, now: u64, event: Event, _watcher: Option<Infallible>) {
        self.engine.accept(now, event);
    }

    fn hurry(&mut self) -> bool {
        self.engine.hurry();
        true
    }

    fn set_starved(&mut self, is_starved: bool) -> bool {
        self.engine.set_starved(is_starved);
        is_starved
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
        self.engine.is_over()
    }

    fn is_ready(&mut self, now: u64) -> bool {
        self.engine.plan(now);
        self.engine.is_ready(now)
    }

    fn poll_transmit(&mut self, now: u64) -> Option<OutboundMessage> {
        let transmission = self.engine.poll_transmit(now)?;
        self.last = Some(transmission.place);
        Some(self.outgoing.message(&transmission))
    }

    fn handle_not_sent(&mut self, now: u64, kind: PublishErrorKind) {
        if let Some(place) = self.last {
            self.engine.handle_not_sent(now, place, kind);
        }
    }

    fn poll_timeout(&self, now: u64, is_blocked: bool) -> Option<u64> {
        match self.engine.poll_timeout() {
            Some(at) if is_blocked && at <= now => self.engine.poll_expiry(),
            at => at,
        }
    }

    fn handle_timeout(&mut self, now: u64) {
        self.engine.handle_timeout(now);
    }

    fn read<'a>(arrival: &'a Arrival<'_>) -> Option<Self::Answer<'a>> {
        let message = &arrival.message;
        let is_nobody = message.status == Some(async_nats::StatusCode::NO_RESPONDERS) && message.payload.is_empty();
        let answer = if is_nobody {
            Answer::Refused(Refusal::no_responders())
        } else {
            Answer::read(&message.payload)?
        };
        Some((arrival.rest, answer))
    }

    fn handle_answer(&mut self, now: impl FnOnce() -> u64, (rest, answer): Self::Answer<'_>) -> bool {
        if let Some(place) = self.outgoing.read(rest) {
            self.engine.handle_answer(now(), place, answer);
        }
        true
    }

    fn handle_connection(&mut self, now: u64, is_up: bool, _connection: &Connection) {
        if is_up {
            self.engine.handle_connect(now);
        } else {
            self.engine.handle_disconnect(now);
        }
    }

    fn handle_denied(&mut self, now: u64, denied: &Denials) {
        self.engine.handle_denied(now, |subject| denied.publish(subject));
    }

    fn handle_end(&mut self, kind: PublishErrorKind) {
        self.engine.handle_end(kind);
    }

    fn give_up(&mut self, kind: PublishErrorKind) -> Vec<PublishError> {
        self.engine.give_up(kind)
    }

    fn has_settled(&self) -> bool {
        self.engine.has_failed()
    }

    fn poll_settled(&mut self) -> Option<Settled<Infallible>> {
        let error = self.engine.poll_failed()?;
        Some(Settled {
            watcher: None,
            outcome: Err(error),
        })
    }
}
