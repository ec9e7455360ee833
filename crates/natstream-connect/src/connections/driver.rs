//! What keeps a set of connections as its plan wants it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::connections::plan::{Action, Id};
use crate::connections::set::{CLOSE, Set};
use crate::error::ConnectError;
use crate::reconnect::random;

/// How often to look without being told to: what a lost connection may go unnoticed for.
const LOOK: Duration = Duration::from_millis(500);

/// The same while there is no connection to give out: somebody may wait for one that comes back by itself.
const ANXIOUS_LOOK: Duration = Duration::from_millis(20);

/// A number between 0 and 1.
pub(crate) fn share() -> f64 {
    random() as f64 / u64::MAX as f64
}

/// Keeps the set; ends with its last handle, or once it is closed.
#[expect(clippy::disallowed_methods, reason = "the driver of the set")]
pub(crate) fn spawn(set: &Arc<Set>) {
    tokio::spawn(keep(Arc::downgrade(set), set.over.clone()));
}

async fn keep(set: Weak<Set>, over: CancellationToken) {
    let mut wait = Duration::ZERO;
    loop {
        {
            let Some(set) = set.upgrade() else { return };
            tokio::select! {
                biased;
                () = over.cancelled() => return,
                () = set.wake.notified() => {}
                () = sleep(wait) => {}
            }
            wait = turn(&set);
        }
        // Others may hold the last handle now.
        tokio::task::yield_now().await;
    }
}

/// Looks, and does what is to be done; returns how long nothing will be.
fn turn(set: &Arc<Set>) -> Duration {
    let now = set.time();
    for member in set.members.remove_done() {
        set.plan.lock().closed(member.id);
        #[expect(clippy::disallowed_methods, reason = "it ends by itself within seconds")]
        tokio::spawn(async move { member.close(CLOSE).await });
    }
    let seen = set.members.seen();
    let is_up = set.members.is_any_up();
    if is_up {
        // Some may wait for one that has come back by itself.
        set.joined.notify_waiters();
    }
    let mut plan = set.plan.lock();
    for (id, seen) in seen {
        plan.seen(id, now, seen);
    }
    let actions = plan.poll(now, share);
    let next = plan.next_wake(now).saturating_sub(now);
    set.may_grow.store(plan.may_grow(), Ordering::Relaxed);
    drop(plan);
    for action in actions {
        match action {
            Action::Dial { id, server } => start(set, id, server, |_| {}),
            Action::Retire { id } => set.members.retire(id),
        }
    }
    next.min(if is_up { LOOK } else { ANXIOUS_LOOK })
}

/// Dials, in a task of its own, which ends with the set; `tell` hears how it went.
pub(crate) fn start(
    set: &Arc<Set>,
    id: Id,
    server: String,
    tell: impl FnOnce(Result<(), ConnectError>) + Send + 'static,
) {
    let (config, generation) = set.config_for(&server);
    let (set, over) = (Arc::downgrade(set), set.over.clone());
    #[expect(clippy::disallowed_methods, reason = "one task for each dial, which is bounded")]
    tokio::spawn(async move {
        let dial = async { Connection::connect(config?).await };
        let outcome = tokio::select! {
            biased;
            () = over.cancelled() => return,
            outcome = dial => outcome,
        };
        if let Some(set) = set.upgrade() {
            tell(set.dialled(id, &server, outcome, generation));
        }
    });
}
