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
//! The types to know are [`Pool`], [`RequestBuilder`] (what can be set for one call) and [`Responses`].
//! The crate has no features.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod attempt;
mod call;
mod common;
mod dialect;
mod error;
mod host;
mod machine;
mod offline;
mod pool;
mod recovery;
mod request;
mod responses;
mod retry;
mod retry_budget;

pub use common::PoolStats;
pub use dialect::{Dialect, DialectError};
pub use error::{Clock, RequestError, RequestErrorKind};
pub use pool::{Pool, PoolBuilder, PoolSource};
pub use recovery::NextRequest;
pub use request::RequestBuilder;
pub use responses::{Guarantee, Responses};
pub use retry::RetryPolicy;
pub use retry_budget::RetryBudget;
pub use stream_proto::{Code, Denied, LostCause, Status, Termination};
