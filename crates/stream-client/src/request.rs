//! What can be set for one call.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use natstream_connect::{Codec, Driver};
use serde::de::DeserializeOwned;
use stream_proto::InboundConfig;
use tokio::time::Instant;

use crate::attempt::Request;
use crate::dialect::Dialect;
use crate::error::RequestError;
use crate::host::{ASSEMBLY, BUFFERED};
use crate::observed::{Figures, Observed};
use crate::outgoing::Outgoing;
use crate::recovery::{NextRequest, Recovery};
use crate::responses::Responses;
use crate::retry::RetryPolicy;
use crate::typed::Typed;

/// How long a request waits for a connection that is down, and for room in its queue.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A request that is being put together; awaiting it sends it.
///
/// | setting | default |
/// |---|---|
/// | [`window`](Self::window) | 8 MiB at most, beginning with 64 KiB |
/// | [`max_item`](Self::max_item) | 16 MiB |
/// | [`heartbeat`](Self::heartbeat) | 5 s |
/// | [`connect_timeout`](Self::connect_timeout) | 5 s |
/// | [`outage_limit`](Self::outage_limit) | 30 s |
/// | [`dialect`](Self::dialect) | native |
/// | [`max_buffered`](Self::max_buffered), where there is no flow control | 16 MiB |
/// | [`retry`](Self::retry), [`resume`](Self::resume) | a call is made once |
/// | [`first_item_timeout`](Self::first_item_timeout), [`idle_timeout`](Self::idle_timeout), [`deadline`](Self::deadline), [`deadline_at`](Self::deadline_at) | none; 30 s without an item in the plain dialects |
///
/// Awaiting it checks the request, waits for the connection, and hands the request over. It does not wait for an answer:
/// what comes of it is the [`Responses`]' to say.
#[must_use = "a request does nothing until awaited"]
pub struct RequestBuilder {
    request: Request,
    deadline: Option<Duration>,
    deadline_at: Option<Instant>,
    retry: Option<RetryPolicy>,
    resume: Option<Resume>,
}

/// Makes the request that goes on after an item.
pub(crate) type Resume = Box<dyn FnMut(&Bytes) -> NextRequest + Send>;

impl RequestBuilder {
    pub(crate) fn new(message: Outgoing) -> Self {
        let mut config = InboundConfig::default();
        config.assembly_budget = Some(ASSEMBLY.clone());
        config.buffer_budget = Some(BUFFERED.clone());
        Self {
            request: Request {
                message,
                connect_timeout: CONNECT_TIMEOUT,
                config,
                deadline: None,
                attempt_limit: None,
                dialect: Dialect::Native,
                client: None,
            },
            deadline: None,
            deadline_at: None,
            retry: None,
            resume: None,
        }
    }

    /// Adds a header. Names and values are printable ASCII; `Natstream` and names that begin with `Nats-` are taken.
    ///
    /// A header that cannot be sent makes the request fail with
    /// [`InvalidRequest`](crate::RequestErrorKind::InvalidRequest).
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.request.message.add_header(name.as_ref(), value.as_ref());
        self
    }

    /// How the call is made, and what its answer is read as. Default: [`Native`](Dialect::Native).
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.request.dialect = dialect;
        self
    }

    /// What this side calls itself towards responders of the text dialect, in the header `Connect-ID`.
    ///
    /// When a call in a plain dialect is cancelled, and no other call of this pool with this name runs, the name is published
    /// on `client.offline`: the responder stops then. It stops all calls of this name, those of other processes too, and may stop
    /// one that is made right after the cancel.
    pub fn connect_id(mut self, name: impl Into<String>) -> Self {
        self.request.client = Some(name.into());
        self
    }

    /// For a user that may not publish to the control subjects of responders, where the endpoint allows for it.
    ///
    /// There is no flow control then, nothing is sent again, and the responder hears of nothing: not that the call was
    /// cancelled either. What is lost is noticed, and ends the call ([`Guarantee::Detected`](crate::Guarantee::Detected)). It
    /// needs a [`deadline`](Self::deadline), which is all that stops the handler.
    pub fn without_control(mut self) -> Self {
        self.request.config.control = false;
        self
    }

    /// Asks the responder itself for three items, each in a message of its own, without running its handler.
    ///
    /// It shows that answers of more than one message arrive. A responder that is not a natstream server takes it for an
    /// ordinary request.
    pub fn probe(mut self) -> Self {
        self.request.config.probe = true;
        self
    }

    /// Bytes that may wait for the reader where there is no flow control: in the plain dialects, and
    /// [without control](Self::without_control). What exceeds it loses the call. Default 16 MiB; an item counts 256 more than
    /// it has. All such calls of a process share 256 MiB.
    pub fn max_buffered(mut self, bytes: usize) -> Self {
        self.request.config.max_buffered = bytes as u64;
        self
    }

    /// Largest window in bytes: how much the responder may send ahead of the reader. At least 8 KiB; default 8 MiB.
    ///
    /// A window finds its size by itself: it grows to 2 MiB while the responder waits for credit, and beyond that when the
    /// round trip is the reason. 8 MiB carry 20 MB/s over 350 ms. All windows of a connection share 16 MiB, of which those
    /// above 2 MiB have 12 MiB in equal parts.
    pub fn window(mut self, bytes: usize) -> Self {
        self.request.config.max_window = bytes as u64;
        self
    }

    /// Largest item in bytes that is taken.
    pub fn max_item(mut self, bytes: usize) -> Self {
        self.request.config.max_item = bytes as u64;
        self
    }

    /// Interval of heartbeats, between 1 s and 60 s. A responder that is silent for three of them is lost.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.request.config.heartbeat = interval;
        self
    }

    /// Longest wait for a connection that is down.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.request.connect_timeout = timeout;
        self
    }

    /// Longest wait for the first item. It runs while the reader waits; in the plain dialects also from the beginning until the
    /// first message, and [`idle_timeout`](Self::idle_timeout) stands in for it.
    pub fn first_item_timeout(mut self, timeout: Duration) -> Self {
        self.request.config.first_item_timeout = Some(timeout);
        self
    }

    /// Longest wait between two items. It runs while the reader waits and nothing is buffered.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.request.config.idle_timeout = Some(timeout);
        self
    }

    /// Time for the whole call: connecting, every attempt and the pauses between them. The handler is told what is left
    /// of it, and stopped at its end.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// When the whole call is over at the latest, like [`deadline`](Self::deadline); of both, the earlier one holds. `None`
    /// sets nothing.
    ///
    /// A handler passes on what is left of its own caller's time: `.deadline_at(request.deadline())`.
    pub fn deadline_at(mut self, deadline: impl Into<Option<Instant>>) -> Self {
        self.deadline_at = deadline.into();
        self
    }

    /// How long this side's connection may be down before the call is lost. What was missed is asked for once it is back.
    pub fn outage_limit(mut self, limit: Duration) -> Self {
        self.request.config.outage_limit = limit;
        self
    }

    /// Makes the call again when that may help. The clocks of the reader's wait begin anew with each attempt.
    ///
    /// It begins with the first request on its way: when there is no connection for that one in time, awaiting the builder
    /// fails.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// Goes on after the last item, with another request, when the answer breaks off after some items.
    ///
    /// `next` gets the last item that was handed out, and says what to ask for, so that the items that follow it come. They
    /// may come from another responder. Without [`retry`](Self::retry), up to five attempts in a row are made, with the pauses
    /// of [`RetryPolicy::exponential`]; an attempt that brings an item begins the count anew.
    ///
    /// ```no_run
    /// # async fn example(pool: stream_client::Pool) -> Result<(), stream_client::RequestError> {
    /// use stream_client::NextRequest;
    ///
    /// // Each item begins with its number, and a request names the first one that is wanted.
    /// let number = |item: &[u8]| String::from_utf8_lossy(item).parse::<u64>().unwrap_or_default();
    /// let mut responses = pool
    ///     .request_stream("numbers.from", "0")
    ///     .resume(move |last| NextRequest::new((number(last) + 1).to_string()))
    ///     .await?;
    /// while let Some(item) = responses.try_next().await? {
    ///     println!("{item:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn resume(mut self, next: impl FnMut(&Bytes) -> NextRequest + Send + 'static) -> Self {
        self.resume = Some(Box::new(next));
        self
    }

    /// Gives the items as values of `T`, which they have in JSON.
    ///
    /// ```no_run
    /// # async fn example(pool: stream_client::Pool) -> Result<(), stream_client::RequestError> {
    /// let mut prices = pool.request_stream_as("prices.of", &["a", "b"]).typed::<f64>().await?;
    /// while let Some(price) = prices.try_next().await? {
    ///     println!("{price}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn typed<T: DeserializeOwned>(self) -> Typed<Self, T> {
        self.typed_with()
    }

    /// Gives the items as values of `T`, which they have in the form of this codec.
    pub fn typed_with<T: DeserializeOwned, C: Codec>(self) -> Typed<Self, T, C> {
        Typed::new(self)
    }

    /// Sends the request; the same as awaiting the builder, without a box around the future.
    ///
    /// # Errors
    /// `InvalidRequest` when the subject, a header, the size, the name of the client or the combination of settings is wrong
    /// ([`RequestError::flaw`] says what), `Timeout` when there was no connection in time, `Connection` when it, or the pool, is
    /// closed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Nothing was sent when the future is dropped.
    pub async fn send(self) -> Result<Responses, RequestError> {
        let Self {
            mut request,
            deadline,
            deadline_at,
            retry,
            resume,
        } = self;
        let now = Driver::clock();
        // A deadline beyond all time is none.
        let deadline = deadline.and_then(|deadline| now.checked_add(deadline));
        request.deadline = [deadline, deadline_at].into_iter().flatten().min();
        request.attempt_limit = retry.as_ref().and_then(RetryPolicy::attempt_limit);
        request.message.pool.inner.common.retries.deposit(now);
        let mut observed = Observed::call(&mut request.message, request.dialect.name());
        let attempt = match request.send().await {
            Ok(attempt) => attempt,
            Err(error) => {
                observed.ended(Some(&error), Figures::default());
                return Err(error);
            }
        };
        let subject = attempt.call.subject();
        let recovery = Recovery::new(request, retry, resume, attempt.is_in_grace);
        Ok(Responses::new(attempt, subject, recovery, observed))
    }
}

impl IntoFuture for RequestBuilder {
    type Output = Result<Responses, RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuilder")
            .field("subject", &self.request.message.subject)
            .field("bytes", &self.request.message.payload.len())
            .finish_non_exhaustive()
    }
}
