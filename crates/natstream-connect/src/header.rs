//! Headers that a user adds to messages.

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};

/// The header that is ours: `stream_proto::HEADER`, which this crate does not depend on.
const TAKEN: &str = "Natstream";

/// The name of the header that is ours. Made from text, it would be a copy each time.
#[inline]
#[must_use]
pub const fn own_header() -> HeaderName {
    HeaderName::from_static(TAKEN)
}

/// A header that every NATS client can read (ADR-4), or `None`: others tear connections down. Names and values are printable
/// ASCII; `Natstream` and names that begin with `Nats-` are taken.
#[must_use]
pub fn user_header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let prefix = name.as_bytes().get(..5);
    let is_servers = prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"Nats-"));
    let is_taken = name.eq_ignore_ascii_case(TAKEN) || is_servers;
    let printable = |text: &str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if is_taken || name.is_empty() || name.contains([' ', ':']) || !printable(name) || !printable(value) {
        return None;
    }
    Some((name.parse().ok()?, value.parse().ok()?))
}

/// Bytes that headers take on the wire.
#[must_use]
pub fn headers_len(headers: &HeaderMap) -> usize {
    const FRAME: usize = "NATS/1.0\r\n\r\n".len();
    let line = |name: &HeaderName, value: &HeaderValue| AsRef::<str>::as_ref(name).len() + value.as_str().len() + 4;
    FRAME
        + headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| line(name, value)))
            .sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_others_could_not_read_are_refused() {
        for (name, value) in [("X-Name", "value with spaces"), ("a", ""), ("traceparent", "00-1")] {
            assert!(user_header(name, value).is_some(), "{name}");
        }
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a:b", "x"),
            ("ä", "x"),
            ("Größe", "1"),
            ("a", "ü"),
            ("a", "x\r\nPUB y"),
            ("Natstream", "1"),
            ("Nats-Msg-Id", "1"),
        ] {
            assert!(user_header(name, value).is_none(), "{name}: {value}");
        }
    }
}
