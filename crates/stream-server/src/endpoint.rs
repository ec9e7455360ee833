//! One subject that is served.

use std::error::Error;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use natstream_connect::{check_queue_group, check_subscribe_subject};
use stream_proto::{Code, Frame, HEADER, Offer, Open, OutboundConfig, Status};
use tokio::sync::{Notify, Semaphore};

use crate::error::{HandlerError, ServeError, ServeErrorKind};
use crate::handler::Handler;
use crate::request::Request;
use crate::sender::ResponseSender;
use crate::server::Inner;
use crate::stats::{Counters, EndpointStats, count};
use crate::stream::{Permits, StreamShared, insert_failure};

/// The group that members of a service share when nothing else is said (ADR-32).
const DEFAULT_QUEUE_GROUP: &str = "q";

/// What a unit leaves free of `max_payload` for headers that others add, such as `Nats-Request-Info` (rule 14).
const PAYLOAD_RESERVE: usize = 1024 + 128;

type Cause = Box<dyn Error + Send + Sync>;
type HandlerFuture = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;
type ErasedHandler = Arc<dyn Fn(Request, ResponseSender) -> HandlerFuture + Send + Sync>;

/// A subject that is about to be served; awaiting it subscribes.
///
/// | setting | default |
/// |---|---|
/// | [`queue_group`](Self::queue_group) | `q` |
/// | [`max_concurrent`](Self::max_concurrent) | no limit |
/// | [`max_item`](Self::max_item) | 16 MiB |
/// | [`retention`](Self::retention) | 1 MiB a stream |
/// | [`heartbeat`](Self::heartbeat) | 5 s, when the caller asks for none |
/// | [`stall_limit`](Self::stall_limit) | 5 min |
#[must_use = "an endpoint serves nothing until awaited"]
pub struct EndpointBuilder {
    server: Arc<Inner>,
    subject: String,
    handler: ErasedHandler,
    queue_group: Option<String>,
    max_concurrent: Option<usize>,
    config: OutboundConfig,
}

impl EndpointBuilder {
    pub(crate) fn new(server: Arc<Inner>, subject: String, handler: impl Handler) -> Self {
        let handler = Arc::new(handler);
        Self {
            server,
            subject,
            handler: Arc::new(move |request, sender| {
                let handler = handler.clone();
                Box::pin(async move { handler.handle(request, sender).await })
            }),
            queue_group: Some(DEFAULT_QUEUE_GROUP.to_owned()),
            max_concurrent: None,
            config: OutboundConfig::default(),
        }
    }

    /// The queue group: each request reaches one of its members.
    pub fn queue_group(mut self, group: impl Into<String>) -> Self {
        self.queue_group = Some(group.into());
        self
    }

    /// No queue group: each request reaches every endpoint. A caller takes the first answer and refuses the others.
    pub fn no_queue_group(mut self) -> Self {
        self.queue_group = None;
        self
    }

    /// Most calls that run at a time; more are refused at once with `RESOURCE_EXHAUSTED`.
    pub fn max_concurrent(mut self, calls: usize) -> Self {
        self.max_concurrent = Some(calls);
        self
    }

    /// Largest item in bytes that a handler may send; the caller's own limit holds as well.
    pub fn max_item(mut self, bytes: usize) -> Self {
        self.config.max_item = bytes as u64;
        self
    }

    /// Bytes that each stream keeps for sending again; also the most that it sends ahead of the caller.
    pub fn retention(mut self, bytes: usize) -> Self {
        self.config.retention = bytes as u64;
        self
    }

    /// Interval of heartbeats when the caller asks for none; between 1 s and 60 s.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.config.heartbeat = interval;
        self
    }

    /// How long a stream may be held up by a caller that does not read.
    pub fn stall_limit(mut self, limit: Duration) -> Self {
        self.config.stall_limit = limit;
        self
    }

    /// Subscribes; the same as awaiting the builder, without a box around the future.
    ///
    /// When it returns, nats-server knows the subscription.
    ///
    /// # Errors
    /// `InvalidConfig` for a subject, group or limit that cannot be, `Connection` when the connection is closed or did not
    /// answer in time.
    ///
    /// # Cancel safety
    /// When the future is dropped, the subject may be served for a moment; requests that arrive then are not answered.
    pub async fn start(self) -> Result<Endpoint, ServeError> {
        let invalid = |error: Cause| ServeError::new(ServeErrorKind::InvalidConfig, &self.subject, error);
        check_subscribe_subject(&self.subject).map_err(|error| invalid(error.into()))?;
        if let Some(group) = &self.queue_group {
            check_queue_group(group).map_err(|error| invalid(error.into()))?;
        }
        let max_payload = self.server.connection.max_payload();
        if max_payload < PAYLOAD_RESERVE + stream_proto::MIN_UNIT {
            return Err(invalid(
                format!("max_payload of {max_payload} bytes is too small for streams").into(),
            ));
        }
        let failed = |error: Cause| ServeError::new(ServeErrorKind::Connection, &self.subject, error);
        self.server.router().await.map_err(|error| failed(error.into()))?;
        let nats = self.server.connection.nats();
        let subscriber = match &self.queue_group {
            Some(group) => nats.queue_subscribe(self.subject.clone(), group.clone()).await,
            None => nats.subscribe(self.subject.clone()).await,
        }
        .map_err(|error| failed(error.into()))?;
        // `subscribe` returns before nats-server has heard of it.
        let fence = self.server.connection.fence(FENCE_TIMEOUT).await;
        fence.map_err(|error| failed(error.into()))?;

        let shared = Arc::new(EndpointShared {
            limit: self
                .max_concurrent
                .map(|max| Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)))),
            server: self.server,
            subject: self.subject,
            config: self.config,
            counters: Counters::default(),
            is_stopped: AtomicBool::new(false),
            stop: Notify::new(),
            ended: Notify::new(),
            has_ended: AtomicBool::new(false),
        });
        shared.server.add_endpoint(shared.clone());
        let task = serve(shared.clone(), subscriber, self.handler);
        #[expect(clippy::disallowed_methods, reason = "one task for each endpoint")]
        tokio::spawn(task);
        Ok(Endpoint { shared })
    }
}

/// How long nats-server may take to confirm a subscription.
const FENCE_TIMEOUT: Duration = Duration::from_secs(5);

impl IntoFuture for EndpointBuilder {
    type Output = Result<Endpoint, ServeError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

impl fmt::Debug for EndpointBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointBuilder")
            .field("subject", &self.subject)
            .field("queue_group", &self.queue_group)
            .finish_non_exhaustive()
    }
}

/// A subject that is being served. Dropping this handle changes nothing; the subject is served until
/// [`unsubscribe`](Self::unsubscribe), or until its server drains or is dropped.
#[derive(Clone, Debug)]
pub struct Endpoint {
    shared: Arc<EndpointShared>,
}

impl Endpoint {
    /// The subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.shared.subject
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> EndpointStats {
        self.shared.counters.snapshot()
    }

    /// Takes no more requests: those that still arrive are refused, running calls go on.
    ///
    /// # Cancel safety
    /// Unsubscribing goes on when the future is dropped.
    pub async fn unsubscribe(&self) {
        self.shared.stop();
        self.shared.ended().await;
    }
}

/// What the endpoint's task and its streams share.
#[derive(Debug)]
pub(crate) struct EndpointShared {
    pub(crate) server: Arc<Inner>,
    pub(crate) subject: String,
    pub(crate) counters: Counters,
    config: OutboundConfig,
    limit: Option<Arc<Semaphore>>,
    is_stopped: AtomicBool,
    stop: Notify,
    has_ended: AtomicBool,
    ended: Notify,
}

impl EndpointShared {
    /// Tells the endpoint's task to leave the group.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.stop.notify_one();
    }

    /// Completes when the endpoint's task takes nothing any more.
    pub(crate) async fn ended(&self) {
        loop {
            let notified = self.ended.notified();
            if self.has_ended.load(Ordering::Acquire) {
                return;
            }
            notified.await;
        }
    }

    /// Takes a request: begins a stream for it, or says why not.
    async fn accept(self: &Arc<Self>, message: Message, handler: &ErasedHandler) {
        count(&self.counters.requests);
        let reply = message.reply.as_ref();
        // A copy: the subject is cut out of a read buffer of 64 KiB, which it would keep alive.
        let reply = reply
            .filter(|reply| stream_proto::is_safe_reply(reply, &self.server.reply_prefixes))
            .map(|reply| Subject::from(reply.as_str()));
        let Some(reply) = reply else {
            count(&self.counters.malformed);
            tracing::debug!(
                subject = self.subject,
                "a request without a usable reply subject was dropped"
            );
            return;
        };
        let Some(header) = message.headers.as_ref().and_then(|headers| headers.get(HEADER)) else {
            count(&self.counters.foreign);
            self.refuse_foreign(reply).await;
            return;
        };
        let open = match Open::parse(header.as_str()) {
            Ok(Offer::Supported(open)) => open,
            Ok(_) => {
                let status = Status::new(Code::Unimplemented, "no common version of the natstream protocol");
                return self.refuse(reply, status).await;
            }
            Err(error) => {
                count(&self.counters.malformed);
                return self
                    .refuse(reply, Status::new(Code::InvalidArgument, error.to_string()))
                    .await;
            }
        };
        match self.admit() {
            Ok(permits) => self.begin(message, reply, &open, permits, handler).await,
            Err(status) => self.refuse(reply, status).await,
        }
    }

    fn admit(&self) -> Result<Permits, Status> {
        if self.is_stopped.load(Ordering::Acquire) {
            return Err(Status {
                retryable: true,
                ..Status::new(Code::Unavailable, "the server is draining")
            });
        }
        let take = |limit: &Option<Arc<Semaphore>>, whose: &str| match limit {
            None => Ok(None),
            Some(limit) => limit.clone().try_acquire_owned().map(Some).map_err(|_| Status {
                retryable: true,
                ..Status::new(Code::ResourceExhausted, format!("{whose} runs as many calls as it may"))
            }),
        };
        Ok(Permits {
            _endpoint: take(&self.limit, "the endpoint")?,
            _server: take(&self.server.limit, "the server")?,
        })
    }

    async fn begin(
        self: &Arc<Self>,
        message: Message,
        reply: Subject,
        open: &Open,
        permits: Permits,
        handler: &ErasedHandler,
    ) {
        let Ok(router) = self.server.router().await else {
            return;
        };
        let driver = self.server.connection.driver().clone();
        let deadline = open.deadline.map(|deadline| driver.now() + deadline);
        let mut config = self.config.clone();
        config.mapped = stream_proto::is_mapped(&reply);
        config.max_unit = self.server.connection.max_payload().saturating_sub(PAYLOAD_RESERVE);
        let stream = StreamShared::open(driver, self.clone(), reply, open, &config, permits);
        self.server.call_began(&stream);
        stream.set_control(router.add(stream.clone()));
        let request = Request {
            subject: message.subject.to_string(),
            payload: Bytes::copy_from_slice(&message.payload),
            headers: message.headers,
            deadline,
        };
        let run = Run {
            handler: handler(request, ResponseSender::new(stream.clone())),
            stream,
        };
        #[expect(clippy::disallowed_methods, reason = "one task for each running handler")]
        tokio::spawn(run);
    }

    /// Says no; the caller knows that nothing was processed.
    async fn refuse(&self, reply: Subject, status: Status) {
        count(&self.counters.refused);
        let status = Status {
            not_processed: true,
            ..status
        };
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, stream_proto::VERSION.to_string().as_str());
        insert_failure(&mut headers, &status);
        let payload = Frame::refusal(natstream_connect::random_u32(), status).encode();
        let nats = self.server.connection.nats();
        if let Err(error) = nats.publish_with_headers(reply, headers, payload).await {
            tracing::debug!(%error, subject = self.subject, "a refusal could not be sent");
        }
    }

    /// Says no to a program that does not speak the native dialect, in the headers of ADR-32.
    async fn refuse_foreign(&self, reply: Subject) {
        count(&self.counters.refused);
        let mut headers = HeaderMap::new();
        let status = Status::new(Code::Unimplemented, "this endpoint speaks the natstream protocol only");
        insert_failure(&mut headers, &status);
        let nats = self.server.connection.nats();
        if let Err(error) = nats.publish_with_headers(reply, headers, Bytes::new()).await {
            tracing::debug!(%error, subject = self.subject, "a refusal could not be sent");
        }
    }
}

/// The endpoint's task.
async fn serve(endpoint: Arc<EndpointShared>, mut subscriber: Subscriber, handler: ErasedHandler) {
    loop {
        let message = tokio::select! {
            biased;
            () = endpoint.stop.notified() => break,
            message = subscriber.next() => message,
        };
        let Some(message) = message else {
            break;
        };
        endpoint.accept(message, &handler).await;
    }
    // Leaves the group. What nats-server sent before it heard of that still arrives, and is refused.
    if subscriber.drain().await.is_ok() {
        while let Some(message) = subscriber.next().await {
            endpoint.accept(message, &handler).await;
        }
    }
    endpoint.has_ended.store(true, Ordering::Release);
    endpoint.ended.notify_waiters();
}

/// A running handler: sends what it gathered whenever it yields, and ends the stream when it returns or panics.
struct Run {
    handler: HandlerFuture,
    stream: Arc<StreamShared>,
}

impl Future for Run {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.enter_handler();
        let handler = self.handler.as_mut();
        match catch_unwind(AssertUnwindSafe(move || handler.poll(cx))) {
            Ok(Poll::Pending) => {
                self.stream.leave_handler();
                return Poll::Pending;
            }
            Ok(Poll::Ready(result)) => {
                self.stream.handler_returned(result.map_err(HandlerError::into_status));
            }
            Err(_) => {
                // The panic hook has shown what happened; the caller is not told more than that.
                let status = Status::new(Code::Internal, "the handler panicked");
                self.stream.handler_returned(Err(status));
            }
        }
        Poll::Ready(())
    }
}
