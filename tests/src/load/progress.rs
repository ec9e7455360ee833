//! How far all calls of a run are: what faults and late calls are triggered by.

use tokio::sync::watch;

/// What a call counts from its beginning to its end.
pub const PER_CALL: u64 = 1000;

/// The progress of all calls together, [`PER_CALL`] for each. It follows from the items that were received; a call that ends
/// early counts in full, so that the total is always reached.
#[derive(Clone, Debug)]
pub struct Progress(watch::Sender<u64>);

impl Default for Progress {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Progress {
    /// Waits until the calls are as far as `goal`.
    pub async fn reached(&self, goal: u64) {
        let mut progress = self.0.subscribe();
        let reached = progress.wait_for(|progress| *progress >= goal).await;
        reached.expect("the sender lives in `self`");
    }

    /// How far it is.
    #[must_use]
    pub fn now(&self) -> u64 {
        *self.0.borrow()
    }

    /// The part of one call.
    pub(super) fn of_call(&self, items: u32) -> Part {
        Part {
            all: self.clone(),
            items: u64::from(items).max(1),
            told: 0,
        }
    }
}

/// What one call contributes. Its drop is the call's end.
#[derive(Debug)]
pub(super) struct Part {
    all: Progress,
    items: u64,
    told: u64,
}

impl Part {
    pub(super) fn received(&mut self, items: u32) {
        self.tell(u64::from(items).min(self.items) * PER_CALL / self.items);
    }

    fn tell(&mut self, reached: u64) {
        if reached > self.told {
            self.all.0.send_modify(|progress| *progress += reached - self.told);
            self.told = reached;
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.tell(PER_CALL);
    }
}
