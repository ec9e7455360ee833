//! What all calls of a pool on one connection share.

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Weak};

use async_nats::message::OutboundMessage;
use async_nats::{Message, Subject};
use natstream_connect::{Connection, Driver, KeptRouter, Outbox, RateLimit, Router, Unrouted};
use stream_proto::{Budget, CloseCode, Frame, Instant};

use crate::call::bare_empty;
use crate::common::Common;
use crate::error::RequestError;
use crate::flush::Unconfirmed;

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

/// One connection of a pool, with the subscription for its answers.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) connection: Connection,
    pub(crate) driver: Driver,
    pub(crate) windows: Budget,
    pub(crate) common: Arc<Common>,
    /// What was published, and not confirmed.
    pub(crate) unconfirmed: Unconfirmed,
    shared: Arc<Shared>,
    /// What the subjects of this connection's own inboxes begin with.
    inbox: String,
    router: KeptRouter,
}

impl Host {
    pub(crate) fn new(connection: Connection, common: Arc<Common>) -> Self {
        let driver = connection.driver().clone();
        let shared = connection.shared(|| Shared {
            windows: Budget::within(WINDOWS, &ALL_WINDOWS),
            refusals: RateLimit::new(REFUSALS_PER_SECOND, driver.now()),
            outbox: Outbox::new(driver.clone(), ENDS),
        });
        Self {
            windows: shared.windows.clone(),
            inbox: format!("{}.", connection.inbox_prefix()),
            driver,
            shared,
            connection,
            common,
            unconfirmed: Unconfirmed::default(),
            router: KeptRouter::default(),
        }
    }

    /// The reply subjects; subscribed when the first request is made.
    pub(crate) async fn router(self: &Arc<Self>, subject: &str) -> Result<Router, RequestError> {
        let router = self.router.get(&self.connection, || self.strays()).await;
        router.map_err(|error| RequestError::connection(subject, error))
    }

    /// What takes the messages for calls that are over.
    pub(crate) fn strays(self: &Arc<Self>) -> Arc<dyn Unrouted> {
        Arc::new(Strays {
            host: Arc::downgrade(self),
        })
    }

    /// How often the connection has connected; its published state lags a little.
    pub(crate) fn epoch(&self) -> u64 {
        self.connection.nats().statistics().connects.load(Ordering::Acquire)
    }

    /// Has it ended for good?
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.state().borrow().is_closed()
    }

    /// Has it ended without a confirmation of what was published here?
    pub(crate) fn has_lost(&self) -> bool {
        let since = self.unconfirmed.since();
        since.is_some_and(|epoch| self.is_closed() && !self.connection.is_confirmed(epoch))
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.driver.nanos(self.driver.now()))
    }

    /// May a responder be answered at `reply`? Counts those that may not.
    pub(crate) fn is_safe(&self, reply: &str) -> bool {
        let is_safe = stream_proto::is_safe_reply(reply, NONE)
            || (stream_proto::is_safe_reply(reply, &self.common.prefixes)
                || stream_proto::is_safe_reply(reply, &[&self.inbox]))
                && !self.connection.serves(reply);
        if !is_safe {
            self.common.stats.lock().refused_subjects += 1;
            tracing::debug!(
                ?reply,
                "a control subject is not below a configured prefix, or served here, and is not used"
            );
        }
        is_safe
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
}

/// Messages for calls that are over: whoever still sends is told so (rule 9).
#[derive(Debug)]
struct Strays {
    // Weak: the router, which owns this, is owned by the host.
    host: Weak<Host>,
}

impl Unrouted for Strays {
    fn unrouted(&self, message: Message) {
        let Some(host) = self.host.upgrade() else { return };
        host.common.stats.lock().strays += 1;
        let control = message.reply.filter(|reply| host.is_safe(reply));
        let Some(control) = control else {
            return;
        };
        if let Ok(frame @ (Frame::Unit(_) | Frame::Beat { .. })) = Frame::decode(&message.payload) {
            host.refuse_stray(control, frame.sid());
        }
    }
}

const NONE: &[&str] = &[];
