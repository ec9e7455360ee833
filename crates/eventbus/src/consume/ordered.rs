//! Messages strictly in order and each once, without acks and without a position that survives: for watching and for reading.
//!
//! A consumer is made for it that nobody keeps. A delivery that is missing shows as a hole in the numbers that nats-server
//! gives to deliveries; then, and after a lost connection, another consumer goes on behind the last message that was given.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::message::OutboundMessage;
use async_nats::subject::Subject;
use bytes::Bytes;
use jiff::Timestamp;
use natstream_connect::{ConnectionState, Driver, Lease, Subscriber, random_u32, token};
use serde_json::{Map, json};
use tokio::sync::watch;
use tokio::task::coop;

use super::delivery::Delivery;
use super::engine::{Admission, End, Plan, PullConfig, PullEvent, Pulls};
use super::error::{ConsumeError, ConsumeErrorKind};
use super::link::Link;
use super::status::Status;
use crate::nanos;
use crate::topology::{Topology, prefix};

/// How long a request waits at the consumer, and how often nats-server says that it knows it.
const EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The pause before what may heal is tried again.
const PAUSE: Duration = Duration::from_millis(250);

/// How long a cluster may be without a leader, when it begins.
const ELECTION: Duration = Duration::from_secs(15);

/// How long a message that is there may take to come, before nats-server is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(2);

/// How long a stream that was there may be missing: a server that has just started may not know it yet.
const MISSING: Duration = Duration::from_secs(10);

/// Bytes in one request at most, unless messages may be larger than half of it. Two requests are under way at a time.
const REQUEST_BYTES: usize = 4 << 20;

/// Where the first message is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// With the oldest message.
    All,
    /// With this one.
    At(u64),
    /// With the last message of each subject.
    LastOfEach,
    /// With what comes from now on.
    New,
}

/// What is read.
#[derive(Clone, Debug)]
pub(crate) struct OrderedSpec {
    pub(crate) stream: String,
    pub(crate) filters: Vec<String>,
    pub(crate) begin: Begin,
    pub(crate) headers_only: bool,
    /// Messages that are asked for at once.
    pub(crate) slots: usize,
}

/// A message, with what its delivery says.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    pub(crate) subject: Subject,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Bytes,
    pub(crate) sequence: u64,
    pub(crate) stored_at: Timestamp,
}

/// Memory: two requests of messages that were not taken yet, of 4 MiB each, or of twice the `max_payload` of nats-server.
pub(crate) struct Ordered {
    connection: Lease,
    spec: OrderedSpec,
    /// Behind this message it goes on; `None` as long as it begins as the specification says.
    after: Option<u64>,
    /// When the stream was made that sequences belong to.
    created: Option<Timestamp>,
    round: Option<Round>,
    /// What the consumer had when it was made, or behind the last message.
    pending: u64,
    /// The last message that was there when it began.
    until: u64,
    /// How many of those up to it were not given yet. Those that are removed meanwhile stay counted, and so do all behind a
    /// lost connection: then only a consumer that has nothing left says that all were given.
    left: u64,
    /// All that there was when it began was given, or what has taken its place.
    is_current: bool,
    state: watch::Receiver<ConnectionState>,
}

struct Round {
    name: String,
    link: Link,
    subscriber: Subscriber,
    pulls: Pulls,
    seen: ConnectionState,
    next_delivery: u64,
    /// nats-server counts what is left right. With the last message of each subject it does not: it also takes off older
    /// ones that are removed, which it has never counted.
    counts: bool,
    is_over: bool,
}

impl Ordered {
    /// Begins; what is wrong at first is an error, what goes wrong later heals if it can.
    pub(crate) async fn open(connection: impl Into<Lease>, spec: OrderedSpec) -> Result<Self, ConsumeError> {
        let connection = connection.into();
        let mut ordered = Self {
            state: connection.connection().state(),
            connection,
            spec,
            after: None,
            created: None,
            round: None,
            pending: 0,
            until: 0,
            left: 0,
            is_current: false,
        };
        let began = Driver::clock();
        loop {
            match ordered.try_begin().await {
                Err(error) if error.kind() == ConsumeErrorKind::Timeout && began.elapsed() < ELECTION => {}
                begun => return begun.map(|()| ordered),
            }
        }
    }

    /// The next message. It waits for whatever heals by itself.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Delivered, ConsumeError> {
        coop::consume_budget().await;
        loop {
            if self.round.as_ref().is_none_or(|round| round.is_over) {
                self.end_round();
                self.begin().await?;
            }
            self.ask()?;
            if let Some(message) = self.wait().await? {
                return Ok(message);
            }
        }
    }

    /// The next message until all were given that there were when it began; `None` then.
    ///
    /// A message that is replaced while it waits does not come, and the one in its place comes behind newer ones: so where
    /// any were replaced, it goes on until there is nothing left for a moment.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next_there(&mut self) -> Result<Option<Delivered>, ConsumeError> {
        while !self.is_current {
            if let Some(message) = self.next_or_none().await? {
                return Ok(Some(message));
            }
            if !self.is_current {
                self.again().await?;
            }
        }
        Ok(None)
    }

    /// The next message; `None` when there is none at the moment.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next_or_none(&mut self) -> Result<Option<Delivered>, ConsumeError> {
        loop {
            if self.round.as_ref().is_some_and(|round| !round.is_over) && self.pending == 0 {
                return Ok(None);
            }
            match tokio::time::timeout(QUIET, self.next()).await {
                Ok(message) => return message.map(Some),
                // What was counted may have been removed since.
                Err(_) => {
                    self.end_round();
                    self.begin().await?;
                }
            }
        }
    }

    /// Asks nats-server anew, behind the last message that was given: [`pending`](Self::pending) is fresh then.
    pub(crate) async fn again(&mut self) -> Result<(), ConsumeError> {
        self.end_round();
        self.begin().await
    }

    async fn begin(&mut self) -> Result<(), ConsumeError> {
        let began = Driver::clock();
        loop {
            let error = match self.try_begin().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let may_heal = match error.kind() {
                ConsumeErrorKind::NotFound => began.elapsed() < MISSING,
                ConsumeErrorKind::Timeout | ConsumeErrorKind::NotEnabled => true,
                ConsumeErrorKind::Closed => !self.state.borrow().is_closed(),
                _ => false,
            };
            if !may_heal {
                return Err(error);
            }
            tracing::debug!(%error, "a stream is asked again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_begin(&mut self) -> Result<(), ConsumeError> {
        let connection = self.connection.connection().clone();
        let up = self.state.wait_for(|state| state.is_connected() || state.is_closed());
        let seen = match up.await {
            Ok(state) if state.is_connected() => *state,
            _ => return Err(ConsumeError::new(ConsumeErrorKind::Closed)),
        };
        let topology = Topology::new(connection.clone());
        let stream = topology.info(&self.spec.stream).await?;
        if self.created.is_none() {
            self.until = stream.last_sequence;
        }
        if *self.created.get_or_insert(stream.created) != stream.created {
            return Err(ConsumeError::new(ConsumeErrorKind::StreamReplaced));
        }
        let name = token();
        let link = Link::new(&connection, &self.spec.stream, &name);
        let subscriber = link.subscribe().await?;
        let made = topology
            .passing_consumer(&self.spec.stream, &name, self.config())
            .await?;
        let is_first = self.after.is_none();
        // From here on nothing is missed, also when the connection is lost before there is a message.
        if self.after.is_none() {
            self.after = match self.spec.begin {
                Begin::New => Some(made.delivered.max(stream.last_sequence)),
                Begin::At(sequence) if made.pending == 0 => Some(stream.last_sequence.max(sequence.saturating_sub(1))),
                Begin::All | Begin::LastOfEach if made.pending == 0 => Some(stream.last_sequence),
                _ => None,
            };
        }
        self.pending = made.pending;
        self.left = if is_first { made.pending } else { u64::MAX };
        self.is_current |= made.pending == 0 || self.spec.begin == Begin::New;
        let driver = connection.driver();
        let config = PullConfig {
            slots: self.spec.slots,
            most: usize::MAX,
            bytes: Some(REQUEST_BYTES.max(connection.max_payload().saturating_mul(2))),
            expires: nanos(EXPIRES),
            heartbeat: nanos(HEARTBEAT),
            first_pause: 50_000_000,
            longest_pause: 2_000_000_000,
            plan: Plan::Continuous,
            seed: u64::from(random_u32()),
        };
        self.round = Some(Round {
            name,
            link,
            subscriber,
            pulls: Pulls::new(config, driver.nanos(driver.now())),
            seen,
            next_delivery: 1,
            counts: !(is_first && self.spec.begin == Begin::LastOfEach),
            is_over: false,
        });
        Ok(())
    }

    fn config(&self) -> Map<String, serde_json::Value> {
        let mut config = Map::new();
        config.insert("filter_subjects".to_owned(), json!(self.spec.filters));
        if self.spec.headers_only {
            config.insert("headers_only".to_owned(), json!(true));
        }
        let (policy, start) = match (self.after, self.spec.begin) {
            (Some(after), _) => ("by_start_sequence", Some(after.saturating_add(1))),
            (None, Begin::All) => ("all", None),
            (None, Begin::At(sequence)) => ("by_start_sequence", Some(sequence.max(1))),
            (None, Begin::LastOfEach) => ("last_per_subject", None),
            (None, Begin::New) => ("new", None),
        };
        config.insert("deliver_policy".to_owned(), json!(policy));
        if let Some(start) = start {
            config.insert("opt_start_seq".to_owned(), json!(start));
        }
        config
    }

    /// Asks for what there is room for, and does what is due.
    fn ask(&mut self) -> Result<(), ConsumeError> {
        let now = self.now();
        let Some(round) = &mut self.round else { return Ok(()) };
        round.pulls.handle_timeout(now);
        while let Some(event) = round.pulls.poll_event() {
            match event {
                PullEvent::Refused => {}
                // Another consumer goes on.
                PullEvent::Gone | PullEvent::Look | PullEvent::Silent => round.is_over = true,
            }
        }
        while let Some(request) = round.pulls.poll_request(now) {
            if !round.link.ask(&request) {
                round.pulls.handle_status(now, request.number, &Status::Refused);
            }
        }
        match round.pulls.end() {
            Some(End::NotPull) => Err(ConsumeError::new(ConsumeErrorKind::NotPull)),
            Some(End::BadRequest | End::Fetched) => Err(ConsumeError::new(ConsumeErrorKind::Rejected)),
            None => Ok(()),
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) -> Result<Option<Delivered>, ConsumeError> {
        let now = self.now();
        let Some(round) = self.round.as_mut().filter(|round| !round.is_over) else {
            return Ok(None);
        };
        let due = round.pulls.poll_timeout().unwrap_or(u64::MAX).saturating_sub(now);
        let sleep = pin!(tokio::time::sleep(Duration::from_nanos(due)));
        tokio::select! {
            biased;
            changed = self.state.changed() => {
                if changed.is_err() {
                    return Err(ConsumeError::new(ConsumeErrorKind::Closed));
                }
                let state = *self.state.borrow_and_update();
                round.is_over |= !state.is_connected() || state.epoch != round.seen.epoch;
                Ok(None)
            }
            message = round.subscriber.next() => match message {
                Some(message) => Ok(self.take(message)),
                None => Err(ConsumeError::new(match round.subscriber.refusal() {
                    Some(_) => ConsumeErrorKind::NotPermitted,
                    None => ConsumeErrorKind::Closed,
                })),
            },
            () = sleep => Ok(None),
        }
    }

    fn take(&mut self, message: async_nats::Message) -> Option<Delivered> {
        let now = self.now();
        let round = self.round.as_mut()?;
        let Some(delivery) = message.reply.as_deref().and_then(Delivery::read) else {
            if let Some((number, status)) = round.link.status(&message) {
                round.pulls.handle_status(now, number, &status);
            }
            return None;
        };
        let admission = round.pulls.handle_message(now);
        if admission == Admission::Surplus || delivery.consumer_sequence != round.next_delivery {
            tracing::debug!(delivery = delivery.consumer_sequence, "deliveries are missing");
            round.is_over = true;
            return None;
        }
        round.next_delivery += 1;
        round.pulls.release();
        // Something was asked for anew that has been given.
        if self.after.is_some_and(|after| delivery.stream_sequence <= after) {
            return None;
        }
        self.after = Some(delivery.stream_sequence);
        self.pending = delivery.pending;
        if delivery.stream_sequence <= self.until {
            self.left = self.left.saturating_sub(1);
        }
        self.is_current |= self.left == 0 || (round.counts && self.pending == 0);
        Some(Delivered {
            sequence: delivery.stream_sequence,
            stored_at: Timestamp::from_nanosecond(i128::from(delivery.stored_at)).unwrap_or_default(),
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
        })
    }

    /// Lets go of the consumer. When nats-server does not hear it, it does so itself after a minute.
    fn end_round(&mut self) {
        let Some(round) = self.round.take() else { return };
        let connection = self.connection.connection();
        let told = connection.driver().try_send(OutboundMessage {
            subject: format!(
                "{}.CONSUMER.DELETE.{}.{}",
                prefix(connection),
                self.spec.stream,
                round.name
            )
            .into(),
            // Nobody listens: the answer is of no use.
            reply: Some(format!("{}.{}", connection.inbox_prefix(), token()).into()),
            payload: Bytes::new(),
            headers: None,
        });
        if let Err(error) = told {
            tracing::debug!(%error, "a consumer is left to nats-server");
        }
    }

    fn now(&self) -> u64 {
        let driver = self.connection.connection().driver();
        driver.nanos(driver.now())
    }
}

impl Drop for Ordered {
    fn drop(&mut self) {
        self.end_round();
    }
}

impl fmt::Debug for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ordered")
            .field("spec", &self.spec)
            .field("after", &self.after)
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}
