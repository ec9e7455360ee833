//! Connections that are shared: several to each server, as many as the load needs.

mod builder;
mod driver;
mod health;
mod lease;
mod plan;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::ServerAddr;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::ConnectConfig;
use crate::connection::Connection;
use crate::error::ConnectError;
use crate::servers::IntoServers;
use crate::supervisor::now;
use lease::{Member, Members};
use plan::Plan;

pub use builder::ConnectionsBuilder;
pub use lease::Lease;

/// How long the end of one connection may take to be confirmed.
const CLOSE: Duration = Duration::from_secs(5);

/// Several connections to the same servers, shared by any number of users.
///
/// A connection carries thousands of streams, so most programs need one. More of them spread the work over processors and
/// servers, and over several sockets. Each has a server of its own, which it is dialled to; when that dies, async-nats goes on
/// with another one, streams resume, and when it is back, a new connection to it takes over.
///
/// Where the [configuration](ConnectConfig) takes the servers from Consul, the set follows what Consul says.
///
/// [`lease`](Self::lease) chooses the connection that carries least; what it returns counts as load until it is dropped. There
/// is nothing to give back, and nobody waits for a free one.
///
/// Cloning gives another handle. When the last one is dropped, the connections end as those of
/// [`Connection`] do.
#[derive(Clone)]
pub struct Connections {
    inner: Arc<Inner>,
    /// Ends all that works for the set with the last handle.
    _alive: Arc<DropGuard>,
}

/// What the handles and the driver share.
pub(crate) struct Inner {
    config: Mutex<ConnectConfig>,
    is_pinned: bool,
    /// What the plan's times count from.
    origin: Instant,
    plan: Mutex<Plan>,
    members: Members,
    /// Wakes the driver: a load has changed in a way that matters.
    wake: Notify,
    /// Somebody waits for a connection.
    joined: Notify,
    /// Nobody asks for leases any more.
    over: CancellationToken,
    grow_above: usize,
}

/// Figures of a set of connections.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConnectionsStats {
    /// Connections that work is given to.
    pub connections: usize,
    /// Those that are with a server at this moment.
    pub up: usize,
    /// Leases that are held.
    pub in_flight: usize,
    /// Connections that were established.
    pub dials_ok: u64,
    /// Attempts to establish one that failed.
    pub dials_failed: u64,
    /// Each server.
    pub servers: Vec<ServerStats>,
}

/// One server of a set of connections.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Its address, without user info.
    pub server: String,
    /// How well it did lately: 1 without failures; a failed dial or a lost connection counts half as much after 30 s.
    pub score: f64,
    /// Connections that belong to it.
    pub connections: usize,
    /// Those that are being established.
    pub dialling: usize,
    /// Connections that are with it at this moment, whichever server they belong to.
    pub up: usize,
    /// Leases that are held on those.
    pub in_flight: usize,
}

impl Connections {
    /// A set of connections with settings.
    pub fn builder(config: ConnectConfig) -> ConnectionsBuilder {
        ConnectionsBuilder::new(config)
    }

    /// One connection to each server, and more while the load needs them: see [`ConnectionsBuilder`].
    ///
    /// # Errors
    /// As [`Connection::connect`]: no server could be reached, or a setting cannot work.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(config: ConnectConfig) -> Result<Self, ConnectError> {
        Self::builder(config).connect().await
    }

    /// The connection that carries least and is up; waits while there is none.
    ///
    /// `None` when the set is closed.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn lease(&self) -> Option<Lease> {
        loop {
            let joined = self.inner.joined.notified();
            if self.inner.over.is_cancelled() {
                return None;
            }
            if let Some(lease) = self.try_lease() {
                return Some(lease);
            }
            // A connection that comes back by itself tells nobody here.
            let _ = timeout(RECHECK, joined).await;
        }
    }

    /// The connection that carries least and is up, if there is one.
    #[must_use]
    pub fn try_lease(&self) -> Option<Lease> {
        let lease = self.inner.members.least_loaded(&self.inner)?;
        if lease.load() > self.inner.grow_above {
            self.inner.wake.notify_one();
        }
        Some(lease)
    }

    /// Figures of this moment.
    #[must_use]
    pub fn stats(&self) -> ConnectionsStats {
        let (connections, up, in_flight) = self.inner.members.figures();
        let whereabouts = self.inner.members.whereabouts();
        let plan = self.inner.plan.lock();
        let (dials_ok, dials_failed) = plan.dials();
        let servers = plan.servers(self.inner.time());
        let servers = servers.map(|(server, score, connections, dialling)| {
            let there = whereabouts.iter().filter(|(with, _)| with == server);
            let (up, in_flight) = there.fold((0, 0), |(up, all), (_, load)| (up + 1, all + load));
            ServerStats {
                server: server.to_owned(),
                score,
                connections,
                dialling,
                up,
                in_flight,
            }
        });
        ConnectionsStats {
            connections,
            up,
            in_flight,
            dials_ok,
            dials_failed,
            servers: servers.collect(),
        }
    }

    /// The servers are others from now on: connections of those that are gone retire, and new ones are dialled. A list without
    /// servers changes nothing.
    ///
    /// # Errors
    /// `InvalidConfig` when a server is not valid. Nothing has changed then.
    pub fn set_servers(&self, servers: impl IntoServers) -> Result<(), ConnectError> {
        let entries = servers.into_servers();
        if entries.is_empty() {
            return Ok(());
        }
        let changed = self.inner.config.lock().clone().with_servers(entries);
        self.inner.set_list(changed.servers()?.to_vec());
        Ok(())
    }

    /// Gives out no more leases, waits for those that are held, and closes all connections, at the latest at the deadline.
    /// Returns how many leases were held then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the set closed and its connections open until the last lease is dropped.
    pub async fn close(&self, deadline: Duration) -> usize {
        self.inner.over.cancel();
        self.inner.joined.notify_waiters();
        let idle = async {
            while self.inner.members.load() > 0 {
                let released = self.inner.members.released.notified();
                if self.inner.members.load() > 0 {
                    let _ = timeout(RECHECK, released).await;
                }
            }
        };
        let _ = timeout(deadline, idle).await;
        let left = self.inner.members.load();
        for member in self.inner.members.take() {
            member.close(CLOSE).await;
        }
        left
    }
}

/// How often it is looked whether a connection has come back while somebody waits for one.
const RECHECK: Duration = Duration::from_millis(20);

impl Inner {
    /// The time, as the plan counts it.
    fn time(&self) -> Duration {
        now().saturating_duration_since(self.origin)
    }

    /// Dials one server.
    async fn dial(&self, server: &str) -> Result<Connection, ConnectError> {
        let address = server
            .parse()
            .map_err(|_| ConnectError::config("servers", "not a server URL"))?;
        let mut config = self.config.lock().clone().home(address);
        if self.is_pinned {
            config = config.pinned();
        }
        Connection::connect(config).await
    }

    /// Ends with the last handle, or when the set is closed.
    #[cfg(feature = "consul")]
    pub(crate) fn over(&self) -> CancellationToken {
        self.over.clone()
    }

    /// The servers are these from now on.
    pub(crate) fn set_list(&self, list: Vec<ServerAddr>) {
        self.config.lock().replace_servers(list.clone());
        let servers = list.iter().map(|server| server.as_url_str().to_owned());
        let actions = self.plan.lock().set_servers(servers);
        for action in &actions {
            self.retire(action);
        }
        self.members.set_list(&list);
        self.wake.notify_one();
    }

    /// Notes how a dial went.
    fn dialled(&self, id: plan::Id, server: &str, connection: Option<Connection>) {
        let share = driver::share();
        let is_ok = connection.is_some();
        if let Some(connection) = connection {
            self.members.add(Arc::new(Member::new(id, server, connection)));
        }
        let action = self.plan.lock().dialled(id, self.time(), is_ok, share);
        if let Some(action) = action {
            self.retire(&action);
        }
        self.joined.notify_waiters();
        self.wake.notify_one();
    }

    fn retire(&self, action: &plan::Action) {
        if let plan::Action::Retire { id } = action {
            self.members.retire(*id);
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (connections, up, in_flight) = self.inner.members.figures();
        f.debug_struct("Connections")
            .field("connections", &connections)
            .field("up", &up)
            .field("in_flight", &in_flight)
            .finish_non_exhaustive()
    }
}
