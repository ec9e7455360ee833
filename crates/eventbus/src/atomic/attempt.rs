//! One attempt to commit a batch: its messages, and whoever hears the answers.

use std::sync::Arc;

use async_nats::client::PublishErrorKind as NatsErrorKind;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::message::OutboundMessage;
use async_nats::subject::Subject;
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use natstream_connect::{Arrival, Denials, Driver, Route, TrySendError};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::batch::AtomicBatch;
use super::error::AtomicErrorKind;
use super::verdict::{At, Outcome};
use crate::event::Event;
use crate::reply::{self, Refusal, Reply};

const BATCH_ID: HeaderName = HeaderName::from_static("Nats-Batch-Id");
const BATCH_SEQUENCE: HeaderName = HeaderName::from_static("Nats-Batch-Sequence");
const BATCH_COMMIT: HeaderName = HeaderName::from_static("Nats-Batch-Commit");

/// What these headers add to a message at most, with an id of 22 letters.
pub(super) const HEADERS_LEN: usize = 128;

/// What the answers to the last message, and to those before it, are sent to behind the route.
const COMMIT: &str = "commit";
const BEFORE: &str = "before";

/// Which messages of a batch nats-server answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replies {
    /// The first and the last. What it refuses of those between, it drops without a word, and the commit is incomplete.
    Ends,
    /// Each, so that it says why it refuses one.
    All,
}

/// The attempt, as its answers see it.
pub(super) struct Attempt {
    /// Nobody else's.
    id: String,
    replies: Replies,
    subjects: Vec<Subject>,
    /// Something of this bus was stored before: a refusal by permission may be meant for another message.
    is_permitted: bool,
    state: Mutex<State>,
}

struct State {
    outcome: Option<oneshot::Sender<Outcome>>,
    /// The commit was handed to the connection, or is about to be.
    is_committed: bool,
}

impl Attempt {
    pub(super) fn new(
        id: String,
        batch: &AtomicBatch,
        replies: Replies,
        is_permitted: bool,
    ) -> (Arc<Self>, oneshot::Receiver<Outcome>) {
        let (sender, outcome) = oneshot::channel();
        let mut subjects: Vec<Subject> = batch.events().iter().map(|event| event.subject.clone()).collect();
        subjects.dedup();
        let attempt = Self {
            id,
            replies,
            subjects,
            is_permitted,
            state: Mutex::new(State {
                outcome: Some(sender),
                is_committed: false,
            }),
        };
        (Arc::new(attempt), outcome)
    }

    /// Hands all messages to the connection, as fast as it takes them. `given`: the place of the event that gets this id.
    pub(super) async fn send(
        &self,
        driver: &Driver,
        route: &Subject,
        batch: &AtomicBatch,
        given: Option<(usize, &str)>,
    ) -> Result<(), Outcome> {
        let last = batch.len() - 1;
        for (place, event) in batch.events().iter().enumerate() {
            if place == last {
                self.state.lock().is_committed = true;
            }
            let id = given.filter(|(which, _)| *which == place).map(|(_, id)| id);
            let reply = match place {
                _ if place == last => Some(COMMIT),
                0 => Some(BEFORE),
                _ => (self.replies == Replies::All).then_some(BEFORE),
            };
            let message = OutboundMessage {
                subject: event.subject.clone(),
                reply: reply.map(|end| Subject::from(format!("{route}.{end}"))),
                payload: event.payload.clone(),
                headers: Some(self.headers(event, place, place == last, id)),
            };
            loop {
                if !driver.ready().await {
                    return Err(Outcome::Closed { may_be_stored: false });
                }
                match driver.try_send(message.clone()) {
                    Ok(()) => break,
                    Err(TrySendError::Busy) => {}
                    Err(TrySendError::Failed(error)) if error.kind() == NatsErrorKind::MaxPayloadExceeded => {
                        // It may be smaller since a reconnect.
                        return Err(Outcome::Unsendable(AtomicErrorKind::TooLarge));
                    }
                    Err(_) => return Err(Outcome::Unsendable(AtomicErrorKind::Closed)),
                }
            }
        }
        Ok(())
    }

    fn headers(&self, event: &Event, place: usize, is_last: bool, id: Option<&str>) -> HeaderMap {
        let mut headers = event.headers().cloned().unwrap_or_default();
        headers.insert(BATCH_ID, HeaderValue::from(self.id.clone()));
        headers.insert(BATCH_SEQUENCE, HeaderValue::from(place as u64 + 1));
        if is_last {
            headers.insert(BATCH_COMMIT, HeaderValue::from(1_u64));
        }
        if let Some(id) = id {
            headers.insert(NATS_MESSAGE_ID, HeaderValue::from(id.to_owned()));
        }
        headers
    }

    /// The deadline has come before any answer.
    pub(super) fn overdue(&self) -> Outcome {
        if self.state.lock().is_committed {
            Outcome::Unanswered
        } else {
            Outcome::Unsent
        }
    }

    fn end(&self, outcome: impl FnOnce(bool) -> Outcome) {
        let mut state = self.state.lock();
        let is_committed = state.is_committed;
        if let Some(waits) = state.outcome.take() {
            // Whoever waited may have gone.
            let _ = waits.send(outcome(is_committed));
        }
    }

    /// What an answer says, if it is one.
    fn read(&self, rest: &str, payload: &[u8]) -> Option<Outcome> {
        // A message before the last is there.
        if rest == BEFORE && payload.is_empty() {
            return None;
        }
        #[derive(Deserialize)]
        struct Committed {
            batch: Option<String>,
            count: Option<usize>,
        }
        match reply::read(payload)? {
            Reply::Refused(refusal) => Some(Outcome::Refused(refusal)),
            Reply::Stored(stored) => {
                let committed: Committed = serde_json::from_slice(payload).ok()?;
                let is_ours = rest == COMMIT && committed.batch.as_deref() == Some(&*self.id);
                Some(if is_ours && committed.count.is_some() {
                    Outcome::Stored(At {
                        stream: stored.stream.into(),
                        sequence: stored.sequence,
                    })
                } else {
                    Outcome::Foreign
                })
            }
        }
    }
}

impl Route for Attempt {
    fn deliver(self: Arc<Self>, arrival: Arrival<'_>) {
        let message = &arrival.message;
        let is_nobody = message.status == Some(async_nats::StatusCode::NO_RESPONDERS) && message.payload.is_empty();
        let outcome = if is_nobody {
            // Of any message: without one, the stream takes no commit.
            Some(Outcome::Refused(Refusal::no_responders()))
        } else {
            self.read(arrival.rest, &message.payload)
        };
        if let Some(outcome) = outcome {
            self.end(|_| outcome);
        }
    }

    fn connection_changed(self: Arc<Self>, is_up: bool) {
        if !is_up {
            self.end(|is_committed| {
                if is_committed {
                    Outcome::Unanswered
                } else {
                    Outcome::Unsent
                }
            });
        }
    }

    fn denied(self: Arc<Self>, denied: &Denials) {
        if denied.inbox() {
            self.end(|may_be_stored| Outcome::Denied { may_be_stored });
        } else if self.subjects.iter().any(|subject| denied.publish(subject)) {
            let is_permitted = self.is_permitted;
            self.end(|is_committed| Outcome::Denied {
                may_be_stored: is_committed && is_permitted,
            });
        }
    }

    fn ended(self: Arc<Self>) {
        self.end(|may_be_stored| Outcome::Closed { may_be_stored });
    }
}
