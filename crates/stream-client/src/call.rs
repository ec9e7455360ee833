//! One attempt of a call: the machine, and what connects it to a router and a driver.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, HeaderName, HeaderValue, Subject};
use bytes::Bytes;
use natstream_connect::{Arrival, DeadlineSlot, Denials, Driven, Route, RouteGuard, own_header};
use parking_lot::{Mutex, MutexGuard};
use stream_proto::{
    CloseCode, ControlUse, Denied, InboundEvent, InboundStats, Instant, Items, Message, ServiceError, Termination,
};

use crate::common::Waits;
use crate::dialect::Dialect;
use crate::host::Host;
use crate::machine::Machine;
use crate::offline::Client;
use crate::responses::Guarantee;

/// Payloads below this size are copied: cut out of async-nats's read buffer, each would keep 64 KiB alive.
const COPY_BELOW: usize = 4096;

/// One call, and its attempt at this moment. The router delivers into it, the driver wakes it, the user's [`Responses`](crate::Responses) reads it.
pub(crate) struct Call {
    host: Arc<Host>,
    asked: Asked,
    state: Mutex<State>,
}

struct State {
    inbound: Machine,
    /// Own reply subject; `None` when nothing more can arrive.
    route: Option<RouteGuard>,
    /// Where to send to.
    control: Option<Box<str>>,
    /// Every mapped control subject that was seen. Each costs nats-server a mapping until it gets a bare empty message.
    #[expect(
        clippy::box_collection,
        reason = "few streams have one, and ten thousand idle ones pay for it"
    )]
    mapped: Option<Box<Vec<Box<str>>>>,
    metadata: Option<Box<HeaderMap>>,
    waker: Option<Waker>,
    deadline: DeadlineSlot,
    waits_to_send: bool,
    /// What this side calls itself, until the end.
    client: Option<Arc<Client>>,
    reconnects: u32,
}

/// What was asked, and how.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) subject: Arc<str>,
    pub(crate) dialect: Dialect,
}

/// What the user sees next.
#[derive(Debug)]
pub(crate) enum Next {
    Items(Items),
    End(Termination),
}

/// Mapped control subjects that are kept; nats-server keeps 2 KB for each until it is ended.
const MAX_MAPPED: usize = 256;

impl State {
    /// Notes a mapped control subject; the one that there is no room for any more is returned, to be ended.
    fn keep_mapped(&mut self, control: &str) -> Option<Box<str>> {
        if !stream_proto::is_mapped(control) {
            return None;
        }
        let mapped = self.mapped.get_or_insert_default();
        if !mapped.iter().any(|other| **other == *control) {
            mapped.push(control.into());
        }
        (mapped.len() > MAX_MAPPED).then(|| mapped.remove(0))
    }
}

impl Call {
    /// A call whose machine was made just now. It becomes reachable with [`set_route`](Self::set_route).
    pub(crate) fn new(host: Arc<Host>, inbound: Machine, asked: Asked, client: Option<Arc<Client>>) -> Arc<Self> {
        Arc::new(Self {
            host,
            asked,
            state: Mutex::new(State {
                inbound,
                route: None,
                control: None,
                mapped: None,
                metadata: None,
                waker: None,
                deadline: DeadlineSlot::default(),
                waits_to_send: false,
                client,
                reconnects: 0,
            }),
        })
    }

    /// Starts the clocks; messages for `route` are delivered here.
    pub(crate) fn set_route(self: &Arc<Self>, route: RouteGuard) {
        let mut state = self.state.lock();
        if state.inbound.termination().is_none() {
            state.route = Some(route);
            self.settle(state);
        }
        // Otherwise it ended when its route was added: nothing arrives here. The route goes after the lock.
    }

    /// Says nothing about this side when it is cancelled.
    pub(crate) fn forget_client(&self) {
        self.state.lock().client = None;
    }

    /// Did nats-server refuse something that it needs?
    pub(crate) fn is_denied(&self) -> bool {
        let state = self.state.lock();
        matches!(state.inbound.termination(), Some(Termination::NotPermitted(_)))
    }

    /// What was asked.
    pub(crate) fn subject(&self) -> Arc<str> {
        self.asked.subject.clone()
    }

    pub(crate) fn reconnects(&self) -> u32 {
        self.state.lock().reconnects
    }

    pub(crate) fn poll_next(self: &Arc<Self>, cx: &Context<'_>) -> Poll<Next> {
        let now = self.host.now();
        let mut state = self.state.lock();
        // Dropped after the lock is released: a waker may own more than it seems.
        let mut stale = None;
        let next = match state.inbound.poll_items(now) {
            Some(items) => Poll::Ready(Next::Items(items)),
            None => match state.inbound.termination() {
                Some(termination) => Poll::Ready(Next::End(termination.clone())),
                None => {
                    if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                        stale = state.waker.replace(cx.waker().clone());
                    }
                    Poll::Pending
                }
            },
        };
        self.settle(state);
        drop(stale);
        next
    }

    /// The user waits no longer, for now.
    pub(crate) fn pause(self: &Arc<Self>) {
        let now = self.host.now();
        let mut state = self.state.lock();
        state.inbound.pause_waiting(now);
        self.settle(state);
    }

    /// The user lost interest.
    pub(crate) fn cancel(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let stale = state.waker.take();
        // It is gone if the call has ended by itself.
        let is_plain = state.inbound.guarantee() == Guarantee::Plain;
        let left = state.client.take().filter(|_| is_plain);
        state.inbound.cancel();
        self.settle(state);
        drop(stale);
        if let Some(client) = left {
            client.leave(&self.host);
        }
    }

    pub(crate) fn guarantee(&self) -> Guarantee {
        self.state.lock().inbound.guarantee()
    }

    pub(crate) fn metadata(&self) -> Option<HeaderMap> {
        self.state.lock().metadata.as_deref().cloned()
    }

    /// The value of one of the headers of the first message.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        // A name that cannot be one would panic in there.
        let name: HeaderName = name.parse().ok()?;
        let state = self.state.lock();
        let value = state.metadata.as_ref()?.get(name)?;
        Some(value.as_str().to_owned())
    }

    pub(crate) fn stats(&self) -> InboundStats {
        self.state.lock().inbound.stats()
    }

    /// Drains the machine after a change: messages, events, timers. Releases the lock, then wakes the user.
    fn settle(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        self.transmit(&mut state);
        let mut wake = None;
        let mut ended = None;
        while let Some(event) = state.inbound.poll_event() {
            match event {
                InboundEvent::Readable => wake = state.waker.take().or(wake),
                // What still arrives is nobody's from here on; the router's owner answers it (rule 9).
                InboundEvent::Terminated => {
                    ended = state.route.take();
                    state.client = None;
                    self.host.common.ended(self, &state.inbound.stats());
                }
                _ => {}
            }
        }
        let next = state.inbound.poll_timeout().map(Instant::as_nanos);
        state.deadline.set(&self.host.driver, next, self);
        drop(state);
        drop(ended);
        if let Some(waker) = wake {
            waker.wake();
        }
    }

    /// Hands over what the machine wants to send, as far as the connection takes it.
    fn transmit(self: &Arc<Self>, state: &mut State) {
        let ends_mappings = state.inbound.termination().is_some() && state.mapped.is_some();
        if !state.inbound.wants_transmit() && !ends_mappings {
            return;
        }
        let State {
            inbound,
            route,
            control: Some(control),
            mapped,
            waits_to_send,
            ..
        } = state
        else {
            return;
        };
        let now = self.host.now();
        let handed = self.host.driver.hand_over(self, waits_to_send, || {
            let Some(transmit) = inbound.poll_transmit(now) else {
                // After everything else, the mappings end (rule 61).
                if !ends_mappings {
                    return None;
                }
                let subject = mapped.as_mut().and_then(|mapped| mapped.pop());
                if subject.is_none() {
                    *mapped = None;
                }
                return subject.map(|subject| bare_empty(Subject::from(&*subject)));
            };
            let reply = route.as_ref().filter(|_| transmit.control);
            Some(OutboundMessage {
                subject: Subject::from(&**control),
                reply: reply.map(RouteGuard::subject),
                payload: transmit.payload,
                headers: None,
            })
        });
        if let Err(error) = handed {
            // Only a closed connection refuses so small a message; the router ends the call then.
            tracing::debug!(%error, "a control message could not be handed over");
        }
    }
}

impl Route for Call {
    fn deliver(self: Arc<Self>, arrival: Arrival<'_>) {
        let message = arrival.message;
        let now = self.host.now();
        let reply = message.reply.filter(|reply| self.host.is_safe(reply));
        let headers = message.headers.as_ref();
        let input = Message {
            status: message.status.map(|status| status.as_u16()),
            header: headers
                .and_then(|headers| headers.get(own_header()))
                .map(HeaderValue::as_str),
            has_headers: headers.is_some(),
            has_control: reply.is_some(),
            service_error: headers.and_then(service_error),
            is_mapped: reply.as_ref().is_some_and(|reply| stream_proto::is_mapped(reply)),
            may_follow_loss: arrival.may_follow_loss,
            payload: compact(message.payload),
        };
        let mut state = self.state.lock();
        let was_over = state.inbound.termination().is_some();
        let had_begun = state.inbound.has_begun();
        let outcome = state.inbound.handle(now, &input, self.asked.dialect.plain());
        if !had_begun && state.inbound.has_begun() {
            // The first message carries the responder's own headers. Our header alone is nothing that a user asks for.
            let ours = usize::from(input.header.is_some());
            let headers = message.headers.filter(|headers| headers.len() > ours);
            state.metadata = headers.map(Box::new);
        }
        let oldest = match (outcome, reply) {
            (ControlUse::Use, Some(reply)) => {
                let oldest = state.keep_mapped(&reply);
                // A copy: the subject is cut out of a read buffer of 64 KiB, which it would keep alive.
                state.control = Some(reply.as_str().into());
                oldest
            }
            (ControlUse::Keep, Some(reply)) => state.keep_mapped(&reply),
            (ControlUse::Refuse(sid), Some(reply)) => {
                if was_over {
                    self.host.refuse_stray(reply, sid);
                } else {
                    self.host.refuse(reply, sid, CloseCode::Unwanted);
                }
                None
            }
            _ => None,
        };
        if let Some(oldest) = oldest {
            self.host.end_mapping(oldest.as_ref().into());
        }
        self.settle(state);
    }

    fn overflowed(self: Arc<Self>) {
        let mut state = self.state.lock();
        state.inbound.handle_overflow();
        self.settle(state);
    }

    fn denied(self: Arc<Self>, denied: &Denials) {
        let mut state = self.state.lock();
        if denied.inbox() {
            state.inbound.handle_denied(Denied::Inbox);
        }
        if denied.publish(&self.asked.subject) && !state.inbound.is_answered() {
            state.inbound.handle_denied(Denied::Request);
        }
        if state.control.as_ref().is_some_and(|control| denied.publish(control)) {
            state.inbound.handle_denied(Denied::Control);
        }
        self.settle(state);
    }

    fn connection_changed(self: Arc<Self>, is_up: bool) {
        let now = self.host.now();
        let mut state = self.state.lock();
        if is_up {
            state.inbound.handle_reconnected(now);
        } else {
            // Counted here: not every call lives on until it is back.
            state.reconnects += 1;
            state.inbound.handle_disconnected(now);
        }
        self.settle(state);
    }

    fn ended(self: Arc<Self>) {
        let mut state = self.state.lock();
        state.inbound.handle_closed();
        self.settle(state);
    }
}

impl Waits for Call {
    fn give_up(self: Arc<Self>) {
        self.cancel();
    }
}

impl Driven for Call {
    fn drive(self: Arc<Self>, now: u64) {
        let mut state = self.state.lock();
        state.waits_to_send = false;
        state.deadline.fired(now);
        state.inbound.handle_timeout(Instant::from_nanos(now));
        self.settle(state);
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

/// The two headers in which services say that they failed.
pub(crate) fn service_error(headers: &HeaderMap) -> Option<ServiceError<'_>> {
    let (code, text) = (headers.get(ServiceError::CODE), headers.get(ServiceError::TEXT));
    // Either of them says so.
    code.or(text)?;
    Some(ServiceError {
        code: code.map_or("", HeaderValue::as_str),
        text: text.map_or("", HeaderValue::as_str),
    })
}

/// What ends a mapping between accounts. Never for a subject that is not mapped (rule 60).
pub(crate) fn bare_empty(subject: Subject) -> OutboundMessage {
    OutboundMessage {
        subject,
        reply: None,
        payload: Bytes::new(),
        headers: None,
    }
}

/// `payload`, or a copy of it that does not keep a whole read buffer alive.
pub(crate) fn compact(payload: Bytes) -> Bytes {
    if payload.len() < COPY_BELOW {
        Bytes::copy_from_slice(&payload)
    } else {
        payload
    }
}
