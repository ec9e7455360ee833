//! Events that say what they are: CloudEvents 1.0.
//!
//! An envelope is for those who want one: [`Event`]s are published without, and nothing is added to them.
//!
//! ```
//! use eventbus::envelope::Envelope;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Order {
//!     id: u64,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let envelope = Envelope::new("/shop/north", "order.created", Order { id: 7 })
//!     .aggregate("order-7", 1)
//!     .correlation("cart-3");
//! let event = envelope.event("orders.created")?;
//!
//! let read: Envelope<Order> = Envelope::read(event.payload(), event.headers())?;
//! assert_eq!(read.data, Order { id: 7 });
//! assert_eq!(read.attributes.aggregate_id.as_deref(), Some("order-7"));
//! # Ok(())
//! # }
//! ```

mod binary;
mod structured;

use std::error::Error;
use std::fmt;

use async_nats::HeaderMap;
use async_nats::subject::ToSubject;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::Event;

pub(crate) use self::binary::decode;

/// The media type of an event in the structured form.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// What an event says of itself, in the words of CloudEvents where it has some.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attributes {
    /// Unique for its source. A copy that is sent again has the same.
    pub id: String,
    /// What kind of event it is, `order.created`.
    pub kind: String,
    /// Who says it, as a URI reference: `/shop/north`.
    pub source: String,
    /// What it is about, for filters; CloudEvents' `subject`.
    pub subject: Option<String>,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// What it happened to; the extension `aggregateid`.
    pub aggregate_id: Option<String>,
    /// The version of that afterwards; the extension `aggregateversion`.
    pub aggregate_version: Option<u32>,
    /// What belongs together; the extension `correlationid`.
    pub correlation_id: Option<String>,
    /// The W3C trace context, `00-…-…-01`; the extension `traceparent`.
    pub trace_parent: Option<String>,
}

/// A value with what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "an envelope does nothing until its event is published"]
pub struct Envelope<T> {
    /// What is said of it.
    pub attributes: Attributes,
    /// The value.
    pub data: T,
}

/// Why an envelope could not be read, or made.
#[derive(Debug)]
pub struct EnvelopeError {
    kind: EnvelopeErrorKind,
    attribute: Option<&'static str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EnvelopeErrorKind {
    /// An attribute is missing or is not what it must be; the text says which.
    Attribute,
    /// The data cannot be read as the type that was asked for, or the value cannot be written.
    Data,
    /// It is no CloudEvent at all.
    NotAnEnvelope,
    /// It is one of another version than 1.0.
    Version,
}

impl EnvelopeError {
    fn new(kind: EnvelopeErrorKind) -> Self {
        Self {
            kind,
            attribute: None,
            source: None,
        }
    }

    fn attribute(name: &'static str) -> Self {
        Self {
            attribute: Some(name),
            ..Self::new(EnvelopeErrorKind::Attribute)
        }
    }

    fn because(kind: EnvelopeErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(kind)
        }
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> EnvelopeErrorKind {
        self.kind
    }
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.attribute) {
            (EnvelopeErrorKind::Attribute, name) => {
                write!(f, "the attribute `{}` is missing or wrong", name.unwrap_or("?"))
            }
            (EnvelopeErrorKind::Data, _) => f.write_str("the data of an event is not of the type that was asked for"),
            (EnvelopeErrorKind::NotAnEnvelope, _) => f.write_str("a message is no CloudEvent"),
            (EnvelopeErrorKind::Version, _) => f.write_str("a CloudEvent is not of version 1.0"),
        }
    }
}

impl Error for EnvelopeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl<T> Envelope<T> {
    /// A value that `source` says, of this kind, with a new random id, and without a time: see [`at`](Self::at).
    pub fn new(source: impl Into<String>, kind: impl Into<String>, data: T) -> Self {
        Self {
            attributes: Attributes {
                id: natstream_connect::token(),
                kind: kind.into(),
                source: source.into(),
                subject: None,
                time: None,
                aggregate_id: None,
                aggregate_version: None,
                correlation_id: None,
                trace_parent: None,
            },
            data,
        }
    }

    /// Its id, in place of a random one.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.attributes.id = id.into();
        self
    }

    /// When it happened.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.attributes.time = Some(time);
        self
    }

    /// What it is about.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.attributes.subject = Some(subject.into());
        self
    }

    /// What it happened to, and the version of that afterwards, at most 2,147,483,647.
    pub fn aggregate(mut self, id: impl Into<String>, version: u32) -> Self {
        self.attributes.aggregate_id = Some(id.into());
        self.attributes.aggregate_version = Some(version);
        self
    }

    /// What belongs together.
    pub fn correlation(mut self, id: impl Into<String>) -> Self {
        self.attributes.correlation_id = Some(id.into());
        self
    }

    /// The W3C trace context.
    pub fn trace_parent(mut self, trace_parent: impl Into<String>) -> Self {
        self.attributes.trace_parent = Some(trace_parent.into());
        self
    }
}

impl<T: Serialize> Envelope<T> {
    /// The event in the structured form: attributes and data are one JSON object in the payload. Its only headers are the media
    /// type and the message id, which is the envelope's source and id; one that is longer than 256 bytes or not printable ASCII
    /// is left to the bus.
    ///
    /// # Errors
    /// [`EnvelopeErrorKind::Attribute`] and [`Data`](EnvelopeErrorKind::Data).
    pub fn event(&self, subject: impl ToSubject) -> Result<Event, EnvelopeError> {
        self.attributes.check()?;
        let payload = structured::write(&self.attributes, &self.data)?;
        let event = Event::new(subject, payload).header("content-type", STRUCTURED);
        Ok(self.attributes.identify(event))
    }

    /// The event in the binary form: attributes are headers (`ce-id` and so on), the data in JSON is the payload.
    ///
    /// # Errors
    /// As [`event`](Self::event).
    pub fn binary_event(&self, subject: impl ToSubject) -> Result<Event, EnvelopeError> {
        self.attributes.check()?;
        let payload = serde_json::to_vec(&self.data);
        let payload = payload.map_err(|error| EnvelopeError::because(EnvelopeErrorKind::Data, error))?;
        let event = binary::write(&self.attributes, Event::new(subject, payload));
        Ok(self.attributes.identify(event))
    }
}

impl<T: DeserializeOwned> Envelope<T> {
    /// Reads an envelope of either form; also of those that deviate as the Go SDK for CloudEvents does: media type without
    /// `ce-`, values that are not percent-encoded, and the structured form without a media type.
    ///
    /// # Errors
    /// [`EnvelopeErrorKind`].
    pub fn read(payload: &[u8], headers: Option<&HeaderMap>) -> Result<Self, EnvelopeError> {
        match headers.and_then(binary::read) {
            Some(attributes) => {
                let data = serde_json::from_slice(payload);
                Ok(Self {
                    attributes: attributes?,
                    data: data.map_err(|error| EnvelopeError::because(EnvelopeErrorKind::Data, error))?,
                })
            }
            None => structured::read(payload),
        }
    }
}

impl Attributes {
    /// The event with these as its message id, where they can be one. Shortened they could be that of another event.
    fn identify(&self, event: Event) -> Event {
        let whole = format!("{} {}", self.source, self.id);
        let fits = whole.len() <= 256 && whole.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if fits { event.message_id(whole) } else { event }
    }

    fn check(&self) -> Result<(), EnvelopeError> {
        let required = [("id", &self.id), ("type", &self.kind), ("source", &self.source)];
        if let Some((name, _)) = required.into_iter().find(|(_, value)| value.is_empty()) {
            return Err(EnvelopeError::attribute(name));
        }
        let too_large = self
            .aggregate_version
            .is_some_and(|version| i32::try_from(version).is_err());
        if too_large {
            return Err(EnvelopeError::attribute("aggregateversion"));
        }
        Ok(())
    }
}
