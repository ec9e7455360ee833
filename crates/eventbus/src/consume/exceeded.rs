//! Messages that nats-server has given up: consumers of others may limit how often a message is delivered.
//!
//! nats-server says so in an advisory, once, and to whoever listens at that moment. The message stays in the stream, and is
//! delivered no more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::subject::Subject;
use natstream_connect::{Connection, Subscriber};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::message::Message;
use super::work::Work;
use crate::topology::{TopologyError, TopologyErrorKind, message};

/// Messages that are put aside at the same time.
const AT_ONCE: usize = 4;

/// Messages that wait to be put aside; what is beyond stays in the stream.
const WAITING: usize = 100_000;

/// The pause before a message that could not be put aside is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Puts aside what nats-server has given up.
pub(super) struct Exceeded {
    connection: Connection,
    work: Arc<Work>,
    /// `None` when nats-server does not let this user listen.
    subscriber: Option<Subscriber>,
    waiting: VecDeque<GivenUp>,
    burials: JoinSet<()>,
}

/// A message that is delivered no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct GivenUp {
    #[serde(rename = "stream_seq")]
    pub(super) sequence: u64,
    #[serde(default)]
    pub(super) deliveries: u64,
}

impl Exceeded {
    pub(super) async fn listen(connection: Connection, work: Arc<Work>) -> Self {
        let subject = format!(
            "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{}.{}",
            work.stream, work.consumer
        );
        let subscriber = match connection.subscribe(subject, None).await {
            Ok(subscriber) => Some(subscriber),
            Err(error) => {
                tracing::warn!(%error, "messages that nats-server gives up are not put aside");
                None
            }
        };
        Self {
            connection,
            work,
            subscriber,
            waiting: VecDeque::new(),
            burials: JoinSet::new(),
        }
    }

    /// A message that was given up just now, or `None` when one was put aside.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> Option<GivenUp> {
        let advisory = async {
            match &mut self.subscriber {
                Some(subscriber) => subscriber.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(_) = self.burials.join_next() => {
                self.start();
                None
            }
            advisory = advisory => match advisory {
                Some(advisory) => serde_json::from_slice(&advisory.payload).ok(),
                None => {
                    // Not permitted any more, or the connection is closed, which others notice.
                    self.subscriber = None;
                    None
                }
            },
        }
    }

    /// Puts the message aside, sooner or later.
    pub(super) fn add(&mut self, message: GivenUp) {
        if self.waiting.len() >= WAITING {
            tracing::error!(
                sequence = message.sequence,
                "a message is not put aside: too many wait for it"
            );
            return;
        }
        self.waiting.push_back(message);
        self.start();
    }

    /// Is there nothing to be put aside?
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.burials.is_empty()
    }

    fn start(&mut self) {
        while self.burials.len() < AT_ONCE
            && let Some(message) = self.waiting.pop_front()
        {
            let (connection, work) = (self.connection.clone(), self.work.clone());
            self.burials.spawn(async move {
                // Nobody says it again: so until it is done.
                while !bury(&connection, &work, message).await {
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
    }
}

/// False when it must be tried again.
async fn bury(connection: &Connection, work: &Work, given_up: GivenUp) -> bool {
    match stored(connection, work, given_up).await {
        Ok(Some(message)) => work.bury_given_up(&message).await,
        // Deleted meanwhile: there is nothing to put aside.
        Ok(None) => true,
        Err(error) => {
            tracing::debug!(%error, sequence = given_up.sequence, "a message that was given up was not read");
            false
        }
    }
}

async fn stored(connection: &Connection, work: &Work, given_up: GivenUp) -> Result<Option<Message>, TopologyError> {
    // A stream that is gone has nothing to put aside.
    let message = match message(connection, &work.stream, given_up.sequence).await {
        Err(error) if error.kind() == TopologyErrorKind::NotFound => None,
        read => read?,
    };
    Ok(message.map(|message| {
        let stored_at = i64::try_from(message.stored_at.as_nanosecond()).unwrap_or_default();
        // Where its deliveries were acked. What nobody has told us is not looked at in an ack.
        let reply: Subject = format!(
            "$JS.ACK.{}.{}.{}.{}.1.{stored_at}.0",
            work.stream, work.consumer, given_up.deliveries, given_up.sequence
        )
        .into();
        Message::stored(message, reply, given_up.sequence, given_up.deliveries, stored_at)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advisories_are_those_of_the_server() {
        let advisory = r#"{"type":"io.nats.jetstream.advisory.v1.max_deliver","id":"x","timestamp":"2026-11-20T04:05:06Z",
            "stream":"S","consumer":"c","stream_seq":7,"deliveries":3}"#;
        let expected = GivenUp {
            sequence: 7,
            deliveries: 3,
        };
        assert_eq!(serde_json::from_str::<GivenUp>(advisory).expect("readable"), expected);
    }
}
