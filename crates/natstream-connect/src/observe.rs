//! The ear at async-nats: its events wake the supervisor, and carry what cannot be read anywhere
//! else.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_nats::{ClientError, Event, ServerError, Statistics};
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};

use crate::end::EndReason;
use crate::overflow::Overflows;
use crate::server_error::ServerErrorEvent;

/// Listens to a client that somebody else connects.
///
/// async-nats takes an event callback only in its [`ConnectOptions`](async_nats::ConnectOptions),
/// so that a connection made [from a ready client](crate::Connection::from_nats) hears nothing: it
/// notices a lost connection only at its next look (every 250 ms), and lame duck mode and
/// permission violations never. This function returns a callback to put into one's own options, and
/// the [`Observer`] to hand over together with the client.
///
/// The callback belongs to one client. To keep a callback of one's own, call this one from it.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let (callback, observer) = natstream_connect::observe();
/// let client = async_nats::ConnectOptions::new().event_callback(callback).connect("localhost").await?;
/// let connection = natstream_connect::Connection::from_observed(client, observer);
/// # drop(connection);
/// # Ok(())
/// # }
/// ```
#[must_use = "without the callback in the client's options, the observer hears nothing"]
pub fn observe() -> (impl Fn(Event) -> Ready<()> + Clone + Send + Sync + 'static, Observer) {
    let signals = Arc::new(Signals::default());
    let ear = Ear(signals.clone());
    let callback = move |event| {
        ear.0.hear(&event);
        ready(())
    };
    (callback, Observer { signals })
}

/// The other end of the callback that [`observe`] returns; for
/// [`Connection::from_observed`](crate::Connection::from_observed).
pub struct Observer {
    pub(crate) signals: Arc<Signals>,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

/// A callback of the user; see [`ConnectConfig::on_event`](crate::ConnectConfig::on_event).
pub(crate) type UserCallback = Arc<dyn Fn(&Event) + Send + Sync>;

/// The callback for a client of our own, with the user's behind it.
pub(crate) fn callback(
    signals: Arc<Signals>,
    user: Option<UserCallback>,
) -> impl Fn(Event) -> Ready<()> + Send + Sync + 'static {
    let ear = Ear(signals);
    move |event| {
        ear.0.hear(&event);
        if let Some(user) = &user {
            // A panic would end async-nats' event task, and permission violations would then go
            // unheard.
            if catch_unwind(AssertUnwindSafe(|| user(&event))).is_err() {
                tracing::error!(%event, "the event callback panicked");
            }
        }
        ready(())
    }
}

/// Server errors kept for a slow reader: 256 × (a subject and some 100 bytes). A reader that is
/// further behind is told so.
const SERVER_ERRORS: usize = 256;

/// Round trips whose refusal is not told to others: the latest ones.
const FENCES: usize = 256;

/// What the event callback and the supervisor share. It holds no client, so it keeps none alive.
pub(crate) struct Signals {
    /// Wakes the supervisor: something happened, look again.
    pub(crate) wake: Notify,
    pub(crate) server_errors: broadcast::Sender<ServerErrorEvent>,
    /// The subjects of the latest round trips, and who waits for them. A refusal of one is an answer, and no complaint.
    fences: Mutex<VecDeque<(String, Arc<Notify>)>>,
    pub(crate) overflows: Overflows,
    /// The counters of the client, once there is one.
    statistics: OnceLock<Arc<Statistics>>,
    /// The epoch whose server is in lame duck mode; 0 for none.
    lame_duck_epoch: AtomicU64,
    closing: AtomicBool,
    /// Why, once this crate ends the connection.
    end: OnceLock<EndReason>,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            wake: Notify::new(),
            server_errors: broadcast::Sender::new(SERVER_ERRORS),
            fences: Mutex::default(),
            overflows: Overflows::default(),
            statistics: OnceLock::new(),
            lame_duck_epoch: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            end: OnceLock::new(),
        }
    }
}

impl Signals {
    /// The client is there.
    pub(crate) fn attach(&self, statistics: Arc<Statistics>) {
        // Once: an observer is handed over together with its client, by value.
        let _ = self.statistics.set(statistics);
    }

    /// Whether the first connect has succeeded.
    pub(crate) fn is_attached(&self) -> bool {
        self.statistics.get().is_some()
    }

    /// How often the client has connected.
    pub(crate) fn connects(&self) -> u64 {
        self.statistics
            .get()
            .map_or(0, |statistics| statistics.connects.load(Ordering::Relaxed))
    }

    pub(crate) fn is_lame_duck(&self, epoch: u64) -> bool {
        epoch != 0 && self.lame_duck_epoch.load(Ordering::Relaxed) == epoch
    }

    /// A round trip begins; what comes back is notified when the server refuses it.
    pub(crate) fn expect_refusal(&self, subject: &str) -> Arc<Notify> {
        let refused = Arc::new(Notify::new());
        let mut fences = self.fences.lock();
        fences.truncate(FENCES - 1);
        fences.push_front((subject.to_owned(), refused.clone()));
        refused
    }

    /// Tells the round trip that this concerns, if it is one.
    fn is_fence(&self, event: &ServerErrorEvent) -> bool {
        let ServerErrorEvent::PermissionViolation { subject, .. } = event else {
            return false;
        };
        let fences = self.fences.lock();
        let fence = fences.iter().find(|(known, _)| known == subject);
        fence.inspect(|(_, refused)| refused.notify_one()).is_some()
    }

    /// The connection shall not come back. The first reason stands.
    pub(crate) fn close(&self, reason: EndReason) {
        let _ = self.end.set(reason);
        self.closing.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Why this crate ended the connection, if it did.
    pub(crate) fn end_reason(&self) -> Option<&EndReason> {
        self.end.get()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Takes one event. async-nats awaits its callback for each event in turn and drops events when
    /// 128 are waiting, so this does nothing that takes time, and nothing relies on having heard
    /// every event.
    fn hear(&self, event: &Event) {
        match event {
            // Lame duck mode ends with the connection that it was announced on.
            Event::Connected | Event::Disconnected => self.lame_duck_epoch.store(0, Ordering::Relaxed),
            Event::LameDuckMode => {
                // Before `attach` it can only be the first connection.
                let epoch = self.connects().max(1);
                self.lame_duck_epoch.store(epoch, Ordering::Relaxed);
            }
            Event::ServerError(error) => {
                let event = match error {
                    ServerError::Other(text) => ServerErrorEvent::parse(text),
                    other => ServerErrorEvent::Other {
                        text: other.to_string(),
                    },
                };
                if !self.is_fence(&event) {
                    // Nobody listens: nobody misses it.
                    let _ = self.server_errors.send(event);
                }
                return;
            }
            Event::ClientError(ClientError::MaxReconnects) => {
                tracing::error!("no reconnect attempt is left, the connection is closed");
            }
            // They come in storms.
            Event::SlowConsumer(subscription) => return self.overflows.note(*subscription),
            // It does not change the state.
            Event::ClientError(_) => return,
            Event::Draining | Event::Closed => {}
        }
        self.wake.notify_one();
    }
}

/// Wakes the supervisor when async-nats drops the callback: its event task ends with the
/// connection, also where no event says so (reconnect attempts exhausted, runtime gone).
#[derive(Clone)]
struct Ear(Arc<Signals>);

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(times: u64) -> Signals {
        let signals = Signals::default();
        let statistics = Arc::new(Statistics::default());
        statistics.connects.store(times, Ordering::Relaxed);
        signals.attach(statistics);
        signals
    }

    #[test]
    fn lame_duck_mode_belongs_to_one_epoch() {
        let signals = connected(3);
        assert!(!signals.is_lame_duck(3));
        signals.hear(&Event::LameDuckMode);
        assert!(signals.is_lame_duck(3));
        assert!(!signals.is_lame_duck(4), "a reconnect ends it, even unheard");
        signals.hear(&Event::Disconnected);
        assert!(!signals.is_lame_duck(3));
        assert!(!Signals::default().is_lame_duck(0));
    }

    #[test]
    fn server_errors_are_published_in_order() {
        let signals = connected(1);
        signals.hear(&Event::ServerError(ServerError::Other("unheard".to_owned())));
        let mut errors = signals.server_errors.subscribe();
        signals.hear(&Event::ServerError(ServerError::Other("first".to_owned())));
        signals.hear(&Event::ServerError(ServerError::AuthorizationViolation));
        assert_eq!(errors.try_recv().unwrap().to_string(), "first");
        assert_eq!(errors.try_recv().unwrap().to_string(), "nats: authorization violation");
    }

    #[tokio::test]
    async fn a_panic_in_the_users_callback_stops_nothing() {
        let signals = Arc::new(connected(1));
        let mut errors = signals.server_errors.subscribe();
        let callback = callback(signals, Some(Arc::new(|_| panic!("of the user"))));
        callback(Event::Connected).await;
        callback(Event::ServerError(ServerError::Other("heard".to_owned()))).await;
        assert_eq!(errors.try_recv().unwrap().to_string(), "heard");
    }
}
