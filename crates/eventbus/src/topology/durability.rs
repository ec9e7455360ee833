//! What an ack of a stream is worth.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::info::StreamInfo;
use super::spec::Storage;

/// What a message that was acked survives. Each is more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Survives {
    /// Nothing: it is in the memory of one server, or on its way there.
    Nothing,
    /// The end of nats-server, by `kill -9` too: one server has it in files.
    Restart,
    /// The loss of one server: several have it.
    ServerLoss,
    /// The loss of power of all servers: it is on their disks before it is acked.
    PowerLoss,
}

/// What makes an ack worth less than it seems.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weakness {
    /// The ids of events are forgotten before the last retry: an event may be stored twice.
    #[non_exhaustive]
    DuplicateWindow {
        /// How long they are remembered.
        window: Duration,
        /// What would be enough: twice the deadline of an event.
        needed: Duration,
    },
    /// Messages are in memory.
    Memory,
    /// Messages are acked before they are written (`persist_mode: async`).
    PersistAsync,
    /// One server alone has the messages.
    SingleReplica,
    /// Messages are acked before they are on a disk: what was acked within this time is lost when the power fails.
    /// `None`: nats-server does not tell clients, and its default is 2 minutes.
    SyncInterval(Option<Duration>),
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateWindow { window, needed } => write!(
                f,
                "ids are remembered for {window:?} only, and events are tried again for so long that {needed:?} are needed"
            ),
            Self::Memory => f.write_str("messages are kept in memory"),
            Self::PersistAsync => f.write_str("messages are acked before they are written"),
            Self::SingleReplica => f.write_str("one server alone has the messages"),
            Self::SyncInterval(Some(interval)) => write!(
                f,
                "messages are acked up to {interval:?} before they are on a disk (`sync_interval: always` mends it)"
            ),
            Self::SyncInterval(None) => f.write_str(
                "messages may be acked up to 2 minutes before they are on a disk: nats-server does not tell whether \
                 `sync_interval: always` is set",
            ),
        }
    }
}

/// What an ack of a stream is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Durability {
    /// What a message that was acked survives.
    pub survives: Survives,
    /// Why it is not more.
    pub weaknesses: Vec<Weakness>,
}

impl Durability {
    /// Of this stream, for events that are tried again for so long. `sync_interval` is that of nats-server's configuration
    /// where it is known: zero for `always`.
    #[must_use]
    pub fn of(stream: &StreamInfo, deadline: Duration, sync_interval: Option<Duration>) -> Self {
        let mut weaknesses = Vec::new();
        let is_memory = stream.storage == Storage::Memory;
        let is_async = stream.config.get("persist_mode").and_then(Value::as_str) == Some("async");
        let is_single = stream.replicas < 3;
        let is_synced = sync_interval.is_some_and(|interval| interval.is_zero());
        if is_memory {
            weaknesses.push(Weakness::Memory);
        }
        if is_async {
            weaknesses.push(Weakness::PersistAsync);
        }
        if is_single {
            weaknesses.push(Weakness::SingleReplica);
        }
        if !is_memory && !is_synced {
            weaknesses.push(Weakness::SyncInterval(sync_interval));
        }
        let needed = deadline.saturating_mul(2);
        if stream.duplicate_window < needed {
            weaknesses.push(Weakness::DuplicateWindow {
                window: stream.duplicate_window,
                needed,
            });
        }
        let survives = match (is_memory || is_async, is_single) {
            (true, true) => Survives::Nothing,
            (false, _) if is_synced => Survives::PowerLoss,
            (false, true) => Survives::Restart,
            (_, false) => Survives::ServerLoss,
        };
        Self { survives, weaknesses }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::info::Answer;
    use serde_json::json;

    #[test]
    fn an_ack_is_worth_what_the_stream_is() {
        let deadline = Duration::from_secs(30);
        for (config, sync, survives, weaknesses) in [
            (
                json!({"storage": "memory", "num_replicas": 1}),
                None,
                Survives::Nothing,
                3,
            ),
            (
                json!({"storage": "memory", "num_replicas": 3}),
                None,
                Survives::ServerLoss,
                2,
            ),
            (
                json!({"storage": "file", "num_replicas": 1}),
                None,
                Survives::Restart,
                3,
            ),
            (
                json!({"storage": "file", "num_replicas": 3}),
                None,
                Survives::ServerLoss,
                2,
            ),
            (
                json!({"storage": "file", "num_replicas": 1}),
                Some(0),
                Survives::PowerLoss,
                2,
            ),
            (
                json!({"storage": "file", "persist_mode": "async"}),
                Some(0),
                Survives::Nothing,
                3,
            ),
        ] {
            let answer: Answer = serde_json::from_value(json!({ "config": config })).expect("an answer");
            let durability = Durability::of(&answer.into(), deadline, sync.map(Duration::from_secs));
            assert_eq!(durability.survives, survives, "{config}");
            assert_eq!(durability.weaknesses.len(), weaknesses, "{config}: {durability:?}");
        }
        let config = json!({"storage": "file", "num_replicas": 3, "duplicate_window": 120_000_000_000_u64});
        let answer: Answer = serde_json::from_value(json!({ "config": config })).expect("an answer");
        let durability = Durability::of(&answer.into(), deadline, Some(Duration::ZERO));
        assert_eq!(durability.weaknesses, []);
    }
}
