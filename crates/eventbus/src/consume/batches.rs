//! Handling messages by the batch.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::backoff::Backoff;
use super::batch::{ack, fetch};
use super::batch_error::BatchError;
use super::consumer::{Consumer, Inner};
use super::counts::{Now, Share, count};
use super::done::Done;
use super::error::{ConsumeError, ConsumeErrorKind};
use super::exceeded::{Exceeded, GivenUp};
use super::link::Link;
use super::message::Message;
use super::reasons::Failure;
use super::restore::restore;
use super::word::{GIVE_BACK, Word};
use super::work::{Verdict, Work, panic_reason};
use crate::topology::TopologyErrorKind;

/// The shortest time that is waited for a batch: with none, an empty stream would be asked all the time.
const SHORTEST: Duration = Duration::from_millis(10);

/// So many messages are looked at besides one that may have ended a process: what nats-server lets be unacked by default.
const SUSPECTS: usize = 1000;

/// The pause before a consumer that cannot be made is tried again.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);

/// A handler of batches, without its types.
type Handler = Arc<dyn Fn(Vec<Message>) -> BoxFuture<'static, Result<(), BatchError>> + Send + Sync>;

impl Consumer {
    /// Handles messages by the batch until the consumer is [drained](Self::drain): one batch after the other, of at most `max`
    /// messages that came within `max_wait`, in the order of the stream.
    ///
    /// A batch is acked when the handler has returned `Ok`. After an error all come again after a pause, but for those that the
    /// [`BatchError`] names as done or rejected. Messages that are here are told to nats-server, however long a handler takes.
    /// With [`dead_letters`](crate::ConsumerBuilder::dead_letters), a message that has failed as often as that says is handed
    /// over alone, and is put aside when that fails too: others of its batch need not suffer for it. One that was delivered
    /// twice as often, and took its process along each time, is put aside without being handled.
    ///
    /// `concurrency`, `prefetch` and `key` are not for batches. `handler_limit` is for a whole batch.
    ///
    /// # Errors
    /// [`ConsumeErrorKind`], as [`for_each`](Self::for_each).
    ///
    /// # Cancel safety
    /// Dropped early, the handler is dropped where it is, and its messages are delivered again after their ack wait.
    pub async fn for_each_batch<H, F, E>(&self, max: usize, max_wait: Duration, handler: H) -> Result<(), ConsumeError>
    where
        H: Fn(Vec<Message>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BatchError>,
    {
        let handler: Handler =
            Arc::new(move |messages| handler(messages).map(|result| result.map_err(Into::into)).boxed());
        let run: BoxFuture<'static, _> = Batches::run(self.inner.clone(), handler, max, max_wait).boxed();
        run.await
    }
}

/// One run of `for_each_batch`.
struct Batches {
    inner: Arc<Inner>,
    work: Arc<Work>,
    handler: Handler,
    backoff: Backoff,
    done: Done,
    exceeded: Option<Exceeded>,
    /// What nats-server has given up during this turn: some of it may be here, and do well.
    given_up: Vec<GivenUp>,
    /// Messages that were done in this turn.
    finished: HashSet<u64>,
    share: Share,
}

impl Batches {
    async fn open(inner: Arc<Inner>, handler: Handler) -> Self {
        let work = Arc::new(inner.work());
        let is_limited = inner.dead.as_ref().is_some_and(|dead| dead.most.is_some());
        let exceeded = if is_limited {
            let connection = inner.connection.connection().clone();
            Some(Exceeded::listen(connection, work.clone()).await)
        } else {
            None
        };
        Self {
            backoff: inner.backoff.clone(),
            done: Done::new(inner.position),
            share: Share::new(inner.counts.clone()),
            exceeded,
            given_up: Vec::new(),
            finished: HashSet::new(),
            handler,
            work,
            inner,
        }
    }

    async fn run(inner: Arc<Inner>, handler: Handler, max: usize, max_wait: Duration) -> Result<(), ConsumeError> {
        let mut batches = Self::open(inner, handler).await;
        while !batches.inner.is_drained() {
            batches.turn(max.max(1), max_wait.max(SHORTEST)).await?;
        }
        batches.close().await;
        Ok(())
    }

    /// Fetches and handles one batch.
    async fn turn(&mut self, max: usize, max_wait: Duration) -> Result<(), ConsumeError> {
        let inner = self.inner.clone();
        let fetched = beside(
            &mut self.exceeded,
            &mut self.given_up,
            fetch(&inner, max, max_wait).boxed(),
        )
        .await;
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) if error.kind() == ConsumeErrorKind::NotFound && inner.settings.creates => {
                return self.repair().await;
            }
            Err(error) => return Err(error),
        };
        if fetched.was_unheard && fetched.batch.messages().is_empty() {
            self.repair().await?;
        }
        let (link, mut messages) = fetched.batch.into_parts();
        if messages.iter().any(|message| self.work.is_suspect(message)) {
            messages = self.with_others(&link, messages).await;
        }
        // What comes again comes in any order, and `done_through` means that of the stream.
        messages.sort_by_key(Message::sequence);
        messages.dedup_by_key(|message| message.sequence());
        let counts = &inner.counts;
        counts.received.fetch_add(messages.len() as u64, Ordering::Relaxed);
        for message in &messages {
            self.done.begin(message.consumer_sequence(), message.sequence());
            counts.lag.store(message.pending(), Ordering::Relaxed);
            if message.delivered() > 1 {
                count(&counts.redelivered);
            }
        }
        self.handle_all(&link, messages, max).await;
        let finished = std::mem::take(&mut self.finished);
        for given_up in self.given_up.drain(..) {
            if let Some(exceeded) = self
                .exceeded
                .as_mut()
                .filter(|_| !finished.contains(&given_up.sequence))
            {
                exceeded.add(given_up);
            }
        }
        if self.done.is_doubtful() {
            self.look().await;
        }
        Ok(())
    }

    /// With those that come again after it, one of these may show that it has not ended the last process: see
    /// [`suspects`](super::suspects). None, and all are given back, when it is drained.
    async fn with_others(&mut self, link: &Arc<Link>, messages: Vec<Message>) -> Vec<Message> {
        let (wait, mut drains) = (self.inner.redelivery_wait(), self.inner.drains.subscribe());
        // Whoever drains does not wait for that.
        let wait = async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = drains.wait_for(|drains| *drains) => {}
            }
        }
        .boxed();
        let here = signalling(link.clone(), messages.clone(), self.inner.ack_wait, wait);
        beside(&mut self.exceeded, &mut self.given_up, here).await;
        if self.inner.is_drained() {
            for message in &messages {
                link.say(message.reply(), &Word::Nak { pause: GIVE_BACK });
            }
            return Vec::new();
        }
        let others = fetch(&self.inner, SUSPECTS, SHORTEST).boxed();
        match beside(&mut self.exceeded, &mut self.given_up, others).await {
            Ok(others) => messages.into_iter().chain(others.batch.into_parts().1).collect(),
            Err(error) => {
                tracing::debug!(%error, "what came again with a suspect was not fetched");
                messages
            }
        }
    }

    /// Handles what came: together, but for those that may have made others fail.
    async fn handle_all(&mut self, link: &Arc<Link>, mut rest: Vec<Message>, max: usize) {
        let limit = self.inner.dead.as_ref().map_or(u64::MAX, |dead| dead.attempts);
        while let Some(first) = rest.first() {
            let is_suspect = |message: &Message| message.attempt() >= limit;
            let count = if is_suspect(first) {
                1
            } else {
                let together = rest.iter().take(max);
                together.take_while(|message| !is_suspect(message)).count()
            };
            let behind = rest.split_off(count);
            self.share.set(Now {
                held: (rest.len() + behind.len()) as u64,
                in_flight: rest.len() as u64,
                ..Now::default()
            });
            self.handle(link, rest, &behind).await;
            rest = behind;
        }
        self.share.set(Now::default());
    }

    /// Handles these, and tells nats-server of those that wait too.
    async fn handle(&mut self, link: &Arc<Link>, messages: Vec<Message>, behind: &[Message]) {
        let work = self.work.clone();
        if let [message] = &messages[..]
            && let Some(failure) = work.last_failure(message)
        {
            let verdict = work.settle(message, &failure, true).await;
            return self.conclude(link, message, verdict);
        }
        let (handler, own) = (self.handler.clone(), messages.clone());
        // The call may panic as well as the future.
        let handled = AssertUnwindSafe(async move { handler(own).await })
            .catch_unwind()
            .boxed();
        let here = messages.iter().chain(behind).cloned().collect();
        let handled = signalling(link.clone(), here, self.inner.ack_wait, handled);
        let limit = self.inner.settings.handler_limit.unwrap_or(Duration::MAX);
        let result = match beside(
            &mut self.exceeded,
            &mut self.given_up,
            tokio::time::timeout(limit, handled),
        )
        .await
        {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(BatchError::retry(panic_reason(&*panic))),
            Err(_) => Err(BatchError::retry("the handler took too long")),
        };
        let failed = |message: &Message| result.as_ref().err().and_then(|error| error.of(message.sequence()));
        let (bad, good): (Vec<Message>, Vec<Message>) =
            messages.into_iter().partition(|message| failed(message).is_some());
        self.inner
            .counts
            .handled
            .fetch_add(good.len() as u64, Ordering::Relaxed);
        if !good.is_empty() && ack(&self.inner, &good).await.is_err() {
            tracing::debug!("acks of a batch were not confirmed");
        }
        for message in &good {
            self.finish(message);
            work.forget(message);
        }
        let is_alone = bad.len() == 1 && good.is_empty();
        for message in &bad {
            count(&self.inner.counts.failed);
            let Some(error) = failed(message) else { continue };
            let failure = Failure {
                reason: error.reason().to_owned(),
                attempts: message.attempt(),
            };
            let is_spent = self
                .inner
                .dead
                .as_ref()
                .is_some_and(|dead| message.attempt() >= dead.attempts);
            let verdict = work
                .settle(message, &failure, error.is_final() || (is_alone && is_spent))
                .await;
            self.conclude(link, message, verdict);
        }
    }

    fn conclude(&mut self, link: &Arc<Link>, message: &Message, verdict: Verdict) {
        match verdict {
            Verdict::Done => self.finish(message),
            Verdict::Again => {
                let pause = self.backoff.pause(message.attempt());
                link.say(message.reply(), &Word::Nak { pause });
            }
        }
    }

    fn finish(&mut self, message: &Message) {
        self.done.finish(message.sequence());
        self.finished.insert(message.sequence());
    }

    /// Asks how far nats-server has got acks.
    async fn look(&mut self) {
        let gaps = self.done.gaps();
        match restore(&self.inner, self.done.get()).await {
            Ok(restored) if !restored.was_made => self.done.handle_position(restored.position, gaps),
            Ok(_) => self.done.handle_restored(),
            Err(error) => tracing::debug!(%error, "a consumer was not looked at"),
        }
    }

    /// Looks whether the consumer is there, and makes it if it is to be.
    async fn repair(&mut self) -> Result<(), ConsumeError> {
        match restore(&self.inner, self.done.get()).await {
            Ok(restored) => {
                if restored.stream_is_new {
                    self.done = Done::new(restored.position);
                } else if restored.was_made {
                    self.done.handle_restored();
                }
                Ok(())
            }
            Err(error) if error.kind() == TopologyErrorKind::NotFound && !self.inner.settings.creates => {
                Err(error.into())
            }
            Err(error) => {
                tracing::debug!(%error, "a consumer is looked for");
                tokio::time::sleep(REPAIR_PAUSE).await;
                Ok(())
            }
        }
    }

    /// Finishes what is to be put aside.
    async fn close(mut self) {
        let Some(mut exceeded) = self.exceeded.take() else {
            return;
        };
        let buried = async {
            while !exceeded.is_empty() {
                if let Some(given_up) = exceeded.next().await {
                    exceeded.add(given_up);
                }
            }
        };
        if tokio::time::timeout(self.inner.settings.drain_limit, buried)
            .await
            .is_err()
        {
            tracing::error!("messages that nats-server has given up were not put aside");
        }
    }
}

/// Does this, and listens meanwhile to what nats-server gives up.
async fn beside<T>(exceeded: &mut Option<Exceeded>, given_up: &mut Vec<GivenUp>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        let next = async {
            match exceeded.as_mut() {
                Some(exceeded) => exceeded.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = &mut work => return done,
            next = next => given_up.extend(next),
        }
    }
}

/// Does this, and tells nats-server three times in an ack wait that these messages are being handled.
async fn signalling<T>(
    link: Arc<Link>,
    messages: Vec<Message>,
    ack_wait: Duration,
    mut work: BoxFuture<'static, T>,
) -> T {
    loop {
        let pause = tokio::time::sleep((ack_wait / 3).max(Duration::from_millis(1)));
        tokio::select! {
            done = &mut work => return done,
            () = pause => {
                for message in &messages {
                    link.say(message.reply(), &Word::InProgress);
                }
            }
        }
    }
}
