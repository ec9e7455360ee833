//! A message of a consumer.

use std::fmt;
use std::sync::Arc;

use async_nats::subject::Subject;
use async_nats::{HeaderMap, HeaderName};
use bytes::Bytes;
use natstream_connect::{Codec, Json};
use serde::de::DeserializeOwned;

use super::delivery::Delivery;
use super::error::HandlerError;
use crate::topology::Stored;

/// A message of a stream, as a handler of a [`Consumer`](crate::Consumer) gets it. A clone shares everything.
///
/// Messages without a stream are another type of this name, `Message` of stream-server (`natstream::Message`).
#[derive(Clone)]
pub struct Message {
    inner: Arc<Inner>,
    /// Attempts in this process, after the one that nats-server has counted.
    repeats: u64,
}

struct Inner {
    subject: Subject,
    payload: Bytes,
    headers: Option<HeaderMap>,
    reply: Subject,
    sequence: u64,
    consumer_sequence: u64,
    delivered: u64,
    stored_at: i64,
    pending: u64,
}

impl Message {
    /// Takes what it needs out of `message`; `None` when that is not a consumer's.
    pub(super) fn take(message: &mut async_nats::Message) -> Option<Self> {
        let reply = message.reply.clone()?;
        let delivery = Delivery::read(&reply)?;
        let (sequence, delivered) = (delivery.stream_sequence, delivery.attempt);
        let (stored_at, pending) = (delivery.stored_at, delivery.pending);
        let consumer_sequence = delivery.consumer_sequence;
        Some(Self {
            inner: Arc::new(Inner {
                subject: std::mem::replace(&mut message.subject, Subject::from_static("")),
                payload: std::mem::take(&mut message.payload),
                headers: message.headers.take(),
                reply,
                sequence,
                consumer_sequence,
                delivered,
                stored_at,
                pending,
            }),
            repeats: 0,
        })
    }

    /// One that was read from its stream, in place of its last delivery.
    pub(super) fn stored(message: Stored, reply: Subject, sequence: u64, delivered: u64, stored_at: i64) -> Self {
        Self {
            inner: Arc::new(Inner {
                subject: message.subject.into(),
                payload: message.payload,
                headers: (!message.headers.is_empty()).then_some(message.headers),
                reply,
                sequence,
                consumer_sequence: 0,
                delivered,
                stored_at,
                pending: 0,
            }),
            repeats: 0,
        }
    }

    /// What it was published to.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.inner.subject.as_str()
    }

    /// What it carries.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.inner.payload
    }

    /// What it carries, which is JSON, as a `T`.
    ///
    /// # Errors
    /// One that is [final](HandlerError::is_final), with the parser's words: `?` in a handler puts the message aside at once,
    /// since it never becomes JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        self.decode::<T, Json>()
    }

    /// What it carries, in the form of this codec, as a `T`.
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub fn decode<T: DeserializeOwned, C: Codec>(&self) -> Result<T, HandlerError> {
        C::decode(self.payload())
            .map_err(|error| HandlerError::reject(format_args!("the payload cannot be decoded: {error}")))
    }

    /// Its headers, if it has any.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.inner.headers.as_ref()
    }

    /// The value of one of its headers; the first, if there are several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        // A name that cannot be one would panic in there.
        let name: HeaderName = name.parse().ok()?;
        self.headers()?.get(name).map(|value| value.as_str())
    }

    /// Its number in the stream.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.inner.sequence
    }

    /// How often it was tried, this time included: 1 for the first. An attempt whose process died counts too.
    #[must_use]
    pub fn attempt(&self) -> u64 {
        self.inner.delivered.saturating_add(self.repeats)
    }

    /// When the stream took it, by nats-server's clock.
    #[must_use]
    pub fn stored_at(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_nanosecond(i128::from(self.inner.stored_at)).unwrap_or_default()
    }

    /// How many messages the consumer had after this one when it was delivered.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.inner.pending
    }

    /// Where words about it go.
    pub(super) fn reply(&self) -> &Subject {
        &self.inner.reply
    }

    /// How often nats-server has delivered it.
    pub(super) fn delivered(&self) -> u64 {
        self.inner.delivered
    }

    /// The number of this delivery at the consumer.
    pub(super) fn consumer_sequence(&self) -> u64 {
        self.inner.consumer_sequence
    }

    /// The same one, to be tried again here.
    pub(super) fn repeated(mut self) -> Self {
        self.repeats += 1;
        self
    }
}

impl fmt::Debug for Message {
    /// Without the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("subject", &self.subject())
            .field("sequence", &self.sequence())
            .field("attempt", &self.attempt())
            .field("bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) fn sample(subject: &str, headers: &[(&str, &str)]) -> Message {
    sample_with(b"payload", subject, headers)
}

#[cfg(test)]
fn sample_with(payload: &'static [u8], subject: &str, headers: &[(&str, &str)]) -> Message {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, *value);
    }
    Message {
        inner: Arc::new(Inner {
            subject: subject.into(),
            payload: Bytes::from_static(payload),
            headers: (!headers.is_empty()).then_some(map),
            reply: "$JS.ACK.S.c.2.7.9.1760000000000000001.4".into(),
            sequence: 7,
            consumer_sequence: 9,
            delivered: 2,
            stored_at: 1_760_000_000_000_000_001,
            pending: 4,
        }),
        repeats: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_here_are_counted_too() {
        let message = sample("a.b", &[("Tenant", "north")]);
        assert_eq!((message.attempt(), message.clone().repeated().attempt()), (2, 3));
        assert_eq!((message.header("Tenant"), message.header("x")), (Some("north"), None));
        assert_eq!(message.header("no name:"), None);
        assert_eq!(message.stored_at().as_second(), 1_760_000_000);
    }

    #[test]
    fn what_is_no_value_is_put_aside_at_once() {
        let numbers = sample_with(b"[1, 2]", "a.b", &[]);
        assert_eq!(numbers.json::<Vec<u32>>(), Ok(vec![1, 2]));
        let error = numbers.json::<String>().expect_err("an array");
        assert!(error.is_final());
        assert!(
            sample_with(b"", "a.b", &[])
                .json::<()>()
                .expect_err("nothing")
                .is_final()
        );
    }
}
