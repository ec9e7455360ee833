//! What the span of a call needs of its stream.

use tracing::Span;

use super::{State, StreamShared};
use crate::observed::Ended;

impl State {
    /// The call is over: what its span is to be told.
    pub(super) fn observed(&mut self) -> Option<Ended> {
        let span = self.span.take()?;
        Some(Ended {
            span,
            end: self.outbound.end().cloned(),
            closed: self.outbound.closed(),
            stats: self.outbound.stats(),
        })
    }
}

impl StreamShared {
    /// The span of the call is told how it ends.
    pub(crate) fn observe(&self, span: &Span) {
        if !span.is_disabled() {
            self.state.lock().span = Some(Box::new(span.clone()));
        }
    }

    /// The subject of the endpoint.
    pub(crate) fn subject(&self) -> &str {
        &self.endpoint.subject
    }

    /// The number of the stream; a plain one has none.
    pub(crate) fn sid(&self) -> Option<u32> {
        self.answer.as_ref().map(|(sid, _)| *sid)
    }
}
