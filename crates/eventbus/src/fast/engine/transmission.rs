//! What the engine hands over.

use async_nats::HeaderMap;
use async_nats::subject::Subject;
use bytes::Bytes;

use super::super::place::Place;

/// One message, to be handed to the connection.
#[derive(Debug)]
pub(crate) struct Transmission<'a> {
    pub(crate) place: Place,
    pub(crate) subject: &'a Subject,
    pub(crate) content: Content<'a>,
}

/// What a message carries.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    Event {
        payload: &'a Bytes,
        headers: Option<&'a HeaderMap>,
        /// If it has none of its own.
        id: Option<Given>,
    },
    /// The end of the batch.
    End,
    /// Does the stream have the event with this id?
    Question(Id<'a>),
}

/// The id of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Id<'a> {
    Own(&'a str),
    Given(Given),
}

/// The number of an event that gets its id from the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given(pub(crate) u64);
