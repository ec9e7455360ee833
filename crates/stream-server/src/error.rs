//! Errors of handlers, of sending, and of serving.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use natstream_connect::{SubscriberError, SubscriberErrorKind};
use stream_proto::{CloseReason, Code, Status};

/// How a handler says that it failed. The caller gets the code, the message and the details.
///
/// The handlers of a bus have another type of this name: `eventbus::HandlerError` says whether a message is tried again.
///
/// There is no conversion from any error: what the caller may see of an error is a choice. `?` works on
/// [`SendError`], since the caller that a send fails for has gone. A handler that is a caller itself passes the failure behind
/// it on with [`upstream`](Self::upstream).
#[derive(Clone, Debug)]
pub struct HandlerError {
    status: Box<Status>,
}

impl HandlerError {
    /// A failure with a code and a message for the caller: a text, or whatever else can be shown, such as an error.
    #[must_use]
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self {
            status: Box::new(Status::new(code, message.to_string())),
        }
    }

    /// A fault of this side.
    #[must_use]
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The request is wrong.
    #[must_use]
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// Something asked for does not exist.
    #[must_use]
    pub fn not_found(message: impl fmt::Display) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// Not available now; asking again may help.
    #[must_use]
    pub fn unavailable(message: impl fmt::Display) -> Self {
        Self::new(Code::Unavailable, message).retryable(true)
    }

    /// The failure of a call that the handler has made itself, with its code, message, details and whether asking again may help:
    /// a [`Status`], or the `RequestError` of stream-client, whose `to_status` says which code a call has that was lost or ran
    /// out of time.
    ///
    /// What the service behind this one says is passed on as it is; say something of your own with [`new`](Self::new) where
    /// callers are not to see it. In a handler: `.map_err(HandlerError::upstream)?`.
    #[must_use]
    pub fn upstream(failure: impl Into<Status>) -> Self {
        Self::from(failure.into())
    }

    /// Opaque bytes for the caller, at most 4 KiB; longer ones are left out.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<Bytes>) -> Self {
        self.status.details = details.into();
        self
    }

    /// May asking again help?
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.status.retryable = retryable;
        self
    }

    /// How long to wait before asking again; implies that it may help.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.status.retry_after = Some(after);
        self.retryable(true)
    }

    /// What the caller gets.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    pub(crate) fn into_status(mut self) -> Status {
        if self.status.is_ok() {
            // `Other(0)` too: a failure with the code of success would read as a complete answer.
            self.status.code = Code::Unknown;
        }
        *self.status
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status.fmt(f)
    }
}

impl Error for HandlerError {}

/// A failure in all its parts but `not_processed`: a handler that says it has run.
impl From<Status> for HandlerError {
    fn from(status: Status) -> Self {
        Self {
            status: Box::new(Status {
                not_processed: false,
                ..status
            }),
        }
    }
}

impl From<SendError> for HandlerError {
    fn from(error: SendError) -> Self {
        let code = match error.kind {
            SendErrorKind::Closed => Code::Cancelled,
            SendErrorKind::HeadersSent
            | SendErrorKind::InvalidHeader
            | SendErrorKind::NoReply
            | SendErrorKind::NotRepresentable => Code::Internal,
            SendErrorKind::Unsent => Code::Unavailable,
            SendErrorKind::TooLarge { .. } => Code::ResourceExhausted,
        };
        Self::new(code, error)
    }
}

/// Why an item was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError {
    pub(crate) kind: SendErrorKind,
    pub(crate) reason: Option<CloseReason>,
}

/// What kind of failure a [`SendError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// The stream has ended: the caller has gone, or the stream was finished, failed or drained. For a plain message: the
    /// connection is closed.
    Closed,
    /// The first message has left, and the headers with it.
    HeadersSent,
    /// A header that cannot be sent: see [`ResponseSender::header`](crate::ResponseSender::header).
    InvalidHeader,
    /// The message has no reply subject, or one that may not be sent to.
    NoReply,
    /// The caller's dialect (text or sentinel) has no form for the item: it is empty, or begins with a signal. The stream has
    /// failed with it.
    NotRepresentable,
    /// The item is larger than both sides agreed on; in the text and sentinel dialects, than a message may be. The stream
    /// goes on without it.
    #[non_exhaustive]
    TooLarge {
        /// Bytes of the item.
        size: u64,
        /// The agreed limit.
        max: u64,
    },
    /// The connection was down or busy for 5 s, so the response to a plain message was not sent.
    Unsent,
}

impl From<SendErrorKind> for SendError {
    fn from(kind: SendErrorKind) -> Self {
        Self { kind, reason: None }
    }
}

impl SendError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> SendErrorKind {
        self.kind
    }

    /// Why the stream was closed, when it was not by this side's own end.
    #[must_use]
    pub fn reason(&self) -> Option<CloseReason> {
        self.reason
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.reason) {
            (SendErrorKind::TooLarge { size, max }, _) => {
                write!(f, "an item of {size} bytes exceeds the limit of {max}")
            }
            (SendErrorKind::Closed, Some(CloseReason::Cancelled)) => f.write_str("the caller has left the stream"),
            (SendErrorKind::Closed, Some(CloseReason::Deadline)) => f.write_str("the deadline of the call passed"),
            (SendErrorKind::Closed, Some(CloseReason::Gone)) => f.write_str("nothing was heard from the caller"),
            (SendErrorKind::Closed, Some(CloseReason::NotPermitted)) => {
                f.write_str("nats-server lets this user not answer the caller")
            }
            (SendErrorKind::NotRepresentable, _) => {
                f.write_str("the caller's dialect has no form for an item that is empty or begins with a signal")
            }
            (SendErrorKind::Closed, Some(CloseReason::Stalled)) => f.write_str("the caller did not read"),
            (SendErrorKind::Closed, _) => f.write_str("the stream has ended"),
            (SendErrorKind::NoReply, _) => {
                f.write_str("the message has no reply subject, or one that may not be sent to")
            }
            (SendErrorKind::Unsent, _) => f.write_str("the connection was down or busy for 5 s"),
            (SendErrorKind::HeadersSent, _) => f.write_str("the first message has left; headers go along with it only"),
            (SendErrorKind::InvalidHeader, _) => {
                f.write_str("a header is not printable ASCII, has a name that is taken, or makes them exceed 4 KiB")
            }
        }
    }
}

impl Error for SendError {}

/// Why a subject could not be served.
#[derive(Debug)]
pub struct ServeError {
    kind: ServeErrorKind,
    subject: String,
    source: Box<dyn Error + Send + Sync>,
}

/// What kind of failure a [`ServeError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServeErrorKind {
    /// The connection could not subscribe.
    Connection,
    /// The subject, the queue group or a limit is not valid.
    InvalidConfig,
    /// nats-server lets this user not subscribe to the subject, or to its own inbox, where callers' control messages arrive.
    NotPermitted,
}

impl ServeError {
    pub(crate) fn new(kind: ServeErrorKind, subject: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            subject: subject.to_owned(),
            source: source.into(),
        }
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ServeErrorKind {
        self.kind
    }

    /// The subject that was to be served.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl From<SubscriberError> for ServeError {
    fn from(error: SubscriberError) -> Self {
        let kind = match error.kind() {
            SubscriberErrorKind::Invalid => ServeErrorKind::InvalidConfig,
            SubscriberErrorKind::NotPermitted => ServeErrorKind::NotPermitted,
            _ => ServeErrorKind::Connection,
        };
        let subject = error.subject().to_owned();
        Self::new(kind, &subject, error.into_cause())
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ServeErrorKind::Connection => write!(f, "cannot subscribe `{}`", self.subject),
            ServeErrorKind::NotPermitted => write!(f, "`{}` may not be served", self.subject),
            ServeErrorKind::InvalidConfig => write!(f, "`{}` cannot be served", self.subject),
        }
    }
}

impl Error for ServeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
