//! What keeps a set of connections as its plan wants it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::connections::plan::Action;
use crate::connections::{CLOSE, Inner};
use crate::reconnect::random;

/// How often to look without being told to: what a lost connection may go unnoticed for.
const LOOK: Duration = Duration::from_millis(500);

/// A number between 0 and 1.
pub(crate) fn share() -> f64 {
    random() as f64 / u64::MAX as f64
}

/// Keeps the set; ends with its last handle, or once it is closed.
#[expect(clippy::disallowed_methods, reason = "the driver of the set")]
pub(crate) fn spawn(inner: &Arc<Inner>) {
    tokio::spawn(keep(Arc::downgrade(inner), inner.over.clone()));
}

async fn keep(inner: Weak<Inner>, over: CancellationToken) {
    let mut wait = Duration::ZERO;
    loop {
        {
            let Some(inner) = inner.upgrade() else { return };
            tokio::select! {
                () = inner.wake.notified() => {}
                () = sleep(wait) => {}
                () = over.cancelled() => return,
            }
            wait = turn(&inner);
        }
        // Others may hold the last handle now.
        tokio::task::yield_now().await;
    }
}

/// Looks, and does what is to be done; returns how long nothing will be.
fn turn(inner: &Arc<Inner>) -> Duration {
    let now = inner.time();
    for member in inner.members.remove_done() {
        inner.plan.lock().closed(member.id);
        #[expect(clippy::disallowed_methods, reason = "it ends by itself within seconds")]
        tokio::spawn(async move { member.close(CLOSE).await });
    }
    let seen = inner.members.seen();
    let mut plan = inner.plan.lock();
    for (id, seen) in seen {
        plan.seen(id, now, seen);
    }
    let actions = plan.poll(now, share);
    let next = plan.next_wake(now).saturating_sub(now);
    drop(plan);
    for action in actions {
        start(inner, action);
    }
    next.min(LOOK)
}

/// Does what the plan says; a dial goes on by itself.
pub(crate) fn start(inner: &Arc<Inner>, action: Action) {
    let Action::Dial { id, server } = action else {
        return inner.retire(&action);
    };
    let inner = inner.clone();
    #[expect(clippy::disallowed_methods, reason = "one task for each dial, which is bounded")]
    tokio::spawn(async move {
        let connection = inner.dial(&server).await;
        let connection = connection
            .inspect_err(|error| tracing::debug!(%error, server, "a dial failed"))
            .ok();
        match connection {
            // Nobody would close it.
            Some(connection) if inner.over.is_cancelled() => drop(connection),
            connection => inner.dialled(id, &server, connection),
        }
    });
}
