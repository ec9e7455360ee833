//! What the tests of natstream share: a guard over a real nats-server, time limits, unique names.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use testkit::{NatsServer, within};
//!
//! # async fn doc() {
//! let mut server = within(Duration::from_secs(15), NatsServer::start()).await;
//! println!("{}", server.url());
//! server.kill();
//! server.restart().await; // The same port again.
//! # }
//! ```
//!
//! - Tests that only need *a* server ask for [`shared_url`] and keep apart by
//!   [`unique_subject`] and [`unique_name`].
//! - Tests that stop, restart or configure a server start their own [`NatsServer`].
//! - Every await on a server goes through [`within`], so that a hang names its line.
//!
//! Nothing here downloads, and nothing skips: without a server, tests fail with the one
//! command that helps, `cargo xtask setup`.
#![expect(
    clippy::disallowed_methods,
    reason = "starting and stopping processes is bounded by the real clock, also where a test pauses tokio's"
)]

mod binary;
mod limit;
mod ports;
mod server;
mod shared;
mod unique;
mod watchdog;

pub use crate::{
    limit::within,
    server::{NatsServer, NatsServerBuilder, StartError},
    shared::shared_url,
    unique::{unique_name, unique_subject},
};
