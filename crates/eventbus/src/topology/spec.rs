//! A stream as it should be, as data.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A stream as it should be: a name, subjects, and what else matters to whoever declares it.
///
/// What is not declared is nats-server's default when the stream is made, and is not looked at afterwards. Durations are text
/// in a file: `2m`, `30d`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use eventbus::topology::{Storage, StreamSpec};
///
/// let spec = StreamSpec::new("ORDERS", ["orders.>"])
///     .storage(Storage::File)
///     .replicas(3)
///     .max_age(Duration::from_secs(30 * 24 * 3600))
///     .duplicate_window(Duration::from_secs(120));
///
/// let same: StreamSpec = serde_json::from_str(
///     r#"{"name": "ORDERS", "subjects": ["orders.>"], "storage": "file", "replicas": 3, "max_age": "30d",
///         "duplicate_window": "2m"}"#,
/// )?;
/// assert_eq!(same, spec);
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use = "a declaration does nothing until it is ensured"]
pub struct StreamSpec {
    name: String,
    subjects: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    storage: Option<Storage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replicas: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retention: Option<Retention>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    discard: Option<Discard>,
    #[serde(default, with = "duration", skip_serializing_if = "Option::is_none")]
    max_age: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_messages: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_message_size: Option<u32>,
    #[serde(default, with = "duration", skip_serializing_if = "Option::is_none")]
    duplicate_window: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allow_atomic: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allow_batched: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// What only the streams behind buckets have, in nats-server's words.
    #[serde(skip)]
    more: Map<String, Value>,
}

/// Where messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Storage {
    /// In files.
    File,
    /// In memory: gone with the servers that have it.
    Memory,
}

/// How long messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Retention {
    /// Until all consumers have acked.
    Interest,
    /// Until a limit is reached.
    Limits,
    /// Until a consumer has acked.
    WorkQueue,
}

/// What happens when a limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Discard {
    /// New messages are refused: [`StreamFull`](crate::PublishErrorKind::StreamFull).
    New,
    /// Old messages go.
    Old,
}

/// Where a stream is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// nats-server's name of the setting: `max_age`.
    pub setting: String,
    /// As it should be, in JSON.
    pub declared: String,
    /// As it is, in JSON.
    pub actual: String,
    /// Would making it so delete messages, or make the stream refuse some?
    pub destroys: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            setting,
            declared,
            actual,
            ..
        } = self;
        write!(f, "`{setting}` is {actual} and should be {declared}")
    }
}

impl StreamSpec {
    /// A stream of this name that takes these subjects.
    pub fn new<S: Into<String>>(name: impl Into<String>, subjects: impl IntoIterator<Item = S>) -> Self {
        Self {
            name: name.into(),
            subjects: subjects.into_iter().map(Into::into).collect(),
            storage: None,
            replicas: None,
            retention: None,
            discard: None,
            max_age: None,
            max_bytes: None,
            max_messages: None,
            max_message_size: None,
            duplicate_window: None,
            allow_atomic: None,
            allow_batched: None,
            description: None,
            more: Map::new(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where messages are kept; nats-server: files.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// How many servers have each message: 1 to 5; nats-server: 1.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// How long messages are kept; nats-server: limits.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = Some(retention);
        self
    }

    /// What happens when a limit is reached; nats-server: old messages go.
    pub fn discard(mut self, discard: Discard) -> Self {
        self.discard = Some(discard);
        self
    }

    /// The age at which a message goes; nats-server: never.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Bytes of all messages; nats-server: no limit.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// How many messages there are; nats-server: no limit.
    pub fn max_messages(mut self, messages: u64) -> Self {
        self.max_messages = Some(messages);
        self
    }

    /// Bytes of one message; nats-server: no limit but `max_payload`.
    pub fn max_message_size(mut self, bytes: u32) -> Self {
        self.max_message_size = Some(bytes);
        self
    }

    /// How long the ids of messages are remembered; nats-server: 2 minutes.
    ///
    /// At least twice the [deadline](crate::BusBuilder::deadline) of those who publish, so that no event is stored twice. An id
    /// that is remembered costs nats-server about 100 bytes and the id.
    pub fn duplicate_window(mut self, window: Duration) -> Self {
        self.duplicate_window = Some(window);
        self
    }

    /// Whether atomic batches are taken; nats-server: no. Needs 2.12.
    pub fn allow_atomic(mut self, allow: bool) -> Self {
        self.allow_atomic = Some(allow);
        self
    }

    /// Whether batches of fast ingest are taken; nats-server: no. Needs 2.14.
    pub fn allow_batched(mut self, allow: bool) -> Self {
        self.allow_batched = Some(allow);
        self
    }

    /// For people.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// A setting that has no method here, in nats-server's words.
    #[cfg(any(feature = "kv", feature = "object"))]
    pub(crate) fn with(mut self, setting: &str, value: impl Into<Value>) -> Self {
        self.more.insert(setting.to_owned(), value.into());
        self
    }

    /// What is declared, in nats-server's words.
    pub(super) fn wire(&self) -> Map<String, Value> {
        let nanos = |duration: Duration| json!(crate::nanos(duration));
        let retention = |retention| match retention {
            Retention::Interest => json!("interest"),
            Retention::Limits => json!("limits"),
            Retention::WorkQueue => json!("workqueue"),
        };
        let settings = [
            ("name", Some(json!(self.name))),
            ("subjects", Some(json!(self.subjects))),
            ("storage", self.storage.map(|storage| json!(storage))),
            ("num_replicas", self.replicas.map(|replicas| json!(replicas))),
            ("retention", self.retention.map(retention)),
            ("discard", self.discard.map(|discard| json!(discard))),
            ("max_age", self.max_age.map(nanos)),
            ("max_bytes", self.max_bytes.map(|bytes| json!(bytes))),
            ("max_msgs", self.max_messages.map(|messages| json!(messages))),
            ("max_msg_size", self.max_message_size.map(|bytes| json!(bytes))),
            ("duplicate_window", self.duplicate_window.map(nanos)),
            ("allow_atomic", self.allow_atomic.map(|allow| json!(allow))),
            ("allow_batched", self.allow_batched.map(|allow| json!(allow))),
            ("description", self.description.as_ref().map(|text| json!(text))),
        ];
        let declared = settings
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        declared.chain(self.more.clone()).collect()
    }

    /// What a stream with this configuration would have to change.
    pub(super) fn differences(&self, config: &Map<String, Value>) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (setting, declared) in self.wire() {
            // Settings that are off are left out.
            let actual = match config.get(&setting) {
                None if declared.is_boolean() => json!(false),
                None => Value::Null,
                Some(actual) => actual.clone(),
            };
            // A limit of 0 is none to nats-server, which then says -1.
            let is_none = |value: &Value| setting.starts_with("max_") && value.as_i64().is_some_and(|limit| limit <= 0);
            if sorted(&declared) != sorted(&actual) && !(is_none(&declared) && is_none(&actual)) {
                differences.push(Difference {
                    destroys: destroys(&setting, &declared, &actual),
                    setting,
                    declared: declared.to_string(),
                    actual: actual.to_string(),
                });
            }
        }
        differences
    }
}

/// Durations as people write them.
mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => to.collect_str(&humantime::format_duration(*duration)),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map(Some).map_err(de::Error::custom)
    }
}

/// Subjects have no order.
pub(super) fn sorted(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Array(values) = &mut value {
        values.sort_by_key(ToString::to_string);
    }
    value
}

fn destroys(setting: &str, declared: &Value, actual: &Value) -> bool {
    match setting {
        // nats-server refuses most of these.
        "storage" | "retention" | "discard" => true,
        "subjects" => {
            let (Value::Array(declared), Value::Array(actual)) = (declared, actual) else {
                return true;
            };
            actual.iter().any(|subject| !declared.contains(subject))
        }
        "max_age" | "max_bytes" | "max_msgs" | "max_msg_size" | "max_msgs_per_subject" => {
            // 0 and −1: no limit.
            let limit = |value: &Value| value.as_u64().filter(|limit| *limit > 0).unwrap_or(u64::MAX);
            limit(declared) < limit(actual)
        }
        "duplicate_window" | "num_replicas" => declared.as_u64() < actual.as_u64(),
        "allow_atomic" | "allow_batched" => declared == &json!(false),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Map<String, Value> {
        let config = json!({
            "name": "S", "subjects": ["b", "a"], "storage": "file", "num_replicas": 3, "retention": "limits",
            "discard": "old", "max_age": 3_600_000_000_000_u64, "max_bytes": -1, "max_msgs": -1,
            "duplicate_window": 120_000_000_000_u64,
        });
        serde_json::from_value(config).expect("an object")
    }

    fn difference(spec: &StreamSpec) -> Vec<(String, bool)> {
        let differences = spec.differences(&config()).into_iter();
        differences
            .map(|difference| (difference.setting, difference.destroys))
            .collect()
    }

    fn spec() -> StreamSpec {
        StreamSpec::new("S", ["a", "b"])
    }

    #[test]
    fn only_what_is_declared_is_compared() {
        assert_eq!(difference(&spec()), []);
        let same = spec()
            .storage(Storage::File)
            .max_age(Duration::from_secs(3600))
            .allow_batched(false);
        assert_eq!(difference(&same), []);
    }

    #[test]
    fn what_would_destroy_is_known() {
        let minute = Duration::from_secs(60);
        for (spec, setting, destroys) in [
            (spec().max_age(minute), "max_age", true),
            (spec().max_age(Duration::from_secs(7200)), "max_age", false),
            (spec().max_bytes(10), "max_bytes", true),
            (spec().replicas(1), "num_replicas", true),
            (spec().replicas(5), "num_replicas", false),
            (spec().duplicate_window(minute), "duplicate_window", true),
            (StreamSpec::new("S", ["a"]), "subjects", true),
            (StreamSpec::new("S", ["a", "b", "c"]), "subjects", false),
            (spec().allow_batched(true), "allow_batched", false),
            (spec().retention(Retention::WorkQueue), "retention", true),
        ] {
            assert_eq!(difference(&spec), [(setting.to_owned(), destroys)]);
        }
    }
}
