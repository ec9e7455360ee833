//! Streaming calls over NATS, the caller's side.
//!
//! A [`Pool`] sends requests; the answer is a [`Responses`]: items in order, each once, and then exactly one verdict.
//! `None` without an error before it means that the answer is complete. Everything else is an error that says what
//! happened: the responder failed, was lost, refused, or nobody serves the subject.
//!
//! ```no_run
//! use natstream_connect::{ConnectConfig, Connection};
//! use stream_client::Pool;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let connection = Connection::connect(ConnectConfig::new("nats://127.0.0.1:4222")).await?;
//! let pool = Pool::new(connection);
//! let mut responses = pool.request_stream("orders.search", "open").await?;
//! while let Some(order) = responses.try_next().await? {
//!     println!("{order:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Plain messages go the same way: [`Pool::publish`] sends one, [`Pool::request`] asks for one [`Reply`], [`Pool::flush`] waits
//! until nats-server has everything. `request_stream_as`, `request_as` and `publish_as` take a value and send JSON; `.typed::<T>()`
//! reads the answer so too.
//!
//! The types to know are [`Pool`], [`RequestBuilder`] (what can be set for one call) and [`Responses`].
//! The feature `metrics` (off) adds histograms of how long calls take, by the facade `metrics`.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod attempt;
mod call;
mod common;
mod dialect;
mod error;
mod flush;
mod host;
mod machine;
mod observed;
mod offline;
mod outgoing;
mod pool;
mod publish;
mod recovery;
mod reply;
mod request;
mod responses;
mod retry;
mod retry_budget;
mod typed;
mod upstream;

pub use common::PoolStats;
pub use dialect::{Dialect, DialectError};
pub use error::{Clock, Flaw, RequestError, RequestErrorKind};
pub use pool::{Pool, PoolBuilder, PoolSource};
pub use publish::PublishBuilder;
pub use recovery::NextRequest;
pub use reply::{Reply, ReplyBuilder};
pub use request::RequestBuilder;
pub use responses::{Guarantee, Responses};
pub use retry::RetryPolicy;
pub use retry_budget::RetryBudget;
pub use stream_proto::{Code, Denied, LostCause, Status, Termination};
pub use typed::{Typed, TypedResponses};
