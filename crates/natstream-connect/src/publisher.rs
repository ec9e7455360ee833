//! Handing messages to a connection without ever waiting (rule 67 of the wire protocol).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::message::OutboundMessage;
use async_nats::{Client, PublishError};
use futures_util::SinkExt as _;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::task::coop;

/// Bytes that may wait inside async-nats, which counts its queue in commands only: 2,048 commands of 64 KiB would be
/// 128 MiB.
const MAX_UNWRITTEN: u64 = 8 << 20;

/// After how many bytes the driver asks the connection to report what it has written.
const REPORT_AFTER: u64 = 1 << 20;

/// How often a connection that is down is looked at again.
const RECHECK: Duration = Duration::from_millis(20);

/// The sending side of one connection, shared by all its streams.
///
/// Nothing waits and nothing is queued here: what cannot be handed over stays with its stream, which tries again when the
/// [`Driver`](crate::Driver) says so.
///
/// Memory: at most 8 MiB handed over and not yet written, and one message more.
#[derive(Debug)]
pub(crate) struct Publisher {
    sender: Mutex<Sender>,
    /// Wakes the driver's task when a report is wanted.
    wake: Arc<Notify>,
    handed: AtomicU64,
    written: AtomicU64,
}

#[derive(Debug)]
struct Sender {
    client: Client,
    /// Of the driver's task. Whoever finds the queue full leaves this waker behind: any other would take its place.
    waker: Waker,
}

impl Sender {
    /// Is there room in the queue of async-nats, without waiting for it? A place is reserved then; it is used next.
    fn poll_now(&mut self) -> Poll<Result<(), PublishError>> {
        let Self { client, waker } = self;
        // Tokio's cooperative budget would make an almost unused queue look full to a task that has worked for long.
        let poll = pin!(coop::unconstrained(poll_fn(|cx| client.poll_ready_unpin(cx))));
        poll.poll(&mut Context::from_waker(waker))
    }
}

impl Publisher {
    pub(crate) fn new(client: Client, wake: Arc<Notify>) -> Self {
        Self {
            sender: Mutex::new(Sender {
                client,
                waker: Waker::noop().clone(),
            }),
            wake,
            handed: AtomicU64::new(0),
            written: AtomicU64::new(0),
        }
    }

    /// The right to hand over messages. Hold it briefly; other streams wait for it.
    pub(crate) fn lock(&self) -> PublisherGuard<'_> {
        PublisherGuard {
            sender: self.sender.lock(),
            publisher: self,
        }
    }

    /// Completes when a message can be handed over; false when the connection is closed. For the driver only.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn ready(&self) -> bool {
        loop {
            let (queue, state) = {
                let mut sender = self.sender.lock();
                (sender.poll_now(), sender.client.connection_state())
            };
            match queue {
                Poll::Ready(Err(_)) => return false,
                _ if state == State::Connected => break,
                // async-nats lets nobody wait for its state. This runs only while something waits to be sent.
                _ => tokio::time::sleep(RECHECK).await,
            }
        }
        poll_fn(|cx| {
            let mut sender = self.sender.lock();
            sender.waker.clone_from(cx.waker());
            if self.unwritten() >= MAX_UNWRITTEN {
                // The report that is under way wakes the driver.
                return Poll::Pending;
            }
            match sender.client.poll_ready_unpin(cx) {
                Poll::Ready(ready) => Poll::Ready(ready.is_ok()),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// What was handed over, if so much of it may be unwritten that the connection should report.
    pub(crate) fn report_wanted(&self) -> Option<u64> {
        (self.unwritten() >= REPORT_AFTER).then(|| self.handed.load(Ordering::Acquire))
    }

    /// All bytes up to `handed` were written.
    pub(crate) fn flushed(&self, handed: u64) {
        self.written.fetch_max(handed, Ordering::AcqRel);
    }

    fn unwritten(&self) -> u64 {
        // `written` is read first: it never passes `handed`, which only grows.
        let written = self.written.load(Ordering::Acquire);
        self.handed.load(Ordering::Acquire).saturating_sub(written)
    }
}

/// The right to hand over messages.
#[derive(Debug)]
pub(crate) struct PublisherGuard<'a> {
    sender: MutexGuard<'a, Sender>,
    publisher: &'a Publisher,
}

impl PublisherGuard<'_> {
    /// A place for one message, if it can be handed over now. None while the connection is down.
    pub(crate) fn reserve(&mut self) -> Option<Slot<'_>> {
        if self.publisher.unwritten() >= MAX_UNWRITTEN || self.sender.client.connection_state() != State::Connected {
            return None;
        }
        match self.sender.poll_now() {
            Poll::Ready(Ok(())) => Some(Slot {
                client: &mut self.sender.client,
                publisher: self.publisher,
            }),
            _ => None,
        }
    }
}

/// A place for one message. Not using it does no harm: the next one gets it.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    client: &'a mut Client,
    publisher: &'a Publisher,
}

impl Slot<'_> {
    /// Hands the message over.
    ///
    /// # Errors
    /// When the message exceeds `max_payload`, or the connection has just been closed.
    pub(crate) fn publish(self, message: OutboundMessage) -> Result<(), PublishError> {
        let bytes = message.payload.len() as u64;
        self.client.start_send_unpin(message)?;
        let before = self.publisher.unwritten();
        self.publisher.handed.fetch_add(bytes, Ordering::AcqRel);
        if before < REPORT_AFTER && before + bytes >= REPORT_AFTER {
            self.publisher.wake.notify_one();
        }
        Ok(())
    }
}
