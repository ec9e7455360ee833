//! The clocks of a call, and the queue before a handler.

mod clocks;
mod onward;
mod queue;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use integration::LIMIT;
use natstream::{Endpoint, EndpointStats, Request, ResponseSender, Responses, Server};
use testkit::{settles_where, within};
use tokio::sync::watch;

/// Longer than any call of these tests may take, and short enough to be noticed.
const AMPLE: Duration = Duration::from_secs(20);

/// Lets handlers go on, for good.
#[derive(Clone, Debug)]
struct Gate(watch::Sender<bool>);

impl Gate {
    fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        // The sender is here, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|is_open| *is_open).await;
    }
}

/// Serves `subject` one call at a time, with handlers that wait at `gate`. Counts those that began.
async fn serve_one_at_a_time(server: &Server, subject: &str, queued: usize, gate: &Gate) -> (Endpoint, Arc<AtomicU64>) {
    let begun = Arc::new(AtomicU64::new(0));
    let handler = {
        let (begun, gate) = (begun.clone(), gate.clone());
        move |_request: Request, mut out: ResponseSender| {
            begun.fetch_add(1, Ordering::Relaxed);
            let gate = gate.clone();
            async move {
                out.send("begun").await?;
                gate.passed().await;
                Ok(())
            }
        }
    };
    let endpoint = server.on(subject, handler).max_concurrent(1).max_queued(queued);
    (within(LIMIT, endpoint).await.expect("served"), begun)
}

/// Waits until the counters are as wanted.
async fn counted(endpoint: &Endpoint, condition: impl Fn(&EndpointStats) -> bool) {
    settles_where(LIMIT, || async { endpoint.stats() }, condition).await;
}

/// The next item, which must come.
async fn item(responses: &mut Responses) -> String {
    let item = within(LIMIT, responses.try_next()).await;
    let item = item.expect("no error").expect("no end");
    String::from_utf8_lossy(&item).into_owned()
}

/// That nothing more comes.
async fn complete(mut responses: Responses) {
    let end = within(LIMIT, responses.try_next()).await;
    assert!(end.expect("complete").is_none());
}
