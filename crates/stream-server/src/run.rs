//! A running handler.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use stream_proto::{Code, Status};
use tracing::Span;

use crate::error::HandlerError;
use crate::stream::StreamShared;

/// What a handler returns, whatever its type.
pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

/// A running handler: sends what it gathered whenever it yields, and ends the stream when it returns or panics.
pub(crate) struct Run {
    pub(crate) handler: HandlerFuture,
    pub(crate) stream: Arc<StreamShared>,
    /// What the handler logs stands in it.
    pub(crate) span: Span,
}

impl Future for Run {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let run = &mut *self;
        let _entered = run.span.enter();
        run.stream.enter_handler();
        let handler = run.handler.as_mut();
        match catch_unwind(AssertUnwindSafe(move || handler.poll(cx))) {
            Ok(Poll::Pending) => {
                run.stream.leave_handler();
                return Poll::Pending;
            }
            Ok(Poll::Ready(result)) => {
                run.stream.handler_returned(result.map_err(HandlerError::into_status));
            }
            Err(_) => {
                // The panic hook has shown what happened; the caller is not told more than that.
                let status = Status::new(Code::Internal, "the handler panicked");
                run.stream.handler_returned(Err(status));
            }
        }
        Poll::Ready(())
    }
}

impl Drop for Run {
    /// Its runtime may end before the handler; the caller must not wait for it then.
    fn drop(&mut self) {
        self.stream.handler_dropped();
    }
}
