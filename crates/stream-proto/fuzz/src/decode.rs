//! Any bytes.

use std::time::Duration;

use bytes::Bytes;
use stream_proto::{
    Answer, Class, Frame, MAX_HEADER, MAX_MESSAGE, MAX_SUBJECT, MAX_UNIT, Message, Offer, Open, is_mapped,
    is_safe_reply,
};

use crate::wire::MAX_NUMBER;

/// Reads any bytes as a message, a header and a subject.
///
/// # Panics
/// When something does not hold that the documentation promises.
pub fn decode(data: &[u8]) {
    let payload = Bytes::copy_from_slice(data);
    check_frame(&payload);
    check_class(&payload);
    if let Ok(text) = std::str::from_utf8(data) {
        check_open(text);
        check_answer(text);
        check_subject(text);
    }
}

fn check_frame(payload: &Bytes) {
    let frame = match Frame::decode(payload) {
        Ok(frame) => frame,
        Err(error) => {
            assert!(error.offset <= payload.len(), "an error beyond the payload: {error}");
            return;
        }
    };
    let encoded = frame.encode();
    if encoded.len() > MAX_UNIT {
        // A message that is not UTF-8 is replaced by a longer one.
        return;
    }
    let again = Frame::decode(&encoded).expect("what was encoded decodes");
    check_same(&frame, &again);
    // Reserved bits and bytes after the last field are gone now, so that nothing changes any more.
    assert_eq!(again.encode(), encoded);
    assert_eq!(Frame::decode(&again.encode()), Ok(again));
}

fn check_same(frame: &Frame, again: &Frame) {
    let (Frame::Unit(unit), Frame::Unit(other)) = (frame, again) else {
        assert_eq!(frame, again);
        return;
    };
    assert_eq!(
        (unit.sid, unit.position, &unit.data, unit.end()),
        (other.sid, other.position, &other.data, other.end())
    );
    let (Some((status, items)), Some((decoded, decoded_items))) = (&unit.fin, &other.fin) else {
        assert_eq!(unit.fin, other.fin);
        return;
    };
    let mut expected = status.clone();
    // Only a message that was not UTF-8 has become longer than what travels.
    while expected.message.len() > MAX_MESSAGE {
        expected.message.pop();
    }
    assert_eq!((&expected, items), (decoded, decoded_items));
    // What people see must not panic either.
    assert!(!status.to_string().is_empty());
}

/// Rule 7, said the other way round.
fn check_class(payload: &Bytes) {
    for has_headers in [false, true] {
        for status in [None, Some(100), Some(503)] {
            let message = Message {
                status,
                has_headers,
                payload: payload.clone(),
                ..Message::default()
            };
            let expected = match (status, has_headers, payload.first()) {
                (Some(503), _, _) => Class::NoResponders,
                (_, false, None) => Class::BareEmpty,
                (_, _, Some(0xfe)) => Class::Native,
                _ => Class::Foreign,
            };
            assert_eq!(message.class(), expected);
        }
    }
}

fn check_open(text: &str) {
    if let Ok(Offer::Supported(open)) = Open::parse(text) {
        assert!(open.limit > 0 && text.len() <= MAX_HEADER);
        let encoded = open.encode();
        assert!(encoded.is_ascii() && encoded.len() <= MAX_HEADER, "{encoded}");
        let time = |time: Duration| time.min(Duration::from_millis(MAX_NUMBER));
        let expected = Open {
            limit: open.limit.min(MAX_NUMBER),
            max_item: open.max_item.map(|max| max.min(MAX_NUMBER)),
            heartbeat: open.heartbeat.map(time),
            deadline: open.deadline.map(time),
            ..open
        };
        assert_eq!(Open::parse(&encoded), Ok(Offer::Supported(expected)));
    }
}

fn check_answer(text: &str) {
    if let Ok(answer) = Answer::parse(text) {
        let encoded = answer.encode();
        assert!(encoded.is_ascii() && encoded.len() <= MAX_HEADER, "{encoded}");
        let expected = Answer {
            // Without control there is none to speak of.
            retention: if answer.control {
                answer.retention.min(MAX_NUMBER)
            } else {
                u64::MAX
            },
            ..answer
        };
        assert_eq!(Answer::parse(&encoded), Ok(expected));
    }
}

/// Rule 6, byte by byte.
fn check_subject(text: &str) {
    const OWN: &str = "MYBOX.";
    let bytes = text.as_bytes();
    let is_plain = bytes
        .iter()
        .all(|byte| (0x21..=0x7e).contains(byte) && !b"*>".contains(byte));
    let has_empty_token = bytes.first() == Some(&b'.') || bytes.last() == Some(&b'.') || text.contains("..");
    let is_below = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
    let is_well_formed = (1..=MAX_SUBJECT).contains(&bytes.len()) && is_plain && !has_empty_token;
    assert_eq!(
        is_safe_reply(text, &[OWN]),
        is_well_formed && is_below(&["_INBOX", "_R_.", OWN])
    );
    // Whatever is configured, nothing below `$`.
    assert_eq!(
        is_safe_reply(text, &["$", "", "orders."]),
        is_well_formed && is_below(&["_INBOX", "_R_.", "orders."])
    );
    assert_eq!(is_mapped(text), is_below(&["_R_."]));
}
