//! What orders messages.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::message::Message;
use crate::envelope;

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
    /// What the event happened to, as its [`Envelope`](crate::envelope::Envelope) says, in either of its forms; a message that
    /// has no envelope, or whose envelope does not say it, has no key. Of the structured form the whole payload is read.
    AggregateId,
    /// What a function says; made by [`Key::by`].
    By(KeyFunction),
}

impl Key {
    /// The key that a function gives; with `None` a message has no key.
    ///
    /// It is called once for each delivery, by the task that [`for_each`](crate::Consumer::for_each) runs in: it should be
    /// quick, and its panic is one of `for_each`.
    ///
    /// ```
    /// use eventbus::Key;
    ///
    /// let by_customer = Key::by(|message| message.payload().get(..8).map(<[u8]>::to_vec));
    /// assert_ne!(by_customer, Key::None);
    /// ```
    pub fn by<F, K>(function: F) -> Self
    where
        F: Fn(&Message) -> Option<K> + Send + Sync + 'static,
        K: Into<Vec<u8>>,
    {
        let function = move |message: &Message| function(message).map(Into::into);
        Self::By(KeyFunction(Arc::new(function)))
    }

    pub(super) fn of<'a>(&self, message: &'a Message) -> Option<Cow<'a, [u8]>> {
        let borrowed = |text: &'a str| Cow::Borrowed(text.as_bytes());
        match self {
            Self::None => None,
            Self::Subject => Some(borrowed(message.subject())),
            Self::SubjectPart(part) => message.subject().split('.').nth(part.checked_sub(1)?).map(borrowed),
            Self::Header(name) => message.header(name).map(borrowed),
            Self::AggregateId => {
                let id = envelope::aggregate_id(message.payload(), message.headers())?;
                Some(Cow::Owned(id.into_bytes()))
            }
            Self::By(function) => (function.0)(message).map(Cow::Owned),
        }
    }
}

/// A function that gives keys. Two are equal when one is a clone of the other.
#[derive(Clone)]
pub struct KeyFunction(Arc<Function>);

type Function = dyn Fn(&Message) -> Option<Vec<u8>> + Send + Sync;

impl fmt::Debug for KeyFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFunction").finish_non_exhaustive()
    }
}

impl PartialEq for KeyFunction {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for KeyFunction {}

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
            (Key::AggregateId, None),
            (
                Key::by(|message| message.payload().get(..3).map(<[u8]>::to_vec)),
                Some("pay"),
            ),
            (Key::by(|_| None::<String>), None),
        ] {
            assert_eq!(key.of(&message).as_deref(), expected.map(str::as_bytes), "{key:?}");
        }
    }

    #[test]
    fn functions_are_compared_by_identity() {
        let key = Key::by(|message| Some(message.subject()[..1].to_owned()));
        assert_eq!(key, key.clone());
        assert_ne!(key, Key::by(|message| Some(message.subject()[..1].to_owned())));
    }
}
