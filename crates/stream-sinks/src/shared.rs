//! The queue with its lock and its waiters.

use std::{cell::Cell, path::Path, path::PathBuf, ptr, sync::Arc, task::Poll, task::Waker, time::Duration};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::{
    Receipt, SinkError, SinkErrorKind,
    clock::{Clock, timestamp},
    queue::{Done, Gate, Piece, Queue, Refusal, Work},
};

thread_local! {
    /// The address of what a writer's thread writes.
    static WRITES: Cell<usize> = const { Cell::new(0) };
}

pub(crate) struct Shared {
    queue: Mutex<Queue>,
    /// The writer's thread waits here for work.
    work: Condvar,
    /// Producers and flushers without a runtime wait here.
    progress: Condvar,
    pub(crate) clock: Arc<dyn Clock>,
    current_file: Mutex<Option<PathBuf>>,
}

/// A flush that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flush {
    target: u64,
    failures: u64,
}

impl Shared {
    pub(crate) fn new(queue: Queue, clock: Arc<dyn Clock>) -> Self {
        Self {
            queue: Mutex::new(queue),
            work: Condvar::new(),
            progress: Condvar::new(),
            clock,
            current_file: Mutex::default(),
        }
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Appends, or says that there is no room now. `Pending` only with a waker.
    #[inline]
    pub(crate) fn poll_push(&self, piece: &Piece<'_>, waker: Option<&Waker>) -> Poll<Result<u64, SinkError>> {
        let mut queue = self.queue.lock();
        match queue.push(piece, &*self.clock) {
            Ok((number, false)) => Poll::Ready(Ok(number)),
            Ok((number, true)) => {
                drop(queue);
                self.work.notify_one();
                Poll::Ready(Ok(number))
            }
            Err(Refusal::Error(error)) => Poll::Ready(Err(error)),
            Err(Refusal::Full) => {
                self.work.notify_one();
                let Some(waker) = waker else {
                    return Poll::Ready(Err(SinkError::new(SinkErrorKind::Full, "the buffer is full")));
                };
                queue.wait(waker);
                Poll::Pending
            }
        }
    }

    pub(crate) fn push_blocking(&self, piece: &Piece<'_>) -> Result<u64, SinkError> {
        let mut queue = self.queue.lock();
        loop {
            match queue.push(piece, &*self.clock) {
                Ok((number, wake)) => {
                    drop(queue);
                    if wake {
                        self.work.notify_one();
                    }
                    return Ok(number);
                }
                Err(Refusal::Error(error)) => return Err(error),
                Err(Refusal::Full) if self.is_own_thread() => {
                    return Err(SinkError::new(SinkErrorKind::Full, "the buffer is full"));
                }
                Err(Refusal::Full) => {
                    self.work.notify_one();
                    self.progress.wait(&mut queue);
                }
            }
        }
    }

    pub(crate) fn flush(&self) -> Flush {
        self.ask(Queue::ask_flush)
    }

    pub(crate) fn roll(&self) -> Flush {
        self.ask(Queue::ask_roll)
    }

    pub(crate) fn roll_overdue(&self, wait: Duration) -> bool {
        let rolls = self.queue.lock().ask_roll_overdue(timestamp(self.clock.now()), wait);
        self.work.notify_one();
        rolls
    }

    fn ask(&self, what: impl FnOnce(&mut Queue) -> u64) -> Flush {
        let mut queue = self.queue.lock();
        let flush = Flush {
            target: what(&mut queue),
            failures: queue.failures(),
        };
        drop(queue);
        self.work.notify_one();
        flush
    }

    pub(crate) fn poll_flush(&self, flush: Flush, waker: &Waker) -> Poll<Result<Receipt, SinkError>> {
        let mut queue = self.queue.lock();
        match queue.poll_flush(flush.target, flush.failures) {
            Some(result) => Poll::Ready(result.map(|()| receipt(&queue))),
            None => {
                queue.wait(waker);
                Poll::Pending
            }
        }
    }

    pub(crate) fn flush_blocking(&self, flush: Flush) -> Result<Receipt, SinkError> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(result) = queue.poll_flush(flush.target, flush.failures) {
                return result.map(|()| receipt(&queue));
            }
            self.progress.wait(&mut queue);
        }
    }

    pub(crate) fn close(&self) {
        let elapsed = self.clock.elapsed();
        self.queue.lock().ask_close(elapsed);
        self.work.notify_one();
        // Those who wait for room get an error.
        self.wake();
    }

    pub(crate) fn poll_closed(&self, waker: &Waker) -> Poll<Result<Receipt, SinkError>> {
        let mut queue = self.queue.lock();
        match queue.poll_closed() {
            Some(result) => Poll::Ready(result.map(|()| receipt(&queue))),
            None => {
                queue.wait(waker);
                Poll::Pending
            }
        }
    }

    pub(crate) fn closed_blocking(&self) -> Result<Receipt, SinkError> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(result) = queue.poll_closed() {
                return result.map(|()| receipt(&queue));
            }
            self.progress.wait(&mut queue);
        }
    }

    /// Whether records are accepted; an error when they never will be again.
    pub(crate) fn poll_ready(&self, waker: &Waker) -> Poll<Result<(), SinkError>> {
        let mut queue = self.queue.lock();
        match queue.gate() {
            Gate::Open => Poll::Ready(Ok(())),
            Gate::Blocked => {
                queue.wait(waker);
                Poll::Pending
            }
            Gate::Closing | Gate::Closed => {
                Poll::Ready(Err(SinkError::new(SinkErrorKind::Closed, "the sink is closed")))
            }
        }
    }

    /// The file in progress, which the writer's thread [tells](Self::set_current_file).
    pub(crate) fn current_file(&self) -> Option<PathBuf> {
        self.current_file.lock().clone()
    }

    pub(crate) fn set_current_file(&self, path: Option<&Path>) {
        let mut current = self.current_file.lock();
        if current.as_deref() != path {
            *current = path.map(Path::to_owned);
        }
    }

    pub(crate) fn receipt(&self) -> Receipt {
        receipt(&self.queue.lock())
    }

    /// For the writer's thread: waits for something to do.
    pub(crate) fn next_work(&self) -> Work {
        let mut queue = self.queue.lock();
        loop {
            let elapsed = self.clock.elapsed();
            match queue.poll_work(elapsed, timestamp(self.clock.now())) {
                Work::Wait(Some(until)) if self.clock.runs() => {
                    self.work.wait_for(&mut queue, until.saturating_sub(elapsed));
                }
                Work::Wait(_) => self.work.wait(&mut queue),
                work => return work,
            }
        }
    }

    pub(crate) fn complete(&self, done: Done) {
        let elapsed = self.clock.elapsed();
        let news = self.queue.lock().complete(done, elapsed);
        self.wake();
        if let Some(news) = news {
            news.log();
        }
    }

    /// Called by the writer's thread when it starts.
    pub(crate) fn own_thread(&self) {
        WRITES.set(ptr::from_ref(self).addr());
    }

    /// Whether this is the writer's thread, which must not wait for itself: it logs, and the log may be written here.
    pub(crate) fn is_own_thread(&self) -> bool {
        WRITES.get() == ptr::from_ref(self).addr()
    }

    /// Time has changed without passing.
    pub(crate) fn look_at_clock(&self) {
        // With the lock, so that the thread is either before its look at the clock, or waits.
        let _queue = self.queue.lock();
        self.work.notify_one();
    }

    pub(crate) fn end(&self) {
        self.queue.lock().end();
        self.wake();
    }

    fn wake(&self) {
        let wakers = self.queue.lock().take_wakers();
        self.progress.notify_all();
        for waker in wakers {
            waker.wake();
        }
    }
}

fn receipt(queue: &Queue) -> Receipt {
    Receipt {
        survive_kill: queue.written(),
        survive_power_loss: queue.synced(),
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
