//! The tasks that run handlers: as many as may run at once, for as long as the session lasts.
//!
//! A task for each message, and a wake-up for each that comes and for each that is done, cost more than most handlers. So the
//! driver itself begins a handler, and those that are done at once are done. One that has to wait for something goes on in a
//! worker. After one that computed for long, workers have the next ones from the beginning: one takes what waits, and another
//! one is woken when a handler has to wait or computes for long; the driver, when nothing waits any more, many are done, or
//! one was slow.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use natstream_connect::Driver;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinSet, coop};
use tokio::time::Instant;
use tokio_util::sync::ReusableBoxFuture;

use super::counts::InFlight;
use super::message::Message;
use super::work::{Handler, Verdict, Work};
use crate::lanes::Ticket;

/// So many that are done wake the driver, though others wait.
const CROWD: usize = 32;

/// After one that computed for long, so many are expected to.
const EXPECTED: u32 = 64;

/// How long a message waits at most while a worker sleeps: one that computes says nothing before it is done.
pub(super) const PATIENCE: u64 = 1_000_000;

/// A handler that computes for so long is worth a worker of its own: waking one takes a few microseconds.
const LONG: Duration = Duration::from_micros(5);

/// An attempt that has begun.
type Attempt = ReusableBoxFuture<'static, Verdict>;

/// What an attempt gives back.
#[derive(Debug)]
pub(super) struct Attempted {
    pub(super) ticket: Ticket,
    pub(super) message: Message,
    pub(super) verdict: Verdict,
}

/// The workers of a session. Dropped, they end where they are.
pub(super) struct Crew {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
    most: usize,
    /// The memory of one that was done at once.
    spare: Option<Attempt>,
}

struct Shared {
    work: Arc<Work>,
    handler: Handler,
    jobs: Mutex<Jobs>,
    /// A permit for each worker that was woken and has not come yet.
    wakes: Semaphore,
    /// Tells the driver.
    done: Notify,
}

/// A message to be handled.
struct Job {
    ticket: Ticket,
    message: Message,
    /// It has begun, and waits for something.
    begun: Option<Attempt>,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    done: Vec<Attempted>,
    workers: usize,
    /// Workers that sleep, and were not woken.
    idle: usize,
    /// Workers that look for jobs, or compute: not those whose handlers wait for something.
    active: usize,
    /// So many handlers may compute for long, since one did.
    long: u32,
}

impl Jobs {
    /// Is a worker to be woken? Then it counts as active.
    fn wakes(&mut self) -> bool {
        let wakes = !self.waiting.is_empty() && self.idle > 0 && (self.active == 0 || self.long > 0);
        self.idle -= usize::from(wakes);
        self.active += usize::from(wakes);
        wakes
    }
}

impl Crew {
    /// At most so many at once.
    pub(super) fn new(work: Arc<Work>, handler: Handler, most: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                work,
                handler,
                jobs: Mutex::default(),
                wakes: Semaphore::new(0),
                done: Notify::new(),
            }),
            workers: JoinSet::new(),
            most,
            spare: None,
        }
    }

    /// May this one end the process?
    pub(super) fn is_suspect(&self, message: &Message) -> bool {
        self.shared.work.is_suspect(message)
    }

    /// May the driver begin a handler? Then nobody waits, no more run than may, and they are quick.
    pub(super) fn is_free(&self) -> bool {
        let jobs = self.shared.jobs.lock();
        jobs.long == 0 && jobs.waiting.is_empty() && jobs.workers - jobs.idle < self.most
    }

    /// Begins a handler. What has become of it, if it was done at once; otherwise it goes on in a worker.
    ///
    /// `began` is now, and is brought forward: reading the clock once for each is enough.
    pub(super) fn begin(&mut self, ticket: Ticket, message: Message, began: &mut Instant) -> Option<Attempted> {
        let (shared, own) = (self.shared.clone(), message.clone());
        let handle = async move {
            let _in_flight = InFlight::begin(&shared.work.counts);
            shared.work.attempt(&shared.handler, &own).await
        };
        let mut attempt = match self.spare.take() {
            Some(mut spare) => {
                spare.set(handle);
                spare
            }
            None => Attempt::new(handle),
        };
        // Without a budget: it would seem to wait when the driver has none left.
        let verdict = coop::unconstrained(&mut attempt).now_or_never();
        let ended = Driver::clock();
        if ended.saturating_duration_since(std::mem::replace(began, ended)) >= LONG {
            self.shared.jobs.lock().long = EXPECTED;
        }
        if let Some(verdict) = verdict {
            self.spare = Some(attempt);
            return Some(Attempted {
                ticket,
                message,
                verdict,
            });
        }
        self.push(Job {
            ticket,
            message,
            begun: Some(attempt),
        });
        None
    }

    /// Has a message handled by a worker, behind those that wait.
    pub(super) fn add(&mut self, ticket: Ticket, message: Message) {
        self.push(Job {
            ticket,
            message,
            begun: None,
        });
    }

    fn push(&mut self, job: Job) {
        let mut jobs = self.shared.jobs.lock();
        jobs.waiting.push_back(job);
        // As many as there may be work for: one that is active takes it all, as long as nothing is slow.
        let wants_worker = jobs.workers < self.most && jobs.waiting.len() > jobs.idle;
        jobs.workers += usize::from(wants_worker);
        jobs.idle += usize::from(wants_worker);
        let wakes = jobs.wakes();
        drop(jobs);
        if wants_worker {
            self.workers.spawn(self.shared.clone().run());
        }
        if wakes {
            self.shared.wakes.add_permits(1);
        }
    }

    /// Does a message wait while a worker sleeps?
    pub(super) fn is_waiting(&self) -> bool {
        let jobs = self.shared.jobs.lock();
        !jobs.waiting.is_empty() && jobs.idle > 0
    }

    /// Wakes a worker for a message that has waited.
    pub(super) fn nudge(&self) {
        let wakes = {
            let mut jobs = self.shared.jobs.lock();
            let wakes = !jobs.waiting.is_empty() && jobs.idle > 0;
            jobs.idle -= usize::from(wakes);
            jobs.active += usize::from(wakes);
            wakes
        };
        if wakes {
            self.shared.wakes.add_permits(1);
        }
    }

    /// Waits until there is something to [take](Self::take_done).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn done(&self) {
        self.shared.done.notified().await;
    }

    /// Those that are done; `done` must be empty, and its memory is used again.
    pub(super) fn take_done(&self, done: &mut Vec<Attempted>) {
        debug_assert!(done.is_empty(), "it is swapped");
        std::mem::swap(&mut self.shared.jobs.lock().done, done);
    }

    /// Ends all of them where they are.
    pub(super) fn abort(&mut self) {
        self.workers.abort_all();
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        // Closed by nobody: the session ends its workers.
        while let Ok(permit) = self.wakes.acquire().await {
            permit.forget();
            while let Some(Job { ticket, message, begun }) = self.next() {
                let (verdict, has_waited, is_long) = match begun {
                    Some(attempt) => self.watch(attempt).await,
                    None => {
                        let _in_flight = InFlight::begin(&self.work.counts);
                        self.watch(pin!(self.work.attempt(&self.handler, &message))).await
                    }
                };
                let attempted = Attempted {
                    ticket,
                    message,
                    verdict,
                };
                self.finish(attempted, has_waited, is_long);
                // Handlers that never wait let others run.
                coop::consume_budget().await;
            }
        }
    }

    /// The next job; without one the worker sleeps.
    fn next(&self) -> Option<Job> {
        let mut jobs = self.jobs.lock();
        let job = jobs.waiting.pop_front();
        if job.is_none() {
            jobs.active -= 1;
            jobs.idle += 1;
        }
        let wakes = jobs.wakes();
        drop(jobs);
        if wakes {
            self.wakes.add_permits(1);
        }
        job
    }

    /// A handler waits for something; others need not wait for it.
    fn wait(&self) {
        let wakes = {
            let mut jobs = self.jobs.lock();
            jobs.active -= 1;
            jobs.wakes()
        };
        if wakes {
            self.wakes.add_permits(1);
        }
        // What was done before it does not wait either.
        self.work.acks.kick();
    }

    fn finish(&self, attempted: Attempted, has_waited: bool, is_long: bool) {
        let mut jobs = self.jobs.lock();
        jobs.done.push(attempted);
        jobs.active += usize::from(has_waited);
        jobs.long = if is_long { EXPECTED } else { jobs.long.saturating_sub(1) };
        let tells = has_waited || is_long || jobs.waiting.is_empty() || jobs.done.len() >= CROWD;
        drop(jobs);
        if tells {
            self.work.acks.kick();
            self.done.notify_one();
        }
    }

    /// What has become of an attempt, whether it had to wait for something, and whether it computed for long.
    async fn watch(&self, mut attempt: impl Future<Output = Verdict> + Unpin) -> (Verdict, bool, bool) {
        let began = Driver::clock();
        let mut has_waited = false;
        let verdict = poll_fn(|cx| {
            let polled = attempt.poll_unpin(cx);
            if polled.is_pending() && !std::mem::replace(&mut has_waited, true) {
                self.wait();
            }
            polled
        })
        .await;
        let is_long = !has_waited && began.elapsed() >= LONG;
        (verdict, has_waited, is_long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(idle: usize, active: usize, waiting: usize) -> Jobs {
        let message = crate::consume::message::sample("a", &[]);
        let mut lanes = crate::lanes::Lanes::new();
        (0..waiting).for_each(|_| lanes.add(None, message.clone()));
        Jobs {
            waiting: std::iter::from_fn(|| lanes.next())
                .map(|(ticket, message)| Job {
                    ticket,
                    message,
                    begun: None,
                })
                .collect(),
            idle,
            active,
            ..Jobs::default()
        }
    }

    #[test]
    fn a_worker_is_woken_where_none_is_active_or_handlers_take_long() {
        for (idle, active, waiting, long, wakes) in [
            (1, 0, 1, 0, true),
            (1, 0, 0, 0, false),
            (0, 0, 1, 0, false),
            (1, 1, 1, 0, false),
            (1, 1, 1, 3, true),
        ] {
            let mut jobs = jobs(idle, active, waiting);
            jobs.long = long;
            assert_eq!(jobs.wakes(), wakes, "{idle} {active} {waiting} {long}");
            assert_eq!(
                (jobs.idle, jobs.active),
                (idle - usize::from(wakes), active + usize::from(wakes))
            );
        }
    }
}
