//! What the handles, the driver and the leases of a set share.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_nats::ServerAddr;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::ConnectConfig;
use crate::connection::Connection;
use crate::connections::driver;
use crate::connections::lease::{Member, Members};
use crate::connections::plan::{Action, Id, Limits, Plan};
use crate::connections::refusals::Refusals;
use crate::end::EndReason;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::supervisor::now;

/// How long the end of one connection may take to be confirmed.
pub(crate) const CLOSE: Duration = Duration::from_secs(5);

pub(crate) struct Set {
    /// Locked before `plan` and `members`.
    servers: Mutex<Servers>,
    is_pinned: bool,
    /// What the plan's times count from.
    origin: Instant,
    pub(crate) grow_above: usize,
    pub(crate) plan: Mutex<Plan>,
    pub(crate) members: Members,
    /// Wakes the driver: a load has changed in a way that matters.
    pub(crate) wake: Notify,
    /// There is a connection for whoever waits.
    pub(crate) joined: Notify,
    /// What the plan said last.
    pub(crate) may_grow: AtomicBool,
    /// Nobody asks for leases any more.
    pub(crate) over: CancellationToken,
    refusals: Mutex<Refusals>,
    ended: Mutex<Option<EndReason>>,
}

struct Servers {
    config: ConnectConfig,
    list: Vec<ServerAddr>,
    /// How often the list was replaced.
    generation: u64,
}

impl Set {
    pub(crate) fn new(config: ConnectConfig, list: Vec<ServerAddr>, limits: Limits, is_pinned: bool) -> Self {
        Self {
            is_pinned,
            origin: now(),
            grow_above: limits.grow_above,
            plan: Mutex::new(Plan::new(limits, names(&list))),
            members: Members::default(),
            wake: Notify::new(),
            joined: Notify::new(),
            may_grow: AtomicBool::new(true),
            over: CancellationToken::new(),
            refusals: Mutex::new(Refusals::new(config.most_refusals())),
            ended: Mutex::new(None),
            servers: Mutex::new(Servers {
                config,
                list,
                generation: 0,
            }),
        }
    }

    /// The time, as the plan counts it.
    pub(crate) fn time(&self) -> Duration {
        now().saturating_duration_since(self.origin)
    }

    /// How to connect to this server first; with the generation of the list that it knows.
    pub(crate) fn config_for(&self, server: &str) -> (Result<ConnectConfig, ConnectError>, u64) {
        let servers = self.servers.lock();
        let config = match server.parse() {
            Ok(address) if self.is_pinned => Ok(servers.config.clone().home(address).pinned()),
            Ok(address) => Ok(servers.config.clone().home(address)),
            Err(_) => Err(ConnectError::config("servers", "not a server URL")),
        };
        (config, servers.generation)
    }

    /// The servers are these from now on. An empty list changes nothing.
    pub(crate) fn set_list(&self, list: Vec<ServerAddr>) {
        if list.is_empty() {
            return;
        }
        // Held until all of them know: two lists must not be mixed.
        let mut servers = self.servers.lock();
        servers.config.replace_servers(list.clone());
        servers.generation += 1;
        servers.list = list;
        let actions = self.plan.lock().set_servers(names(&servers.list));
        for action in &actions {
            self.retire(action);
        }
        if !self.is_pinned {
            self.members.set_list(&servers.list);
        }
        drop(servers);
        self.wake.notify_one();
    }

    /// Notes how a dial went that knew the list of this generation.
    pub(crate) fn dialled(
        &self,
        id: Id,
        server: &str,
        outcome: Result<Connection, ConnectError>,
        generation: u64,
    ) -> Result<(), ConnectError> {
        let outcome = match outcome {
            Ok(connection) => {
                let servers = self.servers.lock();
                let member = Member::new(id, server, connection);
                if !self.is_pinned && generation != servers.generation {
                    member.set_list(&servers.list);
                }
                // Where the set is over, it is dropped here.
                self.members.add(member);
                self.refusals.lock().accepted();
                Ok(())
            }
            Err(error) => {
                self.failed(server, &error);
                Err(error)
            }
        };
        let action = self
            .plan
            .lock()
            .dialled(id, self.time(), outcome.is_ok(), driver::share());
        if let Some(action) = action {
            self.retire(&action);
        }
        self.joined.notify_waiters();
        self.wake.notify_one();
        outcome
    }

    /// Says that a dial has failed, and ends the set when its credentials are refused for good.
    fn failed(&self, server: &str, error: &ConnectError) {
        let kind = error.kind();
        let is_news = self.plan.lock().note_failure(server, kind);
        match is_news {
            true => tracing::warn!(%error, server, "a connection of the set could not be made"),
            false => tracing::debug!(%error, server, "a connection of the set could not be made"),
        }
        if kind != ConnectErrorKind::Authentication {
            return;
        }
        let given_up = self.refusals.lock().refused(error);
        if let Some(reason) = given_up
            && !self.members.is_any_up()
        {
            tracing::error!(%reason, "the set of connections is given up");
            self.end(reason);
        }
    }

    /// Gives out no more leases. The first reason counts.
    pub(crate) fn end(&self, reason: EndReason) {
        self.ended.lock().get_or_insert(reason);
        self.members.refuse_leases();
        self.over.cancel();
        self.joined.notify_waiters();
    }

    pub(crate) fn end_reason(&self) -> Option<EndReason> {
        self.ended.lock().clone()
    }

    fn retire(&self, action: &Action) {
        if let Action::Retire { id } = action {
            self.members.retire(*id);
        }
    }
}

fn names(list: &[ServerAddr]) -> impl Iterator<Item = String> {
    list.iter().map(|server| server.as_url_str().to_owned())
}
