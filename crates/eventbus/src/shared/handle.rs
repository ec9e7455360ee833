//! What a caller has of a bus.

use std::sync::Arc;
use std::time::Duration;

use natstream_connect::Lease;

use super::waiting::Accept;
use super::{Machine, OnFailure, Shared, Strays};
use crate::error::{OpenError, PublishError, TryEnqueueError, Undelivered};
use crate::event::Event;
use crate::watcher::Tell as _;

/// How long closing waits at least for `on_failure` to be told.
const TELLING: Duration = Duration::from_secs(1);

/// What all clones of a bus have in common. Dropping it lets the bus end with its last event.
pub(crate) struct Handle<M: Machine> {
    shared: Arc<Shared<M>>,
}

impl<M: Machine> Drop for Handle<M> {
    fn drop(&mut self) {
        self.shared.refuse();
    }
}

impl<M: Machine> Handle<M> {
    /// Subscribes to answers, on a router of their own: they do not queue behind items of streams. `id_len`: what the id of an
    /// event without one adds to it.
    pub(crate) async fn open(
        connection: Lease,
        machine: M,
        id_len: usize,
        on_failure: Option<OnFailure>,
    ) -> Result<Arc<Self>, OpenError> {
        let router = connection.router(Arc::new(Strays)).await;
        let router = router.map_err(|_| OpenError::Closed)?;
        let shared = Shared::new(connection, machine, id_len, on_failure);
        let route = router.add(shared.clone());
        shared.set_route(route);
        Ok(Arc::new(Self { shared }))
    }

    pub(crate) fn connection(&self) -> &Lease {
        &self.shared.connection
    }

    /// What `look` says of the machine, and how many producers wait for room at that moment.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&M) -> R) -> (R, usize) {
        let state = self.shared.state.lock();
        (look(&state.machine), state.producers.len())
    }

    pub(crate) async fn accept(&self, event: Event, watcher: Option<M::Watcher>) -> Result<(), PublishError> {
        // A producer that never has to wait lets others run.
        tokio::task::coop::consume_budget().await;
        Accept::new(&self.shared, event, watcher).await
    }

    /// As [`accept`](Self::accept), for a watcher that is told of an event that was not accepted, too.
    pub(crate) async fn accept_or_tell(&self, event: Event, watcher: M::Watcher) {
        tokio::task::coop::consume_budget().await;
        let mut accept = Accept::new(&self.shared, event, Some(watcher));
        let accepted = (&mut accept).await;
        if let (Err(error), Some(watcher)) = (accepted, accept.into_watcher()) {
            watcher.tell(Err(error));
        }
    }

    pub(crate) fn try_accept(&self, event: Event) -> Result<(), TryEnqueueError> {
        self.shared.try_accept(event)
    }

    /// Waits until all that was accepted so far is settled, or this long.
    pub(crate) async fn flush(&self, limit: Duration) -> Result<(), Undelivered> {
        let before = self.flushed(limit).await;
        let (pending, failed) = self.shared.end_flush(before);
        if pending == 0 && failed == 0 {
            return Ok(());
        }
        Err(Undelivered {
            failed,
            pending,
            given_up: Vec::new(),
        })
    }

    /// Accepts nothing any more, waits at most this long for what is pending, and gives up the rest.
    pub(crate) async fn close(&self, limit: Duration) -> Result<(), Undelivered> {
        self.shared.refuse();
        self.flushed(limit).await;
        let given_up = self.shared.give_up();
        // Until `on_failure` has been told, which somebody else may be doing.
        self.flushed(limit.max(TELLING)).await;
        let (_, failed) = self.shared.end_flush(0);
        if failed == 0 {
            return Ok(());
        }
        Err(Undelivered {
            failed,
            pending: 0,
            given_up,
        })
    }

    /// What has a lower number than is returned was meant.
    async fn flushed(&self, limit: Duration) -> u64 {
        let (before, flushed) = self.shared.begin_flush();
        if let Some(flushed) = flushed {
            // Both kinds of error say that it is over.
            let _ = tokio::time::timeout(limit, flushed).await;
        }
        before
    }
}
