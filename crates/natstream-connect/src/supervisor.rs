//! The only file of this part that spawns a task or reads the clock.
//!
//! The supervisor keeps the published state in step with the client. async-nats' events may be
//! lost, and a foreign client has none, so nothing is derived from them: they only say when to
//! look. What there is to see is a level.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::connection::Inner;
use crate::observe::Signals;
use crate::reconnect;
use crate::state::ConnectionState;

/// How often to look without being told to: what a foreign client's state may lag behind.
const LOOK: Duration = Duration::from_millis(250);

/// async-nats sends its events just before it changes what can be read, so what is seen at an event
/// may be old.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Over how long the clients of a server in lame duck mode leave it. nats-server gives them 10 s before it begins to cut.
const SPREAD: Duration = Duration::from_secs(1);

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
    let _last_look = LastLook(inner.clone());
    let mut wait = LOOK;
    let mut departure = Departure::default();
    loop {
        tokio::select! {
            () = signals.wake.notified() => wait = LOOK_AGAIN,
            () = sleep(wait) => wait = LOOK,
        }
        // The last handle wakes us when it goes.
        let Some(inner) = inner.upgrade() else { return };
        let state = inner.look();
        if state.is_closed() {
            return;
        }
        if departure.is_due(state, now(), reconnect::random()) && inner.knows_others() {
            tracing::info!(epoch = state.epoch, "the server will shut down; moving to another one");
            // It waits where the queue of commands is full; there is another look soon.
            if timeout(LOOK, inner.client().force_reconnect()).await.is_err() {
                departure = Departure::default();
            }
        }
    }
}

/// When to leave a server in lame duck mode: before it cuts its clients off, and not all at once (ADR-5).
#[derive(Debug, Default)]
struct Departure {
    planned: Option<(u64, Instant)>,
    /// The epoch that was left last.
    left: u64,
}

impl Departure {
    /// Once for each connection to such a server.
    fn is_due(&mut self, state: ConnectionState, now: Instant, random: u64) -> bool {
        if !state.lame_duck || state.epoch == self.left {
            self.planned = None;
            return false;
        }
        let share = random as f64 / u64::MAX as f64;
        let (epoch, at) = *self
            .planned
            .get_or_insert_with(|| (state.epoch, now + SPREAD.mul_f64(share)));
        if epoch != state.epoch {
            self.planned = None;
            return false;
        }
        if at <= now {
            self.left = epoch;
        }
        at <= now
    }
}

/// With its runtime, the connection has come to its end: nothing of it moves any more.
struct LastLook(Weak<Inner>);

impl Drop for LastLook {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            inner.end();
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
    use crate::state::ConnectionStatus;

    #[test]
    fn a_server_in_lame_duck_mode_is_left_once_and_not_at_once() {
        let start = now();
        let state = |epoch, lame_duck| ConnectionState::new(ConnectionStatus::Connected, epoch, lame_duck);
        let mut departure = Departure::default();
        assert!(!departure.is_due(state(1, false), start, u64::MAX));
        assert!(!departure.is_due(state(1, true), start, u64::MAX / 2));
        assert!(!departure.is_due(state(1, true), start + SPREAD / 4, 0));
        assert!(departure.is_due(state(1, true), start + SPREAD / 2 + LOOK, 0));
        assert!(!departure.is_due(state(1, true), start + SPREAD * 9, 0), "once");
        assert!(
            departure.is_due(state(2, true), start + SPREAD * 9, 0),
            "the next one too"
        );
    }

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
        timeout(Duration::from_secs(5), supervisor).await.unwrap().unwrap();
        assert!(state.changed().await.is_err(), "the watch ends with the connection");
    }
}
