//! What joins the engine to its connection: a route for the answers, a place in the driver, and whoever waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::task::{Context, Poll, Waker};

use async_nats::client::{PublishErrorKind as NatsErrorKind, Statistics};
use natstream_connect::{Arrival, DeadlineSlot, Denials, Driven, Driver, Lease, Route, RouteGuard};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::engine::{Counts, Engine, Settled, Token};
use crate::error::{PublishError, PublishErrorKind};
use crate::event::Event;
use crate::outgoing::{Outgoing, id_len};
use crate::producers::{Producers, Ticket};
use crate::reply::{self, Refusal, Reply};
use crate::watcher::Watcher;

/// Is told of each event that has failed.
pub(crate) type OnFailure = Box<dyn Fn(PublishError) + Send + Sync>;

/// How long a producer waits at most for more room than it needs, in nanoseconds: acks come in bursts, and a wake-up for each
/// would cost more than the ack.
const PATIENCE: u64 = 2_000_000;

/// The bus itself. Its handles, its route and its place in the driver share it.
pub(crate) struct Shared {
    connection: Lease,
    driver: Driver,
    /// How often the connection was made: the epoch of what is handed over next, or the one before.
    statistics: Arc<Statistics>,
    on_failure: Option<OnFailure>,
    /// Failures that nobody is told of.
    untold: Untold,
    /// What the id of an event without one adds to it.
    id_len: usize,
    state: Mutex<State>,
}

pub(crate) struct State {
    engine: Engine<Watcher>,
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
    /// Somebody tells what has become of events: one at a time, in order, and not from within `on_failure`.
    is_telling: bool,
    /// When producers are woken although not much is free: those acks that would free more may not come.
    wake_at: Option<u64>,
    /// That time has come.
    wakes: bool,
}

/// May events come?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Open,
    /// No more: the bus is closed, or nobody holds it.
    Closed,
    /// Not on this connection: no ack would be heard.
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
    pub(crate) fn new(
        connection: Lease,
        engine: Engine<Watcher>,
        id_prefix: Option<&str>,
        on_failure: Option<OnFailure>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id_len: id_prefix.map_or(0, |prefix| id_len(prefix.len())),
            driver: connection.driver().clone(),
            statistics: connection.nats().statistics(),
            connection,
            on_failure,
            untold: Untold::default(),
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
                wake_at: None,
                wakes: false,
            }),
        })
    }

    /// From here on answers arrive.
    pub(crate) fn set_route(&self, route: RouteGuard, ids: Option<String>) {
        let mut state = self.state.lock();
        state.outgoing = Some(Outgoing::new(&route.subject(), ids));
        state.route = Some(route);
    }

    pub(crate) fn connection(&self) -> &Lease {
        &self.connection
    }

    pub(crate) fn now(&self) -> u64 {
        self.driver.nanos(self.driver.now())
    }

    pub(crate) fn counts(&self) -> (Counts, usize) {
        let state = self.state.lock();
        (state.engine.counts(), state.producers.len())
    }

    /// What makes it impossible to accept the event, whatever room there is.
    fn check(&self, access: Access, event: &Event) -> Result<(), (PublishErrorKind, Option<crate::Flaw>)> {
        match access {
            Access::Open => {}
            Access::Closed => return Err((PublishErrorKind::Closed, None)),
            Access::Deaf => return Err((PublishErrorKind::NotPermitted, None)),
        }
        if let Some(flaw) = event.flaw() {
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
    pub(crate) fn poll_accept(
        self: &Arc<Self>,
        cx: &Context<'_>,
        ticket: &mut Option<Ticket>,
        offer: &mut Option<(Event, Option<Watcher>)>,
    ) -> Poll<Result<(), PublishError>> {
        let Some((event, watcher)) = offer.take() else {
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
            *offer = Some((event, watcher));
            return Poll::Pending;
        }
        if let Some(ticket) = ticket.take() {
            state.producers.leave(ticket);
        }
        state.engine.accept(now, event, watcher);
        let after = self.finish(&mut state, now);
        drop(state);
        self.tell(after);
        Poll::Ready(Ok(()))
    }

    /// Takes the event if there is room for it now; gives it back otherwise.
    pub(crate) fn try_accept(self: &Arc<Self>, event: Event) -> Result<(), crate::TryEnqueueError> {
        let now = self.now();
        let mut state = self.state.lock();
        if let Err(refused) = self.check(state.access, &event) {
            drop(state);
            return Err(crate::TryEnqueueError::Failed(refusal(event, refused)));
        }
        if !state.engine.has_room(event.size()) || !state.producers.is_turn_of(None) {
            return Err(crate::TryEnqueueError::Full(event));
        }
        state.engine.accept(now, event, None);
        let after = self.finish(&mut state, now);
        drop(state);
        self.tell(after);
        Ok(())
    }

    /// A producer that does not wait any more; the next one may have room.
    pub(crate) fn leave_queue(self: &Arc<Self>, ticket: Ticket) {
        self.step(|state| state.producers.leave(ticket));
    }

    /// A flush of what was accepted so far: when it is over, and up to which number it goes.
    pub(crate) fn begin_flush(&self) -> (u64, Option<oneshot::Receiver<()>>) {
        let mut state = self.state.lock();
        let before = state.engine.next_number();
        if state.engine.oldest().is_none() && !state.engine.has_settled() && !state.is_telling {
            return (before, None);
        }
        let (done, flushed) = oneshot::channel();
        state.flushes.retain(|flush| !flush.done.is_closed());
        state.flushes.push(Flush { before, done });
        (before, Some(flushed))
    }

    /// How many events before this number are pending, and how many events have failed since this was asked last.
    pub(crate) fn end_flush(&self, before: u64) -> (u64, u64) {
        let mut state = self.state.lock();
        let failed = state.engine.counts().failed;
        let told = std::mem::replace(&mut state.told, failed);
        (state.engine.pending_before(before), failed - told)
    }

    /// Accepts nothing any more.
    pub(crate) fn refuse(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.access = Access::Closed;
        let woken = state.producers.wake_all();
        let after = self.finish(&mut state, self.now());
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        self.tell(after);
    }

    /// Gives up all that is pending, and says what that was.
    pub(crate) fn give_up(self: &Arc<Self>) -> Vec<PublishError> {
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
        self.plan_wake(state, now);
        let is_over = state.access == Access::Closed && state.engine.oldest().is_none();
        let at = state.engine.poll_timeout();
        let at = at.into_iter().chain(state.wake_at).min();
        match at {
            // One that is armed does no harm, and arming it again for each event would.
            None if !is_over => {}
            at => state.deadline.set(&self.driver, at, self),
        }
        let mut after = gather(state);
        if is_over {
            after.route = state.route.take();
        }
        after
    }

    /// Sees to it that a producer for which there is room does not wait for more of it.
    fn plan_wake(self: &Arc<Self>, state: &mut State, now: u64) {
        let State {
            engine,
            producers,
            wake_at,
            ..
        } = state;
        if wake_at.is_none() && producers.is_waiting(|size| engine.has_room(size)) {
            *wake_at = Some(now.saturating_add(PATIENCE));
            state.deadline.set(&self.driver, state.wake_at, self);
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
        while engine.is_ready() && !*waits {
            // Read before anything is handed over: what goes to a newer connection is sent again at worst.
            let epoch = self.statistics.connects.load(Acquire);
            let mut last = None;
            let handed = self.driver.hand_over(self, waits, || {
                let attempt = engine.poll_transmit(now, epoch)?;
                last = Some(attempt.token);
                Some(outgoing.message(attempt))
            });
            let (Err(error), Some(token)) = (handed, last) else {
                continue;
            };
            let kind = match error.kind() {
                // `max_payload` may be smaller since a reconnect.
                NatsErrorKind::MaxPayloadExceeded => PublishErrorKind::TooLarge,
                NatsErrorKind::InvalidSubject => PublishErrorKind::Invalid,
                NatsErrorKind::Send => PublishErrorKind::Closed,
            };
            engine.handle_not_sent(token, kind);
        }
    }

    /// Without the lock: whoever is told may use the bus.
    fn tell(&self, after: After) {
        if let Some(producer) = after.producer {
            producer.wake();
        }
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
            let Some(settled) = state.engine.poll_settled() else {
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
            self.deliver_outcome(settled);
        }
    }

    fn deliver_outcome(&self, settled: Settled<Watcher>) {
        let Settled { watcher, outcome } = settled;
        if let Err(error) = &outcome {
            self.report(error, watcher.is_some());
        }
        if let Some(watcher) = watcher {
            watcher.tell(outcome);
        }
    }

    fn report(&self, error: &PublishError, is_watched: bool) {
        match &self.on_failure {
            Some(on_failure) => {
                let told = catch_unwind(AssertUnwindSafe(|| on_failure(error.clone())));
                if told.is_err() {
                    tracing::error!("`on_failure` of an event bus has panicked");
                }
            }
            None if is_watched => {}
            None => {
                if let Some(count) = self.untold.add(self.driver.nanos(self.driver.now())) {
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
    }

    /// The epoch whose connection is certainly gone.
    fn lost_epoch(&self) -> u64 {
        let state = *self.connection.state().borrow();
        if state.is_connected() {
            state.epoch.saturating_sub(1)
        } else {
            state.epoch
        }
    }
}

/// Failures that nobody is told of, and that the log is told of once a second: there may be as many as events.
#[derive(Debug, Default)]
pub(crate) struct Untold {
    count: AtomicU64,
    /// When the log was told, in nanoseconds; 0 before the first time.
    told_at: AtomicU64,
}

impl Untold {
    /// Another one. How many the log is to be told of now, if it is.
    pub(crate) fn add(&self, now: u64) -> Option<u64> {
        const SECOND: u64 = 1_000_000_000;
        self.count.fetch_add(1, Relaxed);
        let told_at = self.told_at.load(Relaxed);
        let is_due = told_at == 0 || now.saturating_sub(told_at) >= SECOND;
        let is_mine = is_due
            && self
                .told_at
                .compare_exchange(told_at, now.max(1), Relaxed, Relaxed)
                .is_ok();
        is_mine.then(|| self.count.swap(0, Relaxed))
    }
}

/// Who has to be told when the lock is released.
fn gather(state: &mut State) -> After {
    let State {
        engine,
        producers,
        flushes,
        wakes,
        ..
    } = state;
    let oldest = engine.oldest().unwrap_or(u64::MAX);
    After {
        producer: producers.wake(|size| engine.has_room(size) && (engine.is_roomy() || std::mem::take(wakes))),
        tells: engine.has_settled() || flushes.iter().any(|flush| flush.before <= oldest),
        route: None,
    }
}

fn refusal(event: Event, (kind, flaw): (PublishErrorKind, Option<crate::Flaw>)) -> PublishError {
    match flaw {
        Some(flaw) => PublishError::invalid(event, flaw),
        None => PublishError::unsent(event, kind),
    }
}

impl Route for Shared {
    fn deliver(self: Arc<Self>, arrival: Arrival<'_>) {
        let Some(token) = Token::read(arrival.rest) else {
            return;
        };
        let message = &arrival.message;
        let reply = match message.status {
            Some(async_nats::StatusCode::NO_RESPONDERS) => Reply::Refused(Refusal::no_responders()),
            // A 429 comes with a status, and with what an answer without one has.
            _ => match reply::read(&message.payload) {
                Some(reply) => reply,
                None => {
                    // A service that listens on the subject too.
                    tracing::debug!("an answer to an event is not a stream's");
                    return;
                }
            },
        };
        let mut state = self.state.lock();
        let is_ack = matches!(reply, Reply::Stored(_));
        match reply {
            Reply::Stored(stored) => state.engine.handle_stored(token, stored),
            Reply::Refused(refusal) => state.engine.handle_refusal(self.now(), token, refusal),
        }
        // An ack that lets no other event go needs neither the time nor a timer: both are a good part of all the work.
        let after = if is_ack && !state.engine.is_ready() && state.access == Access::Open {
            let after = gather(&mut state);
            if state.wake_at.is_none() && state.producers.len() > 0 {
                self.plan_wake(&mut state, self.now());
            }
            after
        } else {
            self.finish(&mut state, self.now())
        };
        drop(state);
        self.tell(after);
    }

    fn connection_changed(self: Arc<Self>, is_up: bool) {
        let lost = self.lost_epoch();
        self.step(|state| {
            if is_up && state.access == Access::Deaf {
                state.access = Access::Open;
            }
            state.engine.handle_disconnect(lost);
        });
    }

    fn denied(self: Arc<Self>, denied: &Denials) {
        self.step(|state| {
            state.engine.handle_denied(|subject| denied.publish(subject));
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
            if state.wake_at.is_some_and(|at| at <= now) {
                (state.wake_at, state.wakes) = (None, true);
            }
            state.engine.handle_timeout(now);
        });
    }
}

/// Takes part in the queue for room while it is polled.
pub(crate) struct Accept<'a> {
    shared: &'a Arc<Shared>,
    ticket: Option<Ticket>,
    offer: Option<(Event, Option<Watcher>)>,
}

impl<'a> Accept<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, event: Event, watcher: Option<Watcher>) -> Self {
        Self {
            shared,
            ticket: None,
            offer: Some((event, watcher)),
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
            self.shared.leave_queue(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_once_a_second_how_many_there_were() {
        let untold = Untold::default();
        let told: Vec<(u64, u64)> = (10..110)
            .map(|tenth| tenth * 100_000_000)
            .filter_map(|now| Some((now / 1_000_000_000, untold.add(now)?)))
            .collect();
        assert_eq!(told[..3], [(1, 1), (2, 10), (3, 10)]);
        assert_eq!(told.len(), 10);
    }
}
