//! What can be set for one call.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use natstream_connect::{ConnectionStatus, check_publish_subject};
use stream_proto::{HEADER, Inbound, InboundConfig, Instant};
use tokio::time::timeout_at;

use crate::call::Call;
use crate::error::{Clock, RequestError};
use crate::host::ASSEMBLY;
use crate::pool::Pool;
use crate::reopen::{GRACE, Reopen};
use crate::responses::Responses;

/// How long a request waits for a connection that is down, and for room in its queue.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A wait that nobody sees the end of, and that can be added to any moment.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// A request that is being put together; awaiting it sends it.
///
/// | setting | default |
/// |---|---|
/// | [`window`](Self::window) | 2 MiB at most, beginning with 64 KiB |
/// | [`max_item`](Self::max_item) | 16 MiB |
/// | [`heartbeat`](Self::heartbeat) | 5 s |
/// | [`connect_timeout`](Self::connect_timeout) | 5 s |
/// | [`first_item_timeout`](Self::first_item_timeout), [`idle_timeout`](Self::idle_timeout), [`deadline`](Self::deadline) | none |
///
/// Awaiting it checks the request, waits for the connection, and hands the request over. It does not wait for an answer:
/// what comes of it is the [`Responses`]' to say.
#[must_use = "a request does nothing until awaited"]
pub struct RequestBuilder {
    pool: Pool,
    subject: String,
    payload: Bytes,
    headers: HeaderMap,
    bad_header: Option<String>,
    connect_timeout: Duration,
    config: InboundConfig,
}

impl RequestBuilder {
    pub(crate) fn new(pool: Pool, subject: String, payload: Bytes) -> Self {
        let mut config = InboundConfig::default();
        config.budget = Some(pool.inner.host.windows.clone());
        config.assembly_budget = Some(ASSEMBLY.clone());
        Self {
            pool,
            subject,
            payload,
            headers: HeaderMap::new(),
            bad_header: None,
            connect_timeout: CONNECT_TIMEOUT,
            config,
        }
    }

    /// Adds a header. Names and values are printable ASCII; `Natstream` and names that begin with `Nats-` are taken.
    ///
    /// A header that cannot be sent makes the request fail with
    /// [`InvalidRequest`](crate::RequestErrorKind::InvalidRequest).
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        match parse_header(name, value) {
            Some((name, value)) => self.headers.append(name, value),
            None => self.bad_header = Some(name.to_owned()),
        }
        self
    }

    /// Largest window in bytes: how much the responder may send ahead of the reader. At least 8 KiB.
    pub fn window(mut self, bytes: usize) -> Self {
        self.config.max_window = bytes as u64;
        self
    }

    /// Largest item in bytes that is taken.
    pub fn max_item(mut self, bytes: usize) -> Self {
        self.config.max_item = bytes as u64;
        self
    }

    /// Interval of heartbeats, between 1 s and 60 s. A responder that is silent for three of them is lost.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.config.heartbeat = interval;
        self
    }

    /// Longest wait for a connection that is down.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Longest wait for the first item. It runs while the reader waits.
    pub fn first_item_timeout(mut self, timeout: Duration) -> Self {
        self.config.first_item_timeout = Some(timeout);
        self
    }

    /// Longest wait between two items. It runs while the reader waits and nothing is buffered.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.config.idle_timeout = Some(timeout);
        self
    }

    /// Time for the whole call, connecting included. The handler is told what is left of it.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.config.deadline = Some(deadline);
        self
    }

    /// Sends the request; the same as awaiting the builder, without a box around the future.
    ///
    /// # Errors
    /// `InvalidRequest` when the subject, a header or the size is wrong, `Timeout` when there was no connection in time,
    /// `Connection` when it is closed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call: either nothing was sent, or the responder is told.
    pub async fn send(mut self) -> Result<Responses, RequestError> {
        let driver = self.pool.inner.host.driver.clone();
        let started = driver.now();
        let patience = self.config.deadline.map_or(FAR, |deadline| deadline.min(FAR));
        let give_up = started + patience.min(self.connect_timeout);
        let clock = match self.config.deadline {
            Some(deadline) if deadline <= self.connect_timeout => Clock::Deadline,
            _ => Clock::Connect,
        };
        self.check()?;
        let pool = self.pool.inner.clone();
        let ready = async {
            self.connected().await?;
            pool.router(&self.subject).await
        };
        let late = || RequestError::timeout(&self.subject, clock);
        let router = timeout_at(give_up, ready).await.map_err(|_| late())??;

        let now = driver.now();
        let mut config = self.config.clone();
        if let Some(deadline) = &mut config.deadline {
            *deadline = deadline.saturating_sub(now.duration_since(started));
        }
        let moment = |at| Instant::from_nanos(driver.nanos(at));
        let back_since = self
            .pool
            .connection()
            .reconnected_at()
            .filter(|at| now.saturating_duration_since(*at) < GRACE);
        let now = moment(now);
        let inbound = Inbound::new(config.clone(), now);
        let reopen = back_since.map(|at| Reopen {
            router: router.clone(),
            subject: self.subject.clone(),
            headers: self.headers.clone(),
            payload: self.payload.clone(),
            deadline: config.deadline.map(|deadline| now + deadline),
            config,
            until: moment(at) + GRACE,
            at: None,
        });
        self.headers.insert(HEADER, inbound.open().encode().as_str());
        self.check_size()?;
        let call = Call::new(pool.host.clone(), inbound);
        let route = router.add(call.clone());
        let reply = route.subject();
        if let Some(reopen) = reopen {
            call.set_reopen(reopen);
        }
        call.set_route(route);
        // From here on, dropping this cancels the call.
        let responses = Responses::new(call, self.subject.clone());

        let nats = self.pool.connection().nats();
        let publish = nats.publish_with_reply_and_headers(self.subject.clone(), reply, self.headers, self.payload);
        match timeout_at(give_up, publish).await {
            Ok(Ok(())) => Ok(responses),
            Ok(Err(error)) => Err(RequestError::connection(&self.subject, error)),
            Err(_) => Err(RequestError::timeout(&self.subject, clock)),
        }
    }

    fn check(&self) -> Result<(), RequestError> {
        check_publish_subject(&self.subject).map_err(|error| RequestError::invalid(&self.subject, error))?;
        if let Some(name) = &self.bad_header {
            let text = format!("the header `{}` cannot be sent", name.escape_debug());
            return Err(RequestError::invalid_text(&self.subject, text));
        }
        Ok(())
    }

    /// `max_payload` counts headers too, and exceeding it would close the connection.
    fn check_size(&self) -> Result<(), RequestError> {
        let max = self.pool.connection().max_payload();
        let size = headers_len(&self.headers) + self.payload.len();
        if size > max {
            let text = format!("with its headers it has {size} bytes; this server takes {max} (max_payload)");
            return Err(RequestError::invalid_text(&self.subject, text));
        }
        Ok(())
    }

    /// No request is published while the connection is known to be down (rule 20).
    async fn connected(&self) -> Result<(), RequestError> {
        let mut state = self.pool.connection().state();
        let state = state
            .wait_for(|state| state.status != ConnectionStatus::Disconnected)
            .await;
        match state.map(|state| state.status) {
            Ok(ConnectionStatus::Connected) => Ok(()),
            _ => Err(RequestError::closed(&self.subject)),
        }
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
            .field("subject", &self.subject)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// A header that every NATS client can read (ADR-4): others tear connections down.
fn parse_header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let prefix = name.as_bytes().get(..5);
    let is_servers = prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"Nats-"));
    let is_taken = name.eq_ignore_ascii_case(HEADER) || is_servers;
    let printable = |text: &str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if is_taken || name.is_empty() || name.contains([' ', ':']) || !printable(name) || !printable(value) {
        return None;
    }
    Some((name.parse().ok()?, value.parse().ok()?))
}

/// Bytes that headers take on the wire.
fn headers_len(headers: &HeaderMap) -> usize {
    const FRAME: usize = "NATS/1.0\r\n\r\n".len();
    let line = |name: &HeaderName, value: &HeaderValue| AsRef::<str>::as_ref(name).len() + value.as_str().len() + 4;
    FRAME
        + headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| line(name, value)))
            .sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_others_could_not_read_are_refused() {
        for (name, value) in [("X-Name", "value with spaces"), ("a", ""), ("traceparent", "00-1")] {
            assert!(parse_header(name, value).is_some(), "{name}");
        }
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a:b", "x"),
            ("ä", "x"),
            ("Größe", "1"),
            ("a", "ü"),
            ("a", "x\r\nPUB y"),
            ("Natstream", "1"),
            ("Nats-Msg-Id", "1"),
        ] {
            assert!(parse_header(name, value).is_none(), "{name}: {value}");
        }
    }
}
