//! One run: everything together, step by step, from one seed.

use std::fmt::Write as _;

use stream_proto::MARKER;

use crate::caller::{Caller, Mutation};
use crate::nats::{Account, Msg, Nats};
use crate::plan::{Cut, Fault, Plan, Weather, Who};
use crate::record::{Shared, Totals};
use crate::responder::Responder;
use crate::rng::Rng;
use crate::socket::{ConnId, Event};
use crate::time::{Nanos, S, earlier};
use crate::trace::{Trace, show};

/// No run needs more virtual time: handlers and readers are slow for a minute at most, and the longest limit is 5 min.
const LONGEST: Nanos = 1200 * S;
/// Steps that one moment may have.
const MOST_AT_ONCE: u64 = 20_000;

/// What went wrong, and when.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) step: u64,
    pub(crate) now: Nanos,
    pub(crate) what: String,
}

struct World {
    plan: Plan,
    shared: Shared,
    caller: Caller,
    /// The process in each place, if one lives.
    responders: Vec<Option<Responder>>,
    rng: Rng,
    mutation: Option<Mutation>,
    now: Nanos,
    steps: u64,
}

/// Runs one seed.
///
/// # Errors
/// The first check that failed.
pub(crate) fn run(seed: u64, mutation: Option<Mutation>, trace: &Trace) -> Result<Totals, Failure> {
    let mut world = World::new(seed, mutation, trace);
    match world.run() {
        Ok(()) => Ok(world.totals()),
        Err(what) => Err(Failure {
            step: world.steps,
            now: world.now,
            what,
        }),
    }
}

impl World {
    fn new(seed: u64, mutation: Option<Mutation>, trace: &Trace) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        trace.line(0, || format!("{plan:?}"));
        let mut nats = Nats::new(&plan, &mut rng, trace.clone());
        let caller = nats.sockets.connect(Account::App, false);
        let caller = Caller::new(caller, &plan, Rng::new(rng.next()), mutation);
        for (index, call) in plan.calls.iter().enumerate() {
            nats.sockets.at(call.at, Event::StartCall(index));
            if let Some(after) = call.cancel {
                nats.sockets.at(call.at + after, Event::Cancel(index));
            }
        }
        for (index, (at, _)) in plan.faults.iter().enumerate() {
            nats.sockets.at(*at, Event::Fault(index));
        }
        for at in &plan.intrusions {
            nats.sockets.at(*at, Event::Intrusion);
        }
        let responders = (0..plan.responders).map(|_| None).collect();
        let shared = Shared::new(nats, trace.clone());
        let mut world = Self {
            plan,
            shared,
            caller,
            responders,
            rng,
            mutation,
            now: 0,
            steps: 0,
        };
        for place in 0..world.responders.len() {
            world.spawn(place);
        }
        world
    }

    fn run(&mut self) -> Result<(), String> {
        let mut at_once = 0;
        while let Some(next) = self.next() {
            if next > self.now {
                at_once = 0;
                self.now = next;
            }
            at_once += 1;
            self.steps += 1;
            if at_once > MOST_AT_ONCE {
                return Err(format!("a livelock: {MOST_AT_ONCE} steps without time passing"));
            }
            if self.now > LONGEST {
                return Err(format!("it is not over after {} s: {}", LONGEST / S, self.leftovers()));
            }
            // What has arrived is handled before clocks (rule 45).
            match self.shared.nats.sockets.pop(self.now) {
                Some(event) => self.handle(event)?,
                None => self.wake()?,
            }
        }
        self.check_end()
    }

    fn next(&self) -> Option<Nanos> {
        let conns = &self.shared.nats.sockets.conns;
        let mut next = self.shared.nats.sockets.next_at();
        let late = self.plan.lateness;
        let awake = |wake: Option<Nanos>, conn: ConnId| wake.map(|at| at.max(conns[conn].frozen_until));
        next = earlier(next, awake(self.caller.next_wake(late), self.caller.conn));
        for responder in self.responders.iter().flatten() {
            next = earlier(next, awake(responder.next_wake(late), responder.conn));
        }
        next.map(|at| at.max(self.now))
    }

    fn wake(&mut self) -> Result<(), String> {
        let (now, plan) = (self.now, &self.plan);
        let is_frozen = |shared: &Shared, conn: ConnId| shared.nats.sockets.conns[conn].frozen_until > now;
        if !is_frozen(&self.shared, self.caller.conn) {
            self.caller.wake(now, plan, &mut self.shared)?;
        }
        for responder in self.responders.iter_mut().flatten() {
            if !is_frozen(&self.shared, responder.conn) {
                responder.wake(now, plan, &mut self.shared)?;
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        let now = self.now;
        match event {
            Event::ToServer { .. } => {
                if let Some((conn, epoch, msg)) = self.shared.nats.sockets.arrives_at_server(now, event) {
                    let account = self.shared.nats.sockets.conns[conn].account;
                    self.shared.nats.route(now, account, Some((conn, epoch)), msg);
                }
            }
            Event::ToClient { .. } => {
                if let Some((conn, msg)) = self.shared.nats.sockets.arrives_at_client(now, event) {
                    self.shared.trace.line(now, || format!("  ▶ n{conn} {}", show(&msg)));
                    self.receive(conn, msg)?;
                }
            }
            Event::ServerNotices { conn, epoch } => self.shared.nats.drop_socket(now, conn, epoch),
            Event::ClientNotices { conn, .. } | Event::ClientKnows { conn, .. } if self.is_frozen(conn) => {
                let at = self.shared.nats.sockets.conns[conn].frozen_until;
                self.shared.nats.sockets.at(at, event);
            }
            Event::ClientNotices { conn, epoch } => self.client_notices(conn, epoch)?,
            Event::ClientKnows { conn, epoch } => self.client_knows(conn, epoch)?,
            Event::Back { conn } => self.shared.nats.sockets.back(now, conn),
            Event::Fault(index) => self.fault(self.plan.faults[index].1),
            Event::Respawn(place) => self.spawn(place),
            Event::Intrusion => self.intrude(),
            Event::StartCall(call) | Event::RetryCall(call) => {
                self.caller.open(now, call, &self.plan, &mut self.shared)?;
            }
            Event::Cancel(call) => self.caller.cancel(now, call, &self.plan, &mut self.shared)?,
        }
        Ok(())
    }

    fn is_frozen(&self, conn: ConnId) -> bool {
        self.shared.nats.sockets.conns[conn].frozen_until > self.now
    }

    fn receive(&mut self, conn: ConnId, msg: Msg) -> Result<(), String> {
        if conn == self.caller.conn {
            return self.caller.receive(self.now, &msg, &self.plan, &mut self.shared);
        }
        match self
            .responders
            .iter_mut()
            .flatten()
            .find(|responder| responder.conn == conn)
        {
            Some(responder) => responder.receive(self.now, msg, &self.plan, &mut self.shared),
            None => Ok(()),
        }
    }

    fn client_notices(&mut self, id: ConnId, epoch: u32) -> Result<(), String> {
        let conn = &mut self.shared.nats.sockets.conns[id];
        if conn.epoch != epoch || !std::mem::replace(&mut conn.is_known_up, false) {
            return Ok(());
        }
        self.shared
            .trace
            .line(self.now, || format!("n{id} knows that it is cut"));
        if id == self.caller.conn {
            return self.caller.disconnected(self.now, &self.plan, &mut self.shared);
        }
        match self
            .responders
            .iter_mut()
            .flatten()
            .find(|responder| responder.conn == id)
        {
            Some(responder) => {
                responder.disturbed(self.now, &mut self.shared, "its responder is cut");
                responder.disconnected(self.now, &self.plan, &mut self.shared)
            }
            None => Ok(()),
        }
    }

    fn client_knows(&mut self, id: ConnId, epoch: u32) -> Result<(), String> {
        let conn = &mut self.shared.nats.sockets.conns[id];
        if conn.epoch != epoch || !conn.is_up || !conn.is_alive {
            return Ok(());
        }
        // It may not have noticed that the socket before was dead: rule 69 speaks of reconnects, not of outages.
        if std::mem::replace(&mut conn.is_known_up, true) {
            self.shared.totals.count("reconnects without an outage", 1);
        }
        self.shared
            .trace
            .line(self.now, || format!("n{id} knows that it is back"));
        if id == self.caller.conn {
            return self.caller.reconnected(self.now, &self.plan, &mut self.shared);
        }
        match self
            .responders
            .iter_mut()
            .flatten()
            .find(|responder| responder.conn == id)
        {
            Some(responder) => responder.reconnected(self.now, &self.plan, &mut self.shared),
            None => Ok(()),
        }
    }

    fn spawn(&mut self, place: usize) {
        let account = if self.plan.cross {
            Account::Service
        } else {
            Account::App
        };
        let conn = self.shared.nats.sockets.connect(account, true);
        self.responders[place] = Some(Responder::new(conn, Rng::new(self.rng.next()), self.mutation));
    }

    fn fault(&mut self, fault: Fault) {
        let now = self.now;
        self.shared.totals.count("faults", 1);
        self.shared.trace.line(now, || format!("{fault:?}"));
        match fault {
            Fault::Cut(cut) => {
                if let Some(conn) = self.conn(cut.who) {
                    self.shared.nats.sockets.cut(now, conn, &Cut { ..cut });
                }
            }
            Fault::ForgetAliases => self.shared.nats.forget_aliases(),
            Fault::Kill { responder, respawn } => {
                if let Some(mut killed) = self.responders[responder].take() {
                    self.shared.nats.sockets.kill(now, killed.conn);
                    killed.killed(now, &mut self.shared);
                    if let Some(after) = respawn {
                        self.shared.nats.sockets.at(now + after, Event::Respawn(responder));
                    }
                }
            }
            Fault::Freeze { who, time } => {
                if let Some(conn) = self.conn(who) {
                    self.shared.nats.sockets.conns[conn].frozen_until = now + time;
                    if let Who::Responder(place) = who
                        && let Some(responder) = &self.responders[place]
                    {
                        responder.disturbed(now, &mut self.shared, "its responder sleeps");
                    }
                }
            }
        }
    }

    fn conn(&self, who: Who) -> Option<ConnId> {
        match who {
            Who::Caller => Some(self.caller.conn),
            Who::Responder(place) => self.responders[place].as_ref().map(|responder| responder.conn),
        }
    }

    /// Somebody who may publish anywhere, and knows the subjects.
    fn intrude(&mut self) {
        let towards_caller = self.rng.chance(600);
        let responders = || self.responders.iter().flatten();
        let account = if towards_caller || !self.plan.cross {
            Account::App
        } else {
            Account::Service
        };
        let subjects: Vec<_> = if towards_caller {
            self.caller.subjects().cloned().collect()
        } else {
            responders().flat_map(Responder::subjects).cloned().collect()
        };
        if subjects.is_empty() {
            return;
        }
        let subject = subjects[self.rng.below(subjects.len())].clone();
        let locked = if towards_caller {
            self.caller.sid(&subject)
        } else {
            responders().find_map(|responder| responder.sid(&subject))
        };
        let other = self.rng.next() as u32;
        // Across accounts a STATE that only seems to be the caller's would confirm a control subject that it does not know.
        let may_know = towards_caller || !self.plan.cross;
        let sid = locked.filter(|_| may_know && self.rng.chance(500)).unwrap_or(other);
        let (account, msg) = match self.rng.below(4) {
            // A message of the past, perhaps of this very stream.
            0 => match self.shared.nats.old_message(&mut self.rng) {
                Some(old) => old,
                None => return,
            },
            // Not native. Before the lock that is a verdict (rule 8).
            1 if !towards_caller || locked.is_some() || self.rng.chance(100) => {
                let len = self.rng.within(1..=50);
                let mut bytes: Vec<u8> = (0..len).map(|_| self.rng.next() as u8).collect();
                bytes[0] &= 0x7f;
                (account, Msg::new(subject, bytes.into()))
            }
            // Native, of no stream, and anything in it.
            2 => {
                let len = self.rng.within(0..=30);
                let mut bytes = vec![MARKER, self.rng.pick(&[1, 2, 3, 0x11, 0x12, 0x13, 0xff])];
                bytes.extend_from_slice(&other.to_be_bytes());
                bytes.extend((0..len).map(|_| self.rng.next() as u8));
                bytes.truncate(self.rng.below(bytes.len()) + 1);
                (account, Msg::new(subject, bytes.into()))
            }
            // A huge position: a gap at the caller, stale at the responder.
            _ => {
                let kind = if towards_caller { self.rng.pick(&[1, 2]) } else { 0x11 };
                let mut bytes = vec![MARKER, kind];
                bytes.extend_from_slice(&sid.to_be_bytes());
                bytes.push(0);
                bytes.extend_from_slice(&(0xc000_0000_0000_0000 | (self.rng.next() >> 3)).to_be_bytes());
                if kind == 0x11 {
                    bytes.push(0);
                }
                (account, Msg::new(subject, bytes.into()))
            }
        };
        self.shared.totals.count("intrusions", 1);
        self.shared.trace.line(self.now, || format!("intruder: {}", show(&msg)));
        self.shared.nats.route(self.now, account, None, msg);
    }

    /// Nothing happens any more.
    fn check_end(&self) -> Result<(), String> {
        let is_over = self.caller.is_idle() && self.responders.iter().flatten().all(Responder::is_idle);
        if !is_over {
            return Err(format!("nothing happens any more, but: {}", self.leftovers()));
        }
        for (name, alias) in &self.shared.nats.aliases {
            if alias.is_control && alias.was_seen && !alias.was_emptied && !alias.has_ended {
                return Err(format!(
                    "rule 61: the caller has left {name}, an alias of {}",
                    alias.target
                ));
            }
        }
        Ok(())
    }

    fn leftovers(&self) -> String {
        let mut text = String::new();
        for (index, call) in self.caller.calls.iter().enumerate() {
            if call.verdict.is_none() {
                let _ = write!(text, "call {index} has no verdict; ");
            }
        }
        let _ = write!(text, "\n{}", self.caller.show());
        for responder in self.responders.iter().flatten() {
            let _ = write!(text, "\n{}", responder.show());
        }
        text
    }

    fn totals(&mut self) -> Totals {
        let mut totals = std::mem::take(&mut self.shared.totals);
        totals.runs = 1;
        totals.calls = self.caller.calls.len() as u64;
        let sockets = &self.shared.nats.sockets;
        totals.count("messages", sockets.messages);
        totals.count("messages lost or late", sockets.lost);
        totals.count("messages repeated", sockets.repeated);
        totals.count("messages read late", sockets.late_messages);
        totals.count("503 answers", self.shared.nats.no_responders);
        totals.count("aliases", self.shared.nats.aliases.len() as u64);
        totals.count("steps", self.steps);
        let weather = match self.plan.weather {
            Weather::Calm => "calm runs",
            Weather::Lossy => "lossy runs",
            Weather::Outages => "runs with outages",
            Weather::Wild => "wild runs",
        };
        totals.count(weather, 1);
        if self.plan.cross {
            totals.count("runs across accounts", 1);
        }
        totals
    }
}
