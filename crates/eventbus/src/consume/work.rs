//! One attempt: the handler, and what follows from its result.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::counts::{Counts, count};
use super::dead_letter::dead_letter;
use super::error::HandlerError;
use super::message::Message;
use super::word::Word;
use crate::bus::Bus;
use crate::event::Event;

/// A handler, without its types.
pub(super) type Handler = Box<dyn Fn(Message) -> BoxFuture<'static, Result<(), HandlerError>> + Send + Sync>;

/// What all attempts share.
pub(super) struct Work {
    pub(super) handler: Handler,
    pub(super) stream: String,
    pub(super) consumer: String,
    /// Events of it are acks.
    pub(super) acks: Bus,
    pub(super) dead: Option<Arc<DeadLetters>>,
    /// How long one attempt may take.
    pub(super) limit: Option<Duration>,
    pub(super) counts: Arc<Counts>,
}

/// Where messages are put aside.
#[derive(Debug)]
pub(super) struct DeadLetters {
    pub(super) bus: Bus,
    pub(super) subject: String,
    /// After so many attempts.
    pub(super) attempts: u64,
}

/// What has become of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The message is done: handled, or put aside.
    Done,
    /// It is to be tried again.
    Again,
}

impl Work {
    pub(super) async fn attempt(&self, message: &Message) -> Verdict {
        if self.dead.as_ref().is_some_and(|dead| message.attempt() > dead.attempts) {
            // The handler may have taken the process with it, and would do so again.
            let error = HandlerError::reject("its last attempt did not come to an end that was told");
            return self.bury_or_retry(message, &error).await;
        }
        // The call may panic as well as the future.
        let handled = AssertUnwindSafe(async { (self.handler)(message.clone()).await }).catch_unwind();
        let outcome = match self.limit {
            None => handled.await,
            Some(limit) => match tokio::time::timeout(limit, handled).await {
                Ok(outcome) => outcome,
                Err(_) => Ok(Err(HandlerError::retry("the handler took too long"))),
            },
        };
        let error = match outcome {
            Ok(Ok(())) => {
                self.say(message, &Word::Ack).await;
                count(&self.counts.handled);
                return Verdict::Done;
            }
            Ok(Err(error)) => error,
            Err(_) => HandlerError::retry("the handler has panicked"),
        };
        count(&self.counts.failed);
        tracing::debug!(
            stream = self.stream,
            sequence = message.sequence(),
            attempt = message.attempt(),
            reason = error.reason(),
            "a message was not handled"
        );
        self.bury_or_retry(message, &error).await
    }

    async fn bury_or_retry(&self, message: &Message, error: &HandlerError) -> Verdict {
        if self.bury(message, error).await {
            Verdict::Done
        } else {
            Verdict::Again
        }
    }

    /// Puts the message aside if that is due: the stream of dead letters has it before nats-server forgets it.
    async fn bury(&self, message: &Message, error: &HandlerError) -> bool {
        let Some(dead) = self
            .dead
            .as_ref()
            .filter(|dead| error.is_final() || message.attempt() >= dead.attempts)
        else {
            return false;
        };
        let letter = dead_letter(&dead.subject, &self.stream, &self.consumer, message, error.reason());
        if let Err(failure) = dead.bus.publish(letter).await {
            tracing::warn!(
                sequence = message.sequence(),
                kind = ?failure.kind(),
                "a message could not be put aside, and is tried again"
            );
            return false;
        }
        let reason = error.reason().to_owned();
        self.say(message, &Word::Term { reason }).await;
        count(&self.counts.dead);
        true
    }

    /// Waits for room among the acks, not for the answer.
    async fn say(&self, message: &Message, word: &Word) {
        debug_assert!(word.is_confirmed(), "others are not sent again");
        let event = Event::new(message.reply().clone(), word.body());
        if let Err(error) = self.acks.enqueue(event).await {
            count(&self.counts.unconfirmed);
            tracing::debug!(kind = ?error.kind(), "an ack was not sent");
        }
    }
}
