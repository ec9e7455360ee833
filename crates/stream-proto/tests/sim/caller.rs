//! The host of the callers' halves: calls, their attempts, and rules 9, 26 and 61.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use stream_proto::{
    Budget, CloseCode, ControlUse, Frame, Inbound, InboundConfig, InboundEvent, Message, Termination, is_mapped,
    is_safe_reply,
};

use crate::attempt::Attempt;
use crate::judge;
use crate::nats::{Msg, SERVICE};
use crate::plan::{CallPlan, Plan};
use crate::reader::Reader;
use crate::record::{Rate, Shared};
use crate::rng::Rng;
use crate::socket::{ConnId, Event};
use crate::time::{MS, Nanos, S, earlier, instant};

/// Rule 26.
const AGAIN: Nanos = 250 * MS;
const AGAIN_FOR: Nanos = 5 * S;

/// A rule that the host breaks, to see that the checks notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// No bare empty message from the caller (rule 61).
    NoBareEmpty,
    /// A 503 ends the stream, on both sides (rule 49).
    NoRespondersIsVerdict,
}

#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) conn: ConnId,
    pub(crate) calls: Vec<Call>,
    attempts: BTreeMap<Rc<str>, Attempt>,
    /// Calls that wait for the connection.
    waiting: Vec<usize>,
    pub(crate) last_reconnect: Option<Nanos>,
    count: u64,
    refusals: Rate,
    rng: Rng,
    mutation: Option<Mutation>,
}

#[derive(Debug, Default)]
pub(crate) struct Call {
    pub(crate) started: Option<Nanos>,
    pub(crate) is_cancelled: bool,
    pub(crate) verdict: Option<Termination>,
    attempt: Option<Rc<str>>,
}

impl Caller {
    pub(crate) fn new(conn: ConnId, plan: &Plan, rng: Rng, mutation: Option<Mutation>) -> Self {
        Self {
            conn,
            calls: plan.calls.iter().map(|_| Call::default()).collect(),
            attempts: BTreeMap::new(),
            waiting: Vec::new(),
            last_reconnect: None,
            count: 0,
            refusals: Rate::default(),
            rng,
            mutation,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.attempts.is_empty() && self.calls.iter().all(|call| call.verdict.is_some())
    }

    pub(crate) fn subjects(&self) -> impl Iterator<Item = &Rc<str>> {
        self.attempts.keys()
    }

    pub(crate) fn sid(&self, subject: &str) -> Option<u32> {
        self.attempts.get(subject)?.sid
    }

    pub(crate) fn show(&self) -> String {
        let line =
            |(token, attempt): (&Rc<str>, &Attempt)| format!("{token}: {:?} {:?}", attempt.inbound, attempt.reader);
        let lines: Vec<String> = self.attempts.iter().map(line).collect();
        lines.join("\n")
    }

    /// Starts an attempt of a call, now or when the connection is back.
    pub(crate) fn open(&mut self, now: Nanos, index: usize, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        let call = &mut self.calls[index];
        if call.verdict.is_some() {
            return Ok(());
        }
        if call.is_cancelled {
            return self.verdict(now, index, Termination::Cancelled, shared);
        }
        if !shared.nats.sockets.conns[self.conn].is_known_up {
            self.waiting.push(index);
            return Ok(());
        }
        let started = *call.started.get_or_insert(now);
        let wish = &plan.calls[index];
        let left = wish
            .deadline
            .map(|deadline| (started + deadline).saturating_sub(now).max(MS));
        self.count += 1;
        let token: Rc<str> = format!("_INBOX.n{}.t{}", self.conn, self.count).into();
        let assembly = Budget::new(u64::MAX);
        let config = config(wish, left, &assembly, plan);
        let inbound = Inbound::new(config, instant(now));
        let payload = Bytes::copy_from_slice(&(index as u32).to_be_bytes());
        let msg = Msg {
            reply: Some(token.clone()),
            header: Some(inbound.open().encode().into()),
            has_headers: true,
            ..Msg::new(SERVICE.into(), payload)
        };
        shared.totals.count("attempts", 1);
        shared.trace.line(now, || format!("call {index} opens {token}"));
        shared.nats.publish(now, self.conn, msg)?;
        let reader = Reader::new(wish.reader, now, Rng::new(self.rng.next()));
        let attempt = Attempt::new(token.clone(), index, inbound, assembly, reader, now);
        self.calls[index].attempt = Some(token.clone());
        self.attempts.insert(token, attempt);
        Ok(())
    }

    pub(crate) fn cancel(&mut self, now: Nanos, index: usize, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        let call = &mut self.calls[index];
        call.is_cancelled = true;
        if call.verdict.is_some() {
            return Ok(());
        }
        shared.trace.line(now, || format!("call {index} is cancelled"));
        let Some(token) = call.attempt.clone() else {
            self.waiting.retain(|waiting| *waiting != index);
            return self.verdict(now, index, Termination::Cancelled, shared);
        };
        if let Some(attempt) = self.attempts.get_mut(&token) {
            attempt.inbound.cancel();
            if attempt.inbound.poll_item(instant(now)).is_some() {
                return Err("an item after a cancel".to_owned());
            }
            attempt.reader.stop();
        }
        self.settle(now, &token, plan, shared)
    }

    pub(crate) fn receive(&mut self, now: Nanos, msg: &Msg, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        let reply = msg.reply.clone().filter(|reply| is_safe_reply(reply, &[""; 0]));
        if let Some(alias) = reply.as_ref().and_then(|reply| shared.nats.aliases.get_mut(reply)) {
            alias.was_seen = true;
        }
        let token = msg.subject.clone();
        let Some(attempt) = self.attempts.get_mut(&token) else {
            // Rule 9.
            let frame = if msg.status.is_some() {
                None
            } else {
                Frame::decode(&msg.payload).ok()
            };
            let (Some(frame), Some(reply)) = (frame, reply) else {
                return Ok(());
            };
            return self.refuse(now, reply, frame.sid(), false, shared);
        };
        attempt.note(now, msg);
        let message = Message {
            status: msg.status,
            header: msg.header.as_deref(),
            has_headers: msg.has_headers,
            has_control: reply.is_some(),
            is_mapped: reply.as_ref().is_some_and(|reply| is_mapped(reply)),
            service_error: None,
            may_follow_loss: false,
            payload: msg.payload.clone(),
        };
        let is_live = attempt.inbound.termination().is_none();
        let outcome = attempt.inbound.handle(instant(now), &message);
        if self.mutation == Some(Mutation::NoRespondersIsVerdict) && msg.status == Some(503) {
            attempt.inbound.handle_closed();
        }
        match (outcome, reply) {
            (ControlUse::Use, Some(reply)) => {
                attempt.keep(&reply);
                attempt.control = Some(reply);
            }
            (ControlUse::Keep, Some(reply)) => attempt.keep(&reply),
            (ControlUse::Refuse(sid), Some(reply)) => {
                self.refuse(now, reply, sid, is_live, shared)?;
            }
            _ => {}
        }
        self.settle(now, &token, plan, shared)
    }

    pub(crate) fn disconnected(&mut self, now: Nanos, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        self.each(now, plan, shared, |attempt| {
            attempt.inbound.handle_disconnected(instant(now))
        })
    }

    pub(crate) fn reconnected(&mut self, now: Nanos, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        self.last_reconnect = Some(now);
        self.each(now, plan, shared, |attempt| {
            attempt.rewound = [None; 2];
            attempt.inbound.handle_reconnected(instant(now));
        })?;
        for attempt in self.attempts.values() {
            attempt.check_reconnected(now)?;
        }
        for index in std::mem::take(&mut self.waiting) {
            self.open(now, index, plan, shared)?;
        }
        Ok(())
    }

    pub(crate) fn next_wake(&self, lateness: Nanos) -> Option<Nanos> {
        let wake = |attempt: &Attempt| {
            let timer = attempt.inbound.poll_timeout().map(|at| at.as_nanos() + lateness);
            let reader = earlier(attempt.reader.next, attempt.reader.leaves_at);
            earlier(earlier(timer, attempt.resume), reader)
        };
        self.attempts.values().map(wake).fold(None, earlier)
    }

    pub(crate) fn wake(&mut self, now: Nanos, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        let tokens: Vec<Rc<str>> = self.attempts.keys().cloned().collect();
        for token in tokens {
            let Some(attempt) = self.attempts.get_mut(&token) else {
                continue;
            };
            let mut is_due = attempt.resume.take_if(|at| *at <= now).is_some();
            if attempt.reader.next.is_some_and(|at| at <= now) {
                let before = attempt.delivered.len();
                attempt.reader.run(now, &mut attempt.inbound, &mut attempt.delivered);
                if attempt.delivered.len() > before {
                    attempt.check_items(shared)?;
                }
                is_due = true;
            } else if attempt.reader.leaves_at.is_some_and(|at| at <= now) {
                attempt.reader.leave(now, &mut attempt.inbound);
                is_due = true;
            }
            if attempt
                .inbound
                .poll_timeout()
                .is_some_and(|at| at.as_nanos() + plan.lateness <= now)
            {
                attempt.inbound.handle_timeout(instant(now));
                is_due = true;
            }
            if is_due {
                self.settle(now, &token, plan, shared)?;
            }
        }
        Ok(())
    }

    fn each(&mut self, now: Nanos, plan: &Plan, shared: &mut Shared, act: impl Fn(&mut Attempt)) -> Result<(), String> {
        let tokens: Vec<Rc<str>> = self.attempts.keys().cloned().collect();
        for token in tokens {
            if let Some(attempt) = self.attempts.get_mut(&token) {
                act(attempt);
            }
            self.settle(now, &token, plan, shared)?;
        }
        Ok(())
    }

    /// Nobody here waits for that stream (rules 8, 9 and 61); another one may live on the same reply subject.
    fn refuse(
        &mut self,
        now: Nanos,
        control: Rc<str>,
        sid: u32,
        is_live: bool,
        shared: &mut Shared,
    ) -> Result<(), String> {
        let is_up = shared.nats.sockets.conns[self.conn].is_known_up;
        let is_mapped = is_mapped(&control);
        if !is_up || !(is_mapped || self.refusals.allows(now)) {
            // It leaks if it is mapped. Only what arrives on a dead socket gets here.
            if let Some(alias) = shared.nats.aliases.get_mut(&control) {
                alias.was_seen = false;
            }
            return Ok(());
        }
        let code = if is_mapped && !is_live {
            CloseCode::Cancelled
        } else {
            CloseCode::Unwanted
        };
        let close = Frame::Close { sid, code }.encode();
        shared.nats.publish(now, self.conn, Msg::new(control.clone(), close))?;
        if is_mapped && self.mutation != Some(Mutation::NoBareEmpty) {
            shared.nats.publish(now, self.conn, Msg::new(control, Bytes::new()))?;
        }
        Ok(())
    }

    fn settle(&mut self, now: Nanos, token: &Rc<str>, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        let Some(attempt) = self.attempts.get_mut(token) else {
            return Ok(());
        };
        let is_up = shared.nats.sockets.conns[self.conn].is_known_up;
        attempt.transmit(now, self.conn, is_up, plan, shared)?;
        while let Some(event) = attempt.inbound.poll_event() {
            shared.trace.line(now, || {
                format!(
                    "call {} {token}: {event:?} {:?}",
                    attempt.call,
                    attempt.inbound.termination()
                )
            });
            match event {
                InboundEvent::Readable => attempt.reader.notify(now),
                InboundEvent::Terminated if attempt.termination.is_some() => {
                    return Err("rule 52: two verdicts".to_owned());
                }
                InboundEvent::Terminated => attempt.termination = attempt.inbound.termination().cloned(),
                _ => {}
            }
            if event == InboundEvent::Terminated {
                let call = &self.calls[attempt.call];
                judge::termination(now, attempt, call, self.last_reconnect, plan, shared)?;
            }
        }
        attempt.check(plan)?;
        // After the verdict and the machine's own last message: one bare empty message to each (rule 61).
        let has_closed = attempt.control.is_none() || !attempt.inbound.wants_transmit();
        if attempt.termination.is_some() && !attempt.is_closed && has_closed && (is_up || attempt.mapped.is_empty()) {
            attempt.is_closed = true;
            for control in std::mem::take(&mut attempt.mapped) {
                if self.mutation != Some(Mutation::NoBareEmpty) {
                    shared.nats.publish(now, self.conn, Msg::new(control, Bytes::new()))?;
                }
            }
        }
        if attempt.is_closed && attempt.reader.is_done() {
            self.end(now, token, shared)?;
        }
        Ok(())
    }

    /// The user has the verdict, and nothing is left to be sent.
    fn end(&mut self, now: Nanos, token: &Rc<str>, shared: &mut Shared) -> Result<(), String> {
        let Some(mut attempt) = self.attempts.remove(token) else {
            return Ok(());
        };
        let Some(verdict) = attempt.termination.take() else {
            return Ok(());
        };
        if attempt.inbound.termination() != Some(&verdict) {
            return Err(format!(
                "rule 52: {verdict:?} became {:?}",
                attempt.inbound.termination()
            ));
        }
        if attempt.inbound.poll_items(instant(now)).is_some()
            || attempt.inbound.wants_transmit() && attempt.control.is_some()
        {
            return Err(format!("something came after the verdict {verdict:?}"));
        }
        attempt.check_confirmed(&verdict)?;
        let index = attempt.call;
        if !self.calls[index].is_cancelled {
            judge::items(&attempt, &verdict, shared)?;
        }
        let stats = attempt.inbound.stats();
        shared.totals.count("gaps", stats.gaps);
        shared.totals.count("repeated units", stats.retransmitted);
        shared
            .totals
            .count("messages of another responder", stats.foreign_responder);
        shared.totals.count("items delivered", attempt.delivered.len() as u64);
        let again = self.last_reconnect.is_some_and(|at| now < at + AGAIN_FOR);
        if verdict == Termination::NoResponders && again {
            shared.totals.count("new attempts after a reconnect", 1);
            self.calls[index].attempt = None;
            shared.nats.sockets.at(now + AGAIN, Event::RetryCall(index));
            return Ok(());
        }
        self.verdict(now, index, verdict, shared)
    }

    fn verdict(&mut self, now: Nanos, index: usize, verdict: Termination, shared: &mut Shared) -> Result<(), String> {
        shared.trace.line(now, || format!("call {index}: {verdict:?}"));
        shared.totals.verdict(judge::name(&verdict));
        match self.calls[index].verdict.replace(verdict) {
            None => Ok(()),
            Some(before) => Err(format!("call {index} has two verdicts, first {before:?}")),
        }
    }
}

fn config(wish: &CallPlan, deadline: Option<Nanos>, assembly: &Budget, plan: &Plan) -> InboundConfig {
    let mut config = InboundConfig::default();
    config.max_window = plan.max_window;
    config.heartbeat = Duration::from_nanos(plan.heartbeat);
    config.deadline = deadline.map(Duration::from_nanos);
    config.first_item_timeout = wish.first_item.map(Duration::from_nanos);
    config.idle_timeout = wish.idle.map(Duration::from_nanos);
    config.assembly_budget = Some(assembly.clone());
    config.control = !wish.is_uncontrolled;
    config
}
