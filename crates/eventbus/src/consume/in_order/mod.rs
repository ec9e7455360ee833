//! Messages strictly in order, for whoever keeps a position of their own.
//!
//! `order` knows what is missing, what came before and what was acked; `round` resets the consumer and asks.

mod order;
mod round;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::subject::Subject;
use natstream_connect::{ConnectionState, Driver};
use tokio::sync::watch;
use tokio::task::coop;
use tokio::time::timeout;

use self::order::{Arrival, Order};
use self::round::{Position, Round};
use super::consumer::Inner;
use super::counts::count;
use super::engine::{Admission, End, PullEvent};
use super::error::{ConsumeError, ConsumeErrorKind};
use super::message::Message;
use super::status::Status;
use crate::nanos;

/// Nothing is asked for while so many bytes wait to be given.
const QUEUED_BYTES: usize = 64 << 20;

/// Messages that are taken before anything else is looked at.
const MESSAGES_PER_TURN: usize = 256;

/// So many rounds that end without a cause on this side, in this time, come from somebody else who asks the same consumer.
const HOLES: u32 = 8;
const HOLES_WITHIN: Duration = Duration::from_secs(10);

/// Messages of a consumer strictly in the order of the stream, each once. Made by [`Consumer::in_order`](super::Consumer::in_order).
///
/// Whoever gets them keeps them, with their [sequence](Message::sequence) as a position, and acks them when they are safe:
/// [`ack_through`](Self::ack_through). What is lost on the way comes again, before anything behind it. What is delivered again
/// is not given again. A message that was given and never acked is given again only to the next `in_order`.
///
/// Memory: [`limit`](Self::limit) subjects of acks, of about 100 bytes; messages that were not taken yet, about 64 MiB, and as
/// much as two requests bring besides.
///
/// # Examples
///
/// ```no_run
/// # async fn example(consumer: eventbus::Consumer, mut file: impl std::io::Write) -> Result<(), Box<dyn std::error::Error>> {
/// # let position = None;
/// let mut messages = consumer.in_order(position).await?;
/// while let Some(message) = messages.next().await? {
///     file.write_all(message.payload())?;
///     if messages.unacked() >= messages.limit() / 2 {
///         file.flush()?; // and keep the position with it
///         messages.ack_through(message.sequence()).await?;
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct InOrder {
    inner: Arc<Inner>,
    order: Order<Message, Subject>,
    position: Position,
    /// `None` before the first.
    round: Option<Round>,
    /// The round has ended.
    is_over: bool,
    /// Something was acked after that.
    owes: bool,
    queued_bytes: usize,
    state: watch::Receiver<ConnectionState>,
    drains: watch::Receiver<bool>,
    holes: Holes,
    is_in_use: bool,
}

/// Rounds that have ended without a cause on this side.
#[derive(Debug, Default)]
struct Holes {
    count: u32,
    /// When the first of them was.
    since: u64,
}

impl Holes {
    /// Another one. Are these too many?
    fn add(&mut self, now: u64) -> bool {
        if self.count == 0 || now.saturating_sub(self.since) > nanos(HOLES_WITHIN) {
            *self = Self { count: 0, since: now };
        }
        self.count += 1;
        self.count >= HOLES
    }
}

impl InOrder {
    pub(super) async fn open(inner: Arc<Inner>, after: Option<u64>) -> Result<Self, ConsumeError> {
        let mut in_order = Self {
            order: Order::new(after.unwrap_or_default()),
            position: Position {
                done: after,
                created: None,
                missing_since: None,
            },
            round: None,
            is_over: true,
            owes: false,
            queued_bytes: 0,
            state: inner.connection.connection().state(),
            drains: inner.drains.subscribe(),
            holes: Holes::default(),
            is_in_use: false,
            inner,
        };
        in_order.begin_round().await?;
        Ok(in_order)
    }

    /// The next message; `None` when the consumer is drained and those that were here are given.
    ///
    /// Whatever heals by itself is waited for: a lost connection, an election, a consumer that was deleted and can be made
    /// again.
    ///
    /// # Errors
    /// [`InUse`](ConsumeErrorKind::InUse), [`StreamReplaced`](ConsumeErrorKind::StreamReplaced),
    /// [`NotFound`](ConsumeErrorKind::NotFound) when the stream was deleted, and what else is said of
    /// [`in_order`](super::Consumer::in_order).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Message>, ConsumeError> {
        // Whoever always finds one lets others run all the same.
        coop::consume_budget().await;
        loop {
            if let Some(message) = self.give() {
                return Ok(Some(message));
            }
            if *self.drains.borrow() {
                return Ok(None);
            }
            if self.is_in_use {
                return Err(ConsumeError::new(ConsumeErrorKind::InUse));
            }
            self.go_on().await?;
        }
    }

    /// Waits until something has come or ended.
    async fn go_on(&mut self) -> Result<(), ConsumeError> {
        if self.is_over {
            return self.begin_round().await;
        }
        if let Some(round) = &mut self.round {
            round.ack_again();
        }
        self.ask()?;
        if self.is_over { Ok(()) } else { self.wait().await }
    }

    /// A message that is here already.
    pub fn try_next(&mut self) -> Option<Message> {
        if self.order.queued() == 0 {
            self.take_more();
        }
        self.give()
    }

    /// Acks all that were given up to this sequence; it waits for room among the acks, not for their confirmation.
    ///
    /// # Errors
    /// None at the moment: an ack that cannot be sent is sent when its message is delivered again.
    ///
    /// # Cancel safety
    /// Dropped early, some are acked when they are delivered again.
    pub async fn ack_through(&mut self, sequence: u64) -> Result<(), ConsumeError> {
        let before = self.order.acked();
        let acks: Vec<Subject> = self.order.ack_through(sequence).collect();
        self.keep_position();
        self.inner
            .counts
            .handled
            .fetch_add(acks.len() as u64, Ordering::Relaxed);
        let Some(round) = self.round.as_mut().filter(|_| !self.is_over) else {
            // The next round brings them again, and has them acked.
            self.owes |= self.order.acked() > before;
            return Ok(());
        };
        acks.iter().for_each(|_| round.pulls.release());
        // Of some, the last one is good for all.
        let skipped = if round.acks_all {
            acks.len().saturating_sub(1)
        } else {
            0
        };
        for reply in acks.into_iter().skip(skipped) {
            round.ack(&reply);
        }
        round.ack_again();
        self.ask()
    }

    /// Waits until acks are confirmed, at most this long. Messages that were acked while their deliveries were not known,
    /// as when the connection was lost, must come again before: it waits for these too.
    ///
    /// # Errors
    /// [`Unconfirmed`](ConsumeErrorKind::Unconfirmed): some messages will be delivered, and acked, again. And what
    /// [`next`](Self::next) says.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn flush(&mut self, within: Duration) -> Result<(), ConsumeError> {
        let begun = Driver::clock();
        if let Ok(paid) = timeout(within, self.pay()).await {
            paid?;
        }
        if let Some(round) = &mut self.round {
            round.flush(within.saturating_sub(begun.elapsed())).await?;
        }
        if self.owes() {
            return Err(ConsumeError::new(ConsumeErrorKind::Unconfirmed));
        }
        Ok(())
    }

    /// Takes deliveries until none is owed an ack.
    async fn pay(&mut self) -> Result<(), ConsumeError> {
        // Whoever drains asks for nothing more.
        while self.owes() && !self.is_in_use && !*self.drains.borrow() {
            self.go_on().await?;
        }
        Ok(())
    }

    fn owes(&self) -> bool {
        self.owes || self.order.owes()
    }

    /// Messages that were given and are not acked.
    #[must_use]
    pub fn unacked(&self) -> usize {
        self.order.unacked()
    }

    /// How many messages may be given and not acked: no more come before some are.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.round
            .as_ref()
            .map_or(self.inner.settings.prefetch, |round| round.slots)
    }

    /// When the stream was made that sequences belong to: a stream that was deleted and made again counts from 1.
    #[must_use]
    pub fn stream_created(&self) -> jiff::Timestamp {
        self.position.created.unwrap_or_default()
    }

    fn keep_position(&mut self) {
        let acked = self.order.acked();
        // 0 when nothing was acked, by somebody who began wherever the consumer's acks stood.
        if acked > 0 {
            self.position.done = Some(acked);
        }
    }

    fn give(&mut self) -> Option<Message> {
        let message = self.order.give()?;
        self.queued_bytes -= message.payload().len();
        Some(message)
    }

    async fn begin_round(&mut self) -> Result<(), ConsumeError> {
        if let Some(round) = &self.round {
            self.owes |= !round.end().await;
        }
        self.round = None;
        let mut drains = self.drains.clone();
        let round = tokio::select! {
            biased;
            // The sender lives as long as the consumer.
            _ = drains.wait_for(|drains| *drains) => return Ok(()),
            round = Round::begin(&self.inner, &mut self.position) => round?,
        };
        self.order.begin_round(round.settled);
        self.round = Some(round);
        (self.is_over, self.owes) = (false, false);
        self.ask()
    }

    /// Asks for what there is room for, and does what is due.
    fn ask(&mut self) -> Result<(), ConsumeError> {
        let now = self.now();
        let Some(round) = &mut self.round else { return Ok(()) };
        round.pulls.handle_timeout(now);
        while let Some(event) = round.pulls.poll_event() {
            match event {
                // The next round makes the consumer if it is not there.
                PullEvent::Gone | PullEvent::Look => self.is_over = true,
                PullEvent::Silent => count(&self.inner.counts.silences),
                PullEvent::Refused => {
                    tracing::debug!(subject = round.link.next(), "a request for messages was refused")
                }
            }
        }
        while self.queued_bytes < QUEUED_BYTES
            && let Some(request) = round.pulls.poll_request(now)
        {
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
    async fn wait(&mut self) -> Result<(), ConsumeError> {
        let now = self.now();
        let Some(round) = &mut self.round else { return Ok(()) };
        let due = round.pulls.poll_timeout().unwrap_or(u64::MAX).saturating_sub(now);
        let sleep = pin!(tokio::time::sleep(Duration::from_nanos(due)));
        tokio::select! {
            biased;
            // The sender lives as long as the consumer.
            _ = self.drains.changed() => {}
            changed = self.state.changed() => {
                if changed.is_err() {
                    return Err(ConsumeError::new(ConsumeErrorKind::Closed));
                }
                let state = *self.state.borrow_and_update();
                self.is_over |= !state.is_connected() || state.epoch != round.seen.epoch;
            }
            message = round.subscriber.next() => {
                let Some(message) = message else {
                    let kind = match round.subscriber.refusal() {
                        Some(_) => ConsumeErrorKind::NotPermitted,
                        None => ConsumeErrorKind::Closed,
                    };
                    return Err(ConsumeError::new(kind));
                };
                self.take(message);
                self.take_more();
            }
            () = sleep => {}
        }
        Ok(())
    }

    /// Takes what has come besides.
    fn take_more(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(round) = self.round.as_mut().filter(|_| !self.is_over) else {
                return;
            };
            let Some(message) = round.subscriber.try_next() else {
                return;
            };
            self.take(message);
        }
    }

    fn take(&mut self, mut message: async_nats::Message) {
        let now = self.now();
        let Some(round) = self.round.as_mut().filter(|_| !self.is_over) else {
            return;
        };
        let Some(message) = Message::take(&mut message) else {
            if let Some((number, status)) = round.link.status(&message) {
                round.pulls.handle_status(now, number, &status);
                if status == Status::Moved {
                    round.say_again();
                }
            }
            return;
        };
        let counts = &self.inner.counts;
        count(&counts.received);
        counts.lag.store(message.pending(), Ordering::Relaxed);
        let (delivery, sequence, bytes) = (message.consumer_sequence(), message.sequence(), message.payload().len());
        let (reply, queued) = (message.reply().clone(), self.order.queued());
        // Of more than there is room for, the rest comes in another round.
        let arrival = match round.pulls.handle_message(now) {
            Admission::Held => self.order.arrive(delivery, sequence, message, reply),
            Admission::Surplus => Arrival::Hole,
        };
        match arrival {
            Arrival::Held if self.order.queued() > queued => self.queued_bytes += bytes,
            Arrival::Held => {}
            Arrival::Acked(reply) => {
                round.pulls.release();
                count(&counts.repeated);
                round.again.push(reply);
            }
            Arrival::Repeated => {
                round.pulls.release();
                count(&counts.repeated);
            }
            Arrival::Hole => {
                tracing::debug!(delivery, sequence, "deliveries are missing");
                self.is_over = true;
                self.is_in_use |= self.holes.add(now);
            }
        }
    }

    fn now(&self) -> u64 {
        let driver = self.inner.connection.driver();
        driver.nanos(driver.now())
    }
}

impl fmt::Debug for InOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InOrder")
            .field("stream", &self.inner.spec.stream())
            .field("consumer", &self.inner.spec.name())
            .field("unacked", &self.unacked())
            .finish_non_exhaustive()
    }
}
