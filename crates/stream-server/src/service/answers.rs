//! The answers, in the JSON of ADR-32.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::identity::{EndpointIdentity, Identity};
use crate::stats::{EndpointStats, saturate};

/// The key by which tools know a streaming endpoint, in its metadata and in the data of its statistics.
const MARK: &str = "natstream";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Ping,
    Info,
    Stats,
}

impl Verb {
    pub(crate) const ALL: [Self; 3] = [Self::Ping, Self::Info, Self::Stats];
}

impl fmt::Display for Verb {
    /// As in subjects.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ping => "PING",
            Self::Info => "INFO",
            Self::Stats => "STATS",
        })
    }
}

pub(crate) fn ping(service: &Identity) -> Bytes {
    encode(head(service, "ping"))
}

/// The endpoints with their subjects.
pub(crate) fn info<'a>(
    service: &Identity,
    endpoints: impl IntoIterator<Item = (&'a str, &'a EndpointIdentity)>,
) -> Bytes {
    let endpoint = |(subject, endpoint): (&str, &EndpointIdentity)| {
        let mut metadata = endpoint.metadata.clone();
        metadata.insert(MARK.to_owned(), stream_proto::VERSION.to_string());
        json!({
            "name": endpoint.name,
            "subject": subject,
            "queue_group": endpoint.queue_group,
            "metadata": metadata,
        })
    };
    let mut answer = head(service, "info");
    answer.insert("description".to_owned(), service.description.as_str().into());
    answer.insert("endpoints".to_owned(), endpoints.into_iter().map(endpoint).collect());
    encode(answer)
}

/// The endpoints with their subjects and counters.
pub(crate) fn stats<'a>(
    service: &Identity,
    endpoints: impl IntoIterator<Item = (&'a str, &'a EndpointIdentity, &'a EndpointStats)>,
) -> Bytes {
    let endpoint = |(subject, endpoint, stats): (&str, &EndpointIdentity, &EndpointStats)| {
        let processing_time = nanos(stats.processing_time);
        json!({
            "name": endpoint.name,
            "subject": subject,
            "queue_group": endpoint.queue_group,
            "num_requests": stats.requests,
            "num_errors": stats.error_count(),
            "last_error": stats.last_error.as_deref().unwrap_or_default(),
            "processing_time": processing_time,
            "average_processing_time": processing_time.checked_div(stats.requests).unwrap_or(0),
            "data": data(stats),
        })
    };
    let mut answer = head(service, "stats");
    answer.insert("started".to_owned(), rfc3339(service.started).into());
    answer.insert("endpoints".to_owned(), endpoints.into_iter().map(endpoint).collect());
    encode(answer)
}

/// What all answers begin with.
fn head(service: &Identity, kind: &str) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert("type".to_owned(), format!("io.nats.micro.v1.{kind}_response").into());
    answer.insert("name".to_owned(), service.name.as_str().into());
    answer.insert("id".to_owned(), service.id.as_str().into());
    answer.insert("version".to_owned(), service.version.as_str().into());
    answer.insert("metadata".to_owned(), json!(service.metadata));
    answer
}

/// What a streaming endpoint counts beside what ADR-32 names.
fn data(stats: &EndpointStats) -> Value {
    let errors: Map<_, _> = stats
        .errors
        .iter()
        .map(|(code, count)| (code.to_string(), Value::from(*count)))
        .collect();
    json!({
        MARK: stream_proto::VERSION.to_string(),
        "begun": stats.begun,
        "active": stats.active,
        "queued": stats.queued,
        "finished": stats.finished,
        "failed": stats.failed,
        "cancelled": stats.cancelled,
        "refused": stats.refused,
        "items": stats.items,
        "bytes": stats.bytes,
        "stalled_ns": nanos(stats.stalled),
        "average_ns": nanos(stats.average_duration()),
        "errors": errors,
        "retransmitted": stats.retransmitted,
        "rewinds": stats.rewinds,
        "suspicions": stats.suspicions,
        "foreign": stats.foreign,
        "malformed": stats.malformed,
        "denied": stats.denied,
        "refused_subjects": stats.refused_subjects,
        "ignored": stats.ignored,
    })
}

fn encode(answer: Map<String, Value>) -> Bytes {
    Value::Object(answer).to_string().into()
}

fn nanos(time: Duration) -> u64 {
    saturate(time.as_nanos())
}

fn rfc3339(time: SystemTime) -> String {
    // What comes before 1970 has no such form there; a clock that was never set may be a little off.
    humantime::format_rfc3339_millis(time.max(SystemTime::UNIX_EPOCH)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stream_proto::Code;

    fn service() -> Identity {
        Identity {
            name: "orders".to_owned(),
            version: "1.2.3".to_owned(),
            description: "all \"orders\"".to_owned(),
            metadata: [("zone".to_owned(), "a".to_owned())].into(),
            id: "abc".to_owned(),
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        }
    }

    fn endpoint() -> EndpointIdentity {
        EndpointIdentity {
            name: "search".to_owned(),
            queue_group: "q".to_owned(),
            metadata: [("k".to_owned(), "v".to_owned()), (MARK.to_owned(), "0".to_owned())].into(),
        }
    }

    fn parse(answer: &Bytes) -> Value {
        serde_json::from_slice(answer).expect("an answer is JSON")
    }

    #[test]
    fn a_ping_is_answered_with_the_standard_fields() {
        let expected = json!({
            "type": "io.nats.micro.v1.ping_response",
            "name": "orders",
            "id": "abc",
            "version": "1.2.3",
            "metadata": {"zone": "a"},
        });
        assert_eq!(parse(&ping(&service())), expected);
    }

    #[test]
    fn info_names_the_endpoints() {
        let expected = json!({
            "type": "io.nats.micro.v1.info_response",
            "name": "orders",
            "id": "abc",
            "version": "1.2.3",
            "metadata": {"zone": "a"},
            "description": "all \"orders\"",
            "endpoints": [{
                "name": "search",
                "subject": "orders.search",
                "queue_group": "q",
                "metadata": {"k": "v", "natstream": "1"},
            }],
        });
        assert_eq!(parse(&info(&service(), [("orders.search", &endpoint())])), expected);
        assert_eq!(parse(&info(&service(), []))["endpoints"], json!([]));
    }

    #[test]
    fn statistics_have_the_standard_fields_and_ours() {
        let counters = EndpointStats {
            requests: 4,
            begun: 2,
            refused: 2,
            items: u64::MAX,
            processing_time: Duration::from_nanos(1001),
            stalled: Duration::MAX,
            errors: vec![(Code::NotFound, 1), (Code::Other(99), 2)],
            last_error: Some("NOT_FOUND: none".to_owned()),
            ..EndpointStats::default()
        };
        let answer = parse(&stats(&service(), [("orders.search", &endpoint(), &counters)]));
        assert_eq!(answer["type"], "io.nats.micro.v1.stats_response");
        assert_eq!(answer["started"], "2023-11-14T22:13:20.123Z");
        let mut endpoint = answer["endpoints"][0].clone();
        let data = endpoint["data"].take();
        let expected = json!({
            "name": "search",
            "subject": "orders.search",
            "queue_group": "q",
            "num_requests": 4,
            "num_errors": 3,
            "last_error": "NOT_FOUND: none",
            "processing_time": 1001,
            "average_processing_time": 250,
            "data": null,
        });
        assert_eq!(endpoint, expected);
        assert_eq!((&data[MARK], &data["average_ns"]), (&json!("1"), &json!(500)));
        assert_eq!(data["errors"], json!({"NOT_FOUND": 1, "CODE_99": 2}));
        assert_eq!(
            (&data["items"], &data["stalled_ns"]),
            (&json!(u64::MAX), &json!(u64::MAX))
        );
    }

    #[test]
    fn statistics_of_an_endpoint_without_calls_divide_by_nothing() {
        let counters = EndpointStats::default();
        let answer = parse(&stats(&service(), [("s", &endpoint(), &counters)]));
        let endpoint = &answer["endpoints"][0];
        assert_eq!(
            (&endpoint["average_processing_time"], &endpoint["last_error"]),
            (&json!(0), &json!(""))
        );
    }

    #[test]
    fn a_clock_before_1970_is_no_reason_to_fail() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc3339(before), "1970-01-01T00:00:00.000Z");
    }
}
