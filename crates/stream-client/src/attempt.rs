//! One attempt of a call, from its settings to the request on its way.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use natstream_connect::{ConnectionStatus, check_publish_subject};
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
        match parse_header(name, value) {
            Some((name, value)) => self.headers.append(name, value),
            None => self.bad_header = Some(name.to_owned()),
        }
    }

    /// Sets a header in place of those of its name, or notes that it cannot be sent.
    pub(crate) fn set_header(&mut self, name: &str, value: &str) {
        match parse_header(name, value) {
            Some((name, value)) => self.headers.insert(name, value),
            None => self.bad_header = Some(name.to_owned()),
        }
    }

    /// Checks the request, waits for the connection, and hands the request over.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the attempt: either nothing was sent, or the responder is told.
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
        let ready = async {
            self.connected().await?;
            self.pool.inner.router(&self.subject).await
        };
        let late = || RequestError::timeout(&self.subject, clock);
        let router = timeout_at(give_up, ready).await.map_err(|_| late())??;

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
        let route = router.add(call.clone());
        let reply = route.subject();
        call.set_route(route);
        // From here on, dropping this cancels the attempt.
        let attempt = Attempt {
            call,
            is_in_grace: reconnected.is_some_and(|at| now.saturating_duration_since(at) < GRACE),
        };

        let (subject, payload) = (self.subject.clone(), self.payload.clone());
        let nats = self.pool.connection().nats();
        let publish = nats.publish_with_reply_and_headers(subject, reply, headers, payload);
        match timeout_at(give_up, publish).await {
            Ok(Ok(())) => Ok(attempt),
            Ok(Err(error)) => Err(RequestError::connection(&self.subject, error)),
            Err(_) => Err(late()),
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
