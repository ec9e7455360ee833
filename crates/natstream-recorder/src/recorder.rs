//! The recorder, and what it makes of any stream.

use std::error::Error;
use std::fmt;
use std::pin::pin;
use std::time::Duration;

use futures_core::Stream;
use futures_util::StreamExt as _;
use natstream_connect::{Connection, Subscriber, SubscriberError};
use stream_sinks::{Receipt, RecordSink, SinkError};
use tokio::task::coop;

use crate::entry::Entry;
use crate::pump::Pump;
use crate::recording::Recording;

/// How much waits for a sink at most: a second and a half of small messages at the rate of one connection.
const MAX_BUFFERED: usize = 256 << 20;

/// How long a record may wait to be flushed.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Puts records into a sink.
///
/// | setting | default |
/// |---|---|
/// | [`flush_interval`](Self::flush_interval) | 1 s |
/// | [`max_buffered`](Self::max_buffered) | 256 MiB, for subscriptions only |
/// | [`max_records`](Self::max_records) | none, for subscriptions only |
///
/// While the sink's storage fails, records wait, and are put in when it works again.
#[derive(Debug)]
pub struct Recorder<S> {
    pump: Pump<S>,
    max_buffered: usize,
    max_records: Option<u64>,
}

/// What has become of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// Records that were put in.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// What the sink said when they were flushed.
    pub receipt: Receipt,
}

impl<S: RecordSink> Recorder<S> {
    /// Records into this sink.
    pub fn new(sink: S) -> Self {
        Self {
            pump: Pump::new(sink, FLUSH_INTERVAL),
            max_buffered: MAX_BUFFERED,
            max_records: None,
        }
    }

    /// How long a record may wait to be flushed. Sinks may have an interval of their own; the shorter one counts.
    #[must_use]
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.pump.flush_interval = interval;
        self
    }

    /// Most bytes of messages that wait while the sink is slow or its storage fails. What comes then is dropped, counted and
    /// said aloud. One message always has room.
    #[must_use]
    pub fn max_buffered(mut self, bytes: usize) -> Self {
        self.max_buffered = bytes;
        self
    }

    /// A subscription ends by itself after this many messages. It is agreed on with nats-server: what is beyond them goes to
    /// other members of the queue group.
    #[must_use]
    pub fn max_records(mut self, count: u64) -> Self {
        self.max_records = Some(count);
        self
    }

    /// Records the items of a stream until it ends, no faster than the sink takes them, and flushes.
    ///
    /// The items of a call, for instance: `recorder.record(&mut responses)`.
    ///
    /// # Errors
    /// [`RecordError::Source`]: the stream failed. [`RecordError::Sink`]: the sink was closed, or cannot take a record. What
    /// came before is recorded and flushed in either case.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    ///
    /// # Cancel safety
    /// What was read is recorded, but for the last item.
    pub async fn record<T, I, E>(&mut self, stream: T) -> Result<Recorded, RecordError<E>>
    where
        T: Stream<Item = Result<I, E>>,
        I: Into<Entry>,
    {
        let mut stream = pin!(stream);
        let (mut records, mut bytes) = (0, 0);
        let outcome = loop {
            let item = tokio::select! {
                biased;
                item = stream.next() => item,
                () = self.pump.flush_due() => {
                    match self.pump.try_flush().await {
                        Ok(()) => continue,
                        Err(error) => break Err(Failure::Sink(error)),
                    }
                }
            };
            let entry: Entry = match item {
                Some(Ok(item)) => item.into(),
                Some(Err(error)) => break Err(Failure::Source(error)),
                None => break Ok(()),
            };
            if let Err(error) = self.pump.put(&entry).await {
                break Err(Failure::Sink(error));
            }
            (records, bytes) = (records + 1, bytes + entry.payload().len() as u64);
            if let Err(error) = self.pump.flush_if_due().await {
                break Err(Failure::Sink(error));
            }
            coop::consume_budget().await;
        };
        let flushed = self.pump.flush().await;
        let recorded = |receipt| Recorded {
            records,
            bytes,
            receipt,
        };
        match (outcome, flushed) {
            (Ok(()), Ok(receipt)) => Ok(recorded(receipt)),
            (Err(Failure::Source(error)), flushed) => Err(RecordError::Source {
                error,
                recorded: recorded(flushed.unwrap_or_default()),
            }),
            (Err(Failure::Sink(error)), flushed) => Err(RecordError::Sink {
                error,
                recorded: recorded(flushed.unwrap_or_default()),
            }),
            (Ok(()), Err(error)) => Err(RecordError::Sink {
                error,
                recorded: recorded(Receipt::default()),
            }),
        }
    }

    /// Records the messages on `subject`, which may have wildcards, alone or as a member of a queue group. When it returns,
    /// nats-server knows the subscription.
    ///
    /// Messages are put in with their subject, headers, and the time of their arrival.
    ///
    /// # Errors
    /// As [`Connection::subscribe`]; the sink is dropped then, too.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    ///
    /// # Cancel safety
    /// When the future is dropped, nothing is recorded, and the sink is dropped.
    pub async fn subscribe(
        self,
        connection: &Connection,
        subject: impl Into<String>,
        group: Option<&str>,
    ) -> Result<Recording, SubscriberError> {
        let mut subscriber = Subscriber::begin(connection, connection.server_errors(), subject, group).await?;
        if let Some(count) = self.max_records {
            subscriber.take_only(count).await?;
        }
        subscriber.confirm(&[]).await?;
        Ok(Recording::begin(self.pump, connection, subscriber, self.max_buffered))
    }

    /// Closes the sink.
    ///
    /// # Errors
    /// As [`RecordSink::close`].
    ///
    /// # Cancel safety
    /// As [`RecordSink::close`].
    pub async fn close(self) -> Result<Receipt, SinkError> {
        self.pump.close().await
    }
}

enum Failure<E> {
    Source(E),
    Sink(SinkError),
}

/// Why a stream was not recorded to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordError<E> {
    /// The stream failed.
    #[non_exhaustive]
    Source {
        /// What it said.
        error: E,
        /// What came before.
        recorded: Recorded,
    },
    /// The sink was closed, or cannot take a record.
    #[non_exhaustive]
    Sink {
        /// What it said.
        error: SinkError,
        /// What came before.
        recorded: Recorded,
    },
}

impl<E> fmt::Display for RecordError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source { recorded, .. } => write!(f, "the stream failed after {} records", recorded.records),
            Self::Sink { recorded, .. } => write!(f, "the sink failed after {} records", recorded.records),
        }
    }
}

impl<E: Error + 'static> Error for RecordError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Source { error, .. } => Some(error),
            Self::Sink { error, .. } => Some(error),
        }
    }
}
