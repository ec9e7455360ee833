//! Requests that one message answers.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, HeaderName, StatusCode};
use bytes::Bytes;
use natstream_connect::{Arrival, Codec, Denials, Json, Route, RouteGuard, Router, TrySendError};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use stream_proto::{Denied, LostCause, Status, Termination};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::call::{compact, service_error};
use crate::common::Waits;
use crate::error::{Clock, RequestError};
use crate::host::Host;
use crate::observed::{Figures, Observed};
use crate::outgoing::{Outgoing, Patience};
use crate::pool::Link;
use crate::typed::Typed;

/// How long a request takes at most, if nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A request for one reply that is being put together; awaiting it sends it and waits for the [`Reply`].
///
/// | setting | default |
/// |---|---|
/// | [`timeout`](Self::timeout) | 5 s |
/// | [`deadline_at`](Self::deadline_at) | none |
///
/// It asks as any NATS program does, and takes the first message that comes. A streaming endpoint answers it in a plain dialect:
/// the reply is then its first item, or in the text dialect the signal that there is none (`__STREAM_END__`,
/// `__STREAM_ERROR__:…`), which is not told from an ordinary text here. For whole streams there is [`Pool::request_stream`](crate::Pool::request_stream).
///
/// Memory: a route of about 200 bytes while it waits, which goes when it ends in any way, and no task.
#[must_use = "a request does nothing until awaited"]
pub struct ReplyBuilder {
    message: Outgoing,
    timeout: Duration,
    deadline_at: Option<Instant>,
}

impl ReplyBuilder {
    pub(crate) fn new(message: Outgoing) -> Self {
        Self {
            message,
            timeout: TIMEOUT,
            deadline_at: None,
        }
    }

    /// Adds a header. Names and values are printable ASCII; `Natstream` and names that begin with `Nats-` are taken.
    ///
    /// A header that cannot be sent makes it fail with [`InvalidRequest`](crate::RequestErrorKind::InvalidRequest).
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.message.add_header(name.as_ref(), value.as_ref());
        self
    }

    /// Time for all of it: waiting for the connection, and for the reply.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// When all of it is over at the latest, like [`timeout`](Self::timeout); of both, the earlier one holds. `None` sets
    /// nothing.
    ///
    /// A handler passes on what is left of its own caller's time: `.deadline_at(request.deadline())`.
    pub fn deadline_at(mut self, deadline: impl Into<Option<Instant>>) -> Self {
        self.deadline_at = deadline.into();
        self
    }

    /// Gives the reply's payload as a `T`, which it has in JSON.
    ///
    /// ```no_run
    /// # async fn example(pool: stream_client::Pool) -> Result<(), stream_client::RequestError> {
    /// let sum = pool.request_as("numbers.add", &[1, 2, 3]).typed::<u64>().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn typed<T: DeserializeOwned>(self) -> Typed<Self, T> {
        self.typed_with()
    }

    /// Gives the reply's payload as a `T`, which it has in the form of this codec.
    pub fn typed_with<T: DeserializeOwned, C: Codec>(self) -> Typed<Self, T, C> {
        Typed::new(self)
    }

    /// Sends the request and waits for the reply; the same as awaiting the builder, without a box around the future.
    ///
    /// The reply may come after a reconnect of this side, so a connection that is lost meanwhile is no error by itself.
    ///
    /// # Errors
    /// - `InvalidRequest`: nothing was sent; [`RequestError::flaw`] says what is wrong.
    /// - `NoResponders`: nobody serves the subject, nats-server says at once.
    /// - `Failed`: the reply says so in the headers of ADR-32; its payload is in [`Status::details`].
    /// - `Timeout`: with [`Clock::Connect`] or [`Clock::InFlight`] nothing was sent; with [`Clock::Deadline`] there was no reply,
    ///   and the request may have been processed.
    /// - `NotPermitted`, `Connection`, and `Lost` when the connection was closed while it waited; `Cancelled` by
    ///   [`Pool::drain`](crate::Pool::drain).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// The reply is lost when the future is dropped; the request may have been sent.
    pub async fn send(mut self) -> Result<Reply, RequestError> {
        let mut observed = Observed::request(&mut self.message);
        let outcome = self.ask().await;
        if let Ok(reply) = &outcome {
            observed.came_bytes(reply.payload.len());
        }
        observed.ended(
            outcome.as_ref().err(),
            Figures {
                items: u64::from(outcome.is_ok()),
                ..Figures::default()
            },
        );
        outcome
    }

    async fn ask(&self) -> Result<Reply, RequestError> {
        self.message.check()?;
        let patience = Patience::connecting(self.timeout).and_deadline(self.deadline_at);
        // Kept until the end.
        let _place = self.message.place(patience).await?;
        let try_send = |(link, router): (Link, Router)| self.try_send(link, &router);
        let waiting = self.message.hand_over(patience, || self.ready(), try_send).await?;
        let subject = &self.message.subject;
        match timeout_at(patience.until(), waiting.answer).await {
            Ok(Ok(answer)) => answer.map_err(|termination| {
                RequestError::from_termination(subject, 0, &termination)
                    .unwrap_or_else(|| RequestError::closed(subject, "there is no reply"))
            }),
            // The waiter lives as long as its route, and answers before it goes.
            Ok(Err(_)) => Err(RequestError::closed(subject, "there is no reply")),
            Err(_) => Err(RequestError::timeout(subject, Clock::Deadline)),
        }
    }

    /// A connection that can probably take the request, and where the reply will arrive.
    async fn ready(&self) -> Result<Option<(Link, Router)>, RequestError> {
        let link = self.message.link().await?;
        let router = link.host.router(&self.message.subject).await?;
        Ok(self.message.room(&link).await?.then_some((link, router)))
    }

    /// Hands the request over, if that is possible now.
    fn try_send(&self, link: Link, router: &Router) -> Result<Option<Waiting>, RequestError> {
        let subject = &self.message.subject;
        let host = link.host.clone();
        self.message
            .check_size(&self.message.headers, host.connection.max_payload())?;
        let (answerer, answer) = oneshot::channel();
        let waiter = Arc::new(Waiter {
            subject: subject.as_str().into(),
            answerer: Mutex::new(Some(answerer)),
            host: host.clone(),
        });
        if !host.common.began(&waiter) {
            return Err(RequestError::closed(subject, "the pool is closed"));
        }
        let running = Running {
            waiter: waiter.clone(),
            is_sent: false,
        };
        // The route is there before the request: the reply may be quick.
        let mut waiting = Waiting {
            answer,
            running,
            route: router.add(waiter),
            _link: link,
        };
        if router.is_denied() {
            // Nothing could be received: nobody is asked, and the route has been told.
            return Ok(Some(waiting));
        }
        let sent = host.driver.try_send(OutboundMessage {
            subject: subject.as_str().into(),
            reply: Some(waiting.route.subject()),
            headers: self.message.headers(),
            payload: self.message.payload.clone(),
        });
        match sent {
            Ok(()) => {
                waiting.running.is_sent = true;
                Ok(Some(waiting))
            }
            Err(TrySendError::Failed(error)) => self.message.refused(&waiting._link, error).map(|()| None),
            Err(_) => Ok(None),
        }
    }
}

impl IntoFuture for ReplyBuilder {
    type Output = Result<Reply, RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl fmt::Debug for ReplyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyBuilder")
            .field("subject", &self.message.subject)
            .field("bytes", &self.message.payload.len())
            .finish_non_exhaustive()
    }
}

/// The one message that answers a request.
#[derive(Clone)]
pub struct Reply {
    subject: Arc<str>,
    payload: Bytes,
    headers: Option<HeaderMap>,
}

impl Reply {
    /// The body.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The body alone.
    #[must_use]
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.headers.as_ref()
    }

    /// The value of a header, the first if there are several. Names are case-sensitive, as in NATS.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        // A name that cannot be one would panic in there.
        let name: HeaderName = name.parse().ok()?;
        self.headers.as_ref()?.get(name).map(|value| value.as_str())
    }

    /// The body, which is JSON, as a `T`.
    ///
    /// # Errors
    /// `Decode`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, RequestError> {
        self.decode::<T, Json>()
    }

    /// The body, in the form of this codec, as a `T`.
    ///
    /// # Errors
    /// `Decode`.
    pub fn decode<T: DeserializeOwned, C: Codec>(&self) -> Result<T, RequestError> {
        C::decode(&self.payload).map_err(|error| RequestError::decode(&self.subject, 0, error))
    }
}

/// Without payload and headers, which may hold secrets.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("subject", &self.subject)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// A request on its way. Dropping it removes everything that was kept for it.
struct Waiting {
    answer: oneshot::Receiver<Result<Reply, Termination>>,
    running: Running,
    route: RouteGuard,
    _link: Link,
}

/// A request that counts as running.
struct Running {
    waiter: Arc<Waiter>,
    is_sent: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.waiter.host.common.request_ended(&*self.waiter, self.is_sent);
    }
}

/// Where the reply of one request arrives.
struct Waiter {
    subject: Arc<str>,
    answerer: Mutex<Option<oneshot::Sender<Result<Reply, Termination>>>>,
    host: Arc<Host>,
}

impl Waiter {
    /// The first answer counts.
    fn answer(&self, answer: Result<Reply, Termination>) {
        let answerer = self.answerer.lock().take();
        if let Some(answerer) = answerer {
            // Nobody waits any more: it is too late.
            let _ = answerer.send(answer);
        }
    }
}

impl Route for Waiter {
    fn deliver(self: Arc<Self>, arrival: Arrival<'_>) {
        let message = arrival.message;
        let payload = compact(message.payload);
        let error = message.headers.as_ref().and_then(service_error);
        self.answer(match error {
            _ if message.status == Some(StatusCode::NO_RESPONDERS) && payload.is_empty() => {
                Err(Termination::NoResponders)
            }
            Some(error) => Err(Termination::Failed(Status {
                details: payload,
                ..error.status()
            })),
            None => Ok(Reply {
                subject: self.subject.clone(),
                payload,
                headers: message.headers,
            }),
        });
    }

    // The reply may come on the next connection: the subject stays the same.
    fn connection_changed(self: Arc<Self>, _is_up: bool) {}

    fn denied(self: Arc<Self>, denied: &Denials) {
        if denied.inbox() {
            self.answer(Err(Termination::NotPermitted(Denied::Inbox)));
        } else if denied.publish(&self.subject) {
            self.answer(Err(Termination::NotPermitted(Denied::Request)));
        }
    }

    fn ended(self: Arc<Self>) {
        let cause = LostCause::Disconnected;
        self.answer(Err(Termination::Lost { items: 0, cause }));
    }
}

impl Waits for Waiter {
    fn give_up(self: Arc<Self>) {
        self.answer(Err(Termination::Cancelled));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_header_has_is_not_there() {
        let mut headers = HeaderMap::new();
        headers.append("X-Name", "me");
        let reply = Reply {
            subject: "a".into(),
            payload: Bytes::new(),
            headers: Some(headers),
        };
        assert_eq!(reply.header("X-Name"), Some("me"));
        for absent in ["x-name", "no: name", ""] {
            assert_eq!(reply.header(absent), None);
        }
    }
}
