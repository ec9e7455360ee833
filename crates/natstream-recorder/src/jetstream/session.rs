//! The loop of a recording: take, write, sync, ack.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use eventbus::topology::{ConsumerInfo, StreamInfo, Topology};
use eventbus::{ConsumeError, Consumer, InOrder, Message};
use natstream_connect::Connection;
use stream_sinks::{Receipt, Record, RecordSink as _, RollingWriter, SinkError, SinkErrorKind};
use tokio::time::{Instant, sleep_until, timeout};

use super::error::StreamRecordError;
use super::gaps::Gaps;
use super::marks::Marks;
use super::recorder::{Opened, Settings};
use super::recording::{End, Shared, StreamEndReason, StreamRecordingEnd};
use crate::clock::now;
use crate::entry::sorted;
use crate::pump::Pump;

/// Messages that are taken before anything else is looked at.
const BATCH: u64 = 256;

/// How often the stream is looked at: for what it has removed, and for whether a file can end.
const LOOK: Duration = Duration::from_secs(5);

/// How long after its period an idle file ends: more than clocks differ, and messages are on their way.
const IDLE_FILE: Duration = Duration::from_secs(60);

/// How long acks of the end may take.
const LAST_ACKS: Duration = Duration::from_secs(5);

/// The pause after a flush that failed; the sink itself tries on.
const FAILED_PAUSE: Duration = Duration::from_millis(100);

type Flush = Pin<Box<dyn Future<Output = Result<Receipt, SinkError>> + Send>>;
type Look = Pin<Box<dyn Future<Output = Result<(StreamInfo, ConsumerInfo), ConsumeError>> + Send>>;

pub(super) struct Session {
    connection: Connection,
    consumer: Consumer,
    in_order: InOrder,
    pump: Pump<RollingWriter>,
    writer: RollingWriter,
    stream: String,
    settings: Settings,
    shared: Arc<Shared>,
    marks: Marks,
    gaps: Gaps,
    flushing: Option<Flush>,
    /// Records that the last flush was asked for.
    flushed: u64,
    /// When the next one is due; `None` while nothing waits for it.
    commit_at: Option<Instant>,
    looking: Option<Look>,
    look_at: Instant,
    last_message: Instant,
}

/// What one turn brought.
enum Turn {
    On,
    End(StreamEndReason),
}

impl Session {
    pub(super) fn new(opened: Opened, pump: Pump<RollingWriter>, settings: Settings, shared: Arc<Shared>) -> Self {
        let Opened {
            connection,
            consumer,
            in_order,
            writer,
            source,
            position,
            counts_gaps,
        } = opened;
        Self {
            connection,
            consumer,
            in_order,
            pump,
            writer,
            stream: source.stream,
            settings,
            shared,
            marks: Marks::default(),
            gaps: Gaps::new(position, counts_gaps),
            flushing: None,
            flushed: 0,
            commit_at: None,
            looking: None,
            look_at: now() + LOOK,
            last_message: now(),
        }
    }

    pub(super) async fn run(mut self) -> End {
        let outcome = loop {
            match self.turn().await {
                Ok(Turn::On) => {}
                Ok(Turn::End(reason)) => break Ok(reason),
                Err(error) => break Err(error),
            }
        };
        self.end(outcome).await
    }

    async fn turn(&mut self) -> Result<Turn, StreamRecordError> {
        let stop = self.shared.stop.clone();
        let idle_at = self
            .settings
            .idle_timeout
            .and_then(|limit| self.last_message.checked_add(limit));
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Turn::End(StreamEndReason::Stopped)),
            flushed = done(&mut self.flushing) => self.committed(flushed).await?,
            looked = done(&mut self.looking) => self.looked(looked)?,
            () = at(self.commit_at), if self.flushing.is_none() => self.flush(),
            () = at(Some(self.look_at)), if self.looking.is_none() => self.look(),
            message = self.in_order.next() => match message? {
                Some(message) => return self.take(message).await,
                // Nobody else has the consumer.
                None => return Ok(Turn::End(StreamEndReason::Stopped)),
            },
            () = at(idle_at) => {
                if self.connection.state().borrow().is_connected() {
                    return Ok(Turn::End(StreamEndReason::Idle));
                }
                // Nothing can come: that says nothing about the stream.
                self.last_message = now();
            }
        }
        Ok(Turn::On)
    }

    /// Records a message, and those that are here besides.
    async fn take(&mut self, first: Message) -> Result<Turn, StreamRecordError> {
        let stop = self.shared.stop.clone();
        let (mut records, mut bytes, mut last) = (0, 0, None);
        let mut turn = Turn::On;
        let mut next = Some(first);
        let mut outcome = Ok(());
        while let Some(message) = next {
            // While the storage fails a message waits here, and is not acked.
            outcome = tokio::select! {
                biased;
                put = put(&mut self.pump, &message) => put,
                () = stop.cancelled() => {
                    turn = Turn::End(StreamEndReason::Stopped);
                    break;
                }
            };
            if outcome.is_err() {
                break;
            }
            self.gaps.arrive(message.sequence());
            records += 1;
            bytes += message.payload().len() as u64;
            let is_enough = self.settings.max_records == Some(self.marks.records() + records);
            last = Some(message);
            if is_enough {
                turn = Turn::End(StreamEndReason::Enough);
                break;
            }
            next = if records < BATCH {
                self.in_order.try_next()
            } else {
                None
            };
        }
        if let Some(message) = last {
            self.marks.push(records, message.sequence());
            self.last_message = now();
            self.commit_at
                .get_or_insert(self.last_message + self.settings.commit_interval);
            let mut stats = self.shared.stats.lock();
            stats.recorded += records;
            stats.bytes += bytes;
            stats.pending = message.pending();
        }
        outcome?;
        let unflushed = self.marks.records() - self.flushed;
        if self.flushing.is_none() && unflushed >= (self.in_order.limit() as u64).div_ceil(2) {
            self.flush();
        }
        Ok(turn)
    }

    /// Has the files write what they have, and goes on taking messages meanwhile.
    fn flush(&mut self) {
        let mut writer = self.writer.clone();
        self.flushed = self.marks.records();
        self.commit_at = None;
        self.flushing = Some(Box::pin(async move { writer.flush().await }));
    }

    /// Acks what is safe.
    async fn committed(&mut self, flushed: Result<Receipt, SinkError>) -> Result<(), StreamRecordError> {
        let pause = match flushed {
            Ok(receipt) => {
                self.ack(receipt).await?;
                self.settings.commit_interval
            }
            Err(error) if error.kind() == SinkErrorKind::Storage => {
                self.pump.failures.fetch_add(1, Ordering::Relaxed);
                self.settings.commit_interval.max(FAILED_PAUSE)
            }
            Err(error) => return Err(error.into()),
        };
        // Those that came meanwhile, and those that are synced later.
        self.commit_at = (!self.marks.is_empty()).then(|| now() + pause);
        let unflushed = self.marks.records() - self.flushed;
        if unflushed >= (self.in_order.limit() as u64).div_ceil(2) {
            self.flush();
        }
        Ok(())
    }

    async fn ack(&mut self, receipt: Receipt) -> Result<(), StreamRecordError> {
        let safe = if self.settings.syncs {
            receipt.survive_power_loss
        } else {
            receipt.survive_kill
        };
        let Some(position) = self.marks.safe(safe) else {
            return Ok(());
        };
        {
            let mut stats = self.shared.stats.lock();
            stats.position = position;
            stats.committed = safe;
        }
        Ok(self.in_order.ack_through(position).await?)
    }

    fn look(&mut self) {
        self.look_at = now() + LOOK;
        let is_idle =
            self.marks.is_empty() && self.last_message.elapsed() >= LOOK && self.writer.current_file().is_some();
        if !is_idle && !self.gaps.has_open() {
            return;
        }
        let topology = Topology::new(self.connection.clone());
        let (stream, consumer) = (self.stream.clone(), self.consumer.clone());
        self.looking = Some(Box::pin(async move {
            let info = topology.info(&stream).await?;
            Ok((info, consumer.info().await?))
        }));
    }

    fn looked(&mut self, looked: Result<(StreamInfo, ConsumerInfo), ConsumeError>) -> Result<(), StreamRecordError> {
        let (stream, consumer) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                // Whoever waits for the next message is told, if it does not heal.
                tracing::debug!(%error, "the stream could not be looked at");
                return Ok(());
            }
        };
        self.judge(&stream);
        // Nothing of its period can come any more: everything was delivered, and acked, since.
        let is_done = consumer.pending == 0 && consumer.ack_pending == 0 && self.marks.is_empty();
        if is_done && self.writer.roll_overdue(IDLE_FILE) {
            tracing::debug!("the file of an idle stream ends");
        }
        Ok(())
    }

    fn judge(&mut self, stream: &StreamInfo) {
        let missed = self.gaps.judge(stream.first_sequence);
        if missed > 0 {
            tracing::error!(
                messages = missed,
                stream = self.stream,
                first = stream.first_sequence,
                "messages were removed from the stream before they were recorded"
            );
        }
        let mut stats = self.shared.stats.lock();
        stats.missed = self.gaps.missed;
        stats.deleted = self.gaps.deleted;
    }

    /// Closes the file, and acks what is in it.
    async fn end(mut self, outcome: Result<StreamEndReason, StreamRecordError>) -> End {
        self.flushing = None;
        let closed = self.writer.clone().close().await;
        // Also when not all could be written.
        let receipt = self.writer.receipt();
        let safe = if self.settings.syncs {
            receipt.survive_power_loss
        } else {
            receipt.survive_kill
        };
        let mut confirmed = true;
        if let Some(position) = self.marks.safe(safe) {
            {
                let mut stats = self.shared.stats.lock();
                stats.position = position;
                stats.committed = safe;
            }
            // It waits for room among the acks, which there is not while the connection is down.
            let acking = timeout(LAST_ACKS, self.in_order.ack_through(position)).await;
            confirmed = acking.is_ok_and(|acked| acked.is_ok());
        }
        confirmed &= self.in_order.flush(LAST_ACKS).await.is_ok();
        if !confirmed {
            tracing::warn!(
                "acks were not confirmed; the next recording is given these messages again, and leaves them out"
            );
        }
        if self.gaps.has_open() {
            let topology = Topology::new(self.connection.clone());
            // Without an answer it is not known what they are.
            if let Ok(Ok(stream)) = timeout(LAST_ACKS, topology.info(&self.stream)).await {
                self.judge(&stream);
            }
        }
        let reason = outcome?;
        let receipt = closed?;
        let stats = *self.shared.stats.lock();
        Ok(StreamRecordingEnd {
            stats,
            receipt,
            reason,
            confirmed,
        })
    }
}

async fn put(pump: &mut Pump<RollingWriter>, message: &Message) -> Result<(), SinkError> {
    let headers = message.headers().map(sorted).unwrap_or_default();
    let record = Record::new(message.payload())
        .subject(message.subject())
        .sequence(message.sequence())
        .time(message.stored_at().into())
        .headers(&headers);
    pump.put_record(record).await
}

async fn done<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    let Some(running) = future else {
        return pending().await;
    };
    let output = running.await;
    *future = None;
    output
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
