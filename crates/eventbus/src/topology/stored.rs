//! Messages of a stream, one at a time.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use natstream_connect::Connection;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::api;
use super::{TopologyError, TopologyErrorKind};

/// A message as its stream has it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    pub(crate) subject: String,
    pub(crate) payload: Bytes,
    pub(crate) headers: HeaderMap,
    pub(crate) stored_at: jiff::Timestamp,
}

#[derive(Debug, Deserialize)]
struct Answer {
    message: Wire,
}

#[derive(Debug, Deserialize)]
struct Wire {
    seq: u64,
    subject: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    time: jiff::Timestamp,
}

/// The first message that has this number or a later one.
pub(crate) async fn next(connection: &Connection, stream: &str, from: u64) -> Result<Option<Stored>, TopologyError> {
    let question = json!({ "seq": from.max(1), "next_by_subj": ">" });
    get(connection, stream, &question).await
}

/// The message with this number, if the stream has it.
pub(crate) async fn exact(
    connection: &Connection,
    stream: &str,
    sequence: u64,
) -> Result<Option<Stored>, TopologyError> {
    get(connection, stream, &json!({ "seq": sequence })).await
}

/// Deletes a message, if it is there. Its bytes are not overwritten.
pub(crate) async fn delete(connection: &Connection, stream: &str, sequence: u64) -> Result<(), TopologyError> {
    let question = json!({ "seq": sequence, "no_erase": true });
    let deleted = api::ask::<Map<String, Value>>(connection, "MSG.DELETE", stream, &question).await;
    match deleted {
        Ok(_) => Ok(()),
        // Only in words does the refusal say that there is nothing to delete.
        Err(error) if error.kind() == TopologyErrorKind::Rejected => match exact(connection, stream, sequence).await {
            Ok(None) => Ok(()),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// The message that `question` asks the leader for.
pub(super) async fn get(
    connection: &Connection,
    stream: &str,
    question: &Value,
) -> Result<Option<Stored>, TopologyError> {
    let answer = api::ask::<Answer>(connection, "MSG.GET", stream, question).await;
    let Wire {
        seq,
        subject,
        hdrs,
        data,
        time,
    } = match answer {
        Ok(answer) => answer.message,
        Err(error) if api::is_no_message(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let unreadable = |error| TopologyError::because(TopologyErrorKind::Protocol, stream, error);
    Ok(Some(Stored {
        sequence: seq,
        subject,
        payload: BASE64_STANDARD.decode(data).map_err(unreadable)?.into(),
        headers: headers(&BASE64_STANDARD.decode(hdrs).map_err(unreadable)?),
        stored_at: time,
    }))
}

/// Reads a block of headers. A line that is none is left out.
fn headers(block: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    // The first line is the version.
    for line in String::from_utf8_lossy(block).split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.is_empty() {
            continue;
        }
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.trim().parse::<HeaderValue>()) {
            map.append(name, value);
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_are_read() {
        let map = headers(b"NATS/1.0\r\nA: 1\r\nA:2\r\n: x\r\nno header\r\nB:  a: b \r\n\r\n");
        let values: Vec<&str> = map.get_all("A").map(HeaderValue::as_str).collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(map.get("B").map(HeaderValue::as_str), Some("a: b"));
        assert_eq!(map.len(), 2);
        assert!(headers(b"").is_empty());
    }

    proptest! {
        #[test]
        fn nothing_from_the_network_panics(block in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = headers(&block);
        }
    }
}
