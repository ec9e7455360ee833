//! A subscription that is recorded.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Message;
use natstream_connect::{Connection, Losses, ServerErrorEvent, Subscriber};
use stream_sinks::{Receipt, RecordSink, SinkError, SinkErrorKind};
use tokio::sync::watch;
use tokio::task::coop;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::buffer::{Buffer, Fate, Taken};
use crate::clock::{now, wall};
use crate::entry::Entry;
use crate::pump::Pump;
use crate::stats::RecordingStats;

/// How many records are taken from the buffer at a time.
const BATCH: usize = 256;

/// What is dropped is told no more often.
const TELL: Duration = Duration::from_secs(1);

/// The messages on a subject on their way into a sink, in a task of its own. Made by
/// [`Recorder::subscribe`](crate::Recorder::subscribe).
///
/// # Drop
/// Ends the recording: what has arrived is put into the sink, which is closed then, as long as the process and the runtime
/// live, and however long the sink takes. [`stop`](Self::stop) it to know, and to bound that.
#[must_use = "dropping it ends the recording"]
pub struct Recording {
    shared: Arc<Shared>,
}

/// How a recording ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordingEnd {
    /// All that became of the messages.
    pub stats: RecordingStats,
    /// What the sink said when it was closed.
    pub receipt: Receipt,
    /// Why nats-server took the subscription back, if that was the reason.
    pub refusal: Option<ServerErrorEvent>,
}

/// Why a recording could not be ended as it should.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RecordingError {
    /// The sink was closed by somebody else, or could not be closed: some of what it had accepted may be lost.
    #[non_exhaustive]
    Sink {
        /// What it said.
        error: SinkError,
        /// All that became of the messages.
        stats: RecordingStats,
    },
    /// The runtime has ended, or the sink panicked.
    #[non_exhaustive]
    TaskEnded {
        /// All that became of the messages.
        stats: RecordingStats,
    },
}

struct Shared {
    connection: Connection,
    buffer: Buffer,
    failures: Arc<AtomicU64>,
    losses: Losses,
    /// At the beginning.
    epoch: u64,
    /// Take no more messages.
    stop: CancellationToken,
    /// Do not wait for the sink any longer.
    give_up: CancellationToken,
    end: watch::Sender<Option<Result<RecordingEnd, RecordingError>>>,
}

impl Recording {
    pub(crate) fn begin<S: RecordSink>(
        pump: Pump<S>,
        connection: &Connection,
        subscriber: Subscriber,
        max_buffered: usize,
    ) -> Self {
        let shared = Arc::new(Shared {
            epoch: connection.state().borrow().epoch,
            connection: connection.clone(),
            buffer: Buffer::new(max_buffered),
            failures: pump.failures.clone(),
            losses: subscriber.losses(),
            stop: CancellationToken::new(),
            give_up: CancellationToken::new(),
            end: watch::Sender::new(None),
        });
        #[expect(clippy::disallowed_methods, reason = "one task for each recording")]
        tokio::spawn(run(Running(shared.clone()), subscriber, pump));
        Self { shared }
    }

    /// Figures of this moment.
    #[must_use]
    pub fn stats(&self) -> RecordingStats {
        self.shared.stats()
    }

    /// Takes no more messages, puts what has arrived into the sink, and closes it. Messages that do not fit into the sink
    /// within `limit` are dropped and counted. Closing takes as long as the sink's own limit says.
    ///
    /// # Errors
    /// As [`ended`](Self::ended).
    ///
    /// # Cancel safety
    /// It goes on by itself, without the limit.
    pub async fn stop(&self, limit: Duration) -> Result<RecordingEnd, RecordingError> {
        self.shared.stop.cancel();
        tokio::select! {
            end = self.ended() => return end,
            () = sleep(limit) => self.shared.give_up.cancel(),
        }
        self.ended().await
    }

    /// Completes when the recording has ended: it was [stopped](Self::stop), there were
    /// [enough](crate::Recorder::max_records) messages, the connection was closed, nats-server took the subscription back, or
    /// somebody closed the sink. What had arrived is in the sink then, however long that took.
    ///
    /// # Errors
    /// [`RecordingError::Sink`], [`RecordingError::TaskEnded`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ended(&self) -> Result<RecordingEnd, RecordingError> {
        let mut end = self.shared.end.subscribe();
        loop {
            if let Some(end) = &*end.borrow_and_update() {
                return end.clone();
            }
            if end.changed().await.is_err() {
                // Not while this handle has the sender.
                return Err(RecordingError::TaskEnded { stats: self.stats() });
            }
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("stats", &self.stats()).finish()
    }
}

impl RecordingError {
    /// All that became of the messages.
    #[must_use]
    pub fn stats(&self) -> RecordingStats {
        match self {
            Self::Sink { stats, .. } | Self::TaskEnded { stats } => *stats,
        }
    }
}

impl fmt::Display for RecordingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sink { .. } => f.write_str("the recording ended with a failure of its sink"),
            Self::TaskEnded { .. } => {
                f.write_str("the recording's task ended: its runtime was shut down, or the sink panicked")
            }
        }
    }
}

impl Error for RecordingError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Sink { error, .. } => Some(error),
            Self::TaskEnded { .. } => None,
        }
    }
}

impl Shared {
    fn stats(&self) -> RecordingStats {
        let epoch = self.connection.state().borrow().epoch;
        RecordingStats {
            missed: self.losses.count(),
            reconnects: epoch.saturating_sub(self.epoch),
            storage_failures: self.failures.load(Ordering::Relaxed),
            ..self.buffer.stats(wall())
        }
    }
}

/// However the task ends, with its runtime or with a panic too, somebody who waits is told.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        let Self(shared) = self;
        if shared.end.borrow().is_none() {
            shared.buffer.abandon();
            let stats = shared.stats();
            shared.end.send_replace(Some(Err(RecordingError::TaskEnded { stats })));
        }
    }
}

/// Ends with both halves.
async fn run<S: RecordSink>(running: Running, subscriber: Subscriber, mut pump: Pump<S>) {
    let shared = &running.0;
    let (refusal, written) = tokio::join!(read(shared, subscriber), write(shared, &mut pump));
    let closed = match written {
        Ok(()) => pump.close().await,
        Err(error) => Err(error),
    };
    let stats = shared.stats();
    let end = match closed {
        Ok(receipt) => Ok(RecordingEnd {
            stats,
            receipt,
            refusal,
        }),
        Err(error) => Err(RecordingError::Sink { error, stats }),
    };
    shared.end.send_replace(Some(end));
}

/// From the subscription to the buffer: it waits for nobody.
async fn read(shared: &Shared, mut subscriber: Subscriber) -> Option<ServerErrorEvent> {
    let mut drops = Tell::new("messages were dropped: there was no room for them");
    let mut take = |message: Message| {
        let entry = Entry::from(message).detached().time(wall());
        drops.note(!shared.buffer.push(entry));
    };
    loop {
        let message = tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            message = subscriber.next() => message,
        };
        let Some(message) = message else { break };
        take(message);
        coop::consume_budget().await;
    }
    let refusal = subscriber.refusal().cloned();
    if let Err(error) = subscriber.leave(&mut take).await {
        tracing::debug!(%error, "the recorded subscription ended without a confirmation");
    }
    drops.tell();
    shared.buffer.close();
    refusal
}

/// Says how often something happened, now and then.
struct Tell {
    what: &'static str,
    count: u64,
    last: Option<Instant>,
}

impl Tell {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            count: 0,
            last: None,
        }
    }

    fn note(&mut self, has_happened: bool) {
        self.count += u64::from(has_happened);
        if self.count > 0 && self.last.is_none_or(|last| last.elapsed() >= TELL) {
            self.tell();
        }
    }

    fn tell(&mut self) {
        if self.count > 0 {
            tracing::error!(messages = self.count, "{}", self.what);
            self.count = 0;
            self.last = Some(now());
        }
    }
}

/// From the buffer into the sink; returns when both are done, or an error of the sink that is for good.
async fn write<S: RecordSink>(shared: &Shared, pump: &mut Pump<S>) -> Result<(), SinkError> {
    let written = tokio::select! {
        biased;
        written = put_all(shared, pump) => written,
        () = shared.give_up.cancelled() => Ok(()),
    };
    // What is left will not be put in.
    shared.stop.cancel();
    shared.buffer.abandon();
    written
}

async fn put_all<S: RecordSink>(shared: &Shared, pump: &mut Pump<S>) -> Result<(), SinkError> {
    let mut batch = VecDeque::with_capacity(BATCH);
    let mut refusals = Tell::new("messages are too large for the sink, and cannot be recorded");
    loop {
        match shared.buffer.take(&mut batch, BATCH) {
            Taken::Some => {}
            Taken::End => {
                refusals.tell();
                return Ok(());
            }
            Taken::Empty => {
                tokio::select! {
                    () = shared.buffer.filled() => {}
                    () = pump.flush_due() => pump.try_flush().await?,
                }
                continue;
            }
        }
        while let Some(entry) = batch.pop_front() {
            let fate = match pump.put(&entry).await {
                Ok(()) => Fate::Recorded,
                Err(error) if error.kind() == SinkErrorKind::TooLarge => Fate::Refused,
                Err(error) => return Err(error),
            };
            refusals.note(fate == Fate::Refused);
            shared.buffer.done(&entry, fate, batch.front());
            pump.flush_if_due().await?;
            coop::consume_budget().await;
        }
    }
}
