//! Reads the vector files.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use stream_proto::{Code, HEADER, Message, ServiceError, Status};

pub(crate) fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors")
}

pub(crate) fn load(name: &str) -> Value {
    let path = directory().join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

/// A number of the wire: a decimal string, since it may exceed 2^53.
pub(crate) fn number(value: &Value) -> u64 {
    text(value).parse().unwrap_or_else(|_| panic!("not a number: {value}"))
}

pub(crate) fn flag(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| panic!("not a flag: {value}"))
}

pub(crate) fn int(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// Bytes as hex, with `(xx*n)` for a run of one byte.
pub(crate) fn bytes(value: &Value) -> Bytes {
    let mut out = Vec::new();
    let mut rest = text(value);
    while let Some(first) = rest.chars().next() {
        if first == '(' {
            let (run, after) = rest[1..].split_once(')').expect("a run ends with )");
            let (byte, count) = run.split_once('*').expect("a run has a count");
            out.resize(out.len() + count.parse::<usize>().expect("a count"), hex_byte(byte));
            rest = after;
        } else {
            out.push(hex_byte(&rest[..2]));
            rest = &rest[2..];
        }
    }
    Bytes::from(out)
}

pub(crate) fn hex_byte(digits: &str) -> u8 {
    u8::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("not hex: {digits}"))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Several of them, written out.
pub(crate) fn hex_list(value: &Value) -> Vec<String> {
    list(value).iter().map(|value| hex(&bytes(value))).collect()
}

/// `fields` of a vector with its bytes written out, so that it can be compared.
pub(crate) fn plain(fields: &Value) -> Value {
    let mut fields = fields.clone();
    for path in ["/data", "/details", "/fin/details", "/trailers"] {
        if let Some(found) = fields.pointer_mut(path) {
            *found = json!(hex(&bytes(found)));
        }
    }
    fields
}

pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a time that is written in milliseconds")
}

pub(crate) fn status_fields(status: &Status) -> Value {
    json!({
        "code": status.code.as_u8(),
        "not_processed": status.not_processed,
        "retryable": status.retryable,
        "retry_after_ms": status.retry_after.map_or(0, ms).to_string(),
        "message": status.message,
        "details": hex(&status.details),
    })
}

pub(crate) fn status(fields: &Value) -> Status {
    let code = u8::try_from(int(&fields["code"])).expect("a code");
    let mut status = Status::new(Code::from_u8(code), text(&fields["message"]));
    status.details = bytes(&fields["details"]);
    status.not_processed = flag(&fields["not_processed"]);
    status.retryable = flag(&fields["retryable"]);
    let retry_after = number(&fields["retry_after_ms"]);
    status.retry_after = (retry_after > 0).then(|| Duration::from_millis(retry_after));
    status
}

/// A message of a vector, as the transport would hand it over.
pub(crate) fn received(vector: &Value) -> Message<'_> {
    let headers = &vector["headers"];
    let code = headers[ServiceError::CODE].as_str();
    let words = headers[ServiceError::TEXT].as_str();
    Message {
        status: vector["status"]
            .as_u64()
            .map(|status| u16::try_from(status).expect("a status")),
        header: vector["headers"][HEADER].as_str(),
        has_headers: vector["headers"].is_object(),
        has_control: vector["control"].as_bool().unwrap_or_default(),
        service_error: code.or(words).map(|_| ServiceError {
            code: code.unwrap_or_default(),
            text: words.unwrap_or_default(),
        }),
        payload: bytes(&vector["hex"]),
        ..Message::default()
    }
}
