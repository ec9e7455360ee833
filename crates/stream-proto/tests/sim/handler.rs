//! What the user's code at the responder does.

use stream_proto::{CloseReason, Code, Outbound, PushError, Status};

use crate::plan::{EndPlan, HandlerPlan};
use crate::record::{MAX_ITEM, Shared};
use crate::rng::Rng;
use crate::time::{MS, Nanos, instant};

#[derive(Debug)]
pub(crate) struct Handler {
    plan: HandlerPlan,
    left: usize,
    rng: Rng,
    /// When it goes on; `None` while it waits for credit, or is over.
    pub(crate) next: Option<Nanos>,
    /// The item that was not taken.
    waiting: Option<(usize, usize)>,
    is_over: bool,
}

impl Handler {
    pub(crate) fn new(plan: HandlerPlan, now: Nanos, mut rng: Rng) -> Self {
        // Two servers need not agree.
        let left = if rng.chance(50) {
            rng.below(plan.items + 1)
        } else {
            plan.items
        };
        Self {
            plan,
            left,
            rng,
            next: Some(now + plan.delay),
            waiting: None,
            is_over: false,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// There is credit again.
    pub(crate) fn wake(&mut self, now: Nanos) {
        if !self.is_over && self.next.is_none() {
            self.next = Some(now);
        }
    }

    /// The stream has ended without it.
    pub(crate) fn stop(&mut self) {
        self.is_over = true;
        self.next = None;
    }

    /// Largest item that may be half taken.
    pub(crate) fn largest(&self) -> u64 {
        self.plan.item_size.1
    }

    /// Sends until it yields.
    ///
    /// # Errors
    /// When the machine does what it must not.
    pub(crate) fn run(
        &mut self,
        now: Nanos,
        outbound: &mut Outbound,
        record: usize,
        shared: &mut Shared,
    ) -> Result<(), String> {
        self.next = None;
        let burst = self.rng.within(1..=self.plan.burst);
        for _ in 0..burst {
            if self.left == 0 && self.waiting.is_none() {
                break;
            }
            let place = self.waiting.take().unwrap_or_else(|| self.draw());
            match outbound.push(shared.item(place)) {
                Ok(()) => {
                    shared.records[record].sent.push(place);
                    self.left = self.left.saturating_sub(1);
                }
                Err(PushError::Blocked) => {
                    self.waiting = Some(place);
                    outbound.flush();
                    outbound.wait_for_credit(instant(now));
                    return Ok(());
                }
                Err(PushError::Ended) => {
                    self.stop();
                    return Ok(());
                }
                Err(error) => return Err(format!("an item of {} bytes was refused: {error}", place.1)),
            }
        }
        if self.left == 0 && self.waiting.is_none() {
            self.end(outbound, record);
        } else {
            outbound.flush();
            // Some yield without waiting for anything.
            let pause = if self.plan.pause == 0 {
                0
            } else {
                self.rng.time(1..=self.plan.pause)
            };
            self.next = Some(now + pause.max(MS / 100));
        }
        Ok(())
    }

    fn end(&mut self, outbound: &mut Outbound, record: usize) {
        let text = format!("stream {record}");
        match self.plan.end {
            EndPlan::Finish => {
                let details = text.into_bytes().into();
                outbound.finish(Status {
                    details,
                    ..Status::ok()
                });
            }
            EndPlan::Fail => outbound.finish(Status::new(Code::DataLoss, text)),
            EndPlan::Abort => outbound.abort(Status::new(Code::Unavailable, text), CloseReason::Local),
        }
        self.stop();
    }

    fn draw(&mut self) -> (usize, usize) {
        let (low, high) = self.plan.item_size;
        let len = if self.rng.chance(100) {
            low
        } else {
            self.rng.spread(low.max(1)..=high.max(1))
        };
        (self.rng.below(MAX_ITEM), len as usize)
    }
}
