//! What becomes of events of the spool.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use natstream_connect::Driver;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ledger::Ledger;
use super::record::encode;
use super::spool::Spool;
use super::turns::{Turn, Turns};
use crate::engine;
use crate::error::{PublishError, PublishErrorKind};
use crate::event::Event;
use crate::shared::OnFailure;
use crate::watcher::Outcome;

/// How long an event rests that may be taken later: nobody permits it now, or the stream is full.
const REST: u64 = 2_000_000_000;

/// The pause before files that have failed are tried again.
const RETRY: Duration = Duration::from_millis(250);

/// What the handles of an outbox, its feeder, and the events that are under way share.
pub(crate) struct Deliveries {
    pub(super) spool: Spool,
    pub(super) ledger: Mutex<Ledger>,
    /// What was handed over and is not done. Its lock is never held together with that of the ledger.
    pub(super) turns: Mutex<Turns<Event>>,
    pub(super) counts: Counts,
    /// Something may be delivered, or was.
    pub(super) work: Notify,
    /// The window is full: only what is done makes a difference.
    is_full: AtomicBool,
    /// There may be room in the files.
    pub(super) space: Notify,
    /// Something is done.
    pub(super) progress: Notify,
    /// Something could not be written.
    pub(super) failing: Notify,
    /// Something was refused for good, and is not kept yet.
    pub(super) refused: Notify,
    /// What that is. A disk is not waited for on a task of the connection.
    refusals: Option<Mutex<Vec<(Turn, PublishError)>>>,
    on_failure: Option<OnFailure>,
    began: tokio::time::Instant,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) acked: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) rejected: AtomicU64,
    /// Failures that a flush has told of.
    pub(super) told: AtomicU64,
}

impl Deliveries {
    pub(super) fn new(
        spool: Spool,
        is_durable: bool,
        ordering: engine::Ordering,
        on_failure: Option<OnFailure>,
    ) -> Self {
        Self {
            ledger: Mutex::new(Ledger::new(spool.found().first, spool.numbers_aside())),
            turns: Mutex::new(Turns::new(ordering)),
            spool,
            refused: Notify::new(),
            refusals: is_durable.then(Mutex::default),
            counts: Counts::default(),
            work: Notify::new(),
            is_full: AtomicBool::new(false),
            space: Notify::new(),
            progress: Notify::new(),
            failing: Notify::new(),
            on_failure,
            began: Driver::clock(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        crate::nanos(Driver::clock().duration_since(self.began))
    }

    /// An event was added to the files.
    pub(super) fn added(&self) {
        if !self.is_full.load(Ordering::SeqCst) {
            self.work.notify_one();
        }
    }

    /// Is the window full? To be asked before the files are: what is added behind that is told.
    pub(super) fn is_full(&self, window: usize, window_bytes: usize) -> bool {
        let is_full = !self.turns.lock().has_room(window, window_bytes);
        self.is_full.store(is_full, Ordering::SeqCst);
        is_full
    }

    /// An event of the files waits for its turn from now on.
    pub(super) fn hand_over(&self, number: u64, event: Event) {
        self.ledger.lock().hand_over(number);
        let subject = event.subject.clone();
        self.turns.lock().add(number, &subject, event.size(), event);
    }

    /// The bus says what became of an event.
    pub(crate) fn settle(&self, turn: Turn, outcome: Outcome) {
        match outcome {
            Ok(ack) => {
                self.counts.acked.fetch_add(1, Ordering::Relaxed);
                self.counts
                    .duplicates
                    .fetch_add(u64::from(ack.is_duplicate), Ordering::Relaxed);
                if let Some(watch) = self.spool.watch_of(turn.number()) {
                    // Whoever waited may have gone.
                    let _ = watch.send(Ok(ack));
                }
                self.end(turn);
            }
            Err(error) if is_final(error.kind()) => match &self.refusals {
                None => self.reject(turn, error),
                Some(refusals) => {
                    refusals.lock().push((turn, error));
                    self.refused.notify_one();
                }
            },
            Err(error) => {
                tracing::debug!(number = turn.number(), %error, "an event of the outbox is tried again");
                self.rest(turn, error);
            }
        }
    }

    /// Keeps what was refused meanwhile. It waits for the disk.
    pub(super) fn keep_refused(&self) {
        let refusals = self
            .refusals
            .as_ref()
            .map(|refusals| std::mem::take(&mut *refusals.lock()));
        for (turn, error) in refusals.into_iter().flatten() {
            self.reject(turn, error);
        }
    }

    /// It can never be delivered: it is kept elsewhere, so that the others go on.
    fn reject(&self, turn: Turn, error: PublishError) {
        let (number, record) = (turn.number(), encode(error.event()));
        if let Err(problem) = self.spool.reject(number, &record, &error.to_string()) {
            tracing::warn!(%problem, "a refused event cannot be kept, and is tried again");
            return self.rest(turn, error);
        }
        self.counts.rejected.fetch_add(1, Ordering::Relaxed);
        let watch = self.spool.watch_of(number);
        match &self.on_failure {
            Some(on_failure) => {
                let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| on_failure(error.clone())));
                if told.is_err() {
                    tracing::error!("`on_failure` of an outbox has panicked");
                }
            }
            None if watch.is_some() => {}
            None => tracing::warn!(%error, "an event of the outbox was refused, and is kept in `rejected`"),
        }
        if let Some(watch) = watch {
            // Whoever waited may have gone.
            let _ = watch.send(Err(error));
        }
        self.end(turn);
    }

    fn rest(&self, turn: Turn, error: PublishError) {
        let at = match error.kind() {
            // The bus is gone, not the stream: the next one gets it first, and in order.
            PublishErrorKind::Closed => 0,
            _ => self.now().saturating_add(REST),
        };
        self.turns.lock().rest(turn, at, error.into_event());
        self.work.notify_one();
    }

    /// A record that nobody can read.
    pub(super) fn discard(&self, number: u64, record: &[u8]) -> Result<(), stream_sinks::SinkError> {
        self.spool
            .reject(number, record, "it is no event that this version can read")?;
        tracing::error!(
            number,
            "a record of the outbox cannot be read, and is kept in `rejected`"
        );
        self.counts.rejected.fetch_add(1, Ordering::Relaxed);
        self.finish(number);
        Ok(())
    }

    fn end(&self, turn: Turn) {
        let number = turn.number();
        self.turns.lock().finish(turn);
        self.finish(number);
    }

    fn finish(&self, number: u64) {
        self.ledger.lock().finish(number);
        self.work.notify_one();
        self.progress.notify_waiters();
    }

    /// Records that are in the spool and not done.
    pub(super) fn spooled(&self) -> u64 {
        self.left(self.spool.written())
    }

    /// Records that are not done, of all that were accepted.
    pub(super) fn pending(&self) -> u64 {
        self.left(self.spool.next_number())
    }

    /// Records below `end` that are not done.
    fn left(&self, end: u64) -> u64 {
        let ledger = self.ledger.lock();
        let lost = self.spool.lost().saturating_sub(ledger.lost());
        end.saturating_sub(ledger.next() + lost) + ledger.left()
    }

    /// The files have nothing below this number that was not handed over.
    pub(super) fn pass(&self, number: u64) {
        let has_risen = {
            let mut ledger = self.ledger.lock();
            let before = ledger.floor();
            ledger.pass(number);
            ledger.floor() > before
        };
        if has_risen {
            self.progress.notify_waiters();
        }
    }

    /// Is there something that the spool may forget, when it has forgotten what is below this number?
    pub(super) fn may_forget(&self, forgotten: u64) -> bool {
        let ledger = self.ledger.lock();
        ledger.floor() > forgotten || !ledger.returned().is_empty()
    }

    /// Is something done that was set aside? To forget it may take a while.
    pub(super) fn has_returned(&self) -> bool {
        !self.ledger.lock().returned().is_empty()
    }

    /// The spool forgets what is done: what is below which number. `None` when the files have failed. For one task at a time.
    pub(super) fn forget(&self) -> Option<u64> {
        let (floor, returned) = {
            let ledger = self.ledger.lock();
            (ledger.floor(), ledger.returned().to_vec())
        };
        let mut is_forgotten = returned.is_empty() || self.spool.forget_aside(&returned);
        if is_forgotten {
            self.ledger.lock().swept(returned.len());
        }
        is_forgotten &= self.spool.forget_before(floor);
        self.space.notify_waiters();
        is_forgotten.then_some(floor)
    }

    /// May there be events below this number that keep the spool from forgetting others?
    pub(super) fn is_held(&self, before: u64) -> bool {
        self.spool.has_untold() || self.ledger.lock().is_held(before)
    }

    /// Sets these events aside. It waits for the disk.
    pub(super) fn set_aside(&self, before: u64) {
        let stuck = self.ledger.lock().stuck(before);
        match self.spool.set_aside(&stuck) {
            Ok(kept) if kept.is_empty() => {}
            Ok(kept) => {
                tracing::debug!(events = kept.len(), "events that nobody takes yet were set aside");
                self.ledger.lock().set_aside(&kept);
                // There is something to forget.
                self.work.notify_one();
            }
            Err(error) => {
                tracing::warn!(%error, "events that nobody takes yet cannot be set aside; it is tried again");
            }
        }
    }

    /// Writes what could not be written, while nobody may be waiting for it any more; never completes.
    pub(super) async fn mend(&self) {
        loop {
            self.failing.notified().await;
            while !self.spool.retry() {
                tokio::time::sleep(RETRY).await;
            }
            self.work.notify_one();
        }
    }
}

/// Would it be refused for ever?
fn is_final(kind: PublishErrorKind) -> bool {
    match kind {
        PublishErrorKind::Invalid
        | PublishErrorKind::Rejected
        | PublishErrorKind::TooLarge
        | PublishErrorKind::WrongLast => true,
        PublishErrorKind::Closed
        | PublishErrorKind::NoResponders
        | PublishErrorKind::NotPermitted
        | PublishErrorKind::StreamFull
        | PublishErrorKind::Timeout
        | PublishErrorKind::Unknown => false,
    }
}

impl std::fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deliveries")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
