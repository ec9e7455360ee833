//! What is published.

use std::fmt;
use std::time::Duration;

use async_nats::header::{
    HeaderMap, HeaderName, HeaderValue, NATS_EXPECTED_LAST_MESSAGE_ID, NATS_EXPECTED_LAST_SEQUENCE,
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_EXPECTED_STREAM, NATS_MESSAGE_ID,
};
use async_nats::subject::{Subject, ToSubject};
use bytes::Bytes;
use natstream_connect::{TraceContext, check_publish_subject, headers_len, user_header};
use serde::Serialize;

/// An event: a subject, a payload, and what goes with them.
///
/// A clone shares the payload. Without headers and settings of its own, an event is 72 bytes and its payload.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use eventbus::Event;
///
/// let event = Event::new("orders.new", r#"{"id":7}"#)
///     .message_id("order-7")
///     .header("Tenant", "north")
///     .deadline(Duration::from_secs(5));
/// assert_eq!(event.subject(), "orders.new");
/// assert_eq!(event.payload(), &br#"{"id":7}"#[..]);
/// ```
#[derive(Clone)]
#[must_use = "an event does nothing until it is published"]
pub struct Event {
    pub(crate) subject: Subject,
    pub(crate) payload: Bytes,
    extras: Option<Box<Extras>>,
}

/// What most events have none of.
#[derive(Clone, Default)]
struct Extras {
    headers: HeaderMap,
    has_message_id: bool,
    deadline: Option<Duration>,
    flaw: Option<Flaw>,
}

/// What is wrong with an event that cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// The stream that batches go to does not take the event's subject.
    #[error("the stream `{0}` does not take the subject")]
    Elsewhere(String),
    /// A header that cannot be sent: its name or value is not printable ASCII, or the name is one that nats-server reads.
    #[error("the header `{0}` cannot be sent")]
    Header(String),
    /// The message id is empty, not printable ASCII, longer than 256 bytes, or begins or ends with a blank.
    #[error("the message id cannot be sent")]
    MessageId,
    /// The payload cannot be made from the value.
    #[error("the value cannot be encoded: {0}")]
    Payload(String),
    /// The subject is not one that can be published to.
    #[error("{0}")]
    Subject(natstream_connect::SubjectError),
}

impl Event {
    /// An event with this payload, to this subject.
    ///
    /// The same `Subject` or `Bytes` for many events costs nothing for each of them; neither does a `&'static str`.
    pub fn new(subject: impl ToSubject, payload: impl Into<Bytes>) -> Self {
        Self {
            subject: subject.to_subject(),
            payload: payload.into(),
            extras: None,
        }
    }

    /// An event with this value as its payload, in JSON. One that cannot be written makes publishing fail with
    /// [`Invalid`](crate::PublishErrorKind::Invalid).
    ///
    /// ```
    /// let event = eventbus::Event::json("orders.new", &serde_json::json!({ "id": 7 }));
    /// assert_eq!(event.payload(), &br#"{"id":7}"#[..]);
    /// ```
    pub fn json(subject: impl ToSubject, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(payload) => Self::new(subject, payload),
            Err(error) => Self::new(subject, "").flawed(Flaw::Payload(error.to_string())),
        }
    }

    /// As it was written to a spool, where only events without a flaw are.
    #[cfg(feature = "spool")]
    pub(crate) fn spooled(subject: Subject, payload: Bytes, headers: HeaderMap) -> Self {
        let extras = (!headers.is_empty()).then(|| Extras {
            has_message_id: headers.get(NATS_MESSAGE_ID).is_some(),
            headers,
            ..Extras::default()
        });
        Self {
            subject,
            payload,
            extras: extras.map(Box::new),
        }
    }

    /// Adds a header. One that cannot be sent makes publishing fail with [`Invalid`](crate::PublishErrorKind::Invalid).
    ///
    /// Names that begin with `Nats-` are nats-server's; there are methods for those that an event may have.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let extras = self.extras();
        match user_header(name, value) {
            Some((name, value)) => extras.headers.append(name, value),
            None => extras.flaw = Some(Flaw::Header(name.to_owned())),
        }
        self
    }

    /// The id by which the stream knows an event that it has stored already, within its duplicate window; at most 256 bytes.
    ///
    /// Never use one again for another payload: the stream would drop it as a duplicate. Without this, each event gets an id
    /// of its own from the bus, except under [`Dedup::Off`](crate::Dedup::Off).
    pub fn message_id(mut self, id: impl AsRef<str>) -> Self {
        let id = id.as_ref();
        // nats-server cuts blanks off at the ends.
        let fits = !id.is_empty()
            && id.trim() == id
            && id.len() <= 256
            && id.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let extras = self.extras();
        match id.parse::<HeaderValue>() {
            Ok(value) if fits => {
                extras.headers.insert(NATS_MESSAGE_ID, value);
                extras.has_message_id = true;
            }
            _ => extras.flaw = Some(Flaw::MessageId),
        }
        self
    }

    /// How long the bus tries to deliver this event, from its acceptance on; [`BusBuilder::deadline`](crate::BusBuilder::deadline)
    /// otherwise.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.extras().deadline = Some(deadline);
        self
    }

    /// Is stored only by this stream.
    pub fn expect_stream(self, name: &str) -> Self {
        match user_header("Expected-Stream", name) {
            Some((_, value)) => self.known(NATS_EXPECTED_STREAM, value),
            None => self.header("Nats-Expected-Stream", name),
        }
    }

    /// Is stored only if the stream's last message has this sequence.
    ///
    /// nats-server looks at this before the id: when an answer is lost and the event is sent again, its own copy is in the way.
    /// Then it fails as [`WrongLast`](crate::PublishErrorKind::WrongLast), and
    /// [may be stored](crate::PublishError::may_be_stored). That goes for the other two expectations too.
    pub fn expect_last_sequence(self, sequence: u64) -> Self {
        self.known(NATS_EXPECTED_LAST_SEQUENCE, HeaderValue::from(sequence))
    }

    /// Is stored only if the last message of the event's subject has this sequence; 0 for none.
    pub fn expect_last_subject_sequence(self, sequence: u64) -> Self {
        self.known(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(sequence))
    }

    /// Is stored only if the stream's last message has this id. Not in [atomic](crate::AtomicBus) or [fast](crate::FastBus)
    /// batches, for which nats-server does not look at it.
    pub fn expect_last_message_id(self, id: &str) -> Self {
        match user_header("Expected-Id", id) {
            Some((_, value)) => self.known(NATS_EXPECTED_LAST_MESSAGE_ID, value),
            None => self.header("Nats-Expected-Last-Msg-Id", id),
        }
    }

    /// A header that nats-server reads, and whose value is known to be one.
    #[cfg(any(feature = "kv", feature = "object"))]
    pub(crate) fn server_header(self, name: &'static str, value: impl Into<HeaderValue>) -> Self {
        self.known(HeaderName::from_static(name), value.into())
    }

    /// Where it goes.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.subject.as_str()
    }

    /// What it carries.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Its headers, as they were set; without an id that the bus gives.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        let extras = self.extras.as_ref()?;
        (!extras.headers.is_empty()).then_some(&extras.headers)
    }

    /// What it costs of the window: bytes of subject, headers and payload.
    #[must_use]
    pub fn size(&self) -> usize {
        self.subject.len() + self.wire_len()
    }

    /// Bytes of headers and payload, which nats-server limits.
    pub(crate) fn wire_len(&self) -> usize {
        self.payload.len() + self.headers().map_or(0, headers_len)
    }

    pub(crate) fn has_message_id(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.has_message_id)
    }

    pub(crate) fn own_message_id(&self) -> Option<&str> {
        let id = self.headers()?.get(NATS_MESSAGE_ID)?;
        Some(id.as_str())
    }

    pub(crate) fn own_deadline(&self) -> Option<Duration> {
        self.extras.as_ref()?.deadline
    }

    /// As it is without a deadline of its own.
    #[cfg(feature = "spool")]
    pub(crate) fn without_deadline(mut self) -> Self {
        if let Some(extras) = &mut self.extras {
            extras.deadline = None;
        }
        self
    }

    /// Takes along where it is published in a trace, unless it says so itself: who handles it goes on there.
    #[inline]
    pub(crate) fn in_trace(mut self) -> Self {
        if let Some(context) = TraceContext::current() {
            context.write(&mut self.extras().headers);
        }
        self
    }

    fn flawed(mut self, flaw: Flaw) -> Self {
        self.extras().flaw = Some(flaw);
        self
    }

    /// What makes it impossible to send.
    pub(crate) fn flaw(&self) -> Option<Flaw> {
        if !is_plain(self.subject.as_bytes())
            && let Err(error) = check_publish_subject(&self.subject)
        {
            return Some(Flaw::Subject(error));
        }
        self.extras.as_ref()?.flaw.clone()
    }

    /// What makes it impossible to send in a batch: nats-server does not look at the last id there, or not in time.
    pub(crate) fn batch_flaw(&self) -> Option<Flaw> {
        let headers = self.headers()?;
        let is_set = headers.get(NATS_EXPECTED_LAST_MESSAGE_ID).is_some();
        is_set.then(|| Flaw::Header("Nats-Expected-Last-Msg-Id".to_owned()))
    }

    fn known(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.extras().headers.insert(name, value);
        self
    }

    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }
}

/// Is it certainly a subject that can be published to? Almost all are, and for them this takes a fraction of the full check.
fn is_plain(subject: &[u8]) -> bool {
    if subject.len() > 1024 {
        return false;
    }
    let mut before = b'.';
    for byte in subject {
        let is_fine = match byte {
            b'.' => before != b'.',
            b'*' | b'>' => false,
            byte => byte.is_ascii_graphic(),
        };
        if !is_fine {
            return false;
        }
        before = *byte;
    }
    before != b'.'
}

impl fmt::Debug for Event {
    /// Without the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("subject", &self.subject())
            .field("bytes", &self.payload.len())
            .field("headers", &self.headers().map_or(0, HeaderMap::len))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_plain_can_be_published_to(subject in "[a-b.*> \\PC]{0,8}") {
            prop_assert!(!is_plain(subject.as_bytes()) || check_publish_subject(&subject).is_ok(), "{subject:?}");
        }
    }

    #[test]
    fn flaws_are_found() {
        let event = || Event::new("a.b", "");
        assert_eq!(event().flaw(), None);
        assert_eq!(event().message_id("x y").header("a", "b").flaw(), None);
        assert!(matches!(Event::new("a.>", "").flaw(), Some(Flaw::Subject(_))));
        assert!(matches!(Event::new("a b", "").flaw(), Some(Flaw::Subject(_))));
        assert!(matches!(Event::new("", "").flaw(), Some(Flaw::Subject(_))));
        for id in ["", "ü", " ", " x", "x ", "a\r\nb", &"x".repeat(257)] {
            assert_eq!(event().message_id(id).flaw(), Some(Flaw::MessageId), "{id:?}");
        }
        assert!(matches!(
            Event::new("x".repeat(5000), "").flaw(),
            Some(Flaw::Subject(_))
        ));
        for name in ["Nats-Msg-Id", "Nats-Rollup", "a b"] {
            assert_eq!(event().header(name, "x").flaw(), Some(Flaw::Header(name.to_owned())));
        }
        assert!(matches!(event().expect_stream("a\nb").flaw(), Some(Flaw::Header(_))));
    }

    #[test]
    fn expectations_are_headers_of_the_server() {
        let event = Event::new("a", "").expect_stream("S").expect_last_sequence(7);
        let headers = event.headers().expect("headers");
        assert_eq!(headers.get("Nats-Expected-Stream").map(HeaderValue::as_str), Some("S"));
        assert_eq!(
            headers.get("Nats-Expected-Last-Sequence").map(HeaderValue::as_str),
            Some("7")
        );
    }
}
