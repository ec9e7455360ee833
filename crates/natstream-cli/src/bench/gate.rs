//! A point that nobody passes before all are there.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Opens when so many have arrived.
#[derive(Debug)]
pub(super) struct Gate {
    missing: AtomicU64,
    open: watch::Sender<bool>,
}

/// Somebody who is expected. Dropped, they have arrived: others do not wait for those that failed.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    gate: &'a Gate,
    has_arrived: bool,
}

impl Gate {
    pub(super) fn new(count: u64) -> Self {
        Self {
            missing: AtomicU64::new(count),
            open: watch::Sender::new(count == 0),
        }
    }

    pub(super) fn expect(&self) -> Expected<'_> {
        Expected {
            gate: self,
            has_arrived: false,
        }
    }
}

impl Expected<'_> {
    /// Arrives, and waits for the others.
    pub(super) async fn pass(&mut self) {
        self.arrive();
        // It is not closed as long as there is a gate.
        let _ = self.gate.open.subscribe().wait_for(|open| *open).await;
    }

    fn arrive(&mut self) {
        if !self.has_arrived {
            self.has_arrived = true;
            if self.gate.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.gate.open.send_replace(true);
            }
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.arrive();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn nobody_passes_before_the_last_one_has_arrived_or_gone() {
        let gate = Gate::new(3);
        let (mut first, mut second, third) = (gate.expect(), gate.expect(), gate.expect());
        assert!(first.pass().now_or_never().is_none());
        assert!(second.pass().now_or_never().is_none());
        drop(third);
        assert!(first.pass().now_or_never().is_some());
        assert!(second.pass().now_or_never().is_some());
    }
}
