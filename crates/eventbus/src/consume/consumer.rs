//! The consumer: the handle, and what is set when it is opened.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::FutureExt as _;
use natstream_connect::{Lease, random_u32};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::acks::AckSender;
use super::backoff::Backoff;
use super::batch::{Batch, Line, fetch};
use super::counts::{ConsumerStats, Counts};
use super::done::Position;
use super::driver::Session;
use super::error::{ConsumeError, ConsumeErrorKind, HandlerError};
use super::in_order::InOrder;
use super::key::Key;
use super::message::Message;
use super::reasons::Reasons;
use super::restore::Origin;
use super::work::{DeadLetters, Handler, Work};
use crate::bus::Bus;
use crate::topology::{ConsumerInfo, ConsumerSpec, Retention, Topology};

/// Messages of a durable pull consumer, for handlers.
///
/// It is a handle: clones share the figures, and [`drain`](Self::drain) of any of them ends all that run.
///
/// # Examples
///
/// ```no_run
/// use eventbus::{Consumer, HandlerError, Key};
/// use eventbus::topology::ConsumerSpec;
///
/// # async fn example(connection: natstream_connect::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let consumer = Consumer::builder(connection, ConsumerSpec::new("ORDERS", "mail"))
///     .concurrency(16)
///     .key(Key::SubjectPart(2))
///     .dead_letters("dead.orders", 5)
///     .open()
///     .await?;
/// consumer
///     .for_each(|message| async move {
///         println!("{}: {} bytes", message.subject(), message.payload().len());
///         Ok::<_, HandlerError>(())
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Consumer {
    pub(super) inner: Arc<Inner>,
}

/// What sessions need of their consumer.
pub(super) struct Inner {
    pub(super) connection: Lease,
    pub(super) spec: ConsumerSpec,
    pub(super) settings: Settings,
    /// The shortest time that an ack may take, and the longest.
    pub(super) ack_wait: Duration,
    pub(super) longest_ack_wait: Duration,
    /// How far the consumer was when it was opened.
    pub(super) position: Position,
    /// Its stream at that time, where it is to be made again.
    pub(super) origin: Option<Origin>,
    pub(super) counts: Arc<Counts>,
    pub(super) backoff: Backoff,
    pub(super) drains: watch::Sender<bool>,
    pub(super) acks: AckSender,
    /// Of the last fetch.
    pub(super) line: Mutex<Option<Line>>,
    pub(super) dead: Option<Arc<DeadLetters>>,
}

/// How late nats-server may notice that an ack wait is over: it looks at its timers now and then.
const LATE: Duration = Duration::from_millis(250);

impl Inner {
    /// What the attempts of a session share.
    pub(super) fn work(&self) -> Work {
        Work {
            stream: self.spec.stream().to_owned(),
            consumer: self.spec.name().to_owned(),
            acks: self.acks.clone(),
            dead: self.dead.clone(),
            limit: self.settings.handler_limit,
            counts: self.counts.clone(),
            has_judged: AtomicBool::new(false),
        }
    }

    /// Within this, what was not acked is delivered again.
    pub(super) fn redelivery_wait(&self) -> Duration {
        let wait = self.longest_ack_wait;
        wait.saturating_add(wait / 10).saturating_add(LATE)
    }

    pub(super) fn is_drained(&self) -> bool {
        *self.drains.borrow()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) concurrency: usize,
    pub(super) prefetch: usize,
    pub(super) key: Key,
    pub(super) creates: bool,
    pub(super) expires: Duration,
    pub(super) heartbeat: Duration,
    pub(super) drain_limit: Duration,
    pub(super) handler_limit: Option<Duration>,
    pub(super) limit: Option<usize>,
}

impl Consumer {
    /// A consumer on this connection, or on one of a set, to be set up.
    pub fn builder(connection: impl Into<Lease>, spec: ConsumerSpec) -> ConsumerBuilder {
        ConsumerBuilder {
            connection: connection.into(),
            spec,
            settings: Settings {
                concurrency: 16,
                prefetch: 0,
                key: Key::None,
                creates: true,
                expires: Duration::from_secs(30),
                heartbeat: Duration::from_secs(5),
                drain_limit: Duration::from_secs(30),
                handler_limit: None,
                limit: None,
            },
            pauses: [1, 5, 30, 60].map(Duration::from_secs).to_vec(),
            dead: None,
        }
    }

    /// Handles messages until it is [drained](Self::drain), or has done [so many](ConsumerBuilder::limit).
    ///
    /// A message is acked when the handler has returned `Ok`. An error or a panic makes it come again after a pause, or puts it
    /// aside; see [`ConsumerBuilder::dead_letters`]. nats-server is told of messages that take long, so that it does not give
    /// them to somebody else.
    ///
    /// # Errors
    /// [`ConsumeErrorKind`]. Whatever heals by itself is no error: reconnects, elections, a consumer that is deleted and can be
    /// made again.
    ///
    /// # Cancel safety
    /// Dropped early, handlers are dropped where they are, and their messages are delivered again after their ack wait.
    pub async fn for_each<H, F, E>(&self, handler: H) -> Result<(), ConsumeError>
    where
        H: Fn(Message) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        let handler: Handler =
            Box::new(move |message: Message| handler(message).map(|result| result.map_err(Into::into)).boxed());
        if self.inner.is_drained() {
            return Ok(());
        }
        // In boxes: they are large, and so would be every future that consumes.
        let session = Box::pin(Session::open(self.inner.clone(), handler)).await?;
        let limit = self.inner.settings.drain_limit;
        let result = Box::pin(session.run()).await;
        if let Err(error) = self.inner.acks.flush(limit).await {
            tracing::debug!(%error, "when handling ended");
        }
        result
    }

    /// So many messages, as far as they come in this time: with no time, those that are there. They are acked by whoever asks.
    ///
    /// # Errors
    /// [`ConsumeErrorKind`]. No message is no error.
    ///
    /// # Cancel safety
    /// Dropped early, what has come is delivered again after its ack wait.
    pub async fn fetch(&self, count: usize, within: Duration) -> Result<Batch, ConsumeError> {
        fetch(&self.inner, count.max(1), within)
            .await
            .map(|fetched| fetched.batch)
    }

    /// Messages strictly in the order of the stream, each once, for whoever keeps a position of their own: a file, a projection.
    ///
    /// `after` is that position: the sequence of the last message that whoever asks has. What the consumer delivers up to it is
    /// acked in silence, and the next message is the first one behind it. `None`: wherever the consumer's acks stand.
    ///
    /// Nobody else may ask the same consumer at the same time. Settings of handlers mean nothing here;
    /// [`prefetch`](ConsumerBuilder::prefetch) is how many messages may be given and not acked. It needs nats-server 2.14.
    ///
    /// # Errors
    /// [`ConsumeErrorKind`].
    ///
    /// # Cancel safety
    /// Dropped early, the consumer may have been reset: what it had delivered comes again.
    pub async fn in_order(&self, after: Option<u64>) -> Result<InOrder, ConsumeError> {
        InOrder::open(self.inner.clone(), after).await
    }

    /// Asks for no more messages, finishes those that are here, and lets [`for_each`](Self::for_each) return.
    /// [`InOrder::next`] says `None` when it has given those that are here.
    ///
    /// It is for good: `for_each` of a consumer that was drained returns at once. To go on, open another one.
    /// [`fetch`](Self::fetch) works all the same.
    pub fn drain(&self) {
        self.inner.drains.send_replace(true);
    }

    /// Its stream, its name, and how it was declared.
    pub fn spec(&self) -> &ConsumerSpec {
        &self.inner.spec
    }

    /// Can it get messages: is its connection up, and was it not told to drain? What a readiness probe wants to know; it costs
    /// no message.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.inner.is_drained() && self.inner.connection.state().borrow().is_connected()
    }

    /// What has become of all messages so far.
    #[must_use]
    pub fn stats(&self) -> ConsumerStats {
        self.inner.counts.stats()
    }

    /// The consumer as nats-server knows it: how far it lags behind, for instance.
    ///
    /// # Errors
    /// [`ConsumeErrorKind`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn info(&self) -> Result<ConsumerInfo, ConsumeError> {
        let Inner { connection, spec, .. } = &*self.inner;
        let topology = Topology::new(connection.connection().clone());
        Ok(topology.consumer(spec.stream(), spec.name()).await?)
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("stream", &self.inner.spec.stream())
            .field("name", &self.inner.spec.name())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// A consumer that is not open yet. Each setting has a default.
///
/// | setting | default |
/// |---|---|
/// | [`concurrency`](Self::concurrency) | 16 handlers |
/// | [`prefetch`](Self::prefetch) | twice as many messages |
/// | [`key`](Self::key) | [`Key::None`] |
/// | [`backoff`](Self::backoff) | 1 s, 5 s, 30 s, 60 s |
/// | [`dead_letters`](Self::dead_letters) | none: a message is tried for ever |
/// | [`create`](Self::create) | true |
/// | [`limit`](Self::limit) | none |
#[must_use = "a consumer is there when it was opened"]
pub struct ConsumerBuilder {
    connection: Lease,
    spec: ConsumerSpec,
    settings: Settings,
    pauses: Vec<Duration>,
    dead: Option<(String, u64)>,
}

impl ConsumerBuilder {
    /// How many handlers run at once; by default 16.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.settings.concurrency = handlers;
        self
    }

    /// How many messages are here at once at most, those that are handled included; by default twice the concurrency. No more
    /// are asked for than there is room for. Memory: so many messages; after a reconnect, for a moment, twice as many.
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.settings.prefetch = messages;
        self
    }

    /// Which messages stay in order; by default none. It holds within one process that alone consumes. After deliveries were
    /// lost, with a connection or a process before, new messages wait until those are due again: up to the ack wait, and a bit.
    pub fn key(mut self, key: Key) -> Self {
        self.settings.key = key;
        self
    }

    /// The pauses after the first failure of a message, the second, and so on; the last one is used again. Half of each is
    /// random.
    pub fn backoff(mut self, pauses: impl IntoIterator<Item = Duration>) -> Self {
        self.pauses = pauses.into_iter().collect();
        self
    }

    /// Publishes a message to this subject when it has failed so often, or was [rejected](HandlerError::reject): with its
    /// headers, its payload, where it was and why. Only when a stream has it, nats-server is told to forget it. A stream of the
    /// account must take the subject when the consumer is opened.
    ///
    /// A message whose handler takes the process with it has no failure that was told, and others that were here with it were
    /// delivered as often. From the limit on such messages are handled one at a time; from twice the limit on, the first of
    /// them is put aside unheard, one in each run of [`for_each`](Consumer::for_each).
    ///
    /// Where the consumer is somebody else's and limits deliveries, that limit counts if it is lower, and messages that
    /// nats-server gives up are put aside too, while somebody runs [`for_each`](Consumer::for_each). That takes the right to
    /// subscribe to `$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.<stream>.<consumer>` and to ask `$JS.API.STREAM.MSG.GET.<stream>`.
    pub fn dead_letters(mut self, subject: impl Into<String>, attempts: u64) -> Self {
        self.dead = Some((subject.into(), attempts));
        self
    }

    /// Lets [`for_each`](Consumer::for_each) return when so many messages were handled or put aside; by default it goes on. It
    /// takes no others, so that the next ones stay where they are: it never has more here than are still to be done, and one
    /// that failed is tried again here. 0 is none at all.
    pub fn limit(mut self, messages: usize) -> Self {
        self.settings.limit = Some(messages);
        self
    }

    /// Makes the consumer when it is not there; by default it does, and also when it is deleted later.
    pub fn create(mut self, creates: bool) -> Self {
        self.settings.creates = creates;
        self
    }

    /// How long a handler may take; by default as long as it likes. One that takes longer is dropped where it is, and has
    /// failed.
    pub fn handler_limit(mut self, limit: Duration) -> Self {
        self.settings.handler_limit = Some(limit);
        self
    }

    /// How long a drain may take; by default 30 s. What is not done then is given back.
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.settings.drain_limit = limit;
        self
    }

    /// Makes the consumer, or looks at it.
    ///
    /// # Errors
    /// [`ConsumeErrorKind`].
    ///
    /// # Cancel safety
    /// Dropped early, the consumer may have been made.
    pub async fn open(mut self) -> Result<Consumer, ConsumeError> {
        let invalid = |problem: &str| ConsumeError::because(ConsumeErrorKind::Invalid, problem.to_owned());
        let concurrency = self.settings.concurrency;
        if concurrency == 0 {
            return Err(invalid("`concurrency` must not be 0"));
        }
        if self.settings.prefetch == 0 {
            self.settings.prefetch = concurrency.saturating_mul(2);
        }
        let seed = u64::from(random_u32());
        let backoff =
            Backoff::new(&self.pauses, seed).ok_or_else(|| invalid("`backoff` must have pauses, none of them 0"))?;
        let topology = Topology::new(self.connection.connection().clone());
        let info = if self.settings.creates {
            topology.ensure_consumer(&self.spec).await?
        } else {
            topology.consumer(self.spec.stream(), self.spec.name()).await?
        };
        let counts = Arc::new(Counts::default());
        let acks = AckSender::open(&self.connection, info.longest_ack_wait(), counts.clone()).await?;
        let dead = match self.dead {
            None => None,
            Some((subject, attempts)) => {
                match topology.stream_of(&subject).await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Err(ConsumeError::because(ConsumeErrorKind::NoDeadLetterStream, subject)),
                    // Not everybody may ask.
                    Err(error) => tracing::debug!(%error, subject, "is there a stream for dead letters?"),
                }
                let bus = Bus::open(self.connection.clone()).await;
                let bus = bus.map_err(|error| ConsumeError::because(ConsumeErrorKind::Closed, error))?;
                let most = info.max_deliver();
                let acks_remove = match most {
                    None => false,
                    Some(_) => topology.info(self.spec.stream()).await?.retention != Retention::Limits,
                };
                Some(Arc::new(DeadLetters {
                    bus,
                    subject,
                    // There will be no more attempts than nats-server lets there be.
                    attempts: attempts.min(most.unwrap_or(u64::MAX)).max(1),
                    most,
                    acks_remove,
                    reasons: Reasons::default(),
                }))
            }
        };
        let origin = if self.settings.creates {
            Origin::of(self.connection.connection(), self.spec.stream()).await
        } else {
            None
        };
        Ok(Consumer {
            inner: Arc::new(Inner {
                connection: self.connection,
                spec: self.spec,
                settings: self.settings,
                ack_wait: info.shortest_ack_wait(),
                longest_ack_wait: info.longest_ack_wait(),
                position: Position::from(&info),
                origin,
                counts,
                backoff,
                drains: watch::Sender::new(false),
                acks,
                line: Mutex::new(None),
                dead,
            }),
        })
    }
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("spec", &self.spec)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
