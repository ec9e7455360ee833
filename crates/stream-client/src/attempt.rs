//! One attempt of a call, from its settings to the request on its way.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::message::OutboundMessage;
use bytes::Bytes;
use natstream_connect::{ConnectionStatus, Router, TrySendError, check_publish_subject, headers_len, user_header};
use stream_proto::{HEADER, Inbound, InboundConfig, Instant};
use tokio::time::{Instant as Moment, timeout_at};

use crate::call::Call;
use crate::error::{Clock, RequestError};
use crate::pool::Pool;

/// For this long after the own reconnect, a 503 may only mean that the responder is still on its way back (rule 26).
const GRACE: Duration = Duration::from_secs(5);

/// A wait that nobody sees the end of, and that can be added to any moment.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// What an attempt sends, and for how long it may wait.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) pool: Pool,
    pub(crate) subject: String,
    pub(crate) payload: Bytes,
    /// The user's; ours is added for each attempt.
    pub(crate) headers: HeaderMap,
    /// A header that cannot be sent.
    pub(crate) bad_header: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) config: InboundConfig,
    /// When the total deadline passes.
    pub(crate) deadline: Option<Moment>,
    /// Time for each attempt.
    pub(crate) attempt_limit: Option<Duration>,
}

/// An attempt on its way. Dropping it cancels the attempt, if it has not ended.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) call: Arc<Call>,
    /// It was sent so soon after the own reconnect that a 503 means little.
    pub(crate) is_in_grace: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.call.cancel();
    }
}

impl Request {
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

    /// Checks the request, waits for the connection, and hands the request over.
    ///
    /// # Cancel safety
    /// Nothing was sent when the future is dropped.
    pub(crate) async fn send(&self) -> Result<Attempt, RequestError> {
        self.check()?;
        let host = self.pool.inner.host.clone();
        let started = host.driver.now();
        let limits = [Some(started + self.connect_timeout.min(FAR)), self.deadline];
        let give_up = limits.into_iter().flatten().min().unwrap_or(started);
        let clock = if self.deadline == Some(give_up) {
            Clock::Deadline
        } else {
            Clock::Connect
        };
        let late = || RequestError::timeout(&self.subject, clock);
        let router = async {
            self.connected().await?;
            self.pool.inner.router(&self.subject).await
        };
        let router = timeout_at(give_up, router).await.map_err(|_| late())??;
        loop {
            timeout_at(give_up, async {
                self.connected().await?;
                if host.driver.ready().await {
                    Ok(())
                } else {
                    Err(RequestError::closed(&self.subject, "the connection is closed"))
                }
            })
            .await
            .map_err(|_| late())??;
            if let Some(attempt) = self.try_send(router)? {
                return Ok(attempt);
            }
            // Others took the room, or the connection has just gone.
            tokio::task::yield_now().await;
        }
    }

    /// Hands the request over, if that is possible now.
    fn try_send(&self, router: &Router) -> Result<Option<Attempt>, RequestError> {
        let host = &self.pool.inner.host;
        let now = host.driver.now();
        let mut config = self.config.clone();
        let total = self.deadline.map(|deadline| deadline.saturating_duration_since(now));
        config.deadline = [total, self.attempt_limit].into_iter().flatten().min();
        let inbound = Inbound::new(config, Instant::from_nanos(host.driver.nanos(now)));
        let mut headers = self.headers.clone();
        headers.insert(HEADER, inbound.open().encode().as_str());
        self.check_size(&headers)?;
        let reconnected = self.pool.connection().reconnected_at();
        let call = Call::new(host.clone(), inbound);
        if !host.began(&call) {
            return Err(RequestError::closed(&self.subject, "the pool is closed"));
        }
        // The route is there before the request: the answer may be quick.
        let route = router.add(call.clone());
        let open = OutboundMessage {
            subject: self.subject.as_str().into(),
            reply: Some(route.subject()),
            headers: Some(headers),
            payload: self.payload.clone(),
        };
        call.set_route(route);
        let attempt = Attempt {
            call,
            is_in_grace: reconnected.is_some_and(|at| now.saturating_duration_since(at) < GRACE),
        };
        match host.driver.try_send(open) {
            Ok(()) => Ok(Some(attempt)),
            Err(TrySendError::Failed(error)) => Err(RequestError::connection(&self.subject, error)),
            Err(_) => Ok(None),
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
    fn check_size(&self, headers: &HeaderMap) -> Result<(), RequestError> {
        let max = self.pool.connection().max_payload();
        let size = headers_len(headers) + self.payload.len();
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
            _ => Err(RequestError::closed(&self.subject, "the connection is closed")),
        }
    }
}
