//! Acks and terminations: said at once, and said again until nats-server has confirmed them.

mod machine;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::client::Statistics;
use async_nats::message::OutboundMessage;
use async_nats::subject::Subject;
use bytes::Bytes;
use natstream_connect::{Arrival, DeadlineSlot, Denials, Driven, Driver, Lease, Route, RouteGuard};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::machine::{AckConfig, Acks};
use super::counts::Counts;
use super::error::{ConsumeError, ConsumeErrorKind};
use super::word::Word;
use crate::nanos;
use crate::shared::Strays;

/// An answer is asked for with each so many words: it costs nats-server as much as the word.
const GROUP: u64 = 64;

/// Or so long after the last one. Messages that were lost with a server come again for so much longer.
const LINGER: Duration = Duration::from_millis(5);

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Words that wait for an answer at most; a consumer has fewer messages under way.
const MOST: usize = 1 << 20;

/// Says words for the messages of a consumer. Clones share everything; when the last one is gone, what was said is still
/// confirmed or given up.
#[derive(Clone)]
pub(super) struct AckSender {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    /// It is held as long as words are said.
    _connection: Lease,
    driver: Driver,
    statistics: Arc<Statistics>,
    counts: Arc<Counts>,
    state: Mutex<State>,
}

struct State {
    acks: Acks<Subject>,
    /// To be said when it is kicked.
    kept: Vec<(Subject, Bytes)>,
    /// What answers come to, the last dot included.
    answers: String,
    waits: bool,
    deadline: DeadlineSlot,
    flushes: Vec<Flush>,
    route: Option<RouteGuard>,
    /// Nobody says anything any more.
    is_closed: bool,
}

impl State {
    fn say_kept(&mut self, now: u64) {
        for (reply, body) in self.kept.drain(..) {
            self.acks.say(now, reply, body);
        }
    }
}

/// Somebody who waits until all words before this number are settled.
struct Flush {
    before: u64,
    done: oneshot::Sender<()>,
}

impl AckSender {
    /// `ack_wait`: what is not confirmed by then is delivered again, and given up here.
    pub(super) async fn open(
        connection: &Lease,
        ack_wait: Duration,
        counts: Arc<Counts>,
    ) -> Result<Self, ConsumeError> {
        let router = connection.router(Arc::new(Strays)).await;
        let router = router.map_err(|error| ConsumeError::because(ConsumeErrorKind::Closed, error))?;
        let config = AckConfig {
            group: GROUP,
            linger: nanos(LINGER),
            timeout: nanos(TIMEOUT),
            deadline: nanos(ack_wait.clamp(Duration::from_secs(1), Duration::from_secs(30))),
            most: MOST,
        };
        let shared = Arc::new(Shared {
            driver: connection.driver().clone(),
            statistics: connection.nats().statistics(),
            _connection: connection.clone(),
            counts,
            state: Mutex::new(State {
                acks: Acks::new(config),
                kept: Vec::new(),
                answers: String::new(),
                waits: false,
                deadline: DeadlineSlot::default(),
                flushes: Vec::new(),
                route: None,
                is_closed: false,
            }),
        });
        let route = router.add(shared.clone());
        {
            let mut state = shared.state.lock();
            state.answers = format!("{}.", route.subject());
            state.route = Some(route);
        }
        Ok(Self {
            handle: Arc::new(Handle { shared }),
        })
    }

    /// Says a word of a message.
    pub(super) fn say(&self, reply: &Subject, word: &Word) {
        debug_assert!(word.is_confirmed(), "others are not said again");
        self.handle.shared.step(|state, now| {
            state.acks.say(now, reply.clone(), word.body());
        });
    }

    /// Says a word of a message when it is [kicked](Self::kick): handing over many at once costs little more than one.
    pub(super) fn say_later(&self, reply: &Subject, word: &Word) {
        debug_assert!(word.is_confirmed(), "others are not said again");
        let mut state = self.handle.shared.state.lock();
        state.kept.push((reply.clone(), word.body()));
    }

    /// Says what was to be said later.
    pub(super) fn kick(&self) {
        let shared = &self.handle.shared;
        let mut state = shared.state.lock();
        if !state.kept.is_empty() {
            let now = shared.now();
            state.say_kept(now);
            let done = shared.finish(&mut state, now);
            drop(state);
            done.tell();
        }
    }

    /// Says a word of several messages, and waits until nats-server has confirmed it.
    ///
    /// # Errors
    /// [`Unconfirmed`](ConsumeErrorKind::Unconfirmed): some messages may come again.
    pub(super) async fn confirm(
        &self,
        replies: impl Iterator<Item = Subject>,
        word: &Word,
    ) -> Result<(), ConsumeError> {
        let mut from = 0;
        self.handle.shared.step(|state, now| {
            from = state.acks.next();
            for reply in replies {
                state.acks.say(now, reply, word.body());
            }
            state.acks.ask(now);
        });
        self.settled().await;
        if self.handle.shared.state.lock().acks.has_given_up(from) {
            return Err(ConsumeError::new(ConsumeErrorKind::Unconfirmed));
        }
        Ok(())
    }

    /// Waits until everything that was said so far is confirmed, at most this long.
    ///
    /// # Errors
    /// [`Unconfirmed`](ConsumeErrorKind::Unconfirmed): some messages may come again.
    pub(super) async fn flush(&self, limit: Duration) -> Result<(), ConsumeError> {
        let from = self.handle.shared.state.lock().acks.settled();
        self.handle.shared.step(|state, now| state.acks.ask(now));
        let in_time = tokio::time::timeout(limit, self.settled()).await.is_ok();
        if !in_time || self.handle.shared.state.lock().acks.has_given_up(from) {
            return Err(ConsumeError::new(ConsumeErrorKind::Unconfirmed));
        }
        Ok(())
    }

    /// Another server leads the consumer, and may not know what was said.
    pub(super) fn say_again(&self) {
        self.handle.shared.step(|state, _| state.acks.say_again());
    }

    /// Says nothing any more: what is not confirmed is given up.
    pub(super) fn close(&self) {
        self.handle.shared.step(|state, _| {
            state.is_closed = true;
            state.acks.give_up_all();
        });
    }

    /// Waits until everything that was said so far is confirmed or given up.
    async fn settled(&self) {
        let waiting = {
            let mut state = self.handle.shared.state.lock();
            let before = state.acks.next();
            if state.acks.settled() >= before {
                return;
            }
            let (done, waiting) = oneshot::channel();
            state.flushes.retain(|flush| !flush.done.is_closed());
            state.flushes.push(Flush { before, done });
            waiting
        };
        // An error: nobody settles anything any more.
        let _ = waiting.await;
    }
}

impl Shared {
    fn now(&self) -> u64 {
        self.driver.nanos(self.driver.now())
    }

    fn step(self: &Arc<Self>, change: impl FnOnce(&mut State, u64)) {
        let now = self.now();
        let mut state = self.state.lock();
        state.say_kept(now);
        change(&mut state, now);
        let done = self.finish(&mut state, now);
        drop(state);
        done.tell();
    }

    /// Hands over what is unsent, sets the deadline, and gathers what is to be done without the lock.
    fn finish(self: &Arc<Self>, state: &mut State, now: u64) -> Finished {
        self.transmit(state, now);
        let unconfirmed = state.acks.take_unconfirmed();
        if unconfirmed > 0 {
            self.counts.unconfirmed.fetch_add(unconfirmed, Ordering::Relaxed);
            tracing::debug!(unconfirmed, "acks were not confirmed");
        }
        match state.acks.poll_timeout() {
            // One that is armed does no harm, and arming it again for each word would.
            None if !state.is_closed => {}
            at => state.deadline.set(&self.driver, at, self),
        }
        let settled = state.acks.settled();
        let is_over = state.is_closed && settled == state.acks.next();
        Finished {
            flushes: state.flushes.extract_if(.., |flush| flush.before <= settled).collect(),
            route: is_over.then(|| state.route.take()).flatten(),
        }
    }

    fn transmit(self: &Arc<Self>, state: &mut State, now: u64) {
        let State {
            acks, answers, waits, ..
        } = state;
        while !*waits {
            // Read before anything is handed over: see the machine.
            let epoch = self.statistics.connects.load(Ordering::Acquire);
            let handed = self.driver.hand_over(self, waits, || {
                let word = acks.poll_transmit(now, epoch)?;
                Some(OutboundMessage {
                    subject: word.reply.clone(),
                    reply: word.ask.map(|token| format!("{answers}{token}").into()),
                    payload: word.body.clone(),
                    headers: None,
                })
            });
            match handed {
                Ok(()) => return,
                // It is said again, unless the connection is closed: then its end is told too.
                Err(error) => tracing::debug!(%error, "an ack was not sent"),
            }
        }
    }
}

/// What is done when the lock is released.
struct Finished {
    flushes: Vec<Flush>,
    route: Option<RouteGuard>,
}

impl Finished {
    fn tell(self) {
        for flush in self.flushes {
            // Whoever waited may have gone.
            let _ = flush.done.send(());
        }
        drop(self.route);
    }
}

impl Route for Shared {
    fn deliver(self: Arc<Self>, arrival: Arrival<'_>) {
        let Ok(token) = arrival.rest.parse() else { return };
        let epoch = self.statistics.connects.load(Ordering::Acquire);
        self.step(|state, now| match arrival.message.status {
            Some(async_nats::StatusCode::NO_RESPONDERS) => state.acks.handle_refusal(now),
            // Another status says nothing of the word; an answer is empty.
            Some(_) => {}
            None if arrival.message.payload.is_empty() => state.acks.handle_answer(token, epoch),
            None => tracing::debug!("an answer to an ack is not a consumer's"),
        });
    }

    fn connection_changed(self: Arc<Self>, is_up: bool) {
        self.step(|state, _| {
            if is_up {
                state.acks.handle_connect();
            } else {
                state.acks.handle_disconnect();
            }
        });
    }

    fn denied(self: Arc<Self>, denied: &Denials) {
        self.step(|state, _| state.acks.handle_denied(|subject| denied.publish(subject)));
    }

    fn ended(self: Arc<Self>) {
        self.step(|state, _| {
            state.is_closed = true;
            state.acks.give_up_all();
        });
    }
}

impl Driven for Shared {
    fn drive(self: Arc<Self>, _now: u64) {
        self.step(|state, now| {
            state.waits = false;
            state.deadline.fired(now);
            state.acks.handle_timeout(now);
        });
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.step(|state, _| state.is_closed = true);
    }
}
