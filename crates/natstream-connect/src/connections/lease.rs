//! A share of a connection, and the connections that are shared.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::ServerAddr;
use async_nats::connection::State;
use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::connection::Connection;
use crate::connections::plan::{Id, Seen};
use crate::connections::set::Set;

/// A connection of a set.
pub(crate) struct Member {
    pub(crate) id: Id,
    /// Its own server.
    server: String,
    connection: Connection,
    load: AtomicUsize,
    /// Leases that it ever had.
    leases: AtomicU64,
    is_retiring: AtomicBool,
}

impl Member {
    pub(crate) fn new(id: Id, server: &str, connection: Connection) -> Self {
        Self {
            id,
            server: server.to_owned(),
            connection,
            load: AtomicUsize::new(0),
            leases: AtomicU64::new(0),
            is_retiring: AtomicBool::new(false),
        }
    }

    fn load(&self) -> usize {
        self.load.load(Ordering::Acquire)
    }

    fn take(&self) {
        self.load.fetch_add(1, Ordering::AcqRel);
        self.leases.fetch_add(1, Ordering::Relaxed);
    }

    fn is_up(&self) -> bool {
        // async-nats is the first to know that it is down, and never knows that it was closed.
        self.connection.nats().connection_state() == State::Connected && self.connection.inner().is_connected()
    }

    fn is_closed(&self) -> bool {
        self.connection.inner().is_over()
    }

    fn is_retiring(&self) -> bool {
        self.is_retiring.load(Ordering::Acquire)
    }

    fn seen(&self) -> Seen {
        Seen {
            is_up: self.is_up(),
            is_home: self.connection.server_url().is_some_and(|url| url == self.server),
            load: self.load(),
            leases: self.leases.load(Ordering::Relaxed),
        }
    }

    /// Where else it may go. One whose server is not among them stays with it as long as that lives.
    pub(crate) fn set_list(&self, list: &[ServerAddr]) {
        let mut list = list.to_vec();
        if let Ok(home) = self.server.parse::<ServerAddr>()
            && !list.contains(&home)
        {
            list.push(home);
        }
        self.connection.inner().set_list(list);
    }

    pub(crate) async fn close(&self, limit: Duration) {
        if let Err(error) = self.connection.close(limit).await {
            tracing::debug!(%error, server = self.server, "a connection was closed without a confirmation");
        }
    }
}

/// All of them, those that retire included.
#[derive(Default)]
pub(crate) struct Members {
    all: RwLock<All>,
    /// Where the search begins: those that carry the same take turns.
    turn: AtomicUsize,
    /// A lease was dropped.
    pub(crate) released: Notify,
}

#[derive(Default)]
struct All {
    members: Vec<Arc<Member>>,
    /// No leases are given out any more.
    refuses: bool,
    /// Everything was taken: what comes now is too late.
    is_gone: bool,
}

impl Members {
    pub(crate) fn add(&self, member: Member) {
        let mut all = self.all.write();
        if !all.is_gone {
            all.members.push(Arc::new(member));
        }
    }

    pub(crate) fn retire(&self, id: Id) {
        let all = self.all.read();
        if let Some(member) = all.members.iter().find(|member| member.id == id) {
            member.is_retiring.store(true, Ordering::Release);
        }
    }

    /// Those that are closed, or retire and have no more work, are removed; but the last that can work stay.
    pub(crate) fn remove_done(&self) -> Vec<Arc<Member>> {
        let can_spare = self.figures().up > 0;
        let is_over =
            |member: &Arc<Member>| member.is_closed() || (can_spare && member.is_retiring() && member.load() == 0);
        if !self.all.read().members.iter().any(is_over) {
            return Vec::new();
        }
        // Under this lock nobody takes one.
        self.all
            .write()
            .members
            .extract_if(.., |member| is_over(member))
            .collect()
    }

    /// Tells all where else they may go, those that retire too: what runs on them shall not end with their servers.
    pub(crate) fn set_list(&self, list: &[ServerAddr]) {
        for member in &self.all.read().members {
            member.set_list(list);
        }
    }

    pub(crate) fn refuse_leases(&self) {
        self.all.write().refuses = true;
    }

    /// Everything, for good.
    pub(crate) fn take(&self) -> Vec<Arc<Member>> {
        let mut all = self.all.write();
        (all.refuses, all.is_gone) = (true, true);
        std::mem::take(&mut all.members)
    }

    pub(crate) fn seen(&self) -> Vec<(Id, Seen)> {
        let all = self.all.read();
        let active = all.members.iter().filter(|member| !member.is_retiring());
        active.map(|member| (member.id, member.seen())).collect()
    }

    /// Is there one that work could be given to?
    pub(crate) fn is_any_up(&self) -> bool {
        self.all.read().members.iter().any(|member| member.is_up())
    }

    pub(crate) fn load(&self) -> usize {
        total(&self.all.read().members)
    }

    pub(crate) fn figures(&self) -> Figures {
        let all = self.all.read();
        let active = all.members.iter().filter(|member| !member.is_retiring());
        let (connections, up) = active.fold((0, 0), |(count, up), member| {
            (count + 1, up + usize::from(member.is_up()))
        });
        Figures {
            connections,
            up,
            in_flight: total(&all.members),
        }
    }

    /// The server that each one is with, and what it carries.
    pub(crate) fn whereabouts(&self) -> Vec<(String, usize)> {
        let all = self.all.read();
        let up = all.members.iter().filter(|member| member.is_up());
        up.filter_map(|member| Some((member.connection.server_url()?, member.load())))
            .collect()
    }

    /// Takes the one that is up and carries least; one that retires only when there is no other.
    pub(crate) fn least_loaded(&self, set: &Arc<Set>) -> Option<Lease> {
        let all = self.all.read();
        if all.refuses {
            return None;
        }
        let members = &all.members;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % members.len().max(1);
        let candidates = members[turn..].iter().chain(&members[..turn]);
        let member = candidates
            .filter(|member| member.is_up())
            .min_by_key(|member| (member.is_retiring(), member.load()))?;
        // Under the lock: one that is about to be removed for want of load is not taken.
        Some(Lease::new(member.clone(), set.clone()))
    }
}

/// Sums over all members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Those that get work.
    pub(crate) connections: usize,
    /// How many of them are up.
    pub(crate) up: usize,
    /// What all carry.
    pub(crate) in_flight: usize,
}

fn total(members: &[Arc<Member>]) -> usize {
    members.iter().map(|member| member.load()).sum()
}

/// A connection, while somebody uses it.
///
/// It is the connection, and where that is one of a set, it counts as load on it until it is dropped: another one is dialled,
/// or this one closed, by how much that is. Hold it for a call, or for as long as a subscription lives. A clone of the
/// connection itself is not counted. Closing the connection closes it for all who share it.
#[derive(Clone)]
pub struct Lease {
    connection: Connection,
    /// `None` for a connection that is in no set.
    share: Option<Share>,
}

impl Lease {
    fn new(member: Arc<Member>, set: Arc<Set>) -> Self {
        member.take();
        Self {
            connection: member.connection.clone(),
            share: Some(Share { member, set }),
        }
    }

    /// The connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// How many leases there are on its connection; 0 for one that is in no set.
    pub(crate) fn load(&self) -> usize {
        self.share.as_ref().map_or(0, |share| share.member.load())
    }
}

impl From<Connection> for Lease {
    /// A connection that is in no set.
    fn from(connection: Connection) -> Self {
        Self {
            connection,
            share: None,
        }
    }
}

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("connection", &self.connection).finish()
    }
}

/// One of the users of a connection of a set.
struct Share {
    member: Arc<Member>,
    set: Arc<Set>,
}

impl Clone for Share {
    fn clone(&self) -> Self {
        self.member.take();
        Self {
            member: self.member.clone(),
            set: self.set.clone(),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.member.load.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.set.members.released.notify_waiters();
            if self.member.is_retiring() {
                self.set.wake.notify_one();
            }
        }
    }
}
