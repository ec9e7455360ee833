//! Reads what a stream has, from one end to the other.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use natstream_connect::{Connection, ConnectionState, Subscriber, random_u32, token};
use tokio::sync::watch;
use tokio::task::coop;

use super::engine::{Admission, Plan, PullConfig, PullEvent, Pulls};
use super::error::{ConsumeError, ConsumeErrorKind};
use super::link::Link;
use super::message::Message;
use super::status::Status;
use crate::nanos;
use crate::topology::{Topology, TopologyErrorKind};

/// Messages that are on their way at once: well below what a subscription holds.
const SLOTS: usize = 16_384;

/// Bytes in one request at most, unless messages may be larger than half of it.
const REQUEST_BYTES: usize = 16 << 20;

/// When nothing came for so long, the consumer is asked whether anything will.
const QUIET: Duration = Duration::from_secs(2);

/// What a stream has, in its order, each message once: to be compared with something else, or copied.
///
/// It makes a consumer for itself, which takes no acks, and which nats-server forgets half a minute after the last question.
/// Messages that are removed meanwhile may be left out, and those that come meanwhile are not read.
///
/// # Examples
///
/// ```no_run
/// # async fn example(connection: natstream_connect::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let mut scan = eventbus::Scan::new(connection, "ORDERS").without_payloads();
/// while let Some(message) = scan.next().await? {
///     println!("{}", message.sequence());
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "it reads when it is asked for the next message"]
pub struct Scan {
    connection: Connection,
    stream: String,
    filters: Vec<String>,
    has_payloads: bool,
    /// What was not given yet begins here.
    next: u64,
    /// Up to here; known after the first question.
    through: Option<u64>,
    state: watch::Receiver<ConnectionState>,
    round: Option<Round>,
}

struct Round {
    name: String,
    link: Link,
    subscriber: Subscriber,
    pulls: Pulls,
    seen: ConnectionState,
    /// The number of its next delivery: one that is missing ends it.
    delivery: u64,
}

/// What has come.
enum News {
    Message(Message),
    /// Nothing, for long.
    Quiet,
    /// Something that is dealt with.
    Other,
}

impl Scan {
    /// Reads all messages of this stream that it has at the first question.
    pub fn new(connection: Connection, stream: impl Into<String>) -> Self {
        Self {
            state: connection.state(),
            connection,
            stream: stream.into(),
            filters: Vec::new(),
            has_payloads: true,
            next: 1,
            through: None,
            round: None,
        }
    }

    /// Only those of these subjects, which may have wildcards.
    pub fn filters(mut self, subjects: impl IntoIterator<Item: Into<String>>) -> Self {
        self.filters = subjects.into_iter().map(Into::into).collect();
        self
    }

    /// Only those from this sequence on.
    pub fn from(mut self, sequence: u64) -> Self {
        self.next = sequence.max(1);
        self
    }

    /// Their payloads are not needed, and are not sent.
    pub fn without_payloads(mut self) -> Self {
        self.has_payloads = false;
        self
    }

    /// The next message; `None` after the last one.
    ///
    /// # Errors
    /// [`ConsumeErrorKind`]. A connection that is lost is waited for.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Message>, ConsumeError> {
        coop::consume_budget().await;
        loop {
            if self.through.is_some_and(|through| self.next > through) {
                self.round = None;
                return Ok(None);
            }
            if self.round.is_none() {
                self.begin().await?;
                continue;
            }
            self.ask()?;
            match self.wait().await? {
                News::Message(message) => {
                    if let Some(message) = self.admit(message) {
                        return Ok(Some(message));
                    }
                }
                News::Quiet => self.look().await?,
                News::Other => {}
            }
        }
    }

    fn admit(&mut self, message: Message) -> Option<Message> {
        let round = self.round.as_mut()?;
        round.pulls.release();
        if message.consumer_sequence() != round.delivery {
            // One was lost: the next round begins with it.
            self.round = None;
            return None;
        }
        round.delivery += 1;
        self.next = message.sequence() + 1;
        let through = self.through.unwrap_or(u64::MAX);
        if message.pending() == 0 {
            self.next = u64::MAX;
        }
        (message.sequence() <= through).then_some(message)
    }

    async fn begin(&mut self) -> Result<(), ConsumeError> {
        let seen = {
            let up = self.state.wait_for(|state| state.is_connected() || state.is_closed());
            match up.await {
                Ok(state) if state.is_connected() => *state,
                _ => return Err(ConsumeError::new(ConsumeErrorKind::Closed)),
            }
        };
        let topology = Topology::new(self.connection.clone());
        if self.through.is_none() {
            self.through = Some(topology.info(&self.stream).await?.last_sequence);
        }
        let name = token();
        let link = Link::new(&self.connection, &self.stream, &name);
        let subscriber = link.subscribe().await?;
        let made = topology.create_scanner(&self.stream, &name, &self.filters, self.next, self.has_payloads);
        if made.await?.pending == 0 {
            self.next = u64::MAX;
            return Ok(());
        }
        let config = PullConfig {
            slots: SLOTS,
            most: usize::MAX,
            bytes: Some(REQUEST_BYTES.max(self.connection.max_payload().saturating_mul(2))),
            expires: nanos(Duration::from_secs(30)),
            heartbeat: nanos(Duration::from_secs(5)),
            first_pause: 50_000_000,
            longest_pause: 2_000_000_000,
            plan: Plan::Continuous,
            seed: u64::from(random_u32()),
        };
        self.round = Some(Round {
            name,
            link,
            subscriber,
            pulls: Pulls::new(config, self.now()),
            seen,
            delivery: 1,
        });
        Ok(())
    }

    fn ask(&mut self) -> Result<(), ConsumeError> {
        let now = self.now();
        let Some(round) = &mut self.round else { return Ok(()) };
        round.pulls.handle_timeout(now);
        let mut is_over = false;
        while let Some(event) = round.pulls.poll_event() {
            is_over |= matches!(event, PullEvent::Gone | PullEvent::Look);
        }
        while let Some(request) = round.pulls.poll_request(now) {
            if !round.link.ask(&request) {
                round.pulls.handle_status(now, request.number, &Status::Refused);
            }
        }
        if round.pulls.end().is_some() {
            return Err(ConsumeError::new(ConsumeErrorKind::Rejected));
        }
        if is_over {
            self.round = None;
        }
        Ok(())
    }

    async fn wait(&mut self) -> Result<News, ConsumeError> {
        let now = self.now();
        let Some(round) = &mut self.round else {
            return Ok(News::Other);
        };
        let due = round.pulls.poll_timeout().unwrap_or(u64::MAX).saturating_sub(now);
        let due = Duration::from_nanos(due);
        let sleep = pin!(tokio::time::sleep(due.min(QUIET)));
        // Most are here already.
        let here = coop::unconstrained(round.subscriber.next()).now_or_never();
        let message = match here {
            Some(message) => message,
            None => tokio::select! {
                biased;
                changed = self.state.changed() => {
                    if changed.is_err() {
                        return Err(ConsumeError::new(ConsumeErrorKind::Closed));
                    }
                    let state = *self.state.borrow_and_update();
                    if !state.is_connected() || state.epoch != round.seen.epoch {
                        self.round = None;
                    }
                    return Ok(News::Other);
                }
                message = round.subscriber.next() => message,
                () = sleep => return Ok(if due < QUIET { News::Other } else { News::Quiet }),
            },
        };
        let Some(mut message) = message else {
            let kind = match round.subscriber.refusal() {
                Some(_) => ConsumeErrorKind::NotPermitted,
                None => ConsumeErrorKind::Closed,
            };
            return Err(ConsumeError::new(kind));
        };
        if let Some(message) = Message::take(&mut message) {
            if round.pulls.handle_message(now) == Admission::Surplus {
                self.round = None;
                return Ok(News::Other);
            }
            return Ok(News::Message(message));
        }
        if let Some((number, status)) = round.link.status(&message) {
            round.pulls.handle_status(now, number, &status);
        }
        Ok(News::Other)
    }

    /// Will anything come? What was to come may have been removed from the stream.
    async fn look(&mut self) -> Result<(), ConsumeError> {
        let Some(round) = &self.round else { return Ok(()) };
        let topology = Topology::new(self.connection.clone());
        match topology.consumer(&self.stream, &round.name).await {
            Ok(info) if info.pending == 0 && info.delivered < self.next => self.next = u64::MAX,
            Ok(_) => {}
            Err(error) if error.kind() == TopologyErrorKind::NotFound => self.round = None,
            Err(error) if error.kind() == TopologyErrorKind::Timeout => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        let driver = self.connection.driver();
        driver.nanos(driver.now())
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("stream", &self.stream)
            .field("next", &self.next)
            .field("through", &self.through)
            .finish_non_exhaustive()
    }
}
