//! nats-server: interest, queue groups, account imports, 503.
//!
//! One server with two accounts. What is measured stands in section 2 of `docs/protocol.md`.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use stream_proto::MAPPED_PREFIX;

use crate::plan::Plan;
use crate::rng::Rng;
use crate::socket::{Conn, ConnId, Socket};
use crate::time::Nanos;
use crate::trace::Trace;

/// The subject that the responders serve.
pub(crate) const SERVICE: &str = "service";

/// One NATS message.
#[derive(Clone, Debug)]
pub(crate) struct Msg {
    pub(crate) subject: Rc<str>,
    pub(crate) reply: Option<Rc<str>>,
    pub(crate) header: Option<Rc<str>>,
    pub(crate) has_headers: bool,
    pub(crate) status: Option<u16>,
    pub(crate) payload: Bytes,
}

impl Msg {
    pub(crate) fn new(subject: Rc<str>, payload: Bytes) -> Self {
        Self {
            subject,
            reply: None,
            header: None,
            has_headers: false,
            status: None,
            payload,
        }
    }

    pub(crate) fn is_bare_empty(&self) -> bool {
        !self.has_headers && self.payload.is_empty()
    }
}

/// The two accounts. Without an import between them everybody is in the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    App,
    Service,
}

/// A subject that an import has rewritten.
#[derive(Debug)]
pub(crate) struct Alias {
    /// Where it can be published to.
    account: Account,
    pub(crate) target: Rc<str>,
    /// A control subject; else the reply subject of a request.
    pub(crate) is_control: bool,
    last_response: Nanos,
    pub(crate) has_ended: bool,
    /// The caller has received a message with it.
    pub(crate) was_seen: bool,
    /// Its user has published a bare empty message to it.
    pub(crate) was_emptied: bool,
}

#[derive(Debug)]
pub(crate) struct Nats {
    pub(crate) sockets: Socket,
    pub(crate) aliases: BTreeMap<Rc<str>, Alias>,
    cross: bool,
    group: bool,
    threshold: Nanos,
    dead_alias_503: bool,
    rng: Rng,
    /// Native messages of the past, for intruders to send again.
    recent: Vec<(Account, Msg)>,
    keeps_recent: bool,
    pub(crate) no_responders: u64,
}

impl Nats {
    pub(crate) fn new(plan: &Plan, rng: &mut Rng, trace: Trace) -> Self {
        Self {
            sockets: Socket::new(plan, Rng::new(rng.next()), trace),
            aliases: BTreeMap::new(),
            cross: plan.cross,
            group: plan.group,
            threshold: plan.threshold,
            dead_alias_503: plan.dead_alias_503,
            rng: Rng::new(rng.next()),
            recent: Vec::new(),
            keeps_recent: !plan.intrusions.is_empty(),
            no_responders: 0,
        }
    }

    /// A client hands a message to its connection.
    ///
    /// # Errors
    /// When no client may do so (rules 47, 60 and 67).
    pub(crate) fn publish(&mut self, now: Nanos, conn: ConnId, msg: Msg) -> Result<(), String> {
        let is_mapped = msg.subject.starts_with(MAPPED_PREFIX);
        if !self.sockets.conns[conn].is_known_up {
            return Err(format!("rule 67: {msg:?} was published while the connection was down"));
        }
        if msg.is_bare_empty() && !is_mapped {
            return Err(format!("rule 60: a bare empty message to {}", msg.subject));
        }
        let is_alive = self.is_alias_alive(now, &msg.subject);
        if let Some(alias) = self.aliases.get_mut(&msg.subject) {
            if alias.is_control && msg.reply.is_some() {
                return Err(format!(
                    "rule 47: a reply to the mapped control subject {}",
                    msg.subject
                ));
            }
            alias.was_emptied |= msg.is_bare_empty() && (alias.is_control || is_alive);
        }
        let concerns = self.concerns(&msg);
        self.sockets.send(now, conn, msg, concerns);
        Ok(())
    }

    /// nats-server has read a message; `sender` is the connection that it came from.
    pub(crate) fn route(&mut self, now: Nanos, account: Account, sender: Option<(ConnId, u32)>, msg: Msg) {
        if self.keeps_recent && !msg.payload.is_empty() && self.recent.len() < 200 {
            self.recent.push((account, msg.clone()));
        }
        if &*msg.subject == SERVICE {
            self.route_request(now, account, sender, msg);
        } else if msg.subject.starts_with(MAPPED_PREFIX) {
            self.route_alias(now, account, sender, msg);
        } else {
            self.route_inbox(now, account, sender, msg);
        }
    }

    /// A message of the past, and the account where it was sent.
    pub(crate) fn old_message(&self, rng: &mut Rng) -> Option<(Account, Msg)> {
        (!self.recent.is_empty()).then(|| self.recent[rng.below(self.recent.len())].clone())
    }

    /// nats-server notices that a socket is dead.
    pub(crate) fn drop_socket(&mut self, now: Nanos, conn: ConnId, epoch: u32) {
        let gone = &mut self.sockets.conns[conn];
        gone.registered.retain(|registered| *registered != epoch);
        if !gone.registered.is_empty() {
            return;
        }
        let prefix = gone.prefix.clone();
        for (name, alias) in &mut self.aliases {
            if !alias.is_control && !alias.has_ended && alias.target.starts_with(&*prefix) {
                alias.has_ended = true;
                self.sockets.trace.line(now, || {
                    format!("     {name} ends with the subscription of {}", alias.target)
                });
            }
        }
    }

    /// nats-server starts anew.
    pub(crate) fn forget_aliases(&mut self) {
        for alias in self.aliases.values_mut() {
            alias.has_ended = true;
        }
    }

    /// Is there still a way from the responder's alias to the caller?
    pub(crate) fn is_alias_alive(&self, now: Nanos, name: &str) -> bool {
        self.aliases
            .get(name)
            .is_some_and(|alias| !alias.has_ended && !self.is_expired(now, alias))
    }

    /// The inbox behind an alias, or the subject itself.
    pub(crate) fn target<'a>(&'a self, subject: &'a Rc<str>) -> &'a Rc<str> {
        self.aliases.get(subject).map_or(subject, |alias| &alias.target)
    }

    fn is_expired(&self, now: Nanos, alias: &Alias) -> bool {
        !alias.is_control && now > alias.last_response + self.threshold
    }

    fn route_request(&mut self, now: Nanos, account: Account, sender: Option<(ConnId, u32)>, mut msg: Msg) {
        let mut servers: Vec<ConnId> = self.sockets.servers().collect();
        if servers.is_empty() {
            let concerns = self.concerns(&msg);
            self.sockets.disturbed(now, &concerns, "nobody serves it");
            if !self.cross {
                self.answer_503(now, sender, &msg);
            }
            return;
        }
        if self.group {
            let chosen = servers[self.rng.below(servers.len())];
            servers = vec![chosen];
        }
        if self.cross && account == Account::App {
            msg.reply = msg.reply.map(|reply| self.alias(now, Account::Service, reply, false));
        }
        let concerns = self.concerns(&msg);
        for server in servers {
            self.sockets.deliver(now, server, &msg, &concerns);
        }
    }

    fn route_alias(&mut self, now: Nanos, account: Account, sender: Option<(ConnId, u32)>, mut msg: Msg) {
        let concerns = self.concerns(&msg);
        let known = self.aliases.get(&msg.subject).filter(|alias| alias.account == account);
        let Some(alias) = known.filter(|alias| !alias.has_ended && !self.is_expired(now, alias)) else {
            self.sockets.disturbed(now, &concerns, "its alias has ended");
            if self.dead_alias_503 {
                self.answer_503(now, sender, &msg);
            }
            return;
        };
        let (target, is_control) = (alias.target.clone(), alias.is_control);
        let owner = self
            .sockets
            .owner(&target)
            .filter(|owner| !self.sockets.conns[*owner].registered.is_empty());
        let is_end = msg.is_bare_empty() || (!is_control && owner.is_none());
        if let Some(alias) = self.aliases.get_mut(&msg.subject) {
            alias.last_response = now;
            alias.has_ended |= is_end;
        }
        if is_end {
            let name = &msg.subject;
            self.sockets.trace.line(now, || format!("     {name} ends"));
        }
        let Some(owner) = owner else {
            self.sockets.disturbed(now, &concerns, "nobody is subscribed");
            return;
        };
        msg.reply = msg.reply.map(|reply| self.alias(now, Account::App, reply, true));
        msg.subject = target;
        self.sockets.deliver(now, owner, &msg, &concerns);
    }

    fn route_inbox(&mut self, now: Nanos, account: Account, sender: Option<(ConnId, u32)>, msg: Msg) {
        let owner = self.sockets.owner(&msg.subject).filter(|owner| {
            let conn: &Conn = &self.sockets.conns[*owner];
            conn.account == account && !conn.registered.is_empty()
        });
        let concerns = msg.subject.clone();
        if let Some(owner) = owner {
            self.sockets.deliver(now, owner, &msg, &concerns);
        } else {
            self.sockets.disturbed(now, &concerns, "nobody is subscribed");
            self.answer_503(now, sender, &msg);
        }
    }

    /// To the connection that published, and only if the reply subject is its own.
    fn answer_503(&mut self, now: Nanos, sender: Option<(ConnId, u32)>, msg: &Msg) {
        let (Some((conn, epoch)), Some(reply)) = (sender, &msg.reply) else {
            return;
        };
        if self.sockets.owner(reply) == Some(conn) && self.sockets.conns[conn].registered.contains(&epoch) {
            self.no_responders += 1;
            let answer = Msg {
                has_headers: true,
                status: Some(503),
                ..Msg::new(reply.clone(), Bytes::new())
            };
            self.sockets.deliver_to(now, conn, epoch, &answer, reply);
        }
    }

    fn alias(&mut self, now: Nanos, account: Account, target: Rc<str>, is_control: bool) -> Rc<str> {
        let kind = if is_control { "k" } else { "f" };
        let name: Rc<str> = format!("{MAPPED_PREFIX}{kind}{}", self.aliases.len()).into();
        let alias = Alias {
            account,
            target,
            is_control,
            last_response: now,
            has_ended: false,
            was_seen: false,
            was_emptied: false,
        };
        self.aliases.insert(name.clone(), alias);
        name
    }

    /// The inbox of the call or stream that a message belongs to.
    fn concerns(&self, msg: &Msg) -> Rc<str> {
        let subject = match &msg.reply {
            Some(reply) if &*msg.subject == SERVICE => reply,
            _ => &msg.subject,
        };
        self.target(subject).clone()
    }
}
