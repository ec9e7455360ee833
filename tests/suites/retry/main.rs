//! Calls that are made again, and calls that go on after their last item.

mod grace;
mod policy;
mod resume;
mod wait;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use integration::LIMIT;
use natstream::{HandlerError, Request, RequestError, ResponseSender, Responses, Server};
use testkit::within;

/// A pause that no test waits for.
const SHORT: Duration = Duration::from_millis(1);

/// A pause that is only waited by mistake: longer than the limit of any wait.
const NEVER: Duration = Duration::from_secs(3600);

/// How often handlers began.
#[derive(Clone, Debug, Default)]
struct Calls(Arc<AtomicU32>);

impl Calls {
    fn made(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Serves `subject` with a handler that is told the number of its call, from 1 on.
async fn serve<F, Fut>(server: &Server, subject: &str, handler: F) -> Calls
where
    F: Fn(u32, Request, ResponseSender) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let calls = Calls::default();
    let counted = calls.clone();
    let handler = move |request, out| handler(counted.0.fetch_add(1, Ordering::SeqCst) + 1, request, out);
    within(LIMIT, server.on(subject, handler)).await.expect("served");
    calls
}

/// A failure that is worth another attempt.
fn busy() -> HandlerError {
    HandlerError::unavailable("busy")
}

/// The next item, which must come.
async fn item(responses: &mut Responses) -> String {
    let item = within(LIMIT, responses.try_next()).await;
    let item = item.expect("no error").expect("no end");
    String::from_utf8_lossy(&item).into_owned()
}

/// The error, which must come next.
async fn failure(responses: &mut Responses) -> RequestError {
    let next = within(LIMIT, responses.try_next()).await;
    next.expect_err("a failure")
}

/// That nothing more comes.
async fn complete(responses: &mut Responses) {
    let end = within(LIMIT, responses.try_next()).await;
    assert!(end.expect("complete").is_none());
}
