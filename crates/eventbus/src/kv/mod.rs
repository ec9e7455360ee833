//! Values by key, in buckets of JetStream: stored, compared and set, watched.
//!
//! A bucket is a stream as ADR-8 describes it, so the `nats` CLI and clients of other languages read and write the same
//! buckets.
//!
//! ```no_run
//! use eventbus::kv::{Change, Kv, KvSpec};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Limits {
//!     rate: u32,
//! }
//!
//! # async fn example(connection: natstream_connect::Connection) -> Result<(), Box<dyn std::error::Error>> {
//! let kv = Kv::create(connection, &KvSpec::new("config").history(5)).await?.typed::<Limits>();
//! let revision = kv.put("limits", &Limits { rate: 100 }).await?;
//!
//! // Compare and set: it is stored only if nobody else has stored anything meanwhile.
//! kv.update("limits", &Limits { rate: 200 }, revision).await?;
//!
//! let mut watch = kv.watch(">").await?;
//! loop {
//!     match watch.next().await? {
//!         Change::Entry(entry) => println!("{} is {:?}", entry.key, entry.value.map(|limits| limits.rate)),
//!         // `Change::Current`, once.
//!         _ => println!("those were the values that there are; now come changes"),
//!     }
//! }
//! # }
//! ```
//!
//! # What holds
//! - A value that was put is stored once: what is tried again is known by an id.
//! - [`update`](Kv::update) and [`create`](Kv::create_value) store nothing where the key has changed meanwhile.
//! - A [`Watch`] gives the changes of each key in order, and the last one of each is never missed, whatever happens to
//!   connection and server. Of older revisions it gives those that the bucket still has.

mod bucket;
mod entry;
mod error;
mod key;
mod read;
mod spec;
mod store;
mod watch;
mod write;

pub use self::bucket::Buckets;
pub use self::entry::{Entry, Operation};
pub use self::error::{KvError, KvErrorKind};
pub use self::spec::{KvInfo, KvSpec};
pub use self::store::Kv;
pub use self::watch::{Change, Watch};
