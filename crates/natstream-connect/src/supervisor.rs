//! The only file of this part that spawns a task or reads the clock.
//!
//! The supervisor keeps the published state in step with the client. async-nats' events may be
//! lost, and a foreign client has none, so nothing is derived from them: they only say when to
//! look. What there is to see is a level.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::connection::Inner;
use crate::observe::Signals;

/// How often to look without being told to: what a foreign client's state may lag behind.
const LOOK: Duration = Duration::from_millis(250);

/// async-nats sends its events just before it changes what can be read, so what is seen at an event
/// may be old.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Starts the supervisor of a connection. It ends with the last handle, or once the connection is
/// closed.
///
/// # Panics
///
/// Outside of a tokio runtime.
#[expect(clippy::disallowed_methods, reason = "this is the driver of the connection")]
pub(crate) fn spawn(inner: &Arc<Inner>) -> JoinHandle<()> {
    tokio::spawn(supervise(Arc::downgrade(inner), inner.signals().clone()))
}

/// Holds neither the connection nor its client while it waits: async-nats' connection lives as long
/// as a client does.
async fn supervise(inner: Weak<Inner>, signals: Arc<Signals>) {
    let mut wait = LOOK;
    loop {
        tokio::select! {
            () = signals.wake.notified() => wait = LOOK_AGAIN,
            () = sleep(wait) => wait = LOOK,
        }
        // The last handle wakes us when it goes.
        let Some(inner) = inner.upgrade() else { return };
        if inner.look().is_closed() {
            return;
        }
    }
}

/// The time, for this crate's round trips and deadlines.
#[expect(clippy::disallowed_methods, reason = "this is the driver of the connection")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;

    #[tokio::test]
    async fn the_supervisor_ends_with_the_last_handle_and_holds_no_client() {
        let client = async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .connect("nats://127.0.0.1:1")
            .await
            .unwrap();
        let (connection, supervisor) = Connection::supervised(client);
        let clone = connection.clone();
        let mut state = connection.state();
        drop(connection);
        assert!(!supervisor.is_finished());
        drop(clone);
        tokio::time::timeout(Duration::from_secs(5), supervisor)
            .await
            .unwrap()
            .unwrap();
        assert!(state.changed().await.is_err(), "the watch ends with the connection");
    }
}
