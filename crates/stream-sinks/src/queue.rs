//! What producers and the writer's thread share: the buffer, and what is to be done next. No thread, no clock.
//!
//! Producers copy records into one large block under a lock that is held for the copy only; the writer's thread takes whole
//! blocks. `limit` is what makes that cheap: while a record is below it, nothing else needs to be looked at.

use std::{collections::VecDeque, mem, task::Waker, time::Duration};

use jiff::Timestamp;

use crate::{
    SinkError, SinkErrorKind, Sync,
    block::{Block, join},
    clock::{Clock, timestamp},
    committer::Counts,
    planner::{FileBy, Planner},
};

mod work;

pub(crate) use self::work::{Done, Work};

/// Settings of the buffer.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Most bytes of all blocks together.
    pub(crate) capacity: usize,
    pub(crate) block: usize,
    pub(crate) flush_interval: Duration,
    pub(crate) sync: Sync,
    pub(crate) file_by: FileBy,
    pub(crate) close_timeout: Duration,
    /// The first and the longest pause after a failure.
    pub(crate) backoff: (Duration, Duration),
}

/// What a producer wants to append.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) newline: bool,
    pub(crate) sequence: Option<u64>,
    /// Only under [`FileBy::RecordTime`].
    pub(crate) time: Option<Timestamp>,
}

#[derive(Debug)]
pub(crate) enum Refusal {
    /// Wait until something was written.
    Full,
    Error(SinkError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    /// The storage failed; it is tried again.
    Blocked,
    /// No more records; what there is gets written.
    Closing,
    Closed,
}

#[derive(Debug)]
pub(crate) struct Queue {
    /// Records shorter than this fit into the active block, and nothing hinders them. 0 sends each the long way.
    limit: usize,
    active: Option<Block>,
    accepted: u64,
    by_record_time: bool,

    /// How many records there were when the writer's thread looked last.
    seen: u64,
    ready: VecDeque<Block>,
    spare: Vec<Vec<u8>>,
    planner: Planner,
    limits: Limits,
    /// Bytes of the active and the ready blocks.
    queued: usize,
    /// Bytes of the buffers that the committer has.
    held: usize,
    unsynced: usize,
    written: u64,
    synced: u64,
    gate: Gate,
    failure: Option<SinkError>,
    failures: u64,
    /// When the first record came that was not taken yet.
    dirty_since: Option<Duration>,
    blocked_since: Option<Duration>,
    last_sync: Duration,
    retry_at: Option<Duration>,
    backoff: Duration,
    close_by: Option<Duration>,
    flush_to: u64,
    /// A producer waits for room.
    starving: bool,
    seal_through: u64,
    seal_due: bool,
    file_open: bool,
    counts: Counts,
    bytes: u64,
    wakers: Vec<Waker>,
}

impl Queue {
    pub(crate) fn new(planner: Planner, limits: Limits) -> Self {
        Self {
            limit: 0,
            active: None,
            accepted: 0,
            by_record_time: limits.file_by == FileBy::RecordTime,
            seen: 0,
            ready: VecDeque::new(),
            spare: Vec::new(),
            planner,
            backoff: limits.backoff.0,
            limits,
            queued: 0,
            held: 0,
            unsynced: 0,
            written: 0,
            synced: 0,
            gate: Gate::Open,
            failure: None,
            failures: 0,
            dirty_since: None,
            blocked_since: None,
            last_sync: Duration::ZERO,
            retry_at: None,
            close_by: None,
            flush_to: 0,
            starving: false,
            seal_through: 0,
            seal_due: false,
            file_open: false,
            counts: Counts::default(),
            bytes: 0,
            wakers: Vec::new(),
        }
    }

    /// Appends a record: gives its number, and whether the writer's thread must be woken.
    #[inline]
    pub(crate) fn push(&mut self, piece: &Piece<'_>, clock: &dyn Clock) -> Result<(u64, bool), Refusal> {
        let len = piece.bytes.len() + usize::from(piece.newline);
        let mut wake = false;
        if len >= self.limit || self.by_record_time {
            wake = self.make_room(len, piece.time, clock)?;
        }
        let Some(block) = &mut self.active else {
            return Err(Refusal::Full);
        };
        block.data.extend_from_slice(piece.bytes);
        if piece.newline {
            block.data.push(b'\n');
        }
        block.records += 1;
        if let Some(sequence) = piece.sequence {
            block.sequences = join(block.sequences, Some((sequence, sequence)));
        }
        self.limit = self.limit.saturating_sub(len);
        let number = self.accepted;
        self.accepted += 1;
        Ok((number, wake))
    }

    /// The long way: the block is full, the file is, time has passed, or the gate is not open.
    #[cold]
    fn make_room(&mut self, len: usize, time: Option<Timestamp>, clock: &dyn Clock) -> Result<bool, Refusal> {
        if self.gate != Gate::Open {
            return Err(Refusal::Error(self.refusal()));
        }
        if len > self.limits.capacity {
            let what = format!(
                "a record of {len} bytes is larger than the buffer of {}",
                self.limits.capacity
            );
            return Err(Refusal::Error(SinkError::new(SinkErrorKind::TooLarge, what)));
        }
        let mut wake = false;
        if self.active.is_some() {
            let leaves = self.by_record_time && self.planner.leaves(time.unwrap_or_else(|| timestamp(clock.now())));
            if len < self.limit && !leaves {
                return Ok(false);
            }
            self.finish_block();
            wake = true;
        }
        let size = self.limits.block.max(len);
        if self.queued + self.held + size > self.limits.capacity {
            self.starving = true;
            return Err(Refusal::Full);
        }
        let now = time.unwrap_or_else(|| timestamp(clock.now()));
        let target = self.planner.handle_record(now, len as u64);
        let mut data = match self.spare.pop() {
            Some(spare) if spare.capacity() >= size => spare,
            _ => Vec::with_capacity(size),
        };
        data.clear();
        self.queued += data.capacity();
        let room = usize::try_from(self.planner.room()).unwrap_or(usize::MAX);
        self.limit = data.capacity().min(room).max(len) + 1;
        self.active = Some(Block {
            data,
            target,
            records: 0,
            end: 0,
            sequences: None,
        });
        if self.dirty_since.is_none() {
            self.dirty_since = Some(clock.elapsed());
            wake = true;
        }
        Ok(wake)
    }

    /// Hands the active block over, if there is anything in it.
    fn finish_block(&mut self) {
        self.limit = 0;
        let Some(mut block) = self.active.take() else {
            return;
        };
        if block.records == 0 {
            self.queued -= block.weight();
            self.spare.push(block.data);
            return;
        }
        block.end = self.accepted;
        self.bytes += block.data.len() as u64;
        self.planner.count(block.data.len() as u64);
        self.ready.push_back(block);
    }

    /// Why nothing is accepted.
    fn refusal(&self) -> SinkError {
        match (self.gate, &self.failure) {
            (Gate::Blocked, Some(failure)) => failure.clone(),
            _ => SinkError::new(SinkErrorKind::Closed, "the sink is closed"),
        }
    }

    /// Asks for all that was accepted to be written: gives the number behind the last record.
    pub(crate) fn ask_flush(&mut self) -> u64 {
        self.flush_to = self.accepted;
        self.accepted
    }

    /// Ends the current file, whatever the time.
    pub(crate) fn ask_roll(&mut self) -> u64 {
        self.finish_block();
        if let Some(file) = self.planner.close() {
            self.seal_through = file;
            self.seal_due = true;
        }
        self.ask_flush()
    }

    /// Ends the current file if its period has been over for so long: gives whether it does.
    pub(crate) fn ask_roll_overdue(&mut self, now: Timestamp, wait: Duration) -> bool {
        let is_overdue = self.planner.is_overdue(now, wait);
        if is_overdue {
            self.ask_roll();
        }
        is_overdue
    }

    /// Accepts no more, and ends when all is written, or at the latest after the time for closing.
    pub(crate) fn ask_close(&mut self, elapsed: Duration) {
        if matches!(self.gate, Gate::Closing | Gate::Closed) {
            return;
        }
        self.ask_roll();
        self.gate = Gate::Closing;
        self.close_by = Some(elapsed.saturating_add(self.limits.close_timeout));
        // Try again at once what may have been waiting for its next attempt.
        self.retry_at = self.retry_at.map(|_| elapsed);
        self.limit = 0;
    }

    /// Has what [`ask_flush`](Self::ask_flush) asked for happened, or failed since there were `failures`?
    pub(crate) fn poll_flush(&self, target: u64, failures: u64) -> Option<Result<(), SinkError>> {
        let reached = match self.limits.sync {
            Sync::Commit => self.synced,
            Sync::Interval(_) | Sync::None => self.written,
        };
        if reached >= target {
            return Some(Ok(()));
        }
        if self.failures > failures || self.gate == Gate::Closed {
            return Some(Err(self.failure.clone().unwrap_or_else(|| self.refusal())));
        }
        None
    }

    /// The outcome of closing, once there is one.
    pub(crate) fn poll_closed(&self) -> Option<Result<(), SinkError>> {
        let failed = self
            .failure
            .as_ref()
            .map(|failure| failure.leaving(self.accepted - self.written));
        (self.gate == Gate::Closed).then(|| failed.map_or(Ok(()), Err))
    }

    pub(crate) fn wait(&mut self, waker: &Waker) {
        if !self.wakers.iter().any(|known| known.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
    }

    pub(crate) fn take_wakers(&mut self) -> Vec<Waker> {
        mem::take(&mut self.wakers)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.limits.capacity
    }

    pub(crate) fn gate(&self) -> Gate {
        self.gate
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    pub(crate) fn failure(&self) -> Option<&SinkError> {
        self.failure.as_ref()
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn synced(&self) -> u64 {
        self.synced
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn blocked_since(&self) -> Option<Duration> {
        self.blocked_since
    }

    /// Bytes of all blocks in use.
    pub(crate) fn buffered(&self) -> usize {
        self.queued + self.held
    }

    /// Bytes of records that were accepted.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + self.active.as_ref().map_or(0, |block| block.data.len() as u64)
    }
}
