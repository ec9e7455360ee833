//! The host of the responders' halves: one process.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use stream_proto::{
    CloseCode, CloseReason, Code, Frame, Message, Offer, Open, Outbound, OutboundConfig, OutboundEvent, Status,
    is_mapped, is_safe_reply,
};

use crate::caller::Mutation;
use crate::handler::Handler;
use crate::nats::{Msg, SERVICE};
use crate::plan::Plan;
use crate::record::{Rate, Record, Shared};
use crate::rng::Rng;
use crate::socket::ConnId;
use crate::time::{MS, Nanos, S, US, earlier, instant};

/// Memory of a unit, its position's cost included, and of an end.
const UNIT: u64 = 64 * 1024 + 256;
const STATUS: u64 = 6 * 1024;

#[derive(Debug)]
pub(crate) struct Responder {
    pub(crate) conn: ConnId,
    streams: BTreeMap<Rc<str>, Stream>,
    count: u64,
    resets: Rate,
    rng: Rng,
    mutation: Option<Mutation>,
}

#[derive(Debug)]
struct Stream {
    outbound: Outbound,
    handler: Handler,
    reply: Rc<str>,
    is_mapped: bool,
    record: usize,
    /// The highest limit that was granted, and what is kept at most.
    granted: u64,
    retention: u64,
    has_control: bool,
    /// Messages handed out.
    sent: u64,
    /// The highest number of a BEAT with the control subject.
    announced: u64,
    /// The own connection came back: the next message is a BEAT, mapped with a number above this one.
    expects_beat: Option<u64>,
    /// The last request to send again that was followed.
    rewound: Option<(u64, Nanos)>,
    /// Bare empty messages handed out.
    ends: u32,
    unwanted: bool,
    last_503: Option<Nanos>,
    is_forgotten: bool,
    /// More is to be sent, later.
    resume: Option<Nanos>,
}

impl Responder {
    pub(crate) fn new(conn: ConnId, rng: Rng, mutation: Option<Mutation>) -> Self {
        Self {
            conn,
            streams: BTreeMap::new(),
            count: 0,
            resets: Rate::default(),
            rng,
            mutation,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    /// Subjects of the streams that live, for intruders.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &Rc<str>> {
        self.streams.keys()
    }

    pub(crate) fn sid(&self, subject: &str) -> Option<u32> {
        self.streams.get(subject).map(|stream| stream.outbound.sid())
    }

    pub(crate) fn show(&self) -> String {
        let lines: Vec<String> = self
            .streams
            .iter()
            .map(|(subject, stream)| format!("{subject}: {:?}", stream.outbound))
            .collect();
        lines.join("\n")
    }

    pub(crate) fn receive(&mut self, now: Nanos, msg: Msg, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        if &*msg.subject == SERVICE {
            return self.open(now, &msg, plan, shared);
        }
        let subject = msg.subject.clone();
        let reply = msg.reply.as_ref().filter(|reply| is_safe_reply(reply, &[""; 0]));
        let Some(stream) = self.streams.get_mut(&subject) else {
            return self.answer_unknown(now, &msg, reply.cloned(), shared);
        };
        let frame = if msg.status.is_some() {
            None
        } else {
            Frame::decode(&msg.payload).ok()
        };
        match frame {
            Some(Frame::State { sid, limit, .. }) if sid == stream.outbound.sid() => {
                stream.granted = stream.granted.max(limit);
            }
            Some(Frame::Close { sid, code }) if sid == stream.outbound.sid() && !stream.outbound.is_forgotten() => {
                stream.unwanted = code == CloseCode::Unwanted;
            }
            _ => {}
        }
        if msg.status == Some(503) {
            stream.last_503 = Some(now);
            if self.mutation == Some(Mutation::NoRespondersIsVerdict) {
                stream.outbound.give_up(CloseReason::Gone);
            }
        }
        let message = Message {
            status: msg.status,
            header: msg.header.as_deref(),
            has_headers: msg.has_headers,
            has_control: reply.is_some(),
            is_mapped: reply.is_some_and(|reply| is_mapped(reply)),
            service_error: None,
            may_follow_loss: false,
            payload: msg.payload.clone(),
        };
        let rewinds = stream.outbound.stats().rewinds;
        // What cannot be read is counted and changes nothing.
        let _ = stream.outbound.handle(instant(now), &message);
        if let Some(Frame::State { next, .. }) = frame
            && stream.outbound.stats().rewinds > rewinds
        {
            let before = stream.rewound.replace((next, now));
            if before.is_some_and(|(before, at)| before == next && now < at + 500 * MS) {
                return Err(format!("rule 40: two rewinds to {next} within 500 ms"));
            }
        }
        self.settle(now, &subject, plan, shared)
    }

    pub(crate) fn disconnected(&mut self, now: Nanos, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        self.each(now, plan, shared, |stream| {
            stream.outbound.handle_disconnected(instant(now))
        })
    }

    pub(crate) fn reconnected(&mut self, now: Nanos, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        let before: Vec<(Rc<str>, u64)> = self
            .streams
            .iter()
            .map(|(subject, stream)| (subject.clone(), stream.sent))
            .collect();
        self.each(now, plan, shared, |stream| {
            let is_between = stream.has_control
                && stream.sent > 0
                && !stream.outbound.is_end_sent()
                && !stream.outbound.is_forgotten();
            stream.expects_beat = is_between.then_some(stream.announced);
            stream.outbound.handle_reconnected(instant(now));
        })?;
        for (subject, sent) in before {
            let silent = self
                .streams
                .get(&subject)
                .filter(|stream| stream.has_control && stream.sent == sent && sent > 0);
            if silent.is_some_and(|stream| !stream.outbound.is_forgotten()) {
                return Err(format!("rule 44: {subject} says nothing after a reconnect"));
            }
        }
        Ok(())
    }

    /// The process dies. What it counted is kept.
    pub(crate) fn killed(&mut self, now: Nanos, shared: &mut Shared) {
        self.disturbed(now, shared, "its responder is killed");
        for stream in std::mem::take(&mut self.streams).into_values() {
            stream.count(shared);
        }
    }

    /// What happens to the process concerns all its streams.
    pub(crate) fn disturbed(&self, now: Nanos, shared: &mut Shared, why: &str) {
        for stream in self.streams.values() {
            let token = shared.records[stream.record].token.clone();
            shared.nats.sockets.disturbed(now, &token, why);
        }
    }

    pub(crate) fn next_wake(&self, lateness: Nanos) -> Option<Nanos> {
        let wake = |stream: &Stream| {
            let timer = stream.outbound.poll_timeout().map(|at| at.as_nanos() + lateness);
            earlier(earlier(timer, stream.resume), stream.handler.next)
        };
        self.streams.values().map(wake).fold(None, earlier)
    }

    /// Does all that is due.
    pub(crate) fn wake(&mut self, now: Nanos, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        let subjects: Vec<Rc<str>> = self.streams.keys().cloned().collect();
        for subject in subjects {
            let Some(stream) = self.streams.get_mut(&subject) else {
                continue;
            };
            let mut is_due = stream.resume.take_if(|at| *at <= now).is_some();
            if stream.handler.next.is_some_and(|at| at <= now) {
                stream.handler.run(now, &mut stream.outbound, stream.record, shared)?;
                is_due = true;
            }
            if stream
                .outbound
                .poll_timeout()
                .is_some_and(|at| at.as_nanos() + plan.lateness <= now)
            {
                stream.outbound.handle_timeout(instant(now));
                is_due = true;
            }
            if is_due {
                self.settle(now, &subject, plan, shared)?;
            }
        }
        Ok(())
    }

    fn each(&mut self, now: Nanos, plan: &Plan, shared: &mut Shared, act: impl Fn(&mut Stream)) -> Result<(), String> {
        let subjects: Vec<Rc<str>> = self.streams.keys().cloned().collect();
        for subject in subjects {
            if let Some(stream) = self.streams.get_mut(&subject) {
                act(stream);
            }
            self.settle(now, &subject, plan, shared)?;
        }
        Ok(())
    }

    fn open(&mut self, now: Nanos, msg: &Msg, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        let (Some(reply), Some(header)) = (&msg.reply, &msg.header) else {
            return Ok(());
        };
        let Ok(Offer::Supported(open)) = Open::parse(header) else {
            return Err(format!("an Open of ours: {header}"));
        };
        let mut call = [0; 4];
        call.copy_from_slice(&msg.payload[..4]);
        let call = &plan.calls[u32::from_be_bytes(call) as usize];
        let sid = self.rng.next() as u32;
        let is_mapped = is_mapped(reply);
        let record = shared.records.len();
        self.count += 1;
        let control: Rc<str> = format!("_INBOX.n{}.k{}", self.conn, self.count).into();
        shared.records.push(Record {
            token: shared.nats.target(reply).clone(),
            sid,
            control: control.clone(),
            sent: Vec::new(),
            status: None,
            closed: None,
            is_refusal: false,
            is_forgotten: false,
        });
        if self.rng.chance(plan.refusals) {
            return self.refuse(now, reply, sid, record, shared);
        }
        let mut config = OutboundConfig::default();
        config.retention = plan.retention;
        config.max_unit = plan.max_unit;
        config.stall_limit = std::time::Duration::from_nanos(plan.stall_limit);
        config.mapped = is_mapped;
        let handler = Rng::new(self.rng.next());
        let stream = Stream {
            outbound: Outbound::new(sid, &open, &config, instant(now)),
            handler: Handler::new(call.handler, now, handler),
            reply: reply.clone(),
            is_mapped,
            record,
            // Without control its own connection is all that holds a sender up.
            granted: if open.control { open.limit } else { u64::MAX },
            has_control: open.control,
            retention: plan.retention,
            sent: 0,
            announced: 0,
            expects_beat: None,
            rewound: None,
            ends: 0,
            unwanted: false,
            last_503: None,
            is_forgotten: false,
            resume: None,
        };
        shared.trace.line(now, || {
            format!("n{} begins stream {record} {sid:08x} at {control}", self.conn)
        });
        self.streams.insert(control.clone(), stream);
        self.settle(now, &control, plan, shared)
    }

    /// Rule 25.
    fn refuse(&self, now: Nanos, reply: &Rc<str>, sid: u32, record: usize, shared: &mut Shared) -> Result<(), String> {
        let status = Status {
            not_processed: true,
            retryable: true,
            ..Status::new(Code::Unavailable, "draining")
        };
        shared.records[record].is_refusal = true;
        if !shared.nats.sockets.conns[self.conn].is_known_up {
            // It cannot be said now, and is not kept.
            let token = shared.records[record].token.clone();
            shared
                .nats
                .sockets
                .disturbed(now, &token, "a refusal that cannot be sent");
            return Ok(());
        }
        let payload = Frame::refusal(sid, status).encode();
        let msg = Msg {
            header: Some("1".into()),
            has_headers: true,
            ..Msg::new(reply.clone(), payload)
        };
        shared.nats.publish(now, self.conn, msg)?;
        if is_mapped(reply) {
            shared
                .nats
                .publish(now, self.conn, Msg::new(reply.clone(), Bytes::new()))?;
        }
        Ok(())
    }

    /// Rule 50.
    fn answer_unknown(
        &mut self,
        now: Nanos,
        msg: &Msg,
        reply: Option<Rc<str>>,
        shared: &mut Shared,
    ) -> Result<(), String> {
        let frame = if msg.status.is_some() {
            None
        } else {
            Frame::decode(&msg.payload).ok()
        };
        let (Some(Frame::State { sid, .. }), Some(reply)) = (frame, reply) else {
            return Ok(());
        };
        if shared.nats.sockets.conns[self.conn].is_known_up && self.resets.allows(now) {
            shared.totals.count("resets", 1);
            shared
                .nats
                .publish(now, self.conn, Msg::new(reply, Frame::Reset { sid }.encode()))?;
        }
        Ok(())
    }

    /// Sends what is to be sent, hands on what happened, checks, and drops the stream when it is over.
    fn settle(&mut self, now: Nanos, subject: &Rc<str>, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        let Some(stream) = self.streams.get_mut(subject) else {
            return Ok(());
        };
        let mut budget = if plan.burst == 0 { usize::MAX } else { plan.burst };
        while shared.nats.sockets.conns[self.conn].is_known_up && stream.outbound.wants_transmit() {
            if budget == 0 {
                stream.resume = Some(now + 200 * US);
                break;
            }
            budget -= 1;
            let Some(transmit) = stream.outbound.poll_transmit(instant(now)) else {
                return Err("wants_transmit, but nothing was handed out".to_owned());
            };
            let header = transmit.header.then(|| stream.outbound.answer().encode().into());
            let msg = Msg {
                reply: transmit.control.then(|| subject.clone()),
                has_headers: transmit.header || transmit.failure.is_some(),
                header,
                ..Msg::new(stream.reply.clone(), transmit.payload)
            };
            stream.sent += 1;
            stream.note_beat(&msg)?;
            stream.ends += u32::from(msg.is_bare_empty());
            shared.nats.publish(now, self.conn, msg)?;
        }
        while let Some(event) = stream.outbound.poll_event() {
            shared
                .trace
                .line(now, || format!("n{} stream {}: {event:?}", self.conn, stream.record));
            match event {
                OutboundEvent::Ready => stream.handler.wake(now),
                OutboundEvent::Closed(_) => stream.handler.stop(),
                OutboundEvent::Forgotten if std::mem::replace(&mut stream.is_forgotten, true) => {
                    return Err("a stream was forgotten twice".to_owned());
                }
                _ => {}
            }
        }
        let record = &mut shared.records[stream.record];
        record.status = stream.outbound.end().cloned();
        record.closed = stream.outbound.closed();
        record.is_forgotten = stream.outbound.is_forgotten();
        stream.check()?;
        if stream.outbound.is_forgotten() && !stream.outbound.wants_transmit() {
            let is_down = !shared.nats.sockets.conns[self.conn].is_known_up;
            stream.check_end(now, is_down)?;
            stream.count(shared);
            self.streams.remove(subject);
        }
        Ok(())
    }
}

impl Stream {
    /// Rules 23 and 44: what is said first after a reconnect, and that mapped subjects are numbered.
    fn note_beat(&mut self, msg: &Msg) -> Result<(), String> {
        let beat = match Frame::decode(&msg.payload) {
            Ok(Frame::Beat { announce, .. }) if msg.reply.is_some() => Some(announce),
            _ => None,
        };
        if let Some(before) = self.expects_beat.take()
            && !self.outbound.is_forgotten()
            && beat.is_none_or(|announce| self.is_mapped && announce <= before)
        {
            return Err(format!("rule 44: {msg:?} is the first message after a reconnect"));
        }
        self.announced = self.announced.max(beat.unwrap_or(0));
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let most = self.retention.max(1).min(self.granted) + UNIT + self.handler.largest() + STATUS;
        let kept = self.outbound.kept();
        if kept > most {
            return Err(format!("section 14.3: {kept} bytes are kept, more than {most}"));
        }
        let may_stop = self.outbound.closed().is_some() || self.outbound.is_forgotten();
        if self.handler.is_over() && self.outbound.end().is_none() && !may_stop {
            return Err("the handler is over and the stream is not".to_owned());
        }
        Ok(())
    }

    /// Rule 60: exactly one bare empty message ends a mapped stream, none any other.
    fn check_end(&self, now: Nanos, is_down: bool) -> Result<(), String> {
        let is_gone = matches!(
            self.outbound.closed(),
            Some(CloseReason::Gone | CloseReason::Disconnected)
        );
        // A suspicion or an outage (the only end in an outage) may have another reason when the end was sent before.
        let may_be_gone = is_down || self.last_503.is_some_and(|at| now < at + 2 * S);
        let allowed = if !self.is_mapped || self.unwanted || is_gone {
            0..=0
        } else if may_be_gone {
            0..=1
        } else {
            1..=1
        };
        if allowed.contains(&self.ends) {
            return Ok(());
        }
        Err(format!(
            "rule 60: {} bare empty messages, {allowed:?} are right (mapped {}, unwanted {}, closed {:?})",
            self.ends,
            self.is_mapped,
            self.unwanted,
            self.outbound.closed()
        ))
    }

    fn count(&self, shared: &mut Shared) {
        let stats = self.outbound.stats();
        shared.totals.count("streams", 1);
        shared.totals.count("items sent", stats.items);
        shared.totals.count("rewinds", stats.rewinds);
        shared.totals.count("units sent again", stats.retransmitted);
        let closed = match self.outbound.closed() {
            Some(CloseReason::Gone) => "streams whose caller was gone",
            Some(CloseReason::Stalled) => "streams that stalled",
            _ => return,
        };
        shared.totals.count(closed, 1);
    }
}
