//! JSON in lines.

use std::{io::Write, str};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use super::{Boundary, Formatter};
use crate::Record;

pub(super) struct JsonLines;

impl Formatter for JsonLines {
    fn encode(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(subject) = record.subject_of() {
            out.extend_from_slice(b"\"subject\":");
            string(subject, out);
            out.push(b',');
        }
        // Writing to a vector does not fail, here and below.
        if let Some(sequence) = record.sequence_of() {
            let _ = write!(out, "\"sequence\":{sequence},");
        }
        if let Some(time) = record.time_of().and_then(|time| Timestamp::try_from(time).ok()) {
            let _ = write!(out, "\"time\":\"{time}\",");
        }
        if !record.headers_of().is_empty() {
            headers(record.headers_of(), out);
        }
        match str::from_utf8(record.payload()) {
            Ok(text) => {
                out.extend_from_slice(b"\"data\":");
                string(text, out);
            }
            Err(_) => {
                out.extend_from_slice(b"\"data_base64\":\"");
                out.extend_from_slice(STANDARD.encode(record.payload()).as_bytes());
                out.push(b'"');
            }
        }
        out.extend_from_slice(b"}\n");
    }

    fn boundary(&self) -> Boundary {
        Boundary::Line
    }

    fn needs_time(&self) -> bool {
        true
    }
}

/// An object of arrays, in the order in which names come first.
fn headers(headers: &[(&str, &str)], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"headers\":{");
    let mut first = true;
    for (at, (name, _)) in headers.iter().enumerate() {
        if headers[..at].iter().any(|(earlier, _)| earlier == name) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        string(name, out);
        out.extend_from_slice(b":[");
        let values = headers[at..].iter().filter(|(other, _)| other == name);
        for (index, (_, value)) in values.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            string(value, out);
        }
        out.push(b']');
    }
    out.extend_from_slice(b"},");
}

fn string(text: &str, out: &mut Vec<u8>) {
    // Neither a string nor a vector makes this fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn encoded(record: Record<'_>) -> serde_json::Value {
        let mut out = Vec::new();
        JsonLines.encode(&record, &mut out);
        assert_eq!(out.pop(), Some(b'\n'));
        assert!(!out.contains(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_line_has_all_that_is_known() {
        let headers = [("a", "1"), ("b", "\"x\n\""), ("a", "2")];
        let record = Record::new("h\u{e9}\n".as_bytes())
            .subject("s")
            .sequence(u64::MAX)
            .time(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_500_000_000))
            .headers(&headers);
        let expected = serde_json::json!({
            "subject": "s", "sequence": u64::MAX, "time": "1970-01-01T00:00:01.5Z",
            "headers": { "a": ["1", "2"], "b": ["\"x\n\""] }, "data": "h\u{e9}\n",
        });
        assert_eq!(encoded(record), expected);
    }

    #[test]
    fn bytes_are_base64() {
        assert_eq!(
            encoded(Record::new(b"\xff\n")),
            serde_json::json!({ "data_base64": "/wo=" })
        );
    }
}
