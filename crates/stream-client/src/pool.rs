//! The request pool.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use natstream_connect::{Connection, KeptRouter, Router, Unrouted};
use stream_proto::Frame;
use tokio::time::timeout;

use crate::error::RequestError;
use crate::host::{Host, PoolStats};
use crate::request::RequestBuilder;
use crate::retry_budget::RetryBudget;

/// Longest wait for nats-server's confirmation at the end.
const FENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends requests whose answers are streams. Cloning gives another handle to the same pool.
///
/// It keeps one subscription for all native answers and no task or timer for a native call; a call in another
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
    pub(crate) host: Arc<Host>,
    router: KeptRouter,
}

/// Settings of a [`Pool`].
#[must_use = "a builder does nothing until built"]
#[derive(Debug)]
pub struct PoolBuilder {
    connection: Connection,
    prefixes: Vec<String>,
    retries: RetryBudget,
}

impl PoolBuilder {
    /// Also sends to control subjects that begin with `prefix`.
    ///
    /// Without it: those below `_INBOX`, below this connection's own inbox prefix, and those that an account import has
    /// rewritten. A responder with an inbox prefix of its own needs it. Never name subjects that act: what is sent to
    /// `$JS.API.…` would act with this caller's permissions.
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

    /// The pool.
    #[must_use]
    pub fn build(mut self) -> Pool {
        self.prefixes.push(format!("{}.", self.connection.inbox_prefix()));
        Pool {
            inner: Arc::new(Inner {
                host: Arc::new(Host::new(self.connection, self.prefixes, self.retries)),
                router: KeptRouter::default(),
            }),
        }
    }
}

impl Pool {
    /// A pool on one connection, with default settings.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self::builder(connection).build()
    }

    /// A pool on one connection, with settings.
    pub fn builder(connection: Connection) -> PoolBuilder {
        PoolBuilder {
            connection,
            prefixes: Vec::new(),
            retries: RetryBudget::default(),
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
        RequestBuilder::new(self.clone(), subject.into(), payload.into())
    }

    /// The connection that this pool uses.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.inner.host.connection
    }

    /// Takes no more calls, waits for running ones, and cancels those that are left at the deadline. Returns how many
    /// these were. The connection stays open.
    ///
    /// A call that pauses between two attempts is not waited for; it ends as `Connection`. When it returns, nats-server has
    /// processed what this pool had handed over, or the connection was down.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the pool closed and the calls running.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let host = &self.inner.host;
        host.close();
        let cancelled = match timeout(deadline, host.idle()).await {
            Ok(()) => 0,
            Err(_) => host.cancel_all(),
        };
        if let Err(error) = host.connection.fence(FENCE_TIMEOUT).await {
            tracing::debug!(%error, "the pool was drained without a confirmation");
        }
        cancelled
    }

    /// Counters of the calls of this pool that are over.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.inner.host.stats()
    }
}

impl Inner {
    /// The reply subjects; subscribed when the first request is made.
    pub(crate) async fn router(&self, subject: &str) -> Result<Router, RequestError> {
        let router = self.router.get(&self.host.connection, || self.strays()).await;
        router.map_err(|error| RequestError::connection(subject, error))
    }

    /// What takes the messages for calls that are over.
    pub(crate) fn strays(&self) -> Arc<dyn Unrouted> {
        Arc::new(Strays {
            host: self.host.clone(),
        })
    }
}

/// Messages for calls that are over: whoever still sends is told so (rule 9).
#[derive(Debug)]
struct Strays {
    host: Arc<Host>,
}

impl Unrouted for Strays {
    fn unrouted(&self, message: Message) {
        self.host.count_stray();
        let control = message.reply.filter(|reply| self.host.is_safe(reply));
        let Some(control) = control else {
            return;
        };
        if let Ok(frame @ (Frame::Unit(_) | Frame::Beat { .. })) = Frame::decode(&message.payload) {
            self.host.refuse_stray(control, frame.sid());
        }
    }
}
