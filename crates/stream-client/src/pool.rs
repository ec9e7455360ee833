//! The request pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use natstream_connect::{Codec as _, Connection, Connections, EndReason, FenceError, FenceErrorKind, Json, Lease};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::timeout;

use crate::common::{Common, PoolStats};
use crate::flush::flush_all;
use crate::host::Host;
use crate::outgoing::Outgoing;
use crate::publish::PublishBuilder;
use crate::reply::ReplyBuilder;
use crate::request::RequestBuilder;
use crate::retry_budget::RetryBudget;

/// Longest wait for nats-server's confirmation at the end.
const FENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends requests whose answers are streams, requests for one reply, and messages. Cloning gives another handle to the same pool.
///
/// It makes its calls on one connection, or each attempt on the one of [`Connections`] that carries least. A stream stays on
/// its connection.
///
/// It keeps one subscription for all native answers of a connection and no task or timer for a native call; a call in another
/// [`Dialect`](crate::Dialect) has a subscription and a task of its own.
///
/// Memory: 16 MiB for all windows of a connection together (256 MiB in the process), and for each call its window of at
/// least 8 KiB, one unit of at most 64 KiB, and an item that is being put together (256 MiB for all of these in the
/// process). Calls without flow control (other dialects, and [without control](RequestBuilder::without_control)) have up to 16 MiB
/// each, and 256 MiB in the process. A call that may be made again keeps its request too, and one that can resume its last item.
#[derive(Clone, Debug)]
pub struct Pool {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) common: Arc<Common>,
    source: Source,
    /// Those of several connections.
    hosts: Mutex<Vec<Arc<Host>>>,
    /// One of those that have ended had messages that were not confirmed.
    has_lost: AtomicBool,
}

/// What calls are made on.
#[derive(Debug)]
enum Source {
    One(Arc<Host>),
    Many(Connections),
}

/// A connection, for one attempt.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) host: Arc<Host>,
    /// Its share of the load, where there are several.
    pub(crate) lease: Option<Lease>,
}

impl Link {
    /// Is there another connection to try, now that this one is down or closed?
    pub(crate) fn has_others(&self) -> bool {
        self.lease.is_some()
    }
}

/// One connection, or several that are shared: what a [`Pool`] makes its calls on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PoolSource {
    /// All calls on this one.
    One(Connection),
    /// Each attempt on the one that carries least.
    Many(Connections),
}

impl From<Connection> for PoolSource {
    fn from(connection: Connection) -> Self {
        Self::One(connection)
    }
}

impl From<Connections> for PoolSource {
    fn from(connections: Connections) -> Self {
        Self::Many(connections)
    }
}

/// Settings of a [`Pool`].
#[must_use = "a builder does nothing until built"]
#[derive(Debug)]
pub struct PoolBuilder {
    source: PoolSource,
    prefixes: Vec<String>,
    retries: RetryBudget,
    max_in_flight: Option<usize>,
}

impl PoolBuilder {
    /// Also sends to control subjects that begin with `prefix`.
    ///
    /// Without it: those that begin with `_INBOX` (`_INBOX_orders` too) or with this connection's own inbox prefix, and those
    /// that an account import has rewritten. A responder with an inbox prefix of another form needs it. Never name subjects
    /// that act: what is sent to `$JS.API.…` would act with this caller's permissions.
    pub fn control_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefixes.push(prefix.into());
        self
    }

    /// Bounds the attempts that are made beside the first ones, by calls with a
    /// [`RetryPolicy`](crate::RetryPolicy). Default: a fifth of all calls, and ten a second.
    pub fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.retries = budget;
        self
    }

    /// Most calls and requests for one reply that run at a time. Others wait for one to end, as long as they wait for a connection
    /// ([`connect_timeout`](RequestBuilder::connect_timeout)). Default: no limit.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = Some(calls.max(1));
        self
    }

    /// The pool.
    #[must_use]
    pub fn build(self) -> Pool {
        let common = Arc::new(Common::new(self.prefixes, self.retries, self.max_in_flight));
        let source = match self.source {
            PoolSource::One(connection) => Source::One(Arc::new(Host::new(connection, common.clone()))),
            PoolSource::Many(connections) => Source::Many(connections),
        };
        Pool {
            inner: Arc::new(Inner {
                common,
                source,
                hosts: Mutex::default(),
                has_lost: AtomicBool::new(false),
            }),
        }
    }
}

impl Pool {
    /// A pool on one [`Connection`] or on [`Connections`], with default settings.
    #[must_use]
    pub fn new(source: impl Into<PoolSource>) -> Self {
        Self::builder(source).build()
    }

    /// A pool on one [`Connection`] or on [`Connections`], with settings.
    pub fn builder(source: impl Into<PoolSource>) -> PoolBuilder {
        PoolBuilder {
            source: source.into(),
            prefixes: Vec::new(),
            retries: RetryBudget::default(),
            max_in_flight: None,
        }
    }

    /// Asks `subject`, which answers with a stream.
    ///
    /// ```no_run
    /// # async fn example(pool: stream_client::Pool) -> Result<(), stream_client::RequestError> {
    /// use std::time::Duration;
    ///
    /// let mut responses = pool
    ///     .request_stream("orders.search", "open")
    ///     .idle_timeout(Duration::from_secs(5))
    ///     .deadline(Duration::from_secs(60))
    ///     .await?;
    /// while let Some(item) = responses.try_next().await? {
    ///     println!("{item:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn request_stream(&self, subject: impl Into<String>, payload: impl Into<Bytes>) -> RequestBuilder {
        RequestBuilder::new(Outgoing::new(self.clone(), subject.into(), payload.into()))
    }

    /// As [`request_stream`](Self::request_stream), with a value as JSON. [`RequestBuilder::typed`] reads the answer so too.
    ///
    /// A value that cannot be encoded makes the request fail with
    /// [`InvalidRequest`](crate::RequestErrorKind::InvalidRequest). For other codecs there is
    /// [`Codec::encode`](natstream_connect::Codec::encode).
    pub fn request_stream_as(&self, subject: impl Into<String>, value: &(impl Serialize + ?Sized)) -> RequestBuilder {
        RequestBuilder::new(self.encoded(subject.into(), value))
    }

    /// Asks `subject` as any NATS program does, which answers with one message.
    ///
    /// ```no_run
    /// # async fn example(pool: stream_client::Pool) -> Result<(), stream_client::RequestError> {
    /// use std::time::Duration;
    ///
    /// let reply = pool.request("service.ping", "hello").timeout(Duration::from_secs(1)).await?;
    /// println!("{:?}", reply.payload());
    /// # Ok(())
    /// # }
    /// ```
    pub fn request(&self, subject: impl Into<String>, payload: impl Into<Bytes>) -> ReplyBuilder {
        ReplyBuilder::new(Outgoing::new(self.clone(), subject.into(), payload.into()))
    }

    /// As [`request`](Self::request), with a value as JSON. [`ReplyBuilder::typed`] reads the reply so too.
    pub fn request_as(&self, subject: impl Into<String>, value: &(impl Serialize + ?Sized)) -> ReplyBuilder {
        ReplyBuilder::new(self.encoded(subject.into(), value))
    }

    /// Sends a message to whoever is subscribed to `subject`.
    ///
    /// ```no_run
    /// # async fn example(pool: stream_client::Pool) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// use std::time::Duration;
    ///
    /// pool.publish("events.user.created", r#"{"id":123}"#).await?;
    /// pool.flush(Duration::from_secs(5)).await?; // nats-server has it
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish(&self, subject: impl Into<String>, payload: impl Into<Bytes>) -> PublishBuilder {
        PublishBuilder::new(Outgoing::new(self.clone(), subject.into(), payload.into()))
    }

    /// As [`publish`](Self::publish), with a value as JSON.
    pub fn publish_as(&self, subject: impl Into<String>, value: &(impl Serialize + ?Sized)) -> PublishBuilder {
        PublishBuilder::new(self.encoded(subject.into(), value))
    }

    /// Waits until nats-server has everything that this pool has handed over, on all connections that it has used: a round trip
    /// on each, all at once.
    ///
    /// It also vouches for what was published since the last time: a connection that was lost and found again meanwhile may
    /// have lost some of that, and is an error, once. What a user is not permitted to publish is not noticed here.
    ///
    /// # Errors
    /// [`Closed`](natstream_connect::FenceErrorKind::Closed) and
    /// [`Disconnected`](natstream_connect::FenceErrorKind::Disconnected): messages may be lost.
    /// [`Timeout`](natstream_connect::FenceErrorKind::Timeout): nats-server has not answered yet.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn flush(&self, limit: Duration) -> Result<(), FenceError> {
        let flushed = flush_all(self.inner.all(), limit).await;
        // Asked in any case: what is told now is not told again.
        let lost = self.inner.tell_loss();
        flushed.and(lost)
    }

    fn encoded(&self, subject: String, value: &(impl Serialize + ?Sized)) -> Outgoing {
        Outgoing::encoded(self.clone(), subject, Json::encode(value))
    }

    /// The connection that this pool uses; `None` for [several](PoolSource::Many).
    #[must_use]
    pub fn connection(&self) -> Option<&Connection> {
        match &self.inner.source {
            Source::One(host) => Some(&host.connection),
            Source::Many(_) => None,
        }
    }

    /// Takes no more calls, requests and messages, waits for calls and requests that run, and cancels those that are left at
    /// the deadline. Returns how many these were. The connection stays open.
    ///
    /// A call that pauses between two attempts is not waited for; it ends as `Connection`. When it returns, nats-server has
    /// processed what this pool had handed over, or the connection was down.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the pool closed and the calls running.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let common = &self.inner.common;
        common.close();
        let cancelled = match timeout(deadline, common.idle()).await {
            Ok(()) => 0,
            Err(_) => common.cancel_all(),
        };
        let hosts = self.inner.all();
        let fences = hosts.iter().map(|host| host.connection.fence(FENCE_TIMEOUT));
        for error in join_all(fences).await.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "the pool was drained without a confirmation");
        }
        cancelled
    }

    /// Counters of the calls of this pool that are over.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.inner.common.stats()
    }
}

impl Inner {
    /// The connection that the next attempt is made on, with its share of the load where there are several. An error when there
    /// will be none any more.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn link(&self) -> Result<Link, EndReason> {
        match &self.source {
            Source::One(host) => Ok(Link {
                host: host.clone(),
                lease: None,
            }),
            Source::Many(connections) => {
                let lease = connections.lease().await?;
                Ok(Link {
                    host: self.host(lease.connection()),
                    lease: Some(lease),
                })
            }
        }
    }

    /// What belongs to a connection of several.
    fn host(&self, connection: &Connection) -> Arc<Host> {
        let mut hosts = self.hosts.lock();
        if let Some(host) = hosts.iter().find(|host| host.connection.is_same(connection)) {
            return host.clone();
        }
        let is_open = |host: &Arc<Host>| {
            if host.has_lost() {
                self.has_lost.store(true, Ordering::Release);
            }
            !host.is_closed()
        };
        hosts.retain(is_open);
        let host = Arc::new(Host::new(connection.clone(), self.common.clone()));
        hosts.push(host.clone());
        host
    }

    /// Tells once that a connection has ended with messages that were not confirmed.
    fn tell_loss(&self) -> Result<(), FenceError> {
        match self.has_lost.swap(false, Ordering::AcqRel) {
            true => Err(FenceErrorKind::Closed.into()),
            false => Ok(()),
        }
    }

    fn all(&self) -> Vec<Arc<Host>> {
        match &self.source {
            Source::One(host) => vec![host.clone()],
            Source::Many(_) => self.hosts.lock().clone(),
        }
    }
}
