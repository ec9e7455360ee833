//! What every call, request and message of a pool has, and how it is handed over.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::PublishError;
use bytes::Bytes;
use natstream_connect::{
    CodecError, ConnectionStatus, Driver, TraceContext, check_publish_subject, headers_len, user_header,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use crate::error::{Clock, Flaw, RequestError};
use crate::host::Host;
use crate::pool::{Link, Pool};

/// A wait that nobody sees the end of, and that can be added to any moment.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// A message that a pool is to send.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) pool: Pool,
    pub(crate) subject: String,
    pub(crate) payload: Bytes,
    /// The user's; ours is added for each attempt.
    pub(crate) headers: HeaderMap,
    /// A header that cannot be sent.
    bad_header: Option<String>,
    /// Why there is no payload.
    bad_body: Option<CodecError>,
}

/// Until when something waits, and which clock runs out then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    until: Instant,
    clock: Clock,
}

impl Patience {
    /// For `limit`, which is waiting for the connection.
    pub(crate) fn connecting(limit: Duration) -> Self {
        Self {
            until: Driver::clock() + limit.min(FAR),
            clock: Clock::Connect,
        }
    }

    /// Also until the deadline of the whole call, if it has one.
    pub(crate) fn and_deadline(self, deadline: Option<Instant>) -> Self {
        match deadline {
            Some(until) if until <= self.until => Self {
                until,
                clock: Clock::Deadline,
            },
            _ => self,
        }
    }

    /// When it ends.
    pub(crate) fn until(self) -> Instant {
        self.until
    }
}

impl Outgoing {
    pub(crate) fn new(pool: Pool, subject: String, payload: Bytes) -> Self {
        Self {
            pool,
            subject,
            payload,
            headers: HeaderMap::new(),
            bad_header: None,
            bad_body: None,
        }
    }

    /// One whose payload a codec makes; an error of the codec is told when it is to be sent.
    pub(crate) fn encoded(pool: Pool, subject: String, payload: Result<Bytes, CodecError>) -> Self {
        let (payload, bad_body) = match payload {
            Ok(payload) => (payload, None),
            Err(error) => (Bytes::new(), Some(error)),
        };
        Self {
            bad_body,
            ..Self::new(pool, subject, payload)
        }
    }

    /// Takes another payload.
    pub(crate) fn set_payload(&mut self, payload: Bytes) {
        self.payload = payload;
        self.bad_body = None;
    }

    /// Adds a header, or notes that it cannot be sent.
    pub(crate) fn add_header(&mut self, name: &str, value: &str) {
        match user_header(name, value) {
            Some((name, value)) => self.headers.append(name, value),
            None => self.bad_header = Some(name.to_owned()),
        }
    }

    /// Sets a header in place of those of its name, or notes that it cannot be sent.
    pub(crate) fn set_header(&mut self, name: &str, value: &str) {
        match user_header(name, value) {
            Some((name, value)) => self.headers.insert(name, value),
            None => self.bad_header = Some(name.to_owned()),
        }
    }

    /// Whoever gets it knows its place in the trace, unless the user says otherwise.
    pub(crate) fn carry(&mut self, context: Option<TraceContext>) {
        if let Some(context) = context {
            context.write(&mut self.headers);
        }
    }

    /// The user's headers, if there are any.
    pub(crate) fn headers(&self) -> Option<HeaderMap> {
        (!self.headers.is_empty()).then(|| self.headers.clone())
    }

    pub(crate) fn check(&self) -> Result<(), RequestError> {
        check_publish_subject(&self.subject)
            .map_err(|error| RequestError::invalid(&self.subject, Flaw::Subject, error))?;
        if let Some(name) = &self.bad_header {
            let text = format!("the header `{}` cannot be sent", name.escape_debug());
            return Err(RequestError::invalid(&self.subject, Flaw::Header, text));
        }
        match &self.bad_body {
            Some(error) => Err(RequestError::invalid(&self.subject, Flaw::Body, error.clone())),
            None => Ok(()),
        }
    }

    /// `max_payload` counts headers too, and exceeding it would close the connection.
    pub(crate) fn check_size(&self, headers: &HeaderMap, max: usize) -> Result<(), RequestError> {
        let headers = if headers.is_empty() { 0 } else { headers_len(headers) };
        let size = headers + self.payload.len();
        if size > max {
            let text = format!("with its headers it has {size} bytes; this server takes {max} (max_payload)");
            return Err(RequestError::invalid(&self.subject, Flaw::TooLarge { size, max }, text));
        }
        Ok(())
    }

    /// A place among the calls that may run at a time, where that is limited.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn place(&self, patience: Patience) -> Result<Option<OwnedSemaphorePermit>, RequestError> {
        let Some(places) = self.pool.inner.common.places.clone() else {
            return Ok(None);
        };
        let clock = match patience.clock {
            Clock::Connect => Clock::InFlight,
            clock => clock,
        };
        let place = timeout_at(patience.until, places.acquire_owned()).await;
        // It is never closed.
        Ok(place.map_err(|_| RequestError::timeout(&self.subject, clock))?.ok())
    }

    /// Hands over what `try_send` sends, as soon as `ready` has what it needs for that. Either gives `None` when the connection
    /// takes nothing after all.
    ///
    /// # Cancel safety
    /// Nothing was sent when the future is dropped.
    pub(crate) async fn hand_over<R, F, T>(
        &self,
        patience: Patience,
        ready: impl Fn() -> F,
        mut try_send: impl FnMut(R) -> Result<Option<T>, RequestError>,
    ) -> Result<T, RequestError>
    where
        F: Future<Output = Result<Option<R>, RequestError>>,
    {
        loop {
            let ready = timeout_at(patience.until, ready()).await;
            let ready = ready.map_err(|_| RequestError::timeout(&self.subject, patience.clock))??;
            if let Some(ready) = ready
                && let Some(sent) = try_send(ready)?
            {
                return Ok(sent);
            }
            // Others took the room, or the connection has just gone.
            tokio::task::yield_now().await;
        }
    }

    /// A connection that is up.
    pub(crate) async fn link(&self) -> Result<Link, RequestError> {
        let link = self.pool.inner.link().await;
        let link = link.map_err(|reason| RequestError::closed(&self.subject, &reason.to_string()))?;
        if !link.has_others() {
            self.connected(&link.host).await?;
        }
        Ok(link)
    }

    /// Waits until the connection can probably take a message; false when it is down, and another one may be up.
    pub(crate) async fn room(&self, link: &Link) -> Result<bool, RequestError> {
        if !link.has_others() {
            return match link.host.driver.ready().await {
                true => Ok(true),
                false => Err(self.closed()),
            };
        }
        let mut state = link.host.connection.state();
        tokio::select! {
            biased;
            // The connection's end is an error, and down too.
            _ = state.wait_for(|state| !state.is_connected()) => Ok(false),
            is_ready = link.host.driver.ready() => Ok(is_ready),
        }
    }

    /// What to do when nothing can be handed over any more: ask another connection, if there are others.
    pub(crate) fn refused(&self, link: &Link, error: PublishError) -> Result<(), RequestError> {
        match link.has_others() && link.host.is_closed() {
            true => Ok(()),
            false => Err(RequestError::connection(&self.subject, error)),
        }
    }

    /// No request is published while the connection is known to be down (rule 20).
    async fn connected(&self, host: &Arc<Host>) -> Result<(), RequestError> {
        let mut state = host.connection.state();
        let state = state
            .wait_for(|state| state.status != ConnectionStatus::Disconnected)
            .await;
        match state.map(|state| state.status) {
            Ok(ConnectionStatus::Connected) => Ok(()),
            _ => Err(self.closed()),
        }
    }

    fn closed(&self) -> RequestError {
        RequestError::closed(&self.subject, "the connection is closed")
    }
}
