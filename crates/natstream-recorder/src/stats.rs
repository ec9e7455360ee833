//! Figures of a recording.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::clock::wall;
use crate::entry::Entry;

/// What has become of messages. `received = recorded + dropped + refused + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordingStats {
    /// Messages that arrived.
    pub received: u64,
    /// Messages that the sink accepted.
    pub recorded: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Messages that were dropped since the sink was too slow and the buffer full, or since the recording had to end.
    pub dropped: u64,
    /// Messages that the sink can never take: they are larger than its buffer.
    pub refused: u64,
    /// Messages that did not even arrive, since this process was too slow to take them from async-nats: at least so many.
    pub missed: u64,
    /// Messages that wait for the sink.
    pub waiting: usize,
    /// Bytes that those take, roughly.
    pub waiting_bytes: usize,
    /// How long the last one that the sink accepted had waited; zero when none waits.
    pub lag: Duration,
    /// How often the connection was lost and found again; messages of that time are lost.
    pub reconnects: u64,
    /// How often the sink's storage failed. What it had accepted is kept.
    pub storage_failures: u64,
}

/// Counters behind it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) received: AtomicU64,
    pub(crate) recorded: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) missed: AtomicU64,
    pub(crate) storage_failures: AtomicU64,
    lag_micros: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Tally {
    /// The sink has accepted this one.
    pub(crate) fn accepted(&self, entry: &Entry) {
        add(&self.recorded, 1);
        add(&self.bytes, entry.payload().len() as u64);
    }

    /// So many did not arrive.
    pub(crate) fn set_missed(&self, count: u64) {
        self.missed.store(count, Ordering::Relaxed);
    }

    /// The one that was accepted last had arrived at this time.
    pub(crate) fn set_lag(&self, arrived: Option<SystemTime>) {
        let lag = arrived.and_then(|arrived| wall().duration_since(arrived).ok());
        let micros = lag.map_or(0, |lag| u64::try_from(lag.as_micros()).unwrap_or(u64::MAX));
        self.lag_micros.store(micros, Ordering::Relaxed);
    }

    /// `level` is what waits, and its bytes.
    pub(crate) fn snapshot(&self, level: (usize, usize), reconnects: u64) -> RecordingStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (waiting, waiting_bytes) = level;
        RecordingStats {
            received: read(&self.received),
            recorded: read(&self.recorded),
            bytes: read(&self.bytes),
            dropped: read(&self.dropped),
            refused: read(&self.refused),
            missed: read(&self.missed),
            storage_failures: read(&self.storage_failures),
            lag: match waiting {
                0 => Duration::ZERO,
                _ => Duration::from_micros(read(&self.lag_micros)),
            },
            waiting,
            waiting_bytes,
            reconnects,
        }
    }
}
