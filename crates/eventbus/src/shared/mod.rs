//! What joins an engine to its connection: a route for the answers, a place in the driver, and whoever waits.
//!
//! - [`Shared`] is the bus itself, for any [`Machine`]; `waiting` are those who wait for room or for the end of all;
//! - `after` is what is done without the lock, where `report` tells of failures; `handle` is what a caller has.

mod after;
mod handle;
mod machine;
mod report;
mod waiting;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_nats::client::PublishErrorKind as NatsErrorKind;
use natstream_connect::{Arrival, DeadlineSlot, Denials, Driven, Driver, Lease, Route, RouteGuard, Unrouted};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::after::{After, gather};
pub(crate) use self::handle::Handle;
pub(crate) use self::machine::Machine;
pub(crate) use self::report::OnFailure;
use self::report::Reporter;
use self::waiting::Flushes;
use crate::error::{PublishError, PublishErrorKind, TryEnqueueError};
use crate::event::Event;
use crate::producers::{Producers, Ticket};

/// How long a producer waits at most for more room than it needs, in nanoseconds: acks come in bursts, and a wake-up for each
/// would cost more than the ack.
const PATIENCE: u64 = 2_000_000;

/// The bus itself. Its handles, its route and its place in the driver share it.
pub(crate) struct Shared<M: Machine> {
    connection: Lease,
    driver: Driver,
    reporter: Reporter,
    /// What the id of an event without one adds to it.
    id_len: usize,
    state: Mutex<State<M>>,
}

struct State<M> {
    machine: M,
    /// The driver drives the bus when the connection takes messages again.
    waits: bool,
    deadline: DeadlineSlot,
    producers: Producers,
    flushes: Flushes,
    access: Access,
    /// Gives up the route with the last event of a bus that nobody holds.
    route: Option<RouteGuard>,
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
    /// Not on this connection: no answer would be heard.
    Deaf,
}

impl<M: Machine> Shared<M> {
    fn new(connection: Lease, machine: M, id_len: usize, on_failure: Option<OnFailure>) -> Arc<Self> {
        Arc::new(Self {
            driver: connection.driver().clone(),
            connection,
            reporter: Reporter::new(on_failure),
            id_len,
            state: Mutex::new(State {
                machine,
                waits: false,
                deadline: DeadlineSlot::default(),
                producers: Producers::default(),
                flushes: Flushes::default(),
                access: Access::Open,
                route: None,
                is_telling: false,
                wake_at: None,
                wakes: false,
            }),
        })
    }

    /// From here on answers arrive.
    fn set_route(&self, route: RouteGuard) {
        let mut state = self.state.lock();
        state.machine.set_route(&route.subject());
        state.route = Some(route);
    }

    fn now(&self) -> u64 {
        self.driver.nanos(self.driver.now())
    }

    /// What makes it impossible to accept the event, whatever room there is.
    fn check(&self, state: &State<M>, event: Event) -> Result<Event, PublishError> {
        match state.access {
            Access::Open => {}
            Access::Closed => return Err(PublishError::unsent(event, PublishErrorKind::Closed)),
            Access::Deaf => return Err(PublishError::unsent(event, PublishErrorKind::NotPermitted)),
        }
        if let Some(flaw) = event.flaw().or_else(|| state.machine.flaw(&event)) {
            return Err(PublishError::invalid(event, flaw));
        }
        let max = self.connection.max_payload();
        let id_len = if event.has_message_id() { 0 } else { self.id_len };
        // 0: the server has not said anything yet.
        if max > 0 && event.wire_len() + id_len > max {
            return Err(PublishError::unsent(event, PublishErrorKind::TooLarge));
        }
        Ok(event)
    }

    /// Takes the event when there is room for it and nobody waits in front.
    fn poll_accept(
        self: &Arc<Self>,
        cx: &Context<'_>,
        ticket: &mut Option<Ticket>,
        event: &mut Option<Event>,
        watcher: &mut Option<M::Watcher>,
    ) -> Poll<Result<(), PublishError>> {
        let Some(offered) = event.take() else {
            return Poll::Ready(Ok(()));
        };
        let now = self.now();
        let mut state = self.state.lock();
        let offered = self.check(&state, offered)?;
        let size = offered.size();
        if !state.machine.has_room(size) || !state.producers.is_turn_of(*ticket) {
            state.producers.wait(ticket, size, cx.waker());
            *event = Some(offered);
            if state.machine.set_starved(true) {
                let after = self.finish(&mut state, now);
                drop(state);
                self.tell(after);
            }
            return Poll::Pending;
        }
        if let Some(ticket) = ticket.take() {
            state.producers.leave(ticket);
        }
        state.machine.accept(now, offered, watcher.take());
        let after = self.finish(&mut state, now);
        drop(state);
        self.tell(after);
        Poll::Ready(Ok(()))
    }

    /// Takes the event if there is room for it now; gives it back otherwise.
    fn try_accept(self: &Arc<Self>, event: Event) -> Result<(), TryEnqueueError> {
        let now = self.now();
        let mut state = self.state.lock();
        let event = self.check(&state, event).map_err(TryEnqueueError::Failed)?;
        if !state.machine.has_room(event.size()) || !state.producers.is_turn_of(None) {
            return Err(TryEnqueueError::Full(event));
        }
        state.machine.accept(now, event, None);
        let after = self.finish(&mut state, now);
        drop(state);
        self.tell(after);
        Ok(())
    }

    /// A flush of what was accepted so far: when it is over, and up to which number it goes.
    fn begin_flush(self: &Arc<Self>) -> (u64, Option<oneshot::Receiver<()>>) {
        let mut flushed = None;
        let mut state = self.state.lock();
        let before = state.machine.next_number();
        if state.machine.oldest().is_none() && !state.machine.has_settled() && !state.is_telling {
            return (before, flushed);
        }
        flushed = Some(state.flushes.wait(before));
        if state.machine.hurry() {
            let after = self.finish(&mut state, self.now());
            drop(state);
            self.tell(after);
        }
        (before, flushed)
    }

    /// How many events before this number are pending, and how many events have failed since this was asked last.
    fn end_flush(&self, before: u64) -> (u64, u64) {
        let mut state = self.state.lock();
        let failed = state.machine.failed();
        (state.machine.pending_before(before), state.flushes.tell_failed(failed))
    }

    /// Accepts nothing any more.
    fn refuse(self: &Arc<Self>) {
        let mut woken = Vec::new();
        self.step(|state, _| {
            state.access = Access::Closed;
            woken = state.producers.wake_all();
        });
        woken.into_iter().for_each(Waker::wake);
    }

    /// Gives up all that is pending, and says what that was.
    fn give_up(self: &Arc<Self>) -> Vec<PublishError> {
        let mut given_up = Vec::new();
        self.step(|state, _| given_up = state.machine.give_up(PublishErrorKind::Closed));
        given_up
    }

    /// Changes the state, and does all that follows.
    fn step(self: &Arc<Self>, change: impl FnOnce(&mut State<M>, u64)) {
        let now = self.now();
        let mut state = self.state.lock();
        change(&mut state, now);
        let after = self.finish(&mut state, now);
        drop(state);
        self.tell(after);
    }

    /// Hands over what is ready, sets the deadline, and gathers what has to be done without the lock.
    fn finish(self: &Arc<Self>, state: &mut State<M>, now: u64) -> After {
        let State { machine, producers, .. } = &mut *state;
        machine.set_starved(producers.is_waiting(|size| !machine.has_room(size)));
        self.transmit(state, now);
        self.plan_wake(state, now);
        let is_over = state.access == Access::Closed && state.machine.is_over();
        let at = state.machine.poll_timeout(now, state.waits);
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
    fn plan_wake(self: &Arc<Self>, state: &mut State<M>, now: u64) {
        let State {
            machine,
            producers,
            wake_at,
            ..
        } = state;
        let waits = wake_at.is_none() && !machine.is_roomy() && producers.is_waiting(|size| machine.has_room(size));
        if waits {
            *wake_at = Some(now.saturating_add(PATIENCE));
            state.deadline.set(&self.driver, state.wake_at, self);
        }
    }

    fn transmit(self: &Arc<Self>, state: &mut State<M>, now: u64) {
        let State { machine, waits, .. } = state;
        while machine.is_ready(now) && !*waits {
            let handed = self.driver.hand_over(self, waits, || machine.poll_transmit(now));
            let Err(error) = handed else {
                continue;
            };
            let kind = match error.kind() {
                // `max_payload` may be smaller since a reconnect.
                NatsErrorKind::MaxPayloadExceeded => PublishErrorKind::TooLarge,
                NatsErrorKind::InvalidSubject => PublishErrorKind::Invalid,
                NatsErrorKind::Send => PublishErrorKind::Closed,
            };
            machine.handle_not_sent(now, kind);
        }
    }
}

impl<M: Machine> Route for Shared<M> {
    fn deliver(self: Arc<Self>, arrival: Arrival<'_>) {
        let Some(answer) = M::read(&arrival) else {
            // A service that listens on the subject too.
            tracing::debug!("an answer to an event is not a stream's");
            return;
        };
        let mut state = self.state.lock();
        let may_go_on = state.machine.handle_answer(|| self.now(), answer);
        // An ack that lets no other event go needs neither the time nor a timer: both are a good part of all the work.
        let after = if !may_go_on && state.access == Access::Open {
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
        self.step(|state, now| {
            if is_up && state.access == Access::Deaf {
                state.access = Access::Open;
            }
            state.machine.handle_connection(now, is_up, &self.connection);
        });
    }

    fn denied(self: Arc<Self>, denied: &Denials) {
        self.step(|state, now| {
            state.machine.handle_denied(now, denied);
            if denied.inbox() {
                state.machine.handle_end(PublishErrorKind::NotPermitted);
                if state.access == Access::Open {
                    state.access = Access::Deaf;
                }
            }
        });
    }

    fn ended(self: Arc<Self>) {
        self.refuse();
        self.step(|state, _| state.machine.handle_end(PublishErrorKind::Closed));
    }
}

impl<M: Machine> Driven for Shared<M> {
    fn drive(self: Arc<Self>, now: u64) {
        self.step(|state, _| {
            state.waits = false;
            state.deadline.fired(now);
            if state.wake_at.is_some_and(|at| at <= now) {
                (state.wake_at, state.wakes) = (None, true);
            }
            state.machine.handle_timeout(now);
        });
    }
}

/// Answers to events of a bus that has ended.
pub(crate) struct Strays;

impl Unrouted for Strays {
    fn unrouted(&self, _message: async_nats::Message) {}
}
