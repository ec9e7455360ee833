//! What the writer's thread does next, and what came of it.

use std::{mem, time::Duration};

use jiff::Timestamp;

use super::{Gate, Queue};
use crate::{
    SinkError, SinkErrorKind, Sync,
    block::Block,
    committer::{Committer, Counts},
};

/// The time of day may jump while the thread waits; this is how long it then takes to notice.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(5);

/// What to do now.
#[derive(Debug)]
pub(crate) enum Work {
    /// Give this to the committer, then call [`Queue::complete`].
    Run(Order),
    /// Nothing until then, or until something changes.
    Wait(Option<Duration>),
    /// The thread ends.
    End,
}

#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) blocks: Vec<Block>,
    pub(crate) sync: bool,
    pub(crate) seal_through: u64,
}

/// What came of an order.
#[derive(Debug)]
pub(crate) struct Done {
    result: Result<(), SinkError>,
    written: u64,
    synced: u64,
    held: usize,
    unsynced: usize,
    spare: Vec<Vec<u8>>,
    file_open: bool,
    counts: Counts,
}

impl Order {
    /// Does it.
    pub(crate) fn run(self, committer: &mut Committer, now: Timestamp) -> Done {
        committer.accept(self.blocks);
        committer.seal_through(self.seal_through);
        let result = committer.run(self.sync, now);
        Done {
            result,
            written: committer.written(),
            synced: committer.synced(),
            held: committer.held(),
            unsynced: committer.unsynced(),
            spare: committer.take_spare(),
            file_open: committer.is_open(),
            counts: committer.counts(),
        }
    }
}

/// What operators want to know.
#[derive(Debug)]
pub(crate) enum News {
    Fails(SinkError),
    /// Again, after this time.
    Works(Duration),
    /// So many records, of a sink that had to be closed.
    Lost(u64),
}

impl News {
    pub(crate) fn log(&self) {
        match self {
            Self::Fails(error) => {
                let source = std::error::Error::source(error).map(ToString::to_string);
                tracing::warn!(%error, source, "the storage fails; nothing is accepted until it works");
            }
            Self::Works(after) => tracing::info!(elapsed_ms = after.as_millis(), "the storage works again"),
            Self::Lost(count) => {
                tracing::error!(
                    count,
                    "the sink was closed while the storage failed; what was not written is lost"
                );
            }
        }
    }
}

impl Done {
    /// Whether the sink is closed when the queue learns of this.
    pub(crate) fn ends(&self, queue: &Queue) -> bool {
        let all = self.written == queue.accepted && !self.file_open;
        queue.gate == Gate::Closing && self.result.is_ok() && all
    }
}

impl Queue {
    /// What to do at this time.
    pub(crate) fn poll_work(&mut self, elapsed: Duration, now: Timestamp) -> Work {
        if self.gate == Gate::Closed {
            return Work::End;
        }
        if self.accepted > self.seen {
            self.seen = self.accepted;
            self.planner.handle_arrival(now);
        }
        if let Some(file) = self.planner.handle_timeout(now) {
            // What was accepted so far belongs into the file that ends.
            self.finish_block();
            self.seal_through = file;
            self.seal_due = true;
        }
        if let Some(at) = self.retry_at.filter(|at| elapsed < *at) {
            return Work::Wait(Some(at));
        }
        let retries = self.retry_at.is_some();
        let closes = self.gate == Gate::Closing;
        let sync_at = self.sync_at();
        let sync_due = self.unsynced > 0 && sync_at.is_some_and(|at| at <= elapsed);
        let flush_at = self
            .dirty_since
            .map(|since| since.saturating_add(self.limits.flush_interval));
        let flush_due = flush_at.is_some_and(|at| at <= elapsed);
        if flush_due || sync_due || closes || self.starving || self.flush_to > self.written {
            self.finish_block();
        }
        if retries || closes || sync_due || self.seal_due || !self.ready.is_empty() {
            return Work::Run(self.order(sync_due || retries));
        }
        let sync_at = sync_at.filter(|_| self.unsynced > 0);
        let roll_at = self.planner.poll_timeout().map(|end| {
            let left = end.duration_since(now);
            elapsed + Duration::try_from(left).unwrap_or_default().min(LOOK_AT_CLOCK)
        });
        Work::Wait([flush_at, sync_at, roll_at].into_iter().flatten().min())
    }

    /// When unsynced bytes are to be synced, by the interval or for the room they take.
    fn sync_at(&self) -> Option<Duration> {
        let Sync::Interval(interval) = self.limits.sync else {
            return None;
        };
        let early = self.starving || self.unsynced >= self.limits.capacity / 2;
        Some(if early {
            self.last_sync
        } else {
            self.last_sync.saturating_add(interval)
        })
    }

    fn order(&mut self, sync_due: bool) -> Order {
        let blocks: Vec<Block> = mem::take(&mut self.ready).into();
        let weight: usize = blocks.iter().map(Block::weight).sum();
        self.queued -= weight;
        self.held += weight;
        if self.active.is_none() {
            self.dirty_since = None;
        }
        self.seal_due = false;
        let closes = self.gate == Gate::Closing;
        let sync = match self.limits.sync {
            Sync::Commit => true,
            // After a failure too: that it works again is only known when it was synced.
            Sync::Interval(_) => sync_due || closes || self.starving,
            Sync::None => false,
        };
        Order {
            blocks,
            sync,
            seal_through: self.seal_through,
        }
    }

    /// Takes what came of an order: gives what is to be logged, without the lock, since the log may be written here.
    pub(crate) fn complete(&mut self, done: Done, elapsed: Duration) -> Option<News> {
        if done.synced > self.synced || done.unsynced == 0 {
            self.last_sync = elapsed;
        }
        self.written = done.written;
        self.synced = done.synced;
        self.held = done.held;
        self.unsynced = done.unsynced;
        self.file_open = done.file_open;
        self.counts = done.counts;
        self.starving = false;
        let usual = self.limits.block..=self.limits.block * 2;
        let most = self.limits.capacity / self.limits.block;
        for buffer in done.spare {
            if usual.contains(&buffer.capacity()) && self.spare.len() < most {
                self.spare.push(buffer);
            }
        }
        match done.result {
            Ok(()) => self.succeed(elapsed),
            Err(error) => self.fail(error, elapsed),
        }
    }

    fn succeed(&mut self, elapsed: Duration) -> Option<News> {
        self.failure = None;
        let since = self.blocked_since.take();
        let news = since.map(|since| News::Works(elapsed.saturating_sub(since)));
        self.retry_at = None;
        self.backoff = self.limits.backoff.0;
        match self.gate {
            Gate::Blocked => self.gate = Gate::Open,
            Gate::Closing if self.written == self.accepted && !self.file_open => self.gate = Gate::Closed,
            Gate::Closing | Gate::Closed | Gate::Open => {}
        }
        news
    }

    fn fail(&mut self, error: SinkError, elapsed: Duration) -> Option<News> {
        let mut news = None;
        if self.blocked_since.is_none() {
            news = Some(News::Fails(error.clone()));
            self.blocked_since = Some(elapsed);
        }
        self.failures += 1;
        self.failure = Some(error);
        // The last attempt of a sink that closes is when its time is over.
        let by = self.close_by.filter(|by| elapsed < *by).unwrap_or(Duration::MAX);
        self.retry_at = Some(elapsed.saturating_add(self.backoff).min(by));
        self.backoff = self.backoff.saturating_mul(2).min(self.limits.backoff.1);
        match self.gate {
            Gate::Open | Gate::Blocked => {
                self.gate = Gate::Blocked;
                // The active block stays for later; nothing is added to it.
                self.limit = 0;
            }
            Gate::Closing if self.close_by.is_some_and(|by| elapsed >= by) => {
                news = Some(News::Lost(self.accepted - self.written));
                self.gate = Gate::Closed;
            }
            Gate::Closing | Gate::Closed => {}
        }
        news
    }

    /// The thread has gone, for whatever reason.
    pub(crate) fn end(&mut self) {
        if self.gate != Gate::Closed {
            self.gate = Gate::Closed;
            self.limit = 0;
            let what = "the sink's thread ended unexpectedly";
            self.failure = Some(SinkError::new(SinkErrorKind::Closed, what));
        }
    }
}
