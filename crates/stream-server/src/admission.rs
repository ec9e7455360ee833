//! What becomes of a request: a stream, or a refusal.

use std::sync::Arc;

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use natstream_connect::own_header;
use stream_proto::{Code, Frame, Instant, Offer, Open, OutboundConfig, PlainDialect, Status};
use tokio::sync::OwnedSemaphorePermit;

use crate::endpoint::{EndpointShared, ForeignDialect, max_message, max_unit};
use crate::limit::{Entry, Turn, line_up};
use crate::machine::Machine;
use crate::observed;
use crate::offline::{self, CONNECT_ID};
use crate::probe;
use crate::request::Request;
use crate::run::{HandlerFuture, Run};
use crate::sender::ResponseSender;
use crate::stats::count;
use crate::stream::{Permits, StreamShared, insert_failure};

/// When a call that was accepted begins.
#[derive(Debug)]
enum Admission {
    Now(Permits),
    /// It holds its places in the queues of the endpoint and the server, those that are full.
    Queued([Option<OwnedSemaphorePermit>; 2]),
}

/// Begins the handler.
fn run(stream: Arc<StreamShared>, request: Request, permits: Permits, handler: &ErasedHandler) {
    if !stream.started(permits) {
        return stream.never_started();
    }
    let span = observed::call(stream.subject(), stream.sid(), &request);
    stream.observe(&span);
    let run = Run {
        handler: handler(request, ResponseSender::new(stream.clone())),
        stream,
        span,
    };
    #[expect(clippy::disallowed_methods, reason = "one task for each running handler")]
    tokio::spawn(run);
}

/// Waits until the call may run; one that is over by then is never begun.
async fn wait(
    turn: Turn<Permits>,
    mut queued: Queued,
    request: Request,
    places: [Option<OwnedSemaphorePermit>; 2],
    handler: ErasedHandler,
) {
    let Some(stream) = queued.0.clone() else { return };
    tokio::select! {
        biased;
        _ = stream.closed() => stream.never_started(),
        permits = turn => run(stream, request, permits, &handler),
    }
    queued.0 = None;
    drop(places);
}

/// A call in the queue: when its task is dropped with the runtime, the caller is told.
struct Queued(Option<Arc<StreamShared>>);

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            stream.abort(shut_down());
            stream.never_started();
        }
    }
}

/// What is said to calls that are not taken any more.
fn shut_down() -> Status {
    Status {
        retryable: true,
        ..Status::new(Code::Unavailable, "the server was shut down")
    }
}

/// A handler, whatever its type.
pub(crate) type ErasedHandler = Arc<dyn Fn(Request, ResponseSender) -> HandlerFuture + Send + Sync>;

impl EndpointShared {
    /// Takes a request: begins a stream for it, or says why not. It never waits.
    pub(crate) fn accept(self: &Arc<Self>, message: Message, handler: &ErasedHandler) {
        count(&self.counters.requests);
        let reply = message.reply.as_ref();
        let Some(reply) = reply.filter(|reply| self.server.is_safe(reply)) else {
            count(&self.counters.refused_subjects);
            tracing::debug!(
                subject = self.subject,
                "a request without a usable reply subject was dropped"
            );
            return;
        };
        // A copy: the subject is cut out of a read buffer of 64 KiB, which it would keep alive.
        let reply = Subject::from(reply.as_str());
        let Some(header) = message.headers.as_ref().and_then(|headers| headers.get(own_header())) else {
            count(&self.counters.foreign);
            return self.accept_foreign(message, reply, handler);
        };
        let admitted = match Open::parse(header.as_str()) {
            Ok(Offer::Supported(open)) => self.admit(&open).map(|admission| (open, admission)),
            Ok(_) => Err(Status::new(
                Code::Unimplemented,
                "no common version of the natstream protocol",
            )),
            Err(error) => {
                count(&self.counters.malformed);
                Err(Status::new(Code::InvalidArgument, error.to_string()))
            }
        };
        match admitted {
            Ok((open, admission)) => {
                let driver = self.server.connection.driver();
                let deadline = open.deadline.and_then(|deadline| driver.now().checked_add(deadline));
                let now = Instant::from_nanos(driver.nanos(driver.now()));
                let machine = Machine::native(&open, &self.config_for(&reply), now);
                let handler = if open.probe { &probe::HANDLER } else { handler };
                self.begin(message, reply, machine, deadline, admission, handler);
            }
            Err(status) => self.refuse(reply, status),
        }
    }

    /// Takes a request of a program that does not speak the native dialect (rule 64).
    fn accept_foreign(self: &Arc<Self>, message: Message, reply: Subject, handler: &ErasedHandler) {
        let Some(dialect) = self.dialects.foreign.plain() else {
            return self.refuse_foreign(reply);
        };
        match self.admit_any() {
            Ok(admission) => {
                let max = max_message(self.server.connection.max_payload());
                let machine = Machine::plain(dialect, &self.config_for(&reply), max);
                self.begin(message, reply, machine, None, admission, handler);
            }
            Err(status) => self.refuse_plain(reply, dialect, status),
        }
    }

    fn admit(&self, open: &Open) -> Result<Admission, Status> {
        if open.deadline.is_some_and(|deadline| deadline.is_zero()) {
            return Err(Status::new(
                Code::DeadlineExceeded,
                "the deadline passed before the call",
            ));
        }
        if !open.control && !self.dialects.uncontrolled {
            let text = "this endpoint does not answer callers that may not publish to control subjects";
            return Err(Status::new(Code::PermissionDenied, text));
        }
        if !open.control && open.deadline.is_none() {
            return Err(Status::new(
                Code::InvalidArgument,
                "a call without control needs a deadline",
            ));
        }
        self.admit_any()
    }

    fn admit_any(&self) -> Result<Admission, Status> {
        if self.server.is_shut_down() {
            return Err(shut_down());
        }
        let full = |whose: &str| Status {
            retryable: true,
            retry_after: Some(self.retry_after),
            ..Status::new(Code::ResourceExhausted, format!("{whose} has no room for another call"))
        };
        match (self.limit.enter(), self.server.limit.enter()) {
            (Entry::Run(endpoint), Entry::Run(server)) => Ok(Admission::Now(Permits {
                _endpoint: endpoint,
                _server: server,
            })),
            (Entry::Full, _) => Err(full("the endpoint")),
            (_, Entry::Full) => Err(full("the server")),
            // A right to run that was taken goes back: what is asked for first is the endpoint's, then the server's.
            (endpoint, server) => Ok(Admission::Queued([endpoint, server].map(|entry| match entry {
                Entry::Wait(place) => Some(place),
                _ => None,
            }))),
        }
    }

    fn begin(
        self: &Arc<Self>,
        message: Message,
        reply: Subject,
        machine: Machine,
        deadline: Option<tokio::time::Instant>,
        admission: Admission,
        handler: &ErasedHandler,
    ) {
        let driver = self.server.connection.driver().clone();
        let client = self.client_of(&message);
        let stream = StreamShared::new(driver, self.clone(), reply, machine, client);
        self.server.call_began(&stream);
        self.server.callers.came(&stream);
        stream.set_control(self.router.add(stream.clone()));
        if self.server.is_shut_down() {
            // Since it was admitted: whoever shut down may not have seen it.
            stream.abort(shut_down());
        }
        let request = Request::new(message, deadline);
        match admission {
            Admission::Now(permits) => run(stream, request, permits, handler),
            Admission::Queued(places) => match self.line_up() {
                Ok(permits) => run(stream, request, permits, handler),
                Err(turn) => {
                    let waiting = wait(turn, Queued(Some(stream)), request, places, handler.clone());
                    #[expect(clippy::disallowed_methods, reason = "one task for each call that was accepted")]
                    tokio::spawn(waiting);
                }
            },
        }
    }

    /// The endpoint's settings for a stream that is sent to `reply`.
    fn config_for(&self, reply: &Subject) -> OutboundConfig {
        let mut config = self.config.clone();
        config.mapped = stream_proto::is_mapped(reply);
        config.max_unit = max_unit(self.server.connection.max_payload());
        config
    }

    /// What the client calls itself, where that counts: in the text dialect.
    fn client_of(&self, message: &Message) -> Option<Box<str>> {
        let headers = message.headers.as_ref()?;
        let is_heard = self.dialects.foreign == ForeignDialect::Text && self.dialects.client_offline;
        let name = headers
            .get(CONNECT_ID)
            .filter(|_| is_heard && headers.get(own_header()).is_none())?;
        offline::name(name.as_str())
    }

    /// Stands in line at the endpoint, then at the server.
    fn line_up(self: &Arc<Self>) -> Result<Permits, Turn<Permits>> {
        let endpoint = self.clone();
        line_up(async move {
            Permits {
                _endpoint: endpoint.limit.acquire().await,
                _server: endpoint.server.limit.acquire().await,
            }
        })
    }

    /// Says no; the caller knows that nothing was processed.
    fn refuse(&self, reply: Subject, status: Status) {
        let status = Status {
            not_processed: true,
            ..status
        };
        self.counters.error(&status);
        let mut headers = HeaderMap::new();
        headers.insert(own_header(), stream_proto::VERSION.to_string().as_str());
        insert_failure(&mut headers, &status);
        let payload = Frame::refusal(natstream_connect::random_u32(), status).encode();
        self.send_with_headers(reply, headers, payload);
    }

    /// Says no in a dialect that has no more than an error for it.
    fn refuse_plain(&self, subject: Subject, dialect: PlainDialect, status: Status) {
        self.counters.error(&status);
        let mut machine = Machine::plain(dialect, &self.config_for(&subject), 0);
        machine.finish(status);
        let mut messages = Vec::new();
        while let Some(transmit) = machine.poll_transmit(Instant::ORIGIN) {
            let mut headers = HeaderMap::new();
            if let Some(failure) = &transmit.failure {
                insert_failure(&mut headers, failure);
            }
            messages.push(OutboundMessage {
                subject: subject.clone(),
                reply: None,
                headers: (!headers.is_empty()).then_some(headers),
                payload: transmit.payload,
            });
        }
        self.send_refusal(messages);
    }

    /// Says no to a program that does not speak the native dialect, in the headers of ADR-32.
    fn refuse_foreign(&self, reply: Subject) {
        let mut headers = HeaderMap::new();
        let status = Status::new(Code::Unimplemented, "this endpoint speaks the natstream protocol only");
        self.counters.error(&status);
        insert_failure(&mut headers, &status);
        self.send_with_headers(reply, headers, Bytes::new());
    }

    fn send_with_headers(&self, subject: Subject, headers: HeaderMap, payload: Bytes) {
        let bare_empty = stream_proto::is_mapped(&subject).then(|| OutboundMessage {
            subject: subject.clone(),
            reply: None,
            headers: None,
            payload: Bytes::new(),
        });
        let mut messages = vec![OutboundMessage {
            subject,
            reply: None,
            headers: Some(headers),
            payload,
        }];
        // A refusal is the whole answer, so the mapping ends with it (rule 60).
        messages.extend(bare_empty);
        self.send_refusal(messages);
    }

    fn send_refusal(&self, messages: Vec<OutboundMessage>) {
        count(&self.counters.refused);
        if !self.server.refusals.send(messages) {
            tracing::debug!(subject = self.subject, "a refusal was skipped");
        }
    }
}
