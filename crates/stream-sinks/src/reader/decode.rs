//! From bytes to records, for the formats that write more than payloads.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::{Map, Value};

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
    let mut fields: Map<String, Value> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let payload = match (fields.remove("data"), fields.remove("data_base64")) {
        (Some(Value::String(text)), None) => text.into_bytes(),
        (None, Some(Value::String(text))) => STANDARD
            .decode(text)
            .map_err(|error| format!("`data_base64`: {error}"))?,
        _ => return Err("it has neither `data` nor `data_base64`, or both".to_owned()),
    };
    let time = match fields.remove("time") {
        None => None,
        Some(Value::String(text)) => {
            let time: Timestamp = text.parse().map_err(|error| format!("`time`: {error}"))?;
            Some(SystemTime::from(time))
        }
        Some(_) => return Err("`time` is no text".to_owned()),
    };
    let sequence = match fields.remove("sequence") {
        None => None,
        Some(number) => Some(number.as_u64().ok_or("`sequence` is no number of 64 bits")?),
    };
    let subject = match fields.remove("subject") {
        None => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => return Err("`subject` is no text".to_owned()),
    };
    let headers = fields
        .remove("headers")
        .map_or(Ok(Vec::new()), |value| headers(&value))?;
    Ok(StoredRecord {
        payload,
        subject,
        sequence,
        time,
        headers,
    })
}

fn headers(value: &Value) -> Result<Vec<(String, String)>, String> {
    let wrong = || "`headers` is no object of lists of texts".to_owned();
    let mut headers = Vec::new();
    for (name, values) in value.as_object().ok_or_else(wrong)? {
        for value in values.as_array().ok_or_else(wrong)? {
            headers.push((name.clone(), value.as_str().ok_or_else(wrong)?.to_owned()));
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_record_is_an_error() {
        for line in [
            "",
            "5",
            "[]",
            "\"x\"",
            "null",
            "{}",
            "{\"data\":5}",
            "{\"data\":\"\",\"data_base64\":\"\"}",
            "{\"data_base64\":\"?\"}",
            "{\"data\":\"\",\"subject\":5}",
            "{\"data\":\"\",\"sequence\":-1}",
            "{\"data\":\"\",\"time\":\"now\"}",
            "{\"data\":\"\",\"headers\":[]}",
            "{\"data\":\"\",\"headers\":{\"a\":5}}",
        ] {
            assert!(json(line.as_bytes()).is_err(), "{line}");
        }
    }
}
