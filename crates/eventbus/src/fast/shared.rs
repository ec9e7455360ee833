//! What joins the engine to its connection: a route for the answers, a place in the driver, and whoever waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_nats::client::PublishErrorKind as NatsErrorKind;
use natstream_connect::{Arrival, DeadlineSlot, Denials, Driven, Driver, Lease, Route, RouteGuard};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::answer::Answer;
use super::engine::{Counts, Engine};
use super::outgoing::Outgoing;
use super::place::Place;
use super::subjects::Subjects;
use crate::error::{PublishError, PublishErrorKind, TryEnqueueError};
use crate::event::{Event, Flaw};
use crate::producers::{Producers, Ticket};
use crate::reply::Refusal;
use crate::shared::{OnFailure, Untold};

/// The bus itself. Its handles, its route and its place in the driver share it.
pub(super) struct Shared {
    connection: Lease,
    driver: Driver,
    subjects: Subjects,
    on_failure: Option<OnFailure>,
    /// Failures that nobody is told of.
    untold: Untold,
    /// What the ids of batches begin with.
    batches: String,
    /// What the id of an event without one adds to it.
    id_len: usize,
    state: Mutex<State>,
}

struct State {
    engine: Engine,
    /// `None` until the route is there.
    outgoing: Option<Outgoing>,
    /// The driver drives the bus when the connection takes messages again.
    waits: bool,
    deadline: DeadlineSlot,
    producers: Producers,
    flushes: Vec<Flush>,
    access: Access,
    /// Gives up the route with the last event of a bus that nobody holds.
    route: Option<RouteGuard>,
    /// Failures that a flush has told of.
    told: u64,
    /// Somebody tells what has failed: one at a time, in order, and not from within `on_failure`.
    is_telling: bool,
}

/// May events come?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Open,
    /// No more: the bus is closed, or nobody holds it.
    Closed,
    /// Not on this connection: no answer would be heard.
    Deaf,
}

/// Somebody who waits until all events before this number are settled.
struct Flush {
    before: u64,
    done: oneshot::Sender<()>,
}

/// What has to be done when the lock is released.
#[derive(Default)]
struct After {
    producer: Option<Waker>,
    /// Somebody is to be told something.
    tells: bool,
    route: Option<RouteGuard>,
}

impl Shared {
    pub(super) fn new(
        connection: Lease,
        engine: Engine,
        subjects: Subjects,
        batches: String,
        id_len: usize,
        on_failure: Option<OnFailure>,
    ) -> Arc<Self> {
        Arc::new(Self {
            driver: connection.driver().clone(),
            connection,
            subjects,
            on_failure,
            untold: Untold::default(),
            batches,
            id_len,
            state: Mutex::new(State {
                engine,
                outgoing: None,
                waits: false,
                deadline: DeadlineSlot::default(),
                producers: Producers::default(),
                flushes: Vec::new(),
                access: Access::Open,
                route: None,
                told: 0,
                is_telling: false,
            }),
        })
    }

    /// From here on answers arrive.
    pub(super) fn set_route(&self, route: RouteGuard, flow: u16, ids: Option<String>) {
        let mut state = self.state.lock();
        state.outgoing = Some(Outgoing::new(&route.subject(), &self.batches, flow, ids));
        state.route = Some(route);
    }

    pub(super) fn connection(&self) -> &Lease {
        &self.connection
    }

    pub(super) fn stream(&self) -> &str {
        self.subjects.stream()
    }

    fn now(&self) -> u64 {
        self.driver.nanos(self.driver.now())
    }

    pub(super) fn counts(&self) -> (Counts, usize, u64) {
        let state = self.state.lock();
        (state.engine.counts(), state.producers.len(), state.engine.flow())
    }

    /// What makes it impossible to accept the event, whatever room there is.
    fn check(&self, access: Access, event: &Event) -> Result<(), (PublishErrorKind, Option<Flaw>)> {
        match access {
            Access::Open => {}
            Access::Closed => return Err((PublishErrorKind::Closed, None)),
            Access::Deaf => return Err((PublishErrorKind::NotPermitted, None)),
        }
        let elsewhere = || (!self.subjects.take(&event.subject)).then(|| Flaw::Elsewhere(self.stream().to_owned()));
        if let Some(flaw) = event.flaw().or_else(|| event.batch_flaw()).or_else(elsewhere) {
            return Err((PublishErrorKind::Invalid, Some(flaw)));
        }
        let max = self.connection.max_payload();
        let id_len = if event.has_message_id() { 0 } else { self.id_len };
        // 0: the server has not said anything yet.
        if max > 0 && event.wire_len() + id_len > max {
            return Err((PublishErrorKind::TooLarge, None));
        }
        Ok(())
    }

    /// Takes the event when there is room for it and nobody waits in front.
    fn poll_accept(
        self: &Arc<Self>,
        cx: &Context<'_>,
        ticket: &mut Option<Ticket>,
        offer: &mut Option<Event>,
    ) -> Poll<Result<(), PublishError>> {
        let Some(event) = offer.take() else {
            return Poll::Ready(Ok(()));
        };
        let now = self.now();
        let mut state = self.state.lock();
        if let Err(refused) = self.check(state.access, &event) {
            drop(state);
            return Poll::Ready(Err(refusal(event, refused)));
        }
        let size = event.size();
        if !state.engine.has_room(size) || !state.producers.is_turn_of(*ticket) {
            state.producers.wait(ticket, size, cx.waker());
            // Where the bytes are the limit, the stream may have nothing to tell of before the batch ends.
            state.engine.hurry();
            let after = self.finish(&mut state, now);
            drop(state);
            *offer = Some(event);
            self.tell(after);
            return Poll::Pending;
        }
        if let Some(ticket) = ticket.take() {
            state.producers.leave(ticket);
        }
        state.engine.accept(now, event);
        let after = self.finish(&mut state, now);
        drop(state);
        self.tell(after);
        Poll::Ready(Ok(()))
    }

    /// Takes the event if there is room for it now; gives it back otherwise.
    pub(super) fn try_accept(self: &Arc<Self>, event: Event) -> Result<(), TryEnqueueError> {
        let now = self.now();
        let mut state = self.state.lock();
        if let Err(refused) = self.check(state.access, &event) {
            drop(state);
            return Err(TryEnqueueError::Failed(refusal(event, refused)));
        }
        if !state.engine.has_room(event.size()) || !state.producers.is_turn_of(None) {
            return Err(TryEnqueueError::Full(event));
        }
        state.engine.accept(now, event);
        let after = self.finish(&mut state, now);
        drop(state);
        self.tell(after);
        Ok(())
    }

    /// A flush of what was accepted so far: when it is over, and up to which number it goes.
    pub(super) fn begin_flush(self: &Arc<Self>) -> (u64, Option<oneshot::Receiver<()>>) {
        let mut flushed = None;
        let mut before = 0;
        self.step(|state| {
            before = state.engine.next_number();
            if state.engine.oldest().is_none() && !state.engine.has_failed() && !state.is_telling {
                return;
            }
            state.engine.hurry();
            let (done, waits) = oneshot::channel();
            state.flushes.retain(|flush| !flush.done.is_closed());
            state.flushes.push(Flush { before, done });
            flushed = Some(waits);
        });
        (before, flushed)
    }

    /// How many events before this number are pending, and how many events have failed since this was asked last.
    pub(super) fn end_flush(&self, before: u64) -> (u64, u64) {
        let mut state = self.state.lock();
        let failed = state.engine.counts().failed;
        let told = std::mem::replace(&mut state.told, failed);
        (state.engine.pending_before(before), failed - told)
    }

    /// Accepts nothing any more.
    pub(super) fn refuse(self: &Arc<Self>) {
        let mut woken = Vec::new();
        self.step(|state| {
            state.access = Access::Closed;
            woken = state.producers.wake_all();
        });
        woken.into_iter().for_each(Waker::wake);
    }

    /// Gives up all that is pending, and says what that was.
    pub(super) fn give_up(self: &Arc<Self>) -> Vec<PublishError> {
        let mut given_up = Vec::new();
        self.step(|state| given_up = state.engine.give_up(PublishErrorKind::Closed));
        given_up
    }

    /// Changes the state, and does all that follows.
    fn step(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let now = self.now();
        let mut state = self.state.lock();
        change(&mut state);
        let after = self.finish(&mut state, now);
        drop(state);
        self.tell(after);
    }

    /// Hands over what is ready, sets the deadline, and gathers what has to be done without the lock.
    fn finish(self: &Arc<Self>, state: &mut State, now: u64) -> After {
        self.transmit(state, now);
        let is_over = state.access == Access::Closed && state.engine.is_over();
        let at = match state.engine.poll_timeout() {
            // What is due and cannot be handed over is not waited for: the driver comes when it can be.
            Some(at) if state.waits && at <= now => state.engine.poll_expiry(),
            at => at,
        };
        match at {
            // One that is armed does no harm, and arming it again for each event would.
            None if !is_over => {}
            at => state.deadline.set(&self.driver, at, self),
        }
        let oldest = state.engine.oldest().unwrap_or(u64::MAX);
        let State {
            engine,
            producers,
            flushes,
            ..
        } = state;
        After {
            producer: producers.wake(|size| engine.has_room(size)),
            tells: engine.has_failed() || flushes.iter().any(|flush| flush.before <= oldest),
            route: is_over.then(|| state.route.take()).flatten(),
        }
    }

    fn transmit(self: &Arc<Self>, state: &mut State, now: u64) {
        let State {
            engine,
            outgoing: Some(outgoing),
            waits,
            ..
        } = state
        else {
            return;
        };
        engine.plan(now);
        while engine.is_ready(now) && !*waits {
            let mut last = None;
            let handed = self.driver.hand_over(self, waits, || {
                let transmission = engine.poll_transmit(now)?;
                last = Some(transmission.place);
                Some(outgoing.message(&transmission))
            });
            let (Err(error), Some(place)) = (handed, last) else {
                continue;
            };
            let kind = match error.kind() {
                // `max_payload` may be smaller since a reconnect.
                NatsErrorKind::MaxPayloadExceeded => PublishErrorKind::TooLarge,
                NatsErrorKind::InvalidSubject => PublishErrorKind::Invalid,
                NatsErrorKind::Send => PublishErrorKind::Closed,
            };
            engine.handle_not_sent(now, place, kind);
        }
    }

    /// Without the lock: whoever is told may use the bus.
    fn tell(&self, after: After) {
        if let Some(producer) = after.producer {
            producer.wake();
        }
        drop(after.route);
        if !after.tells {
            return;
        }
        let mut is_first = true;
        loop {
            let mut state = self.state.lock();
            if is_first && std::mem::replace(&mut state.is_telling, true) {
                // Whoever does so goes on with what has come.
                return;
            }
            is_first = false;
            let Some(failed) = state.engine.poll_failed() else {
                state.is_telling = false;
                let oldest = state.engine.oldest().unwrap_or(u64::MAX);
                let done = state.flushes.extract_if(.., |flush| flush.before <= oldest);
                let done: Vec<_> = done.collect();
                drop(state);
                for flush in done {
                    // Whoever waited may have gone.
                    let _ = flush.done.send(());
                }
                return;
            };
            drop(state);
            self.report(failed);
        }
    }

    fn report(&self, error: PublishError) {
        if let Some(on_failure) = &self.on_failure {
            if catch_unwind(AssertUnwindSafe(|| on_failure(error))).is_err() {
                tracing::error!("`on_failure` of an event bus has panicked");
            }
        } else if let Some(count) = self.untold.add(self.now()) {
            let (subject, kind) = (error.event().subject(), error.kind());
            tracing::warn!(
                count,
                subject,
                ?kind,
                "events were not delivered, and nobody is told of them"
            );
        }
    }
}

fn refusal(event: Event, (kind, flaw): (PublishErrorKind, Option<Flaw>)) -> PublishError {
    match flaw {
        Some(flaw) => PublishError::invalid(event, flaw),
        None => PublishError::unsent(event, kind),
    }
}

impl Route for Shared {
    fn deliver(self: Arc<Self>, arrival: Arrival<'_>) {
        let Some(place) = Place::read(arrival.rest, &self.batches) else {
            return;
        };
        let message = &arrival.message;
        let is_nobody = message.status == Some(async_nats::StatusCode::NO_RESPONDERS) && message.payload.is_empty();
        let answer = if is_nobody {
            Some(Answer::Refused(Refusal::no_responders()))
        } else {
            Answer::read(&message.payload)
        };
        match answer {
            Some(answer) => {
                let now = self.now();
                self.step(|state| state.engine.handle_answer(now, place, answer));
            }
            // A service that listens on the subject too.
            None => tracing::debug!("an answer to a batch is not a stream's"),
        }
    }

    fn connection_changed(self: Arc<Self>, is_up: bool) {
        let now = self.now();
        self.step(|state| {
            if is_up {
                if state.access == Access::Deaf {
                    state.access = Access::Open;
                }
                state.engine.handle_connect(now);
            } else {
                state.engine.handle_disconnect(now);
            }
        });
    }

    fn denied(self: Arc<Self>, denied: &Denials) {
        let now = self.now();
        self.step(|state| {
            state.engine.handle_denied(now, |subject| denied.publish(subject));
            if denied.inbox() {
                state.engine.handle_end(PublishErrorKind::NotPermitted);
                if state.access == Access::Open {
                    state.access = Access::Deaf;
                }
            }
        });
    }

    fn ended(self: Arc<Self>) {
        self.refuse();
        self.step(|state| state.engine.handle_end(PublishErrorKind::Closed));
    }
}

impl Driven for Shared {
    fn drive(self: Arc<Self>, now: u64) {
        self.step(|state| {
            state.waits = false;
            state.deadline.fired(now);
            state.engine.handle_timeout(now);
        });
    }
}

/// Takes part in the queue for room while it is polled.
pub(super) struct Accept<'a> {
    shared: &'a Arc<Shared>,
    ticket: Option<Ticket>,
    offer: Option<Event>,
}

impl<'a> Accept<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, event: Event) -> Self {
        Self {
            shared,
            ticket: None,
            offer: Some(event),
        }
    }
}

impl Future for Accept<'_> {
    type Output = Result<(), PublishError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, ticket, offer } = &mut *self;
        shared.poll_accept(cx, ticket, offer)
    }
}

impl Drop for Accept<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.step(|state| state.producers.leave(ticket));
        }
    }
}
