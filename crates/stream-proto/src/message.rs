//! What the machines take in and hand out: messages without a transport.

use alloc::string::ToString as _;

use bytes::Bytes;

use crate::frame::MARKER;
use crate::status::{Code, Status};

/// One received message, as the transport saw it.
///
/// A transport without statuses or headers of its own leaves those fields empty.
#[derive(Clone, Debug, Default)]
pub struct Message<'a> {
    /// The status line's number, if it had one (503: nobody is subscribed).
    pub status: Option<u16>,
    /// Value of the header [`Natstream`](crate::HEADER).
    pub header: Option<&'a str>,
    /// Did it have any header at all?
    pub has_headers: bool,
    /// Did it come with a valid subject to answer to?
    pub has_control: bool,
    /// Was that subject rewritten by an account import ([`is_mapped`](crate::is_mapped))?
    pub is_mapped: bool,
    /// The two service-error headers, if it had one of them. A first message that this version cannot read needs them, since they
    /// mean the same in all versions (rule 19), and the plain dialects do.
    pub service_error: Option<ServiceError<'a>>,
    /// May messages before this one have been dropped on this side of the transport, which tells soon whether they were
    /// ([`PlainInbound::handle_overflow`](crate::PlainInbound::handle_overflow))? Only dialects without numbers need it.
    pub may_follow_loss: bool,
    /// The payload.
    pub payload: Bytes,
}

/// The two headers in which NATS services say that they failed (ADR-32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceError<'a> {
    /// Value of [`CODE`](Self::CODE).
    pub code: &'a str,
    /// Value of [`TEXT`](Self::TEXT).
    pub text: &'a str,
}

impl ServiceError<'_> {
    /// Name of the header with the number: ours are those of [`Code`].
    pub const CODE: &'static str = "Nats-Service-Error-Code";
    /// Name of the header with the text.
    pub const TEXT: &'static str = "Nats-Service-Error";

    /// What they say. A number that is none of ours becomes `UNKNOWN`.
    #[must_use]
    pub fn status(&self) -> Status {
        let code = self.code.parse().map_or(Code::Unknown, Code::from_u8);
        // A failure without a failure's number must not read as success.
        let code = if code == Code::Ok { Code::Unknown } else { code };
        // Ours begin with the name of the code (rule 15).
        let text = self.text.strip_prefix(&*code.to_string()).map_or(self.text, |rest| {
            let rest = rest.strip_prefix(": ").or_else(|| rest.is_empty().then_some(rest));
            rest.unwrap_or(self.text)
        });
        Status::new(code, text)
    }
}

/// The four classes of rule 7, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// Nobody is subscribed at this moment.
    NoResponders,
    /// No headers, no payload: the server's end of a mapping, or the sentinel.
    BareEmpty,
    /// One of ours.
    Native,
    /// Anything else.
    Foreign,
}

impl Message<'_> {
    /// The class of this message (rule 7). There is no other sniffing.
    #[must_use]
    pub fn class(&self) -> Class {
        if self.status == Some(503) {
            Class::NoResponders
        } else if !self.has_headers && self.payload.is_empty() {
            Class::BareEmpty
        } else if self.payload.first() == Some(&MARKER) {
            Class::Native
        } else {
            Class::Foreign
        }
    }
}

/// One message to send.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// The payload.
    pub payload: Bytes,
    /// Send the header [`Natstream`](crate::HEADER) along.
    pub header: bool,
    /// Send the first message's own headers along (the responder's initial metadata).
    pub metadata: bool,
    /// Send the own subject along: the responder's control subject, or the call's reply subject.
    pub control: bool,
    /// The failure that this message carries, for the two headers of [`ServiceError`] (rule 15).
    pub failure: Option<Status>,
}

impl Transmit {
    pub(crate) fn plain(payload: Bytes, control: bool) -> Self {
        Self {
            payload,
            header: false,
            metadata: false,
            control,
            failure: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_code_is_no_part_of_the_message() {
        for (code, text, message) in [
            ("5", "NOT_FOUND: no such file", "no such file"),
            ("5", "NOT_FOUND", ""),
            ("5", "NOT_FOUNDATION", "NOT_FOUNDATION"),
            ("5", "INTERNAL: x", "INTERNAL: x"),
            ("404", "not here", "not here"),
        ] {
            assert_eq!(ServiceError { code, text }.status().message, message);
        }
        assert_eq!(ServiceError { code: "0", text: "" }.status().code, Code::Unknown);
    }

    #[test]
    fn classes_are_checked_in_the_order_of_rule_7() {
        let message = |status, has_headers, payload: &'static [u8]| Message {
            status,
            has_headers,
            payload: Bytes::from_static(payload),
            ..Message::default()
        };
        assert_eq!(message(Some(503), true, b"").class(), Class::NoResponders);
        assert_eq!(message(None, false, b"").class(), Class::BareEmpty);
        assert_eq!(message(None, true, b"").class(), Class::Foreign);
        assert_eq!(message(None, true, b"\xfe").class(), Class::Native);
        assert_eq!(message(Some(408), true, b"x").class(), Class::Foreign);
    }
}
