//! One JSON object.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Attributes, Envelope, EnvelopeError, EnvelopeErrorKind};

#[derive(Serialize, Deserialize)]
struct Wire<'a, D> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    subject: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<jiff::Timestamp>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    aggregateid: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aggregateversion: Option<u32>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    correlationid: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<Cow<'a, str>>,
    data: D,
}

pub(super) fn write<T: Serialize>(attributes: &Attributes, data: &T) -> Result<Vec<u8>, EnvelopeError> {
    fn some(value: &Option<String>) -> Option<Cow<'_, str>> {
        value.as_deref().map(Cow::Borrowed)
    }
    let wire = Wire {
        specversion: "1.0".into(),
        id: attributes.id.as_str().into(),
        source: attributes.source.as_str().into(),
        kind: attributes.kind.as_str().into(),
        subject: some(&attributes.subject),
        time: attributes.time,
        aggregateid: some(&attributes.aggregate_id),
        aggregateversion: attributes.aggregate_version,
        correlationid: some(&attributes.correlation_id),
        traceparent: some(&attributes.trace_parent),
        datacontenttype: Some("application/json".into()),
        data,
    };
    serde_json::to_vec(&wire).map_err(|error| EnvelopeError::because(EnvelopeErrorKind::Data, error))
}

pub(super) fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<Envelope<T>, EnvelopeError> {
    // The data apart: what is wrong with it is another matter.
    let wire: Result<Wire<'_, Option<Box<serde_json::value::RawValue>>>, _> = serde_json::from_slice(payload);
    let wire = wire.map_err(|error| EnvelopeError::because(EnvelopeErrorKind::NotAnEnvelope, error))?;
    if wire.specversion != "1.0" {
        return Err(EnvelopeError::new(EnvelopeErrorKind::Version));
    }
    // An event may have none.
    let data = serde_json::from_str(wire.data.as_ref().map_or("null", |data| data.get()));
    let owned = |value: Option<Cow<'_, str>>| value.map(Cow::into_owned);
    Ok(Envelope {
        attributes: Attributes {
            id: wire.id.into_owned(),
            kind: wire.kind.into_owned(),
            source: wire.source.into_owned(),
            subject: owned(wire.subject),
            time: wire.time,
            aggregate_id: owned(wire.aggregateid),
            aggregate_version: wire.aggregateversion,
            correlation_id: owned(wire.correlationid),
            trace_parent: owned(wire.traceparent),
        },
        data: data.map_err(|error| EnvelopeError::because(EnvelopeErrorKind::Data, error))?,
    })
}
