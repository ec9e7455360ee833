//! Traces that go on in whoever gets a message: W3C Trace Context in its headers.

use async_nats::HeaderMap;
use tracing::Span;

#[cfg(feature = "otel")]
mod w3c;

/// Where a message belongs in a trace: the headers `traceparent` and `tracestate` of W3C Trace Context.
///
/// Calls, requests, messages and events take it along by themselves, and spans of handlers have it as their parent. This is for
/// messages that go another way: those of a plain subscription, or of a batch that is fetched.
///
/// Without the feature `otel` there is none: nothing is read, and nothing is written. With it, spans are those of
/// `tracing-opentelemetry`, whose layer must see the span.
///
/// # Examples
///
/// ```
/// use natstream_connect::TraceContext;
/// use natstream_connect::async_nats::HeaderMap;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// let span = tracing::info_span!("handle");
/// if let Some(context) = TraceContext::read(Some(&headers)) {
///     context.adopt(&span);
/// }
/// ```
#[derive(Clone, Debug)]
pub struct TraceContext {
    #[cfg(feature = "otel")]
    context: opentelemetry::trace::SpanContext,
    #[cfg(not(feature = "otel"))]
    never: std::convert::Infallible,
}

#[cfg(feature = "otel")]
impl TraceContext {
    /// That of this span; where it is disabled, or the layer does not see it, that of the span around. `None` outside of a trace.
    #[must_use]
    pub fn of(span: &Span) -> Option<Self> {
        use opentelemetry::Context;
        use opentelemetry::trace::TraceContextExt as _;
        use tracing_opentelemetry::OpenTelemetrySpanExt as _;

        let of = |context: &Context| {
            let context = context.span().span_context().clone();
            context.is_valid().then_some(Self { context })
        };
        if !span.is_disabled()
            && let Some(own) = of(&span.context())
        {
            return Some(own);
        }
        of(&Span::current().context()).or_else(|| Context::map_current(of))
    }

    /// That of the span around. `None` outside of a trace.
    #[must_use]
    pub fn current() -> Option<Self> {
        Self::of(&Span::none())
    }

    /// What these headers say; `None` when they say nothing, or nothing that can be read.
    #[must_use]
    pub fn read(headers: Option<&HeaderMap>) -> Option<Self> {
        let context = w3c::read(headers?)?;
        Some(Self { context })
    }

    /// Adds it to headers, unless somebody has set a `traceparent` already.
    pub fn write(&self, headers: &mut HeaderMap) {
        w3c::write(&self.context, headers);
    }

    /// Makes it the parent of a span that was not entered yet.
    pub fn adopt(&self, span: &Span) {
        use opentelemetry::Context;
        use opentelemetry::trace::TraceContextExt as _;
        use tracing_opentelemetry::OpenTelemetrySpanExt as _;

        let parent = Context::new().with_remote_span_context(self.context.clone());
        // A span that no layer sees has no parent, and needs none.
        let _ = span.set_parent(parent);
    }
}

#[cfg(not(feature = "otel"))]
impl TraceContext {
    /// That of this span; where it is disabled, or the layer does not see it, that of the span around. `None` outside of a trace.
    #[inline]
    #[must_use]
    pub fn of(_span: &Span) -> Option<Self> {
        None
    }

    /// That of the span around. `None` outside of a trace.
    #[inline]
    #[must_use]
    pub fn current() -> Option<Self> {
        None
    }

    /// What these headers say; `None` when they say nothing, or nothing that can be read.
    #[inline]
    #[must_use]
    pub fn read(_headers: Option<&HeaderMap>) -> Option<Self> {
        None
    }

    /// Adds it to headers, unless somebody has set a `traceparent` already.
    #[inline]
    pub fn write(&self, _headers: &mut HeaderMap) {
        match self.never {}
    }

    /// Makes it the parent of a span that was not entered yet.
    #[inline]
    pub fn adopt(&self, _span: &Span) {
        match self.never {}
    }
}
