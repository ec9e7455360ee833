//! Publishing events to JetStream: fast, and none is lost without a word.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use eventbus::{Bus, Event};
//! use natstream_connect::{ConnectConfig, Connection};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let connection = Connection::connect(ConnectConfig::new("nats://localhost")).await?;
//! let bus = Bus::builder(connection)
//!     .on_failure(|error| eprintln!("{error}: {:?}", error.event()))
//!     .open()
//!     .await?;
//!
//! // One by one: it is in the stream when this returns.
//! let ack = bus.publish(Event::new("payments.done", "…")).await?;
//! println!("{} {}", ack.stream, ack.sequence);
//!
//! // Pipelined: a full window makes the producer wait, nothing else does.
//! for line in ["a", "b", "c"] {
//!     bus.enqueue(Event::new("logs.lines", line)).await?;
//! }
//! bus.flush(Duration::from_secs(30)).await?;
//!
//! // Many at once, with a report for each.
//! let report = bus.publish_batch((0..1000).map(|id| Event::new("data.rows", id.to_string()))).await;
//! for (place, error) in report.failed() {
//!     eprintln!("row {place}: {error}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//! - Every event that was accepted ends once: acked, or failed and handed back. [`Bus::stats`] adds up at any moment.
//! - An event that was acked is in its stream, and is there once, as long as the stream's duplicate window is longer than the
//!   [deadline](BusBuilder::deadline). With [`Dedup::Off`] it is there once in any case, and more may fail as
//!   [`Unknown`](PublishErrorKind::Unknown).
//! - An event that failed and [may not be stored](PublishError::may_be_stored) is not in the stream.
//! - What can go well later is tried again until the deadline: nobody listening (the election of a leader), 429, a lost
//!   answer, a lost connection. What cannot fails at once.
//! - The order within a subject: see [`Ordering`].
//!
//! An ack means that nats-server has the event, not that a disk has it: see [`topology`].
//!
//! # Buckets
//! With the feature `kv` there are values by key, in the module `kv`; with `object`, objects of any size, in the module `object`.
//!
//! # Features
//! None is on by default.
//! - `kv`: buckets of values by key.
//! - `object`: buckets of objects of any size.
//! - `spool`: `Outbox`, for events that outlive the process.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod atomic;
mod batch;
mod bus;
mod consume;
mod engine;
pub mod envelope;
mod error;
mod event;
mod fast;
mod grant;
#[cfg(feature = "kv")]
#[cfg_attr(docsrs, doc(cfg(feature = "kv")))]
pub mod kv;
mod lanes;
#[cfg(feature = "object")]
#[cfg_attr(docsrs, doc(cfg(feature = "object")))]
pub mod object;
#[cfg(feature = "spool")]
mod outbox;
mod outgoing;
mod pause;
mod producers;
mod reply;
mod shared;
pub mod topology;
mod tries;
mod watcher;

pub use self::atomic::{AtomicAck, AtomicBatch, AtomicBus, AtomicBusBuilder, AtomicError, AtomicErrorKind};
pub use self::batch::BatchReport;
pub use self::bus::{Bus, BusBuilder, BusStats};
pub use self::consume::{
    Batch, BatchError, ConsumeError, ConsumeErrorKind, Consumer, ConsumerBuilder, ConsumerStats, DeadLetter,
    DeadLetters, HandlerError, InOrder, Key, KeyFunction, Message, RedriveError, Scan,
};
pub use self::engine::{Dedup, Ordering};
pub use self::error::{OpenError, PublishError, PublishErrorKind, TryEnqueueError, Undelivered};
pub use self::event::{Event, Flaw};
pub use self::fast::{FastBus, FastBusBuilder, FastStats};
pub use self::grant::BatchMode;
#[cfg(feature = "spool")]
pub use self::outbox::{Outbox, OutboxBuilder, OutboxError, OutboxStats, Published, SpoolLevel};
pub use self::reply::{PublishAck, Refusal};
pub use self::watcher::PendingAck;

/// About 584 years at most.
fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
