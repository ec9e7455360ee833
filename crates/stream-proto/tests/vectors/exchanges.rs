//! Whole exchanges: each role plays its part against the recorded other.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use stream_proto::{
    CloseCode, CloseReason, ControlUse, Frame, HEADER, Inbound, InboundConfig, Instant, LostCause, Message, Offer,
    Open, Outbound, OutboundConfig, ProtocolError, PushError, Status, Termination, Transmit,
};

use crate::reading::*;

/// What a side has sent, and when.
#[derive(Debug)]
struct Sent {
    at: Instant,
    payload: Bytes,
    control: bool,
    header: bool,
    failure: Option<u8>,
}

impl Sent {
    fn new(at: Instant, transmit: Transmit) -> Self {
        Self {
            at,
            payload: transmit.payload,
            control: transmit.control,
            header: transmit.header,
            failure: transmit.failure.map(|failure| failure.code.as_u8()),
        }
    }

    fn without_headers(at: Instant, payload: Bytes) -> Self {
        Self {
            at,
            payload,
            control: false,
            header: false,
            failure: None,
        }
    }
}

/// Takes the next message of `sent`, which must be that of `step`.
fn expect_sent(sent: &mut VecDeque<Sent>, step: &Value, name: &str) {
    if is_end_of_mapping(step) && sent.front().is_none_or(|sent| !sent.payload.is_empty()) {
        // The host's: a caller's end of the mapping (rule 61), and the one after a refusal.
        return;
    }
    let Some(sent) = sent.pop_front() else {
        panic!("{name}: nothing was sent for {step}")
    };
    assert_eq!(hex(&sent.payload), hex(&bytes(&step["hex"])), "{name}: {step}");
    assert!(sent.at <= at(step), "{name}: sent at {:?}, late for {step}", sent.at);
    assert_eq!(sent.control, flag(&step["control"]), "{name}: {step}");
    assert_eq!(sent.header, step["headers"][HEADER].is_string(), "{name}: {step}");
    let code = step["headers"]["Nats-Service-Error-Code"].as_str();
    assert_eq!(
        sent.failure.map(|code| code.to_string()).as_deref(),
        code,
        "{name}: {step}"
    );
}

fn at(step: &Value) -> Instant {
    Instant::ORIGIN + Duration::from_millis(int(&step["at"]))
}

fn is(step: &Value, key: &str, value: &str) -> bool {
    step[key].as_str() == Some(value)
}

fn is_end_of_mapping(step: &Value) -> bool {
    bytes(&step["hex"]).is_empty()
}

fn is_lost(step: &Value) -> bool {
    step.get("lost").is_some()
}

/// The moment before `now`: what arrives is handled before the clocks (rule 45).
fn just_before(now: Instant) -> Instant {
    Instant::from_nanos(now.as_nanos().saturating_sub(1))
}

struct Caller {
    inbound: Inbound,
    sent: VecDeque<Sent>,
    items: Vec<String>,
    is_reading: bool,
    ended_at: Option<Instant>,
    /// Which of several control subjects is in use.
    alias: Option<u64>,
    is_mapped: bool,
    is_up: bool,
}

impl Caller {
    fn settle(&mut self, now: Instant) {
        while self.is_reading {
            let Some(item) = self.inbound.poll_item(now) else { break };
            self.items.push(hex(&item));
        }
        while let Some(transmit) = Some(&mut self.inbound)
            .filter(|_| self.is_up)
            .and_then(|inbound| inbound.poll_transmit(now))
        {
            self.sent.push_back(Sent::new(now, transmit));
        }
        if self.inbound.termination().is_some() {
            self.ended_at.get_or_insert(now);
        }
    }

    fn advance(&mut self, until: Instant) {
        while let Some(now) = self.inbound.poll_timeout().filter(|now| *now <= until) {
            self.inbound.handle_timeout(now);
            self.settle(now);
        }
    }

    fn step(&mut self, step: &Value, name: &str) {
        let now = at(step);
        if is(step, "to", "service") {
            assert_eq!(step["headers"][HEADER], json!(self.inbound.open().encode()), "{name}");
        } else if is(step, "from", "caller") {
            self.advance(now);
            expect_sent(&mut self.sent, step, name);
            if let Some(alias) = step["alias"].as_u64().filter(|_| !is_end_of_mapping(step)) {
                assert_eq!(self.alias, Some(alias), "{name}: {step}");
            }
        } else if is(step, "to", "caller") && !is_lost(step) {
            self.advance(just_before(now));
            let message = Message {
                is_mapped: self.is_mapped,
                ..received(step)
            };
            match self.inbound.handle(now, &message) {
                ControlUse::Use => self.alias = step["alias"].as_u64(),
                ControlUse::Refuse(sid) => {
                    let code = CloseCode::Unwanted;
                    let refusal = Frame::Close { sid, code }.encode();
                    self.sent.push_back(Sent::without_headers(now, refusal));
                }
                _ => {}
            }
            self.settle(now);
        } else if is(step, "connection", "caller") {
            self.advance(just_before(now));
            self.is_up = is(step, "is", "up");
            if self.is_up {
                self.inbound.handle_reconnected(now);
            } else {
                self.inbound.handle_disconnected(now);
            }
            self.settle(now);
        } else if let Some(action) = step["user"].as_str() {
            self.advance(just_before(now));
            match action {
                "reads" => self.is_reading = true,
                "stops" => self.is_reading = false,
                "cancels" => self.inbound.cancel(),
                other => panic!("{name}: a user does not know {other}"),
            }
            self.settle(now);
        }
    }
}

fn verdict_fields(termination: &Termination) -> Value {
    let failed = |kind: &str, status: &Status| {
        let mut fields = status_fields(status);
        fields["kind"] = json!(kind);
        fields
    };
    match termination {
        Termination::Cancelled => json!({"kind": "cancelled"}),
        Termination::Ended { items, trailers } => {
            json!({"kind": "ended", "items": items.to_string(), "trailers": hex(trailers)})
        }
        Termination::Failed(status) => failed("failed", status),
        Termination::Lost { items, cause } => {
            // The page has names of its own for some.
            let cause = match cause {
                LostCause::Gone => "unreachable".to_owned(),
                LostCause::MappingEnded => "mapping_ended".to_owned(),
                other => format!("{other:?}").to_lowercase(),
            };
            json!({"kind": "lost", "items": items.to_string(), "cause": cause})
        }
        Termination::NoResponders => json!({"kind": "no_responders"}),
        Termination::Protocol(error) => {
            let what = match error {
                ProtocolError::Malformed(error) => format!("{:?}", error.what),
                ProtocolError::CreditExceeded { .. } => "CreditExceeded".to_owned(),
                other => format!("{other:?}"),
            };
            json!({"kind": "protocol", "what": what})
        }
        Termination::Refused(status) => failed("refused", status),
        Termination::TimedOut(clock) => json!({"kind": "timed_out", "clock": format!("{clock:?}").to_lowercase()}),
        Termination::Unanswered => json!({"kind": "unanswered"}),
        other => panic!("a verdict without vectors: {other:?}"),
    }
}

/// The exchanges that `role` can play.
fn exchanges(role: &str, mut play: impl FnMut(&str, &Value)) {
    let all = load("exchanges");
    for exchange in list(&all) {
        let name = text(&exchange["name"]);
        let has_role = list(&exchange["roles"]).contains(&json!(role));
        if has_role {
            play(name, exchange);
        }
    }
}

#[test]
fn a_caller_plays_its_part_of_the_exchanges() {
    exchanges("caller", |name, exchange| {
        let settings = &exchange["settings"];
        let mut config = InboundConfig::default();
        config.max_window = int(&settings["max_window"]);
        config.deadline = settings["deadline_ms"].as_u64().map(Duration::from_millis);
        let mut caller = Caller {
            inbound: Inbound::new(config, Instant::ORIGIN),
            sent: VecDeque::new(),
            items: Vec::new(),
            is_reading: true,
            ended_at: None,
            alias: None,
            is_mapped: flag(&exchange["mapped"]),
            is_up: true,
        };
        for step in list(&exchange["steps"]) {
            caller.step(step, name);
        }
        let expect = &exchange["expect"];
        if expect.get("at").is_some() {
            caller.advance(at(expect));
            assert_eq!(caller.ended_at, Some(at(expect)), "{name}");
        }
        let verdict = caller.inbound.termination().map(verdict_fields);
        assert_eq!(verdict, Some(plain(&expect["verdict"])), "{name}");
        caller.is_reading = true;
        caller.settle(caller.ended_at.unwrap_or_default());
        assert_eq!(caller.items, hex_list(&expect["items"]), "{name}");
        assert!(caller.sent.is_empty(), "{name}: {:?}", caller.sent);
    });
}

struct Responder {
    outbound: Outbound,
    answer: String,
    sent: VecDeque<Sent>,
    closed_at: Option<Instant>,
    is_up: bool,
}

impl Responder {
    fn settle(&mut self, now: Instant) {
        while let Some(transmit) = Some(&mut self.outbound)
            .filter(|_| self.is_up)
            .and_then(|outbound| outbound.poll_transmit(now))
        {
            self.sent.push_back(Sent::new(now, transmit));
        }
        if self.outbound.closed().is_some() {
            self.closed_at.get_or_insert(now);
        }
    }

    fn advance(&mut self, until: Instant) {
        while let Some(now) = self.outbound.poll_timeout().filter(|now| *now <= until) {
            self.outbound.handle_timeout(now);
            self.settle(now);
        }
    }

    fn handler(&mut self, step: &Value, name: &str) {
        let (now, handler) = (at(step), &step["handler"]);
        for item in handler["sends"].as_array().into_iter().flatten() {
            assert_eq!(self.outbound.push(&bytes(item)), Ok(()), "{name}: {step}");
        }
        if handler.get("waits").is_some() {
            assert_eq!(
                self.outbound.push(b"no room"),
                Err(PushError::Blocked),
                "{name}: {step}"
            );
            self.outbound.wait_for_credit(now);
        } else if handler["ends"].is_object() {
            self.outbound.finish(status(&handler["ends"]));
        } else if handler["aborts"].is_object() {
            self.outbound.abort(status(&handler["aborts"]), CloseReason::Local);
        } else if handler["refuses"].is_object() {
            let status = status(&handler["refuses"]);
            let failure = Some(status.code.as_u8());
            let payload = Frame::refusal(self.outbound.sid(), status).encode();
            let sent = Sent::without_headers(now, payload);
            self.sent.push_back(Sent {
                header: true,
                failure,
                ..sent
            });
            return;
        } else {
            self.outbound.flush();
        }
        self.settle(now);
    }

    fn step(&mut self, step: &Value, name: &str) {
        let now = at(step);
        if is(step, "from", "responder") {
            self.advance(now);
            expect_sent(&mut self.sent, step, name);
            if let Some(header) = step["headers"][HEADER].as_str().filter(|header| header.contains(';')) {
                assert_eq!(header, self.answer, "{name}");
            }
        } else if is(step, "to", "responder") && !is_lost(step) {
            self.advance(just_before(now));
            // What cannot be read is counted and changes nothing.
            let _ = self.outbound.handle(now, &received(step));
            self.settle(now);
        } else if is(step, "connection", "responder") {
            self.advance(just_before(now));
            self.is_up = is(step, "is", "up");
            if self.is_up {
                self.outbound.handle_reconnected(now);
            } else {
                self.outbound.handle_disconnected(now);
            }
            self.settle(now);
        } else if step.get("handler").is_some() {
            self.advance(just_before(now));
            self.handler(step, name);
        }
    }
}

#[test]
fn a_responder_plays_its_part_of_the_exchanges() {
    exchanges("responder", |name, exchange| {
        let steps = list(&exchange["steps"]);
        let Ok(Offer::Supported(open)) = Open::parse(text(&steps[0]["headers"][HEADER])) else {
            panic!("{name}: the Open cannot be read")
        };
        let mut config = OutboundConfig::default();
        // What the exchanges announce.
        config.retention = 2 << 20;
        config.mapped = flag(&exchange["mapped"]);
        if let Some(limit) = exchange["settings"]["stall_ms"].as_u64() {
            config.stall_limit = Duration::from_millis(limit);
        }
        let sid = u32::try_from(int(&exchange["sid"])).expect("a stream id");
        let outbound = Outbound::new(sid, &open, &config, Instant::ORIGIN);
        let mut responder = Responder {
            answer: outbound.answer().encode(),
            outbound,
            sent: VecDeque::new(),
            closed_at: None,
            is_up: true,
        };
        for step in steps {
            responder.step(step, name);
        }
        let expect = &exchange["expect"];
        if expect.get("at").is_some() {
            responder.advance(at(expect));
            assert_eq!(responder.closed_at, Some(at(expect)), "{name}");
        }
        let told = responder
            .outbound
            .closed()
            .map(|reason| format!("{reason:?}").to_lowercase());
        assert_eq!(told.as_deref(), expect["handler"].as_str(), "{name}");
        assert!(responder.sent.is_empty(), "{name}: {:?}", responder.sent);
    });
}
