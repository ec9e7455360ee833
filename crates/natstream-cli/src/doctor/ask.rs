//! Questions to nats-server, and whether the own inbox works.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use natstream::Connection;
use natstream::async_nats::{Client, Message, StatusCode, Subscriber};
use natstream::connect::{Operation, ServerErrorEvent, token};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::timeout;

/// A subscription below the connection's inbox prefix, as calls and handlers have one.
#[derive(Debug)]
pub(super) struct Inbox {
    client: Client,
    answers: Subscriber,
    errors: broadcast::Receiver<ServerErrorEvent>,
    prefix: String,
    asked: u32,
    limit: Duration,
}

/// What became of an inbox.
#[derive(Debug)]
pub(super) enum Opened {
    Works(Box<Inbox>),
    /// The user may not subscribe to this subject.
    Denied(String),
    /// Neither a message nor a refusal came in time.
    Silent,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// An answer.
    Message(Bytes),
    /// The user may not publish to this subject.
    Denied,
    /// Nobody is subscribed to this subject.
    NoResponders,
    /// Nothing came in time.
    Silent,
}

/// What comes back from nats-server.
enum Word {
    Message(Message),
    Refused { operation: Operation, subject: String },
}

impl Inbox {
    /// Subscribes, and sends itself a message. Each wait takes `limit` at most, here and later.
    ///
    /// # Cancel safety
    /// The subscription goes with the future.
    pub(super) async fn open(connection: &Connection, limit: Duration) -> Opened {
        let client = connection.nats().clone();
        let errors = connection.server_errors();
        let prefix = format!("{}.{}", connection.inbox_prefix(), token());
        let wildcard = format!("{prefix}.*");
        let Ok(answers) = client.subscribe(wildcard.clone()).await else {
            return Opened::Silent;
        };
        let mut inbox = Self {
            client,
            answers,
            errors,
            prefix,
            asked: 0,
            limit,
        };
        let own = inbox.next_reply();
        if inbox.client.publish(own.clone(), Bytes::new()).await.is_err() {
            return Opened::Silent;
        }
        let answer = timeout(limit, async {
            loop {
                match inbox.next().await {
                    Word::Message(_) => return true,
                    Word::Refused { operation, subject } => match operation {
                        Operation::Subscribe if subject == wildcard => return false,
                        // Refusals come in the order of what they refuse: the subscription was not refused before.
                        // Nobody needs to send to the own inbox.
                        Operation::Publish if subject == own => return true,
                        _ => {}
                    },
                }
            }
        })
        .await;
        match answer {
            Ok(true) => Opened::Works(Box::new(inbox)),
            Ok(false) => Opened::Denied(wildcard),
            Err(_) => Opened::Silent,
        }
    }

    /// Asks a subject.
    ///
    /// # Cancel safety
    /// An answer that comes later is dropped.
    pub(super) async fn ask(&mut self, subject: &str, body: impl Into<Bytes>) -> Reply {
        let reply = self.next_reply();
        let sent = self
            .client
            .publish_with_reply(subject.to_owned(), reply.clone(), body.into())
            .await;
        if sent.is_err() {
            return Reply::Silent;
        }
        let limit = self.limit;
        let answer = timeout(limit, async {
            loop {
                match self.next().await {
                    Word::Message(message) if *message.subject == reply => {
                        return match message.status {
                            Some(StatusCode::NO_RESPONDERS) => Reply::NoResponders,
                            _ => Reply::Message(message.payload),
                        };
                    }
                    Word::Refused {
                        operation: Operation::Publish | Operation::PublishReply,
                        subject: refused,
                    } if refused == subject || refused == reply => return Reply::Denied,
                    // Of an earlier question.
                    _ => {}
                }
            }
        })
        .await;
        answer.unwrap_or(Reply::Silent)
    }

    fn next_reply(&mut self) -> String {
        self.asked += 1;
        format!("{}.{}", self.prefix, self.asked)
    }

    async fn next(&mut self) -> Word {
        loop {
            tokio::select! {
                message = self.answers.next() => match message {
                    Some(message) => return Word::Message(message),
                    // The connection has ended.
                    None => std::future::pending().await,
                },
                event = self.errors.recv() => match event {
                    Ok(ServerErrorEvent::PermissionViolation { operation, subject, .. }) => {
                        return Word::Refused { operation, subject };
                    }
                    Ok(other) => tracing::warn!(error = %other, "nats-server complains"),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                },
            }
        }
    }
}
