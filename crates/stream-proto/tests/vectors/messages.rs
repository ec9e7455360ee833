//! Single messages, headers, items, positions, classes and subjects.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use stream_proto::{
    Answer, Class, CloseCode, Frame, Inbound, InboundConfig, Instant, Malformed, Message, Offer, Open, ProtocolError,
    Termination, Unit, clamp_heartbeat, is_mapped, is_safe_reply,
};

use crate::reading::*;

const FILES: [&str; 8] = [
    "classes",
    "exchanges",
    "frames",
    "headers",
    "items",
    "malformed",
    "positions",
    "subjects",
];

fn frame_fields(frame: &Frame) -> Value {
    let close_number = |code: &CloseCode| match code {
        CloseCode::Done => 0,
        CloseCode::Cancelled => 1,
        CloseCode::Unwanted => 2,
        CloseCode::Deadline => 3,
        CloseCode::Protocol => 4,
        CloseCode::Other(number) => *number,
        other => panic!("a close code without a vector: {other:?}"),
    };
    match frame {
        Frame::Unit(unit) => {
            let fin = unit.fin.as_ref().map(|(status, items)| {
                let mut fields = status_fields(status);
                fields["items"] = json!(items.to_string());
                fields
            });
            let (position, data) = (unit.position.to_string(), hex(&unit.data));
            json!({"kind": "UNIT", "sid": unit.sid, "position": position, "fin": fin, "data": data})
        }
        Frame::Beat {
            sid,
            announce,
            position,
        } => {
            json!({"kind": "BEAT", "sid": sid, "announce": announce.to_string(), "position": position.to_string()})
        }
        Frame::Reset { sid } => json!({"kind": "RESET", "sid": sid}),
        Frame::State {
            sid,
            rewind,
            next,
            limit,
        } => {
            let (next, limit) = (next.to_string(), limit.to_string());
            json!({"kind": "STATE", "sid": sid, "rewind": rewind, "next": next, "limit": limit})
        }
        Frame::Close { sid, code } => json!({"kind": "CLOSE", "sid": sid, "code": close_number(code)}),
        Frame::Unknown { sid, kind } => json!({"kind": kind, "sid": sid}),
        other => panic!("a kind without vectors: {other:?}"),
    }
}

fn unit(payload: &Bytes) -> Unit {
    match Frame::decode(payload) {
        Ok(Frame::Unit(unit)) => unit,
        other => panic!("not a unit: {other:?}"),
    }
}

#[test]
fn every_vector_file_is_read_by_this_test() {
    let mut found: Vec<String> = fs::read_dir(directory())
        .expect("docs/vectors")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    found.sort();
    assert_eq!(found, FILES);
}

#[test]
fn frames_decode_to_their_fields_and_encode_to_their_bytes() {
    for vector in list(&load("frames")) {
        let (name, payload) = (&vector["name"], bytes(&vector["hex"]));
        let frame = Frame::decode(&payload).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(frame_fields(&frame), plain(&vector["fields"]), "{name}");
        assert_eq!(u64::from(frame.sid()), int(&vector["fields"]["sid"]), "{name}");
        let again = frame.encode();
        if vector.get("decode_only").is_none() {
            assert_eq!(hex(&again), hex(&payload), "{name}");
        }
        assert_eq!(
            Frame::decode(&again).map(|frame| frame_fields(&frame)),
            Ok(frame_fields(&frame)),
            "{name}"
        );
    }
}

#[test]
fn malformed_messages_are_refused_at_their_byte() {
    for vector in list(&load("malformed")) {
        let name = &vector["name"];
        let Err(error) = Frame::decode(&bytes(&vector["hex"])) else {
            panic!("{name} was read")
        };
        let (what, offset) = (format!("{:?}", error.what), error.offset as u64);
        assert_eq!(
            (what.as_str(), offset),
            (text(&vector["error"]), int(&vector["offset"])),
            "{name}"
        );
    }
}

#[test]
fn open_headers_are_read_and_written() {
    let vectors = &load("headers")["open"];
    for vector in list(&vectors["valid"]) {
        let (value, fields) = (text(&vector["value"]), &vector["fields"]);
        let Ok(Offer::Supported(open)) = Open::parse(value) else {
            panic!("{value}: {:?}", Open::parse(value))
        };
        let optional = |key: &str| fields[key].is_string().then(|| number(&fields[key]));
        assert_eq!(open.limit, number(&fields["w"]), "{value}");
        assert_eq!(open.max_item, optional("m"), "{value}");
        assert_eq!(open.heartbeat, optional("h").map(Duration::from_millis), "{value}");
        assert_eq!(open.deadline, optional("d").map(Duration::from_millis), "{value}");
        assert_eq!(open.control, optional("c") != Some(0), "{value}");
        assert_eq!(open.probe, optional("p") == Some(1), "{value}");
        if let Some(heartbeat) = open.heartbeat {
            assert_eq!(ms(clamp_heartbeat(heartbeat)), int(&fields["heartbeat_ms"]), "{value}");
        }
        if vector.get("canonical").is_some() {
            assert_eq!(open.encode(), value);
        }
    }
    for value in list(&vectors["unsupported"]) {
        assert_eq!(Open::parse(text(value)), Ok(Offer::Unsupported), "{value}");
    }
    for vector in list(&vectors["invalid"]) {
        assert!(Open::parse(text(&vector["value"])).is_err(), "{vector}");
    }
}

#[test]
fn answer_headers_are_read_and_written() {
    let vectors = &load("headers")["answer"];
    for vector in list(&vectors["valid"]) {
        let (value, fields) = (text(&vector["value"]), &vector["fields"]);
        let answer = Answer::parse(value).unwrap_or_else(|error| panic!("{value}: {error}"));
        // Without `r` nothing bounds the caller.
        let retention = fields["r"].as_str().map_or(u64::MAX, |_| number(&fields["r"]));
        assert_eq!(answer.retention, retention, "{value}");
        assert_eq!(ms(answer.heartbeat), int(&fields["heartbeat_ms"]), "{value}");
        assert_eq!(answer.control, fields["c"].as_str() != Some("0"), "{value}");
        if vector.get("canonical").is_some() {
            assert_eq!(answer.encode(), value);
        }
    }
    for vector in list(&vectors["invalid"]) {
        assert!(Answer::parse(text(&vector["value"])).is_err(), "{vector}");
    }
}

/// What a caller makes of the messages of a list of items: the items and the verdict.
fn read_items(vector: &Value) -> (Vec<String>, Option<Termination>) {
    let mut config = InboundConfig::default();
    config.max_item = int(&vector["max_item"]);
    let mut inbound = Inbound::new(config, Instant::ORIGIN);
    let mut items = Vec::new();
    for payload in list(&vector["messages"]) {
        let message = Message {
            header: Some("1"),
            has_headers: true,
            payload: bytes(payload),
            ..Message::default()
        };
        inbound.handle(Instant::ORIGIN, &message);
        while let Some(item) = inbound.poll_item(Instant::ORIGIN) {
            items.push(hex(&item));
        }
    }
    (items, inbound.termination().cloned())
}

#[test]
fn items_are_cut_out_of_units() {
    for vector in list(&load("items")["valid"]) {
        let name = &vector["name"];
        for (data, message) in list(&vector["units"]).iter().zip(list(&vector["messages"])) {
            assert_eq!(hex(&unit(&bytes(message)).data), hex(&bytes(data)), "{name}");
        }
        let (items, verdict) = read_items(vector);
        assert_eq!(items, hex_list(&vector["items"]), "{name}");
        assert!(verdict.as_ref().is_some_and(Termination::is_ok), "{name}: {verdict:?}");
    }
}

#[test]
fn malformed_items_end_the_stream() {
    for vector in list(&load("items")["malformed"]) {
        let name = &vector["name"];
        let (items, verdict) = read_items(vector);
        assert_eq!(items, hex_list(&vector["items"]), "{name}");
        let Some(Termination::Protocol(ProtocolError::Malformed(error))) = verdict else {
            panic!("{name}: {verdict:?}")
        };
        assert_eq!(format!("{:?}", error.what), text(&vector["error"]), "{name}");
        let at_a_byte = !matches!(error.what, Malformed::ItemUnfinished | Malformed::WrongCount);
        let offset = at_a_byte.then_some(error.offset as u64);
        assert_eq!(offset, vector["offset"].as_u64(), "{name}");
    }
}

/// A unit with zeroes as data. The only bytes that this file writes itself.
fn zeroes(position: u64, len: usize) -> Bytes {
    let mut out = vec![0xfe, 1, 0, 0, 0, 7, 0];
    let (size, mark) = match position {
        0..0x40 => (1, 0),
        0x40..0x4000 => (2, 1 << 14),
        _ => (4, 2 << 30),
    };
    out.extend_from_slice(&(position | mark).to_be_bytes()[8 - size..]);
    out.resize(out.len() + len, 0);
    Bytes::from(out)
}

#[test]
fn positions_count_data_and_units() {
    for vector in list(&load("positions")) {
        let name = &vector["name"];
        let mut inbound = Inbound::new(InboundConfig::default(), Instant::ORIGIN);
        let mut next = 0;
        for (len, position) in list(&vector["data"]).iter().zip(list(&vector["positions"])) {
            assert_eq!(next, number(position), "{name}");
            let len = usize::try_from(int(len)).expect("a length");
            let payload = zeroes(next, len);
            next = unit(&payload).end();
            // A zero is an empty item, so a caller takes these units, if they stand where it expects them.
            let message = Message {
                header: Some("1"),
                has_headers: true,
                payload,
                ..Message::default()
            };
            inbound.handle(Instant::ORIGIN, &message);
            while inbound.poll_item(Instant::ORIGIN).is_some() {}
            while inbound.poll_transmit(Instant::ORIGIN).is_some() {}
            assert_eq!((inbound.stats().gaps, inbound.termination()), (0, None), "{name}");
        }
        assert_eq!(next, number(&vector["end"]), "{name}");
    }
}

#[test]
fn messages_have_their_class() {
    for vector in list(&load("classes")) {
        let message = received(vector);
        let class = match message.class() {
            Class::NoResponders => "no_responders",
            Class::BareEmpty => "bare_empty",
            Class::Native => "native",
            Class::Foreign => "foreign",
            other => panic!("a class without vectors: {other:?}"),
        };
        assert_eq!(class, text(&vector["class"]), "{vector}");
    }
}

#[test]
fn subjects_are_safe_or_not() {
    for vector in list(&load("subjects")) {
        let subject = text(&vector["subject"]);
        let prefixes: Vec<&str> = list(&vector["prefixes"]).iter().map(text).collect();
        assert_eq!(is_safe_reply(subject, &prefixes), flag(&vector["safe"]), "{vector}");
        assert_eq!(is_mapped(subject), flag(&vector["mapped"]), "{vector}");
    }
}
