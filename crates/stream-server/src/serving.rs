//! A subject while it is served, by an endpoint or by a subscription: how that begins, goes on, and ends.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use natstream_connect::{ServedGuard, Subscriber};
use tokio::sync::watch;

use crate::endpoint::EndpointShared;
use crate::error::{ServeError, ServeErrorKind};
use crate::server::Inner;

/// How long nats-server may take to confirm a subscription, or its end.
pub(crate) const FENCE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) type Cause = Box<dyn Error + Send + Sync>;

fn failed(subject: &str, cause: impl Into<Cause>) -> ServeError {
    ServeError::new(ServeErrorKind::Connection, subject, cause)
}

/// What is being served.
pub(crate) trait Serves: Send + Sync + 'static {
    fn subject(&self) -> &str;

    fn server(&self) -> &Arc<Inner>;

    fn stage(&self) -> &Stage;

    /// Itself, if it is an endpoint.
    fn into_endpoint(self: Arc<Self>) -> Option<Arc<EndpointShared>> {
        None
    }
}

/// What it does at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// It leaves its group, and takes what is on its way.
    Leaving,
    /// It takes nothing any more.
    Ended,
}

/// How far it is.
#[derive(Debug)]
pub(crate) struct Stage {
    phase: watch::Sender<Phase>,
    _served: Option<ServedGuard>,
}

impl Stage {
    pub(crate) fn new(served: Option<ServedGuard>) -> Self {
        Self {
            phase: watch::Sender::new(Phase::Serving),
            _served: served,
        }
    }

    /// Tells the task to leave.
    pub(crate) fn leave(&self) {
        self.phase.send_if_modified(|phase| {
            let is_serving = *phase == Phase::Serving;
            *phase = (*phase).max(Phase::Leaving);
            is_serving
        });
    }

    /// Completes when the task takes nothing any more.
    pub(crate) async fn ended(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Ended).await;
    }
}

/// Begins to take messages, in a task of its own; fails when the server takes nothing any more.
pub(crate) fn start(
    served: Arc<dyn Serves>,
    subscriber: Subscriber,
    accept: impl Fn(Message) + Send + Sync + 'static,
) -> Result<(), ServeError> {
    if !served.server().add(served.clone()) {
        return Err(failed(served.subject(), "the server was drained or dropped"));
    }
    #[expect(clippy::disallowed_methods, reason = "one task for each subject that is served")]
    tokio::spawn(serve(served, subscriber, accept));
    Ok(())
}

/// The task.
async fn serve(served: Arc<dyn Serves>, mut subscriber: Subscriber, accept: impl Fn(Message)) {
    let _serving = Serving(served.clone());
    let subject = served.subject();
    let mut phase = served.stage().phase.subscribe();
    loop {
        let message = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => break,
            message = subscriber.next() => message,
        };
        match message {
            Some(message) => accept(message),
            None => break,
        }
        // A flood of messages must not keep the handlers' own tasks from running.
        tokio::task::coop::consume_budget().await;
    }
    if let Some(refusal) = subscriber.refusal() {
        tracing::error!(subject, %refusal, "the subject is not served any more");
    }
    served.stage().leave();
    if let Err(error) = subscriber.leave(&accept).await {
        tracing::debug!(%error, subject, "left without a confirmation");
    }
}

/// However the task ends, with its runtime too, it takes nothing any more.
struct Serving(Arc<dyn Serves>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.server().remove(&self.0);
        self.0.stage().phase.send_replace(Phase::Ended);
    }
}
