//! The connections: latency, order, loss, outages, and what a client keeps meanwhile.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::nats::{Account, Msg};
use crate::plan::{Cut, Plan};
use crate::rng::Rng;
use crate::time::{MS, Nanos, S};
use crate::trace::{Trace, show};

pub(crate) type ConnId = usize;

/// What happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message reaches nats-server on a socket.
    ToServer {
        conn: ConnId,
        epoch: u32,
        msg: Msg,
        concerns: Rc<str>,
        is_late: bool,
    },
    /// A message reaches a client.
    ToClient {
        conn: ConnId,
        epoch: u32,
        msg: Msg,
        concerns: Rc<str>,
        is_late: bool,
    },
    ServerNotices {
        conn: ConnId,
        epoch: u32,
    },
    ClientNotices {
        conn: ConnId,
        epoch: u32,
    },
    /// There is a new socket.
    Back {
        conn: ConnId,
    },
    /// The host learns of the new socket.
    ClientKnows {
        conn: ConnId,
        epoch: u32,
    },
    Fault(usize),
    Respawn(usize),
    Intrusion,
    StartCall(usize),
    RetryCall(usize),
    Cancel(usize),
}

/// A client's connection, across its sockets.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) account: Account,
    /// Its inboxes begin with this; it has one subscription for all of them.
    pub(crate) prefix: Rc<str>,
    serves: bool,
    pub(crate) epoch: u32,
    pub(crate) is_up: bool,
    /// What the client believes.
    pub(crate) is_known_up: bool,
    /// The process lives.
    pub(crate) is_alive: bool,
    pub(crate) frozen_until: Nanos,
    /// The sockets that nats-server believes in.
    pub(crate) registered: Vec<u32>,
    queue: Vec<(Msg, Rc<str>)>,
    last_up: Nanos,
    last_down: Nanos,
    /// How late messages of the last dead socket are read.
    lag: Nanos,
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) conns: Vec<Conn>,
    events: BTreeMap<(Nanos, u64), Event>,
    count: u64,
    rng: Rng,
    latency: (Nanos, Nanos),
    loss: u64,
    repetition: u64,
    kept: u64,
    late: u64,
    pub(crate) trace: Trace,
    /// When something of the call or stream with this inbox was lost or late.
    disturbances: BTreeMap<Rc<str>, Vec<Nanos>>,
    pub(crate) messages: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) late_messages: u64,
}

impl Socket {
    pub(crate) fn new(plan: &Plan, rng: Rng, trace: Trace) -> Self {
        Self {
            conns: Vec::new(),
            events: BTreeMap::new(),
            count: 0,
            rng,
            latency: plan.latency,
            // Two hops.
            loss: plan.loss / 2,
            repetition: plan.repetition,
            kept: plan.kept,
            late: plan.late,
            trace,
            disturbances: BTreeMap::new(),
            messages: 0,
            lost: 0,
            repeated: 0,
            late_messages: 0,
        }
    }

    pub(crate) fn connect(&mut self, account: Account, serves: bool) -> ConnId {
        let id = self.conns.len();
        self.conns.push(Conn {
            account,
            prefix: format!("_INBOX.n{id}.").into(),
            serves,
            epoch: 0,
            is_up: true,
            is_known_up: true,
            is_alive: true,
            frozen_until: 0,
            registered: vec![0],
            queue: Vec::new(),
            last_up: 0,
            last_down: 0,
            lag: 0,
        });
        id
    }

    pub(crate) fn at(&mut self, time: Nanos, event: Event) {
        self.count += 1;
        self.events.insert((time, self.count), event);
    }

    pub(crate) fn next_at(&self) -> Option<Nanos> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn pop(&mut self, now: Nanos) -> Option<Event> {
        let entry = self.events.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    /// The connection whose inbox this is.
    pub(crate) fn owner(&self, subject: &str) -> Option<ConnId> {
        self.conns.iter().position(|conn| subject.starts_with(&*conn.prefix))
    }

    /// The connections that nats-server would give a request to.
    pub(crate) fn servers(&self) -> impl Iterator<Item = ConnId> {
        let serves = |conn: &Conn| conn.serves && !conn.registered.is_empty();
        self.conns
            .iter()
            .enumerate()
            .filter(move |(_, conn)| serves(conn))
            .map(|(id, _)| id)
    }

    pub(crate) fn send(&mut self, now: Nanos, id: ConnId, msg: Msg, concerns: Rc<str>) {
        self.messages += 1;
        self.trace.line(now, || format!("n{id} ▷   {}", show(&msg)));
        if !self.conns[id].is_up {
            if self.rng.chance(self.kept) {
                self.disturbed(now, &concerns, "kept by the client");
                self.conns[id].queue.push((msg, concerns));
            } else {
                self.disturbed(now, &concerns, "written to a dead socket");
            }
            return;
        }
        self.put_on_wire(now, id, msg, concerns);
    }

    pub(crate) fn deliver(&mut self, now: Nanos, id: ConnId, msg: &Msg, concerns: &Rc<str>) {
        for epoch in self.conns[id].registered.clone() {
            self.deliver_to(now, id, epoch, msg, concerns);
        }
    }

    pub(crate) fn deliver_to(&mut self, now: Nanos, id: ConnId, epoch: u32, msg: &Msg, concerns: &Rc<str>) {
        if self.rng.chance(self.loss) {
            self.disturbed(now, concerns, "lost on the way down");
            return;
        }
        let at = (now + self.latency()).max(self.conns[id].last_down);
        self.conns[id].last_down = at;
        let (msg, concerns) = (msg.clone(), concerns.clone());
        self.at(
            at,
            Event::ToClient {
                conn: id,
                epoch,
                msg,
                concerns,
                is_late: false,
            },
        );
    }

    /// Does the message, which arrives on this socket now, get through? If it does not, it may later.
    pub(crate) fn arrives_at_server(&mut self, now: Nanos, event: Event) -> Option<(ConnId, u32, Msg)> {
        let Event::ToServer {
            conn: id,
            epoch,
            msg,
            concerns,
            is_late,
        } = event
        else {
            return None;
        };
        let conn = &self.conns[id];
        if is_late || (conn.is_up && conn.epoch == epoch) {
            return Some((id, epoch, msg));
        }
        let at = now + conn.lag;
        if self.rng.chance(self.late) {
            self.late_messages += 1;
            self.disturbed(now, &concerns, "will be read late");
            self.at(
                at,
                Event::ToServer {
                    conn: id,
                    epoch,
                    msg,
                    concerns,
                    is_late: true,
                },
            );
        } else {
            self.disturbed(now, &concerns, "lost with the socket");
        }
        None
    }

    /// The same, towards the client.
    pub(crate) fn arrives_at_client(&mut self, now: Nanos, event: Event) -> Option<(ConnId, Msg)> {
        let Event::ToClient {
            conn: id,
            epoch,
            msg,
            concerns,
            is_late,
        } = event
        else {
            return None;
        };
        let conn = &self.conns[id];
        if !conn.is_alive {
            self.disturbed(now, &concerns, "the process is dead");
            return None;
        }
        if conn.frozen_until > now {
            let at = conn.frozen_until;
            self.disturbed(now, &concerns, "the process sleeps");
            self.at(
                at,
                Event::ToClient {
                    conn: id,
                    epoch,
                    msg,
                    concerns,
                    is_late: true,
                },
            );
            return None;
        }
        if is_late || (conn.is_up && conn.epoch == epoch) {
            return Some((id, msg));
        }
        if self.rng.chance(self.late / 4) {
            self.late_messages += 1;
            let at = now + self.rng.time(MS..=(500 * MS));
            self.disturbed(now, &concerns, "will be handled late");
            self.at(
                at,
                Event::ToClient {
                    conn: id,
                    epoch,
                    msg,
                    concerns,
                    is_late: true,
                },
            );
        } else {
            self.disturbed(now, &concerns, "lost with the socket");
        }
        None
    }

    pub(crate) fn cut(&mut self, now: Nanos, id: ConnId, cut: &Cut) {
        let lag = self.rng.time(MS..=(3 * S));
        let conn = &mut self.conns[id];
        if !conn.is_up || !conn.is_alive {
            return;
        }
        conn.is_up = false;
        conn.lag = lag;
        let epoch = conn.epoch;
        self.trace.line(now, || format!("n{id} is cut: {cut:?}"));
        self.at(now + cut.client_notices, Event::ClientNotices { conn: id, epoch });
        self.at(now + cut.server_notices, Event::ServerNotices { conn: id, epoch });
        self.at(now + cut.back, Event::Back { conn: id });
    }

    /// The process is gone; nats-server sees it at once, as it does when the kernel closes the socket.
    pub(crate) fn kill(&mut self, now: Nanos, id: ConnId) {
        let conn = &mut self.conns[id];
        conn.is_alive = false;
        conn.is_up = false;
        conn.is_known_up = false;
        let epoch = conn.epoch;
        self.at(now, Event::ServerNotices { conn: id, epoch });
    }

    /// A new socket: subscribed, and what the client kept goes first.
    pub(crate) fn back(&mut self, now: Nanos, id: ConnId) {
        let conn = &mut self.conns[id];
        if !conn.is_alive {
            return;
        }
        conn.epoch += 1;
        conn.is_up = true;
        let epoch = conn.epoch;
        conn.registered.push(epoch);
        self.trace.line(now, || format!("n{id} is back"));
        for (msg, concerns) in std::mem::take(&mut self.conns[id].queue) {
            self.trace.line(now, || format!("n{id} ▷   {} (kept)", show(&msg)));
            // Late, which a call may not survive.
            self.disturbed(now, &concerns, "was kept");
            self.put_on_wire(now, id, msg, concerns);
        }
        let delay = self.rng.within(0..=(20 * MS));
        self.at(now + delay, Event::ClientKnows { conn: id, epoch });
    }

    pub(crate) fn disturbed(&mut self, now: Nanos, concerns: &Rc<str>, why: &str) {
        self.lost += 1;
        self.trace.line(now, || format!("     ✗ {concerns}: {why}"));
        self.disturbances.entry(concerns.clone()).or_default().push(now);
    }

    /// How often something of this inbox was lost or late since then.
    pub(crate) fn disturbances(&self, inbox: &str, since: Nanos) -> usize {
        self.disturbances
            .get(inbox)
            .map_or(0, |all| all.iter().filter(|at| **at >= since).count())
    }

    fn put_on_wire(&mut self, now: Nanos, id: ConnId, msg: Msg, concerns: Rc<str>) {
        let epoch = self.conns[id].epoch;
        if self.rng.chance(self.repetition) {
            // As a client that writes again what it is not sure of.
            self.repeated += 1;
            let at = now + self.rng.time(MS..=(2 * S));
            let (msg, concerns) = (msg.clone(), concerns.clone());
            self.at(
                at,
                Event::ToServer {
                    conn: id,
                    epoch,
                    msg,
                    concerns,
                    is_late: true,
                },
            );
        }
        if self.rng.chance(self.loss) {
            self.disturbed(now, &concerns, "lost on the way up");
            return;
        }
        let at = (now + self.latency()).max(self.conns[id].last_up);
        self.conns[id].last_up = at;
        self.at(
            at,
            Event::ToServer {
                conn: id,
                epoch,
                msg,
                concerns,
                is_late: false,
            },
        );
    }

    fn latency(&mut self) -> Nanos {
        self.rng.within(self.latency.0..=self.latency.1)
    }
}
