//! What an attempt proves, without I/O.

use std::sync::Arc;

use super::error::AtomicErrorKind;
use crate::reply::{Meaning, Refusal};

/// Which stream has a batch, and under which number its last event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) stream: Arc<str>,
    pub(super) sequence: u64,
}

/// What became of one attempt to commit a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Stored(At),
    Refused(Refusal),
    /// It did not get as far as its commit.
    Unsent,
    /// The connection does not take a message of it.
    Unsendable(AtomicErrorKind),
    /// The commit was sent, and not answered.
    Unanswered,
    /// The answer is that of a server which knows no atomic batches: it took the events as any others.
    Foreign,
    /// nats-server forbids a subject, or the answer.
    Denied {
        may_be_stored: bool,
    },
    Closed {
        may_be_stored: bool,
    },
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// `None`: its own answer was lost.
    Stored {
        at: Option<At>,
    },
    /// Once more, after a pause.
    Again,
    /// The stream refuses a copy of what it may have. It fails of this, unless the stream knows the id that proves it.
    Ask {
        kind: AtomicErrorKind,
    },
    Failed {
        kind: AtomicErrorKind,
        may_be_stored: bool,
    },
}

/// What is known of a batch before an attempt ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Knowledge {
    /// A former attempt may have been stored.
    pub(super) in_doubt: bool,
    /// Events have ids of their own, which others may have given too.
    pub(super) has_ids: bool,
    /// An event has an id that was never given to another one.
    pub(super) has_proof: bool,
}

/// Numbers of nats-server (`server/errors.json`).
mod err_code {
    pub(super) const INCOMPLETE: u16 = 10176;
    pub(super) const TOO_LARGE: u16 = 10199;
    pub(super) const DUPLICATE: u16 = 10201;
    pub(super) const STORE_FAILED: u16 = 10077;
    pub(super) const TOO_MANY: u16 = 10210;
}

impl Refusal {
    /// Did the stream not have all of a batch at its commit?
    pub(super) fn is_incomplete(&self) -> bool {
        self.err_code == err_code::INCOMPLETE
    }
}

impl Knowledge {
    /// Takes in what became of an attempt.
    pub(super) fn judge(&mut self, outcome: &Outcome) -> Verdict {
        let failed = |kind, may_be_stored| Verdict::Failed { kind, may_be_stored };
        match outcome {
            Outcome::Stored(at) => Verdict::Stored { at: Some(at.clone()) },
            Outcome::Refused(refusal) => self.refused(refusal),
            Outcome::Unsent => Verdict::Again,
            Outcome::Unsendable(kind) => failed(*kind, self.in_doubt),
            Outcome::Unanswered => self.doubt(),
            Outcome::Foreign => failed(AtomicErrorKind::Unknown, true),
            Outcome::Denied { may_be_stored } => failed(AtomicErrorKind::NotPermitted, self.in_doubt || *may_be_stored),
            Outcome::Closed { may_be_stored } => failed(AtomicErrorKind::Closed, self.in_doubt || *may_be_stored),
        }
    }

    fn refused(&mut self, refusal: &Refusal) -> Verdict {
        let kind = match (refusal.err_code, refusal.meaning()) {
            // The id of nobody else: it was this batch, and all of it.
            (err_code::DUPLICATE, _) if self.in_doubt && self.has_proof && !self.has_ids => {
                return Verdict::Stored { at: None };
            }
            (err_code::DUPLICATE, _) => AtomicErrorKind::DuplicateId,
            // A message was lost on the way, or a leader with what it had of the batch.
            _ if refusal.is_incomplete() => return Verdict::Again,
            (err_code::TOO_LARGE, _) => AtomicErrorKind::TooManyEvents,
            (_, Meaning::Full) => AtomicErrorKind::StreamFull,
            // A disk that fails in the middle of a commit, which a restart may complete.
            (err_code::STORE_FAILED, _) => return self.doubt(),
            (_, Meaning::Later | Meaning::InProcess) => return Verdict::Again,
            (_, Meaning::Never) => AtomicErrorKind::Rejected,
            (_, Meaning::TooLarge) => AtomicErrorKind::TooLarge,
            (_, Meaning::WrongLast) => AtomicErrorKind::WrongLast,
        };
        // nats-server looks at events one by one: its own copy may be in the way of one before that with the id.
        if self.in_doubt && self.has_proof {
            return Verdict::Ask { kind };
        }
        Verdict::Failed {
            kind,
            may_be_stored: self.in_doubt,
        }
    }

    /// What follows when the stream was [asked](Verdict::Ask).
    ///
    /// Only its yes is a proof: a copy that was thought lost may still be on its way through the cluster.
    pub(super) fn answered(outcome: &Outcome, kind: AtomicErrorKind) -> Verdict {
        match outcome {
            Outcome::Refused(refusal) if refusal.err_code == err_code::DUPLICATE => Verdict::Stored { at: None },
            Outcome::Refused(refusal)
                if refusal.is_incomplete() || matches!(refusal.meaning(), Meaning::Later | Meaning::InProcess) =>
            {
                Verdict::Again
            }
            Outcome::Unsent | Outcome::Unanswered => Verdict::Again,
            _ => Verdict::Failed {
                kind,
                may_be_stored: true,
            },
        }
    }

    fn doubt(&mut self) -> Verdict {
        self.in_doubt = true;
        if self.has_ids || self.has_proof {
            Verdict::Again
        } else {
            Verdict::Failed {
                kind: AtomicErrorKind::Unknown,
                may_be_stored: true,
            }
        }
    }
}

/// What a batch that was not committed by its deadline has failed of.
pub(super) fn overdue(refusal: Option<&Refusal>) -> AtomicErrorKind {
    match refusal {
        Some(refusal) if refusal.is_no_responders() => AtomicErrorKind::NoResponders,
        Some(refusal) if refusal.err_code == err_code::TOO_MANY => AtomicErrorKind::TooManyBatches,
        _ => AtomicErrorKind::Timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, err_code: u16, description: &str) -> Outcome {
        Outcome::Refused(Refusal {
            code,
            err_code,
            description: description.to_owned(),
        })
    }

    const CERTAIN: Knowledge = Knowledge {
        in_doubt: false,
        has_ids: false,
        has_proof: true,
    };

    #[test]
    fn what_may_go_better_goes_again_and_leaves_no_doubt() {
        for outcome in [
            refused(400, 10176, "incomplete"),
            refused(429, 10210, "too many inflight"),
            refused(429, 10167, "too many requests"),
            refused(409, 10158, "in process"),
            Outcome::Refused(Refusal::no_responders()),
            Outcome::Unsent,
        ] {
            let mut knowledge = CERTAIN;
            assert_eq!(knowledge.judge(&outcome), Verdict::Again, "{outcome:?}");
            assert_eq!(knowledge, CERTAIN, "{outcome:?}");
        }
    }

    #[test]
    fn what_cannot_go_better_fails_for_certain() {
        for (outcome, kind) in [
            (refused(400, 10174, "disabled"), AtomicErrorKind::Rejected),
            (refused(400, 10199, "too large"), AtomicErrorKind::TooManyEvents),
            (refused(400, 10201, "duplicate"), AtomicErrorKind::DuplicateId),
            (
                refused(400, 10071, "wrong last sequence: 5"),
                AtomicErrorKind::WrongLast,
            ),
            (refused(400, 10054, "message size"), AtomicErrorKind::TooLarge),
            (
                refused(503, 10077, "maximum messages exceeded"),
                AtomicErrorKind::StreamFull,
            ),
        ] {
            let may_be_stored = false;
            let verdict = CERTAIN.clone().judge(&outcome);
            assert_eq!(verdict, Verdict::Failed { kind, may_be_stored }, "{outcome:?}");
        }
    }

    #[test]
    fn a_commit_without_an_answer_is_in_doubt_until_an_id_proves_it() {
        let duplicate = refused(400, 10201, "duplicate");
        for outcome in [Outcome::Unanswered, refused(503, 10077, "no space left on device")] {
            // Its own id.
            let mut knowledge = CERTAIN;
            assert_eq!(knowledge.judge(&outcome), Verdict::Again);
            assert_eq!(knowledge.judge(&duplicate), Verdict::Stored { at: None });
            // Ids that others may have given too: not stored twice, and nothing is proven.
            let mut knowledge = Knowledge {
                has_ids: true,
                ..Knowledge::default()
            };
            assert_eq!(knowledge.judge(&outcome), Verdict::Again);
            let kind = AtomicErrorKind::DuplicateId;
            let may_be_stored = true;
            assert_eq!(knowledge.judge(&duplicate), Verdict::Failed { kind, may_be_stored });
            // Both: which of them the stream knows, it does not say.
            let mut knowledge = Knowledge {
                has_ids: true,
                ..CERTAIN
            };
            assert_eq!(knowledge.judge(&outcome), Verdict::Again);
            assert_eq!(knowledge.judge(&duplicate), Verdict::Ask { kind });
            // None.
            let mut knowledge = Knowledge::default();
            let kind = AtomicErrorKind::Unknown;
            assert_eq!(knowledge.judge(&outcome), Verdict::Failed { kind, may_be_stored });
        }
    }

    #[test]
    fn after_a_doubt_any_refusal_is_a_reason_to_ask_for_the_id() {
        for (refusal, kind) in [
            (
                refused(400, 10071, "wrong last sequence: 5"),
                AtomicErrorKind::WrongLast,
            ),
            (
                refused(503, 10077, "maximum messages exceeded"),
                AtomicErrorKind::StreamFull,
            ),
            (refused(400, 10174, "disabled"), AtomicErrorKind::Rejected),
        ] {
            let mut knowledge = CERTAIN;
            knowledge.judge(&Outcome::Unanswered);
            assert_eq!(knowledge.judge(&refusal), Verdict::Ask { kind });
        }
    }

    #[test]
    fn only_yes_is_an_answer_that_proves() {
        let kind = AtomicErrorKind::WrongLast;
        let failed = Verdict::Failed {
            kind,
            may_be_stored: true,
        };
        let closed = Outcome::Closed { may_be_stored: false };
        for (outcome, verdict) in [
            (refused(400, 10201, "duplicate"), Verdict::Stored { at: None }),
            (refused(400, 10060, "expected stream does not match"), failed.clone()),
            (refused(400, 10174, "disabled"), failed.clone()),
            (closed, failed),
            (refused(400, 10176, "incomplete"), Verdict::Again),
            (refused(409, 10158, "in process"), Verdict::Again),
            (refused(429, 10210, "too many inflight"), Verdict::Again),
            (Outcome::Unanswered, Verdict::Again),
            (Outcome::Unsent, Verdict::Again),
        ] {
            assert_eq!(Knowledge::answered(&outcome, kind), verdict, "{outcome:?}");
        }
    }
}
