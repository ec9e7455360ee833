//! The natstream wire protocol: a streamed answer that cannot lie about loss.
//!
//! A call has two halves. The responder's is an [`Outbound`]: it takes items and hands out messages. The caller's is an
//! [`Inbound`]: it takes messages and hands out items, in order, each once, and then exactly one [`Termination`]. Both are
//! state machines without clock, task, socket, randomness or NATS type, so they can be driven by any transport that
//! carries small messages, and simulated.
//!
//! # Driving a machine
//! Change it with one call, then drain `poll_transmit` and `poll_event`, read `poll_timeout`, and wait for that moment or
//! the next message:
//!
//! ```
//! use stream_proto::{Inbound, InboundConfig, Instant, Message, Offer, Open, Outbound, OutboundConfig, Status, Termination};
//!
//! let now = Instant::ORIGIN;
//! let mut inbound = Inbound::new(InboundConfig::default(), now);
//!
//! // The Open travels as a header of the request.
//! let Ok(Offer::Supported(open)) = Open::parse(&inbound.open().encode()) else { panic!("our own version") };
//! let mut outbound = Outbound::new(7, &open, &OutboundConfig::default(), now);
//! outbound.push(b"one")?;
//! outbound.push(b"two")?;
//! outbound.finish(Status::ok());
//!
//! let answer = outbound.answer().encode();
//! while let Some(transmit) = outbound.poll_transmit(now) {
//!     let header = transmit.header.then_some(answer.as_str());
//!     let has_control = transmit.control;
//!     let message = Message { header, has_headers: header.is_some(), has_control, payload: transmit.payload, ..Message::default() };
//!     inbound.handle(now, &message);
//! }
//! assert_eq!(inbound.poll_item(now).as_deref(), Some(&b"one"[..]));
//! assert_eq!(inbound.poll_item(now).as_deref(), Some(&b"two"[..]));
//! assert!(inbound.termination().is_some_and(Termination::is_ok));
//! # Ok::<(), stream_proto::PushError>(())
//! ```
//!
//! # What this crate does not do
//! It does not find the machine for a message (that is a router's work), does not draw stream ids or subjects, and does not
//! know what a handler is. [`is_safe_reply`] and [`Message::class`] are the checks that come before a machine.
//!
//! The crate is `no_std` and needs `alloc`. It has no features.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod budget;
mod error;
mod frame;
mod header;
mod inbound;
mod items;
mod liveness;
mod message;
mod outbound;
mod plain;
mod reader;
mod status;
mod subject;
mod termination;
#[cfg(test)]
mod tests;
mod time;
mod varint;

pub use budget::Budget;
pub use error::{DecodeError, Malformed, ProtocolError};
pub use frame::{CloseCode, Frame, MARKER, MAX_UNIT, UNIT_COST, Unit};
pub use header::{
    Answer, DEFAULT_HEARTBEAT, HEADER, HEARTBEAT_RANGE, HeaderError, MAX_HEADER, Offer, Open, VERSION, clamp_heartbeat,
};
pub use inbound::{
    ControlUse, INITIAL_WINDOW, Inbound, InboundConfig, InboundEvent, InboundStats, MIN_WINDOW, NEAR_WINDOW,
};
pub use items::Items;
pub use message::{Class, Message, ServiceError, Transmit};
pub use outbound::{CloseReason, MIN_UNIT, Outbound, OutboundConfig, OutboundEvent, OutboundStats, PushError};
pub use plain::{PlainDialect, PlainInbound, PlainOutbound};
pub use status::{Code, MAX_DETAILS, MAX_MESSAGE, Status};
pub use subject::{INBOX_PREFIX, MAPPED_PREFIX, MAX_SUBJECT, is_mapped, is_safe_reply};
pub use termination::{Clock, Denied, LostCause, Termination};
pub use time::Instant;
