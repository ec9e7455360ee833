//! Why a call did not succeed.

use std::error::Error;
use std::fmt;

use natstream_connect::CodecError;
use stream_proto::{Denied, LostCause, ProtocolError, Status, Termination};

/// Why a call did not succeed.
///
/// [`kind`](Self::kind) is for programs, the text for people.
#[derive(Debug)]
pub struct RequestError {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: RequestErrorKind,
    subject: String,
    items: u64,
    detail: Detail,
}

#[derive(Debug)]
enum Detail {
    None,
    Status(Status),
    Clock(Clock),
    Cause(LostCause),
    Denied(Denied),
    Protocol(ProtocolError),
    Text(String),
    Source(Box<dyn Error + Send + Sync>),
    Flaw(Flaw, Box<dyn Error + Send + Sync>),
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestErrorKind {
    /// The call was cancelled on this side.
    Cancelled,
    /// There is no connection, or it could not take the request.
    Connection,
    /// An item or a reply cannot be read as the type that was asked for; [`RequestError::items`] is its number, counted from 0.
    /// Others may follow it.
    Decode,
    /// The responder failed, after all items that came before; [`RequestError::status`] has its words.
    Failed,
    /// The request itself is wrong: its subject, a header, its size and so on; [`RequestError::flaw`] says what. Nothing was sent.
    InvalidRequest,
    /// The stream broke; the items before the break were delivered.
    Lost,
    /// nats-server does not let this user do what the call needs; [`RequestError::denied`] says what.
    NotPermitted,
    /// Nobody serves the subject. The request was certainly not processed.
    NoResponders,
    /// The responder broke the protocol, or does not speak it.
    Protocol,
    /// The responder did not take the call, and certainly did not process it; [`RequestError::status`] says why.
    Refused,
    /// A clock ran out; [`RequestError::clock`] says which.
    Timeout,
    /// No sign of a responder within 5 s. The handler may have run.
    Unanswered,
}

/// The clocks of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Clock {
    /// Waiting for the connection.
    Connect,
    /// The whole call.
    Deadline,
    /// Until the first item.
    FirstItem,
    /// Between two items.
    Idle,
    /// Waiting for other calls of the pool to end ([`PoolBuilder::max_in_flight`](crate::PoolBuilder::max_in_flight)).
    InFlight,
}

/// What is wrong with a request or a message that was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Flaw {
    /// The value cannot be encoded.
    Body,
    /// A header that cannot be sent.
    Header,
    /// The reply subject is not one that can be published to.
    ReplySubject,
    /// Settings that do not go together.
    Settings,
    /// The subject is not one that can be published to.
    Subject,
    /// It is larger than nats-server takes.
    #[non_exhaustive]
    TooLarge {
        /// Bytes of payload and headers.
        size: usize,
        /// The server's `max_payload`.
        max: usize,
    },
}

impl RequestError {
    fn new(kind: RequestErrorKind, subject: &str, items: u64, detail: Detail) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                subject: subject.to_owned(),
                items,
                detail,
            }),
        }
    }

    pub(crate) fn invalid(subject: &str, flaw: Flaw, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let detail = Detail::Flaw(flaw, source.into());
        Self::new(RequestErrorKind::InvalidRequest, subject, 0, detail)
    }

    pub(crate) fn connection(subject: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(RequestErrorKind::Connection, subject, 0, Detail::Source(source.into()))
    }

    pub(crate) fn closed(subject: &str, what: &str) -> Self {
        Self::new(RequestErrorKind::Connection, subject, 0, Detail::Text(what.to_owned()))
    }

    pub(crate) fn timeout(subject: &str, clock: Clock) -> Self {
        Self::new(RequestErrorKind::Timeout, subject, 0, Detail::Clock(clock))
    }

    /// An item, or the one reply, that is not what was asked for.
    pub(crate) fn decode(subject: &str, index: u64, error: CodecError) -> Self {
        let detail = Detail::Source(error.into());
        Self::new(RequestErrorKind::Decode, subject, index, detail)
    }

    /// An item that the user's limit does not allow for.
    pub(crate) fn too_much(subject: &str, items: u64, limit: usize) -> Self {
        let text = format!("the answer is larger than the limit of {limit} bytes");
        Self::new(RequestErrorKind::Cancelled, subject, items, Detail::Text(text))
    }

    /// The error for a verdict; `None` for success.
    pub(crate) fn from_termination(subject: &str, items: u64, termination: &Termination) -> Option<Self> {
        let (kind, detail) = match termination {
            Termination::Ended { .. } => return None,
            Termination::Cancelled => (RequestErrorKind::Cancelled, Detail::None),
            Termination::Failed(status) => (RequestErrorKind::Failed, Detail::Status(status.clone())),
            Termination::Refused(status) => (RequestErrorKind::Refused, Detail::Status(status.clone())),
            Termination::Lost { cause, .. } => (RequestErrorKind::Lost, Detail::Cause(*cause)),
            Termination::NoResponders => (RequestErrorKind::NoResponders, Detail::None),
            Termination::NotPermitted(denied) => (RequestErrorKind::NotPermitted, Detail::Denied(*denied)),
            Termination::Protocol(error) => (RequestErrorKind::Protocol, Detail::Protocol(*error)),
            Termination::TimedOut(clock) => (RequestErrorKind::Timeout, Detail::Clock((*clock).into())),
            Termination::Unanswered => (RequestErrorKind::Unanswered, Detail::None),
            other => (RequestErrorKind::Lost, Detail::Text(format!("{other:?}"))),
        };
        Some(Self::new(kind, subject, items, detail))
    }

    /// Did the answer exceed a limit of this side?
    pub(crate) fn is_too_much(&self) -> bool {
        // Whoever cancels says nothing.
        self.inner.kind == RequestErrorKind::Cancelled && matches!(self.inner.detail, Detail::Text(_))
    }

    /// The same error, after so many items.
    pub(crate) fn after(mut self, items: u64) -> Self {
        self.inner.items = items;
        self
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> RequestErrorKind {
        self.inner.kind
    }

    /// The responder's words, for `Failed` and `Refused`.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match &self.inner.detail {
            Detail::Status(status) => Some(status),
            _ => None,
        }
    }

    /// Which clock ran out, for `Timeout`.
    #[must_use]
    pub fn clock(&self) -> Option<Clock> {
        match self.inner.detail {
            Detail::Clock(clock) => Some(clock),
            _ => None,
        }
    }

    /// Why the stream was lost, for `Lost`.
    #[must_use]
    pub fn lost_cause(&self) -> Option<LostCause> {
        match self.inner.detail {
            Detail::Cause(cause) => Some(cause),
            _ => None,
        }
    }

    /// What this user may not do, for `NotPermitted`.
    #[must_use]
    pub fn denied(&self) -> Option<Denied> {
        match self.inner.detail {
            Detail::Denied(denied) => Some(denied),
            _ => None,
        }
    }

    /// What is wrong with the request, for `InvalidRequest`.
    #[must_use]
    pub fn flaw(&self) -> Option<Flaw> {
        match self.inner.detail {
            Detail::Flaw(flaw, _) => Some(flaw),
            _ => None,
        }
    }

    /// How many items had been received before.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.inner.items
    }

    /// The subject of the request.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.inner.subject
    }

    /// May asking again help, without a handler running twice for it?
    ///
    /// True when the request was certainly not processed, or the responder says so itself.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.inner.kind {
            RequestErrorKind::NoResponders | RequestErrorKind::Refused => true,
            RequestErrorKind::Failed => self.status().is_some_and(|status| status.retryable),
            // It was never sent.
            RequestErrorKind::Timeout => matches!(self.clock(), Some(Clock::Connect | Clock::InFlight)),
            _ => false,
        }
    }

    /// Did a clock run out?
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.inner.kind == RequestErrorKind::Timeout
    }

    /// Are these the responder's own words?
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self.inner.kind, RequestErrorKind::Failed | RequestErrorKind::Refused)
    }

    /// What a person can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.inner.kind {
            RequestErrorKind::NoResponders => Some("start a responder for this subject, or check its spelling"),
            RequestErrorKind::Unanswered => {
                Some("the handler may have run; repeat the call only if running it twice does no harm")
            }
            RequestErrorKind::Protocol => Some("the responder may not be a natstream server: another dialect may read it"),
            RequestErrorKind::Lost if self.lost_cause() == Some(LostCause::SingleResponse) => Some(
                "add `response_type: stream` to the export of the service, in the account that serves it: \
                 exports: [{service: \"...\", response_type: stream}]; if it is there, let the user that serves answer more \
                 than once: allow_responses: {max: -1, expires: \"24h\"}",
            ),
            RequestErrorKind::Lost if self.lost_cause() == Some(LostCause::Forgotten) => Some(
                "the responder has restarted, or may not send as much: its user needs allow_responses: {max: -1, expires: \"24h\"}",
            ),
            RequestErrorKind::Lost if self.lost_cause() == Some(LostCause::Overflow) => {
                Some("this dialect has no flow control: read faster, or allow more to wait")
            }
            RequestErrorKind::NotPermitted => self.denied().and_then(|denied| match denied {
                Denied::Control => Some(
                    "let this user publish to the control subjects of responders: publish: [\"_INBOX.>\", \"_R_.>\"], or \
                     allow_responses: {max: -1, expires: \"24h\"}",
                ),
                Denied::Inbox => Some(
                    "let this user subscribe to its inbox: subscribe: [\"_INBOX.>\"], or give the connection an inbox \
                     prefix that it may subscribe to",
                ),
                Denied::Request => Some("add the subject to what this user may publish to"),
                _ => None,
            }),
            _ => None,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            subject,
            items,
            detail,
        } = &*self.inner;
        match kind {
            RequestErrorKind::Cancelled => write!(f, "the call to `{subject}` was cancelled")?,
            RequestErrorKind::Connection => write!(f, "the request to `{subject}` could not be sent")?,
            RequestErrorKind::Decode => write!(f, "item {items} of the answer of `{subject}` cannot be decoded")?,
            RequestErrorKind::Failed => write!(f, "`{subject}` failed")?,
            RequestErrorKind::InvalidRequest => write!(f, "the request to `{subject}` is not valid")?,
            RequestErrorKind::Lost => write!(f, "the answer of `{subject}` was lost after {items} items")?,
            RequestErrorKind::NoResponders => write!(f, "nobody serves `{subject}`")?,
            RequestErrorKind::NotPermitted => write!(f, "the call to `{subject}` is not permitted")?,
            RequestErrorKind::Protocol => write!(f, "the answer of `{subject}` breaks the protocol")?,
            RequestErrorKind::Refused => write!(f, "`{subject}` refused the call")?,
            RequestErrorKind::Timeout => write!(f, "the call to `{subject}` timed out")?,
            RequestErrorKind::Unanswered => write!(f, "no answer from `{subject}` within 5 s")?,
        }
        match detail {
            Detail::None | Detail::Source(_) | Detail::Flaw(..) | Detail::Protocol(_) => Ok(()),
            Detail::Status(status) => write!(f, ": {status}"),
            Detail::Clock(clock) => write!(f, ": {clock}"),
            Detail::Cause(cause) => f.write_str(match cause {
                LostCause::Disconnected => ": the connection was closed, or down for too long",
                LostCause::Forgotten => ": the responder does not know the stream any more",
                LostCause::Gap => ": something is missing, and cannot be asked for without control",
                LostCause::Overflow => ": it was not read fast enough, and there is no flow control",
                LostCause::SingleResponse => {
                    ": nothing came after the first message; the export may allow for one response only"
                }
                LostCause::Gone => ": nobody has been subscribed to the responder's subject for 5 s",
                LostCause::MappingEnded => ": the mapping between the accounts has ended",
                LostCause::Silent => ": nothing was heard from the responder for three heartbeats",
                _ => "",
            }),
            Detail::Denied(denied) => f.write_str(match denied {
                Denied::Control => ": this user may not publish to the responder's control subject",
                Denied::Inbox => ": this user may not subscribe to the subjects that answers arrive at",
                Denied::Request => ": this user may not publish to it",
                _ => "",
            }),
            Detail::Text(text) => write!(f, ": {text}"),
        }
    }
}

impl Error for RequestError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.inner.detail {
            Detail::Source(source) | Detail::Flaw(_, source) => Some(&**source),
            Detail::Protocol(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "no connection in time",
            Self::Deadline => "the deadline passed",
            Self::FirstItem => "no first item in time",
            Self::Idle => "no further item in time",
            Self::InFlight => "too many calls were running",
        })
    }
}

impl From<stream_proto::Clock> for Clock {
    fn from(clock: stream_proto::Clock) -> Self {
        match clock {
            stream_proto::Clock::FirstItem => Self::FirstItem,
            stream_proto::Clock::Idle => Self::Idle,
            _ => Self::Deadline,
        }
    }
}
