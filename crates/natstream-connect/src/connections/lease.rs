//! The connections of a set, and their load.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::ServerAddr;
use async_nats::connection::State;
use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::connection::Connection;
use crate::connections::Inner;
use crate::connections::plan::{Id, Seen};

/// A connection of a set.
pub(crate) struct Member {
    pub(crate) id: Id,
    /// Its own server.
    server: String,
    connection: Connection,
    load: AtomicUsize,
    is_retiring: AtomicBool,
}

impl Member {
    pub(crate) fn new(id: Id, server: &str, connection: Connection) -> Self {
        Self {
            id,
            server: server.to_owned(),
            connection,
            load: AtomicUsize::new(0),
            is_retiring: AtomicBool::new(false),
        }
    }

    fn load(&self) -> usize {
        self.load.load(Ordering::Acquire)
    }

    fn is_up(&self) -> bool {
        self.connection.nats().connection_state() == State::Connected
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.connection.state().borrow().is_closed()
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen {
            is_up: self.is_up(),
            is_home: self.connection.server_url().is_some_and(|url| url == self.server),
            load: self.load(),
        }
    }

    /// Has it no more work, and gets none?
    pub(crate) fn is_done(&self) -> bool {
        self.is_retiring.load(Ordering::Acquire) && self.load() == 0
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
    all: RwLock<Vec<Arc<Member>>>,
    /// Where the search begins: those that carry the same take turns.
    turn: AtomicUsize,
    /// A lease was dropped.
    pub(crate) released: Notify,
}

impl Members {
    pub(crate) fn add(&self, member: Arc<Member>) {
        self.all.write().push(member);
    }

    pub(crate) fn retire(&self, id: Id) {
        if let Some(member) = self.all.read().iter().find(|member| member.id == id) {
            member.is_retiring.store(true, Ordering::Release);
        }
    }

    /// Those that are closed, or retire and have no more work, are removed; but the last that can work stay.
    pub(crate) fn remove_done(&self) -> Vec<Arc<Member>> {
        let (_, up, _) = self.figures();
        let is_over = |member: &Arc<Member>| member.is_closed() || (up > 0 && member.is_done());
        if !self.all.read().iter().any(is_over) {
            return Vec::new();
        }
        self.all.write().extract_if(.., |member| is_over(member)).collect()
    }

    /// Tells those that get work where else they may go.
    pub(crate) fn set_list(&self, list: &[ServerAddr]) {
        let all = self.all.read();
        for member in all.iter().filter(|member| !member.is_retiring.load(Ordering::Acquire)) {
            member.connection.inner().set_list(list.to_vec());
        }
    }

    pub(crate) fn take(&self) -> Vec<Arc<Member>> {
        std::mem::take(&mut *self.all.write())
    }

    pub(crate) fn seen(&self) -> Vec<(Id, Seen)> {
        let all = self.all.read();
        let active = all.iter().filter(|member| !member.is_retiring.load(Ordering::Acquire));
        active.map(|member| (member.id, member.seen())).collect()
    }

    pub(crate) fn load(&self) -> usize {
        self.all.read().iter().map(|member| member.load()).sum()
    }

    /// How many there are that get work, how many of them are up, and how much all carry.
    pub(crate) fn figures(&self) -> (usize, usize, usize) {
        let all = self.all.read();
        let active = all.iter().filter(|member| !member.is_retiring.load(Ordering::Acquire));
        let (count, up) = active.fold((0, 0), |(count, up), member| {
            (count + 1, up + usize::from(member.is_up()))
        });
        (count, up, all.iter().map(|member| member.load()).sum())
    }

    /// The server that each one is with, and what it carries.
    pub(crate) fn whereabouts(&self) -> Vec<(String, usize)> {
        let all = self.all.read();
        let up = all.iter().filter(|member| member.is_up());
        up.filter_map(|member| Some((member.connection.server_url()?, member.load())))
            .collect()
    }

    /// Takes the one that is up and carries least; one that retires only when there is no other.
    pub(crate) fn least_loaded(&self, inner: &Arc<Inner>) -> Option<Lease> {
        let all = self.all.read();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % all.len().max(1);
        let candidates = all[turn..].iter().chain(&all[..turn]).filter(|member| member.is_up());
        let member = candidates.min_by_key(|member| (member.is_retiring.load(Ordering::Acquire), member.load()))?;
        // Under the lock: one that is about to be removed for want of load is not taken.
        Some(Lease::new(member.clone(), inner.clone()))
    }
}

/// A connection, while somebody uses it.
///
/// It is the connection, and where that is one of a set, it counts as load on it until it is dropped: another one is dialled,
/// or this one closed, by how much that is. Hold it for a call, or for as long as a subscription lives. A clone of the
/// connection itself is not counted.
#[derive(Clone)]
pub struct Lease {
    connection: Connection,
    /// `None` for a connection that is in no set.
    share: Option<Share>,
}

impl Lease {
    fn new(member: Arc<Member>, inner: Arc<Inner>) -> Self {
        member.load.fetch_add(1, Ordering::AcqRel);
        Self {
            connection: member.connection.clone(),
            share: Some(Share { member, inner }),
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
    inner: Arc<Inner>,
}

impl Clone for Share {
    fn clone(&self) -> Self {
        self.member.load.fetch_add(1, Ordering::AcqRel);
        Self {
            member: self.member.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.member.load.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.inner.members.released.notify_waiters();
            if self.member.is_retiring.load(Ordering::Acquire) {
                self.inner.wake.notify_one();
            }
        }
    }
}
