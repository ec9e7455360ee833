//! One stream: the machine, and what connects it to a handler, a router and a driver.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, HeaderValue, Subject};
use natstream_connect::{Deadline, Driven, Driver, Route, RouteGuard};
use parking_lot::{Mutex, MutexGuard};
use stream_proto::{
    CloseReason, Code, HEADER, Instant, Message, Open, Outbound, OutboundConfig, OutboundEvent, PushError, Status,
    Transmit,
};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::endpoint::EndpointShared;
use crate::error::{SendError, SendErrorKind};
use crate::stats::count;

/// A stream, shared by its handler's task, its sender, the router and the driver.
#[derive(Debug)]
pub(crate) struct StreamShared {
    driver: Driver,
    endpoint: Arc<EndpointShared>,
    /// The caller's reply subject.
    reply: Subject,
    /// The value of the answer's header.
    answer: HeaderValue,
    state: Mutex<State>,
    closed: Notify,
}

#[derive(Debug)]
struct State {
    outbound: Outbound,
    /// Own control subject; `None` when nothing more can arrive.
    control: Option<RouteGuard>,
    waker: Option<Waker>,
    deadline: Option<Deadline>,
    waits_to_send: bool,
    /// The handler's future is being polled at this moment: what it sends is flushed when it yields.
    in_handler: bool,
    waits_to_flush: bool,
    handler: HandlerState,
    sender_alive: bool,
    /// Counts as active until the handler has returned and the sender is gone.
    permits: Option<Permits>,
    is_counted: bool,
}

/// The call's share of the limits of its endpoint and its server.
#[derive(Debug)]
pub(crate) struct Permits {
    pub(crate) _endpoint: Option<OwnedSemaphorePermit>,
    pub(crate) _server: Option<OwnedSemaphorePermit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandlerState {
    Running,
    Returned,
}

impl StreamShared {
    /// Begins the stream that answers `open`; what it sends goes to `reply`.
    pub(crate) fn open(
        driver: Driver,
        endpoint: Arc<EndpointShared>,
        reply: Subject,
        open: &Open,
        config: &OutboundConfig,
        permits: Permits,
    ) -> Arc<Self> {
        let now = Instant::from_nanos(driver.nanos(driver.now()));
        let outbound = Outbound::new(natstream_connect::random_u32(), open, config, now);
        count(&endpoint.counters.active);
        Arc::new(Self {
            answer: HeaderValue::from(outbound.answer().encode().as_str()),
            driver,
            endpoint,
            reply,
            state: Mutex::new(State {
                outbound,
                control: None,
                waker: None,
                deadline: None,
                waits_to_send: false,
                in_handler: false,
                waits_to_flush: false,
                handler: HandlerState::Running,
                sender_alive: true,
                permits: Some(permits),
                is_counted: false,
            }),
            closed: Notify::new(),
        })
    }

    /// Starts the clocks; messages for `control` are delivered here.
    pub(crate) fn set_control(self: &Arc<Self>, control: RouteGuard) {
        let mut state = self.state.lock();
        state.control = Some(control);
        self.settle(state);
    }

    /// Takes an item, or registers the waker. True when a message was completed with it.
    pub(crate) fn poll_send(self: &Arc<Self>, cx: &Context<'_>, item: &[u8]) -> Poll<Result<bool, SendError>> {
        let mut state = self.state.lock();
        match state.outbound.push(item) {
            Ok(()) => {
                let is_full = state.outbound.wants_transmit();
                if is_full {
                    self.settle(state);
                } else if !state.in_handler && !std::mem::replace(&mut state.waits_to_flush, true) {
                    drop(state);
                    self.driver.schedule(self.clone());
                }
                Poll::Ready(Ok(is_full))
            }
            Err(PushError::Blocked) => {
                if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    state.waker = Some(cx.waker().clone());
                }
                let now = self.now();
                state.outbound.wait_for_credit(now);
                self.settle(state);
                Poll::Pending
            }
            Err(error) => {
                let kind = match error {
                    PushError::TooLarge { size, max } => SendErrorKind::TooLarge { size, max },
                    _ => SendErrorKind::Closed,
                };
                let reason = state.outbound.closed();
                Poll::Ready(Err(SendError { kind, reason }))
            }
        }
    }

    pub(crate) fn flush(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.outbound.flush();
        self.settle(state);
    }

    /// The sender said how the stream ends.
    pub(crate) fn end(self: &Arc<Self>, status: Status) {
        let mut state = self.state.lock();
        state.sender_alive = false;
        state.outbound.finish(status);
        self.release(&mut state);
        self.settle(state);
    }

    /// The sender was dropped without saying how the stream ends.
    pub(crate) fn sender_dropped(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.sender_alive = false;
        if state.handler == HandlerState::Returned {
            state.outbound.finish(Status::new(
                Code::Aborted,
                "the handler dropped its sender without an end",
            ));
        }
        self.release(&mut state);
        self.settle(state);
    }

    /// The handler's future is about to be polled.
    pub(crate) fn enter_handler(&self) {
        self.state.lock().in_handler = true;
    }

    /// The handler's future has yielded: nothing waits for more items.
    pub(crate) fn leave_handler(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.in_handler = false;
        state.outbound.flush();
        if state.outbound.wants_transmit() {
            self.settle(state);
        }
    }

    /// The handler has returned.
    pub(crate) fn handler_returned(self: &Arc<Self>, result: Result<(), Status>) {
        let mut state = self.state.lock();
        state.in_handler = false;
        state.handler = HandlerState::Returned;
        match result {
            Err(status) => state.outbound.finish(status),
            Ok(()) if !state.sender_alive => state.outbound.finish(Status::ok()),
            Ok(()) => state.outbound.flush(),
        }
        self.release(&mut state);
        self.settle(state);
    }

    /// Ends the stream at once, whatever was not sent yet (rule 58).
    pub(crate) fn abort(self: &Arc<Self>, status: Status) {
        let mut state = self.state.lock();
        state.outbound.abort(status, CloseReason::Local);
        self.settle(state);
    }

    /// Drops what is kept for sending again.
    pub(crate) fn forget(&self) {
        let mut state = self.state.lock();
        let control = state.control.take();
        if let Some(deadline) = state.deadline.take() {
            self.driver.disarm(deadline);
        }
        drop(state);
        drop(control);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().outbound.closed().is_some()
    }

    pub(crate) fn max_item(&self) -> u64 {
        self.state.lock().outbound.max_item()
    }

    pub(crate) async fn closed(&self) -> CloseReason {
        loop {
            let notified = self.closed.notified();
            let reason = self.state.lock().outbound.closed();
            match reason {
                Some(reason) => return reason,
                None => notified.await,
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.driver.nanos(self.driver.now()))
    }

    /// Gives back the call's share of the limits once neither handler nor sender is left.
    fn release(&self, state: &mut State) {
        if state.handler == HandlerState::Returned && !state.sender_alive && state.permits.take().is_some() {
            self.endpoint.counters.active.fetch_sub(1, Ordering::Relaxed);
            self.endpoint.server.call_ended(self);
        }
    }

    /// Drains the machine after a change: messages, events, timers. Releases the lock, then wakes who waits.
    fn settle(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        self.transmit(&mut state);
        let mut wake = None;
        let mut is_closed = false;
        let mut forgotten = None;
        while let Some(event) = state.outbound.poll_event() {
            match event {
                OutboundEvent::Ready => wake = state.waker.take(),
                OutboundEvent::Closed(_) => {
                    is_closed = true;
                    wake = state.waker.take();
                }
                OutboundEvent::Forgotten => forgotten = state.control.take(),
                _ => {}
            }
        }
        let kept = self.count_end(&mut state);
        self.rearm(&mut state);
        drop(state);
        drop(forgotten);
        if is_closed {
            self.closed.notify_waiters();
        }
        if let Some(waker) = wake {
            waker.wake();
        }
        if let Some(kept) = kept {
            self.endpoint.server.finished.add(Arc::downgrade(self), kept);
        }
    }

    /// Counts the stream once when it has ended. What it keeps from then on comes out of a common budget.
    fn count_end(&self, state: &mut State) -> Option<u64> {
        let end = state.outbound.end();
        let closed = state.outbound.closed();
        if state.is_counted || (end.is_none() && closed.is_none()) {
            return None;
        }
        state.is_counted = true;
        let stats = state.outbound.stats();
        let counters = &self.endpoint.counters;
        counters.items.fetch_add(stats.items, Ordering::Relaxed);
        counters.bytes.fetch_add(stats.bytes, Ordering::Relaxed);
        count(match (closed, end) {
            (Some(_), _) => &counters.cancelled,
            (None, Some(status)) if status.is_ok() => &counters.finished,
            (None, _) => &counters.failed,
        });
        (!state.outbound.is_forgotten()).then(|| state.outbound.kept())
    }

    /// Hands over what the machine wants to send, as far as the connection takes it.
    fn transmit(self: &Arc<Self>, state: &mut State) {
        if !state.outbound.wants_transmit() {
            return;
        }
        let now = self.now();
        let mut publisher = self.driver.publisher().lock();
        while state.outbound.wants_transmit() {
            if !publisher.poll_ready() {
                if !std::mem::replace(&mut state.waits_to_send, true) {
                    self.driver.wait_ready(self.clone());
                }
                return;
            }
            let Some(transmit) = state.outbound.poll_transmit(now) else {
                return;
            };
            let control = state.control.as_ref().filter(|_| transmit.control);
            let message = OutboundMessage {
                subject: self.reply.clone(),
                reply: control.map(|control| control.subject().clone()),
                headers: self.headers(&transmit),
                payload: transmit.payload,
            };
            if let Err(error) = publisher.publish(message) {
                tracing::warn!(%error, subject = self.endpoint.subject, "a unit could not be handed over");
                return;
            }
        }
    }

    fn headers(&self, transmit: &Transmit) -> Option<HeaderMap> {
        if !transmit.header && transmit.failure.is_none() {
            return None;
        }
        let mut headers = HeaderMap::new();
        if transmit.header {
            headers.insert(HEADER, self.answer.clone());
        }
        if let Some(failure) = &transmit.failure {
            insert_failure(&mut headers, failure);
        }
        Some(headers)
    }

    /// Sees to it that the driver comes back in time. A deadline that is too early does no harm, so it is left alone.
    fn rearm(self: &Arc<Self>, state: &mut State) {
        let next = state
            .outbound
            .poll_timeout()
            .map(|at| self.driver.at_nanos(at.as_nanos()));
        let next = next.filter(|_| state.control.is_some());
        match (next, state.deadline) {
            (Some(next), Some(armed)) if armed.at() <= next => {}
            (Some(next), armed) => {
                if let Some(armed) = armed {
                    self.driver.disarm(armed);
                }
                state.deadline = Some(self.driver.arm(next, self.clone()));
            }
            (None, Some(armed)) => {
                self.driver.disarm(armed);
                state.deadline = None;
            }
            (None, None) => {}
        }
    }
}

/// Longest text of the error header: it must fit into what a unit leaves free for headers. The whole message is in the unit.
const MAX_FAILURE_HEADER: usize = 256;

/// The two headers in which NATS services say that they failed (ADR-32), in ASCII; the code is never 503.
pub(crate) fn insert_failure(headers: &mut HeaderMap, failure: &Status) {
    let ascii = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let message: String = failure
        .to_string()
        .chars()
        .take(MAX_FAILURE_HEADER)
        .map(ascii)
        .collect();
    headers.insert("Nats-Service-Error", message.as_str());
    headers.insert("Nats-Service-Error-Code", failure.code.as_u8().to_string().as_str());
}

impl Route for StreamShared {
    fn deliver(self: Arc<Self>, _rest: &str, message: async_nats::Message) {
        let input = Message {
            status: message.status.map(|status| status.as_u16()),
            header: None,
            has_headers: message.headers.is_some(),
            has_control: message.reply.is_some(),
            payload: message.payload,
        };
        let now = self.now();
        let mut state = self.state.lock();
        if let Err(error) = state.outbound.handle(now, &input) {
            tracing::debug!(%error, subject = self.endpoint.subject, "a control message was ignored");
        }
        self.settle(state);
    }
}

impl Driven for StreamShared {
    fn drive(self: Arc<Self>, now: tokio::time::Instant) {
        let nanos = self.driver.nanos(now);
        let mut state = self.state.lock();
        state.waits_to_send = false;
        if std::mem::take(&mut state.waits_to_flush) {
            state.outbound.flush();
        }
        // Whether it was the deadline, room to send or a flush: an armed deadline that lies ahead stays armed.
        if state
            .deadline
            .is_some_and(|armed| self.driver.nanos(armed.at()) <= nanos)
        {
            state.deadline = None;
        }
        state.outbound.handle_timeout(Instant::from_nanos(nanos));
        self.settle(state);
    }
}

/// For the list of running streams that a drain ends.
pub(crate) type StreamRef = Weak<StreamShared>;
