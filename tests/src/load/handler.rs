//! What answers the calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use natstream::{CloseReason, Endpoint, HandlerError, Request, ResponseSender, SendErrorKind, ServeError, Server};

use super::item::Item;
use super::plan::{End, Plan};

/// What the handlers of all responders of a run have in common.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    running: AtomicUsize,
    unclosed: AtomicUsize,
    reasons: Mutex<BTreeMap<String, u64>>,
    wrong: Mutex<Vec<String>>,
}

impl Ledger {
    /// Handlers that run, and streams whose `closed()` has not resolved. Those of a responder that was killed count no more.
    #[must_use]
    pub fn open(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (count(&self.inner.running), count(&self.inner.unclosed))
    }

    /// What `closed()` has resolved to, and how often.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<String, u64> {
        self.inner
            .reasons
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What handlers saw that must not be.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        self.inner.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_wrong(&self, text: String) {
        self.inner
            .wrong
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
    }

    fn note_closed(&self, call: u32, reason: CloseReason) {
        // Nobody breaks the protocol here, and nobody stands still for minutes.
        if matches!(reason, CloseReason::Protocol | CloseReason::Stalled) {
            self.note_wrong(format!("the stream of call {call} was closed: {reason:?}"));
        }
        let mut reasons = self.inner.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        *reasons.entry(format!("{reason:?}")).or_default() += 1;
    }
}

/// Counts what runs, until it is dropped.
struct Counted(Arc<Inner>, fn(&Inner) -> &AtomicUsize);

impl Counted {
    fn new(ledger: &Ledger, which: fn(&Inner) -> &AtomicUsize) -> Self {
        which(&ledger.inner).fetch_add(1, Ordering::Relaxed);
        Self(ledger.inner.clone(), which)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

/// The header in which a handler says whose it is.
pub(super) const RESPONDER: &str = "Responder";

/// Serves `subject` with the handler of the run with this seed, as responder number `responder`.
///
/// # Errors
/// As awaiting the endpoint.
pub async fn serve(
    server: &Server,
    subject: &str,
    seed: u64,
    responder: usize,
    ledger: Ledger,
) -> Result<Endpoint, ServeError> {
    let handler = move |request: Request, mut out: ResponseSender| {
        let ledger = ledger.clone();
        async move {
            let Some((call, first)) = Plan::asked(request.payload()) else {
                // Not a word about an empty one: it only wants an answer.
                if !request.payload().is_empty() {
                    ledger.note_wrong(format!("a request with {:?}", request.payload()));
                }
                return Err(HandlerError::invalid("not one of ours"));
            };
            if let Err(error) = out.header(RESPONDER, responder.to_string()) {
                // The stream may be over already, or the first message gone: it waits for 200 ms, a busy machine for longer.
                if !matches!(error.kind(), SendErrorKind::Closed | SendErrorKind::HeadersSent) {
                    ledger.note_wrong(format!("call {call} could not say whose it is: {error}"));
                }
            }
            answer(Plan::draw(seed, call, 0), first, out, ledger).await
        }
    };
    server.on(subject, handler).heartbeat(HEARTBEAT).await
}

/// The shortest there is: a side that has vanished is noticed after three.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

async fn answer(plan: Plan, first: u32, mut out: ResponseSender, ledger: Ledger) -> Result<(), HandlerError> {
    let running = Counted::new(&ledger, |inner| &inner.running);
    let unclosed = Counted::new(&ledger, |inner| &inner.unclosed);
    let closed = out.closed();
    let closes = ledger.clone();
    tokio::spawn(async move {
        closes.note_closed(plan.call, closed.await);
        drop(unclosed);
    });
    if plan.from_a_task {
        tokio::spawn(async move {
            let _running = running;
            if send_all(&plan, first, &mut out, &ledger).await.is_err() {
                return;
            }
            match plan.failure() {
                None => out.finish_with(plan.trailers()),
                Some(error) => out.fail(error),
            }
        });
        return Ok(());
    }
    let _running = running;
    send_all(&plan, first, &mut out, &ledger).await?;
    if let Some(error) = plan.failure() {
        return Err(error);
    }
    if plan.end == (End::Complete { trailers: true }) {
        out.finish_with(plan.trailers());
    }
    Ok(())
}

async fn send_all(plan: &Plan, first: u32, out: &mut ResponseSender, ledger: &Ledger) -> Result<(), HandlerError> {
    let mut item = Item::default();
    let mut work = Spread::new(plan.work, plan.sent());
    for index in first..plan.sent() {
        work.pause().await;
        let bytes = item.write(plan.call, index, plan.len(index));
        if let Err(error) = out.send(bytes).await {
            if error.kind() != SendErrorKind::Closed {
                ledger.note_wrong(format!("call {} could not send item {index}: {error}", plan.call));
            }
            return Err(error.into());
        }
    }
    Ok(())
}

/// A time that is spent in pieces between so many items; the shortest sleep is a millisecond.
pub(super) struct Spread {
    each: Duration,
    due: Duration,
}

impl Spread {
    pub(super) fn new(total: Duration, items: u32) -> Self {
        Self {
            each: total / items.max(1),
            due: Duration::ZERO,
        }
    }

    pub(super) async fn pause(&mut self) {
        self.due += self.each;
        if self.due >= Duration::from_millis(5) {
            // sleep: the work of a handler or a reader, which takes its time
            tokio::time::sleep(self.due).await;
            self.due = Duration::ZERO;
        }
    }
}
