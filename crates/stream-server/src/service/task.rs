//! The task that answers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::{Message, Subject, Subscriber};
use bytes::Bytes;
use futures_util::stream::{BoxStream, SelectAll, StreamExt as _, select_all};
use natstream_connect::{Connection, Operation, ServerErrorEvent};
use tokio::sync::{broadcast, watch};
use tokio::task::coop;
use tokio::time::{Instant, timeout};

use super::PREFIX;
use super::answers::{self, Verb};
use crate::server::Inner;
use crate::stats::count;

/// An answer that the connection does not take for so long is of no use any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// Statistics are given again for so many times as long as it took to gather them: a flood of questions costs at most a tenth
/// of a processor for that, beside what it takes to send the answers.
const REST: u32 = 10;

type Questions = SelectAll<BoxStream<'static, (Verb, Message)>>;

/// Starts the task. `complaints` began before the subscriptions were made.
pub(super) fn spawn(
    server: &Arc<Inner>,
    subscribers: Vec<(Verb, Subscriber)>,
    complaints: broadcast::Receiver<ServerErrorEvent>,
) {
    let questions = |(verb, subscriber): (Verb, Subscriber)| subscriber.map(move |message| (verb, message)).boxed();
    let task = Task {
        // Weak: the task ends with the server.
        server: Arc::downgrade(server),
        stopped: server.stopped.subscribe(),
        questions: select_all(subscribers.into_iter().map(questions)),
        complaints,
        is_warned: false,
        recent: None,
    };
    #[expect(clippy::disallowed_methods, reason = "one task for each server")]
    tokio::spawn(task.run());
}

/// What the task has; dropping it ends the subscriptions.
struct Task {
    server: Weak<Inner>,
    /// True once the server was drained or dropped.
    stopped: watch::Receiver<bool>,
    questions: Questions,
    complaints: broadcast::Receiver<ServerErrorEvent>,
    is_warned: bool,
    recent: Option<Recent>,
}

/// Statistics that were given.
struct Recent {
    answer: Bytes,
    /// Until when they are given again.
    until: Instant,
}

impl Task {
    async fn run(mut self) {
        loop {
            let (verb, message) = tokio::select! {
                biased;
                // An error: the server has gone.
                _ = self.stopped.wait_for(|is_stopped| *is_stopped) => return,
                complaint = refused(&mut self.complaints), if !self.is_warned => {
                    // One for each subscription: the first says it all.
                    self.is_warned = true;
                    tracing::warn!(error = %complaint, "service discovery may not find this server");
                    continue;
                }
                question = self.questions.next() => match question {
                    Some(question) => question,
                    None => return,
                },
            };
            let Some((connection, reply, answer)) = self.answer(verb, message) else {
                continue;
            };
            match timeout(PATIENCE, connection.nats().publish(reply, answer)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if !self.is_warned => {
                    // It is larger than a message may be, and so will be the next.
                    self.is_warned = true;
                    tracing::warn!(%error, %verb, "service discovery may not find this server");
                }
                Ok(Err(error)) => tracing::debug!(%error, %verb, "an answer of service discovery was not sent"),
                Err(_) => tracing::debug!(%verb, "an answer of service discovery was not sent in time"),
            }
            // A flood of questions must not keep the streams' own tasks from running.
            coop::consume_budget().await;
        }
    }

    /// What is answered, and where; nothing to a question that must not be, or while the server has no endpoint.
    ///
    /// Where the subject was rewritten by an account import, no empty message follows: it would end the mapping before
    /// other services have answered.
    fn answer(&mut self, verb: Verb, message: Message) -> Option<(Connection, Subject, Bytes)> {
        let server = self.server.upgrade()?;
        let Some(reply) = message.reply.filter(|reply| server.is_safe(reply)) else {
            count(&server.counters.refused_subjects);
            return None;
        };
        let endpoints = server.endpoints().filter(|endpoints| !endpoints.is_empty())?;
        let called = endpoints
            .iter()
            .map(|endpoint| (endpoint.subject.as_str(), &endpoint.identity));
        let answer = match verb {
            Verb::Ping => answers::ping(&server.identity),
            Verb::Info => answers::info(&server.identity, called),
            Verb::Stats => {
                let now = server.connection.driver().now();
                match self.recent.take().filter(|recent| now < recent.until) {
                    Some(recent) => self.recent.insert(recent).answer.clone(),
                    None => {
                        let stats = server.snapshots(&endpoints);
                        let counted = called
                            .zip(&stats)
                            .map(|((subject, identity), stats)| (subject, identity, stats));
                        let answer = answers::stats(&server.identity, counted);
                        let then = server.connection.driver().now();
                        let until = then + REST * then.saturating_duration_since(now);
                        self.recent.insert(Recent { answer, until }).answer.clone()
                    }
                }
            }
        };
        Some((server.connection.connection().clone(), reply, answer))
    }
}

/// Completes when nats-server refuses one of the subscriptions.
///
/// # Cancel safety
/// Nothing is lost.
async fn refused(complaints: &mut broadcast::Receiver<ServerErrorEvent>) -> ServerErrorEvent {
    loop {
        match complaints.recv().await {
            Ok(complaint) => {
                if let ServerErrorEvent::PermissionViolation { operation, subject, .. } = &complaint
                    && *operation == Operation::Subscribe
                    && subject.starts_with(PREFIX)
                {
                    return complaint;
                }
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
