//! Which connections there should be: a machine without clock or socket.
//!
//! Its owner tells it what happened and asks what to do. Times count from an origin that the owner chooses.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::connections::health::Health;
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

#[derive(Debug)]
struct Slot {
    server: String,
    phase: Phase,
    /// It is replaced after this.
    expires: Option<Duration>,
    load: usize,
    leases: u64,
    idle_since: Option<Duration>,
    /// It is with its own server.
    is_home: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Dialling {
        purpose: Purpose,
        since: Duration,
    },
    Up,
    /// Its connection is lost; async-nats looks for another server.
    Down,
}

/// Why a connection is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Those that there are carry much.
    Growth,
    /// Its server has fewer than the fewest.
    Missing,
    /// This one is retired when it is up.
    Replaces(Id),
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
        if matches!(slot.phase, Phase::Dialling { .. }) {
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
                let is =
                    |slot: &&Slot| slot.server == *server && matches!(slot.phase, Phase::Dialling { .. }) == dialling;
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
            let is_replacement = matches!(
                slot.phase,
                Phase::Dialling {
                    purpose: Purpose::Replaces(_),
                    ..
                }
            );
            slot.server == *server && !is_replacement
        };
        self.slots.values().filter(counts).count()
    }

    fn is_dialled(&self, index: usize) -> bool {
        let server = &self.servers[index].0;
        self.slots
            .values()
            .any(|slot| slot.server == *server && matches!(slot.phase, Phase::Dialling { .. }))
    }

    /// Does the least loaded connection carry so much that another one would help?
    fn is_loaded(&self) -> bool {
        let is_coming = |slot: &Slot| {
            matches!(
                slot.phase,
                Phase::Dialling {
                    purpose: Purpose::Growth,
                    ..
                }
            )
        };
        if self.slots.values().any(is_coming) {
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
        let life = self.limits.max_life.map(|life| life - life.mul_f64((1.0 - share()) / 10.0));
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
            !matches!(slot.phase, Phase::Dialling { .. }) && (is_old || is_away)
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
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits {
            min: 1,
            max: 3,
            grow_above: 10,
            idle: 60 * S,
            max_life: None,
        }
    }

    fn plan(limits: Limits, servers: &[&str]) -> Plan {
        Plan::new(limits, servers.iter().map(|server| (*server).to_owned()))
    }

    /// What is done now; every dial succeeds, but for those to `down`.
    fn run(plan: &mut Plan, now: Duration, down: &[&str]) -> Vec<Action> {
        let mut done = Vec::new();
        loop {
            let actions = plan.poll(now, || 1.0);
            if actions.is_empty() {
                return done;
            }
            for action in actions {
                if let Action::Dial { id, server } = &action {
                    done.extend(plan.dialled(*id, now, !down.contains(&&**server), 1.0));
                }
                done.push(action);
            }
        }
    }

    fn dials(actions: &[Action]) -> Vec<&str> {
        let mut servers = Vec::new();
        for action in actions {
            if let Action::Dial { server, .. } = action {
                servers.push(server.as_str());
            }
        }
        servers
    }

    fn retired(actions: &[Action]) -> Vec<Id> {
        let id = |action: &Action| match action {
            Action::Retire { id } => Some(*id),
            Action::Dial { .. } => None,
        };
        actions.iter().filter_map(id).collect()
    }

    fn seen(is_up: bool, is_home: bool, load: usize) -> Seen {
        Seen {
            is_up,
            is_home,
            load,
            leases: 0,
        }
    }

    #[test]
    fn each_server_gets_its_fewest_at_once() {
        let mut plan = plan(Limits { min: 2, ..limits() }, &["a", "b"]);
        assert_eq!(dials(&run(&mut plan, S, &[])), ["a", "a", "b", "b"]);
        assert_eq!(run(&mut plan, 2 * S, &[]), []);
        assert_eq!(plan.dials(), (4, 0));
    }

    #[test]
    fn it_grows_one_by_one_while_the_least_loaded_is_too_loaded() {
        let mut plan = plan(limits(), &["a", "b"]);
        run(&mut plan, S, &[]);
        plan.seen(0, S, seen(true, true, 11));
        plan.seen(1, S, seen(true, true, 10));
        assert_eq!(run(&mut plan, S, &[]), [], "one has room");
        plan.seen(1, S, seen(true, true, 11));
        let actions = plan.poll(S, || 1.0);
        assert_eq!(dials(&actions), ["a"]);
        assert_eq!(plan.poll(S, || 1.0), [], "one is on its way");
        plan.dialled(2, S, true, 1.0);
        for load in 0..4 {
            for id in 0..6 {
                plan.seen(id, S, seen(true, true, 11 + load));
            }
            run(&mut plan, S, &[]);
        }
        assert_eq!(plan.slots.len(), 6, "not beyond the most");
    }

    #[test]
    fn what_is_idle_and_more_than_the_fewest_goes() {
        let mut plan = plan(Limits { min: 1, ..limits() }, &["a"]);
        run(&mut plan, S, &[]);
        plan.seen(0, S, seen(true, true, 11));
        run(&mut plan, S, &[]);
        plan.seen(1, 2 * S, seen(true, true, 3));
        plan.seen(0, 2 * S, seen(true, true, 0));
        plan.seen(1, 30 * S, seen(true, true, 0));
        assert_eq!(plan.next_wake(30 * S), 62 * S);
        assert_eq!(run(&mut plan, 61 * S, &[]), []);
        assert_eq!(retired(&run(&mut plan, 62 * S, &[])), [0]);
        assert_eq!(run(&mut plan, 1000 * S, &[]), [], "the last one stays");
    }

    #[test]
    fn a_server_that_is_down_is_dialled_less_and_less_often() {
        let mut plan = plan(limits(), &["a"]);
        let mut dialled = Vec::new();
        let mut now = Duration::ZERO;
        while now < 100 * S {
            if !dials(&run(&mut plan, now, &["a"])).is_empty() {
                dialled.push(now.as_millis());
            }
            now = plan.next_wake(now);
        }
        assert_eq!(dialled[..5], [0, 100, 300, 700, 1500]);
        assert!(dialled.len() < 12, "{dialled:?}");
        assert_eq!(dials(&run(&mut plan, now, &[])), ["a"]);
        assert_eq!(plan.dials().0, 1);
    }

    #[test]
    fn several_dials_that_fail_together_are_one_failure() {
        let mut plan = plan(
            Limits {
                min: 4,
                max: 4,
                ..limits()
            },
            &["a"],
        );
        let mut rounds = Vec::new();
        let mut now = Duration::ZERO;
        while rounds.len() < 4 {
            let actions = run(&mut plan, now, &["a"]);
            if !actions.is_empty() {
                rounds.push((now.as_millis(), actions.len()));
            }
            now = plan.next_wake(now);
        }
        assert_eq!(rounds, [(0, 4), (100, 1), (300, 1), (700, 1)]);
        assert_eq!(dials(&run(&mut plan, 2 * S, &[])).len(), 4, "it is back");
    }

    #[test]
    fn growth_does_not_wait_for_a_server_that_hangs() {
        let mut plan = plan(limits(), &["a", "b"]);
        plan.poll(S, || 1.0);
        plan.dialled(0, S, true, 1.0);
        plan.seen(0, S, seen(true, true, 11));
        assert_eq!(dials(&plan.poll(5 * S, || 1.0)), ["a"]);
        assert_eq!(plan.poll(5 * S, || 1.0), [], "one at a time");
    }

    #[test]
    fn only_what_works_counts_as_more_than_the_fewest() {
        let mut plan = plan(limits(), &["a"]);
        run(&mut plan, S, &[]);
        plan.seen(0, S, seen(true, true, 11));
        plan.poll(S, || 1.0);
        plan.seen(0, 2 * S, seen(true, true, 0));
        assert_eq!(plan.poll(100 * S, || 1.0), [], "the other one is only dialled");
        plan.dialled(1, 100 * S, true, 1.0);
        plan.seen(1, 100 * S, seen(false, true, 0));
        assert_eq!(plan.poll(200 * S, || 1.0), [], "the other one is down");
        plan.seen(1, 200 * S, seen(true, false, 0));
        assert!(
            retired(&plan.poll(200 * S, || 1.0)).is_empty(),
            "the other one is elsewhere"
        );
    }

    #[test]
    fn short_use_is_use() {
        let mut plan = plan(limits(), &["a"]);
        run(&mut plan, S, &[]);
        plan.seen(0, S, seen(true, true, 11));
        run(&mut plan, S, &[]);
        for second in 2..100 {
            for id in 0..2 {
                let leases = u64::from(second);
                plan.seen(
                    id,
                    second * S,
                    Seen {
                        leases,
                        ..seen(true, true, 0)
                    },
                );
            }
            assert_eq!(run(&mut plan, second * S, &[]), []);
        }
        assert_eq!(retired(&run(&mut plan, 159 * S, &[])).len(), 1);
    }

    #[test]
    fn times_without_end_do_no_harm() {
        let endless = Limits {
            idle: Duration::MAX,
            max_life: Some(Duration::MAX),
            ..limits()
        };
        let mut plan = plan(endless, &["a"]);
        run(&mut plan, S, &[]);
        plan.seen(0, S, seen(true, true, 11));
        run(&mut plan, S, &[]);
        plan.seen(0, S, seen(true, true, 0));
        plan.seen(1, S, seen(true, true, 0));
        assert_eq!(run(&mut plan, 1_000_000 * S, &[]), []);
    }

    #[test]
    fn a_dial_to_a_server_that_has_left_the_list_is_in_vain() {
        let mut plan = plan(limits(), &["a"]);
        plan.poll(S, || 1.0);
        assert_eq!(retired(&plan.set_servers(["b".to_owned()])), [0]);
        assert_eq!(plan.dialled(0, 2 * S, true, 1.0), Some(Action::Retire { id: 0 }));
        assert_eq!(plan.dialled(7, 2 * S, false, 1.0), None);
    }

    #[test]
    fn an_old_one_goes_when_its_replacement_is_there() {
        let mut plan = plan(
            Limits {
                max_life: Some(100 * S),
                ..limits()
            },
            &["a"],
        );
        run(&mut plan, Duration::ZERO, &[]);
        plan.seen(0, S, seen(true, true, 5));
        assert_eq!(run(&mut plan, 99 * S, &[]), []);
        let actions = plan.poll(100 * S, || 1.0);
        assert_eq!(dials(&actions), ["a"]);
        assert_eq!(plan.poll(100 * S, || 1.0), [], "once");
        assert_eq!(plan.dialled(1, 101 * S, true, 1.0), Some(Action::Retire { id: 0 }));
        // Where the server cannot be reached, the old one is better than none.
        let actions = plan.poll(202 * S, || 1.0);
        assert_eq!(dials(&actions), ["a"]);
        assert_eq!(plan.dialled(2, 202 * S, false, 1.0), None);
        assert_eq!(plan.slots.keys().copied().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn one_that_had_to_go_elsewhere_is_replaced_when_its_server_is_back() {
        let mut plan = plan(limits(), &["a", "b"]);
        run(&mut plan, Duration::ZERO, &[]);
        plan.seen(0, S, seen(false, true, 5));
        assert_eq!(run(&mut plan, S, &["a"]), [], "async-nats looks for another server");
        plan.seen(0, 2 * S, seen(true, false, 5));
        assert_eq!(dials(&run(&mut plan, 2 * S, &["a"])), ["a"]);
        assert_eq!(run(&mut plan, 2 * S, &["a"]), [], "it has to wait");
        let later = plan.next_wake(2 * S);
        let actions = run(&mut plan, later, &[]);
        assert_eq!((dials(&actions), retired(&actions)), (vec!["a"], vec![0]));
        let scores: Vec<_> = plan.servers(later).map(|server| server.score < 1.0).collect();
        assert_eq!(scores, [true, false]);
    }

    #[test]
    fn other_servers_take_the_place_of_those_that_are_gone() {
        let mut plan = plan(limits(), &["a", "b"]);
        run(&mut plan, Duration::ZERO, &[]);
        let retire = plan.set_servers(["b".to_owned(), "c".to_owned()]);
        assert_eq!(retired(&retire), [0]);
        assert_eq!(dials(&run(&mut plan, S, &[])), ["c"]);
        assert_eq!(plan.set_servers([]), [], "no server at all is no news");
        assert_eq!(run(&mut plan, 2 * S, &[]), []);
    }
}
