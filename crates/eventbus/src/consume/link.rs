//! Where a consumer is asked, and where its answers come.

use async_nats::message::OutboundMessage;
use async_nats::subject::Subject;
use natstream_connect::{Connection, Subscriber, SubscriberErrorKind, token};

use super::engine::PullRequest;
use super::error::{ConsumeError, ConsumeErrorKind};
use super::status::Status;
use super::word::Word;
use crate::topology::prefix;

/// The subjects of one session with a consumer.
#[derive(Clone)]
pub(super) struct Link {
    connection: Connection,
    /// What requests are published to.
    next: Subject,
    /// What answers come to, the last dot included. Messages keep the subjects of their stream, so they cannot come through a
    /// router: only statuses do come to a subject below this.
    inbox: String,
}

impl Link {
    pub(super) fn new(connection: &Connection, stream: &str, consumer: &str) -> Self {
        Self {
            next: format!("{}.CONSUMER.MSG.NEXT.{stream}.{consumer}", prefix(connection)).into(),
            inbox: format!("{}.{}.", connection.inbox_prefix(), token()),
            connection: connection.clone(),
        }
    }

    pub(super) async fn subscribe(&self) -> Result<Subscriber, ConsumeError> {
        let subscribed = self.connection.subscribe(format!("{}*", self.inbox), None).await;
        subscribed.map_err(|error| {
            let kind = match error.kind() {
                SubscriberErrorKind::NotPermitted => ConsumeErrorKind::NotPermitted,
                _ => ConsumeErrorKind::Closed,
            };
            ConsumeError::because(kind, error)
        })
    }

    /// What requests are published to.
    pub(super) fn next(&self) -> &str {
        self.next.as_str()
    }

    /// Makes a request. False when the connection takes nothing at the moment.
    pub(super) fn ask(&self, request: &PullRequest) -> bool {
        let asked = OutboundMessage {
            subject: self.next.clone(),
            reply: Some(format!("{}{}", self.inbox, request.number).into()),
            payload: body(request).into(),
            headers: None,
        };
        self.connection.driver().try_send(asked).is_ok()
    }

    /// Which request the status is for, and what it says; `None` when it is none.
    pub(super) fn status(&self, message: &async_nats::Message) -> Option<(u64, Status)> {
        let number = message.subject.strip_prefix(self.inbox.as_str())?.parse().ok()?;
        let description = message.description.as_deref().unwrap_or_default();
        let status = Status::read(message.status?.as_u16(), description, message.headers.as_ref());
        Some((number, status))
    }

    /// Says what needs no answer. When the connection takes nothing, the ack wait runs out, and the message comes again.
    pub(super) fn say(&self, reply: &Subject, word: &Word) {
        let said = OutboundMessage {
            subject: reply.clone(),
            reply: None,
            payload: word.body(),
            headers: None,
        };
        if let Err(error) = self.connection.driver().try_send(said) {
            tracing::debug!(%error, "a word about a message was not sent");
        }
    }
}

fn body(request: &PullRequest) -> String {
    let mut body = format!(r#"{{"batch":{}"#, request.count);
    match request.expires {
        Some(expires) => body.push_str(&format!(r#","expires":{expires}"#)),
        None => body.push_str(r#","no_wait":true"#),
    }
    if let Some(heartbeat) = request.heartbeat {
        body.push_str(&format!(r#","idle_heartbeat":{heartbeat}"#));
    }
    body.push('}');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_the_server_reads_them() {
        let request = PullRequest {
            number: 7,
            count: 10,
            expires: Some(30),
            heartbeat: Some(5),
        };
        assert_eq!(body(&request), r#"{"batch":10,"expires":30,"idle_heartbeat":5}"#);
        let request = PullRequest {
            expires: None,
            heartbeat: None,
            ..request
        };
        assert_eq!(body(&request), r#"{"batch":10,"no_wait":true}"#);
    }
}
