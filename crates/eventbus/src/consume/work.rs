//! One attempt: the handler, and what follows from its result.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tracing::Instrument as _;

use super::acks::AckSender;
use super::counts::{Counts, count};
use super::dead_letter::dead_letter;
use super::error::HandlerError;
use super::message::Message;
use super::observed;
use super::reasons::{Failure, Reasons};
use super::word::Word;
use crate::bus::Bus;

/// A handler, without its types.
pub(super) type Handler = Box<dyn Fn(Message) -> BoxFuture<'static, Result<(), HandlerError>> + Send + Sync>;

/// How long a dead letter is tried, which keeps a handler's place: longer than an election takes. Then the message comes again.
const LETTER_DEADLINE: Duration = Duration::from_secs(10);

/// How long the ack of a message that may have ended the process is waited for.
const SUSPECT: Duration = Duration::from_secs(2);

/// What all attempts share.
pub(super) struct Work {
    pub(super) stream: String,
    pub(super) consumer: String,
    pub(super) acks: AckSender,
    pub(super) dead: Option<Arc<DeadLetters>>,
    /// How long one attempt may take.
    pub(super) limit: Option<Duration>,
    pub(super) counts: Arc<Counts>,
    /// One of those that may end the process was put aside.
    pub(super) has_judged: AtomicBool,
}

/// Where messages are put aside.
#[derive(Debug)]
pub(super) struct DeadLetters {
    pub(super) bus: Bus,
    pub(super) subject: String,
    /// After so many attempts.
    pub(super) attempts: u64,
    /// nats-server delivers a message so often; `None`: for ever.
    pub(super) most: Option<u64>,
    /// The stream keeps a message until it is acked.
    pub(super) acks_remove: bool,
    pub(super) reasons: Reasons,
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
    pub(super) async fn attempt(&self, handler: &Handler, message: &Message) -> Verdict {
        let is_suspect = self.is_suspect(message);
        if let Some(failure) = self.last_failure(message) {
            return self.settle(message, &failure, true).await;
        }
        // The call may panic as well as the future.
        let span = observed::handle(self, message);
        let handling = async { handler(message.clone()).await }.instrument(span.clone());
        let handled = AssertUnwindSafe(handling).catch_unwind();
        let outcome = match self.limit {
            None => handled.await,
            Some(limit) => match tokio::time::timeout(limit, handled).await {
                Ok(outcome) => outcome,
                Err(_) => Ok(Err(HandlerError::retry("the handler took too long"))),
            },
        };
        let error = match outcome {
            Ok(Ok(())) => {
                observed::verdict(span, None);
                // Whoever runs attempts kicks.
                self.acks.say_later(message.reply(), &Word::Ack);
                if is_suspect {
                    // The next one may end the process, and this one would be taken for it: nats-server knows better first.
                    let _ = self.acks.flush(SUSPECT).await;
                }
                count(&self.counts.handled);
                self.forget(message);
                return Verdict::Done;
            }
            Ok(Err(error)) => error,
            Err(panic) => HandlerError::retry(panic_reason(&*panic)),
        };
        count(&self.counts.failed);
        span.in_scope(|| {
            tracing::debug!(
                stream = self.stream,
                sequence = message.sequence(),
                attempt = message.attempt(),
                reason = error.reason(),
                "a message was not handled"
            );
        });
        observed::verdict(span, Some(error.is_final()));
        let failure = Failure {
            reason: error.reason().to_owned(),
            attempts: message.attempt(),
        };
        let is_due = error.is_final()
            || self
                .dead
                .as_ref()
                .is_some_and(|dead| message.attempt() >= dead.attempts);
        self.settle(message, &failure, is_due).await
    }

    /// Puts aside a message that nats-server delivers no more. False when that could not be done.
    pub(super) async fn bury_given_up(&self, message: &Message) -> bool {
        let Some(dead) = &self.dead else { return true };
        let failure = dead.reasons.of(message.sequence()).unwrap_or_else(|| Failure {
            reason: "nats-server has given it up: it was delivered as often as the consumer lets it".to_owned(),
            attempts: message.attempt(),
        });
        self.bury(dead, message, &failure, dead.acks_remove).await
    }

    /// Why the message is put aside without another attempt, if it is.
    pub(super) fn last_failure(&self, message: &Message) -> Option<Failure> {
        let dead = self.dead.as_ref().filter(|dead| message.attempt() > dead.attempts)?;
        if let Some(failure) = dead.reasons.of(message.sequence()) {
            // It could not be put aside.
            return Some(failure);
        }
        // Its handler may take the process with it each time. So may that of another message, which was here with it: hence
        // twice as often, and only one in each session. Suspects run one after the other in the order of the stream, when all
        // of them have come, so the first is the one that has ended the last process, and those behind it were not tried.
        let attempts = message.attempt() - 1;
        let is_due = attempts / 2 >= dead.attempts && !self.has_judged.swap(true, Ordering::Relaxed);
        is_due.then(|| Failure {
            reason: "none of its attempts has come to an end that was told".to_owned(),
            attempts,
        })
    }

    /// Was it delivered more often than it is tried, without a failure that was told?
    pub(super) fn is_suspect(&self, message: &Message) -> bool {
        let dead = self.dead.as_ref().filter(|dead| message.attempt() > dead.attempts);
        dead.is_some_and(|dead| dead.reasons.of(message.sequence()).is_none())
    }

    /// What becomes of a message that failed.
    pub(super) async fn settle(&self, message: &Message, failure: &Failure, is_due: bool) -> Verdict {
        let Some(dead) = &self.dead else {
            return Verdict::Again;
        };
        // Whoever puts it aside later has the reason.
        dead.reasons.keep(message.sequence(), &failure.reason, failure.attempts);
        if is_due && self.bury(dead, message, failure, true).await {
            Verdict::Done
        } else {
            Verdict::Again
        }
    }

    /// Puts the message aside: the stream of dead letters has it before nats-server forgets it.
    async fn bury(&self, dead: &DeadLetters, message: &Message, failure: &Failure, tells: bool) -> bool {
        let Failure { reason, attempts } = failure;
        let letter = dead_letter(&dead.subject, &self.stream, &self.consumer, message, *attempts, reason);
        let letter = letter.deadline(LETTER_DEADLINE);
        if let Err(failure) = dead.bus.publish(letter).await {
            tracing::warn!(
                sequence = message.sequence(),
                kind = ?failure.kind(),
                "a message could not be put aside, and is tried again"
            );
            return false;
        }
        if tells {
            let reason = reason.clone();
            self.acks.say(message.reply(), &Word::Term { reason });
        }
        count(&self.counts.dead);
        self.forget(message);
        true
    }

    pub(super) fn forget(&self, message: &Message) {
        if let Some(dead) = &self.dead {
            dead.reasons.forget(message.sequence());
        }
    }
}

/// What a panic said, where that can be read.
pub(super) fn panic_reason(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    match text {
        Some(text) => format!("the handler has panicked: {text}"),
        None => "the handler has panicked".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_says_why() {
        let number = 7;
        for (panic, expected) in [
            (
                std::panic::catch_unwind(|| panic!("plain")),
                "the handler has panicked: plain",
            ),
            (
                std::panic::catch_unwind(move || panic!("number {number}")),
                "the handler has panicked: number 7",
            ),
            (
                std::panic::catch_unwind(|| std::panic::panic_any(7_u8)),
                "the handler has panicked",
            ),
        ] {
            let panic = panic.expect_err("a panic");
            assert_eq!(panic_reason(&*panic), expected);
        }
    }
}
