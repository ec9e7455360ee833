//! What serves a subject.

use std::future::Future;

use crate::error::HandlerError;
use crate::request::Request;
use crate::sender::ResponseSender;

/// Answers requests with streams. Implement it for a struct with state; for closures there is
/// [`Server::on`](crate::Server::on).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stream handler",
    note = "implement `Handler`, or pass a closure to `Server::on`"
)]
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. What it returns ends the stream: see the [crate's documentation](crate#how-a-stream-ends).
    ///
    /// It is not dropped when the caller leaves: `send` fails then, and so does what waits in
    /// [`ResponseSender::until_closed`].
    fn handle(&self, request: Request, sender: ResponseSender)
    -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// A closure as a handler.
#[derive(Debug)]
pub(crate) struct FnHandler<F>(pub(crate) F);

impl<F, Fut> Handler for FnHandler<F>
where
    F: Fn(Request, ResponseSender) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send,
{
    fn handle(
        &self,
        request: Request,
        sender: ResponseSender,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        (self.0)(request, sender)
    }
}
