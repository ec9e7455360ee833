//! What orders messages.

use super::message::Message;

/// Which messages are handled one after the other, in the order of the stream: those with the same key. One without a key
/// waits for nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Key {
    /// None has a key.
    #[default]
    None,
    /// The whole subject.
    Subject,
    /// This part of the subject, counted from 1; a subject that is shorter gives no key.
    SubjectPart(usize),
    /// The value of this header; a message without it has no key.
    Header(String),
}

impl Key {
    pub(super) fn of<'a>(&self, message: &'a Message) -> Option<&'a [u8]> {
        match self {
            Self::None => None,
            Self::Subject => Some(message.subject().as_bytes()),
            Self::SubjectPart(part) => message
                .subject()
                .split('.')
                .nth(part.checked_sub(1)?)
                .map(str::as_bytes),
            Self::Header(name) => message.header(name).map(str::as_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::message::sample;

    #[test]
    fn keys_are_parts_of_the_message() {
        let message = sample("orders.7.paid", &[("Customer", "12")]);
        for (key, expected) in [
            (Key::None, None),
            (Key::Subject, Some("orders.7.paid")),
            (Key::SubjectPart(2), Some("7")),
            (Key::SubjectPart(0), None),
            (Key::SubjectPart(4), None),
            (Key::Header("Customer".to_owned()), Some("12")),
            (Key::Header("Other".to_owned()), None),
        ] {
            assert_eq!(key.of(&message), expected.map(str::as_bytes), "{key:?}");
        }
    }
}
