//! Consuming: messages of a durable pull consumer, handled at least once, in order by key, and put aside when they cannot be.
//!
//! What decides is without I/O, time being an argument:
//!
//! - `engine`: what to ask the consumer for, and what its answers mean;
//! - `lanes`: which message may be handled now, so that those of one key stay in order;
//! - `floor`: up to where everything is done;
//! - `progress`: which messages are still being handled, for nats-server to know;
//! - `backoff`: how long a message that failed waits;
//! - `delivery`, `status`, `word`: what nats-server says, and what it is told.
//!
//! `in_order` is for whoever keeps a position of their own, such as a recorder: no handlers, strictly the order of the stream.
//!
//! `ordered` is for whoever keeps nothing at all: a consumer that passes, without acks.
//!
//! Acks are events of a bus of their own: sent until they are answered.

mod backoff;
mod batch;
mod consumer;
mod counts;
mod dead_letter;
mod delivery;
mod driver;
mod engine;
mod error;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "consumers that are acked by a floor come with the recorder")
)]
mod floor;
mod in_order;
mod key;
mod lanes;
mod link;
mod message;
#[cfg(any(feature = "kv", feature = "object"))]
mod ordered;
mod progress;
mod status;
mod word;
mod work;

pub use self::batch::Batch;
pub use self::consumer::{Consumer, ConsumerBuilder};
pub use self::counts::ConsumerStats;
pub use self::error::{ConsumeError, ConsumeErrorKind, HandlerError};
pub use self::in_order::InOrder;
pub use self::key::Key;
pub use self::message::Message;
#[cfg(any(feature = "kv", feature = "object"))]
pub(crate) use self::ordered::{Begin, Delivered, Ordered, OrderedSpec};
