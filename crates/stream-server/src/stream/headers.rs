//! Headers of the messages of a stream.

use async_nats::{HeaderMap, HeaderValue};
use natstream_connect::own_header;
use stream_proto::{Answer, ServiceError, Status, Transmit};

/// The headers of a message: `answer` is what a native stream says of itself, `metadata` the handler's own.
pub(crate) fn headers(answer: Option<&Answer>, transmit: &Transmit, metadata: Option<&HeaderMap>) -> Option<HeaderMap> {
    let metadata = metadata.filter(|_| transmit.metadata);
    if !transmit.header && transmit.failure.is_none() && metadata.is_none() {
        return None;
    }
    let mut headers = metadata.cloned().unwrap_or_default();
    if let Some(answer) = answer.filter(|_| transmit.header) {
        headers.insert(own_header(), HeaderValue::from(answer.encode()));
    }
    if let Some(failure) = &transmit.failure {
        insert_failure(&mut headers, failure);
    }
    Some(headers)
}

/// The largest header block that a handler may add.
pub(crate) const MAX_METADATA: usize = 4096;

/// Longest text of the error header: it must fit into what a unit leaves free for headers. The whole message is in the unit.
const MAX_FAILURE_HEADER: usize = 256;

/// The two headers in which NATS services say that they failed (ADR-32), in ASCII; the code is never 503.
pub(crate) fn insert_failure(headers: &mut HeaderMap, failure: &Status) {
    let ascii = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let message = failure.to_string();
    let message: String = message.chars().take(MAX_FAILURE_HEADER).map(ascii).collect();
    headers.insert(ServiceError::TEXT, message.as_str());
    headers.insert(ServiceError::CODE, failure.code.as_u8().to_string().as_str());
}
