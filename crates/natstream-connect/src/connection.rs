//! A supervised connection: the handle that everything else shares.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ServerInfo, SubscribeError};
use futures_util::Sink;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::ConnectConfig;
use crate::course::Course;
use crate::dial::dial;
use crate::driver::Driver;
use crate::end::EndReason;
use crate::error::{ConnectError, FenceError};
use crate::fence;
use crate::observe::{Observer, Signals};
use crate::router::{Router, Unrouted};
use crate::server_error::ServerErrorEvent;
use crate::shared::Shared;
use crate::state::{ConnectionState, ConnectionStatus};
use crate::supervisor;

/// A connection to NATS that knows its state.
///
/// It is a handle: clones share one connection, one supervising task and one state. The connection
/// ends when it is [closed](Self::close), when its reconnect attempts are exhausted or its
/// credentials refused ([`end_reason`](Self::end_reason)), or when the last handle *and* the last
/// clone of its [client](Self::nats) are gone. In the last case
/// async-nats throws away what it has not written: [`close`](Self::close) confirms it first.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// use natstream_connect::{ConnectConfig, Connection};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let connection = Connection::connect(ConnectConfig::new("nats://localhost")).await?;
/// connection.nats().publish("orders.new", "…".into()).await?;
///
/// let mut state = connection.state();
/// tokio::select! {
///     _ = state.wait_for(|state| state.epoch > 1) => println!("reconnected"),
///     result = connection.fence(Duration::from_secs(1)) => println!("confirmed after {:?}", result?),
/// }
/// connection.close(Duration::from_secs(5)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

impl Connection {
    /// Connects to the first server that can be reached.
    ///
    /// Each server is tried once, in random order unless
    /// [`retain_servers_order`](ConnectConfig::retain_servers_order) is set. Wrong credentials end
    /// the search at once. After at most 2 × [`connect_timeout`](ConnectConfig::connect_timeout) ×
    /// the number of servers there is a result; where names have one address each, after half of
    /// that. Where the servers come from Consul, it has 3 seconds more.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ConnectErrorKind::InvalidConfig) names the setting that cannot work; all
    /// other [kinds](crate::ConnectErrorKind) say what became of the servers.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up; nothing is left behind.
    pub async fn connect(config: ConnectConfig) -> Result<Self, ConnectError> {
        // In a box: it is large, and so would be every future that connects.
        Box::pin(dial(config)).await
    }

    /// Takes over a client that somebody else has connected.
    ///
    /// Its state is looked at every 250 ms; a reconnect between two looks still raises the epoch.
    /// What only async-nats' events tell stays unknown: lame duck mode, [server
    /// errors](Self::server_errors). [`observe`](crate::observe) gives both.
    ///
    /// The client's options are not changed: with async-nats' defaults a dead server is noticed
    /// after 180 s, and `no_echo` makes every [`fence`](Self::fence) time out.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn from_nats(client: Client) -> Self {
        Self::supervised(client).0
    }

    /// Takes over a client that somebody else has connected with the callback of
    /// [`observe`](crate::observe).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn from_observed(client: Client, observer: Observer) -> Self {
        observer.signals.attach(client.statistics());
        Self::foreign(client, observer.signals).0
    }

    pub(crate) fn supervised(client: Client) -> (Self, JoinHandle<()>) {
        let signals = Arc::new(Signals::default());
        signals.attach(client.statistics());
        Self::foreign(client, signals)
    }

    fn foreign(client: Client, signals: Arc<Signals>) -> (Self, JoinHandle<()>) {
        // The prefix itself cannot be read.
        let inbox = client.new_inbox();
        let prefix = inbox
            .rsplit_once('.')
            .map_or(inbox.as_str(), |(prefix, _)| prefix)
            .to_owned();
        Self::new(client, signals, prefix, None, None, None)
    }

    pub(crate) fn new(
        client: Client,
        signals: Arc<Signals>,
        inbox_prefix: String,
        subscription_capacity: Option<usize>,
        jetstream_domain: Option<String>,
        course: Option<Course>,
    ) -> (Self, JoinHandle<()>) {
        let level = level(&client, &signals);
        let inner = Arc::new(Inner {
            client,
            closed: AtomicBool::new(false),
            confirmed: AtomicU64::new(0),
            driver: OnceLock::new(),
            reconnected: Mutex::new(None),
            runtime: Handle::current(),
            inbox_prefix,
            subscription_capacity,
            jetstream_domain,
            course,
            signals,
            state: watch::Sender::new(level),
            shared: Shared::default(),
        });
        let supervisor = supervisor::spawn(&inner);
        (Self { inner }, supervisor)
    }

    /// Are these two handles of one connection?
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The client of async-nats.
    ///
    /// A clone of it keeps the connection alive.
    #[must_use]
    pub fn nats(&self) -> &Client {
        &self.inner.client
    }

    /// The state of the connection, to be read and waited for.
    ///
    /// The watch ends (its `changed` fails) when the last handle is dropped.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(connection: natstream_connect::Connection) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut state = connection.state();
    /// let epoch = state.borrow_and_update().epoch;
    /// state.wait_for(|state| state.epoch > epoch).await?;
    /// println!("reconnected");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.inner.state.subscribe()
    }

    /// When the connection came back last, if it ever was away. Whoever sees an epoch in the [state](Self::state) sees its
    /// moment here.
    #[must_use]
    pub fn reconnected_at(&self) -> Option<Instant> {
        *self.inner.reconnected.lock()
    }

    /// Why the connection has ended for good; `None` while it has not.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(connection: natstream_connect::Connection) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut state = connection.state();
    /// state.wait_for(|state| state.is_closed()).await?;
    /// if let Some(reason) = connection.end_reason() {
    ///     println!("{reason}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn end_reason(&self) -> Option<EndReason> {
        let given = self.inner.signals.end_reason().cloned();
        self.inner
            .look()
            .is_closed()
            .then(|| given.unwrap_or(EndReason::ClientEnded))
    }

    /// What the server complains about from now on, permission violations above all.
    ///
    /// 256 complaints are kept for a slow reader, who is told when it missed more. async-nats
    /// itself drops events when they come in storms. A foreign client without
    /// [`observe`](crate::observe) yields nothing.
    #[must_use]
    pub fn server_errors(&self) -> broadcast::Receiver<ServerErrorEvent> {
        self.inner.signals.server_errors.subscribe()
    }

    /// The largest message that the server takes, headers and payload together, in bytes.
    ///
    /// It may change with a reconnect.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.inner.client.max_payload()
    }

    /// What the server said about itself when the connection was established.
    #[must_use]
    pub fn server_info(&self) -> ServerInfo {
        self.inner.client.server_info()
    }

    /// The version of the server, `2.15.1` for example.
    #[must_use]
    pub fn server_version(&self) -> String {
        self.server_info().version
    }

    /// The number that the server gave this connection; another one after a reconnect.
    #[must_use]
    pub fn client_id(&self) -> u64 {
        self.server_info().client_id
    }

    /// The server that this connection is with, without user info; while it is down, the one that
    /// was tried last.
    ///
    /// Unknown for a foreign client.
    #[must_use]
    pub fn server_url(&self) -> Option<String> {
        let current = self.inner.course.as_ref()?.selector().current()?;
        Some(current.as_url_str().to_owned())
    }

    /// The first tokens of every subject that this connection receives answers on.
    #[must_use]
    pub fn inbox_prefix(&self) -> &str {
        &self.inner.inbox_prefix
    }

    /// The JetStream domain of [`ConnectConfig::jetstream_domain`].
    #[must_use]
    pub fn jetstream_domain(&self) -> Option<&str> {
        self.inner.jetstream_domain.as_deref()
    }

    /// The driver of this connection's streams: one task and one timer for any number of them.
    ///
    /// It runs on the runtime that made the connection.
    #[must_use]
    pub fn driver(&self) -> &Driver {
        self.inner
            .driver
            .get_or_init(|| Driver::spawn(&self.inner.runtime, self.inner.client.clone()))
    }

    /// The runtime that made the connection: its tasks run there.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        self.inner.runtime()
    }

    /// A new router: one subscription below this connection's inbox prefix for any number of reply subjects.
    ///
    /// A connection may have several. Messages that belong to no route go to `unrouted`.
    ///
    /// # Errors
    ///
    /// When the connection has been closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn router(&self, unrouted: Arc<dyn Unrouted>) -> Result<Router, SubscribeError> {
        let Inner {
            runtime,
            client,
            inbox_prefix,
            ..
        } = &*self.inner;
        Router::subscribe(runtime, client, inbox_prefix, self.clone(), unrouted).await
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Publishes what is seen of the connection now.
    pub(crate) fn look(&self) -> ConnectionState {
        self.inner.look()
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.inner.signals
    }

    /// Messages that may wait in a subscription, where that is known.
    pub(crate) fn subscription_capacity(&self) -> Option<usize> {
        self.inner.subscription_capacity
    }

    pub(crate) fn extras(&self) -> &Shared {
        &self.inner.shared
    }

    /// Waits until the server has processed everything that was handed to this connection before,
    /// and returns how long that took.
    ///
    /// It is a real round trip: a message to an inbox of this connection's own. (async-nats'
    /// `flush` only waits for the operating system's socket.) It vouches for one unbroken
    /// connection: when the connection is down or breaks meanwhile, it fails at once, since what
    /// was on its way may be lost.
    ///
    /// A user who may not publish to the own inbox can fence too: the server's refusal is as good
    /// an answer (it leaves a line in the server's log), unless the client is a foreign one without
    /// [`observe`](crate::observe).
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::FenceErrorKind::Closed),
    /// [`Disconnected`](crate::FenceErrorKind::Disconnected),
    /// [`Timeout`](crate::FenceErrorKind::Timeout).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing but the answer.
    pub async fn fence(&self, timeout: Duration) -> Result<Duration, FenceError> {
        fence::fence(&self.inner, timeout).await
    }

    /// As [`fence`](Self::fence), and fails if the connection is not the one of `epoch` any more: it vouches for everything that
    /// was published since that epoch began. After a [`close`](Self::close) that was confirmed in this epoch it succeeds.
    ///
    /// # Errors
    ///
    /// As [`fence`](Self::fence).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing but the answer.
    pub async fn fence_since(&self, epoch: u64, timeout: Duration) -> Result<Duration, FenceError> {
        fence::fence_since(&self.inner, epoch, timeout).await
    }

    /// Was the connection [closed](Self::close), and what was published in `epoch` confirmed with it?
    #[must_use]
    pub fn is_confirmed(&self, epoch: u64) -> bool {
        self.inner.is_confirmed(epoch)
    }

    /// Confirms with a [fence](Self::fence) that the server has everything, and ends the connection
    /// for good.
    ///
    /// Afterwards the state is [`Closed`](ConnectionStatus::Closed), subscriptions end, and every operation
    /// on any clone of the handle or the client fails. What is published while this runs may be
    /// lost. Closing a closed connection is fine.
    ///
    /// The connection ends in any case, also when this fails: an error only says that nothing was
    /// confirmed. One that is down ends before its next reconnect attempt; a foreign client that is
    /// down ends when it has reconnected.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](crate::FenceErrorKind::Disconnected) and
    /// [`Timeout`](crate::FenceErrorKind::Timeout): the server did not confirm everything. It takes
    /// no longer than `timeout` to say so.
    ///
    /// # Cancel safety
    ///
    /// Dropped early, the connection may be open still; it can be closed again.
    pub async fn close(&self, timeout: Duration) -> Result<(), FenceError> {
        fence::close(&self.inner, timeout).await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.server_url())
            .field("state", &*self.inner.state.borrow())
            .field("inbox_prefix", &self.inner.inbox_prefix)
            .finish_non_exhaustive()
    }
}

/// What the handles share.
pub(crate) struct Inner {
    client: Client,
    /// Started with the first stream.
    driver: OnceLock<Driver>,
    /// When the connection came back last.
    reconnected: Mutex<Option<Instant>>,
    /// Where this connection's tasks run: the runtime that made it, not the one that happens to ask first.
    runtime: Handle,
    /// Set by `close`: nothing that async-nats does afterwards counts.
    closed: AtomicBool,
    /// The epoch that a close has confirmed; 0 for none.
    confirmed: AtomicU64,
    inbox_prefix: String,
    /// Messages that may wait in a subscription, where that is known.
    subscription_capacity: Option<usize>,
    jetstream_domain: Option<String>,
    /// `None` for a foreign client, which is not ours to move.
    course: Option<Course>,
    signals: Arc<Signals>,
    state: watch::Sender<ConnectionState>,
    shared: Shared,
}

impl Inner {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn signals(&self) -> &Arc<Signals> {
        &self.signals
    }

    /// Is it connected, as far as was published?
    pub(crate) fn is_connected(&self) -> bool {
        self.state.borrow().is_connected()
    }

    /// Is the published state the end?
    pub(crate) fn is_over(&self) -> bool {
        self.state.borrow().is_closed()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    /// Looks at the client, and publishes what is seen.
    pub(crate) fn look(&self) -> ConnectionState {
        let mut seen = *self.state.borrow();
        let changed = self.state.send_if_modified(|state| {
            // Under the lock of the watch: of two who look, the later one sees the later state, and
            // the epoch never falls.
            seen = level(&self.client, &self.signals);
            if !seen.is_connected() {
                // async-nats counts a connection a moment before it says that it is up: until it was seen up, it is none.
                seen.epoch = seen.epoch.min(state.epoch);
            }
            if seen.epoch > state.epoch && state.epoch > 0 {
                *self.reconnected.lock() = Some(supervisor::now());
            }
            let given_up = self.signals.end_reason().is_some_and(EndReason::is_given_up);
            if given_up || self.closed.load(Ordering::Relaxed) {
                seen.status = ConnectionStatus::Closed;
            }
            std::mem::replace(state, seen) != seen
        });
        if changed {
            let ConnectionState {
                status,
                epoch,
                lame_duck,
            } = seen;
            tracing::info!(?status, epoch, lame_duck, "connection state changed");
        }
        seen
    }

    pub(crate) fn course(&self) -> Option<&Course> {
        self.course.as_ref()
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// A close has confirmed what was published in this epoch.
    pub(crate) fn confirmed(&self, epoch: u64) {
        self.confirmed.store(epoch, Ordering::Release);
    }

    pub(crate) fn is_confirmed(&self, epoch: u64) -> bool {
        epoch != 0 && self.confirmed.load(Ordering::Acquire) == epoch
    }

    /// The connection is over, whatever async-nats still does.
    pub(crate) fn end(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.look();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // So that the supervisor notices at once.
        self.signals.wake.notify_one();
    }
}

/// What can be seen of the connection at this moment.
fn level(client: &Client, signals: &Signals) -> ConnectionState {
    // In this order: whoever is seen connected is seen with the epoch of that connection, or a
    // later one.
    let connected = client.connection_state() == State::Connected;
    let epoch = signals.connects();
    let status = match (is_closed(client), connected) {
        (true, _) => ConnectionStatus::Closed,
        (false, true) => ConnectionStatus::Connected,
        (false, false) => ConnectionStatus::Disconnected,
    };
    ConnectionState::new(status, epoch, signals.is_lame_duck(epoch))
}

/// Whether async-nats' connection task has ended: nobody takes commands any more. Its own state
/// does not tell.
fn is_closed(client: &Client) -> bool {
    // Asking reserves a place among the commands, which the drop of the clone gives back.
    let mut probe = client.clone();
    let mut context = Context::from_waker(Waker::noop());
    matches!(Pin::new(&mut probe).poll_ready(&mut context), Poll::Ready(Err(_)))
}
