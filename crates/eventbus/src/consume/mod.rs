//! Consuming: messages of a durable pull consumer, handled at least once, in order by key, and put aside when they cannot be.
//!
//! What decides is without I/O, time being an argument:
//!
//! - `engine`: what to ask the consumer for, and what its answers mean;
//! - `lanes`, of this crate: which message may be handled now, so that those of one key stay in order;
//! - `gaps`: whether deliveries were lost on their way, so that others would overtake them;
//! - `floor`, `done`: up to where everything is done;
//! - `progress`: which messages are still being handled, for nats-server to know;
//! - `backoff`: how long a message that failed waits;
//! - `delivery`, `status`, `word`: what nats-server says, and what it is told.
//!
//! `in_order` is for whoever keeps a position of their own, such as a recorder: no handlers, strictly the order of the stream.
//!
//! `scan` reads a stream from one end to the other, without acks; `ordered` does it for buckets, which keep nothing at all.
//!
//! `acks` says words that end messages until nats-server has confirmed them, one answer being good for many.

mod acks;
mod backoff;
mod batch;
mod batch_error;
mod batches;
mod consumer;
mod counts;
mod crew;
mod dead_letter;
mod delivery;
mod done;
mod driver;
mod engine;
mod error;
mod exceeded;
mod floor;
mod gaps;
mod in_order;
mod key;
mod letters;
mod link;
mod message;
mod observed;
#[cfg(any(feature = "kv", feature = "object"))]
#[cfg_attr(
    not(feature = "kv"),
    expect(dead_code, reason = "objects need less of it than watches of values")
)]
mod ordered;
mod progress;
mod reasons;
mod restore;
mod scan;
mod status;
mod suspects;
mod word;
mod work;

pub use self::batch::Batch;
pub use self::batch_error::BatchError;
pub use self::consumer::{Consumer, ConsumerBuilder};
pub use self::counts::ConsumerStats;
pub use self::error::{ConsumeError, ConsumeErrorKind, HandlerError};
pub use self::in_order::InOrder;
pub use self::key::{Key, KeyFunction};
pub use self::letters::{DeadLetter, DeadLetters, RedriveError};
pub use self::message::Message;
#[cfg(feature = "kv")]
pub(crate) use self::ordered::Delivered;
#[cfg(any(feature = "kv", feature = "object"))]
pub(crate) use self::ordered::{Begin, Ordered, OrderedSpec};
pub use self::scan::Scan;
