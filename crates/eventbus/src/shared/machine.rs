//! What buses differ in.

use async_nats::message::OutboundMessage;
use async_nats::subject::Subject;
use natstream_connect::{Arrival, Connection, Denials};

use crate::error::{PublishError, PublishErrorKind};
use crate::event::{Event, Flaw};
use crate::watcher::{Settled, Tell};

/// An engine with what makes messages of its events, and reads the answers to them.
///
/// All is called under the lock of the bus, but [`read`](Self::read). Times are those of the connection's driver.
pub(crate) trait Machine: Send + 'static {
    /// Who wants to know what becomes of one event.
    type Watcher: Tell;
    /// An answer that was read.
    type Answer<'a>;

    /// From here on answers arrive at this subject, and below it. Nothing was accepted before.
    fn set_route(&mut self, route: &Subject);

    /// What makes it impossible to send the event in this way, besides what does in any.
    fn flaw(&self, _event: &Event) -> Option<Flaw> {
        None
    }

    /// Is there room for an event of this size?
    fn has_room(&self, size: usize) -> bool;

    /// Is so much free that it pays to wake whoever waits for room?
    fn is_roomy(&self) -> bool {
        true
    }

    /// Takes an event for which there is room.
    fn accept(&mut self, now: u64, event: Event, watcher: Option<Self::Watcher>);

    /// Somebody waits for all that was accepted so far. Does anything follow from it?
    fn hurry(&mut self) -> bool {
        false
    }

    /// Does somebody wait for room that there is not? Does anything follow from it?
    fn set_starved(&mut self, _is_starved: bool) -> bool {
        false
    }

    /// The number that the next event gets.
    fn next_number(&self) -> u64;

    /// The number of the oldest event that is not settled.
    fn oldest(&self) -> Option<u64>;

    /// How many events with a number below this one are not settled.
    fn pending_before(&self, number: u64) -> u64;

    /// How many events have failed so far.
    fn failed(&self) -> u64;

    /// Is there nothing left to do, unless another event comes?
    fn is_over(&self) -> bool;

    /// Is anything to be handed over?
    fn is_ready(&mut self, now: u64) -> bool;

    /// The next message to hand over.
    fn poll_transmit(&mut self, now: u64) -> Option<OutboundMessage>;

    /// The connection did not take the last message, and never will.
    fn handle_not_sent(&mut self, now: u64, kind: PublishErrorKind);

    /// When something is due. `is_blocked`: nothing can be handed over now, and what is due for that need not be waited for.
    fn poll_timeout(&self, now: u64, is_blocked: bool) -> Option<u64>;

    /// Does what is due.
    fn handle_timeout(&mut self, now: u64);

    /// Reads an answer; `None` when it is none.
    fn read<'a>(arrival: &'a Arrival<'_>) -> Option<Self::Answer<'a>>;

    /// Takes an answer in. Can anything follow from it, besides what is told of events?
    fn handle_answer(&mut self, now: impl FnOnce() -> u64, answer: Self::Answer<'_>) -> bool;

    /// The connection is down, or back.
    fn handle_connection(&mut self, now: u64, is_up: bool, connection: &Connection);

    /// nats-server does not let this user publish somewhere.
    fn handle_denied(&mut self, now: u64, denied: &Denials);

    /// No answer will ever come: all fail, for this reason.
    fn handle_end(&mut self, kind: PublishErrorKind);

    /// As [`handle_end`](Self::handle_end), and says what has failed by that.
    fn give_up(&mut self, kind: PublishErrorKind) -> Vec<PublishError>;

    /// Is there something for [`poll_settled`](Self::poll_settled)?
    fn has_settled(&self) -> bool;

    /// What has become of an event that somebody asks about, or that has failed.
    fn poll_settled(&mut self) -> Option<Settled<Self::Watcher>>;
}
