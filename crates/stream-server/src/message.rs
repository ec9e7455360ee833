//! What a handler of plain messages gets.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use natstream_connect::{Codec as _, Json, TrySendError, headers_len};
use serde::Serialize;
use stream_proto::{Code, Status};
use tokio::time::timeout;

use crate::error::{HandlerError, SendError, SendErrorKind};
use crate::request::Request;
use crate::server::Inner;
use crate::stream::insert_failure;

/// How long a response may wait for a connection that is down or busy: longer than most requesters wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// A message: its subject, payload and headers as a [`Request`] has them, and the right to respond.
///
/// It is what [`Server::on_message`](crate::Server::on_message) gives. The messages of streams are another type of this name,
/// `eventbus::Message`.
#[derive(Clone)]
pub struct Message {
    request: Request,
    responder: Option<Arc<Responder>>,
}

/// Where a message is responded to.
pub(crate) struct Responder {
    server: Arc<Inner>,
    reply: Subject,
    is_answered: AtomicBool,
}

impl Message {
    pub(crate) fn new(request: Request, responder: Option<Arc<Responder>>) -> Self {
        Self { request, responder }
    }

    /// The subject that a response goes to. `None` when the sender wants none, or names one that may not be sent to: see
    /// [`ServerBuilder::reply_prefix`](crate::ServerBuilder::reply_prefix).
    #[must_use]
    pub fn reply(&self) -> Option<&str> {
        self.responder.as_ref().map(|responder| responder.reply.as_str())
    }

    /// Responds. A `Pool::request` takes the first response only; others may take several.
    ///
    /// # Errors
    /// `NoReply` without a [`reply`](Self::reply) subject, `TooLarge` for nats-server, `Unsent` when the connection was down or
    /// busy for 5 s, `Closed` when it is closed.
    ///
    /// # Cancel safety
    /// When the future is dropped before it completes, nothing was sent.
    pub async fn respond(&self, payload: impl Into<Bytes>) -> Result<(), SendError> {
        let responder = self.responder.as_ref().ok_or_else(no_reply)?;
        responder.send(None, payload.into()).await
    }

    /// Responds with a value as JSON.
    ///
    /// # Errors
    /// As [`respond`](Self::respond), and `INTERNAL` when the value cannot be encoded: `?` in a handler works on both.
    ///
    /// # Cancel safety
    /// When the future is dropped before it completes, nothing was sent.
    pub async fn respond_as(&self, value: &(impl Serialize + Sync + ?Sized)) -> Result<(), HandlerError> {
        let payload = Json::encode(value).map_err(HandlerError::internal)?;
        Ok(self.respond(payload).await?)
    }

    /// Responds with a failure, in the headers `Nats-Service-Error-Code` and `Nats-Service-Error` (ADR-32), which
    /// `Pool::request` and other NATS programs read.
    ///
    /// A handler of a queue group that returns an error without having responded does the same.
    ///
    /// # Errors
    /// As [`respond`](Self::respond).
    ///
    /// # Cancel safety
    /// When the future is dropped before it completes, nothing was sent.
    pub async fn respond_error(&self, code: Code, message: impl fmt::Display) -> Result<(), SendError> {
        let responder = self.responder.as_ref().ok_or_else(no_reply)?;
        let status = HandlerError::new(code, message).into_status();
        responder.send(Some(failure(&status)), Bytes::new()).await
    }
}

fn no_reply() -> SendError {
    SendErrorKind::NoReply.into()
}

fn failure(status: &Status) -> HeaderMap {
    let mut headers = HeaderMap::new();
    insert_failure(&mut headers, status);
    headers
}

impl Responder {
    pub(crate) fn new(server: Arc<Inner>, reply: Subject) -> Self {
        Self {
            server,
            reply,
            is_answered: AtomicBool::new(false),
        }
    }

    async fn send(&self, headers: Option<HeaderMap>, payload: Bytes) -> Result<(), SendError> {
        let max = self.server.connection.max_payload();
        let size = headers.as_ref().map_or(0, headers_len) + payload.len();
        if size > max {
            let (size, max) = (size as u64, max as u64);
            return Err(SendErrorKind::TooLarge { size, max }.into());
        }
        let driver = self.server.connection.driver();
        let sending = async {
            loop {
                match self.try_send(headers.clone(), payload.clone()) {
                    Ok(()) => return Ok(()),
                    Err(TrySendError::Failed(_)) => return Err(SendErrorKind::Closed.into()),
                    Err(_) if driver.ready().await => tokio::task::yield_now().await,
                    Err(_) => return Err(SendErrorKind::Closed.into()),
                }
            }
        };
        let sent = timeout(PATIENCE, sending).await;
        sent.unwrap_or_else(|_| Err(SendErrorKind::Unsent.into()))
    }

    /// Says that the message failed, if nothing was said yet; later, if the connection is busy.
    pub(crate) fn fail(&self, status: &Status) {
        let is_answered = self.is_answered.load(Ordering::Acquire);
        let message = || self.message(Some(failure(status)), Bytes::new());
        if !is_answered && !self.server.refusals.send(vec![message()]) {
            tracing::debug!("a failure was not told to the requester: too many wait to be told");
        }
    }

    fn try_send(&self, headers: Option<HeaderMap>, payload: Bytes) -> Result<(), TrySendError> {
        let driver = self.server.connection.driver();
        driver.try_send(self.message(headers, payload))?;
        self.is_answered.store(true, Ordering::Release);
        Ok(())
    }

    fn message(&self, headers: Option<HeaderMap>, payload: Bytes) -> OutboundMessage {
        OutboundMessage {
            subject: self.reply.clone(),
            reply: None,
            headers,
            payload,
        }
    }
}

impl Deref for Message {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.request
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("request", &self.request)
            .field("reply", &self.reply())
            .finish()
    }
}
