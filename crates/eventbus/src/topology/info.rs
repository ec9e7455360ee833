//! A stream as it is.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::spec::Storage;

/// A stream as it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// The subjects that it takes.
    pub subjects: Vec<String>,
    /// Where its messages are kept.
    pub storage: Storage,
    /// How many servers have each message.
    pub replicas: usize,
    /// How long the ids of messages are remembered.
    pub duplicate_window: Duration,
    /// How many messages it has.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The number of the oldest message; 0 when there never was one.
    pub first_sequence: u64,
    /// The number of the newest message; 0 when there never was one.
    pub last_sequence: u64,
    /// How many consumers it has.
    pub consumers: usize,
    /// The server that leads it, in a cluster.
    pub leader: Option<String>,
    /// When it was made: one that was deleted and made again counts its messages from 1.
    pub created: Option<Timestamp>,
    /// Its whole configuration, in nats-server's words.
    pub config: Map<String, Value>,
}

/// The API's answer.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) config: Map<String, Value>,
    #[serde(default)]
    created: String,
    #[serde(default)]
    state: State,
    #[serde(default)]
    cluster: Cluster,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
    consumer_count: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cluster {
    leader: Option<String>,
}

impl From<Answer> for StreamInfo {
    fn from(answer: Answer) -> Self {
        let Answer {
            config,
            created,
            state,
            cluster,
        } = answer;
        let text = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| config.get(name).and_then(Value::as_u64).unwrap_or_default();
        let subjects = config.get("subjects").and_then(Value::as_array);
        let subjects = subjects.into_iter().flatten().filter_map(Value::as_str);
        Self {
            name: text("name").to_owned(),
            subjects: subjects.map(str::to_owned).collect(),
            storage: if text("storage") == "memory" {
                Storage::Memory
            } else {
                Storage::File
            },
            replicas: usize::try_from(number("num_replicas")).unwrap_or(usize::MAX).max(1),
            duplicate_window: Duration::from_nanos(number("duplicate_window")),
            messages: state.messages,
            bytes: state.bytes,
            first_sequence: state.first_seq,
            last_sequence: state.last_seq,
            consumers: state.consumer_count,
            leader: cluster.leader,
            created: created.parse().ok(),
            config,
        }
    }
}
