//! One round: from a reset of the consumer to the next delivery that is missing.

use std::time::Duration;

use async_nats::subject::Subject;
use jiff::Timestamp;
use natstream_connect::{ConnectionState, Driver, Subscriber, random_u32};
use serde_json::Value;
use tokio::time::Instant;

use crate::consume::acks::AckSender;
use crate::consume::consumer::Inner;
use crate::consume::engine::{Plan, PullConfig, Pulls};
use crate::consume::error::{ConsumeError, ConsumeErrorKind};
use crate::consume::link::Link;
use crate::consume::word::Word;
use crate::nanos;
use crate::topology::{AckPolicy, ConsumerInfo, Retention, StreamInfo, Topology, TopologyError, TopologyErrorKind};

/// Bytes in one request at most, unless messages may be larger than half of it: so much more than was meant may come while
/// somebody is slow.
const REQUEST_BYTES: usize = 16 << 20;

/// The pause before what may heal is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a stream that was there may be missing: a server that has just started may not know it yet.
const MISSING: Duration = Duration::from_secs(10);

/// What a round needs to get messages.
pub(super) struct Round {
    pub(super) link: Link,
    pub(super) subscriber: Subscriber,
    pub(super) pulls: Pulls,
    /// The connection when it began.
    pub(super) seen: ConnectionState,
    /// One ack is good for all messages before.
    pub(super) acks_all: bool,
    pub(super) slots: usize,
    /// All up to this sequence was acked, as nats-server sees it, when the round began.
    pub(super) settled: u64,
    /// Acks that were lost on their way: they are said again.
    pub(super) again: Vec<Subject>,
    /// Of this round only: an ack of another one would confuse nats-server, which compares the numbers of deliveries.
    acks: AckSender,
}

/// What stays the same over all rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    /// Up to here whoever asks has everything; `None`: wherever acks stand.
    pub(super) done: Option<u64>,
    /// When the stream was made that sequences belong to.
    pub(super) created: Option<Timestamp>,
    /// Since when the stream is not found: whoever waits for a round may give up and ask again meanwhile.
    pub(super) missing_since: Option<Instant>,
}

impl Round {
    /// Begins a round, at once or when that is possible again. What can only be wrong when it is wrong at first is an error
    /// then.
    pub(super) async fn begin(inner: &Inner, position: &mut Position) -> Result<Self, ConsumeError> {
        let is_first = position.created.is_none();
        loop {
            let error = match Self::try_begin(inner, position).await {
                Ok(round) => {
                    position.missing_since = None;
                    return Ok(round);
                }
                Err(error) => error,
            };
            if error.kind() != ConsumeErrorKind::NotFound {
                position.missing_since = None;
            }
            let may_heal = match error.kind() {
                ConsumeErrorKind::NotFound => {
                    let since = position.missing_since.get_or_insert_with(Driver::clock);
                    since.elapsed() < MISSING
                }
                ConsumeErrorKind::Timeout | ConsumeErrorKind::NotEnabled => true,
                ConsumeErrorKind::Closed => !inner.connection.connection().state().borrow().is_closed(),
                _ => false,
            };
            if is_first || !may_heal {
                return Err(error);
            }
            tracing::debug!(%error, "a consumer is asked again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_begin(inner: &Inner, position: &mut Position) -> Result<Self, ConsumeError> {
        let connection = inner.connection.connection();
        let mut state = connection.state();
        let seen = {
            let up = state.wait_for(|state| state.is_connected() || state.is_closed()).await;
            match up {
                Ok(state) if state.is_connected() => *state,
                _ => return Err(ConsumeError::new(ConsumeErrorKind::Closed)),
            }
        };
        let topology = Topology::new(connection.clone());
        let (name, durable) = (inner.spec.stream(), inner.spec.name());
        let stream = topology.info(name).await?;
        if *position.created.get_or_insert(stream.created) != stream.created {
            return Err(ConsumeError::new(ConsumeErrorKind::StreamReplaced));
        }
        if position.done.is_some_and(|done| done > stream.last_sequence) {
            let problem = "the stream ends before the position: it has lost messages, and others get their sequences";
            return Err(ConsumeError::because(ConsumeErrorKind::StreamReplaced, problem));
        }
        let consumer = if inner.settings.creates {
            topology.ensure_consumer(&inner.spec).await?
        } else {
            topology.consumer(name, durable).await?
        };
        check(&consumer)?;
        // Whoever listened before does so no more: what is still delivered to them is not missed.
        let link = Link::new(connection, name, durable);
        let subscriber = link.subscribe().await?;
        let settled = reset(&topology, &stream, &consumer, position.done)
            .await
            .map_err(|error| {
                if error.kind() == TopologyErrorKind::NotEnabled && is_older(&connection.server_version()) {
                    return ConsumeError::because(ConsumeErrorKind::Unsupported, error);
                }
                error.into()
            })?;
        let slots = slots(inner.settings.prefetch, &consumer);
        let driver = connection.driver();
        let config = PullConfig {
            slots,
            most: usize::MAX,
            bytes: Some(REQUEST_BYTES.max(connection.max_payload().saturating_mul(2))),
            expires: nanos(inner.settings.expires),
            heartbeat: nanos(inner.settings.heartbeat),
            first_pause: 50_000_000,
            longest_pause: 2_000_000_000,
            plan: Plan::Continuous,
            seed: u64::from(random_u32()),
        };
        Ok(Self {
            link,
            subscriber,
            pulls: Pulls::new(config, driver.nanos(driver.now())),
            seen,
            acks_all: consumer.ack_policy == AckPolicy::All,
            slots,
            settled,
            again: Vec::new(),
            acks: AckSender::open(&inner.connection, consumer.ack_wait, inner.counts.clone()).await?,
        })
    }
}

impl Round {
    /// Ends it, with the acks that are on their way: behind the next reset they would be for other deliveries. Were all
    /// confirmed?
    pub(super) async fn end(&self) -> bool {
        let flushed = self.acks.flush(PAUSE).await;
        if let Err(error) = &flushed {
            tracing::debug!(%error, "acks are sent again with the next deliveries");
        }
        self.acks.close();
        flushed.is_ok()
    }

    pub(super) fn ack_again(&mut self) {
        while let Some(reply) = self.again.pop() {
            self.ack(&reply);
        }
    }

    /// Another server leads the consumer.
    pub(super) fn say_again(&self) {
        self.acks.say_again();
    }

    pub(super) fn ack(&self, reply: &Subject) {
        self.acks.say(reply, &Word::Ack);
    }

    /// Waits until acks are confirmed.
    pub(super) async fn flush(&mut self, within: Duration) -> Result<(), ConsumeError> {
        self.ack_again();
        self.acks.flush(within).await
    }
}

fn check(consumer: &ConsumerInfo) -> Result<(), ConsumeError> {
    if consumer.pushes {
        return Err(ConsumeError::new(ConsumeErrorKind::NotPull));
    }
    if consumer.ack_policy == AckPolicy::None {
        let problem = "the consumer takes no acks: what is lost on the way would not come again";
        return Err(ConsumeError::because(ConsumeErrorKind::Invalid, problem));
    }
    Ok(())
}

/// The consumer's own limit of messages that are not acked holds too.
fn slots(prefetch: usize, consumer: &ConsumerInfo) -> usize {
    let limit = consumer.config.get("max_ack_pending").and_then(Value::as_i64);
    match limit.map(usize::try_from) {
        Some(Ok(limit)) if limit > 0 => prefetch.min(limit),
        _ => prefetch,
    }
}

/// Says up to which sequence all is acked from then on.
async fn reset(
    topology: &Topology,
    stream: &StreamInfo,
    consumer: &ConsumerInfo,
    done: Option<u64>,
) -> Result<u64, TopologyError> {
    let floor = consumer.ack_floor;
    let reset = |from| topology.reset_consumer(&consumer.stream, &consumer.name, from);
    // Elsewhere what is not acked stays in the stream for ever, so it must come, to be acked.
    let is_free = stream.retention == Retention::Limits;
    let Some(done) = done.filter(|done| is_free && floor != *done) else {
        return reset(None).await.map(|()| floor);
    };
    let start = consumer.config.get("opt_start_seq").and_then(Value::as_u64);
    let from = start.unwrap_or_default().max(done.saturating_add(1));
    match reset(Some(from)).await {
        Err(error) if error.kind() == TopologyErrorKind::Rejected => {
            // One that begins with new messages cannot begin elsewhere.
            tracing::warn!(done, floor, %error, "a consumer cannot begin where it was left, and goes on with what is not acked");
            reset(None).await.map(|()| floor)
        }
        done => done.map(|()| from - 1),
    }
}

/// Is it older than what can reset consumers?
fn is_older(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u64>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < (2, 14),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared() {
        for (version, older) in [
            ("2.13.9", true),
            ("2.14.0", false),
            ("2.15.1-dev", false),
            ("3.0.0", false),
            ("", false),
        ] {
            assert_eq!(is_older(version), older, "{version}");
        }
    }
}
