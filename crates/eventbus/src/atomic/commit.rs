//! One batch, until it is known what became of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use natstream_connect::{random_u32, token};
use tokio::time::{Instant, sleep, timeout_at};

use super::attempt::{Attempt, Replies};
use super::batch::AtomicBatch;
use super::error::AtomicErrorKind;
use super::verdict::{At, Knowledge, Outcome, Verdict, overdue};
use super::{Shared, deadline, now};
use crate::nanos;
use crate::pause::pause;
use crate::reply::Refusal;

/// A batch that is being committed.
pub(super) struct Commit<'a> {
    shared: &'a Shared,
    batch: &'a AtomicBatch,
    due: Instant,
    /// The place of the event that gets an id which nobody else has, and the id.
    given: Option<(usize, String)>,
    knowledge: Knowledge,
    /// What the batch fails of unless the stream knows that id, and what asks for it.
    question: Option<(AtomicErrorKind, AtomicBatch)>,
    replies: Replies,
    /// Of the pauses.
    seed: u64,
    /// The last word of the stream on the batch.
    pub(super) refusal: Option<Refusal>,
    /// How often the batch was sent.
    pub(super) attempts: u32,
}

impl<'a> Commit<'a> {
    pub(super) fn new(shared: &'a Shared, batch: &'a AtomicBatch, due: Instant) -> Self {
        // One id is enough for the stream to know the batch. The last event's: it has all others if it has that one.
        let given = batch.last_without_id().filter(|_| shared.gives_ids);
        let given = given.map(|place| (place, token()));
        Self {
            shared,
            batch,
            due,
            knowledge: Knowledge {
                in_doubt: false,
                has_ids: batch.has_id(),
                has_proof: given.is_some(),
            },
            given,
            question: None,
            replies: Replies::Ends,
            seed: u64::from(random_u32()),
            refusal: None,
            attempts: 0,
        }
    }

    /// Tries until the batch is stored, and says where; or until it has failed, and says of what, and whether it may be stored
    /// all the same.
    pub(super) async fn run(&mut self) -> Result<Option<At>, (AtomicErrorKind, bool)> {
        for tries in 0.. {
            let verdict = if let Some((kind, question)) = &self.question {
                let outcome = self.attempt(question, None).await;
                Knowledge::answered(&outcome, *kind)
            } else {
                let outcome = self.attempt(self.batch, self.given.as_ref()).await;
                self.attempts += 1;
                let verdict = self.knowledge.judge(&outcome);
                if let Outcome::Refused(refusal) = outcome {
                    if refusal.is_incomplete() {
                        self.replies = Replies::All;
                    }
                    self.refusal = Some(refusal);
                }
                verdict
            };
            match verdict {
                Verdict::Stored { at } => return Ok(at),
                Verdict::Failed { kind, may_be_stored } => return Err((kind, may_be_stored)),
                Verdict::Ask { kind } => self.question = self.ask(kind),
                Verdict::Again => {}
            }
            let first = nanos(self.shared.tries.first_pause);
            let longest = nanos(self.shared.tries.longest_pause);
            let pause = Duration::from_nanos(pause(first, longest, tries, &mut self.seed));
            if now() + pause >= self.due {
                break;
            }
            sleep(pause).await;
        }
        let kind = match &self.question {
            Some((kind, _)) => *kind,
            None => overdue(self.refusal.as_ref()),
        };
        Err((kind, self.knowledge.in_doubt))
    }

    /// A batch that is never stored, and refused as a duplicate when the stream knows the id that was given.
    fn ask(&self, kind: AtomicErrorKind) -> Option<(AtomicErrorKind, AtomicBatch)> {
        let (place, id) = self.given.as_ref()?;
        let subject = &self.batch.events().get(*place)?.subject;
        Some((kind, AtomicBatch::question(subject, id)))
    }

    async fn attempt(&self, batch: &AtomicBatch, given: Option<&(usize, String)>) -> Outcome {
        let shared = self.shared;
        let is_permitted = shared.has_stored.load(Ordering::Relaxed);
        let (attempt, mut outcome) = Attempt::new(token(), batch, self.replies, is_permitted);
        let route = shared.router.add(attempt.clone());
        if shared.router.is_denied() {
            return Outcome::Denied { may_be_stored: false };
        }
        let mut state = shared.connection.state();
        let subject = route.subject();
        let given = given.map(|(place, id)| (*place, &**id));
        let send = async {
            // What waits inside of the client while there is no connection would come late.
            if state.wait_for(|state| state.is_connected()).await.is_err() {
                return Err(Outcome::Closed { may_be_stored: false });
            }
            attempt.send(shared.connection.driver(), &subject, batch, given).await
        };
        let work = async {
            let sent = tokio::select! {
                biased;
                early = &mut outcome => return early.unwrap_or(Outcome::Unanswered),
                sent = send => sent,
            };
            if let Err(unsent) = sent {
                return unsent;
            }
            let answered = timeout_at(deadline(shared.tries.answer), &mut outcome).await;
            answered.ok().and_then(Result::ok).unwrap_or(Outcome::Unanswered)
        };
        match timeout_at(self.due, work).await {
            Ok(outcome) => outcome,
            Err(_) => attempt.overdue(),
        }
    }
}
