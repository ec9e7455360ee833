//! Messages that are put aside: what is published in their place.

use super::message::Message;
use crate::event::Event;

/// Says what was on the message. What is nats-server's own comes back under this prefix: a `Nats-Rollup` would have its effect
/// on the stream of dead letters, and a `Nats-Msg-Id` would make the next failure of the same event a duplicate.
pub(super) const ORIGINAL: &str = "Dead-Letter-Original-";

/// The longest reason that is kept, in letters.
const LONGEST_REASON: usize = 1000;

pub(super) const SUBJECT: &str = "Dead-Letter-Subject";
pub(super) const STREAM: &str = "Dead-Letter-Stream";
pub(super) const CONSUMER: &str = "Dead-Letter-Consumer";
pub(super) const SEQUENCE: &str = "Dead-Letter-Sequence";
pub(super) const ATTEMPTS: &str = "Dead-Letter-Attempts";
pub(super) const STORED: &str = "Dead-Letter-Stored";
pub(super) const REASON: &str = "Dead-Letter-Reason";

const OWN: [&str; 7] = [SUBJECT, STREAM, CONSUMER, SEQUENCE, ATTEMPTS, STORED, REASON];

/// The message as an event for `subject`: its payload and its own headers, and where it was, how often it was tried, and why
/// it was put aside.
///
/// Its id is that of the message: one whose termination was lost is put aside once, within the duplicate window.
pub(super) fn dead_letter(subject: &str, stream: &str, consumer: &str, message: &Message, reason: &str) -> Event {
    // With its time: a stream that was made anew counts from 1 again.
    let stored_at = message.stored_at();
    let sequence = message.sequence().to_string();
    let attempts = message.attempt().to_string();
    let nanos = stored_at.as_nanosecond();
    let id = format!("{}.{}.{sequence}.{nanos}", encode(stream), encode(consumer));
    let mut event = Event::new(subject.to_owned(), message.payload().clone());
    if id.len() <= 256 {
        event = event.message_id(id);
    }
    for (name, values) in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        let name: &str = name.as_ref();
        if OWN.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            // It was a dead letter already, and nobody could tell which of two is meant.
            continue;
        }
        let is_servers = name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("Nats-"));
        let kept = if is_servers {
            format!("{ORIGINAL}{name}")
        } else {
            name.to_owned()
        };
        for value in values {
            event = add(event, &kept, value.as_str());
        }
    }
    let stored = stored_at.to_string();
    let reason: String = reason.trim().chars().take(LONGEST_REASON).collect();
    for (name, value) in [
        (SUBJECT, encode(message.subject())),
        (STREAM, encode(stream)),
        (CONSUMER, encode(consumer)),
        (SEQUENCE, sequence),
        (ATTEMPTS, attempts),
        (STORED, stored),
        (REASON, encode(&reason)),
    ] {
        event = add(event, name, &value);
    }
    event
}

/// A header that cannot be sent is left out: it must not keep a dead letter from being put aside.
fn add(event: Event, name: &str, value: &str) -> Event {
    let with = event.clone().header(name, value);
    if with.flaw().is_none() { with } else { event }
}

/// Headers are printable ASCII: all else is percent-encoded, and so is `%`. Line breaks become blanks, for those who read it as
/// it is.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'\n' | b'\r' | b'\t' => encoded.push(' '),
            b'%' => encoded.push_str("%25"),
            b' ' | b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::message::sample;
    use crate::envelope::decode;

    #[test]
    fn a_dead_letter_has_what_the_message_had_and_why_it_is_one() {
        let message = sample(
            "orders.7",
            &[("Tenant", "north"), ("Tenant", "south"), ("Nats-Rollup", "all")],
        );
        let event = dead_letter("dead.orders", "S", "c", &message, "no such\ncustomer: ä (100%)");
        assert_eq!(event.flaw(), None);
        assert_eq!((event.subject(), event.payload()), ("dead.orders", message.payload()));
        let headers = event.headers().expect("headers");
        let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        for (name, value) in [
            ("Dead-Letter-Subject", "orders.7"),
            ("Dead-Letter-Sequence", "7"),
            ("Dead-Letter-Attempts", "2"),
            ("Dead-Letter-Reason", "no such customer: %C3%A4 (100%25)"),
            ("Dead-Letter-Original-Nats-Rollup", "all"),
            ("Nats-Msg-Id", "S.c.7.1760000000000000001"),
        ] {
            assert_eq!(text(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(text("Nats-Rollup"), None);
        assert_eq!(headers.get_all("Tenant").count(), 2);
    }

    #[test]
    fn names_and_letters_of_all_languages_are_no_obstacle() {
        let message = sample("订单.7", &[("Dead-Letter-Reason", "an older one")]);
        let event = dead_letter("dead", "订单", "邮件", &message, "收件人不存在");
        assert_eq!(event.flaw(), None);
        let headers = event.headers().expect("headers");
        for (name, text) in [(SUBJECT, "订单.7"), (STREAM, "订单"), (REASON, "收件人不存在")] {
            let values: Vec<_> = headers.get_all(name).map(|value| decode(value.as_str())).collect();
            assert_eq!(values, [text], "{name}");
        }
    }

    #[test]
    fn an_empty_reason_is_no_obstacle() {
        let event = dead_letter("dead", "S", "c", &sample("a", &[]), " ");
        assert_eq!(event.flaw(), None);
    }
}
