//! A consumer that was deleted is made again where it was.

use natstream_connect::Connection;

use super::consumer::Inner;
use super::done::Position;
use crate::topology::{ConsumerInfo, Deliver, Retention, StreamInfo, Topology, TopologyError, TopologyErrorKind};

/// A consumer that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restored {
    pub(super) position: Position,
    /// It was made just now.
    pub(super) was_made: bool,
    /// Its stream was made again too: its messages are others.
    pub(super) stream_is_new: bool,
}

impl From<&ConsumerInfo> for Position {
    fn from(info: &ConsumerInfo) -> Self {
        Self {
            acked: info.ack_floor,
            delivered: info.delivered,
            deliveries: info.deliveries,
        }
    }
}

/// Looks at the consumer, and makes it if it is not there and is to be: behind message `done`, up to which all are done.
pub(super) async fn restore(inner: &Inner, done: u64) -> Result<Restored, TopologyError> {
    let topology = Topology::new(inner.connection.connection().clone());
    let known = topology.consumer(inner.spec.stream(), inner.spec.name()).await;
    let is_missing = matches!(&known, Err(error) if error.kind() == TopologyErrorKind::NotFound);
    if !is_missing || !inner.settings.creates {
        return Ok(Restored {
            position: Position::from(&known?),
            was_made: false,
            stream_is_new: false,
        });
    }
    let stream = topology.info(inner.spec.stream()).await?;
    let stream_is_new = inner.origin.as_ref().is_some_and(|origin| !origin.is_same(&stream));
    let start = inner.origin.as_ref().and_then(|origin| origin.start(&stream, done));
    let spec = match start {
        Some(start) => inner.spec.clone().deliver(Deliver::From(start)),
        None => inner.spec.clone(),
    };
    let info = topology.ensure_consumer(&spec).await?;
    tracing::warn!(
        stream = inner.spec.stream(),
        consumer = inner.spec.name(),
        start,
        "a consumer was gone, and was made again"
    );
    Ok(Restored {
        position: Position::from(&info),
        was_made: true,
        stream_is_new,
    })
}

/// The stream as it was when the consumer was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    created: jiff::Timestamp,
}

impl Origin {
    /// `None` when nats-server does not say.
    pub(super) async fn of(connection: &Connection, stream: &str) -> Option<Self> {
        match Topology::new(connection.clone()).info(stream).await {
            Ok(info) => Some(Self { created: info.created }),
            Err(error) => {
                tracing::debug!(%error, "a stream was not looked at: a consumer that is deleted begins anew");
                None
            }
        }
    }

    fn is_same(&self, stream: &StreamInfo) -> bool {
        stream.created == self.created
    }

    /// The first message that is not done, if the stream is the same and lets a consumer begin anywhere.
    fn start(&self, stream: &StreamInfo, done: u64) -> Option<u64> {
        // A work queue has only what is not done, and nats-server insists on all of it.
        let is_work_queue = stream.retention == Retention::WorkQueue;
        // A server that has lost its newest messages gives their numbers again.
        let start = done.min(stream.last_sequence) + 1;
        (self.is_same(stream) && !is_work_queue).then_some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Storage;

    fn stream(created: i64, last_sequence: u64, retention: Retention) -> StreamInfo {
        StreamInfo {
            name: "S".to_owned(),
            subjects: Vec::new(),
            storage: Storage::File,
            replicas: 1,
            retention,
            duplicate_window: std::time::Duration::ZERO,
            messages: 0,
            bytes: 0,
            first_sequence: 1,
            last_sequence,
            consumers: 0,
            leader: None,
            created: jiff::Timestamp::from_second(created).unwrap_or_default(),
            config: serde_json::Map::new(),
        }
    }

    #[test]
    fn it_begins_behind_what_is_done_of_the_same_stream() {
        let origin = Origin {
            created: jiff::Timestamp::UNIX_EPOCH,
        };
        for (stream, expected) in [
            (stream(0, 50, Retention::Limits), Some(8)),
            (stream(0, 50, Retention::Interest), Some(8)),
            (stream(0, 5, Retention::Limits), Some(6)),
            (stream(0, 50, Retention::WorkQueue), None),
            (stream(1, 50, Retention::Limits), None),
        ] {
            assert_eq!(origin.start(&stream, 7), expected, "{stream:?}");
        }
    }
}
