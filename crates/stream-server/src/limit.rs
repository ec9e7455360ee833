//! How many calls run at a time, and how many wait.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits of an endpoint or a server. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limit {
    inner: Option<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// The right to run; `None` where there is no limit.
pub(crate) type Permit = Option<OwnedSemaphorePermit>;

/// What a limit says to a new call.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It may run.
    Run(Permit),
    /// It waits, and holds a place in the queue meanwhile.
    Wait(OwnedSemaphorePermit),
    /// There is no room.
    Full,
}

impl Limit {
    pub(crate) fn new(max_concurrent: Option<usize>, max_queued: usize) -> Self {
        let semaphore = |max: usize| Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
        Self {
            inner: max_concurrent.map(|max| Inner {
                running: semaphore(max),
                waiting: semaphore(max_queued),
            }),
        }
    }

    pub(crate) fn enter(&self) -> Entry {
        let Some(inner) = &self.inner else {
            return Entry::Run(None);
        };
        // It fails also when others wait: released permits are theirs.
        if let Ok(permit) = inner.running.clone().try_acquire_owned() {
            return Entry::Run(Some(permit));
        }
        let place = inner.waiting.clone().try_acquire_owned();
        place.map_or(Entry::Full, Entry::Wait)
    }

    /// Waits for the right to run, first come, first served.
    pub(crate) async fn acquire(&self) -> Permit {
        match &self.inner {
            // It is never closed.
            Some(inner) => inner.running.clone().acquire_owned().await.ok(),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_run_then_wait_then_are_turned_away() {
        let limit = Limit::new(Some(1), 1);
        let Entry::Run(running) = limit.enter() else {
            panic!("the first runs")
        };
        let Entry::Wait(place) = limit.enter() else {
            panic!("the second waits")
        };
        assert!(matches!(limit.enter(), Entry::Full));
        drop(place);
        assert!(matches!(limit.enter(), Entry::Wait(_)));
        drop(running);
        assert!(matches!(limit.enter(), Entry::Run(Some(_))));
    }

    #[test]
    fn without_a_limit_everything_runs() {
        assert!(matches!(Limit::new(None, 0).enter(), Entry::Run(None)));
    }
}
