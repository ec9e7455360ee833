//! What is told of a call, or of a request for one reply: a span until its verdict and, with the feature `metrics`, how long
//! it took.
//!
//! A call that nobody is interested in costs one look at the level of the subscriber, and a null pointer.

use natstream_connect::TraceContext;
use stream_proto::Items;
use tracing::Span;
use tracing::field::Empty;

#[cfg(feature = "metrics")]
pub(crate) use self::times::Times;
use crate::error::{RequestError, RequestErrorKind};
use crate::outgoing::Outgoing;
#[cfg(feature = "metrics")]
use crate::pool::Pool;

#[cfg(feature = "metrics")]
mod times;

/// The target of all spans of natstream, so that one directive of a filter turns them on.
const TARGET: &str = "natstream::span";

/// A call, for whoever observes it.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// In a box, since most calls have none.
    traced: Option<Box<Traced>>,
    #[cfg(feature = "metrics")]
    timed: Option<times::Timed>,
}

#[derive(Debug)]
struct Traced {
    span: Span,
    bytes: u64,
}

/// What a call that is over has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) items: u64,
    pub(crate) attempts: u32,
    pub(crate) reconnects: u32,
    pub(crate) retransmitted: u64,
}

impl Observed {
    /// A call begins: its request carries the span's place in the trace.
    pub(crate) fn call(message: &mut Outgoing, dialect: &'static str) -> Self {
        let span = call_span(&message.subject, dialect);
        message.carry(TraceContext::of(&span));
        let observed = Self::of(span);
        #[cfg(feature = "metrics")]
        let observed = observed.timed(&message.pool, true);
        observed
    }

    /// A request for one reply begins.
    pub(crate) fn request(message: &mut Outgoing) -> Self {
        let span = tracing::debug_span!(
            target: TARGET,
            "message.request",
            otel.kind = "client",
            otel.status_code = Empty,
            rpc.system.name = "nats",
            rpc.method = message.subject.as_str(),
            rpc.response.status_code = Empty,
            "error.type" = Empty,
            natstream.verdict = Empty,
            natstream.items = Empty,
            natstream.bytes = Empty,
        );
        message.carry(TraceContext::of(&span));
        let observed = Self::of(span);
        #[cfg(feature = "metrics")]
        let observed = observed.timed(&message.pool, false);
        observed
    }

    fn of(span: Span) -> Self {
        Self {
            traced: (!span.is_disabled()).then(|| Box::new(Traced { span, bytes: 0 })),
            #[cfg(feature = "metrics")]
            timed: None,
        }
    }

    /// It counts in the histograms of the pool, with calls or with requests.
    #[cfg(feature = "metrics")]
    fn timed(mut self, pool: &Pool, is_call: bool) -> Self {
        self.timed = Some(times::Timed::begin(pool, is_call));
        self
    }

    /// Items have come.
    pub(crate) fn came(&mut self, items: &Items) {
        #[cfg(feature = "metrics")]
        if let Some(timed) = &mut self.timed {
            timed.came();
        }
        if let Some(traced) = &mut self.traced {
            // Of the whole message at once, and only here: whoever is not observed does not count bytes.
            traced.bytes += items.clone().map(|item| item.len() as u64).sum::<u64>();
        }
    }

    /// So many bytes have come.
    pub(crate) fn came_bytes(&mut self, bytes: usize) {
        if let Some(traced) = &mut self.traced {
            traced.bytes += bytes as u64;
        }
    }

    /// Was its end told, or is there nobody to tell?
    pub(crate) fn is_over(&self) -> bool {
        #[cfg(feature = "metrics")]
        if self.timed.is_some() {
            return false;
        }
        self.traced.is_none()
    }

    /// The verdict; whatever follows is not told.
    pub(crate) fn ended(&mut self, error: Option<&RequestError>, figures: Figures) {
        #[cfg(feature = "metrics")]
        if let Some(timed) = self.timed.take() {
            timed.ended(error.is_none());
        }
        let Some(traced) = self.traced.take() else { return };
        let Traced { span, bytes } = *traced;
        verdict(&span, error.map(RequestError::kind));
        if let Some(status) = error.and_then(RequestError::status) {
            span.record("rpc.response.status_code", tracing::field::display(status.code));
        } else if error.is_none() {
            span.record("rpc.response.status_code", "OK");
        }
        figures.record(&span, bytes);
    }

    /// Nobody waits for the verdict any more.
    pub(crate) fn abandoned(&mut self, figures: Figures) {
        #[cfg(feature = "metrics")]
        if let Some(timed) = self.timed.take() {
            timed.ended(false);
        }
        let Some(traced) = self.traced.take() else { return };
        let Traced { span, bytes } = *traced;
        span.record("natstream.verdict", name(RequestErrorKind::Cancelled));
        figures.record(&span, bytes);
    }
}

/// A request that is abandoned has no figures of its own.
impl Drop for Observed {
    fn drop(&mut self) {
        if !self.is_over() {
            self.abandoned(Figures::default());
        }
    }
}

impl Figures {
    fn record(self, span: &Span, bytes: u64) {
        // Fields that a span has not are left out.
        span.record("natstream.items", self.items);
        span.record("natstream.bytes", bytes);
        span.record("natstream.attempts", self.attempts);
        span.record("natstream.reconnects", self.reconnects);
        span.record("natstream.retransmitted", self.retransmitted);
    }
}

fn call_span(subject: &str, dialect: &'static str) -> Span {
    tracing::debug_span!(
        target: TARGET,
        "stream.request",
        otel.kind = "client",
        otel.status_code = Empty,
        rpc.system.name = "natstream",
        rpc.method = subject,
        rpc.response.status_code = Empty,
        "error.type" = Empty,
        natstream.dialect = dialect,
        natstream.verdict = Empty,
        natstream.items = Empty,
        natstream.bytes = Empty,
        natstream.attempts = Empty,
        natstream.reconnects = Empty,
        natstream.retransmitted = Empty,
    )
}

fn verdict(span: &Span, kind: Option<RequestErrorKind>) {
    let Some(kind) = kind else {
        span.record("natstream.verdict", "ended");
        return;
    };
    span.record("natstream.verdict", name(kind));
    // Who cancels has what it wants.
    if kind != RequestErrorKind::Cancelled {
        span.record("error.type", name(kind));
        span.record("otel.status_code", "ERROR");
    }
}

fn name(kind: RequestErrorKind) -> &'static str {
    match kind {
        RequestErrorKind::Cancelled => "cancelled",
        RequestErrorKind::Connection => "connection",
        RequestErrorKind::Decode => "decode",
        RequestErrorKind::Failed => "failed",
        RequestErrorKind::InvalidRequest => "invalid_request",
        RequestErrorKind::Lost => "lost",
        RequestErrorKind::NotPermitted => "not_permitted",
        RequestErrorKind::NoResponders => "no_responders",
        RequestErrorKind::Protocol => "protocol",
        RequestErrorKind::Refused => "refused",
        RequestErrorKind::Timeout => "timeout",
        RequestErrorKind::Unanswered => "unanswered",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(feature = "metrics"))]
    fn a_call_that_nobody_observes_has_a_null_pointer() {
        assert_eq!(size_of::<Observed>(), size_of::<usize>());
        assert!(Observed::of(call_span("a", "native")).is_over());
    }

    #[test]
    fn verdicts_have_names_of_their_own() {
        use RequestErrorKind as Kind;
        let kinds = [
            Kind::Cancelled,
            Kind::Connection,
            Kind::Decode,
            Kind::Failed,
            Kind::InvalidRequest,
            Kind::Lost,
            Kind::NotPermitted,
            Kind::NoResponders,
            Kind::Protocol,
            Kind::Refused,
            Kind::Timeout,
            Kind::Unanswered,
        ];
        let mut names = kinds.map(name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), kinds.len());
    }
}
