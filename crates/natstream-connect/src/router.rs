//! One subscription for all reply subjects of a connection.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::{Client, Message, Statistics, Subject, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::coop;
use tokio::time::sleep;

use crate::connection::Connection;
use crate::denials::{Denials, INTERVAL};
use crate::knows::Knows;
use crate::overflow::Overflow;
use crate::server_error::ServerErrorEvent;
use crate::state::ConnectionState;
use crate::token::{RouteToken, TOKEN_LEN, letters, token};

/// Messages that are dispatched before the router looks at anything else.
const MESSAGES_PER_TURN: usize = 8;

/// How many messages wait at most in a subscription of a client that somebody else has made: fewer than anybody sets.
const UNKNOWN_CAPACITY: usize = 1024;

/// A message of a route.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// What follows the route's subject, without the dot; empty for the subject itself.
    pub rest: &'a str,
    /// The message. Its subject has been taken out: what follows the route's subject is all that it says.
    pub message: Message,
    /// So many messages came in a row that async-nats may have dropped some before this one. Whether it has is told soon, by
    /// [`Route::overflowed`].
    pub may_follow_loss: bool,
}

/// Where the messages of one route go.
pub trait Route: Send + Sync + 'static {
    /// Takes a message, in the router's task: it must not block, and must bound what it keeps.
    fn deliver(self: Arc<Self>, arrival: Arrival<'_>);

    /// async-nats has dropped messages of the router, since it had too many; they may have been this route's. It must not
    /// block. For routes that number their messages this says nothing new.
    ///
    /// A foreign client without [`observe`](crate::observe) does not say so.
    fn overflowed(self: Arc<Self>) {}

    /// The connection is down, or back. It must not block.
    fn connection_changed(self: Arc<Self>, is_up: bool);

    /// nats-server has refused something; it may concern other routes. It must not block.
    ///
    /// nats-server names subjects, and async-nats may drop its words under load. A foreign client without
    /// [`observe`](crate::observe) hears nothing.
    fn denied(self: Arc<Self>, denied: &Denials);

    /// Nothing more will ever be delivered: the connection is closed, or its runtime has ended. The route is removed already.
    fn ended(self: Arc<Self>);
}

/// Gets the messages that belong to no route.
pub trait Unrouted: Send + Sync + 'static {
    /// Takes such a message, in the router's task: it must not block.
    fn unrouted(&self, message: Message);
}

/// The reply subjects of one connection: one wildcard subscription, any number of routes.
///
/// Cloning gives another handle to the same one; the subscription ends with the last handle and the last route. One task dispatches; it never
/// waits for a route, so one slow reader delays nobody else.
///
/// Memory: about 200 bytes a route.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
    alive: Arc<Alive>,
}

/// Dropping the last one ends the router's task, and with it the subscription.
#[derive(Debug)]
struct Alive {
    prefix: Arc<str>,
    _gone: oneshot::Sender<()>,
}

/// A token, in place: a string of its own for each route would cost as much again.
type Key = [u8; TOKEN_LEN];

/// Tokens are random, and those of others find no route: a few of their letters are as good as any hash, for each message.
#[derive(Default)]
struct TokenHasher(u64);

impl Hasher for TokenHasher {
    fn write(&mut self, bytes: &[u8]) {
        // A length, which is always the same, comes as fewer bytes in a call of its own.
        if let Some((letters, [_, ..])) = bytes.split_first_chunk::<8>() {
            // Letters differ in their low bits, and the map wants the high ones too.
            self.0 = u64::from_le_bytes(*letters).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

type Routes = HashMap<Key, Entry, BuildHasherDefault<TokenHasher>>;

struct Shared {
    /// `<inbox prefix>.<random name>.`, the dot included.
    prefix: Arc<str>,
    statistics: Arc<Statistics>,
    /// The connection, counted from 1, on which nats-server did not let this user subscribe; 0 for none.
    denied_on: AtomicU64,
    /// `None` once the router has ended.
    routes: Mutex<Option<Routes>>,
}

struct Entry {
    route: Arc<dyn Route>,
    knows: Knows,
}

impl Router {
    /// Subscribes below `inbox_prefix` on `client`.
    ///
    /// When it returns, the subscription has been handed to the connection, so what is published on the same connection
    /// from here on finds it in place.
    pub(crate) async fn subscribe(
        runtime: &Handle,
        client: &Client,
        inbox_prefix: &str,
        connection: Connection,
        unrouted: Arc<dyn Unrouted>,
    ) -> Result<Self, async_nats::SubscribeError> {
        let prefix: Arc<str> = format!("{inbox_prefix}.{}.", token()).into();
        // First, so that the answer to the subscription is heard.
        let errors = connection.server_errors();
        let subscriber = client.subscribe(format!("{prefix}>")).await?;
        let overflow = connection.signals().overflows.watch(&subscriber);
        let shared = Arc::new(Shared {
            prefix: prefix.clone(),
            statistics: client.statistics(),
            denied_on: AtomicU64::new(0),
            routes: Mutex::new(Some(Routes::default())),
        });
        let (alive, gone) = oneshot::channel();
        let signs = Signs {
            overflow,
            state: connection.state(),
            errors,
            connection,
        };
        runtime.spawn(run(Running(shared.clone()), subscriber, signs, unrouted, gone));
        Ok(Self {
            shared,
            alive: Arc::new(Alive { prefix, _gone: alive }),
        })
    }

    /// Adds a route under a fresh token, which is never used again. When the connection is closed, the route is told at once.
    #[must_use = "dropping it removes the route"]
    pub fn add(&self, route: Arc<dyn Route>) -> RouteGuard {
        let key = letters();
        let mut routes = self.shared.routes.lock();
        let denied = self.is_denied().then(|| route.clone());
        let knows = Knows::new(self.shared.connects());
        let late = match &mut *routes {
            Some(routes) => routes.insert(key, Entry { route, knows }),
            None => Some(Entry { route, knows }),
        };
        drop(routes);
        if let Some(late) = late {
            late.route.ended();
        } else if let Some(route) = denied {
            route.denied(&Denials::inbox_only());
        }
        RouteGuard {
            shared: Arc::downgrade(&self.shared),
            alive: self.alive.clone(),
            key,
        }
    }

    /// Did nats-server refuse the subscription, as far as is known? Nothing arrives then.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        let denied_on = self.shared.denied_on.load(Ordering::Acquire);
        denied_on != 0 && denied_on == self.shared.connects()
    }

    /// Number of routes: for leak checks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.routes.lock().as_ref().map_or(0, HashMap::len)
    }

    /// Are there no routes?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What all subjects of this router begin with, the last dot included.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.shared.prefix
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("prefix", &self.prefix())
            .field("routes", &self.len())
            .finish()
    }
}

/// The task's own handle: however the task ends, with its runtime too, the routes are told and let go.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        let left = self.0.routes.lock().take();
        for entry in left.into_iter().flat_map(HashMap::into_values) {
            entry.route.ended();
        }
    }
}

/// What tells of losses. Made before the first route is added, so that each route hears of all that concerns it.
struct Signs {
    overflow: Arc<Overflow>,
    state: watch::Receiver<ConnectionState>,
    errors: broadcast::Receiver<ServerErrorEvent>,
    /// Kept, so that the routes hear of reconnects though all other handles of the connection are gone.
    connection: Connection,
}

async fn run(
    running: Running,
    mut subscriber: Subscriber,
    signs: Signs,
    unrouted: Arc<dyn Unrouted>,
    mut gone: oneshot::Receiver<()>,
) {
    let Signs {
        overflow,
        mut state,
        mut errors,
        connection,
    } = signs;
    let mut seen = *state.borrow_and_update();
    let wildcard = format!("{}>", running.0.prefix);
    // Half of it, so that a queue that was full is certainly noticed.
    let crowd = connection.subscription_capacity().unwrap_or(UNKNOWN_CAPACITY) / 2;
    let mut in_a_row = 0;
    let mut denied = Denials::default();
    let mut pause = pin!(sleep(Duration::ZERO));
    loop {
        let message = tokio::select! {
            biased;
            // First: what arrives after a reconnect finds its stream told of it.
            Ok(()) = state.changed() => {
                running.0.change(&mut state, &mut seen);
                // What was refused before may be allowed on this connection.
                denied.forget_inbox();
                continue;
            }
            // Each message may be refused, thousands in a second: then they are told together.
            event = errors.recv(), if denied.is_empty() => {
                if let Ok(event) = event {
                    denied.gather(event, &mut errors, &wildcard);
                }
                continue;
            }
            () = &mut pause, if !denied.is_empty() => {
                running.0.denied(&std::mem::take(&mut denied));
                pause.set(sleep(INTERVAL));
                continue;
            }
            () = overflow.happened() => {
                running.0.overflowed();
                continue;
            }
            // Before messages: there may be no end of them.
            _ = &mut gone => return,
            message = subscriber.next() => message,
        };
        let Some(message) = message else { return };
        in_a_row += 1;
        running.0.catch_up(&connection, &mut state, &mut seen);
        running.0.dispatch(message, in_a_row > crowd, &*unrouted);
        for _ in 1..MESSAGES_PER_TURN {
            // Without a budget: an empty queue must be seen as one.
            match coop::unconstrained(subscriber.next()).now_or_never() {
                Some(Some(message)) => {
                    in_a_row += 1;
                    running.0.catch_up(&connection, &mut state, &mut seen);
                    running.0.dispatch(message, in_a_row > crowd, &*unrouted);
                }
                Some(None) => return,
                None => {
                    in_a_row = 0;
                    break;
                }
            }
        }
    }
}

impl Shared {
    /// The published state lags a little: what arrives on a new connection finds its stream told of it.
    fn catch_up(
        &self,
        connection: &Connection,
        state: &mut watch::Receiver<ConnectionState>,
        seen: &mut ConnectionState,
    ) {
        if self.connects() != seen.epoch || !seen.is_connected() {
            connection.look();
            self.change(state, seen);
        }
    }

    /// Takes up the published state.
    fn change(&self, state: &mut watch::Receiver<ConnectionState>, seen: &mut ConnectionState) {
        let now = *state.borrow_and_update();
        if now.is_connected() != seen.is_connected() || now.epoch != seen.epoch {
            *seen = now;
            self.connection_changed(now);
        }
    }

    /// Tells every route what has changed for it.
    fn connection_changed(&self, now: ConnectionState) {
        let all: Vec<_> = {
            let routes = self.routes.lock();
            let entries = routes.iter().flat_map(HashMap::iter);
            entries
                .map(|(key, entry)| (*key, entry.route.clone(), entry.knows))
                .collect()
        };
        for (key, route, knows) in all {
            let (news, after) = knows.news(now);
            if news.went_down {
                route.clone().connection_changed(false);
            }
            if news.came_up {
                route.connection_changed(true);
            }
            // Afterwards: whoever asks meanwhile hears that it has missed something, and not that all is well.
            if let Some(entry) = self.routes.lock().as_mut().and_then(|routes| routes.get_mut(&key)) {
                entry.knows = entry.knows.max(after);
            }
        }
    }

    /// Tells every route what was refused.
    fn denied(&self, denied: &Denials) {
        if denied.inbox() {
            self.denied_on.store(self.connects(), Ordering::Release);
        }
        for route in self.all() {
            route.denied(denied);
        }
    }

    /// Tells every route that messages were dropped.
    fn overflowed(&self) {
        for route in self.all() {
            route.overflowed();
        }
    }

    fn all(&self) -> Vec<Arc<dyn Route>> {
        let routes = self.routes.lock();
        let entries = routes.iter().flat_map(HashMap::values);
        entries.map(|entry| entry.route.clone()).collect()
    }

    /// How often the client has connected, at this moment.
    fn connects(&self) -> u64 {
        self.statistics.connects.load(Ordering::Acquire)
    }

    fn dispatch(&self, mut message: Message, may_follow_loss: bool, unrouted: &dyn Unrouted) {
        // Taken, since the first clone of a subject allocates.
        let subject = std::mem::replace(&mut message.subject, Subject::from_static(""));
        let Some(after) = subject.strip_prefix(&*self.prefix) else {
            return;
        };
        let (token, rest) = after.split_once('.').unwrap_or((after, ""));
        let key = Key::try_from(token.as_bytes()).ok();
        let route = key.and_then(|key| Some(self.routes.lock().as_ref()?.get(&key)?.route.clone()));
        match route {
            Some(route) => route.deliver(Arrival {
                rest,
                message,
                may_follow_loss,
            }),
            None => {
                message.subject = subject;
                unrouted.unrouted(message);
            }
        }
    }
}

/// A route in a router, which it keeps alive. Dropping it removes the route.
#[derive(Debug)]
pub struct RouteGuard {
    shared: Weak<Shared>,
    alive: Arc<Alive>,
    key: Key,
}

impl RouteGuard {
    /// Has the connection been lost and found again, and the route not been told of it yet? Says so once: what is told later
    /// is something else.
    #[must_use]
    pub fn missed_reconnect(&self) -> bool {
        let Some(shared) = self.shared.upgrade() else {
            return false;
        };
        let now = Knows::new(shared.connects());
        let mut routes = shared.routes.lock();
        let entry = routes.as_mut().and_then(|routes| routes.get_mut(&self.key));
        entry.is_some_and(|entry| {
            let before = entry.knows;
            entry.knows = before.max(now);
            before < now
        })
    }

    /// The subject to be answered to. It is put together each time: ten thousand idle streams keep none.
    #[must_use]
    pub fn subject(&self) -> Subject {
        // Letters and digits.
        let token = std::str::from_utf8(&self.key).unwrap_or_default();
        Subject::from([&*self.alive.prefix, token].concat())
    }

    /// What the [subject](Self::subject) ends with.
    #[must_use]
    pub fn token(&self) -> RouteToken {
        RouteToken(self.key)
    }
}

impl Drop for RouteGuard {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            // The route is dropped outside the lock: it may hold other routes.
            let removed = shared
                .routes
                .lock()
                .as_mut()
                .and_then(|routes| routes.remove(&self.key));
            drop(removed);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
