//! What is told of a call and of a message that is handled: a span, in which the handler runs.
//!
//! Where nobody is interested it costs one look at the level of the subscriber, and a null pointer.

use async_nats::HeaderMap;
use natstream_connect::TraceContext;
use stream_proto::{CloseReason, OutboundStats, Status};
use tracing::Span;
use tracing::field::{Empty, display};

use crate::request::Request;

/// The target of all spans of natstream, so that one directive of a filter turns them on.
const TARGET: &str = "natstream::span";

/// The span of a call, whose parent is what its caller says.
pub(crate) fn call(endpoint: &str, sid: Option<u32>, request: &Request) -> Span {
    let span = tracing::debug_span!(
        target: TARGET,
        "stream.handle",
        otel.kind = "server",
        otel.name = endpoint,
        otel.status_code = Empty,
        rpc.system.name = "natstream",
        rpc.method = request.subject.as_str(),
        rpc.response.status_code = Empty,
        "error.type" = Empty,
        natstream.sid = sid,
        natstream.dialect = if sid.is_some() { "native" } else { "plain" },
        natstream.verdict = Empty,
        natstream.items = Empty,
        natstream.bytes = Empty,
        natstream.retransmitted = Empty,
    );
    adopt(&span, request.headers.as_ref());
    span
}

/// The span of a message, whose parent is what its sender says.
pub(crate) fn message(subscription: &str, request: &Request) -> Span {
    let span = tracing::debug_span!(
        target: TARGET,
        "message.handle",
        otel.kind = "consumer",
        otel.name = subscription,
        otel.status_code = Empty,
        messaging.system = "nats",
        messaging.operation.name = "handle",
        "messaging.operation.type" = "process",
        messaging.destination.name = request.subject.as_str(),
        messaging.message.body.size = request.payload.len(),
        "error.type" = Empty,
        natstream.verdict = Empty,
    );
    adopt(&span, request.headers.as_ref());
    span
}

fn adopt(span: &Span, headers: Option<&HeaderMap>) {
    if !span.is_disabled()
        && let Some(context) = TraceContext::read(headers)
    {
        context.adopt(span);
    }
}

/// What has become of a call.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) span: Box<Span>,
    pub(crate) end: Option<Status>,
    pub(crate) closed: Option<CloseReason>,
    pub(crate) stats: OutboundStats,
}

impl Ended {
    /// Tells the span, which may be its end.
    pub(crate) fn tell(self) {
        let Self {
            span,
            end,
            closed,
            stats,
        } = self;
        let is_ok = end.as_ref().is_some_and(Status::is_ok);
        let name = match closed {
            None if is_ok => "ended",
            None => "failed",
            Some(CloseReason::Local) => "given_up",
            Some(CloseReason::NotPermitted) => "not_permitted",
            Some(_) => "cancelled",
        };
        verdict(&span, name, matches!(name, "failed" | "given_up" | "not_permitted"));
        if let Some(status) = end {
            span.record("rpc.response.status_code", display(status.code));
        }
        span.record("natstream.items", stats.items);
        span.record("natstream.bytes", stats.bytes);
        span.record("natstream.retransmitted", stats.retransmitted);
    }
}

/// Tells the span of a verdict.
pub(crate) fn verdict(span: &Span, name: &'static str, is_error: bool) {
    span.record("natstream.verdict", name);
    if is_error {
        span.record("error.type", name);
        span.record("otel.status_code", "ERROR");
    }
}
