//! What makes the calls, and checks each item.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use natstream::{NextRequest, Pool, RequestError, Responses, Termination};

use super::handler::{HEARTBEAT, RESPONDER, Spread};
use super::item::Item;
use super::plan::{Plan, Reader};
use super::progress::Progress;

/// Makes calls on one pool.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The pool.
    pub pool: Pool,
    /// What is asked.
    pub subject: String,
    /// What the calls tell.
    pub progress: Progress,
}

/// What became of a call.
#[derive(Debug)]
pub struct Outcome {
    /// The call.
    pub plan: Plan,
    /// How it ended.
    pub verdict: Verdict,
    /// Items received, of the last attempt if it began anew.
    pub items: u32,
    /// All items received, those of attempts before included.
    pub received: u64,
    /// Messages that came again and were dropped.
    pub retransmitted: u64,
    /// Who answered at last, if anybody did.
    pub responder: Option<usize>,
    /// How often it was made.
    pub attempts: u32,
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// What must not be, whatever fails.
    pub wrong: Option<String>,
}

/// How a call ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// With success.
    Complete,
    /// The reader left, as planned.
    Left,
    /// With an error.
    Error(RequestError),
}

/// How far the reader is.
struct Reading {
    item: Item,
    /// The item that comes next.
    next: u32,
    /// The first item that this attempt was asked for.
    first: u32,
    attempt: u32,
    received: u64,
    /// Shared with the function that resumes.
    place: Place,
}

impl Caller {
    /// Makes the call and reads its answer to the end.
    pub async fn run(self, plan: Plan) -> Outcome {
        let mut progress = self.progress.of_call(plan.items);
        self.progress.reached(plan.begins_at).await;
        let began = Instant::now();
        let mut reading = Reading {
            item: Item::default(),
            next: 0,
            first: 0,
            attempt: 1,
            received: 0,
            place: Place::default(),
        };
        let (verdict, wrong, retransmitted, responder) = match self.send(&plan, &reading.place).await {
            Err(error) => (Verdict::Error(error), None, 0, None),
            Ok(mut responses) => {
                let (verdict, wrong) = match reading
                    .read(&plan, &mut responses, |items| progress.received(items))
                    .await
                {
                    Ok(verdict) => (verdict, None),
                    Err(wrong) => (Verdict::Left, Some(wrong)),
                };
                (verdict, wrong, responses.retransmitted(), responder(&responses))
            }
        };
        Outcome {
            verdict,
            items: reading.next,
            received: reading.received,
            retransmitted,
            responder,
            attempts: reading.attempt,
            began,
            ended: Instant::now(),
            wrong,
            plan,
        }
    }

    async fn send(&self, plan: &Plan, place: &Place) -> Result<Responses, RequestError> {
        let call = plan.call;
        let mut request = self
            .pool
            .request_stream(&self.subject, Plan::payload(call, 0))
            .heartbeat(HEARTBEAT);
        if let Some(deadline) = plan.deadline {
            request = request.deadline(deadline);
        }
        if let Some(limit) = plan.idle_timeout {
            request = request.first_item_timeout(limit).idle_timeout(limit);
        }
        if let Some(policy) = plan.policy() {
            request = request.retry(policy);
        }
        if let Some(window) = plan.window {
            request = request.window(window);
        }
        if plan.resume {
            let (plan, place) = (plan.clone(), place.clone());
            request = request.resume(move |last| place.after(&plan, last));
        }
        request.await
    }
}

/// Who answers.
fn responder(responses: &Responses) -> Option<usize> {
    responses.headers()?.get(RESPONDER)?.as_str().parse().ok()
}

/// The number of the item that the reader waits for.
#[derive(Clone, Debug, Default)]
struct Place {
    next: Arc<AtomicU32>,
    is_wrong: Arc<AtomicBool>,
}

impl Place {
    /// The request for what follows `last`, which must be the item that was handed out last.
    fn after(&self, plan: &Plan, last: &[u8]) -> NextRequest {
        let next = self.next.load(Ordering::Relaxed);
        let is_last = next
            .checked_sub(1)
            .is_some_and(|index| Item::default().check(plan.call, index, plan.len(index), last).is_ok());
        self.is_wrong.fetch_or(!is_last, Ordering::Relaxed);
        NextRequest::new(Plan::payload(plan.call, next))
    }
}

impl Reading {
    /// Reads to the end, or to where the reader leaves.
    ///
    /// # Errors
    /// What must not be.
    async fn read(
        &mut self,
        plan: &Plan,
        responses: &mut Responses,
        mut tell: impl FnMut(u32),
    ) -> Result<Verdict, String> {
        let mut pace = match plan.reader {
            Reader::Slow(time) => Spread::new(time, plan.sent()),
            _ => Spread::new(Duration::ZERO, 1),
        };
        loop {
            if plan.cancel_after == Some(self.next) {
                return Ok(Verdict::Left);
            }
            if let Reader::Pausing(time) = plan.reader
                && self.received == u64::from(plan.sent() / 2)
            {
                // sleep: a reader that is away
                tokio::time::sleep(time).await;
            }
            pace.pause().await;
            let next = responses.try_next().await;
            self.notice_attempt(plan, responses.attempt());
            if self.place.is_wrong.load(Ordering::Relaxed) {
                return Err("the call was resumed after another item than the last".to_owned());
            }
            match next {
                Ok(Some(bytes)) => {
                    self.take(plan, &bytes)?;
                    if responses.received() != u64::from(self.next) {
                        return Err(format!("received() is {} after {}", responses.received(), self.next));
                    }
                    tell(self.next);
                }
                Ok(None) => return self.complete(plan, responses).await,
                Err(error) => {
                    if let Ok(None) = responses.try_next().await {
                        return Ok(Verdict::Error(error));
                    }
                    return Err(format!("something came after the error {error}"));
                }
            }
        }
    }

    /// Another attempt begins anew, or goes on after the last item.
    fn notice_attempt(&mut self, plan: &Plan, attempt: u32) {
        if attempt == self.attempt {
            return;
        }
        self.attempt = attempt;
        if !plan.resume {
            self.place.next.store(0, Ordering::Relaxed);
            self.next = 0;
        }
        self.first = self.next;
    }

    fn take(&mut self, plan: &Plan, bytes: &[u8]) -> Result<(), String> {
        if self.next >= plan.sent() {
            return Err(format!("{} bytes after all {} items", bytes.len(), plan.sent()));
        }
        self.item.check(plan.call, self.next, plan.len(self.next), bytes)?;
        self.next += 1;
        self.received += 1;
        self.place.next.store(self.next, Ordering::Relaxed);
        Ok(())
    }

    async fn complete(&self, plan: &Plan, responses: &mut Responses) -> Result<Verdict, String> {
        let items = u64::from(self.next - self.first);
        let expected = Termination::Ended {
            items,
            trailers: plan.trailers().into(),
        };
        if responses.termination() != Some(&expected) {
            return Err(format!("it ended with {:?}, not {expected:?}", responses.termination()));
        }
        match responses.try_next().await {
            Ok(None) => Ok(Verdict::Complete),
            other => Err(format!("after the end came {other:?}")),
        }
    }
}
