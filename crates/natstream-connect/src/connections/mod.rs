//! Connections that are shared: several to each server, as many as the load needs.

mod builder;
mod driver;
mod health;
mod lease;
mod plan;
mod refusals;
mod set;
mod slot;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_util::sync::DropGuard;

use crate::config::ConnectConfig;
use crate::end::EndReason;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::servers::{IntoServers, ServerList};
use set::CLOSE;

pub use builder::ConnectionsBuilder;
pub use lease::Lease;
pub(crate) use set::Set;

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
/// Cloning gives another handle. When the last one is dropped, nothing is dialled any more, and the connections end once no lease
/// is held.
///
/// Where the credentials are refused again and again by all servers, the set [ends](Self::end_reason), as a
/// [`Connection`](crate::Connection) does.
#[derive(Clone)]
pub struct Connections {
    set: Arc<Set>,
    /// Ends all that works for the set with the last handle.
    _alive: Arc<DropGuard>,
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
    /// Why the last dial failed; `None` once one has succeeded.
    pub failure: Option<ConnectErrorKind>,
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
    /// As [`Connection::connect`](crate::Connection::connect): no server could be reached, or a setting cannot work.
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
    /// # Errors
    /// Why the set has [ended](Self::end_reason).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn lease(&self) -> Result<Lease, EndReason> {
        // Whoever takes one after the other lets other tasks run.
        tokio::task::consume_budget().await;
        loop {
            let mut joined = pin!(self.set.joined.notified());
            // From here on nothing is missed.
            joined.as_mut().enable();
            if let Some(reason) = self.set.end_reason() {
                return Err(reason);
            }
            if let Some(lease) = self.try_lease() {
                return Ok(lease);
            }
            joined.await;
        }
    }

    /// The connection that carries least and is up, if there is one; `None` also when the set has ended.
    #[must_use]
    pub fn try_lease(&self) -> Option<Lease> {
        let lease = self.set.members.least_loaded(&self.set)?;
        if lease.load() > self.set.grow_above && self.set.may_grow.load(Ordering::Relaxed) {
            self.set.wake.notify_one();
        }
        Some(lease)
    }

    /// Why the set has ended: it was closed, or its credentials were refused by all servers, so many times in a row that it was
    /// given up ([`ConnectConfig::max_refusals`]). `None` while it lives.
    #[must_use]
    pub fn end_reason(&self) -> Option<EndReason> {
        self.set.end_reason()
    }

    /// Figures of this moment.
    #[must_use]
    pub fn stats(&self) -> ConnectionsStats {
        let figures = self.set.members.figures();
        let whereabouts = self.set.members.whereabouts();
        let plan = self.set.plan.lock();
        let (dials_ok, dials_failed) = plan.dials();
        let servers = plan.servers(self.set.time()).map(|server| {
            let there = whereabouts.iter().filter(|(with, _)| with == server.name);
            let (up, in_flight) = there.fold((0, 0), |(up, all), (_, load)| (up + 1, all + load));
            ServerStats {
                server: server.name.to_owned(),
                score: server.score,
                connections: server.connections,
                dialling: server.dialling,
                failure: server.failure,
                up,
                in_flight,
            }
        });
        ConnectionsStats {
            connections: figures.connections,
            up: figures.up,
            in_flight: figures.in_flight,
            dials_ok,
            dials_failed,
            servers: servers.collect(),
        }
    }

    /// The servers are others from now on: connections of those that are gone retire, and new ones are dialled. What runs on
    /// one that retires goes on; where its server dies, it goes to one of the new servers. A list without servers changes nothing.
    ///
    /// # Errors
    /// `InvalidConfig` when a server is not valid or has user info: who we are was settled at the connect. Nothing has changed
    /// then.
    pub fn set_servers(&self, servers: impl IntoServers) -> Result<(), ConnectError> {
        let entries = servers.into_servers();
        if entries.is_empty() {
            return Ok(());
        }
        self.set.set_list(ServerList::parse_without_login(&entries)?);
        Ok(())
    }

    /// Gives out no more leases, waits for those that are held until the deadline, and closes all connections, which takes up
    /// to 5 s more where servers do not answer. Returns how many leases were held.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the set ended and its connections open until the last lease is dropped.
    pub async fn close(&self, deadline: Duration) -> usize {
        self.set.end(EndReason::Closed);
        let idle = async {
            loop {
                let mut released = pin!(self.set.members.released.notified());
                released.as_mut().enable();
                if self.set.members.load() == 0 {
                    return;
                }
                released.await;
            }
        };
        let _ = timeout(deadline, idle).await;
        let left = self.set.members.load();
        let members = self.set.members.take();
        join_all(members.iter().map(|member| member.close(CLOSE))).await;
        left
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.set.members.figures();
        f.debug_struct("Connections")
            .field("connections", &figures.connections)
            .field("up", &figures.up)
            .field("in_flight", &figures.in_flight)
            .finish_non_exhaustive()
    }
}
