//! What joins the machines of a consumer to its connection: one loop, and handlers that it begins itself.

mod arrivals;
mod attempts;
mod course;
mod doubt;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::subject::Subject;
use foldhash::fast::RandomState;
use natstream_connect::{ConnectionState, Driver, Losses, ServerErrorEvent, Subscriber, random_u32};
use tokio::sync::{broadcast, watch};

use self::doubt::Looks;
use super::backoff::Backoff;
use super::consumer::Inner;
use super::counts::{Now, Share, count};
use super::crew::{Attempted, Crew, PATIENCE};
use super::done::{Done, Position};
use super::engine::{Admission, End, Plan, PullConfig, PullEvent, Pulls};
use super::error::{ConsumeError, ConsumeErrorKind};
use super::exceeded::{Exceeded, GivenUp};
use super::gaps::Gaps;
use super::key::Key;
use super::link::Link;
use super::message::Message;
use super::progress::{Due, Progress};
use super::restore::Restored;
use super::status::Status;
use super::suspects::Suspects;
use super::word::{GIVE_BACK, Word};
use super::work::Handler;
use crate::lanes::{Lanes, Ticket};
use crate::nanos;
use crate::topology::{Topology, TopologyError};

/// Messages that are taken before anything else is looked at.
const MESSAGES_PER_TURN: usize = 64;

/// One run of `for_each`.
pub(super) struct Session {
    inner: Arc<Inner>,
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
    suspects: Suspects<(Ticket, Message)>,
    progress: Progress,
    backoff: Backoff,
    /// Messages that are here, by their numbers in the stream.
    held: HashMap<u64, Held, RandomState>,
    crew: Crew,
    /// To be filled by it.
    attempted: Vec<Attempted>,
    /// With a key: are deliveries missing?
    gaps: Option<Gaps<Message>>,
    /// Somebody else consumes too, and that was told.
    is_shared: bool,
    done: Done,
    looks: Looks,
    /// Deliveries that have come.
    arrivals: u64,
    /// How often the connection had connected, and had dropped messages, when the last one came.
    disturbances: (u64, u64),
    losses: Losses,
    /// What nats-server gives up, if it does.
    exceeded: Option<Exceeded>,
    /// What it has given up although it is here.
    given_up: HashMap<u64, GivenUp>,
    share: Share,
}

/// What is known of a message that is here.
struct Held {
    reply: Subject,
    due: Due,
    /// It takes the place of another one.
    has_slot: bool,
}

type Repair = Pin<Box<dyn Future<Output = Result<Restored, TopologyError>> + Send>>;

impl Session {
    pub(super) async fn open(inner: Arc<Inner>, handler: Handler) -> Result<Self, ConsumeError> {
        let work = Arc::new(inner.work());
        let connection = inner.connection.connection().clone();
        let driver = connection.driver();
        let errors = connection.server_errors();
        let link = Link::new(&connection, inner.spec.stream(), inner.spec.name());
        // Before the subscription: a connection that is lost from here on is noticed.
        let mut state = connection.state();
        let seen = *state.borrow_and_update();
        let subscriber = link.subscribe().await?;
        let most = inner.dead.as_ref().and_then(|dead| dead.most);
        let exceeded = match most {
            Some(_) => Some(Exceeded::listen(connection.clone(), work.clone()).await),
            None => None,
        };
        // Before anything is asked for.
        let topology = Topology::new(connection.clone());
        let position = match topology.consumer(inner.spec.stream(), inner.spec.name()).await {
            Ok(info) => Position::from(&info),
            Err(error) => {
                tracing::debug!(%error, "a consumer was not looked at");
                inner.position
            }
        };
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
        let wait = nanos(inner.redelivery_wait());
        let now = driver.nanos(driver.now());
        let mut pulls = Pulls::new(config, now);
        if let Some(messages) = settings.limit {
            pulls.limit(messages);
        }
        Ok(Self {
            gaps: (settings.key != Key::None).then(|| Gaps::new(wait, now)),
            is_shared: false,
            done: Done::new(position),
            looks: Looks::default(),
            arrivals: 0,
            disturbances: (0, 0),
            losses: subscriber.losses(),
            exceeded,
            given_up: HashMap::new(),
            share: Share::new(inner.counts.clone()),
            link,
            pulls,
            lanes: Lanes::new(),
            suspects: Suspects::new(wait),
            progress: Progress::new(nanos(inner.ack_wait)),
            backoff: inner.backoff.clone(),
            held: HashMap::default(),
            crew: Crew::new(work.clone(), handler, settings.concurrency),
            attempted: Vec::new(),
            subscriber: Some(subscriber),
            drains: inner.drains.subscribe(),
            repair: None,
            state,
            seen,
            errors,
            inner,
        })
    }

    /// Handles messages until it is drained, or nothing more can come.
    pub(super) async fn run(mut self) -> Result<(), ConsumeError> {
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
            // The last one may have been done at once.
            if !self.pulls.is_spent() {
                self.wait().await?;
            }
        }
    }

    /// Does what can be done now.
    fn step(&mut self) {
        let now = self.now();
        self.pulls.handle_timeout(now);
        self.doubt(now);
        self.lanes.wake(now);
        self.start(now);
        while let Some(event) = self.pulls.poll_event() {
            match event {
                PullEvent::Gone | PullEvent::Look => self.begin_repair(Duration::ZERO),
                PullEvent::Silent => count(&self.inner.counts.silences),
                PullEvent::Refused => tracing::debug!(subject = self.link.next(), "a request for messages was refused"),
            }
        }
        let most = self.most_wanted();
        while let Some(request) = self.pulls.poll_request_of(now, most) {
            if !self.link.ask(&request) {
                // The connection takes nothing at the moment: as if it had been refused.
                self.pulls.handle_status(now, request.number, &Status::Refused);
            }
        }
        self.signal(now);
        self.inner.acks.kick();
        self.share();
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) -> Result<(), ConsumeError> {
        let now = self.now();
        let impatient = self.crew.is_waiting().then(|| now.saturating_add(PATIENCE));
        let due = [
            self.pulls.poll_timeout(),
            self.lanes.wake_at(),
            self.suspects.poll_timeout(),
            self.progress.poll_timeout(),
            self.doubt_timeout(),
            impatient,
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
        let given_up = async {
            match &mut self.exceeded {
                Some(exceeded) => exceeded.next().await,
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
            (answer, arrivals, gaps) = self.looks.answer() => self.looked(answer, arrivals, gaps),
            given_up = given_up => {
                if let Some(given_up) = given_up {
                    self.give_up(given_up);
                }
            }
            () = self.crew.done() => {}
            message = message => {
                let Some(message) = message else {
                    let refused = self.subscriber.as_ref().is_some_and(|subscriber| subscriber.refusal().is_some());
                    let kind = if refused { ConsumeErrorKind::NotPermitted } else { ConsumeErrorKind::Closed };
                    return Err(ConsumeError::new(kind));
                };
                let now = self.now();
                self.take(message, now);
                self.take_more(now);
            }
            () = sleep => {
                if impatient.is_some() {
                    self.crew.nudge();
                }
            }
        }
        self.finish_attempts();
        Ok(())
    }

    /// Takes what has come besides.
    fn take_more(&mut self, now: u64) {
        for _ in 1..MESSAGES_PER_TURN {
            let Some(subscriber) = &mut self.subscriber else { return };
            let Some(message) = subscriber.try_next() else { return };
            self.take(message, now);
        }
    }

    fn take(&mut self, mut message: async_nats::Message, now: u64) {
        let Some(message) = Message::take(&mut message) else {
            if let Some((number, status)) = self.link.status(&message) {
                self.pulls.handle_status(now, number, &status);
                if status == Status::Moved {
                    self.inner.acks.say_again();
                    self.begin_doubt(now);
                }
            }
            return;
        };
        count(&self.inner.counts.received);
        if message.delivered() > 1 {
            count(&self.inner.counts.redelivered);
        }
        self.inner.counts.lag.store(message.pending(), Ordering::Relaxed);
        self.arrivals += 1;
        let number = message.sequence();
        self.done.begin(message.consumer_sequence(), number);
        let delivered = self.key_is_set().then(|| self.delivered(&message));
        if self.pulls.handle_message(now) == Admission::Surplus {
            match self.gaps.as_mut().zip(delivered) {
                Some((gaps, delivered)) => gaps.handle_surplus(now, delivered),
                None => self.link.say(message.reply(), &Word::Nak { pause: GIVE_BACK }),
            }
            return;
        }
        let message = match self.held.entry(number) {
            // Its ack wait has run out. The ack of either delivery is good for both.
            Entry::Occupied(_) => {
                count(&self.inner.counts.repeated);
                self.pulls.release();
                None
            }
            Entry::Vacant(entry) => {
                let due = self.progress.begin(now, number);
                let reply = message.reply().clone();
                entry.insert(Held {
                    reply,
                    due,
                    has_slot: true,
                });
                Some(message)
            }
        };
        match (self.gaps.as_mut().zip(delivered), message) {
            (Some((gaps, delivered)), message) => {
                gaps.handle_delivery(now, delivered, message);
                self.admit();
            }
            (None, Some(message)) => self.lanes.add(None, message),
            (None, None) => {}
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

    /// Takes what is on its way, finishes what is here as far as the limit lets it, and gives back the rest.
    async fn drain(mut self) -> Result<(), ConsumeError> {
        self.pulls.stop();
        // When all that was asked for is here, nothing is on its way.
        let subscriber = self.subscriber.take().filter(|_| self.pulls.wanted() > 0);
        if let Some(subscriber) = subscriber {
            let mut last = Vec::new();
            if let Err(error) = subscriber.leave(|message| last.push(message)).await {
                tracing::debug!(%error, "the end of a consumer was not confirmed");
            }
            let now = self.now();
            last.into_iter().for_each(|message| self.take(message, now));
        }
        let began = Driver::clock();
        let limit = self.inner.settings.drain_limit;
        loop {
            self.finish_attempts();
            self.step();
            for (ticket, message) in self.suspects.drain() {
                // Nobody waits for what may come before it.
                self.lanes.retry(ticket, message, u64::MAX);
            }
            let left = limit.saturating_sub(began.elapsed());
            // Those that rest, and those behind them, keep their order by being given back together.
            let is_buried = self.exceeded.as_ref().is_none_or(Exceeded::is_empty);
            if left.is_zero() || (self.lanes.running() == 0 && is_buried) {
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
        let behind = self.gaps.iter_mut().flat_map(Gaps::drain);
        let left: Vec<Message> = self.lanes.drain().into_iter().chain(behind).collect();
        for message in left {
            if let Some(given_up) = self.given_up.remove(&message.sequence()) {
                tracing::error!(
                    sequence = given_up.sequence,
                    "a message that nats-server has given up was not put aside"
                );
            }
            self.link.say(message.reply(), &Word::Nak { pause: GIVE_BACK });
            self.let_go(&message);
        }
        // Those that still run are dropped where they are, and need not wait for their ack wait.
        self.crew.abort();
        let mut rest: Vec<(u64, Held)> = self.held.drain().collect();
        rest.sort_unstable_by_key(|(number, _)| *number);
        for (_, held) in rest {
            self.link.say(&held.reply, &Word::Nak { pause: GIVE_BACK });
        }
        Ok(())
    }

    fn key_is_set(&self) -> bool {
        self.gaps.is_some()
    }

    /// Shows what is now.
    fn share(&mut self) {
        let counts = self.pulls.counts();
        self.share.set(Now {
            held: self.held.len() as u64,
            in_flight: 0,
            resting: self.lanes.resting() as u64,
            requests: counts.requests,
            surplus: counts.surplus,
        });
    }

    fn driver(&self) -> &Driver {
        self.inner.connection.driver()
    }

    fn now(&self) -> u64 {
        self.driver().nanos(self.driver().now())
    }
}
