//! What joins the machines of a consumer to its connection: one loop, and a task for each handler that runs.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::subject::Subject;
use futures_util::FutureExt as _;
use natstream_connect::{ConnectionState, Driver, Operation, ServerErrorEvent, Subscriber, random_u32};
use tokio::sync::{broadcast, watch};
use tokio::task::{JoinSet, coop};

use super::backoff::Backoff;
use super::consumer::Inner;
use super::counts::count;
use super::engine::{Admission, End, Plan, PullConfig, PullEvent, Pulls};
use super::error::{ConsumeError, ConsumeErrorKind};
use super::key::Key;
use super::lanes::{Lanes, Ticket};
use super::link::Link;
use super::message::Message;
use super::progress::{Due, Progress};
use super::status::Status;
use super::word::Word;
use super::work::{Verdict, Work};
use crate::nanos;
use crate::topology::{Topology, TopologyError, TopologyErrorKind};

/// Messages that are taken before anything else is looked at.
const MESSAGES_PER_TURN: usize = 64;

/// The pause before a consumer that cannot be made is tried again.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);

/// The pause that a message which is given back has: somebody else may have it at once.
const GIVE_BACK: u64 = 1_000_000;

/// One run of `for_each`.
pub(super) struct Session {
    inner: Arc<Inner>,
    work: Arc<Work>,
    /// `None` once it is being drained.
    subscriber: Option<Subscriber>,
    state: watch::Receiver<ConnectionState>,
    seen: ConnectionState,
    errors: broadcast::Receiver<ServerErrorEvent>,
    drains: watch::Receiver<bool>,
    repair: Option<Repair>,
    link: Link,
    pulls: Pulls,
    lanes: Lanes<Message>,
    progress: Progress,
    backoff: Backoff,
    /// Messages that are here, by their numbers in the stream.
    held: HashMap<u64, Held>,
    handlers: JoinSet<Attempted>,
}

/// What is known of a message that is here.
struct Held {
    reply: Subject,
    due: Due,
}

type Repair = Pin<Box<dyn Future<Output = Result<(), TopologyError>> + Send>>;

/// What a handler's task gives back.
struct Attempted {
    ticket: Ticket,
    message: Message,
    verdict: Verdict,
}

impl Session {
    pub(super) async fn open(inner: Arc<Inner>, work: Arc<Work>) -> Result<Self, ConsumeError> {
        let connection = inner.connection.connection().clone();
        let driver = connection.driver();
        let now = driver.nanos(driver.now());
        let errors = connection.server_errors();
        let link = Link::new(&connection, inner.spec.stream(), inner.spec.name());
        // Before the subscription: a connection that is lost from here on is noticed.
        let mut state = connection.state();
        let seen = *state.borrow_and_update();
        let subscriber = link.subscribe().await?;
        let settings = &inner.settings;
        let config = PullConfig {
            slots: settings.prefetch,
            most: usize::MAX,
            bytes: None,
            expires: nanos(settings.expires),
            heartbeat: nanos(settings.heartbeat),
            first_pause: 50_000_000,
            longest_pause: 2_000_000_000,
            plan: Plan::Continuous,
            seed: u64::from(random_u32()),
        };
        let mut pulls = Pulls::new(config, now);
        if let Some(messages) = settings.limit {
            pulls.limit(messages);
        }
        Ok(Self {
            link,
            pulls,
            lanes: Lanes::new(),
            progress: Progress::new(nanos(inner.ack_wait)),
            backoff: inner.backoff.clone(),
            held: HashMap::new(),
            handlers: JoinSet::new(),
            subscriber: Some(subscriber),
            drains: inner.drains.subscribe(),
            repair: None,
            state,
            seen,
            errors,
            work,
            inner,
        })
    }

    /// Handles messages until it is drained, or nothing more can come.
    pub(super) async fn run(mut self) -> Result<(), ConsumeError> {
        if self.key_is_set() {
            Self::wait_for_predecessors(&self.inner, &self.drains).await?;
        }
        self.look_at_connection();
        loop {
            if *self.drains.borrow() || self.pulls.is_spent() {
                return self.drain().await;
            }
            self.step();
            if let Some(end) = self.pulls.end() {
                let kind = match end {
                    End::NotPull => ConsumeErrorKind::NotPull,
                    End::BadRequest | End::Fetched => ConsumeErrorKind::Rejected,
                };
                return Err(ConsumeError::new(kind));
            }
            self.wait().await?;
        }
    }

    /// Does what can be done now.
    fn step(&mut self) {
        let now = self.now();
        self.pulls.handle_timeout(now);
        self.lanes.wake(now);
        self.start();
        while let Some(event) = self.pulls.poll_event() {
            match event {
                PullEvent::Gone | PullEvent::Look => self.begin_repair(Duration::ZERO),
                PullEvent::Silent => count(&self.inner.counts.silences),
                PullEvent::Refused => tracing::debug!(subject = self.link.next(), "a request for messages was refused"),
            }
        }
        while let Some(request) = self.pulls.poll_request(now) {
            if !self.link.ask(&request) {
                // The connection takes nothing at the moment: as if it had been refused.
                self.pulls.handle_status(now, request.number, &Status::Refused);
            }
        }
        self.signal(now);
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) -> Result<(), ConsumeError> {
        let now = self.now();
        let due = [
            self.pulls.poll_timeout(),
            self.lanes.wake_at(),
            self.progress.poll_timeout(),
        ];
        let due = due.into_iter().flatten().min();
        let sleep = pin!(async {
            match due {
                Some(at) => tokio::time::sleep(Duration::from_nanos(at.saturating_sub(now))).await,
                None => std::future::pending().await,
            }
        });
        let repair = async {
            match &mut self.repair {
                Some(repair) => repair.await,
                None => std::future::pending().await,
            }
        };
        let message = async {
            match &mut self.subscriber {
                Some(subscriber) => subscriber.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // First what is rare.
            biased;
            _ = self.drains.changed() => {}
            changed = self.state.changed() => {
                if changed.is_err() {
                    return Err(ConsumeError::new(ConsumeErrorKind::Closed));
                }
                self.look_at_connection();
            }
            event = self.errors.recv() => self.heed(event)?,
            repaired = repair => self.repaired(repaired)?,
            Some(attempted) = self.handlers.join_next() => self.finish_attempt(attempted),
            message = message => {
                let Some(message) = message else {
                    let refused = self.subscriber.as_ref().is_some_and(|subscriber| subscriber.refusal().is_some());
                    let kind = if refused { ConsumeErrorKind::NotPermitted } else { ConsumeErrorKind::Closed };
                    return Err(ConsumeError::new(kind));
                };
                self.take(message);
                self.take_more();
            }
            () = sleep => {}
        }
        // Handlers that are done come in crowds.
        while let Some(attempted) = self.handlers.try_join_next() {
            self.finish_attempt(attempted);
        }
        Ok(())
    }

    /// Takes what has come besides.
    fn take_more(&mut self) {
        for _ in 1..MESSAGES_PER_TURN {
            let Some(subscriber) = &mut self.subscriber else { return };
            // Without a budget: an empty queue must be seen as one. An end is seen by whoever waits.
            match coop::unconstrained(subscriber.next()).now_or_never() {
                Some(Some(message)) => self.take(message),
                Some(None) | None => return,
            }
        }
    }

    fn take(&mut self, mut message: async_nats::Message) {
        let now = self.now();
        let Some(message) = Message::take(&mut message) else {
            if let Some((number, status)) = self.link.status(&message) {
                self.pulls.handle_status(now, number, &status);
            }
            return;
        };
        count(&self.inner.counts.received);
        self.inner.counts.lag.store(message.pending(), Ordering::Relaxed);
        if self.pulls.handle_message(now) == Admission::Surplus {
            self.link.say(message.reply(), &Word::Nak { pause: GIVE_BACK });
            return;
        }
        let number = message.sequence();
        match self.held.entry(number) {
            // Its ack wait has run out. The ack of either delivery is good for both.
            Entry::Occupied(_) => {
                count(&self.inner.counts.repeated);
                self.pulls.release();
            }
            Entry::Vacant(entry) => {
                let due = self.progress.begin(now, number);
                let reply = message.reply().clone();
                entry.insert(Held { reply, due });
                let key = self.inner.settings.key.of(&message).map(<[u8]>::to_vec);
                self.lanes.add(key.as_deref(), message);
            }
        }
    }

    /// Starts handlers as far as they may run.
    fn start(&mut self) {
        while self.lanes.running() < self.inner.settings.concurrency
            && let Some((ticket, message)) = self.lanes.next()
        {
            let work = self.work.clone();
            self.handlers.spawn(async move {
                let verdict = work.attempt(&message).await;
                Attempted {
                    ticket,
                    message,
                    verdict,
                }
            });
        }
    }

    fn finish_attempt(&mut self, attempted: Result<Attempted, tokio::task::JoinError>) {
        let Ok(Attempted {
            ticket,
            message,
            verdict,
        }) = attempted
        else {
            // Its panics are caught, and nobody aborts it but the end of the runtime.
            return;
        };
        match verdict {
            Verdict::Done => {
                self.forget(ticket, &message);
                self.pulls.spend();
            }
            // In its place, so that those behind it stay behind.
            Verdict::Again if self.key_is_set() || self.inner.settings.limit.is_some() => {
                let at = self.now().saturating_add(self.backoff.pause(message.attempt()));
                self.lanes.retry(ticket, message.repeated(), at);
            }
            Verdict::Again => {
                let pause = self.backoff.pause(message.attempt());
                self.link.say(message.reply(), &Word::Nak { pause });
                self.forget(ticket, &message);
            }
        }
    }

    /// The message is not here any more.
    fn forget(&mut self, ticket: Ticket, message: &Message) {
        self.lanes.finish(ticket);
        self.let_go(message);
    }

    fn let_go(&mut self, message: &Message) {
        let number = message.sequence();
        if let Some(held) = self.held.remove(&number) {
            self.progress.end(number, held.due);
            self.pulls.release();
        }
    }

    /// Tells nats-server of those that take long.
    fn signal(&mut self, now: u64) {
        while let Some((number, due)) = self.progress.poll(now) {
            if let Some(held) = self.held.get_mut(&number) {
                held.due = due;
                let reply = held.reply.clone();
                self.link.say(&reply, &Word::InProgress);
            }
        }
    }

    fn look_at_connection(&mut self) {
        let now = self.now();
        let state = *self.state.borrow_and_update();
        if state.is_connected() {
            if !self.seen.is_connected() || state.epoch != self.seen.epoch {
                self.pulls.handle_connect(now);
            }
        } else {
            self.pulls.handle_disconnect();
        }
        self.seen = state;
    }

    fn heed(&self, event: Result<ServerErrorEvent, broadcast::error::RecvError>) -> Result<(), ConsumeError> {
        match event {
            Ok(ServerErrorEvent::PermissionViolation {
                operation: Operation::Publish,
                subject,
                ..
            }) if subject == self.link.next() => Err(ConsumeError::new(ConsumeErrorKind::NotPermitted)),
            _ => Ok(()),
        }
    }

    /// Looks whether the consumer is there, and makes it if it is to be.
    fn begin_repair(&mut self, pause: Duration) {
        if self.repair.is_some() {
            return;
        }
        let inner = self.inner.clone();
        self.repair = Some(Box::pin(async move {
            tokio::time::sleep(pause).await;
            let topology = Topology::new(inner.connection.connection().clone());
            if inner.settings.creates {
                topology.ensure_consumer(&inner.spec).await.map(drop)
            } else {
                topology
                    .consumer(inner.spec.stream(), inner.spec.name())
                    .await
                    .map(drop)
            }
        }));
    }

    fn repaired(&mut self, repaired: Result<(), TopologyError>) -> Result<(), ConsumeError> {
        self.repair = None;
        match repaired {
            Ok(()) => self.pulls.handle_restored(self.now()),
            Err(error) if error.kind() == TopologyErrorKind::NotFound && !self.inner.settings.creates => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::debug!(%error, "a consumer is looked for");
                if error.kind() == TopologyErrorKind::NotFound {
                    // The stream is not there.
                    self.pulls.handle_gone();
                }
                self.begin_repair(REPAIR_PAUSE);
            }
        }
        Ok(())
    }

    /// What was delivered to a process that died comes again only after its ack wait: new messages would overtake it. So they
    /// are not asked for until then.
    async fn wait_for_predecessors(inner: &Inner, drains: &watch::Receiver<bool>) -> Result<(), ConsumeError> {
        let topology = Topology::new(inner.connection.connection().clone());
        let wait = inner.ack_wait;
        let began = Driver::clock();
        loop {
            let info = topology.consumer(inner.spec.stream(), inner.spec.name()).await?;
            // A little more: nats-server looks at its timers now and then.
            let left = (wait + wait / 10).saturating_sub(began.elapsed());
            if info.ack_pending == 0 || left.is_zero() || *drains.borrow() {
                return Ok(());
            }
            tokio::time::sleep(left.min(Duration::from_millis(250))).await;
        }
    }

    /// Takes what is on its way, finishes what is here as far as the limit lets it, and gives back the rest.
    async fn drain(mut self) -> Result<(), ConsumeError> {
        self.pulls.stop();
        if let Some(subscriber) = self.subscriber.take() {
            let mut last = Vec::new();
            if let Err(error) = subscriber.leave(|message| last.push(message)).await {
                tracing::debug!(%error, "the end of a consumer was not confirmed");
            }
            last.into_iter().for_each(|message| self.take(message));
        }
        let began = Driver::clock();
        let limit = self.inner.settings.drain_limit;
        loop {
            self.step();
            let left = limit.saturating_sub(began.elapsed());
            // Those that rest, and those behind them, keep their order by being given back together.
            if left.is_zero() || self.lanes.running() == 0 {
                break;
            }
            if let Ok(Err(error)) = tokio::time::timeout(left, self.wait()).await {
                tracing::debug!(%error, "a consumer that is drained has lost its connection");
                break;
            }
        }
        let (held, wanted) = (self.pulls.held(), self.pulls.wanted());
        let left = self.lanes.len();
        tracing::debug!(left, held, wanted, counts = ?self.pulls.counts(), "a consumer was drained");
        for message in self.lanes.drain() {
            self.link.say(message.reply(), &Word::Nak { pause: GIVE_BACK });
            self.let_go(&message);
        }
        self.handlers.abort_all();
        Ok(())
    }

    fn key_is_set(&self) -> bool {
        self.inner.settings.key != Key::None
    }

    fn driver(&self) -> &Driver {
        self.inner.connection.driver()
    }

    fn now(&self) -> u64 {
        self.driver().nanos(self.driver().now())
    }
}
