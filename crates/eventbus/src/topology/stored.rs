//! A message as a stream has it.

use async_nats::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{Topology, TopologyError, TopologyErrorKind, api};

/// No message has this number, or it was deleted.
const MESSAGE_NOT_FOUND: u16 = 10037;

/// A message as a stream has it.
#[derive(Clone, Debug)]
pub(crate) struct StoredMessage {
    pub(crate) subject: String,
    pub(crate) payload: Bytes,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) stored_at: Timestamp,
}

#[derive(Debug, Deserialize)]
struct Answer {
    message: Wire,
}

#[derive(Debug, Deserialize)]
struct Wire {
    subject: String,
    #[serde(default)]
    data: String,
    #[serde(default)]
    hdrs: String,
    time: Timestamp,
}

impl Wire {
    /// `None`: it cannot be read.
    fn read(self) -> Option<StoredMessage> {
        let payload = STANDARD.decode(self.data).ok()?;
        let headers = STANDARD.decode(self.hdrs).ok()?;
        Some(StoredMessage {
            subject: self.subject,
            payload: payload.into(),
            headers: (!headers.is_empty()).then(|| read_headers(&headers)),
            stored_at: self.time,
        })
    }
}

/// A header that cannot be one is left out: the message itself matters more.
fn read_headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let text = String::from_utf8_lossy(bytes);
    // The first line is the version.
    for line in text.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (
            name.parse::<async_nats::HeaderName>(),
            value.trim().parse::<async_nats::HeaderValue>(),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

impl Topology {
    /// A message by its number; `None` when the stream does not have it any more.
    pub(crate) async fn message(&self, stream: &str, sequence: u64) -> Result<Option<StoredMessage>, TopologyError> {
        let question = json!({ "seq": sequence });
        let answer: Result<Answer, _> = api::ask(&self.connection, "MSG.GET", stream, &question).await;
        match answer {
            Ok(answer) => match answer.message.read() {
                Some(message) => Ok(Some(message)),
                None => Err(TopologyError::unreadable(stream)),
            },
            Err(error)
                if error
                    .refusal()
                    .is_some_and(|refusal| refusal.err_code == MESSAGE_NOT_FOUND) =>
            {
                Ok(None)
            }
            Err(error) if error.kind() == TopologyErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_message_is_read() {
        let headers = STANDARD.encode("NATS/1.0\r\nTenant: north\r\nTenant:south\r\nodd\r\n\r\n");
        let wire = json!({
            "subject": "a.b", "seq": 7, "data": STANDARD.encode("payload"), "hdrs": headers,
            "time": "2026-11-20T04:05:06.123456789Z",
        });
        let wire: Wire = serde_json::from_value(wire).expect("a message");
        let message = wire.read().expect("readable");
        assert_eq!(
            (message.subject.as_str(), &message.payload[..]),
            ("a.b", &b"payload"[..])
        );
        assert_eq!(message.stored_at.subsec_nanosecond(), 123_456_789);
        let headers = message.headers.expect("headers");
        let values: Vec<&str> = headers.get_all("Tenant").map(|value| value.as_str()).collect();
        assert_eq!(values, ["north", "south"]);
    }

    #[test]
    fn what_is_no_base64_is_not_read() {
        let wire = json!({ "subject": "a", "data": "%", "time": "2026-11-20T04:05:06Z" });
        let wire: Wire = serde_json::from_value(wire).expect("a message");
        assert!(wire.read().is_none());
    }
}
