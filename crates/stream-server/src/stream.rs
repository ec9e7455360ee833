//! One stream: the machine, and what connects it to a handler, a router and a driver.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, Subject};
use natstream_connect::{Arrival, DeadlineSlot, Denials, Driven, Driver, Route, RouteGuard, headers_len, user_header};
use parking_lot::{Mutex, MutexGuard};
use stream_proto::{Answer, CloseReason, Code, Frame, Instant, Message, OutboundEvent, PushError, Status};
use tokio::sync::Notify;
use tracing::Span;

use crate::answered::Kept;
use crate::endpoint::EndpointShared;
use crate::error::{SendError, SendErrorKind};
use crate::finished::FINISHED;
use crate::limit::Permit;
use crate::machine::Machine;
use crate::stats::count;
use meter::Meter;

pub(crate) use self::headers::{MAX_METADATA, headers, insert_failure};

mod headers;
mod meter;
mod observe;

/// A stream, shared by its handler's task, its sender, the router and the driver.
pub(crate) struct StreamShared {
    driver: Driver,
    endpoint: Arc<EndpointShared>,
    /// The caller's reply subject.
    reply: Subject,
    /// The stream id, and what goes into the answer's header; a plain stream has none.
    answer: Option<(u32, Answer)>,
    /// What the caller of a plain stream calls itself.
    client: Option<Box<str>>,
    state: Mutex<State>,
    closed: Notify,
}

struct State {
    outbound: Machine,
    /// Own control subject; `None` when nothing more can arrive.
    control: Option<RouteGuard>,
    /// Of the sender's task, which waits for credit.
    waker: Option<Waker>,
    deadline: DeadlineSlot,
    /// The handler's own headers, for the first message.
    metadata: Option<Box<HeaderMap>>,
    waits_to_send: bool,
    /// Where the handler's future is being polled at this moment: what it sends is flushed when it yields.
    in_handler: Option<ThreadId>,
    waits_to_flush: bool,
    handler_returned: bool,
    sender_alive: bool,
    /// The call counts as active while it has these; until then it is queued.
    permits: Option<Permits>,
    /// The server does not count it as running any more.
    is_done: bool,
    /// The server waits for the caller's confirmation of the end.
    awaits_close: bool,
    is_counted: bool,
    is_kept: bool,
    meter: Meter,
    /// Is told how the call ended. In a box, since most calls have none.
    span: Option<Box<Span>>,
}

/// The call's share of the limits of its endpoint and its server.
#[derive(Debug)]
pub(crate) struct Permits {
    pub(crate) _endpoint: Permit,
    pub(crate) _server: Permit,
}

impl State {
    /// Why nothing more can be sent, if so.
    fn close_reason(&self) -> Option<CloseReason> {
        let own = || self.outbound.end().map(|_| CloseReason::Local);
        self.outbound.closed().or_else(own)
    }

    /// Has everything been done for the call, but for the caller's confirmation?
    fn is_over(&self) -> bool {
        let is_sent = self.outbound.is_end_sent() || self.outbound.is_forgotten();
        is_sent && self.handler_returned && !self.sender_alive
    }

    /// What is kept for sending again, once: when everything was sent and only the confirmation is missing.
    fn keep(&mut self) -> Option<u64> {
        if self.is_kept || self.outbound.is_forgotten() || !self.outbound.is_end_sent() {
            return None;
        }
        self.is_kept = true;
        Some(self.outbound.kept())
    }
}

impl StreamShared {
    /// Begins a stream; what it sends goes to `reply`.
    pub(crate) fn new(
        driver: Driver,
        endpoint: Arc<EndpointShared>,
        reply: Subject,
        outbound: Machine,
        client: Option<Box<str>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            answer: outbound.answer(),
            driver,
            endpoint,
            reply,
            client,
            state: Mutex::new(State {
                outbound,
                control: None,
                waker: None,
                deadline: DeadlineSlot::default(),
                metadata: None,
                waits_to_send: false,
                in_handler: None,
                waits_to_flush: false,
                handler_returned: false,
                sender_alive: true,
                permits: None,
                is_done: false,
                awaits_close: false,
                is_counted: false,
                is_kept: false,
                meter: Meter::default(),
                span: None,
            }),
            closed: Notify::new(),
        })
    }

    /// Starts the clocks; messages for `control` are delivered here.
    pub(crate) fn set_control(self: &Arc<Self>, control: RouteGuard) {
        let mut state = self.state.lock();
        if state.outbound.is_forgotten() {
            // It ended when its route was there already. The route goes after the lock.
            return;
        }
        state.control = Some(control);
        self.settle(state);
    }

    /// The handler begins; false when the call is over by now, and may have been called not processed.
    pub(crate) fn started(&self, permits: Permits) -> bool {
        let mut state = self.state.lock();
        if state.close_reason().is_some() {
            return false;
        }
        state.permits = Some(permits);
        state.meter.begin(self.now());
        count(&self.endpoint.counters.begun);
        count(&self.endpoint.counters.active);
        true
    }

    /// The call was over before its handler could begin.
    pub(crate) fn never_started(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.sender_alive = false;
        state.handler_returned = true;
        self.settle(state);
    }

    /// Adds a header to the first message.
    pub(crate) fn add_header(&self, name: &str, value: &str) -> Result<(), SendError> {
        let error = |kind| SendError { kind, reason: None };
        let (name, value) = user_header(name, value).ok_or_else(|| error(SendErrorKind::InvalidHeader))?;
        let mut state = self.state.lock();
        if state.outbound.has_begun() {
            return Err(error(SendErrorKind::HeadersSent));
        }
        let mut headers = state.metadata.as_deref().cloned().unwrap_or_default();
        headers.append(name, value);
        if headers_len(&headers) > MAX_METADATA {
            return Err(error(SendErrorKind::InvalidHeader));
        }
        state.metadata = Some(Box::new(headers));
        Ok(())
    }

    /// Takes an item, or registers the waker. True when a message was completed with it.
    pub(crate) fn poll_send(self: &Arc<Self>, cx: &Context<'_>, item: &[u8]) -> Poll<Result<bool, SendError>> {
        let mut state = self.state.lock();
        match state.outbound.push(item) {
            Ok(()) => {
                let is_full = state.outbound.wants_transmit();
                // Also when older messages wait for the connection: this item may be the last for long.
                let schedules = state.in_handler.is_none() && !std::mem::replace(&mut state.waits_to_flush, true);
                if is_full {
                    self.settle(state);
                } else {
                    drop(state);
                }
                if schedules {
                    self.driver.schedule(self.clone());
                }
                Poll::Ready(Ok(is_full))
            }
            Err(PushError::Blocked) => {
                let now = self.now();
                if state.waker.is_none() {
                    state.meter.stall(now);
                }
                let is_same = |waker: &Waker| waker.will_wake(cx.waker());
                // Dropped after the lock is released: a waker may own more than it seems.
                let mut stale = None;
                if !state.waker.as_ref().is_some_and(is_same) {
                    stale = state.waker.replace(cx.waker().clone());
                }
                state.outbound.wait_for_room(now);
                self.settle(state);
                drop(stale);
                Poll::Pending
            }
            Err(error) => {
                let kind = match error {
                    PushError::TooLarge { size, max } => SendErrorKind::TooLarge { size, max },
                    PushError::NotRepresentable => SendErrorKind::NotRepresentable,
                    _ => SendErrorKind::Closed,
                };
                let reason = state.close_reason();
                // What cannot be represented has ended the stream.
                self.settle(state);
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
        self.settle(state);
    }

    /// The sender was dropped without saying how the stream ends.
    pub(crate) fn sender_dropped(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.sender_alive = false;
        if state.handler_returned {
            let message = "the handler dropped its sender without an end";
            state.outbound.finish(Status::new(Code::Aborted, message));
        }
        self.settle(state);
    }

    /// The task that had the sender panicked. In the handler itself, [`Run`](crate::run::Run) says so.
    pub(crate) fn sender_panicked(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.sender_alive = false;
        if state.in_handler != Some(std::thread::current().id()) {
            state
                .outbound
                .finish(Status::new(Code::Aborted, "the task that sent panicked"));
        }
        self.settle(state);
    }

    /// The handler's future is about to be polled.
    pub(crate) fn enter_handler(&self) {
        self.state.lock().in_handler = Some(std::thread::current().id());
    }

    /// The handler's future has yielded: nothing waits for more items.
    pub(crate) fn leave_handler(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.in_handler = None;
        state.outbound.flush();
        if state.outbound.wants_transmit() {
            self.settle(state);
        }
    }

    /// The handler has returned.
    pub(crate) fn handler_returned(self: &Arc<Self>, result: Result<(), Status>) {
        let mut state = self.state.lock();
        state.in_handler = None;
        state.handler_returned = true;
        match result {
            Err(status) => state.outbound.finish(status),
            Ok(()) if !state.sender_alive => state.outbound.finish(Status::ok()),
            Ok(()) => state.outbound.flush(),
        }
        self.settle(state);
    }

    /// The handler was dropped; it fails unless it has returned.
    pub(crate) fn handler_dropped(self: &Arc<Self>) {
        let has_returned = self.state.lock().handler_returned;
        if !has_returned {
            let message = "the handler was dropped before it returned";
            self.handler_returned(Err(Status::new(Code::Aborted, message)));
        }
    }

    /// Ends the stream at once, whatever was not sent yet (rule 58).
    pub(crate) fn abort(self: &Arc<Self>, mut status: Status) {
        let mut state = self.state.lock();
        status.not_processed = state.permits.is_none() && !state.is_done;
        state.outbound.abort(status, CloseReason::Local);
        self.settle(state);
    }

    /// The caller has left, somebody says.
    pub(crate) fn client_left(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.outbound.handle_left();
        self.settle(state);
    }

    /// What the caller of a plain stream calls itself.
    pub(crate) fn client(&self) -> Option<&str> {
        self.client.as_deref()
    }

    /// Drops what is kept for sending again.
    pub(crate) fn forget(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.outbound.give_up(CloseReason::Local);
        self.settle(state);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().close_reason().is_some()
    }

    pub(crate) fn max_item(&self) -> u64 {
        self.state.lock().outbound.max_item()
    }

    pub(crate) async fn closed(&self) -> CloseReason {
        loop {
            let notified = self.closed.notified();
            let reason = self.state.lock().close_reason();
            match reason {
                Some(reason) => return reason,
                None => notified.await,
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.driver.nanos(self.driver.now()))
    }

    /// Drains the machine after a change: messages, events, timers. Releases the lock, then wakes who waits.
    fn settle(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        self.transmit(&mut state);
        let whole = state.outbound.release().map(|transmit| Kept {
            endpoint: Arc::downgrade(&self.endpoint),
            reply: self.reply.clone(),
            control: state.control.as_ref().map(RouteGuard::token),
            asked: None,
            transmit,
            answer: self.answer,
            metadata: state.metadata.take(),
            until: 0,
        });
        let mut is_ready = false;
        let mut forgotten = None;
        while let Some(event) = state.outbound.poll_event() {
            match event {
                OutboundEvent::Ready => is_ready = true,
                OutboundEvent::Forgotten => {
                    forgotten = state.control.take();
                    self.count_protocol(&mut state);
                }
                _ => {}
            }
        }
        let is_closed = state.close_reason().is_some();
        let wake = if is_ready || is_closed {
            state.waker.take()
        } else {
            None
        };
        if wake.is_some() {
            state.meter.go_on(self.now());
        }
        let is_over = state.is_over() && !std::mem::replace(&mut state.is_done, true);
        let permits = if is_over { state.permits.take() } else { None };
        if permits.is_some() {
            let lasted = state.meter.lasted(self.now());
            self.endpoint.counters.add_lasted(lasted);
            #[cfg(feature = "metrics")]
            self.endpoint.duration.record(lasted.as_secs_f64());
        }
        let observed = if is_over { state.observed() } else { None };
        let awaits_close = state.outbound.awaits_close();
        let awaited_close = std::mem::replace(&mut state.awaits_close, awaits_close);
        if awaits_close != awaited_close {
            self.endpoint.server.unconfirmed(awaits_close);
        }
        self.count_end(&mut state);
        let kept = state.keep();
        let is_gone = forgotten.is_some() && state.is_kept;
        let next = state.outbound.poll_timeout().map(Instant::as_nanos);
        state.deadline.set(&self.driver, next, self);
        drop(state);
        drop(forgotten);
        if let Some(whole) = whole {
            let server = &self.endpoint.server;
            server.answered.keep(whole);
        }
        if let Some(observed) = observed {
            observed.tell();
        }
        if is_closed {
            self.closed.notify_waiters();
        }
        if let Some(waker) = wake {
            waker.wake();
        }
        if permits.is_some() {
            self.endpoint.counters.active.fetch_sub(1, Ordering::Relaxed);
        }
        drop(permits);
        if is_over {
            self.endpoint.server.call_ended(self);
            self.endpoint.server.callers.left(self);
        }
        if let Some(kept) = kept {
            FINISHED.add(Arc::downgrade(self), kept);
        }
        if is_gone {
            FINISHED.gone();
        }
    }

    /// Hands over what the machine wants to send, as far as the connection takes it.
    fn transmit(self: &Arc<Self>, state: &mut State) {
        if !state.outbound.wants_transmit() {
            return;
        }
        let State {
            outbound,
            control,
            metadata,
            waits_to_send,
            ..
        } = state;
        let now = self.now();
        if outbound.hides_losses() && control.as_ref().is_some_and(RouteGuard::missed_reconnect) {
            outbound.handle_disconnected(now);
            outbound.handle_reconnected(now);
        }
        let handed = self.driver.hand_over(self, waits_to_send, || {
            let transmit = outbound.poll_transmit(now)?;
            let control = control.as_ref().filter(|_| transmit.control);
            Some(OutboundMessage {
                subject: self.reply.clone(),
                reply: control.map(RouteGuard::subject),
                headers: headers(
                    self.answer.as_ref().map(|(_, answer)| answer),
                    &transmit,
                    metadata.as_deref(),
                ),
                payload: transmit.payload,
            })
        });
        if let Err(error) = handed {
            // The unit would be refused each time it is sent (rule 14).
            tracing::warn!(%error, subject = self.endpoint.subject, "a stream was given up");
            let status = Status::new(Code::Internal, "an item was larger than nats-server takes now");
            if outbound.fail_unsent(status) {
                // Its end says so. Without control the caller sees that something is missing before it.
                return self.transmit(state);
            }
            if let Some((sid, _)) = &self.answer {
                let _ = self.driver.try_send(OutboundMessage {
                    subject: self.reply.clone(),
                    reply: None,
                    headers: None,
                    payload: Frame::Reset { sid: *sid }.encode(),
                });
            }
            outbound.give_up(CloseReason::Local);
        }
    }
}

impl Route for StreamShared {
    fn deliver(self: Arc<Self>, Arrival { message, .. }: Arrival<'_>) {
        let input = Message {
            status: message.status.map(|status| status.as_u16()),
            header: None,
            has_headers: message.headers.is_some(),
            has_control: message.reply.is_some(),
            is_mapped: false,
            service_error: None,
            may_follow_loss: false,
            payload: message.payload,
        };
        let now = self.now();
        let mut state = self.state.lock();
        if let Err(error) = state.outbound.handle(now, &input) {
            tracing::debug!(%error, subject = self.endpoint.subject, "a control message was ignored");
        }
        self.settle(state);
    }

    fn denied(self: Arc<Self>, denied: &Denials) {
        if !denied.publish(&self.reply) {
            return;
        }
        self.endpoint.denied(&self.reply);
        let mut state = self.state.lock();
        state.outbound.give_up(CloseReason::NotPermitted);
        self.settle(state);
    }

    fn connection_changed(self: Arc<Self>, is_up: bool) {
        let now = self.now();
        let mut state = self.state.lock();
        if is_up {
            state.outbound.handle_reconnected(now);
        } else {
            state.outbound.handle_disconnected(now);
        }
        self.settle(state);
    }

    fn ended(self: Arc<Self>) {
        let mut state = self.state.lock();
        state.outbound.give_up(CloseReason::Disconnected);
        self.settle(state);
    }
}

impl Driven for StreamShared {
    fn drive(self: Arc<Self>, now: u64) {
        let mut state = self.state.lock();
        state.waits_to_send = false;
        if std::mem::take(&mut state.waits_to_flush) {
            state.outbound.flush();
        }
        state.deadline.fired(now);
        let now = Instant::from_nanos(now);
        state.outbound.handle_timeout(now);
        self.settle(state);
    }
}

impl fmt::Debug for StreamShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamShared")
            .field("subject", &self.endpoint.subject)
            .finish_non_exhaustive()
    }
}
