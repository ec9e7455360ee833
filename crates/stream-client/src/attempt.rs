//! One attempt of a call, from its settings to the request on its way.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderValue;
use async_nats::message::OutboundMessage;
use natstream_connect::{Router, TrySendError, own_header};
use stream_proto::{Inbound, InboundConfig, Instant};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant as Moment;

use crate::call::{Asked, Call};
use crate::dialect::Dialect;
use crate::error::{Flaw, RequestError};
use crate::host::Host;
use crate::machine::Machine;
use crate::offline::{self, CONNECT_ID};
use crate::outgoing::{Outgoing, Patience};
use crate::pool::Link;

/// For this long after the own reconnect, a 503 may only mean that the responder is still on its way back (rule 26).
const GRACE: Duration = Duration::from_secs(5);

/// What an attempt sends, and for how long it may wait.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) message: Outgoing,
    pub(crate) connect_timeout: Duration,
    pub(crate) config: InboundConfig,
    /// When the total deadline passes.
    pub(crate) deadline: Option<Moment>,
    /// Time for each attempt.
    pub(crate) attempt_limit: Option<Duration>,
    pub(crate) dialect: Dialect,
    /// What this side calls itself.
    pub(crate) client: Option<String>,
}

/// An attempt on its way. Dropping it cancels the attempt, if it has not ended.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) call: Arc<Call>,
    link: Option<Link>,
    place: Option<OwnedSemaphorePermit>,
    /// It was sent so soon after the own reconnect that a 503 means little.
    pub(crate) is_in_grace: bool,
}

impl Attempt {
    /// It has ended: its share of the load, and its place, are others' now.
    pub(crate) fn ended(&mut self) {
        self.link = None;
        self.place = None;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.call.cancel();
    }
}

impl Request {
    /// Checks the request, waits for the connection, and hands the request over.
    ///
    /// # Cancel safety
    /// Nothing was sent when the future is dropped.
    pub(crate) async fn send(&self) -> Result<Attempt, RequestError> {
        self.check()?;
        let patience = Patience::connecting(self.connect_timeout).and_deadline(self.deadline);
        let mut place = self.message.place(patience).await?;
        let try_send = |(link, router): (Link, Router)| self.try_send(link, &router, &mut place);
        self.message.hand_over(patience, || self.ready(), try_send).await
    }

    /// A connection that can probably take the request, and where the answer will arrive.
    async fn ready(&self) -> Result<Option<(Link, Router)>, RequestError> {
        let link = self.message.link().await?;
        let router = self.router(&link.host).await?;
        Ok(self.message.room(&link).await?.then_some((link, router)))
    }

    /// Where the answer arrives. A call that may be of another dialect has a subscription of its own: its end is the only
    /// sign to such a responder, and to nats-server, that nobody reads any more (docs/decisions/007).
    async fn router(&self, host: &Arc<Host>) -> Result<Router, RequestError> {
        if self.dialect == Dialect::Native {
            return host.router(&self.message.subject).await;
        }
        let router = host.connection.router(host.strays()).await;
        router.map_err(|error| RequestError::connection(&self.message.subject, error))
    }

    /// Hands the request over, if that is possible now.
    fn try_send(
        &self,
        link: Link,
        router: &Router,
        place: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<Option<Attempt>, RequestError> {
        let host = link.host.clone();
        let now = host.driver.now();
        let mut config = self.config.clone();
        config.budget = Some(host.windows.clone());
        let total = self.deadline.map(|deadline| deadline.saturating_duration_since(now));
        config.deadline = [total, self.attempt_limit].into_iter().flatten().min();
        let at = Instant::from_nanos(host.driver.nanos(now));
        let mut headers = self.message.headers.clone();
        let machine = match self.dialect.plain().filter(|_| !self.dialect.asks_natively()) {
            Some(dialect) => Machine::plain(dialect, &config, at),
            None => {
                config.plain = self.dialect.plain();
                let inbound = Inbound::new(config, at);
                headers.insert(own_header(), HeaderValue::from(inbound.open().encode()));
                Machine::Native(inbound)
            }
        };
        if let Some(name) = &self.client {
            headers.insert(CONNECT_ID, name.as_str());
        }
        self.message.check_size(&headers, host.connection.max_payload())?;
        let reconnected = host.connection.reconnected_at();
        let asked = Asked {
            subject: self.message.subject.as_str().into(),
            dialect: self.dialect,
        };
        let client = self.client.as_deref().map(|name| host.common.client(name));
        let call = Call::new(host.clone(), machine, asked, client);
        if !host.common.began(&call) {
            return Err(RequestError::closed(&self.message.subject, "the pool is closed"));
        }
        // The route is there before the request: the answer may be quick.
        let route = router.add(call.clone());
        let open = OutboundMessage {
            subject: self.message.subject.as_str().into(),
            reply: Some(route.subject()),
            headers: (!headers.is_empty()).then_some(headers),
            payload: self.message.payload.clone(),
        };
        call.set_route(route);
        let mut attempt = Attempt {
            call,
            link: Some(link),
            place: None,
            is_in_grace: reconnected.is_some_and(|at| now.saturating_duration_since(at) < GRACE),
        };
        if attempt.call.is_denied() {
            // Nothing could be received: nobody is asked.
            return Ok(Some(attempt));
        }
        match host.driver.try_send(open) {
            Ok(()) => {
                attempt.place = place.take();
                Ok(Some(attempt))
            }
            Err(TrySendError::Busy) => {
                // Nobody was asked, so nobody is told that this side leaves.
                attempt.call.forget_client();
                Ok(None)
            }
            Err(TrySendError::Failed(error)) => match &attempt.link {
                Some(link) => self.message.refused(link, error).map(|()| None),
                None => Ok(None),
            },
            Err(_) => Ok(None),
        }
    }

    fn check(&self) -> Result<(), RequestError> {
        let subject = &self.message.subject;
        self.message.check()?;
        let invalid = |text: &str| Err(RequestError::invalid(subject, Flaw::Settings, text));
        if !self.config.control && self.dialect != Dialect::Native {
            return invalid("only a native call can be one without control");
        }
        if self.config.probe && !self.dialect.asks_natively() {
            return invalid("a probe is native: another responder would take it for an ordinary request");
        }
        if !self.config.control && self.deadline.is_none() && self.attempt_limit.is_none() {
            return invalid("a call without control needs a deadline");
        }
        if self.client.as_deref().is_some_and(|name| !offline::is_name(name)) {
            return invalid("the name of the client must be 1 to 256 printable ASCII characters");
        }
        Ok(())
    }
}
