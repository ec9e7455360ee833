//! Consumers as data.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Topology, TopologyError, TopologyErrorKind, api};
use crate::nanos;

/// Where a new consumer begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deliver {
    /// With the stream's first message.
    #[default]
    All,
    /// With what comes after it was made.
    New,
    /// With this message.
    From(u64),
}

/// A durable pull consumer, as it should be.
///
/// How often a message is delivered is not limited: who consumes counts attempts, and puts dead letters aside.
#[derive(Clone, Debug)]
#[must_use = "it makes nothing by itself"]
pub struct ConsumerSpec {
    stream: String,
    name: String,
    filters: Vec<String>,
    deliver: Deliver,
    ack_wait: Duration,
    max_ack_pending: Option<u64>,
}

impl ConsumerSpec {
    /// A consumer of this stream. Unless set otherwise it gets all messages, and an ack may take 30 s.
    pub fn new(stream: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            stream: stream.into(),
            name: name.into(),
            filters: Vec::new(),
            deliver: Deliver::default(),
            ack_wait: Duration::from_secs(30),
            max_ack_pending: None,
        }
    }

    /// It gets only messages of these subjects, which may have wildcards.
    pub fn filters(mut self, subjects: impl IntoIterator<Item: Into<String>>) -> Self {
        self.filters = subjects.into_iter().map(Into::into).collect();
        self
    }

    /// Where it begins when it is made; by default with the stream's first message.
    pub fn deliver(mut self, deliver: Deliver) -> Self {
        self.deliver = deliver;
        self
    }

    /// After how long a message that was not acked is delivered again; by default 30 s.
    pub fn ack_wait(mut self, wait: Duration) -> Self {
        self.ack_wait = wait;
        self
    }

    /// How many messages may be delivered and not acked, at all clients together; 1000 is nats-server's own default.
    pub fn max_ack_pending(mut self, messages: u64) -> Self {
        self.max_ack_pending = Some(messages);
        self
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The consumer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn wire(&self) -> Value {
        let mut config = json!({
            "name": self.name,
            "durable_name": self.name,
            "ack_policy": "explicit",
            "ack_wait": nanos(self.ack_wait),
            "max_deliver": -1,
            "replay_policy": "instant",
        });
        if !self.filters.is_empty() {
            config["filter_subjects"] = json!(self.filters);
        }
        if let Some(most) = self.max_ack_pending {
            config["max_ack_pending"] = json!(most);
        }
        match self.deliver {
            Deliver::All => config["deliver_policy"] = json!("all"),
            Deliver::New => config["deliver_policy"] = json!("new"),
            Deliver::From(sequence) => {
                config["deliver_policy"] = json!("by_start_sequence");
                config["opt_start_seq"] = json!(sequence);
            }
        }
        config
    }
}

/// A consumer as it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConsumerInfo {
    /// Its stream.
    pub stream: String,
    /// Its name.
    pub name: String,
    /// How long an ack may take.
    pub ack_wait: Duration,
    /// Up to this message of the stream all are acked.
    pub ack_floor: u64,
    /// The last message of the stream that was delivered.
    pub delivered: u64,
    /// How many deliveries there were: the number of the last one.
    pub deliveries: u64,
    /// Messages that were not delivered yet: how far it lags behind.
    pub pending: u64,
    /// Messages that were delivered and are not acked.
    pub ack_pending: u64,
    /// Messages that were delivered more than once and are not acked.
    pub redelivered: u64,
    /// Requests that wait for messages.
    pub waiting: u64,
    /// Its whole configuration, in nats-server's words.
    pub config: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    stream_name: String,
    name: String,
    config: Map<String, Value>,
    #[serde(default)]
    delivered: Position,
    #[serde(default)]
    ack_floor: Position,
    #[serde(default)]
    num_pending: u64,
    #[serde(default)]
    num_ack_pending: u64,
    #[serde(default)]
    num_redelivered: u64,
    #[serde(default)]
    num_waiting: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Position {
    consumer_seq: u64,
    stream_seq: u64,
}

impl From<Answer> for ConsumerInfo {
    fn from(answer: Answer) -> Self {
        let ack_wait = answer.config.get("ack_wait").and_then(Value::as_u64);
        Self {
            stream: answer.stream_name,
            name: answer.name,
            ack_wait: Duration::from_nanos(ack_wait.unwrap_or_default()),
            ack_floor: answer.ack_floor.stream_seq,
            delivered: answer.delivered.stream_seq,
            deliveries: answer.delivered.consumer_seq,
            pending: answer.num_pending,
            ack_pending: answer.num_ack_pending,
            redelivered: answer.num_redelivered,
            waiting: answer.num_waiting,
            config: answer.config,
        }
    }
}

impl ConsumerInfo {
    /// How often a message is delivered at most; `None` when that is not limited.
    #[must_use]
    pub fn max_deliver(&self) -> Option<u64> {
        let most = self.config.get("max_deliver").and_then(Value::as_u64);
        most.filter(|most| *most > 0)
    }

    /// The longest time that an ack may take: there may be one for each attempt.
    pub(crate) fn longest_ack_wait(&self) -> Duration {
        let waits = self.config.get("backoff").and_then(Value::as_array);
        let waits = waits.into_iter().flatten().filter_map(Value::as_u64);
        waits.map(Duration::from_nanos).fold(self.ack_wait, Duration::max)
    }

    /// The shortest time that an ack may take.
    pub(crate) fn shortest_ack_wait(&self) -> Duration {
        let waits = self.config.get("backoff").and_then(Value::as_array);
        let waits = waits.into_iter().flatten().filter_map(Value::as_u64);
        waits.map(Duration::from_nanos).fold(self.ack_wait, Duration::min)
    }
}

impl Topology {
    /// Makes the consumer if it is not there. One that is there is left as it is.
    ///
    /// # Errors
    /// [`NotFound`](TopologyErrorKind::NotFound) when there is no such stream, and others.
    ///
    /// # Cancel safety
    /// Dropped early, the consumer may have been made.
    pub async fn ensure_consumer(&self, spec: &ConsumerSpec) -> Result<ConsumerInfo, TopologyError> {
        match self.consumer(spec.stream(), spec.name()).await {
            Err(error) if error.kind() == TopologyErrorKind::NotFound => {
                // Also when somebody else makes it at this moment: the same configuration is no conflict.
                let question = json!({ "stream_name": spec.stream(), "config": spec.wire() });
                let (stream, name) = (spec.stream(), spec.name());
                let answer: Answer = api::ask_consumer(&self.connection, "CREATE", stream, name, &question).await?;
                Ok(answer.into())
            }
            known => known,
        }
    }

    /// A consumer as it is.
    ///
    /// # Errors
    /// [`NotFound`](TopologyErrorKind::NotFound), and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn consumer(&self, stream: &str, name: &str) -> Result<ConsumerInfo, TopologyError> {
        let answer: Answer = api::ask_consumer(&self.connection, "INFO", stream, name, &Value::Null).await?;
        Ok(answer.into())
    }

    /// Deletes a consumer: what it knows of acks is gone.
    ///
    /// # Errors
    /// [`NotFound`](TopologyErrorKind::NotFound), and others.
    ///
    /// # Cancel safety
    /// Dropped early, the consumer may be gone.
    pub async fn delete_consumer(&self, stream: &str, name: &str) -> Result<(), TopologyError> {
        let _: Map<String, Value> = api::ask_consumer(&self.connection, "DELETE", stream, name, &Value::Null).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_is_written_as_the_server_reads_it() {
        let spec = ConsumerSpec::new("S", "c")
            .filters(["a.*", "b"])
            .ack_wait(Duration::from_secs(1))
            .deliver(Deliver::From(7));
        let wire = spec.wire();
        assert_eq!(wire["durable_name"], "c");
        assert_eq!(wire["ack_wait"], 1_000_000_000_u64);
        assert_eq!(wire["filter_subjects"], json!(["a.*", "b"]));
        assert_eq!(
            (&wire["deliver_policy"], &wire["opt_start_seq"]),
            (&json!("by_start_sequence"), &json!(7))
        );
        assert_eq!(wire.get("max_ack_pending"), None);
    }

    #[test]
    fn a_consumer_is_read() {
        let answer = json!({
            "stream_name": "S", "name": "c", "config": { "ack_wait": 5 }, "delivered": { "consumer_seq": 9, "stream_seq": 8 },
            "ack_floor": { "stream_seq": 6 }, "num_pending": 3, "num_ack_pending": 2, "num_waiting": 1,
        });
        let answer: Answer = serde_json::from_value(answer).expect("an answer");
        let info = ConsumerInfo::from(answer);
        assert_eq!(
            (info.delivered, info.ack_floor, info.pending, info.ack_pending),
            (8, 6, 3, 2)
        );
        assert_eq!((info.ack_wait, info.deliveries), (Duration::from_nanos(5), 9));
        assert_eq!(info.max_deliver(), None);
    }

    #[test]
    fn limits_of_foreign_consumers_are_read() {
        let answer = json!({
            "stream_name": "S", "name": "c", "config": { "ack_wait": 5, "backoff": [5, 9, 3], "max_deliver": 4 },
        });
        let answer: Answer = serde_json::from_value(answer).expect("an answer");
        let info = ConsumerInfo::from(answer);
        assert_eq!(info.max_deliver(), Some(4));
        let waits = (info.shortest_ack_wait(), info.longest_ack_wait());
        assert_eq!(waits, (Duration::from_nanos(3), Duration::from_nanos(9)));
    }
}
