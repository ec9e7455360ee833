//! What all calls of a pool share.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use async_nats::Subject;
use async_nats::message::OutboundMessage;
use natstream_connect::{Connection, Driver, Outbox, RateLimit};
use parking_lot::Mutex;
use stream_proto::{Budget, CloseCode, Frame, InboundStats, Instant};
use tokio::sync::Notify;

use crate::call::{Call, bare_empty};
use crate::offline::Client;
use crate::retry_budget::RetryBudget;

/// What the windows of all streams of one connection may add up to, beside the 8 KiB that each has always (rule 34).
///
/// nats-server stalls the responder for everybody when 48 MiB wait for one connection, and cuts it at 64 MiB.
const WINDOWS: u64 = 16 << 20;

/// What the windows of all connections of this process may add up to.
const PROCESS_WINDOWS: u64 = 256 << 20;

/// What all items of this process that are being put together from several messages may add up to (rule 35). A stream
/// that exceeds it fails.
const ASSEMBLIES: u64 = 256 << 20;

/// What may wait for readers in all calls of this process that have no flow control. A call that exceeds it is lost.
const BUFFERS: u64 = 256 << 20;

pub(crate) static BUFFERED: LazyLock<Budget> = LazyLock::new(|| Budget::new(BUFFERS));

static ALL_WINDOWS: LazyLock<Budget> = LazyLock::new(|| Budget::new(PROCESS_WINDOWS));

pub(crate) static ASSEMBLY: LazyLock<Budget> = LazyLock::new(|| Budget::new(ASSEMBLIES));

/// Answers a second to messages of streams that nobody waits for (rules 8 and 9).
const REFUSALS_PER_SECOND: u32 = 100;

/// Messages that end mappings and wait for a connection that is busy, of about 200 bytes.
const ENDS: usize = 16_384;

/// What all pools of one connection share.
#[derive(Debug)]
struct Shared {
    windows: Budget,
    refusals: RateLimit,
    /// What ends mappings of calls that are over.
    outbox: Arc<Outbox>,
}

/// Counters of a [`Pool`](crate::Pool), of calls that are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Attempts that ended, whatever the verdict; also those that could not be sent.
    pub attempts: u64,
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
pub(crate) struct Host {
    pub(crate) connection: Connection,
    pub(crate) driver: Driver,
    pub(crate) windows: Budget,
    shared: Arc<Shared>,
    /// What subjects that a responder names may begin with, beside `_INBOX` and `_R_.` (rule 6).
    prefixes: Vec<String>,
    pub(crate) retries: RetryBudget,
    stats: Mutex<PoolStats>,
    running: Mutex<Running>,
    /// Those that have a name of their own.
    pub(crate) clients: Mutex<HashMap<String, Weak<Client>>>,
    idle: Notify,
}

/// The attempts that have not ended, by their addresses.
#[derive(Debug, Default)]
struct Running {
    calls: HashMap<usize, Weak<Call>>,
    is_closed: bool,
}

impl Host {
    pub(crate) fn new(connection: Connection, prefixes: Vec<String>, retries: RetryBudget) -> Self {
        let driver = connection.driver().clone();
        let shared = connection.shared(|| Shared {
            windows: Budget::within(WINDOWS, &ALL_WINDOWS),
            refusals: RateLimit::new(REFUSALS_PER_SECOND, driver.now()),
            outbox: Outbox::new(driver.clone(), ENDS),
        });
        Self {
            windows: shared.windows.clone(),
            driver,
            shared,
            connection,
            prefixes,
            retries,
            stats: Mutex::default(),
            running: Mutex::default(),
            clients: Mutex::default(),
            idle: Notify::new(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.driver.nanos(self.driver.now()))
    }

    /// May a responder be answered at `reply`? Counts those that may not.
    pub(crate) fn is_safe(&self, reply: &str) -> bool {
        let is_safe = stream_proto::is_safe_reply(reply, NONE)
            || stream_proto::is_safe_reply(reply, &self.prefixes) && !self.connection.serves(reply);
        if !is_safe {
            self.stats.lock().refused_subjects += 1;
            tracing::debug!(
                ?reply,
                "a control subject is not below a configured prefix, or served here, and is not used"
            );
        }
        is_safe
    }

    /// An attempt begins; false when the pool takes none any more.
    pub(crate) fn began(&self, call: &Arc<Call>) -> bool {
        let mut running = self.running.lock();
        if !running.is_closed {
            running.calls.insert(Arc::as_ptr(call).addr(), Arc::downgrade(call));
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

    /// Completes when no attempt is running.
    pub(crate) async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.running.lock().calls.is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Cancels what is running, and returns how many attempts that were.
    pub(crate) fn cancel_all(&self) -> usize {
        let calls: Vec<_> = self.running.lock().calls.values().filter_map(Weak::upgrade).collect();
        for call in &calls {
            call.cancel();
        }
        calls.len()
    }

    /// An attempt has ended: adds what it has counted.
    pub(crate) fn ended(&self, call: &Call, attempt: &InboundStats) {
        let mut running = self.running.lock();
        running.calls.remove(&std::ptr::from_ref(call).addr());
        if running.calls.is_empty() {
            self.idle.notify_waiters();
        }
        drop(running);
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

    /// Tells a responder that its call is over, or never was (rule 9).
    pub(crate) fn refuse_stray(&self, control: Subject, sid: u32) {
        // Nothing lives on a mapped reply subject any more, so the responder is to end that mapping too.
        let code = if stream_proto::is_mapped(&control) {
            CloseCode::Cancelled
        } else {
            CloseCode::Unwanted
        };
        self.refuse(control, sid, code);
    }

    /// Tells a responder that nobody here waits for its stream (rules 8 and 9). Skipped when the connection is busy, or when
    /// that was said often just now.
    ///
    /// A mapped subject is always told, if need be later: nats-server keeps the mapping until then, and lets no client make
    /// one up.
    pub(crate) fn refuse(&self, control: Subject, sid: u32, code: CloseCode) {
        let close = OutboundMessage {
            subject: control.clone(),
            reply: None,
            payload: Frame::Close { sid, code }.encode(),
            headers: None,
        };
        if stream_proto::is_mapped(&control) {
            // The mapping ends with it (rule 61).
            self.send_later(vec![close, bare_empty(control)]);
        } else if self.shared.refusals.allow(self.driver.now()) {
            let _ = self.driver.try_send(close);
        }
    }

    /// Ends the mapping of a control subject (rule 61).
    pub(crate) fn end_mapping(&self, control: Subject) {
        self.send_later(vec![bare_empty(control)]);
    }

    fn send_later(&self, messages: Vec<OutboundMessage>) {
        if !self.shared.outbox.send(messages) {
            tracing::warn!("a mapping was left to nats-server: too many wait to be ended");
        }
    }

    pub(crate) fn count_stray(&self) {
        self.stats.lock().strays += 1;
    }

    pub(crate) fn stats(&self) -> PoolStats {
        *self.stats.lock()
    }
}

const NONE: &[&str] = &[];
