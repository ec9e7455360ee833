//! What an ack of a stream is worth.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::info::StreamInfo;
use super::spec::Storage;

/// Something that a message which was acked survives. None of them includes another: three servers that keep it in memory
/// survive the loss of one, and not a restart of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Survives {
    /// The loss of power of all servers: it is on a disk before it is acked.
    PowerLoss,
    /// The end of all nats-servers, by `kill -9` too: it is in files before it is acked.
    Restart,
    /// The loss of one server: two others have it.
    ServerLoss,
}

impl fmt::Display for Survives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerLoss => "a loss of power",
            Self::Restart => "a restart",
            Self::ServerLoss => "the loss of a server",
        })
    }
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
    /// Too few servers have the messages: the loss of one stops the stream, or loses it.
    #[non_exhaustive]
    Replicas {
        /// How many have them; 3 survive the loss of one.
        count: usize,
    },
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
            Self::Replicas { count: 1 } => f.write_str("one server alone has the messages"),
            Self::Replicas { count } => write!(
                f,
                "{count} servers have the messages, and 3 are needed to go on without one"
            ),
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
    /// What a message that was acked survives; nothing, if this is empty.
    pub survives: Vec<Survives>,
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
        let is_replicated = stream.replicas >= 3;
        let is_synced = sync_interval.is_some_and(|interval| interval.is_zero());
        if is_memory {
            weaknesses.push(Weakness::Memory);
        }
        if is_async {
            weaknesses.push(Weakness::PersistAsync);
        }
        if !is_replicated {
            weaknesses.push(Weakness::Replicas { count: stream.replicas });
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
        let is_written = !is_memory && !is_async;
        let survives = [
            (Survives::PowerLoss, is_written && is_synced),
            (Survives::Restart, is_written),
            (Survives::ServerLoss, is_replicated),
        ];
        let survives = survives
            .into_iter()
            .filter_map(|(what, does)| does.then_some(what))
            .collect();
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
        use Survives::{PowerLoss, Restart, ServerLoss};
        let memory = |replicas: u8| json!({ "storage": "memory", "num_replicas": replicas });
        let file = |replicas: u8| json!({ "storage": "file", "num_replicas": replicas });
        for (config, sync, survives, weaknesses) in [
            (memory(1), None, &[][..], 3),
            (memory(3), None, &[ServerLoss], 2),
            (file(1), None, &[Restart], 3),
            (file(2), None, &[Restart], 3),
            (file(3), None, &[Restart, ServerLoss], 2),
            (file(1), Some(0), &[PowerLoss, Restart], 2),
            (file(3), Some(0), &[PowerLoss, Restart, ServerLoss], 1),
            (json!({ "storage": "file", "persist_mode": "async" }), Some(0), &[], 3),
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
