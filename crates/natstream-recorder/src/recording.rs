//! A subscription that is recorded.

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use natstream_connect::{Connection, ServerErrorEvent, Subscriber};
use stream_sinks::{Receipt, RecordSink, SinkError, SinkErrorKind};
use tokio::sync::watch;
use tokio::task::coop;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::buffer::{Buffer, Taken};
use crate::clock::wall;
use crate::entry::Entry;
use crate::pump::Pump;
use crate::stats::{RecordingStats, Tally, add};

/// How many records are taken from the buffer at a time.
const BATCH: usize = 256;

/// The messages on a subject on their way into a sink, in a task of its own. Made by
/// [`Recorder::subscribe`](crate::Recorder::subscribe).
///
/// # Drop
/// Ends the recording: what has arrived is put into the sink, which is closed then, as long as the process and the runtime
/// live. [`stop`](Self::stop) it to know.
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

struct Shared {
    connection: Connection,
    buffer: Buffer,
    tally: Arc<Tally>,
    /// At the beginning.
    epoch: u64,
    /// Take no more messages.
    stop: CancellationToken,
    /// Do not wait for the sink any longer.
    give_up: CancellationToken,
    end: watch::Sender<Option<Result<RecordingEnd, SinkError>>>,
    max_records: Option<u64>,
}

/// When to drop, and when to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) buffered: usize,
    pub(crate) records: Option<u64>,
}

impl Recording {
    pub(crate) fn begin<S: RecordSink>(
        pump: Pump<S>,
        connection: &Connection,
        subscriber: Subscriber,
        limits: Limits,
    ) -> Self {
        let shared = Arc::new(Shared {
            epoch: connection.state().borrow().epoch,
            connection: connection.clone(),
            buffer: Buffer::new(limits.buffered),
            tally: pump.tally.clone(),
            stop: CancellationToken::new(),
            give_up: CancellationToken::new(),
            end: watch::Sender::new(None),
            max_records: limits.records,
        });
        #[expect(clippy::disallowed_methods, reason = "one task for each recording")]
        tokio::spawn(run(shared.clone(), subscriber, pump));
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
    /// Of the sink, when it was closed.
    ///
    /// # Cancel safety
    /// It goes on by itself, without the limit.
    pub async fn stop(&self, limit: Duration) -> Result<RecordingEnd, SinkError> {
        self.shared.stop.cancel();
        tokio::select! {
            end = self.ended() => return end,
            () = sleep(limit) => self.shared.give_up.cancel(),
        }
        self.ended().await
    }

    /// Completes when the recording has ended: it was [stopped](Self::stop), there were
    /// [enough](crate::Recorder::max_records) messages, the connection was closed, nats-server took the
    /// subscription back, or somebody closed the sink.
    ///
    /// # Errors
    /// Of the sink, when it was closed.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ended(&self) -> Result<RecordingEnd, SinkError> {
        let mut end = self.shared.end.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or_else(|| unreachable!("it was waited for")),
            Err(_) => std::future::pending().await,
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

impl Shared {
    fn stats(&self) -> RecordingStats {
        let epoch = self.connection.state().borrow().epoch;
        self.tally
            .snapshot(self.buffer.level(), epoch.saturating_sub(self.epoch))
    }
}

/// Ends with both halves.
async fn run<S: RecordSink>(shared: Arc<Shared>, subscriber: Subscriber, mut pump: Pump<S>) {
    let reading = pin!(read(&shared, subscriber));
    let (refusal, written) = tokio::join!(reading, write(&shared, &mut pump));
    let closed = match written {
        Ok(()) => pump.close().await,
        Err(error) => Err(error),
    };
    let end = closed.map(|receipt| RecordingEnd {
        stats: shared.stats(),
        receipt,
        refusal,
    });
    shared.end.send_replace(Some(end));
}

/// From the subscription to the buffer: it waits for nobody.
async fn read(shared: &Shared, mut subscriber: Subscriber) -> Option<ServerErrorEvent> {
    let mut intake = Intake {
        shared,
        in_a_row: 0,
        left: shared.max_records.unwrap_or(u64::MAX),
    };
    while intake.left > 0 {
        let message = tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            message = subscriber.next() => message,
        };
        let Some(message) = message else { break };
        intake.take(message);
        shared.tally.set_missed(subscriber.dropped());
        coop::consume_budget().await;
    }
    let refusal = subscriber.refusal().cloned();
    if let Err(error) = subscriber.leave(|message| intake.take(message)).await {
        tracing::debug!(%error, "the recorded subscription ended without a confirmation");
    }
    intake.tell();
    shared.buffer.close();
    refusal
}

struct Intake<'a> {
    shared: &'a Shared,
    /// Messages that were dropped one after the other.
    in_a_row: u64,
    /// How many more there may be.
    left: u64,
}

impl Intake<'_> {
    fn take(&mut self, message: Message) {
        let tally = &self.shared.tally;
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        add(&tally.received, 1);
        let entry = Entry::from(message).time(wall());
        if self.shared.buffer.push(entry) {
            self.tell();
            return;
        }
        add(&tally.dropped, 1);
        self.in_a_row += 1;
        if self.in_a_row == 1 {
            tracing::warn!("the sink is too slow, and messages are dropped");
        }
    }

    /// Says how many were dropped until now.
    fn tell(&mut self) {
        if self.in_a_row > 0 {
            tracing::warn!(
                messages = self.in_a_row,
                "messages were dropped, since the sink was too slow"
            );
            self.in_a_row = 0;
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
    add(&shared.tally.dropped, shared.buffer.abandon());
    written
}

async fn put_all<S: RecordSink>(shared: &Shared, pump: &mut Pump<S>) -> Result<(), SinkError> {
    let mut batch = VecDeque::with_capacity(BATCH);
    loop {
        match shared.buffer.take(&mut batch, BATCH) {
            Taken::Some => shared.tally.set_lag(batch.front().and_then(Entry::arrived)),
            Taken::End => return Ok(()),
            Taken::Empty => {
                tokio::select! {
                    () = shared.buffer.filled() => {}
                    () = pump.flush_due() => pump.try_flush().await?,
                }
                continue;
            }
        }
        while let Some(entry) = batch.front() {
            match pump.put(entry).await {
                Ok(()) => {}
                Err(error) if error.kind() == SinkErrorKind::TooLarge => {
                    add(&shared.tally.refused, 1);
                    tracing::error!(%error, "a message cannot be recorded");
                }
                Err(error) => return Err(error),
            }
            shared.buffer.release(entry);
            batch.pop_front();
            pump.flush_if_due().await?;
            coop::consume_budget().await;
        }
    }
}
