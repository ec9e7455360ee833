//! What all calls of a pool share, whichever connection they are made on.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use stream_proto::InboundStats;
use tokio::sync::{Notify, Semaphore};

use crate::call::Call;
use crate::offline::Client;
use crate::retry_budget::RetryBudget;

/// Counters of a [`Pool`](crate::Pool), of calls that are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Attempts of calls that ended, whatever the verdict; also those that could not be sent.
    pub attempts: u64,
    /// Attempts of calls, and requests for one reply, that run at this moment.
    pub in_flight: u64,
    /// Requests for one reply that were sent and have ended, with a reply or without.
    pub requests: u64,
    /// Messages that were handed over by [`publish`](crate::Pool::publish).
    pub published: u64,
    /// Attempts that were made again, by a [`RetryPolicy`](crate::RetryPolicy) or to resume.
    pub retries: u64,
    /// Items received.
    pub items: u64,
    /// Messages that arrived a second time and were dropped.
    pub retransmitted: u64,
    /// Gaps seen: something was lost on the way, and asked for again.
    pub gaps: u64,
    /// Messages of another responder than the one that the stream was bound to.
    pub foreign_responder: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Messages of unknown kinds, with unknown flags, or after the end.
    pub ignored: u64,
    /// Suspicions that a responder was gone, after a 503.
    pub suspicions: u64,
    /// Messages for calls that were over.
    pub strays: u64,
    /// Subjects that a responder named and that were not used, since they may not be sent to.
    pub refused_subjects: u64,
}

#[derive(Debug)]
pub(crate) struct Common {
    /// What subjects that a responder names may begin with, beside `_INBOX`, `_R_.` and the own inbox prefix (rule 6).
    pub(crate) prefixes: Vec<String>,
    pub(crate) retries: RetryBudget,
    /// Places for calls that run at a time, where that is limited.
    pub(crate) places: Option<Arc<Semaphore>>,
    pub(crate) stats: Mutex<PoolStats>,
    #[cfg(feature = "metrics")]
    pub(crate) times: crate::observed::Times,
    running: Mutex<Running>,
    /// Those that have a name of their own.
    pub(crate) clients: Mutex<HashMap<String, Weak<Client>>>,
    idle: Notify,
}

/// What waits for an answer: an attempt of a call, or a request for one reply.
pub(crate) trait Waits: Send + Sync + 'static {
    /// The pool gives it up.
    fn give_up(self: Arc<Self>);
}

/// What has not ended, by its address.
#[derive(Default)]
struct Running {
    calls: HashMap<usize, Weak<dyn Waits>>,
    is_closed: bool,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("calls", &self.calls.len())
            .field("is_closed", &self.is_closed)
            .finish()
    }
}

impl Common {
    pub(crate) fn new(prefixes: Vec<String>, retries: RetryBudget, max_in_flight: Option<usize>) -> Self {
        Self {
            prefixes,
            retries,
            places: max_in_flight.map(|calls| Arc::new(Semaphore::new(calls.min(Semaphore::MAX_PERMITS)))),
            stats: Mutex::default(),
            #[cfg(feature = "metrics")]
            times: crate::observed::Times::new(),
            running: Mutex::default(),
            clients: Mutex::default(),
            idle: Notify::new(),
        }
    }

    /// An attempt or a request begins; false when the pool takes none any more.
    pub(crate) fn began<W: Waits>(&self, call: &Arc<W>) -> bool {
        let mut running = self.running.lock();
        if !running.is_closed {
            let waits: Weak<W> = Arc::downgrade(call);
            running.calls.insert(Arc::as_ptr(call).addr(), waits);
        }
        !running.is_closed
    }

    /// The client of this name, which its running calls share.
    pub(crate) fn client(&self, name: &str) -> Arc<Client> {
        let mut clients = self.clients.lock();
        clients.retain(|_, client| client.strong_count() > 0);
        if let Some(client) = clients.get(name).and_then(Weak::upgrade) {
            return client;
        }
        let client = Arc::new(Client::new(name));
        clients.insert(name.to_owned(), Arc::downgrade(&client));
        client
    }

    /// Was the pool drained?
    pub(crate) fn is_closed(&self) -> bool {
        self.running.lock().is_closed
    }

    /// Takes no more calls.
    pub(crate) fn close(&self) {
        self.running.lock().is_closed = true;
    }

    /// Completes when nothing waits for an answer.
    pub(crate) async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.running.lock().calls.is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Gives up what is running, and returns how many that were.
    pub(crate) fn cancel_all(&self) -> usize {
        let calls: Vec<_> = self.running.lock().calls.values().filter_map(Weak::upgrade).collect();
        for call in &calls {
            call.clone().give_up();
        }
        calls.len()
    }

    /// An attempt has ended: adds what it has counted.
    pub(crate) fn ended(&self, call: &Call, attempt: &InboundStats) {
        self.left(call);
        let mut stats = self.stats.lock();
        stats.attempts += 1;
        stats.items += attempt.items;
        stats.retransmitted += attempt.retransmitted;
        stats.gaps += attempt.gaps;
        stats.foreign_responder += attempt.foreign_responder;
        stats.malformed += attempt.malformed;
        stats.ignored += attempt.ignored;
        stats.suspicions += attempt.suspicions;
    }

    /// A request for one reply has ended, or could not be sent just now.
    pub(crate) fn request_ended(&self, request: &impl Waits, was_sent: bool) {
        self.left(request);
        self.stats.lock().requests += u64::from(was_sent);
    }

    fn left<W: Waits>(&self, call: &W) {
        let mut running = self.running.lock();
        running.calls.remove(&std::ptr::from_ref(call).addr());
        if running.calls.is_empty() {
            self.idle.notify_waiters();
        }
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let in_flight = self.running.lock().calls.len() as u64;
        PoolStats {
            in_flight,
            ..*self.stats.lock()
        }
    }
}
