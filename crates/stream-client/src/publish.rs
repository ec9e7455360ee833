//! Messages that nobody answers.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use async_nats::message::OutboundMessage;
use natstream_connect::{TraceContext, TrySendError, check_publish_subject};

use crate::error::{Flaw, RequestError};
use crate::outgoing::{Outgoing, Patience};
use crate::pool::Link;
use crate::request::CONNECT_TIMEOUT;

/// A message that is being put together; awaiting it sends it.
///
/// | setting | default |
/// |---|---|
/// | [`reply_to`](Self::reply_to) | none |
/// | [`connect_timeout`](Self::connect_timeout) | 5 s |
///
/// Awaiting it checks the message, waits for the connection, and hands the message over: at most 8 MiB that were not written
/// yet wait in a connection. Each of the subscribers that there are gets it at most once; nobody says whether there are any.
/// [`Pool::flush`](crate::Pool::flush) confirms that nats-server has it.
///
/// Messages of one task on one connection arrive in the order in which they were sent. On
/// [`Connections`](natstream_connect::Connections) each takes the connection that carries least, and they may overtake each
/// other.
#[must_use = "a message is not sent until awaited"]
pub struct PublishBuilder {
    message: Outgoing,
    reply_to: Option<String>,
    connect_timeout: Duration,
}

impl PublishBuilder {
    pub(crate) fn new(message: Outgoing) -> Self {
        Self {
            message,
            reply_to: None,
            connect_timeout: CONNECT_TIMEOUT,
        }
    }

    /// Adds a header. Names and values are printable ASCII; `Natstream` and names that begin with `Nats-` are taken.
    ///
    /// A header that cannot be sent makes it fail with [`InvalidRequest`](crate::RequestErrorKind::InvalidRequest).
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.message.add_header(name.as_ref(), value.as_ref());
        self
    }

    /// The subject to be answered at, for a subscription of the user's own. For one reply there is
    /// [`Pool::request`](crate::Pool::request).
    pub fn reply_to(mut self, subject: impl Into<String>) -> Self {
        self.reply_to = Some(subject.into());
        self
    }

    /// Longest wait for a connection that is down, or takes nothing at the moment.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sends the message; the same as awaiting the builder, without a box around the future.
    ///
    /// # Errors
    /// `InvalidRequest` when a subject, a header, the value or the size is wrong ([`RequestError::flaw`] says which), `Timeout`
    /// when there was no connection in time, `Connection` when it, or the pool, is closed.
    ///
    /// It is **no error** here when this user may not publish to the subject: nats-server says so later, and to the connection
    /// ([`Connection::server_errors`](natstream_connect::Connection::server_errors)).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Nothing was sent when the future is dropped.
    pub async fn send(mut self) -> Result<(), RequestError> {
        self.message.carry(TraceContext::current());
        self.check()?;
        let patience = Patience::connecting(self.connect_timeout);
        let try_send = |link| self.try_send(&link);
        self.message.hand_over(patience, || self.ready(), try_send).await
    }

    async fn ready(&self) -> Result<Option<Link>, RequestError> {
        let link = self.message.link().await?;
        Ok(self.message.room(&link).await?.then_some(link))
    }

    fn check(&self) -> Result<(), RequestError> {
        self.message.check()?;
        let subject = &self.message.subject;
        if let Some(reply) = &self.reply_to {
            check_publish_subject(reply).map_err(|error| RequestError::invalid(subject, Flaw::ReplySubject, error))?;
        }
        Ok(())
    }

    /// Hands the message over, if that is possible now.
    fn try_send(&self, link: &Link) -> Result<Option<()>, RequestError> {
        let Outgoing {
            pool,
            subject,
            payload,
            headers,
            ..
        } = &self.message;
        let host = &link.host;
        self.message.check_size(headers, host.connection.max_payload())?;
        if pool.inner.common.is_closed() {
            return Err(RequestError::closed(subject, "the pool is closed"));
        }
        // Before it is sent: afterwards it may be the next connection's.
        let epoch = host.epoch();
        let sent = host.driver.try_send(OutboundMessage {
            subject: subject.as_str().into(),
            reply: self.reply_to.as_deref().map(Into::into),
            headers: self.message.headers(),
            payload: payload.clone(),
        });
        match sent {
            Ok(()) => {
                host.unconfirmed.published(epoch);
                pool.inner.common.stats.lock().published += 1;
                Ok(Some(()))
            }
            Err(TrySendError::Failed(error)) => self.message.refused(link, error).map(|()| None),
            Err(_) => Ok(None),
        }
    }
}

impl IntoFuture for PublishBuilder {
    type Output = Result<(), RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl fmt::Debug for PublishBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishBuilder")
            .field("subject", &self.message.subject)
            .field("bytes", &self.message.payload.len())
            .finish_non_exhaustive()
    }
}
