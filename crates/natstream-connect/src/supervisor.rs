//! The only file of this part that spawns a task or reads the clock.
//!
//! The supervisor keeps the published state in step with the client. async-nats' events may be
//! lost, and a foreign client has none, so nothing is derived from them: they only say when to
//! look. What there is to see is a level.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::{Client, ServerAddr};
use futures_util::FutureExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::connection::Inner;
use crate::course::Course;
use crate::departure::Departure;
use crate::observe::Signals;
use crate::reconnect;
use crate::state::ConnectionState;

/// How often to look without being told to: what a foreign client's state may lag behind.
const LOOK: Duration = Duration::from_millis(250);

/// async-nats sends its events just before it changes what can be read, so what is seen at an event
/// may be old.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long a server that is new on the list may take to accept.
const DIAL: Duration = Duration::from_secs(2);

/// How long to stay with a server that is off the list, when none on it could be reached.
const ASK_AGAIN: Duration = Duration::from_secs(5);

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
    let mut scout = Scout::default();
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
        if let Some(course) = inner.course().filter(|_| state.is_connected()) {
            steer(inner.client(), course, state, &mut departure, &mut scout).await;
        }
    }
}

/// Takes the connection away from a server that is about to stop, or that is no longer on the list.
async fn steer(client: &Client, course: &Course, state: ConnectionState, departure: &mut Departure, scout: &mut Scout) {
    course.align(client, LOOK).await;
    let off_list = course.is_off_list(client);
    let leaving = (state.lame_duck && course.knows_others(client)) || (off_list && scout.found(course, now()));
    if !off_list {
        *scout = Scout::default();
    }
    if departure.is_due(state.epoch, leaving, now(), reconnect::random()) {
        let (epoch, lame_duck) = (state.epoch, state.lame_duck);
        tracing::info!(epoch, lame_duck, "moving to another server");
        // It waits where the queue of commands is full; there is another look soon.
        if timeout(LOOK, client.force_reconnect()).await.is_err() {
            *departure = Departure::default();
        }
    }
}

/// Asks ahead whether a server on the list can be reached: a list of others must not cost the connection that there is.
#[derive(Debug, Default)]
struct Scout {
    task: Option<JoinHandle<bool>>,
    found: bool,
    again: Option<Instant>,
}

impl Scout {
    #[expect(clippy::disallowed_methods, reason = "this is the driver of the connection")]
    fn found(&mut self, course: &Course, now: Instant) -> bool {
        match self.task.take() {
            Some(task) if !task.is_finished() => self.task = Some(task),
            Some(task) => match task.now_or_never() {
                Some(Ok(true)) => self.found = true,
                _ => {
                    tracing::warn!("no server on the list can be reached; staying with one that is off it");
                    self.again = Some(now + ASK_AGAIN);
                }
            },
            None if !self.found && self.again.is_none_or(|again| again <= now) => {
                self.task = Some(tokio::spawn(reachable(course.selector().list())));
            }
            None => {}
        }
        self.found
    }
}

impl Drop for Scout {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Does anybody listen at one of these addresses?
async fn reachable(mut list: Vec<ServerAddr>) -> bool {
    // The dead ones may stand first.
    list.sort_by_cached_key(|_| reconnect::random());
    for addr in list {
        let dial = TcpStream::connect((addr.host(), addr.port()));
        if matches!(timeout(DIAL, dial).await, Ok(Ok(_))) {
            return true;
        }
    }
    false
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
