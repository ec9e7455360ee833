//! What an outbox says of its events.

use crate::reply::PublishAck;

/// What has become of an event that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Published {
    /// A stream has it.
    Acked(PublishAck),
    /// It is in the files, and will be delivered.
    Spooled,
}

/// What has become of all events so far: `accepted + found = acked + rejected + spooled`, when nothing is under way between
/// two of these, and no file was damaged meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxStats {
    /// Events that were accepted, and written.
    pub accepted: u64,
    /// Events of a process before, which were found when the outbox was opened.
    pub found: u64,
    /// Events that a stream has.
    pub acked: u64,
    /// Of those, how many the stream had already.
    pub duplicates: u64,
    /// Events that can never be delivered: they are kept, see [`Outbox::rejected`](super::Outbox::rejected).
    pub rejected: u64,
    /// Events that are in the files and not delivered yet.
    pub spooled: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Files that were damaged when the outbox was opened; copies are in `damaged`.
    pub damaged: u64,
}
