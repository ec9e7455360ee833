//! Which connections there should be: a machine without clock or socket.
//!
//! Its owner tells it what happened and asks what to do. Times count from an origin that the owner chooses.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::connections::health::Health;
use crate::connections::slot::{Phase, Purpose, Slot};
use crate::error::ConnectErrorKind;

/// A connection of the set.
pub(crate) type Id = u64;

/// How many connections there are, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// For each server, at least and at most.
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// One more is dialled when the least loaded one carries more than this.
    pub(crate) grow_above: usize,
    /// One that is more than the fewest is closed when it carried nothing for so long.
    pub(crate) idle: Duration,
    /// One that is older is replaced.
    pub(crate) max_life: Option<Duration>,
}

/// What the owner does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Connect to this server; say how it went with [`Plan::dialled`].
    Dial { id: Id, server: String },
    /// Give it no more work, and close it when it carries nothing.
    Retire { id: Id },
}

/// What there is to know about a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server<'a> {
    pub(crate) name: &'a str,
    pub(crate) score: f64,
    /// Connections that belong to it.
    pub(crate) connections: usize,
    pub(crate) dialling: usize,
    /// Why the last dial failed.
    pub(crate) failure: Option<ConnectErrorKind>,
}

/// What is seen of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) is_up: bool,
    /// With the server that it was dialled to.
    pub(crate) is_home: bool,
    pub(crate) load: usize,
    /// Leases that it ever had.
    pub(crate) leases: u64,
}

#[derive(Debug)]
pub(crate) struct Plan {
    limits: Limits,
    /// By their addresses, in the order of the configuration.
    servers: Vec<(String, Health)>,
    slots: BTreeMap<Id, Slot>,
    next: Id,
    dials_ok: u64,
    dials_failed: u64,
}

impl Plan {
    pub(crate) fn new(limits: Limits, servers: impl IntoIterator<Item = String>) -> Self {
        Self {
            limits,
            servers: servers.into_iter().map(|server| (server, Health::default())).collect(),
            slots: BTreeMap::new(),
            next: 0,
            dials_ok: 0,
            dials_failed: 0,
        }
    }

    /// The servers are others now. Connections of those that are gone retire; without any server all stays as it is.
    pub(crate) fn set_servers(&mut self, servers: impl IntoIterator<Item = String>) -> Vec<Action> {
        let mut after: Vec<(String, Health)> = Vec::new();
        for server in servers {
            if after.iter().all(|(known, _)| *known != server) {
                let known = self.servers.iter().find(|(known, _)| *known == server);
                after.push((server, known.map(|(_, health)| health.clone()).unwrap_or_default()));
            }
        }
        if after.is_empty() {
            return Vec::new();
        }
        self.servers = after;
        let gone: Vec<Id> = self
            .slots
            .iter()
            .filter(|(_, slot)| self.servers.iter().all(|(server, _)| *server != slot.server))
            .map(|(id, _)| *id)
            .collect();
        gone.into_iter().filter_map(|id| self.retire(id)).collect()
    }

    /// What is to be done now. `share` draws a number between 0 and 1.
    pub(crate) fn poll(&mut self, now: Duration, mut share: impl FnMut() -> f64) -> Vec<Action> {
        let mut actions = Vec::new();
        self.shrink(now, &mut actions);
        for index in 0..self.servers.len() {
            let missing = self.limits.min.saturating_sub(self.count(index));
            // One at a time where it has failed: what is true of one connection to a server is true of all.
            let missing = match self.servers[index].1.is_failing() {
                true if self.is_dialled(index) => 0,
                true => missing.min(1),
                false => missing,
            };
            for _ in 0..missing {
                self.dial(now, index, Purpose::Missing, &mut share, &mut actions);
            }
        }
        self.replace(now, &mut share, &mut actions);
        if self.is_loaded()
            && let Some(index) = self.emptiest(now)
        {
            self.dial(now, index, Purpose::Growth, &mut share, &mut actions);
        }
        actions
    }

    /// Is there room for one more connection?
    pub(crate) fn may_grow(&self) -> bool {
        (0..self.servers.len()).any(|index| self.count(index) < self.limits.max)
    }

    /// When to poll again at the latest, without anything happening.
    pub(crate) fn next_wake(&self, now: Duration) -> Duration {
        let expiries = self.slots.values().filter_map(|slot| slot.expires);
        let idles = self.slots.values().filter_map(|slot| slot.idle_since);
        let idles = idles.map(|since| since.saturating_add(self.limits.idle));
        let backoffs = self.servers.iter().map(|(_, health)| health.not_before());
        let next = expiries.chain(idles).chain(backoffs).filter(|at| *at > now).min();
        next.unwrap_or(now + Duration::from_secs(60))
    }

    /// How a dial went.
    pub(crate) fn dialled(&mut self, id: Id, now: Duration, succeeded: bool, share: f64) -> Option<Action> {
        let Some(slot) = self.slots.get_mut(&id) else {
            // Its server has left the list meanwhile.
            self.dials_ok += u64::from(succeeded);
            self.dials_failed += u64::from(!succeeded);
            return succeeded.then_some(Action::Retire { id });
        };
        let Phase::Dialling { purpose, since } = slot.phase else {
            return None;
        };
        let server = self.servers.iter_mut().find(|(server, _)| *server == slot.server);
        if !succeeded {
            self.slots.remove(&id);
            self.dials_failed += 1;
            if let Some((_, health)) = server {
                health.failed(since, now, share);
            }
            return None;
        }
        slot.phase = Phase::Up;
        slot.is_home = true;
        slot.idle_since = Some(now);
        self.dials_ok += 1;
        if let Some((_, health)) = server {
            health.succeeded();
        }
        match purpose {
            Purpose::Replaces(old) => self.retire(old),
            Purpose::Growth | Purpose::Missing => None,
        }
    }

    /// What a connection looks like now.
    pub(crate) fn seen(&mut self, id: Id, now: Duration, seen: Seen) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if slot.is_dialling() {
            return;
        }
        let is_used = seen.load > 0 || seen.leases != slot.leases;
        slot.idle_since = match slot.idle_since {
            _ if seen.load > 0 => None,
            Some(since) if !is_used => Some(since),
            _ => Some(now),
        };
        (slot.load, slot.leases) = (seen.load, seen.leases);
        let was_fine = slot.phase == Phase::Up && slot.is_home;
        slot.phase = if seen.is_up { Phase::Up } else { Phase::Down };
        slot.is_home = seen.is_home;
        let is_fine = seen.is_up && seen.is_home;
        if was_fine
            && !is_fine
            && let Some((_, health)) = self.servers.iter_mut().find(|(server, _)| *server == slot.server)
        {
            health.lost(now);
        }
    }

    /// A connection is closed for good.
    pub(crate) fn closed(&mut self, id: Id) {
        self.slots.remove(&id);
    }

    /// Dials that succeeded, and that failed.
    pub(crate) fn dials(&self) -> (u64, u64) {
        (self.dials_ok, self.dials_failed)
    }

    /// Notes why a dial failed; whether that is news.
    pub(crate) fn note_failure(&mut self, server: &str, kind: ConnectErrorKind) -> bool {
        let known = self.servers.iter_mut().find(|(known, _)| known == server);
        known.is_some_and(|(_, health)| health.note_failure(kind))
    }

    /// Each server, as it is now.
    pub(crate) fn servers(&self, now: Duration) -> impl Iterator<Item = Server<'_>> {
        self.servers.iter().map(move |(server, health)| {
            let of = |dialling: bool| {
                let is = |slot: &&Slot| slot.server == *server && slot.is_dialling() == dialling;
                self.slots.values().filter(is).count()
            };
            Server {
                name: server,
                score: health.score(now),
                connections: of(false),
                dialling: of(true),
                failure: health.failure(),
            }
        })
    }

    /// How many connections of a server there are, or will be.
    fn count(&self, index: usize) -> usize {
        let server = &self.servers[index].0;
        let counts = |slot: &&Slot| {
            let is_replacement = matches!(slot.purpose(), Some(Purpose::Replaces(_)));
            slot.server == *server && !is_replacement
        };
        self.slots.values().filter(counts).count()
    }

    fn is_dialled(&self, index: usize) -> bool {
        let server = &self.servers[index].0;
        self.slots
            .values()
            .any(|slot| slot.server == *server && slot.is_dialling())
    }

    /// Does the least loaded connection carry so much that another one would help?
    fn is_loaded(&self) -> bool {
        if self.slots.values().any(|slot| slot.purpose() == Some(Purpose::Growth)) {
            return false;
        }
        let up = self.slots.values().filter(|slot| slot.phase == Phase::Up);
        up.map(|slot| slot.load)
            .min()
            .is_some_and(|load| load > self.limits.grow_above)
    }

    /// The server with the fewest connections that takes one more; of several, the one that does best.
    fn emptiest(&self, now: Duration) -> Option<usize> {
        let takes_one =
            |index: &usize| self.count(*index) < self.limits.max && self.servers[*index].1.not_before() <= now;
        let order = |a: &usize, b: &usize| {
            let scores = (self.servers[*b].1.score(now), self.servers[*a].1.score(now));
            self.count(*a).cmp(&self.count(*b)).then(scores.0.total_cmp(&scores.1))
        };
        (0..self.servers.len()).filter(takes_one).min_by(order)
    }

    fn dial(
        &mut self,
        now: Duration,
        index: usize,
        purpose: Purpose,
        share: &mut impl FnMut() -> f64,
        actions: &mut Vec<Action>,
    ) {
        let (server, health) = &self.servers[index];
        if health.not_before() > now {
            return;
        }
        let server = server.clone();
        let id = self.next;
        self.next += 1;
        // A tenth of it is left to chance, so that those that began together do not end together.
        let life = self
            .limits
            .max_life
            .map(|life| life - life.mul_f64((1.0 - share()) / 10.0));
        self.slots.insert(
            id,
            Slot {
                server: server.clone(),
                phase: Phase::Dialling { purpose, since: now },
                expires: life.map(|life| now.saturating_add(life)),
                load: 0,
                leases: 0,
                idle_since: None,
                is_home: true,
            },
        );
        actions.push(Action::Dial { id, server });
    }

    /// Dials in place of those that are too old, and of those that had to go elsewhere and could go back.
    fn replace(&mut self, now: Duration, share: &mut impl FnMut() -> f64, actions: &mut Vec<Action>) {
        let is_due = |slot: &Slot| {
            let is_old = slot.expires.is_some_and(|at| at <= now);
            let is_away = slot.phase == Phase::Up && !slot.is_home;
            !slot.is_dialling() && (is_old || is_away)
        };
        let due: Vec<(Id, String)> = self
            .slots
            .iter()
            .filter(|(_, slot)| is_due(slot))
            .map(|(id, slot)| (*id, slot.server.clone()))
            .collect();
        for (old, server) in due {
            // One dial at a time.
            if let Some(index) = self.servers.iter().position(|(known, _)| *known == server)
                && !self.is_dialled(index)
            {
                self.dial(now, index, Purpose::Replaces(old), share, actions);
            }
        }
    }

    /// Lets go of what is more than the fewest and carries nothing.
    fn shrink(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for index in 0..self.servers.len() {
            let server = self.servers[index].0.clone();
            let is_idle = |slot: &Slot| {
                slot.idle_since
                    .is_some_and(|since| since.saturating_add(self.limits.idle) <= now)
            };
            // Those that can be relied on.
            let works = |slot: &Slot| slot.server == server && slot.phase == Phase::Up && slot.is_home;
            let working = self.slots.values().filter(|slot| works(slot)).count();
            let excess = working.saturating_sub(self.limits.min);
            let idle: Vec<Id> = self
                .slots
                .iter()
                .filter(|(_, slot)| works(slot) && is_idle(slot))
                .map(|(id, _)| *id)
                .take(excess)
                .collect();
            actions.extend(idle.into_iter().filter_map(|id| self.retire(id)));
        }
    }

    fn retire(&mut self, id: Id) -> Option<Action> {
        self.slots.remove(&id).map(|_| Action::Retire { id })
    }
}

#[cfg(test)]
mod tests;
