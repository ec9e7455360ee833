//! Messages that are put aside: what is published in their place.

use super::message::Message;
use crate::event::Event;

/// Says what was on the message. What is nats-server's own comes back under this prefix: a `Nats-Rollup` would have its effect
/// on the stream of dead letters, and a `Nats-Msg-Id` would make the next failure of the same event a duplicate.
const ORIGINAL: &str = "Dead-Letter-Original-";

/// The longest reason that is kept, in letters.
pub(super) const LONGEST_REASON: usize = 1000;

/// The message as an event for `subject`: its payload and its own headers, and where it was, how often it was tried, and why
/// it was put aside.
///
/// Its id is that of the message: one whose termination was lost is put aside once, within the duplicate window.
pub(super) fn dead_letter(
    subject: &str,
    stream: &str,
    consumer: &str,
    message: &Message,
    attempts: u64,
    reason: &str,
) -> Event {
    // With its time: a stream that was made anew counts from 1 again.
    let stored_at = message.stored_at();
    let sequence = message.sequence().to_string();
    let attempts = attempts.to_string();
    let id = format!("{stream}.{consumer}.{sequence}.{}", stored_at.as_nanosecond());
    let mut event = Event::new(subject.to_owned(), message.payload().clone());
    if id.len() <= 256 {
        event = event.message_id(id);
    }
    for (name, values) in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        let name: &str = name.as_ref();
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
    let reason: String = reason.chars().take(LONGEST_REASON).map(printable).collect();
    for (name, value) in [
        ("Dead-Letter-Subject", message.subject()),
        ("Dead-Letter-Stream", stream),
        ("Dead-Letter-Consumer", consumer),
        ("Dead-Letter-Sequence", sequence.as_str()),
        ("Dead-Letter-Attempts", attempts.as_str()),
        ("Dead-Letter-Stored", stored.as_str()),
        ("Dead-Letter-Reason", reason.trim()),
    ] {
        event = add(event, name, value);
    }
    event
}

/// A header that cannot be sent is left out: it must not keep a dead letter from being put aside.
fn add(event: Event, name: &str, value: &str) -> Event {
    let with = event.clone().header(name, value);
    if with.flaw().is_none() { with } else { event }
}

/// Headers are printable ASCII.
fn printable(letter: char) -> char {
    if letter == ' ' || letter.is_ascii_graphic() {
        letter
    } else {
        '?'
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::message::sample;

    #[test]
    fn a_dead_letter_has_what_the_message_had_and_why_it_is_one() {
        let message = sample(
            "orders.7",
            &[("Tenant", "north"), ("Tenant", "south"), ("Nats-Rollup", "all")],
        );
        let event = dead_letter("dead.orders", "S", "c", &message, 2, "no such\ncustomer: ä");
        assert_eq!(event.flaw(), None);
        assert_eq!((event.subject(), event.payload()), ("dead.orders", message.payload()));
        let headers = event.headers().expect("headers");
        let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        for (name, value) in [
            ("Dead-Letter-Subject", "orders.7"),
            ("Dead-Letter-Sequence", "7"),
            ("Dead-Letter-Attempts", "2"),
            ("Dead-Letter-Reason", "no such?customer: ?"),
            ("Dead-Letter-Original-Nats-Rollup", "all"),
            ("Nats-Msg-Id", "S.c.7.1760000000000000001"),
        ] {
            assert_eq!(text(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(text("Nats-Rollup"), None);
        assert_eq!(headers.get_all("Tenant").count(), 2);
    }

    #[test]
    fn an_empty_reason_is_no_obstacle() {
        let event = dead_letter("dead", "S", "c", &sample("a", &[]), 1, " ");
        assert_eq!(event.flaw(), None);
    }
}
