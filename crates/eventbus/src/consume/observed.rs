//! What is told of a message that is handled: a span, in which the handler runs.
//!
//! Where nobody is interested it costs one look at the level of the subscriber.

use natstream_connect::TraceContext;
use tracing::Span;
use tracing::field::Empty;

use super::message::Message;
use super::work::Work;

/// The target of all spans of natstream, so that one directive of a filter turns them on.
const TARGET: &str = "natstream::span";

/// The span of an attempt, whose parent is what the event says.
pub(super) fn handle(work: &Work, message: &Message) -> Span {
    let span = tracing::debug_span!(
        target: TARGET,
        // Each message is a trace, or belongs to that of its event: not to whatever the consumer runs in.
        parent: None,
        "bus.handle",
        otel.kind = "consumer",
        otel.name = work.consumer.as_str(),
        otel.status_code = Empty,
        messaging.system = "nats",
        messaging.operation.name = "handle",
        "messaging.operation.type" = "process",
        messaging.destination.name = message.subject(),
        messaging.destination.subscription.name = work.consumer.as_str(),
        messaging.message.body.size = message.payload().len(),
        "error.type" = Empty,
        natstream.stream = work.stream.as_str(),
        natstream.sequence = message.sequence(),
        natstream.attempt = message.attempt(),
        natstream.verdict = Empty,
    );
    if !span.is_disabled()
        && let Some(context) = TraceContext::read(message.headers())
    {
        context.adopt(&span);
    }
    span
}

/// The handler has returned: well, or with a failure that is final or not.
pub(super) fn verdict(span: Span, failure: Option<bool>) {
    let name = match failure {
        None => "ended",
        Some(false) => "failed",
        Some(true) => "rejected",
    };
    span.record("natstream.verdict", name);
    if failure.is_some() {
        span.record("error.type", name);
        span.record("otel.status_code", "ERROR");
    }
}
