//! The tasks that run handlers: as many as may run at once, for as long as the session lasts.
//!
//! A task for each message, and a wake-up of the driver for each that is done, cost more than most handlers. So a worker takes
//! what waits, one after the other, and the driver is woken when it has something to do: nothing waits any more, many are
//! done, or one has taken its time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinSet, coop};

use super::counts::InFlight;
use super::lanes::Ticket;
use super::message::Message;
use super::work::{Handler, Verdict, Work};

/// So many that are done wake the driver, though others wait.
const CROWD: usize = 32;

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
}

struct Shared {
    work: Arc<Work>,
    handler: Handler,
    jobs: Mutex<Jobs>,
    /// As many permits as jobs that wait.
    waiting: Semaphore,
    /// Tells the driver.
    done: Notify,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<(Ticket, Message)>,
    done: Vec<Attempted>,
    /// Workers that run a handler.
    busy: usize,
}

impl Crew {
    /// At most so many at once.
    pub(super) fn new(work: Arc<Work>, handler: Handler, most: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                work,
                handler,
                jobs: Mutex::default(),
                waiting: Semaphore::new(0),
                done: Notify::new(),
            }),
            workers: JoinSet::new(),
            most,
        }
    }

    /// Has a message handled, behind those that wait.
    pub(super) fn add(&mut self, ticket: Ticket, message: Message) {
        let wants_worker = {
            let mut jobs = self.shared.jobs.lock();
            jobs.waiting.push_back((ticket, message));
            jobs.busy + jobs.waiting.len() > self.workers.len()
        };
        if wants_worker && self.workers.len() < self.most {
            self.workers.spawn(self.shared.clone().run());
        }
        self.shared.waiting.add_permits(1);
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
        while let Ok(permit) = self.waiting.acquire().await {
            permit.forget();
            let job = {
                let mut jobs = self.jobs.lock();
                let job = jobs.waiting.pop_front();
                jobs.busy += usize::from(job.is_some());
                job
            };
            let Some((ticket, message)) = job else { continue };
            let (verdict, was_slow) = self.attempt(&message).await;
            let is_telling = {
                let mut jobs = self.jobs.lock();
                jobs.busy -= 1;
                jobs.done.push(Attempted {
                    ticket,
                    message,
                    verdict,
                });
                was_slow || jobs.waiting.is_empty() || jobs.done.len() >= CROWD
            };
            if is_telling {
                self.done.notify_one();
            }
            // Handlers that never wait let others run.
            coop::consume_budget().await;
        }
    }

    /// What has become of it, and whether it had to wait for anything.
    async fn attempt(&self, message: &Message) -> (Verdict, bool) {
        let _in_flight = InFlight::begin(&self.work.counts);
        let mut attempt = pin!(self.work.attempt(&self.handler, message));
        let mut was_slow = false;
        let verdict = poll_fn(|cx| {
            let polled = attempt.as_mut().poll(cx);
            was_slow |= polled.is_pending();
            match polled {
                Poll::Ready(verdict) => Poll::Ready(verdict),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        (verdict, was_slow)
    }
}
