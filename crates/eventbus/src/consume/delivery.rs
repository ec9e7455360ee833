//! What a message of a consumer says of itself, in the subject that its ack goes to.

/// What all such subjects begin with.
const PREFIX: &str = "$JS.ACK.";

/// One delivery of a message, read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivery<'a> {
    pub(crate) domain: Option<&'a str>,
    pub(crate) stream: &'a str,
    pub(crate) consumer: &'a str,
    /// 1 for the first.
    pub(crate) attempt: u64,
    /// The message's number in its stream.
    pub(crate) stream_sequence: u64,
    /// The delivery's number at its consumer.
    pub(crate) consumer_sequence: u64,
    /// When the stream took the message, in nanoseconds since 1970: the broker's clock.
    pub(crate) stored_at: i64,
    /// How many messages the consumer has after this one.
    pub(crate) pending: u64,
}

impl<'a> Delivery<'a> {
    /// `None` when it is no such subject. Both forms are read: nine parts, and eleven or more with the domain and the account.
    pub(crate) fn read(reply: &'a str) -> Option<Self> {
        let rest = reply.strip_prefix(PREFIX)?;
        let is_long = rest.split('.').count() >= 9;
        let mut parts = rest.split('.');
        let domain = if is_long {
            let domain = parts.next().filter(|domain| *domain != "_");
            parts.next()?;
            domain
        } else {
            None
        };
        let delivery = Self {
            domain,
            stream: parts.next().filter(|name| !name.is_empty())?,
            consumer: parts.next().filter(|name| !name.is_empty())?,
            attempt: parts.next()?.parse().ok()?,
            stream_sequence: parts.next()?.parse().ok()?,
            consumer_sequence: parts.next()?.parse().ok()?,
            stored_at: parts.next()?.parse().ok()?,
            pending: parts.next()?.parse().ok()?,
        };
        // Seven parts exactly, or a form that may grow at its end.
        (is_long || parts.next().is_none()).then_some(delivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXPECTED: Delivery<'static> = Delivery {
        domain: None,
        stream: "ORDERS",
        consumer: "mail",
        attempt: 2,
        stream_sequence: 7,
        consumer_sequence: 9,
        stored_at: 1_760_000_000_000_000_001,
        pending: 4,
    };

    #[test]
    fn both_forms_are_read() {
        let tail = "ORDERS.mail.2.7.9.1760000000000000001.4";
        assert_eq!(Delivery::read(&format!("$JS.ACK.{tail}")), Some(EXPECTED));
        assert_eq!(Delivery::read(&format!("$JS.ACK._.HASH.{tail}")), Some(EXPECTED));
        assert_eq!(Delivery::read(&format!("$JS.ACK._.HASH.{tail}.x.new")), Some(EXPECTED));
        let far = format!("$JS.ACK.hub.HASH.{tail}.x");
        assert_eq!(Delivery::read(&far).and_then(|delivery| delivery.domain), Some("hub"));
    }

    #[test]
    fn what_is_none_is_not_read() {
        for reply in [
            "",
            "$JS.ACK.",
            "_INBOX.x.1",
            "$JS.ACK.S.c.1.2.3.4",
            "$JS.ACK.S.c.1.2.3.4.x",
            "$JS.ACK.S.c.1.2.3.4.5.6",
            "$JS.ACK.S.c.-1.2.3.4.5",
            "$JS.ACK..c.1.2.3.4.5",
        ] {
            assert_eq!(Delivery::read(reply), None, "{reply}");
        }
    }

    proptest! {
        #[test]
        fn nothing_from_the_network_panics(reply in r"(\$JS\.ACK\.)?[a-z0-9_.\-]{0,80}") {
            let _ = Delivery::read(&reply);
        }
    }
}
