//! The request pool.

use std::sync::Arc;

use async_nats::Message;
use bytes::Bytes;
use natstream_connect::{Connection, Driver, Router, Unrouted};
use parking_lot::Mutex;
use stream_proto::{Budget, Frame};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::call::refuse;
use crate::error::RequestError;
use crate::request::RequestBuilder;

/// What the windows of all streams of one connection may add up to, beside the 8 KiB that each has always (rule 34).
///
/// nats-server stalls the responder for everybody when 48 MiB wait for one connection, and cuts it at 64 MiB.
const WINDOWS: u64 = 16 << 20;

/// Stray messages that are answered in a second (rule 9).
const REFUSALS_PER_SECOND: u32 = 100;

/// Sends requests whose answers are streams. Cloning gives another handle to the same pool.
///
/// It keeps one subscription for all answers and no task or timer for a call.
///
/// Memory: 16 MiB for all windows together, and for each call its window of at least 8 KiB, one unit of at most 64 KiB,
/// and an item that is being put together.
#[derive(Clone, Debug)]
pub struct Pool {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) connection: Connection,
    pub(crate) windows: Budget,
    /// What subjects that a responder names may begin with, beside `_INBOX` and `_R_.` (rule 6).
    pub(crate) prefixes: Arc<[String]>,
    router: OnceCell<Router>,
}

impl Pool {
    /// A pool on one connection.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self {
            inner: Arc::new(Inner {
                prefixes: Arc::new([format!("{}.", connection.inbox_prefix())]),
                connection,
                windows: Budget::new(WINDOWS),
                router: OnceCell::new(),
            }),
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
        &self.inner.connection
    }
}

impl Inner {
    /// The reply subjects; subscribed when the first request is made.
    pub(crate) async fn router(&self, subject: &str) -> Result<&Router, RequestError> {
        let subscribe = async || {
            let strays = Strays {
                driver: self.connection.driver().clone(),
                prefixes: self.prefixes.clone(),
                refusals: Mutex::new((self.connection.driver().now(), 0)),
            };
            self.connection.router(Arc::new(strays)).await
        };
        self.router
            .get_or_try_init(subscribe)
            .await
            .map_err(|error| RequestError::connection(subject, error))
    }
}

/// Messages for calls that are over: whoever still sends is told so, at most a hundred times a second (rule 9).
#[derive(Debug)]
struct Strays {
    driver: Driver,
    prefixes: Arc<[String]>,
    /// Since when, and how many.
    refusals: Mutex<(Instant, u32)>,
}

impl Strays {
    fn may_refuse(&self) -> bool {
        let now = self.driver.now();
        let mut refusals = self.refusals.lock();
        if now.saturating_duration_since(refusals.0).as_secs() >= 1 {
            *refusals = (now, 0);
        }
        refusals.1 += 1;
        refusals.1 <= REFUSALS_PER_SECOND
    }
}

impl Unrouted for Strays {
    fn unrouted(&self, message: Message) {
        let control = message
            .reply
            .filter(|reply| stream_proto::is_safe_reply(reply, &self.prefixes));
        let Some(control) = control else {
            return;
        };
        if let Ok(frame @ (Frame::Unit(_) | Frame::Beat { .. })) = Frame::decode(&message.payload)
            && self.may_refuse()
        {
            refuse(&self.driver, control, frame.sid());
        }
    }
}
