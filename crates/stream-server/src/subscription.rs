//! Subscriptions: handlers of plain messages.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_nats::Subject;
use natstream_connect::Subscriber;
use stream_proto::{Code, Status};
use tracing::{Instrument as _, Span};

use crate::error::{HandlerError, ServeError, ServeErrorKind};
use crate::limit::{Entry, Limit, Permit, line_up};
use crate::message::{Message, Responder};
use crate::observed;
use crate::request::Request;
use crate::run::HandlerFuture;
use crate::server::{Inner, Server};
use crate::serving::{self, Serves, Stage};
use crate::stats::{MessageCounters, SubscriptionStats, count};

/// Enough for handlers that wait for something else, and few enough for whatever they wait for.
const MAX_CONCURRENT: usize = 256;

/// A burst of some 10 ms at the rate at which a connection delivers small messages.
const MAX_QUEUED: usize = 16_384;

impl Server {
    /// Handles the messages on `subject`, which may have wildcards, with a closure. Await the result to begin.
    ///
    /// ```no_run
    /// # async fn example(server: stream_server::Server) -> Result<(), stream_server::ServeError> {
    /// // Every subscription gets every event.
    /// server
    ///     .on_message("events.>", |event| async move {
    ///         println!("{}: {:?}", event.subject(), event.payload());
    ///         Ok(())
    ///     })
    ///     .await?;
    /// // Each task reaches one of the workers, and may be a request.
    /// server
    ///     .on_message("work.tasks", |task| async move { Ok(task.respond("done").await?) })
    ///     .queue_group("workers")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_message<F, Fut>(&self, subject: impl Into<String>, handler: F) -> SubscriptionBuilder
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        SubscriptionBuilder {
            server: self.inner.clone(),
            subject: subject.into(),
            handler: Arc::new(move |message| Box::pin(handler(message))),
            queue_group: None,
            max_concurrent: MAX_CONCURRENT,
            max_queued: MAX_QUEUED,
        }
    }
}

/// A handler, whatever its type.
type Handler = Arc<dyn Fn(Message) -> HandlerFuture + Send + Sync>;

/// A subscription that is about to be made; awaiting it subscribes.
///
/// | setting | default |
/// |---|---|
/// | [`queue_group`](Self::queue_group) | none: every subscription gets every message |
/// | [`max_concurrent`](Self::max_concurrent) | 256 |
/// | [`max_queued`](Self::max_queued) | 16,384; what is above that is dropped and counted |
///
/// Messages are what NATS makes them: each arrives at most once, and nobody is told of one that was lost. Handlers begin in the
/// order in which the messages came, and run beside each other; with `max_concurrent(1)`, one after the other.
///
/// A handler's error or panic is counted, and ends nothing else. In a queue group, a requester is told of it, and of a message
/// that is dropped, in the headers of ADR-32, unless there was a response before. Without a queue group others may answer, so
/// it is not.
///
/// Memory: `(max_concurrent + max_queued)` × (a message + 1 KiB) at most.
#[must_use = "a subscription gets nothing until awaited"]
pub struct SubscriptionBuilder {
    server: Arc<Inner>,
    subject: String,
    handler: Handler,
    queue_group: Option<String>,
    max_concurrent: usize,
    max_queued: usize,
}

impl SubscriptionBuilder {
    /// The queue group: each message reaches one of its members.
    pub fn queue_group(mut self, group: impl Into<String>) -> Self {
        self.queue_group = Some(group.into());
        self
    }

    /// Most handlers that run at a time. The limit of the server does not count here, that is for calls.
    pub fn max_concurrent(mut self, handlers: usize) -> Self {
        self.max_concurrent = handlers;
        self
    }

    /// Most messages that wait for one of [`max_concurrent`](Self::max_concurrent) to end, first come, first served. What is
    /// above that is dropped at once: the newest messages.
    pub fn max_queued(mut self, messages: usize) -> Self {
        self.max_queued = messages;
        self
    }

    /// Subscribes; the same as awaiting the builder, without a box around the future.
    ///
    /// When it returns, nats-server knows the subscription.
    ///
    /// # Errors
    /// `NotPermitted` when nats-server does not let this user subscribe to the subject; `InvalidConfig` for a subject or group
    /// that cannot be, or a limit of no handler; `Connection` when the connection is closed or did not answer in time, or the
    /// server was drained or dropped.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// When the future is dropped, messages may arrive for a moment; they are lost.
    pub async fn start(self) -> Result<Subscription, ServeError> {
        let group = self.queue_group.as_deref();
        Subscriber::check(&self.subject, group)?;
        if self.max_concurrent == 0 {
            let cause = "`max_concurrent` is 0";
            return Err(ServeError::new(ServeErrorKind::InvalidConfig, &self.subject, cause));
        }
        let connection = &self.server.connection;
        let subscriber = connection.subscribe(&self.subject, group).await?;
        // One that listens to everything does not make every reply subject one of this process's own (rule 6).
        let is_everything = self.subject.starts_with(['*', '>']);
        let served = (!is_everything).then(|| connection.serve(self.subject.clone()));
        let shared = Arc::new(Shared {
            stage: Stage::new(served),
            limit: Limit::new(Some(self.max_concurrent), self.max_queued),
            is_in_group: group.is_some(),
            subject: self.subject,
            server: self.server,
            counters: MessageCounters::default(),
        });
        let (subscription, handler) = (shared.clone(), self.handler);
        serving::start(shared.clone(), subscriber, move |message| {
            subscription.accept(message, &handler);
        })?;
        Ok(Subscription { shared })
    }
}

impl IntoFuture for SubscriptionBuilder {
    type Output = Result<Subscription, ServeError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

impl fmt::Debug for SubscriptionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionBuilder")
            .field("subject", &self.subject)
            .field("queue_group", &self.queue_group)
            .finish_non_exhaustive()
    }
}

/// A subject whose messages are handled. Dropping this handle changes nothing; they are handled until
/// [`unsubscribe`](Self::unsubscribe), or until the server drains or is dropped.
#[derive(Clone)]
pub struct Subscription {
    shared: Arc<Shared>,
}

impl Subscription {
    /// The subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.shared.subject
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        self.shared.counters.snapshot()
    }

    /// Takes no more messages; those that were taken are handled. When it returns, nats-server has heard of it, or 5 s have
    /// passed.
    ///
    /// Messages that were on their way are still taken (`docs/decisions/005-leaving-by-number.md`).
    ///
    /// # Cancel safety
    /// Unsubscribing goes on when the future is dropped.
    pub async fn unsubscribe(&self) {
        self.shared.stage.leave();
        self.shared.stage.ended().await;
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("subject", &self.subject())
            .field("stats", &self.stats())
            .finish()
    }
}

/// What the subscription's task and its handlers share.
struct Shared {
    server: Arc<Inner>,
    subject: String,
    stage: Stage,
    limit: Limit,
    is_in_group: bool,
    counters: MessageCounters,
}

impl Shared {
    /// Takes a message: begins its handler, lets it wait, or drops it. It never waits.
    fn accept(self: &Arc<Self>, message: async_nats::Message, handler: &Handler) {
        count(&self.counters.received);
        let reply = message.reply.as_ref().filter(|reply| {
            let is_safe = self.server.is_safe(reply);
            if !is_safe {
                count(&self.counters.refused_subjects);
                tracing::debug!(
                    subject = self.subject,
                    "a reply subject that may not be sent to is not used"
                );
            }
            is_safe
        });
        // A copy: the subject is cut out of a read buffer of 64 KiB, which it would keep alive.
        let reply = reply.map(|reply| Subject::from(reply.as_str()));
        let responder = reply.map(|reply| Arc::new(Responder::new(self.server.clone(), reply)));
        let task = Task::new(self.clone(), responder.clone());
        if self.server.is_shut_down() {
            return;
        }
        let message = Message::new(Request::new(message, None), responder);
        match self.limit.enter() {
            Entry::Run(permit) => spawn(task.run(message, handler.clone(), permit)),
            // The task that is dropped says so.
            Entry::Full => {}
            Entry::Wait(place) => {
                let limit = self.limit.clone();
                match line_up(async move { limit.acquire().await }) {
                    Ok(permit) => spawn(task.run(message, handler.clone(), permit)),
                    Err(turn) => {
                        let handler = handler.clone();
                        spawn(async move {
                            let permit = turn.await;
                            drop(place);
                            if !task.shared.server.is_shut_down() {
                                task.run(message, handler, permit).await;
                            }
                        });
                    }
                }
            }
        }
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "one task for each message that is handled")]
    tokio::spawn(task);
}

impl Serves for Shared {
    fn subject(&self) -> &str {
        &self.subject
    }

    fn server(&self) -> &Arc<Inner> {
        &self.server
    }

    fn stage(&self) -> &Stage {
        &self.stage
    }
}

/// A message that was taken. However it ends, by a panic or with its runtime too, it is counted once.
struct Task {
    shared: Arc<Shared>,
    responder: Option<Arc<Responder>>,
    outcome: Outcome,
    /// Of the handler, once it has begun.
    span: Span,
}

enum Outcome {
    /// Its handler was not begun.
    Dropped,
    /// Its handler was begun.
    Begun,
    Failed(Status),
    Processed,
}

impl Task {
    fn new(shared: Arc<Shared>, responder: Option<Arc<Responder>>) -> Self {
        shared.server.message_began();
        Self {
            shared,
            responder,
            outcome: Outcome::Dropped,
            span: Span::none(),
        }
    }

    async fn run(mut self, message: Message, handler: Handler, _permit: Permit) {
        self.outcome = Outcome::Begun;
        self.span = observed::message(&self.shared.subject, &message);
        let handling = self.span.in_scope(|| handler(message));
        self.outcome = match handling.instrument(self.span.clone()).await {
            Ok(()) => Outcome::Processed,
            Err(error) => Outcome::Failed(error.into_status()),
        };
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let counters = &self.shared.counters;
        let (counter, status): (&AtomicU64, _) = match &self.outcome {
            Outcome::Processed => (&counters.processed, None),
            Outcome::Dropped => {
                let status = Status::new(Code::ResourceExhausted, "there is no room for another message");
                (&counters.dropped, Some(status))
            }
            // The panic hook has shown what happened; the requester is not told more than that.
            Outcome::Begun if std::thread::panicking() => {
                let status = Status::new(Code::Internal, "the handler panicked");
                (&counters.failed, Some(status))
            }
            Outcome::Begun => {
                let status = Status::new(Code::Aborted, "the handler was dropped before it returned");
                (&counters.failed, Some(status))
            }
            Outcome::Failed(status) => (&counters.failed, Some(status.clone())),
        };
        count(counter);
        let name = if status.is_none() { "ended" } else { "failed" };
        observed::verdict(&self.span, name, status.is_some());
        if let Some(status) = status {
            self.span
                .in_scope(|| tracing::debug!(subject = self.shared.subject, %status, "a message was not processed"));
            if let Some(responder) = self.responder.as_ref().filter(|_| self.shared.is_in_group) {
                responder.fail(&status);
            }
        }
        self.shared.server.message_ended();
    }
}
