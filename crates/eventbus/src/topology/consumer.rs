//! Consumers as data.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::spec::{Difference, sorted};
use super::{Topology, TopologyError, TopologyErrorKind, api};
use crate::nanos;

/// Nanoseconds.
const SCANNER_GOES_AFTER: u64 = 30_000_000_000;

/// What nats-server has, too.
const ACK_WAIT: Duration = Duration::from_secs(30);

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

/// What an ack of a consumer's message says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AckPolicy {
    /// That this message is done.
    #[default]
    Explicit,
    /// That this message and all before it are done. Not for streams with [`WorkQueue`](super::Retention::WorkQueue)
    /// retention: nats-server refuses it.
    All,
    /// Nothing: there are no acks. Messages that are lost on the way do not come again.
    None,
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
    deliver: Option<Deliver>,
    ack_policy: Option<AckPolicy>,
    ack_wait: Option<Duration>,
    max_ack_pending: Option<u64>,
}

impl ConsumerSpec {
    /// A consumer of this stream. Unless set otherwise it gets all messages, and an ack may take 30 s.
    pub fn new(stream: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            stream: stream.into(),
            name: name.into(),
            filters: Vec::new(),
            deliver: None,
            ack_policy: None,
            ack_wait: None,
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
        self.deliver = Some(deliver);
        self
    }

    /// What an ack says; by default that one message is done. [`Consumer::for_each`](crate::Consumer::for_each) needs it so.
    pub fn ack_policy(mut self, policy: AckPolicy) -> Self {
        self.ack_policy = Some(policy);
        self
    }

    /// After how long a message that was not acked is delivered again; by default 30 s.
    pub fn ack_wait(mut self, wait: Duration) -> Self {
        self.ack_wait = Some(wait);
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

    /// The subjects that it is limited to; none for all.
    #[must_use]
    pub fn subjects(&self) -> &[String] {
        &self.filters
    }

    fn wire(&self) -> Value {
        let mut config = json!({
            "name": self.name,
            "durable_name": self.name,
            "ack_policy": self.ack_policy.unwrap_or_default().name(),
            "ack_wait": nanos(self.ack_wait.unwrap_or(ACK_WAIT)),
            "max_deliver": -1,
            "replay_policy": "instant",
        });
        if !self.filters.is_empty() {
            config["filter_subjects"] = json!(self.filters);
        }
        if let Some(most) = self.max_ack_pending {
            config["max_ack_pending"] = json!(most);
        }
        match self.deliver.unwrap_or_default() {
            Deliver::All => config["deliver_policy"] = json!("all"),
            Deliver::New => config["deliver_policy"] = json!("new"),
            Deliver::From(sequence) => {
                config["deliver_policy"] = json!("by_start_sequence");
                config["opt_start_seq"] = json!(sequence);
            }
        }
        config
    }

    /// Where a consumer with this configuration is not as declared. What is not declared is not looked at.
    fn differences(&self, config: &Map<String, Value>) -> Vec<Difference> {
        let wire = self.wire();
        let actual = |name: &str| config.get(name).cloned().unwrap_or_default();
        let mut settings = vec![("ack_policy", actual("ack_policy"))];
        if !self.filters.is_empty() {
            // One subject has a setting of its own.
            let one = config.get("filter_subject").map(|subject| json!([subject]));
            settings.push(("filter_subjects", one.unwrap_or_else(|| actual("filter_subjects"))));
        }
        if self.deliver.is_some() {
            settings.push(("deliver_policy", actual("deliver_policy")));
            settings.push(("opt_start_seq", actual("opt_start_seq")));
        }
        if self.ack_wait.is_some() {
            settings.push(("ack_wait", actual("ack_wait")));
        }
        if self.max_ack_pending.is_some() {
            settings.push(("max_ack_pending", actual("max_ack_pending")));
        }
        let difference = |(name, actual): (&str, Value)| {
            let declared = wire.get(name).cloned().unwrap_or_default();
            (sorted(&declared) != sorted(&actual)).then(|| Difference {
                setting: name.to_owned(),
                declared: declared.to_string(),
                actual: actual.to_string(),
                destroys: false,
            })
        };
        settings.into_iter().filter_map(difference).collect()
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
    /// What an ack says.
    pub ack_policy: AckPolicy,
    /// Whether nats-server pushes its messages: then it cannot be asked for any.
    pub pushes: bool,
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

impl ConsumerInfo {
    /// The subjects that it is limited to, sorted; none for all.
    #[must_use]
    pub fn subjects(&self) -> Vec<String> {
        let one = self.config.get("filter_subject").and_then(Value::as_str);
        let more = self.config.get("filter_subjects").and_then(Value::as_array);
        let more = more.into_iter().flatten().filter_map(Value::as_str);
        let mut subjects: Vec<String> = one.into_iter().chain(more).map(str::to_owned).collect();
        subjects.retain(|subject| !subject.is_empty() && subject != ">");
        subjects.sort();
        subjects
    }
}

impl From<Answer> for ConsumerInfo {
    fn from(answer: Answer) -> Self {
        let ack_wait = answer.config.get("ack_wait").and_then(Value::as_u64);
        let text = |name: &str| answer.config.get(name).and_then(Value::as_str).unwrap_or_default();
        let (ack_policy, pushes) = (AckPolicy::read(text("ack_policy")), !text("deliver_subject").is_empty());
        Self {
            stream: answer.stream_name,
            name: answer.name,
            ack_policy,
            pushes,
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

impl AckPolicy {
    fn name(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::All => "all",
            Self::None => "none",
        }
    }

    fn read(name: &str) -> Self {
        match name {
            "all" => Self::All,
            "none" => Self::None,
            _ => Self::Explicit,
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

    /// Makes a consumer that nobody keeps: without acks, in the memory of one server, gone when nobody asks it for a minute.
    #[cfg(any(feature = "kv", feature = "object"))]
    pub(crate) async fn passing_consumer(
        &self,
        stream: &str,
        name: &str,
        mut config: Map<String, Value>,
    ) -> Result<ConsumerInfo, TopologyError> {
        let common = json!({
            "name": name, "ack_policy": "none", "mem_storage": true, "num_replicas": 1, "replay_policy": "instant",
            "inactive_threshold": 60_000_000_000_u64,
        });
        if let Value::Object(common) = common {
            config.extend(common);
        }
        let question = json!({ "stream_name": stream, "config": config });
        let answer: Answer = api::ask_consumer(&self.connection, "CREATE", stream, name, &question).await?;
        Ok(answer.into())
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

    /// Lets a consumer begin again: behind what is acked without a hole, or with message `from`. Whatever is not acked is
    /// delivered again, and deliveries are counted from 1. It needs nats-server 2.14 (`$JS.API.CONSUMER.RESET`).
    ///
    /// # Errors
    /// [`NotEnabled`](TopologyErrorKind::NotEnabled) when nobody hears it: an older server, or no leader.
    /// [`Rejected`](TopologyErrorKind::Rejected): the consumer does not begin there.
    ///
    /// # Cancel safety
    /// Dropped early, the consumer may have been reset.
    pub(crate) async fn reset_consumer(
        &self,
        stream: &str,
        name: &str,
        from: Option<u64>,
    ) -> Result<(), TopologyError> {
        let question = from.map_or(Value::Null, |from| json!({ "seq": from }));
        let _: Map<String, Value> = api::ask_consumer(&self.connection, "RESET", stream, name, &question).await?;
        Ok(())
    }

    /// Makes a consumer that takes no acks, begins at `from`, and is forgotten when nobody asks it.
    pub(crate) async fn create_scanner(
        &self,
        stream: &str,
        name: &str,
        filters: &[String],
        from: u64,
        has_payloads: bool,
    ) -> Result<ConsumerInfo, TopologyError> {
        let mut config = json!({
            "name": name,
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": from,
            "replay_policy": "instant",
            "headers_only": !has_payloads,
            "inactive_threshold": SCANNER_GOES_AFTER,
            "mem_storage": true,
            "num_replicas": 1,
        });
        if !filters.is_empty() {
            config["filter_subjects"] = json!(filters);
        }
        let question = json!({ "stream_name": stream, "config": config });
        let answer: Answer = api::ask_consumer(&self.connection, "CREATE", stream, name, &question).await?;
        Ok(answer.into())
    }

    /// Where a consumer is not as declared. What is not declared is not looked at.
    ///
    /// # Errors
    /// [`NotFound`](TopologyErrorKind::NotFound), and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn compare_consumer(&self, spec: &ConsumerSpec) -> Result<Vec<Difference>, TopologyError> {
        let info = self.consumer(spec.stream(), spec.name()).await?;
        Ok(spec.differences(&info.config))
    }

    /// All consumers of a stream, by name.
    ///
    /// # Errors
    /// [`NotFound`](TopologyErrorKind::NotFound), and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn consumers(&self, stream: &str) -> Result<Vec<ConsumerInfo>, TopologyError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            total: usize,
            #[serde(default)]
            consumers: Option<Vec<Answer>>,
        }
        let mut consumers: Vec<ConsumerInfo> = Vec::new();
        loop {
            let question = json!({ "offset": consumers.len() });
            let page: Page = api::ask_consumers(&self.connection, "LIST", stream, &question).await?;
            let found = page.consumers.unwrap_or_default();
            let is_last = found.is_empty();
            consumers.extend(found.into_iter().map(ConsumerInfo::from));
            if is_last || consumers.len() >= page.total {
                consumers.sort_by(|a, b| a.name.cmp(&b.name));
                return Ok(consumers);
            }
        }
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
    fn only_what_is_declared_is_compared() {
        let spec = || ConsumerSpec::new("S", "c");
        let config = json!({
            "ack_policy": "explicit", "deliver_policy": "all", "ack_wait": 1_000_000_000_u64, "max_ack_pending": 1000,
            "filter_subject": "a.*",
        });
        let config: Map<String, Value> = serde_json::from_value(config).expect("an object");
        let settings = |spec: ConsumerSpec| {
            let differences = spec.differences(&config).into_iter();
            differences.map(|difference| difference.setting).collect::<Vec<_>>()
        };
        assert!(settings(spec()).is_empty());
        let same = spec()
            .filters(["a.*"])
            .ack_wait(Duration::from_secs(1))
            .deliver(Deliver::All);
        assert!(settings(same.max_ack_pending(1000)).is_empty());
        for (spec, expected) in [
            (spec().filters(["a.*", "b"]), &["filter_subjects"][..]),
            (spec().ack_wait(Duration::from_secs(2)), &["ack_wait"]),
            (spec().deliver(Deliver::From(7)), &["deliver_policy", "opt_start_seq"]),
            (spec().max_ack_pending(1), &["max_ack_pending"]),
        ] {
            assert_eq!(settings(spec), expected);
        }
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
