//! The handler runtime.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{Message, StatusCode};
use natstream_connect::{Connection, KeptRouter, Lease, Outbox, RateLimit, Router, Unrouted};
use parking_lot::Mutex;
use stream_proto::{Code, Frame, Status};
use tokio::sync::{Notify, OnceCell, watch};
use tokio::time::timeout;

use crate::answered::Answered;
use crate::endpoint::{Endpoint, EndpointBuilder, EndpointShared};
use crate::error::HandlerError;
use crate::handler::{FnHandler, Handler};
use crate::limit::Limit;
use crate::offline::Callers;
use crate::request::Request;
use crate::sender::ResponseSender;
use crate::service::Identity;
use crate::serving::Serves;
use crate::stats::{ServerCounters, ServerStats, count};
use crate::stream::StreamShared;

/// How long [`Server::serve_until`] lets running calls go on.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a drain waits until nats-server has everything.
const FENCE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long callers may take to confirm the ends of their streams (rule 58).
const CONFIRMATION: Duration = Duration::from_secs(2);

/// Messages of refusals that wait for a connection that is busy, of about 1 KiB. The callers of those above learn after 5 s
/// that nobody answered.
const REFUSALS: usize = 4096;

/// Stray callers that are answered in a second.
const RESETS_PER_SECOND: u32 = 100;

/// Runs handlers on one connection. Cloning gives another handle to the same server; dropping the last one ends its
/// endpoints and subscriptions, while running handlers go on.
///
/// Memory: for each running call its request, and at most `min(retention, granted) + one unit` and the rest of an item
/// that exceeds the credit, where retention above 2 MiB is 64 MiB for all calls of the process together; streams that were sent and wait for their confirmation keep 16 MiB and 10,000 entries together
/// at most; answers of one message, which nobody confirms, 16 MiB and 10,000 of each server, for 2 s; refusals that wait for the connection, 4 MiB.
#[derive(Clone)]
pub struct Server {
    pub(crate) inner: Arc<Inner>,
    // Dropping the last handle stops the endpoints.
    _alive: Arc<Alive>,
}

/// Settings of a [`Server`].
#[must_use = "a builder does nothing until built"]
#[derive(Debug)]
pub struct ServerBuilder {
    connection: Lease,
    max_concurrent: Option<usize>,
    max_queued: usize,
    reply_prefixes: Vec<String>,
    pub(crate) identity: Identity,
}

impl ServerBuilder {
    /// Most calls that run at a time on all endpoints together. Default: no limit, for the reasons that
    /// [`EndpointBuilder::max_concurrent`](crate::EndpointBuilder::max_concurrent) gives. Those above are queued, as many as
    /// [`max_queued`](Self::max_queued) says; more are refused at once with `RESOURCE_EXHAUSTED`.
    pub fn max_concurrent(mut self, calls: usize) -> Self {
        self.max_concurrent = Some(calls);
        self
    }

    /// Most calls that wait for one of [`max_concurrent`](Self::max_concurrent) to end, on all endpoints together. Default 0.
    pub fn max_queued(mut self, calls: usize) -> Self {
        self.max_queued = calls;
        self
    }

    /// Also answers to reply subjects that begin with `prefix`.
    ///
    /// Without it: those that begin with `_INBOX` (`_INBOX_orders` too) or with this connection's own inbox prefix, and those
    /// that an account import has rewritten. A caller with an inbox prefix of another form needs it. Never name subjects
    /// that act: an answer sent to `$JS.API.…` would act with this server's permissions.
    pub fn reply_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.reply_prefixes.push(prefix.into());
        self
    }

    /// The server.
    #[must_use]
    pub fn build(mut self) -> Server {
        self.reply_prefixes.push(format!("{}.", self.connection.inbox_prefix()));
        let inner = Arc::new(Inner {
            refusals: Outbox::new(self.connection.driver().clone(), REFUSALS),
            answered: Answered::new(self.connection.driver().clone()),
            connection: self.connection,
            reply_prefixes: self.reply_prefixes,
            identity: self.identity,
            announced: OnceCell::new(),
            stopped: watch::Sender::new(false),
            limit: Limit::new(self.max_concurrent, self.max_queued),
            callers: Callers::default(),
            is_shut_down: AtomicBool::new(false),
            unconfirmed: watch::Sender::new(0),
            counters: ServerCounters::default(),
            router: KeptRouter::default(),
            served: Mutex::new(Some(Vec::new())),
            messages: AtomicUsize::new(0),
            running: Mutex::default(),
            idle: Notify::new(),
        });
        Server {
            _alive: Arc::new(Alive {
                inner: Arc::downgrade(&inner),
            }),
            inner,
        }
    }
}

impl Server {
    /// A server with default settings; see [`builder`](Self::builder).
    #[must_use]
    pub fn new(connection: impl Into<Lease>) -> Self {
        Self::builder(connection).build()
    }

    /// A server with settings, on a [`Connection`] or on one of [`Connections`](natstream_connect::Connections), which it holds
    /// the [`Lease`] of: for as long as it lives it stays on that one.
    pub fn builder(connection: impl Into<Lease>) -> ServerBuilder {
        ServerBuilder {
            connection: connection.into(),
            max_concurrent: None,
            max_queued: 0,
            reply_prefixes: Vec::new(),
            identity: Identity::default(),
        }
    }

    /// Serves `subject` with a closure. Await the result to begin.
    ///
    /// ```no_run
    /// # async fn example(server: stream_server::Server) -> Result<(), stream_server::ServeError> {
    /// let endpoint = server
    ///     .on("letters", |_request, mut out| async move {
    ///         for letter in 'a'..='z' {
    ///             out.send(letter.to_string()).await?;
    ///         }
    ///         Ok(())
    ///     })
    ///     .max_concurrent(100)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on<F, Fut>(&self, subject: impl Into<String>, handler: F) -> EndpointBuilder
    where
        F: Fn(Request, ResponseSender) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        self.handler(subject, FnHandler(handler))
    }

    /// Serves `subject` with a [`Handler`]. Await the result to begin.
    pub fn handler(&self, subject: impl Into<String>, handler: impl Handler) -> EndpointBuilder {
        EndpointBuilder::new(self.inner.clone(), subject.into(), handler)
    }

    /// Counters beside those of the endpoints.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.inner.counters.snapshot()
    }

    /// The endpoints that are served now; none once it was drained.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let endpoints = self.inner.endpoints().unwrap_or_default();
        endpoints.into_iter().map(Endpoint::new).collect()
    }

    /// Can it be asked: is its connection up, and is something served, which was not told to drain? What a readiness probe
    /// wants to know; it costs no message.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let is_serving = self
            .inner
            .served
            .lock()
            .as_ref()
            .is_some_and(|served| !served.is_empty());
        is_serving && self.inner.connection.state().borrow().is_connected()
    }

    /// The connection that this server uses.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    /// Takes no more calls and messages, waits for the handlers that run, and ends calls that are left at the deadline as
    /// unavailable and retryable. What was on its way is taken; calls that were queued run, or are certainly not processed, and
    /// queued messages run, or are dropped. Then it waits up to 2 s until the callers have confirmed the ends of their streams, and for nats-server.
    ///
    /// Altogether that is up to 6 s after the deadline, where nats-server or callers do not answer.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the endpoints stopped and the calls running.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        let served = self.inner.stop();
        let ended = async {
            for served in &served {
                served.stage().ended().await;
            }
            self.inner.idle().await;
        };
        let mut drained = Drained::default();
        if timeout(deadline, ended).await.is_err() {
            self.inner.is_shut_down.store(true, Ordering::Release);
            let left = self.inner.running_streams();
            drained.aborted = left.len();
            drained.messages = self.inner.messages.load(Ordering::Acquire);
            for stream in left {
                stream.abort(Status {
                    retryable: true,
                    ..Status::new(Code::Unavailable, "the server was shut down")
                });
            }
        }
        // Where the deadline has passed, they may still be leaving; what arrives meanwhile is refused.
        let left = async {
            for served in &served {
                served.stage().ended().await;
            }
        };
        if timeout(CONFIRMATION, left).await.is_err() {
            tracing::warn!("nats-server has not confirmed that all subjects are left");
        }
        // An end that was lost on its way is sent again as long as this process lives.
        let mut unconfirmed = self.inner.unconfirmed.subscribe();
        let confirmed = unconfirmed.wait_for(|streams| *streams == 0);
        if timeout(CONFIRMATION, confirmed).await.is_err() {
            tracing::debug!("some callers have not confirmed the end of their streams");
        }
        if let Err(error) = self.inner.connection.fence(FENCE_TIMEOUT).await {
            tracing::warn!(%error, "the last messages may not have reached nats-server");
        }
        drained
    }

    /// Serves until `shutdown` completes, then [drains](Self::drain) with a deadline of 10 s.
    pub async fn serve_until(&self, shutdown: impl Future) -> Drained {
        shutdown.await;
        self.drain(DRAIN).await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field(
                "endpoints",
                &self.inner.endpoints().map_or(0, |endpoints| endpoints.len()),
            )
            .field("running", &self.inner.running.lock().len())
            .field("messages", &self.inner.messages.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// What a drain did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Calls that were ended at the deadline.
    pub aborted: usize,
    /// Messages that were not done with at the deadline: handlers that run go on, what waited is dropped.
    pub messages: usize,
}

pub(crate) struct Inner {
    pub(crate) connection: Lease,
    /// What a caller's reply subjects may begin with, beside `_INBOX` and `_R_.` (rule 6).
    reply_prefixes: Vec<String>,
    /// Who this is to those who ask.
    pub(crate) identity: Identity,
    pub(crate) announced: OnceCell<()>,
    /// True once the server was drained or dropped.
    pub(crate) stopped: watch::Sender<bool>,
    pub(crate) limit: Limit,
    pub(crate) refusals: Arc<Outbox>,
    pub(crate) callers: Callers,
    /// What is asked now is refused.
    is_shut_down: AtomicBool,
    /// Streams whose end was sent, and not confirmed by the caller.
    unconfirmed: watch::Sender<usize>,
    /// Answers of one message, which nobody confirms.
    pub(crate) answered: Arc<Answered>,
    pub(crate) counters: ServerCounters,
    router: KeptRouter,
    /// Endpoints and subscriptions; `None` once the server was drained or dropped.
    served: Mutex<Option<Vec<Arc<dyn Serves>>>>,
    /// Messages whose handlers run or wait.
    messages: AtomicUsize,
    /// Calls that count as active, by the address of their stream.
    running: Mutex<HashMap<usize, Weak<StreamShared>>>,
    idle: Notify,
}

impl Inner {
    /// The control subjects; subscribed when the first endpoint begins.
    pub(crate) async fn router(self: &Arc<Self>) -> Result<Router, async_nats::SubscribeError> {
        let strays = || -> Arc<dyn Unrouted> {
            let now = self.connection.driver().now();
            let resets = self
                .connection
                .shared(|| Resets(RateLimit::new(RESETS_PER_SECOND, now)));
            Arc::new(Strays {
                server: Arc::downgrade(self),
                resets,
            })
        };
        self.answered.follow(&self.connection);
        self.router.get(&self.connection, strays).await
    }

    /// May a caller be answered at `reply`?
    pub(crate) fn is_safe(&self, reply: &str) -> bool {
        const NONE: &[&str] = &[];
        stream_proto::is_safe_reply(reply, NONE)
            || stream_proto::is_safe_reply(reply, &self.reply_prefixes) && !self.connection.serves(reply)
    }

    /// False when the server takes none any more.
    pub(crate) fn add(&self, served: Arc<dyn Serves>) -> bool {
        let mut all = self.served.lock();
        all.as_mut().map(|all| all.push(served)).is_some()
    }

    pub(crate) fn remove(&self, served: &Arc<dyn Serves>) {
        if let Some(all) = &mut *self.served.lock() {
            all.retain(|other| !Arc::ptr_eq(other, served));
        }
    }

    /// The endpoints; `None` once the server was drained or dropped.
    pub(crate) fn endpoints(&self) -> Option<Vec<Arc<EndpointShared>>> {
        let served = self.served.lock();
        let endpoints = served.as_ref()?.iter().cloned().filter_map(Serves::into_endpoint);
        Some(endpoints.collect())
    }

    /// Calls that have not ended.
    pub(crate) fn running_streams(&self) -> Vec<Arc<StreamShared>> {
        self.running.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// Tells all endpoints and subscriptions to leave; no more are taken.
    fn stop(&self) -> Vec<Arc<dyn Serves>> {
        self.stopped.send_replace(true);
        let served = self.served.lock().take().unwrap_or_default();
        for served in &served {
            served.stage().leave();
        }
        served
    }

    /// A message is taken, whose handler will run or wait.
    pub(crate) fn message_began(&self) {
        self.messages.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn message_ended(&self) {
        if self.messages.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.is_shut_down.load(Ordering::Acquire)
    }

    /// One stream more, or less, whose end its caller has not confirmed.
    pub(crate) fn unconfirmed(&self, is_more: bool) {
        self.unconfirmed.send_modify(|streams| {
            *streams = if is_more {
                *streams + 1
            } else {
                streams.saturating_sub(1)
            };
        });
    }

    pub(crate) fn call_began(&self, stream: &Arc<StreamShared>) {
        let key = Arc::as_ptr(stream).addr();
        self.running.lock().insert(key, Arc::downgrade(stream));
    }

    pub(crate) fn call_ended(&self, stream: &StreamShared) {
        let mut running = self.running.lock();
        running.remove(&std::ptr::from_ref(stream).addr());
        if running.is_empty() {
            self.idle.notify_waiters();
        }
    }

    /// Completes when no call is active, and no handler of a message.
    async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.running.lock().is_empty() && self.messages.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// Stops endpoints and subscriptions when the last [`Server`] is gone.
#[derive(Debug)]
struct Alive {
    inner: Weak<Inner>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            drop(inner.stop());
        }
    }
}

/// Messages for streams that are over: a caller that still asks for one is told so (rule 50).
#[derive(Debug)]
struct Strays {
    // Weak: the router, which owns this, is owned by the server.
    server: Weak<Inner>,
    resets: Arc<Resets>,
}

/// The RESETs of one connection.
#[derive(Debug)]
struct Resets(RateLimit);

impl Unrouted for Strays {
    fn unrouted(&self, message: Message) {
        let Some(server) = self.server.upgrade() else {
            return;
        };
        let is_nobody = message.status == Some(StatusCode::NO_RESPONDERS);
        if is_nobody && server.answered.no_responders(&message.subject) {
            return;
        }
        count(&server.counters.strays);
        let reply = message.reply.filter(|reply| server.is_safe(reply));
        let (Some(reply), Ok(Frame::State { sid, .. })) = (reply, Frame::decode(&message.payload)) else {
            return;
        };
        let driver = server.connection.driver();
        if self.resets.0.allow(driver.now()) {
            let told = driver.try_send(OutboundMessage {
                subject: reply,
                reply: None,
                payload: Frame::Reset { sid }.encode(),
                headers: None,
            });
            server.counters.resets.fetch_add(told.is_ok().into(), Ordering::Relaxed);
        }
    }
}
