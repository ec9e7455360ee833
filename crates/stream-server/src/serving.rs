//! A subject while it is served, by an endpoint or by a subscription: how that begins, goes on, and ends.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use natstream_connect::{
    Connection, Operation, ServedGuard, ServerErrorEvent, check_queue_group, check_subscribe_subject,
};
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use crate::endpoint::EndpointShared;
use crate::error::{ServeError, ServeErrorKind};
use crate::intake::{self, Intake};
use crate::server::Inner;

/// How long nats-server may take to confirm a subscription, or its end.
pub(crate) const FENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the refusal of a subscription may take after nats-server has confirmed that it has processed it.
///
/// Without it one start in a hundred looked like success, where eight were under way on two cores.
const REFUSAL_GRACE: Duration = Duration::from_millis(10);

pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// Checks a subject that is to be served, and its queue group.
pub(crate) fn check(subject: &str, group: Option<&str>) -> Result<(), ServeError> {
    let invalid = |error: Cause| ServeError::new(ServeErrorKind::InvalidConfig, subject, error);
    check_subscribe_subject(subject).map_err(|error| invalid(error.into()))?;
    match group {
        Some(group) => check_queue_group(group).map_err(|error| invalid(error.into())),
        None => Ok(()),
    }
}

/// A subscription that was handed over.
#[derive(Debug)]
pub(crate) struct Subscribed {
    subscriber: Subscriber,
    connects: u64,
    refusals: broadcast::Receiver<ServerErrorEvent>,
}

impl Subscribed {
    /// Hands the subscription over. `refusals` began before anything was subscribed to, so that each refusal is heard.
    pub(crate) async fn begin(
        connection: &Connection,
        refusals: broadcast::Receiver<ServerErrorEvent>,
        subject: &str,
        group: Option<&str>,
    ) -> Result<Self, ServeError> {
        let nats = connection.nats();
        let connects = intake::connects(connection);
        let subscribe = async {
            match group {
                Some(group) => nats.queue_subscribe(subject.to_owned(), group.to_owned()).await,
                None => nats.subscribe(subject.to_owned()).await,
            }
        };
        // While the connection is down and async-nats's queue is full, subscribing would wait for ever.
        let subscriber = timeout(FENCE_TIMEOUT, subscribe).await;
        let subscriber = subscriber.map_err(|error| failed(subject, error))?;
        Ok(Self {
            subscriber: subscriber.map_err(|error| failed(subject, error))?,
            connects,
            refusals,
        })
    }

    /// Waits until nats-server knows the subscription. Returns what it said if it has refused this or another of `subjects`.
    pub(crate) async fn confirm(
        &mut self,
        connection: &Connection,
        subjects: &[&str],
    ) -> Result<Option<String>, ServeError> {
        let subject = subjects.first().copied().unwrap_or_default();
        // `subscribe` returns before nats-server has heard of it.
        let fence = connection.fence(FENCE_TIMEOUT).await;
        fence.map_err(|error| failed(subject, error))?;
        // Subscribing without permission looks like success. The server's word has come before the fence's answer, but a task
        // of async-nats passes it on, which may not have had its turn.
        let refusal = timeout(REFUSAL_GRACE, refused(&mut self.refusals, subjects)).await;
        Ok(refusal.ok().map(|refusal| refusal.to_string()))
    }
}

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
    subscription: Subscribed,
    accept: impl Fn(Message) + Send + Sync + 'static,
) -> Result<(), ServeError> {
    if !served.server().add(served.clone()) {
        return Err(failed(served.subject(), "the server was drained or dropped"));
    }
    #[expect(clippy::disallowed_methods, reason = "one task for each subject that is served")]
    tokio::spawn(serve(served, subscription, accept));
    Ok(())
}

/// The task.
async fn serve(served: Arc<dyn Serves>, subscription: Subscribed, accept: impl Fn(Message)) {
    let Subscribed {
        subscriber,
        connects,
        mut refusals,
    } = subscription;
    let connection = served.server().connection.connection().clone();
    let mut intake = Intake::new(subscriber, connection.clone(), connects);
    let _serving = Serving(served.clone());
    let subject = served.subject();
    let mut phase = served.stage().phase.subscribe();
    let subjects = [subject];
    loop {
        let message = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => break,
            refusal = refused(&mut refusals, &subjects) => {
                tracing::error!(subject, %refusal, "the subject is not served any more");
                break;
            }
            message = intake.next() => message,
        };
        match message {
            Some(message) => accept(message),
            None => break,
        }
        // A flood of messages must not keep the handlers' own tasks from running.
        tokio::task::coop::consume_budget().await;
    }
    served.stage().leave();
    let leave = async {
        intake.leave(&accept).await;
        connection.fence(FENCE_TIMEOUT).await
    };
    match timeout(FENCE_TIMEOUT, leave).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, subject, "left without a confirmation"),
        Err(_) => tracing::debug!(subject, "left without a confirmation in time"),
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

/// Completes when the server says, now or after a reconnect, that one of these subjects may not be subscribed to.
async fn refused(events: &mut broadcast::Receiver<ServerErrorEvent>, subjects: &[&str]) -> ServerErrorEvent {
    loop {
        match events.recv().await {
            Ok(event) if is_refusal(&event, subjects) => return event,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn is_refusal(event: &ServerErrorEvent, subjects: &[&str]) -> bool {
    match event {
        ServerErrorEvent::PermissionViolation { operation, subject, .. } => {
            *operation == Operation::Subscribe && subjects.contains(&subject.as_str())
        }
        _ => false,
    }
}
