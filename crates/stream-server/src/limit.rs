//! How many calls or messages are handled at a time, and how many wait.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::coop;

/// The limits of an endpoint, a subscription or a server. Cloning shares them.
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

/// Completes when it is a call's turn.
pub(crate) type Turn<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Stands in line at once, before the next request is looked at: tasks begin in any order. What `turn` gives, if it is the
/// call's turn by now.
pub(crate) fn line_up<T>(turn: impl Future<Output = T> + Send + 'static) -> Result<T, Turn<T>> {
    let mut turn: Turn<T> = Box::pin(turn);
    // The task that waits asks again. Unconstrained: without a budget, it would not be in line.
    let first = Pin::new(&mut coop::unconstrained(turn.as_mut())).poll(&mut Context::from_waker(Waker::noop()));
    match first {
        Poll::Ready(turn) => Ok(turn),
        Poll::Pending => Err(turn),
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
