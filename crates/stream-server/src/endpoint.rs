//! One subject that is served.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use natstream_connect::{Router, Subscriber};
use stream_proto::{Budget, OutboundConfig, PlainDialect};
use tokio::time::timeout;

use crate::admission::ErasedHandler;
use crate::error::{ServeError, ServeErrorKind};
use crate::handler::Handler;
use crate::limit::Limit;
use crate::server::Inner;
use crate::service::{EndpointIdentity, default_endpoint_name};
use crate::serving::{self, Cause, FENCE_TIMEOUT, Serves, Stage};
use crate::stats::{Counters, EndpointStats, count};
use crate::stream::MAX_METADATA;

/// The group that members of a service share when nothing else is said (ADR-32).
const DEFAULT_QUEUE_GROUP: &str = "q";

/// What a unit leaves free of `max_payload` for its headers (at most 350 bytes) and for those that others add, such as
/// `Nats-Request-Info` (rule 14).
const PAYLOAD_RESERVE: usize = 1024 + 384;

/// The largest item of a plain dialect, which is a message with the handler's headers at most.
pub(crate) fn max_message(max_payload: usize) -> usize {
    let room = max_payload.saturating_sub(PAYLOAD_RESERVE);
    room - MAX_METADATA.min(room / 2)
}

/// The largest unit where messages have at most `max_payload` bytes. Where that is little, the handler's own headers are
/// allowed for: they may be as large.
pub(crate) fn max_unit(max_payload: usize) -> usize {
    let units = max_payload.saturating_sub(PAYLOAD_RESERVE);
    if units < stream_proto::MAX_UNIT + MAX_METADATA {
        units.saturating_sub(MAX_METADATA.min(units / 2))
    } else {
        units
    }
}

/// What all streams of this process keep above the 2 MiB that each may always (rule 29).
const FAR: u64 = 64 << 20;

static RETAINED: LazyLock<Budget> = LazyLock::new(|| Budget::new(FAR));

/// A subject that is about to be served; awaiting it subscribes.
///
/// | setting | default |
/// |---|---|
/// | [`queue_group`](Self::queue_group) | `q` |
/// | [`name`](Self::name) | the subject, with `-` for what a name cannot have |
/// | [`max_concurrent`](Self::max_concurrent) | no limit |
/// | [`max_queued`](Self::max_queued) | 0: what is above the limit is refused |
/// | [`retry_after`](Self::retry_after) | 100 ms |
/// | [`max_item`](Self::max_item) | 16 MiB |
/// | [`retention`](Self::retention) | 8 MiB a stream at most |
/// | [`heartbeat`](Self::heartbeat) | 5 s, when the caller asks for none |
/// | [`stall_limit`](Self::stall_limit) | 5 min |
/// | [`outage_limit`](Self::outage_limit) | 30 s |
/// | [`foreign_dialect`](Self::foreign_dialect) | [`Text`](ForeignDialect::Text) |
/// | [`client_offline`](Self::client_offline) | on |
/// | [`allow_uncontrolled`](Self::allow_uncontrolled) | off |
#[must_use = "an endpoint serves nothing until awaited"]
pub struct EndpointBuilder {
    server: Arc<Inner>,
    subject: String,
    handler: ErasedHandler,
    queue_group: Option<String>,
    max_concurrent: Option<usize>,
    max_queued: usize,
    retry_after: Duration,
    config: OutboundConfig,
    dialects: Dialects,
    pub(crate) name: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// How requests are answered that do not speak the native dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForeignDialect {
    /// Each item is a message; `__STREAM_END__` ends the answer, `__STREAM_ERROR__:` and a text fail it.
    Text,
    /// Each item is a message; an empty one ends the answer (NATS ADR-47). A failure stands in the headers
    /// `Nats-Service-Error` and `Nats-Service-Error-Code` (ADR-32) of an empty message before it.
    Sentinel,
    /// They are refused, with these two headers.
    Refuse,
}

/// Which weaker forms of an answer are allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialects {
    pub(crate) foreign: ForeignDialect,
    pub(crate) client_offline: bool,
    pub(crate) uncontrolled: bool,
}

impl ForeignDialect {
    pub(crate) fn plain(self) -> Option<PlainDialect> {
        match self {
            Self::Text => Some(PlainDialect::Text),
            Self::Sentinel => Some(PlainDialect::Sentinel),
            Self::Refuse => None,
        }
    }
}

impl EndpointBuilder {
    pub(crate) fn new(server: Arc<Inner>, subject: String, handler: impl Handler) -> Self {
        let handler = Arc::new(handler);
        let mut config = OutboundConfig::default();
        config.retention_budget = Some(RETAINED.clone());
        Self {
            server,
            subject,
            handler: Arc::new(move |request, sender| {
                let handler = handler.clone();
                Box::pin(async move { handler.handle(request, sender).await })
            }),
            queue_group: Some(DEFAULT_QUEUE_GROUP.to_owned()),
            max_concurrent: None,
            max_queued: 0,
            retry_after: Duration::from_millis(100),
            config,
            dialects: Dialects {
                foreign: ForeignDialect::Text,
                client_offline: true,
                uncontrolled: false,
            },
            name: None,
            metadata: BTreeMap::new(),
        }
    }

    /// How callers are answered that do not speak the native dialect: other NATS programs.
    ///
    /// They get each item as a message of its own, as large as a message may be, without flow control: a reader that is too
    /// slow is cut off by nats-server. What is lost on the way cannot be noticed there; where it can, the answer fails. Their
    /// handlers are stopped when nobody is subscribed to the reply subject for 5 s while items are sent; across accounts
    /// they run to their end.
    pub fn foreign_dialect(mut self, dialect: ForeignDialect) -> Self {
        self.dialects.foreign = dialect;
        self
    }

    /// Does a message on the subject `client.offline` stop the handlers of the client that it names? It counts in the text
    /// dialect, for requests with that name in the header `Connect-ID`.
    ///
    /// Anybody who may publish there can stop them.
    pub fn client_offline(mut self, honoured: bool) -> Self {
        self.dialects.client_offline = honoured;
        self
    }

    /// Also answers callers that may not publish to control subjects, if they give a deadline.
    ///
    /// Such a caller sees that something is missing and cannot ask for it; it cannot cancel either, and cannot hold up the
    /// sender.
    pub fn allow_uncontrolled(mut self, allowed: bool) -> Self {
        self.dialects.uncontrolled = allowed;
        self
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

    /// Most calls that run at a time, those included that wait for the limit of the server. Those above are queued, as many as
    /// [`max_queued`](Self::max_queued) says; more are refused at once with `RESOURCE_EXHAUSTED`, certainly not processed.
    ///
    /// Default: no limit, on purpose. Calls that wait for news cost next to nothing and may be tens of thousands; those that
    /// compute are too many beyond the number of processors. What is above a limit is refused, so a number that nobody has
    /// chosen would fail calls for no reason. Each call has a caller who lives and is told of its end, so their number is bounded
    /// by those of the callers; for messages, which have none, there is a
    /// [default](crate::SubscriptionBuilder::max_concurrent). **Set it in production**, here or for
    /// [all endpoints](crate::ServerBuilder::max_concurrent), wherever callers are not your own.
    ///
    /// Memory: so many times what a handler keeps, about 2.5 KiB for its task and its stream, and at most
    /// [`retention`](Self::retention) for a caller that does not confirm what it gets.
    pub fn max_concurrent(mut self, calls: usize) -> Self {
        self.max_concurrent = Some(calls);
        self
    }

    /// Most calls that wait for one of [`max_concurrent`](Self::max_concurrent) to end, first come, first served. Their callers
    /// know that they were accepted, and get heartbeats (not those of other dialects). A call that is cancelled or out of time is never begun.
    ///
    /// Memory: about 2 KiB a call, and its request.
    pub fn max_queued(mut self, calls: usize) -> Self {
        self.max_queued = calls;
        self
    }

    /// What a caller that is refused for want of room is told to wait before it asks again.
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = pause;
        self
    }

    /// Largest item in bytes that a handler may send; the caller's own limit holds as well.
    pub fn max_item(mut self, bytes: usize) -> Self {
        self.config.max_item = bytes as u64;
        self
    }

    /// Most bytes that each stream keeps for sending again; also the most that it sends ahead of the caller.
    ///
    /// A stream keeps no more than the caller grants, which is 2 MiB at most unless a round trip asks for more (callers of
    /// natstream). What is above 2 MiB comes out of 64 MiB that all streams of the process share; a stream that finds none
    /// is slower.
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

    /// How long this side's connection may be down before the callers of its streams count as gone.
    pub fn outage_limit(mut self, limit: Duration) -> Self {
        self.config.outage_limit = limit;
        self
    }

    /// Subscribes; the same as awaiting the builder, without a box around the future.
    ///
    /// When it returns, nats-server knows the subscription.
    ///
    /// # Errors
    /// `NotPermitted` when nats-server does not let this user subscribe to the subject or to its inbox; `InvalidConfig` for a
    /// subject, group, name or version that cannot be, or a `max_payload` that is too small for streams;
    /// `Connection` when the connection is closed or did not answer in time, or the server was drained or dropped.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// When the future is dropped, the subject may be served for a moment; requests that arrive then are not answered.
    pub async fn start(self) -> Result<Endpoint, ServeError> {
        Subscriber::check(&self.subject, self.queue_group.as_deref())?;
        let invalid = |error: Cause| ServeError::new(ServeErrorKind::InvalidConfig, &self.subject, error);
        let identity = EndpointIdentity {
            name: self.name.unwrap_or_else(|| default_endpoint_name(&self.subject)),
            queue_group: self.queue_group.clone().unwrap_or_default(),
            metadata: self.metadata,
        };
        let checked = self.server.identity.check().and_then(|()| identity.check());
        checked.map_err(|error| invalid(error.into()))?;
        let max_payload = self.server.connection.max_payload();
        if max_unit(max_payload) < stream_proto::MIN_UNIT {
            return Err(invalid(
                format!("max_payload of {max_payload} bytes is too small for streams").into(),
            ));
        }
        let failed = |error: Cause| ServeError::new(ServeErrorKind::Connection, &self.subject, error);
        // Before anything is subscribed to, so that each refusal is heard.
        let refusals = self.server.connection.server_errors();
        // While the connection is down and async-nats's queue is full, subscribing would wait for ever.
        let router = timeout(FENCE_TIMEOUT, self.server.router()).await;
        let router = router.map_err(|error| failed(error.into()))?;
        let router = router.map_err(|error| failed(error.into()))?;
        let connection = &self.server.connection;
        let group = self.queue_group.as_deref();
        let mut subscriber = Subscriber::begin(connection, refusals, &self.subject, group).await?;
        let inbox = format!("{}>", router.prefix());
        subscriber.confirm(&[&inbox]).await?;
        if router.is_denied() {
            let refusal = format!("no permission to subscribe to `{inbox}`");
            return Err(ServeError::new(ServeErrorKind::NotPermitted, &self.subject, refusal));
        }
        // After the endpoint's own subscription and its round trips, which come first where subscriptions are limited.
        let _ = timeout(FENCE_TIMEOUT, self.server.announce()).await;
        if self.dialects.foreign == ForeignDialect::Text && self.dialects.client_offline {
            let listen = timeout(FENCE_TIMEOUT, self.server.listen_for_offline()).await;
            if listen.is_err() {
                tracing::warn!(subject = self.subject, "clients that say that they leave are not heard");
            }
        }

        let shared = Arc::new(EndpointShared {
            limit: Limit::new(self.max_concurrent, self.max_queued),
            retry_after: self.retry_after,
            router,
            stage: Stage::new(Some(self.server.connection.serve(self.subject.clone()))),
            subject: self.subject,
            #[cfg(feature = "metrics")]
            duration: metrics::histogram!("natstream_server_call_duration_seconds", "endpoint" => identity.name.clone()),
            identity,
            config: self.config,
            dialects: self.dialects,
            counters: Counters::default(),
            server: self.server,
        });
        let (endpoint, handler) = (shared.clone(), self.handler);
        serving::start(shared.clone(), subscriber, move |message| {
            endpoint.accept(message, &handler);
        })?;
        Ok(Endpoint::new(shared))
    }
}

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
#[derive(Clone)]
pub struct Endpoint {
    shared: Arc<EndpointShared>,
}

impl Endpoint {
    pub(crate) fn new(shared: Arc<EndpointShared>) -> Self {
        Self { shared }
    }

    /// The subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.shared.subject
    }

    /// Its [name](EndpointBuilder::name).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.identity.name
    }

    /// Counters, those of running calls included.
    #[must_use]
    pub fn stats(&self) -> EndpointStats {
        let snapshots = self.shared.server.snapshots(std::slice::from_ref(&self.shared));
        snapshots.into_iter().next().unwrap_or_default()
    }

    /// Takes no more requests; running calls go on. When it returns, nats-server has heard of it, or 5 s have passed.
    ///
    /// Requests that were on their way are still taken (`docs/decisions/005-leaving-by-number.md`).
    ///
    /// # Cancel safety
    /// Unsubscribing goes on when the future is dropped.
    pub async fn unsubscribe(&self) {
        self.shared.stage.leave();
        self.shared.stage.ended().await;
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("subject", &self.subject())
            .field("stats", &self.shared.counters.snapshot())
            .finish()
    }
}

/// What the endpoint's task and its streams share.
pub(crate) struct EndpointShared {
    pub(crate) server: Arc<Inner>,
    /// Of the control subjects.
    pub(crate) router: Router,
    pub(crate) subject: String,
    pub(crate) identity: EndpointIdentity,
    pub(crate) counters: Counters,
    /// How long calls take. Whoever installs a recorder does so before: then no call has to look for it.
    #[cfg(feature = "metrics")]
    pub(crate) duration: metrics::Histogram,
    pub(crate) config: OutboundConfig,
    pub(crate) limit: Limit,
    pub(crate) retry_after: Duration,
    pub(crate) dialects: Dialects,
    stage: Stage,
}

impl EndpointShared {
    /// nats-server has refused an answer to `reply`.
    pub(crate) fn denied(&self, reply: &str) {
        count(&self.counters.denied);
        tracing::error!(
            subject = self.subject,
            %reply,
            "nats-server lets this user not answer: it needs `allow_responses: {{max: -1, expires: \"24h\"}}`, or to \
             publish to the inboxes of callers"
        );
    }
}

impl Serves for EndpointShared {
    fn subject(&self) -> &str {
        &self.subject
    }

    fn server(&self) -> &Arc<Inner> {
        &self.server
    }

    fn stage(&self) -> &Stage {
        &self.stage
    }

    fn into_endpoint(self: Arc<Self>) -> Option<Arc<EndpointShared>> {
        Some(self)
    }
}
