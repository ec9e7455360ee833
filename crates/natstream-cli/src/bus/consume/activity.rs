//! Whether anything has happened lately.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock;

/// How many messages are being handled, and when that changed last.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    state: watch::Sender<(usize, Instant)>,
}

/// One message that is being handled, until this is dropped.
#[derive(Debug)]
pub(super) struct Busy {
    state: watch::Sender<(usize, Instant)>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            state: watch::Sender::new((0, clock::now())),
        }
    }

    pub(super) fn begin(&self) -> Busy {
        self.state
            .send_modify(|(running, since)| (*running, *since) = (*running + 1, clock::now()));
        Busy {
            state: self.state.clone(),
        }
    }

    /// Completes when nothing came for so long.
    pub(super) async fn idle(&self, limit: Duration) {
        // It looks again when the time is over, not at each message: there may be very many.
        loop {
            let (running, since) = *self.state.borrow();
            if running > 0 {
                let mut changes = self.state.subscribe();
                // It never closes: `self` has a sender.
                let _ = changes.wait_for(|(running, _)| *running == 0).await;
                continue;
            }
            let left = limit.saturating_sub(clock::now().saturating_duration_since(since));
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.state
            .send_modify(|(running, since)| (*running, *since) = (running.saturating_sub(1), clock::now()));
    }
}
