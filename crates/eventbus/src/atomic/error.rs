//! Why a batch was not committed.

use std::error::Error;
use std::fmt;

use super::batch::AtomicBatch;
use crate::event::Flaw;
use crate::reply::Refusal;

/// A batch that was not committed: the batch itself, and why.
///
/// [`kind`](Self::kind) is for programs, the text for people. What matters for committing it again is
/// [`may_be_stored`](Self::may_be_stored); it is true of the whole batch or of none of it.
#[derive(Clone, Debug)]
pub struct AtomicError {
    inner: Box<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    batch: AtomicBatch,
    kind: AtomicErrorKind,
    place: Option<usize>,
    flaw: Option<Flaw>,
    refusal: Option<Refusal>,
    attempts: u32,
    may_be_stored: bool,
}

/// Why a batch was not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AtomicErrorKind {
    /// The connection was closed.
    Closed,
    /// The stream has an event with the id of one of the batch, or two of the batch have the same: one is enough to refuse all.
    DuplicateId,
    /// The batch has no events.
    Empty,
    /// An event is wrong: [`AtomicError::place`] says which, [`AtomicError::flaw`] what. Nothing was sent.
    Invalid,
    /// No stream took the batch until the deadline.
    NoResponders,
    /// nats-server does not let this user publish to a subject of the batch, or receive the answer.
    NotPermitted,
    /// The stream refused it for good; [`AtomicError::refusal`] has its words.
    Rejected,
    /// The stream is full, and was made to refuse what is new.
    StreamFull,
    /// It was not committed until its deadline; [`AtomicError::refusal`] is the last word that was heard.
    Timeout,
    /// An event is larger than nats-server or the stream takes.
    TooLarge,
    /// The stream, or this bus, had as many batches under way as it takes, until the deadline.
    TooManyBatches,
    /// The batch has more than 1000 events, or more than nats-server is configured to take.
    TooManyEvents,
    /// The commit was sent, nobody knows what became of it, and without an id it cannot be sent again:
    /// [`Dedup::Off`](crate::Dedup::Off).
    Unknown,
    /// The last sequence of the stream, or of a subject, is not what an event expects.
    WrongLast,
}

impl AtomicErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::Closed => "the connection was closed before an atomic batch was committed",
            Self::DuplicateId => "an id of an atomic batch is not new",
            Self::Empty => "an atomic batch is empty",
            Self::Invalid => "an event of an atomic batch cannot be sent",
            Self::NoResponders => "no stream takes an atomic batch",
            Self::NotPermitted => {
                "nats-server does not permit this user to publish an atomic batch, or to receive its ack"
            }
            Self::Rejected => "the stream refuses an atomic batch",
            Self::StreamFull => "the stream of an atomic batch is full",
            Self::Timeout => "an atomic batch was not committed until its deadline",
            Self::TooLarge => "an event of an atomic batch is too large",
            Self::TooManyBatches => "too many atomic batches are under way",
            Self::TooManyEvents => "an atomic batch has too many events",
            Self::Unknown => "nobody knows what became of an atomic batch, and without an id it cannot be sent again",
            Self::WrongLast => "a last sequence is not what an event of an atomic batch expects",
        }
    }
}

impl AtomicError {
    pub(super) fn new(batch: AtomicBatch, kind: AtomicErrorKind) -> Self {
        Self {
            inner: Box::new(Inner {
                batch,
                kind,
                place: None,
                flaw: None,
                refusal: None,
                attempts: 0,
                may_be_stored: false,
            }),
        }
    }

    /// The event at this place is the reason.
    pub(super) fn at(mut self, place: usize, flaw: Option<Flaw>) -> Self {
        self.inner.place = Some(place);
        self.inner.flaw = flaw;
        self
    }

    pub(super) fn after(mut self, attempts: u32, may_be_stored: bool, refusal: Option<Refusal>) -> Self {
        self.inner.attempts = attempts;
        self.inner.may_be_stored = may_be_stored;
        self.inner.refusal = refusal;
        self
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> AtomicErrorKind {
        self.inner.kind
    }

    /// The batch, with all its events.
    pub fn batch(&self) -> &AtomicBatch {
        &self.inner.batch
    }

    /// The batch, to be committed again or kept elsewhere.
    pub fn into_batch(self) -> AtomicBatch {
        self.inner.batch
    }

    /// May the stream have all of it all the same? A commit was not answered then. False is certain: it has none of it.
    #[must_use]
    pub fn may_be_stored(&self) -> bool {
        self.inner.may_be_stored
    }

    /// How often it was sent.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.inner.attempts
    }

    /// The place in the batch of the event that is the reason, if it is one and known.
    #[must_use]
    pub fn place(&self) -> Option<usize> {
        self.inner.place
    }

    /// What is wrong with that event.
    #[must_use]
    pub fn flaw(&self) -> Option<&Flaw> {
        self.inner.flaw.as_ref()
    }

    /// What the stream, or nats-server in its place, said last.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.inner.refusal.as_ref()
    }
}

impl fmt::Display for AtomicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            batch,
            kind,
            place,
            refusal,
            attempts,
            may_be_stored,
            ..
        } = &*self.inner;
        write!(f, "{} ({} events", kind.text(), batch.len())?;
        if let Some(place) = place {
            write!(f, ", number {place} of them")?;
        }
        if *attempts > 0 {
            write!(f, ", {attempts} attempts")?;
        }
        if *may_be_stored {
            f.write_str(", they may be stored")?;
        }
        f.write_str(")")?;
        if let Some(refusal) = refusal {
            write!(f, ": {} {} ({})", refusal.code, refusal.description, refusal.err_code)?;
        }
        Ok(())
    }
}

impl Error for AtomicError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.flaw.as_ref().map(|flaw| flaw as _)
    }
}
