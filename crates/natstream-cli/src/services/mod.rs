//! The streaming endpoints on this NATS, as service discovery tells them (ADR-32).
//!
//! Whoever is on this NATS may answer, so nothing of an answer is believed: what cannot be read counts as missing, and
//! what is shown has gone through [`format`].

pub(crate) mod format;
mod gather;

use serde_json::{Map, Value, json};

pub(crate) use gather::{Gathered, Patience, gather};

/// The question.
const STATS: &str = "$SRV.STATS";

/// The field in an endpoint's data by which a streaming endpoint is known.
const MARK: &str = "natstream";

/// More of a text is cut off: nothing that is honest is as long.
const MAX_TEXT: usize = 256;

/// One endpoint of one service. The texts are as they were sent, but for their length.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) id: String,
    pub(crate) endpoint: String,
    pub(crate) subject: String,
    pub(crate) queue: String,
    pub(crate) calls: u64,
    /// Those of programs that know nothing of natstream.
    pub(crate) foreign: u64,
    pub(crate) active: u64,
    pub(crate) queued: u64,
    pub(crate) items: u64,
    pub(crate) bytes: u64,
    pub(crate) finished: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) refused: u64,
    /// Streams whose messages nats-server refused to deliver.
    pub(crate) denied: u64,
    pub(crate) retransmitted: u64,
    pub(crate) stalled_ns: u64,
    pub(crate) average_ns: u64,
    /// Failed calls and refused requests by code.
    pub(crate) errors: Vec<(String, u64)>,
    pub(crate) last_error: String,
}

impl Row {
    /// The streaming endpoints in an answer to [`STATS`]; none in what is no such answer.
    pub(crate) fn read(answer: &[u8]) -> Vec<Self> {
        let Ok(answer) = serde_json::from_slice::<Value>(answer) else {
            return Vec::new();
        };
        let endpoints = answer.get("endpoints").and_then(Value::as_array);
        endpoints
            .into_iter()
            .flatten()
            .filter_map(|endpoint| Self::read_endpoint(&answer, endpoint))
            .collect()
    }

    fn read_endpoint(service: &Value, endpoint: &Value) -> Option<Self> {
        let data = endpoint.get("data")?;
        data.get(MARK)?;
        let errors = data.get("errors").and_then(Value::as_object);
        Some(Self {
            name: text(service, "name"),
            version: text(service, "version"),
            id: text(service, "id"),
            endpoint: text(endpoint, "name"),
            subject: text(endpoint, "subject"),
            queue: text(endpoint, "queue_group"),
            calls: number(endpoint, "num_requests"),
            foreign: number(data, "foreign"),
            active: number(data, "active"),
            queued: number(data, "queued"),
            items: number(data, "items"),
            bytes: number(data, "bytes"),
            finished: number(data, "finished"),
            failed: number(data, "failed"),
            cancelled: number(data, "cancelled"),
            refused: number(data, "refused"),
            denied: number(data, "denied"),
            retransmitted: number(data, "retransmitted"),
            stalled_ns: number(data, "stalled_ns"),
            average_ns: number(data, "average_ns"),
            // There are 256 codes.
            errors: errors
                .into_iter()
                .flat_map(|errors| errors.iter().take(32))
                .map(|(code, count)| (cut(code), as_number(count)))
                .collect(),
            last_error: text(endpoint, "last_error"),
        })
    }

    /// What sorts rows, and knows one again.
    pub(crate) fn key(&self) -> (&str, &str, &str, &str) {
        (&self.name, &self.subject, &self.endpoint, &self.id)
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let millis = |nanos: u64| nanos as f64 / 1e6;
        let errors: Map<_, _> = self
            .errors
            .iter()
            .map(|(code, count)| (code.clone(), Value::from(*count)))
            .collect();
        json!({
            "name": self.name,
            "version": self.version,
            "id": self.id,
            "endpoint": self.endpoint,
            "subject": self.subject,
            "queue": self.queue,
            "calls": self.calls,
            "foreign": self.foreign,
            "active": self.active,
            "queued": self.queued,
            "items": self.items,
            "bytes": self.bytes,
            "finished": self.finished,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "refused": self.refused,
            "denied": self.denied,
            "retransmitted": self.retransmitted,
            "stalled_ms": millis(self.stalled_ns),
            "average_ms": millis(self.average_ns),
            "errors": errors,
            "last_error": self.last_error,
        })
    }
}

fn text(value: &Value, field: &str) -> String {
    cut(value.get(field).and_then(Value::as_str).unwrap_or_default())
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

fn number(value: &Value, field: &str) -> u64 {
    value.get(field).map_or(0, as_number)
}

/// What is no number counts as 0, and what is too large as the largest.
fn as_number(value: &Value) -> u64 {
    // The cast of a float saturates.
    let float = || value.as_f64().map(|float| float as u64);
    value.as_u64().or_else(float).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Value {
        json!({
            "type": "io.nats.micro.v1.stats_response",
            "name": "orders", "id": "abc", "version": "1.2.3", "metadata": {},
            "started": "2026-01-01T00:00:00.000Z",
            "endpoints": [
                {
                    "name": "search", "subject": "orders.search", "queue_group": "q",
                    "num_requests": 7, "num_errors": 3, "last_error": "NOT_FOUND: none",
                    "processing_time": 700, "average_processing_time": 100,
                    "data": {
                        "natstream": "1", "begun": 5, "active": 1, "queued": 2, "finished": 1, "failed": 1,
                        "cancelled": 2, "refused": 2, "items": 30, "bytes": 3000, "stalled_ns": 1_500_000,
                        "average_ns": 140, "errors": {"NOT_FOUND": 1, "RESOURCE_EXHAUSTED": 2}, "retransmitted": 4,
                        "foreign": 6, "denied": 8,
                    },
                },
                { "name": "other", "subject": "orders.other", "data": {"anything": 1} },
                { "name": "plain", "subject": "orders.plain" },
            ],
        })
    }

    #[test]
    fn streaming_endpoints_are_read() {
        let rows = Row::read(answer().to_string().as_bytes());
        let expected = Row {
            name: "orders".to_owned(),
            version: "1.2.3".to_owned(),
            id: "abc".to_owned(),
            endpoint: "search".to_owned(),
            subject: "orders.search".to_owned(),
            queue: "q".to_owned(),
            calls: 7,
            foreign: 6,
            active: 1,
            queued: 2,
            items: 30,
            bytes: 3000,
            finished: 1,
            failed: 1,
            cancelled: 2,
            refused: 2,
            denied: 8,
            retransmitted: 4,
            stalled_ns: 1_500_000,
            average_ns: 140,
            errors: vec![("NOT_FOUND".to_owned(), 1), ("RESOURCE_EXHAUSTED".to_owned(), 2)],
            last_error: "NOT_FOUND: none".to_owned(),
        };
        assert_eq!(rows, [expected], "the others stream nothing");
        let json = rows[0].json();
        assert_eq!(json["stalled_ms"], 1.5);
        assert_eq!((&json["foreign"], &json["denied"]), (&6.into(), &8.into()));
        // For programs they are there always.
        let none = Row::default().json();
        assert_eq!((&none["foreign"], &none["denied"]), (&0.into(), &0.into()));
    }

    #[test]
    fn no_answer_makes_the_reader_panic() {
        let nested = "[".repeat(100_000);
        for text in [
            "",
            "null",
            "[]",
            "{",
            "{}",
            &nested,
            r#"{"endpoints": 1}"#,
            r#"{"endpoints": [1, null, {}, {"data": null}, {"data": []}, {"data": {"natstream": null}}]}"#,
        ] {
            let rows = Row::read(text.as_bytes());
            assert!(rows.iter().all(|row| *row == Row::default()), "{text:.40}");
        }
        assert!(Row::read(b"\xff\xfe").is_empty());
    }

    #[test]
    fn numbers_of_any_size_are_numbers() {
        for (value, expected) in [
            ("1", 1),
            ("18446744073709551615", u64::MAX),
            ("18446744073709551616", u64::MAX),
            ("1e300", u64::MAX),
            ("1.9", 1),
            ("-1", 0),
            ("-1e300", 0),
            ("\"7\"", 0),
            ("{}", 0),
        ] {
            let answer = format!(r#"{{"endpoints": [{{"data": {{"natstream": "1", "items": {value}}}}}]}}"#);
            assert_eq!(Row::read(answer.as_bytes())[0].items, expected, "{value}");
        }
    }

    #[test]
    fn texts_are_cut() {
        let mut answer = answer();
        answer["name"] = "é".repeat(100_000).into();
        let row = &Row::read(answer.to_string().as_bytes())[0];
        assert_eq!(row.name.chars().count(), MAX_TEXT);
    }
}
