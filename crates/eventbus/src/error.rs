//! Why an event was not published.

use std::error::Error;
use std::fmt;

use crate::event::{Event, Flaw};
use crate::grant::BatchMode;
use crate::reply::Refusal;
use crate::topology::{Durability, TopologyError};

/// An event that was not delivered: the event itself, and why.
///
/// [`kind`](Self::kind) is for programs, the text for people. What matters for sending it again is
/// [`may_be_stored`](Self::may_be_stored).
#[derive(Clone, Debug)]
pub struct PublishError {
    inner: Box<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    event: Event,
    kind: PublishErrorKind,
    attempts: u32,
    may_be_stored: bool,
    refusal: Option<Refusal>,
    flaw: Option<Flaw>,
}

/// Why an event was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PublishErrorKind {
    /// The bus or its connection was closed before the event was acked.
    Closed,
    /// The event itself is wrong: its subject, a header, its id; [`PublishError::flaw`] says what. Nothing was sent.
    Invalid,
    /// No stream took the subject until the deadline.
    NoResponders,
    /// nats-server does not let this user publish to the subject, or receive acks.
    NotPermitted,
    /// The stream refused it for good; [`PublishError::refusal`] has its words.
    Rejected,
    /// The stream is full, and was made to refuse what is new.
    StreamFull,
    /// It was not acked until its deadline; [`PublishError::refusal`] is the last word that was heard.
    Timeout,
    /// It is larger than nats-server or the stream takes.
    TooLarge,
    /// It was sent, nobody knows what became of it, and without an id it cannot be sent again: [`Dedup::Off`](crate::Dedup::Off).
    Unknown,
    /// The stream's last sequence or id is not what the event expects.
    WrongLast,
}

impl PublishErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::Closed => "the bus or its connection was closed before an event was acked",
            Self::Invalid => "an event cannot be sent",
            Self::NoResponders => "no stream takes the subject of an event",
            Self::NotPermitted => "nats-server does not permit this user to publish an event, or to receive its ack",
            Self::Rejected => "the stream refuses an event",
            Self::StreamFull => "the stream of an event is full",
            Self::Timeout => "an event was not acked until its deadline",
            Self::TooLarge => "an event is too large",
            Self::Unknown => "nobody knows what became of an event, and without an id it cannot be sent again",
            Self::WrongLast => "the stream's last sequence or id is not what an event expects",
        }
    }
}

impl PublishError {
    pub(crate) fn new(event: Event, kind: PublishErrorKind, attempts: u32, may_be_stored: bool) -> Self {
        Self {
            inner: Box::new(Inner {
                event,
                kind,
                attempts,
                may_be_stored,
                refusal: None,
                flaw: None,
            }),
        }
    }

    /// One that was never accepted.
    pub(crate) fn unsent(event: Event, kind: PublishErrorKind) -> Self {
        Self::new(event, kind, 0, false)
    }

    pub(crate) fn invalid(event: Event, flaw: Flaw) -> Self {
        let mut error = Self::unsent(event, PublishErrorKind::Invalid);
        error.inner.flaw = Some(flaw);
        error
    }

    pub(crate) fn with_refusal(mut self, refusal: Option<Refusal>) -> Self {
        self.inner.refusal = refusal;
        self
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> PublishErrorKind {
        self.inner.kind
    }

    /// The event.
    pub fn event(&self) -> &Event {
        &self.inner.event
    }

    /// The event, to be sent again or kept elsewhere.
    pub fn into_event(self) -> Event {
        self.inner.event
    }

    /// How often it was handed to the connection.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.inner.attempts
    }

    /// May the stream have it all the same? An attempt was not answered then. False is certain.
    #[must_use]
    pub fn may_be_stored(&self) -> bool {
        self.inner.may_be_stored
    }

    /// What the stream, or nats-server in its place, said last.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.inner.refusal.as_ref()
    }

    /// What is wrong with the event, if that is it.
    #[must_use]
    pub fn flaw(&self) -> Option<&Flaw> {
        self.inner.flaw.as_ref()
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            event,
            kind,
            attempts,
            may_be_stored,
            refusal,
            ..
        } = &*self.inner;
        write!(f, "{} (`{}`", kind.text(), event.subject())?;
        if *attempts > 0 {
            write!(f, ", {attempts} attempts")?;
        }
        if *may_be_stored {
            f.write_str(", it may be stored")?;
        }
        f.write_str(")")?;
        if let Some(refusal) = refusal {
            write!(f, ": {} {}", refusal.code, refusal.description)?;
            if refusal.err_code != 0 {
                write!(f, " ({})", refusal.err_code)?;
            }
        }
        Ok(())
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.flaw.as_ref().map(|flaw| flaw as _)
    }
}

/// Why [`try_enqueue`](crate::Bus::try_enqueue) did not take an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TryEnqueueError {
    /// The window is full at the moment, or others wait for it. The event comes back.
    #[error("the window is full")]
    Full(Event),
    /// The event cannot be published at all.
    #[error(transparent)]
    Failed(PublishError),
}

/// Why a bus could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An ack of the stream is worth less than was [required](crate::BusBuilder::require_stream).
    #[error("an ack of the stream is worth less than was required: {}", weaknesses(.0))]
    NotDurable(Durability),
    /// The nats-server that this connection is with is too old for such batches.
    #[error("{mode} need nats-server {}, and this is {version}", mode.needs())]
    #[non_exhaustive]
    TooOld {
        /// What was asked for.
        mode: BatchMode,
        /// The server's version.
        version: String,
    },
    /// The stream does not allow such batches.
    #[error("the stream `{stream}` does not take {mode}; to let it: {remedy}")]
    #[non_exhaustive]
    NotAllowed {
        /// What was asked for.
        mode: BatchMode,
        /// The stream.
        stream: String,
        /// The command that lets it.
        remedy: String,
    },
    /// The stream acks nothing (`no_ack`), so that nobody would ever know what became of an event.
    #[error("the stream `{stream}` acks nothing")]
    #[non_exhaustive]
    NoAcks {
        /// The stream.
        stream: String,
    },
    /// The stream could not be looked at.
    #[error("the stream could not be looked at")]
    Stream(#[from] TopologyError),
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
    /// A setting cannot work.
    #[error("`{setting}` {problem}")]
    #[non_exhaustive]
    InvalidSetting {
        /// The builder's method.
        setting: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

fn weaknesses(durability: &Durability) -> String {
    let all: Vec<String> = durability.weaknesses.iter().map(ToString::to_string).collect();
    all.join(", ")
}

/// What [`flush`](crate::Bus::flush) and [`close`](crate::Bus::close) could not deliver.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Undelivered {
    /// Events that have failed since the last flush.
    pub failed: u64,
    /// Events that were accepted before the flush and are neither acked nor failed yet. The bus goes on with them; after a
    /// close there are none.
    pub pending: u64,
    /// The events that a close has given up, in the order in which they were accepted. They are among `failed`.
    pub given_up: Vec<PublishError>,
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { failed, pending, .. } = self;
        write!(f, "{failed} events have failed and {pending} are pending")
    }
}

impl Error for Undelivered {}
