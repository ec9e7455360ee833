//! From bytes to records, for the formats that write more than payloads.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::Value;

use super::StoredRecord;

/// `[2026-11-20 04:00:00.123] subject: payload`.
pub(super) fn timestamped(line: &[u8]) -> Result<StoredRecord, String> {
    let damaged = || "it does not begin with `[time] subject: `".to_owned();
    let end = line.iter().position(|byte| *byte == b']').ok_or_else(damaged)?;
    let time = line[..end].strip_prefix(b"[").ok_or_else(damaged)?;
    let time = std::str::from_utf8(time).map_err(|_| damaged())?;
    let time: DateTime = time.parse().map_err(|_| damaged())?;
    let time = time.to_zoned(TimeZone::UTC).map_err(|_| damaged())?;
    let rest = line[end + 1..].strip_prefix(b" ").ok_or_else(damaged)?;
    let colon = rest.windows(2).position(|two| two == b": ").ok_or_else(damaged)?;
    let subject = std::str::from_utf8(&rest[..colon]).map_err(|_| damaged())?;
    Ok(StoredRecord {
        payload: rest[colon + 2..].to_vec(),
        subject: (!subject.is_empty()).then(|| subject.to_owned()),
        time: Some(SystemTime::from(time.timestamp())),
        ..StoredRecord::default()
    })
}

/// An object of [`Format::json_lines`](crate::Format::json_lines).
pub(super) fn json(line: &[u8]) -> Result<StoredRecord, String> {
    let mut value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let payload = match (value["data"].take(), value["data_base64"].take()) {
        (Value::String(text), Value::Null) => text.into_bytes(),
        (Value::Null, Value::String(text)) => STANDARD
            .decode(text)
            .map_err(|error| format!("`data_base64`: {error}"))?,
        _ => return Err("it has neither `data` nor `data_base64`".to_owned()),
    };
    let time = match &value["time"] {
        Value::Null => None,
        Value::String(text) => {
            let time: Timestamp = text.parse().map_err(|error| format!("`time`: {error}"))?;
            Some(SystemTime::from(time))
        }
        _ => return Err("`time` is no text".to_owned()),
    };
    let sequence = match &value["sequence"] {
        Value::Null => None,
        number => Some(number.as_u64().ok_or("`sequence` is no number of 64 bits")?),
    };
    Ok(StoredRecord {
        payload,
        subject: value["subject"].as_str().map(str::to_owned),
        sequence,
        time,
        headers: headers(&value["headers"])?,
    })
}

fn headers(value: &Value) -> Result<Vec<(String, String)>, String> {
    let wrong = || "`headers` is no object of lists of texts".to_owned();
    let Value::Object(map) = value else {
        return if value.is_null() { Ok(Vec::new()) } else { Err(wrong()) };
    };
    let mut headers = Vec::new();
    for (name, values) in map {
        for value in values.as_array().ok_or_else(wrong)? {
            headers.push((name.clone(), value.as_str().ok_or_else(wrong)?.to_owned()));
        }
    }
    Ok(headers)
}
