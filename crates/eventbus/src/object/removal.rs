//! Chunks of an object that will not be there, on their way out: the driver of what nobody waits for.

use std::sync::Arc;

use async_nats::subject::Subject;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Objects;
use super::store::Inner;
use crate::watcher::PendingAck;

/// What is to be removed.
pub(super) struct Removal {
    pub(super) store: Arc<Inner>,
    pub(super) subject: Subject,
    /// Chunks that may not be stored yet. The bus still has some of them, which would be stored behind the removal.
    pub(super) under_way: Vec<PendingAck>,
}

/// How many removals are under way.
#[derive(Debug, Default)]
pub(super) struct Removals(watch::Sender<usize>);

/// One of them, however its task ends.
struct Counted(Arc<Inner>);

impl Removal {
    /// Removes it on the connection's runtime: whoever has put it may be gone, and its runtime too.
    pub(super) fn spawn(self) -> JoinHandle<()> {
        self.store.removals.0.send_modify(|count| *count += 1);
        let counted = Counted(self.store.clone());
        self.store
            .connection
            .connection()
            .runtime()
            .clone()
            .spawn(self.run(counted))
    }

    /// It ends: the bus gives up each chunk by its deadline, and JetStream is not asked for ever.
    async fn run(self, _counted: Counted) {
        for ack in self.under_way {
            // Stored or not: it is not under way any more.
            drop(ack.await);
        }
        let store = &self.store;
        if let Err(error) = store.topology.purge(&store.stream, &self.subject).await {
            tracing::warn!(%error, bucket = store.bucket, "chunks of an object that was not put are left behind");
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.removals.0.send_modify(|count| *count -= 1);
    }
}

impl Objects {
    /// Waits until the chunks of puts that were dropped are removed, or cannot be: for a program that is about to end.
    ///
    /// It takes as long as the chunks that are under way, at most about a minute where nobody answers.
    ///
    /// # Cancel safety
    /// Nothing is lost: they are removed all the same, as long as the connection is open.
    pub async fn removed(&self) {
        let mut removals = self.inner.removals.0.subscribe();
        // An error: there is nobody left to remove anything.
        drop(removals.wait_for(|count| *count == 0).await);
    }
}
