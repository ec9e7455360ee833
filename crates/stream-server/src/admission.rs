//! What becomes of a request: a stream, or a refusal.

use std::sync::Arc;

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use stream_proto::{Code, Frame, HEADER, Offer, Open, Status};
use tokio::sync::Semaphore;

use crate::endpoint::{EndpointShared, PAYLOAD_RESERVE};
use crate::request::Request;
use crate::run::{HandlerFuture, Run};
use crate::sender::ResponseSender;
use crate::stats::count;
use crate::stream::{Permits, StreamShared, insert_failure};

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
        let Some(header) = message.headers.as_ref().and_then(|headers| headers.get(HEADER)) else {
            count(&self.counters.foreign);
            return self.refuse_foreign(reply);
        };
        let admitted = match Open::parse(header.as_str()) {
            Ok(Offer::Supported(open)) => self.admit().map(|permits| (open, permits)),
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
            Ok((open, permits)) => self.begin(message, reply, &open, permits, handler),
            Err(status) => self.refuse(reply, status),
        }
    }

    fn admit(&self) -> Result<Permits, Status> {
        if self.is_leaving() {
            return Err(Status {
                retryable: true,
                ..Status::new(Code::Unavailable, "the server is draining")
            });
        }
        let take = |limit: &Option<Arc<Semaphore>>, whose: &str| match limit {
            None => Ok(None),
            Some(limit) => limit.clone().try_acquire_owned().map(Some).map_err(|_| Status {
                retryable: true,
                ..Status::new(Code::ResourceExhausted, format!("{whose} runs as many calls as it may"))
            }),
        };
        Ok(Permits {
            _endpoint: take(&self.limit, "the endpoint")?,
            _server: take(&self.server.limit, "the server")?,
        })
    }

    fn begin(
        self: &Arc<Self>,
        message: Message,
        reply: Subject,
        open: &Open,
        permits: Permits,
        handler: &ErasedHandler,
    ) {
        let driver = self.server.connection.driver().clone();
        let deadline = open.deadline.and_then(|deadline| driver.now().checked_add(deadline));
        let mut config = self.config.clone();
        config.mapped = stream_proto::is_mapped(&reply);
        config.max_unit = self.server.connection.max_payload().saturating_sub(PAYLOAD_RESERVE);
        let stream = StreamShared::open(driver, self.clone(), reply, open, &config, permits);
        self.server.call_began(&stream);
        stream.set_control(self.router.add(stream.clone()));
        let request = Request {
            subject: message.subject.to_string(),
            payload: Bytes::copy_from_slice(&message.payload),
            headers: message.headers,
            deadline,
        };
        let run = Run {
            handler: handler(request, ResponseSender::new(stream.clone())),
            stream,
        };
        #[expect(clippy::disallowed_methods, reason = "one task for each running handler")]
        tokio::spawn(run);
    }

    /// Says no; the caller knows that nothing was processed.
    fn refuse(&self, reply: Subject, status: Status) {
        let status = Status {
            not_processed: true,
            ..status
        };
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, stream_proto::VERSION.to_string().as_str());
        insert_failure(&mut headers, &status);
        let payload = Frame::refusal(natstream_connect::random_u32(), status).encode();
        self.send_refusal(reply, headers, payload);
    }

    /// Says no to a program that does not speak the native dialect, in the headers of ADR-32.
    fn refuse_foreign(&self, reply: Subject) {
        let mut headers = HeaderMap::new();
        let status = Status::new(Code::Unimplemented, "this endpoint speaks the natstream protocol only");
        insert_failure(&mut headers, &status);
        self.send_refusal(reply, headers, Bytes::new());
    }

    fn send_refusal(&self, subject: Subject, headers: HeaderMap, payload: Bytes) {
        count(&self.counters.refused);
        let driver = self.server.connection.driver();
        let is_mapped = stream_proto::is_mapped(&subject);
        let message = OutboundMessage {
            subject: subject.clone(),
            reply: None,
            headers: Some(headers),
            payload,
        };
        if !driver.try_send(message) {
            // The caller hears nothing then, and knows after 5 s that its call was not answered.
            tracing::debug!(subject = self.subject, "a refusal was skipped: the connection is busy");
        } else if is_mapped {
            // A refusal is the whole answer, so the mapping ends with it (rule 60).
            driver.try_send(OutboundMessage {
                subject,
                reply: None,
                headers: None,
                payload: Bytes::new(),
            });
        }
    }
}
