//! Attributes as headers, after the NATS protocol binding of CloudEvents.

use async_nats::HeaderMap;

use super::{Attributes, EnvelopeError, EnvelopeErrorKind};
use crate::event::Event;

pub(super) fn write(attributes: &Attributes, event: Event) -> Event {
    let version = attributes.aggregate_version.map(|version| version.to_string());
    let time = attributes.time.map(|time| time.to_string());
    let optional = [
        ("ce-subject", &attributes.subject),
        ("ce-time", &time),
        ("ce-aggregateid", &attributes.aggregate_id),
        ("ce-aggregateversion", &version),
        ("ce-correlationid", &attributes.correlation_id),
        ("ce-traceparent", &attributes.trace_parent),
    ];
    let event = event
        .header("ce-specversion", "1.0")
        .header("ce-id", &encode(&attributes.id))
        .header("ce-source", &encode(&attributes.source))
        .header("ce-type", &encode(&attributes.kind))
        .header("ce-datacontenttype", "application/json");
    let given = optional
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)));
    given.fold(event, |event, (name, value)| event.header(name, &encode(value)))
}

/// `None`: these headers are not those of the binary form.
pub(super) fn read(headers: &HeaderMap) -> Option<Result<Attributes, EnvelopeError>> {
    let version = header(headers, "ce-specversion")?;
    Some(if version == "1.0" {
        attributes(headers)
    } else {
        Err(EnvelopeError::new(EnvelopeErrorKind::Version))
    })
}

fn attributes(headers: &HeaderMap) -> Result<Attributes, EnvelopeError> {
    let required = |name: &'static str| {
        let value = header(headers, name).filter(|value| !value.is_empty());
        value.ok_or_else(|| EnvelopeError::attribute(&name["ce-".len()..]))
    };
    let time = header(headers, "ce-time").map(|time| time.parse());
    let version = header(headers, "ce-aggregateversion").map(|version| version.parse());
    Ok(Attributes {
        id: required("ce-id")?,
        kind: required("ce-type")?,
        source: required("ce-source")?,
        subject: header(headers, "ce-subject"),
        time: time.transpose().map_err(|_| EnvelopeError::attribute("time"))?,
        aggregate_id: header(headers, "ce-aggregateid"),
        aggregate_version: version
            .transpose()
            .map_err(|_| EnvelopeError::attribute("aggregateversion"))?,
        correlation_id: header(headers, "ce-correlationid"),
        trace_parent: header(headers, "ce-traceparent"),
    })
}

/// Header names have a case in NATS, and those of CloudEvents have none.
fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let exact = headers.get(name).map(|value| value.as_str());
    let value = exact.or_else(|| {
        let mut all = headers.iter();
        all.find_map(|(key, values)| {
            AsRef::<str>::as_ref(key)
                .eq_ignore_ascii_case(name)
                .then(|| values.first())?
        })
        .map(|value| value.as_str())
    });
    value.map(decode)
}

/// Percent-encodes what the binding says: blanks, `"`, `%`, and all that is not printable ASCII.
pub(super) fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// What is not percent-encoded stays as it is: not everybody encodes.
pub(crate) fn decode(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = bytes.get(index + 1..index + 3).filter(|_| bytes[index] == b'%');
        let hex = hex.filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                index += 3;
            }
            None => {
                decoded.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Envelope, STRUCTURED};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn envelope() -> Envelope<Value> {
        Envelope::new("/shop/north", "order.created", json!({"id": 7}))
            .id("a1")
            .subject("order 7 \"ü\"")
            .at("2026-11-20T04:05:06.789Z".parse().expect("a time"))
            .aggregate("order-7", 3)
            .correlation("cart-3")
            .trace_parent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, *value);
        }
        headers
    }

    #[test]
    fn the_structured_form_is_that_of_cloudevents() {
        let event = envelope().event("orders.created").expect("written");
        let json: Value = serde_json::from_slice(event.payload()).expect("JSON");
        assert_eq!(
            json,
            json!({
                "specversion": "1.0", "id": "a1", "source": "/shop/north", "type": "order.created",
                "subject": "order 7 \"ü\"", "time": "2026-11-20T04:05:06.789Z", "aggregateid": "order-7",
                "aggregateversion": 3, "correlationid": "cart-3",
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "datacontenttype": "application/json", "data": {"id": 7},
            })
        );
        let headers = event.headers().expect("headers");
        assert_eq!(
            headers.get("content-type").map(|value| value.as_str()),
            Some(STRUCTURED)
        );
        assert_eq!(
            headers.get("Nats-Msg-Id").map(|value| value.as_str()),
            Some("/shop/north a1")
        );
        assert_eq!(headers.len(), 2);
        assert_eq!(
            Envelope::read(event.payload(), event.headers()).expect("read"),
            envelope()
        );
    }

    #[test]
    fn the_binary_form_is_that_of_the_nats_binding() {
        let event = envelope().binary_event("orders.created").expect("written");
        assert_eq!(event.payload(), &br#"{"id":7}"#[..]);
        let headers = event.headers().expect("headers");
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "a1"),
            ("ce-type", "order.created"),
            ("ce-subject", "order%207%20%22%C3%BC%22"),
            ("ce-time", "2026-11-20T04:05:06.789Z"),
            ("ce-aggregateversion", "3"),
            ("ce-datacontenttype", "application/json"),
        ] {
            assert_eq!(headers.get(name).map(|value| value.as_str()), Some(value), "{name}");
        }
        assert_eq!(
            Envelope::read(event.payload(), event.headers()).expect("read"),
            envelope()
        );
    }

    #[test]
    fn the_forms_of_the_go_sdk_are_read() {
        let sdk = headers(&[
            ("Ce-Specversion", "1.0"),
            ("Ce-Id", "1"),
            ("Ce-Source", "/a b"),
            ("Ce-Type", "100%"),
            ("Content-Type", "application/json"),
        ]);
        let read: Envelope<u8> = Envelope::read(b"7", Some(&sdk)).expect("read");
        assert_eq!(
            (
                read.attributes.source.as_str(),
                read.attributes.kind.as_str(),
                read.data
            ),
            ("/a b", "100%", 7)
        );
        let bare = br#"{"specversion":"1.0","id":"1","source":"s","type":"t","extra":true,"data":7}"#;
        assert_eq!(Envelope::<u8>::read(bare, None).expect("read").data, 7);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let kind = |payload: &[u8], pairs: &[(&str, &str)]| {
            let headers = headers(pairs);
            Envelope::<u8>::read(payload, Some(&headers)).map_err(|error| error.kind())
        };
        assert_eq!(kind(b"x", &[]), Err(EnvelopeErrorKind::NotAnEnvelope));
        assert_eq!(
            kind(b"7", &[("ce-specversion", "0.3")]),
            Err(EnvelopeErrorKind::Version)
        );
        assert_eq!(
            kind(b"7", &[("ce-specversion", "1.0")]),
            Err(EnvelopeErrorKind::Attribute)
        );
        let data = br#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":"x"}"#;
        assert_eq!(kind(data, &[]), Err(EnvelopeErrorKind::Data));
        let empty = Envelope::new("", "t", 1).event("a").map(drop);
        assert_eq!(empty.map_err(|error| error.kind()), Err(EnvelopeErrorKind::Attribute));
    }

    proptest! {
        #[test]
        fn any_text_survives_encoding(text in any::<String>()) {
            prop_assert_eq!(decode(&encode(&text)), text);
        }

        #[test]
        fn any_payload_is_read_without_a_panic(payload in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Envelope::<Value>::read(&payload, None);
        }
    }
}
