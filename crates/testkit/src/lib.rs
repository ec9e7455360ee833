//! What the tests of natstream share: guards over real nats-servers, a proxy that disturbs, time limits, unique names,
//! users and certificates, and the programs that tests run.
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
//! - Tests of a bad network put a [`Proxy`] before their server; those of failing nodes start
//!   a [`Cluster`].
//! - Tests of discovery ask a [`ConsulServer`].
//! - Tests of identities take their users from an [`Operator`] and their certificates from an
//!   [`Authority`].
//! - Tests of the program `natstream` run it with [`program`].
//! - Tests of leaks compare levels through [`settles`].
//! - Every await on a server goes through [`within`], so that a hang names its line.
//!
//! Nothing here downloads, and nothing skips: without a server, tests fail with the one
//! command that helps, `cargo xtask setup`.
#![expect(
    clippy::disallowed_methods,
    reason = "starting and stopping processes is bounded by the real clock, also where a test pauses tokio's"
)]

mod authority;
mod binary;
mod cluster;
mod consul;
mod free_port;
mod leaks;
mod limit;
mod monitor;
mod operator;
mod peers;
mod ports;
pub mod program;
mod proxy;
mod select;
mod server;
mod settle;
mod shared;
mod target;
mod unique;
mod watchdog;

pub use crate::{
    authority::{Authority, CertificateFiles},
    cluster::{Cluster, ClusterBuilder},
    consul::{ConsulFault, ConsulInstance, ConsulServer},
    free_port::free_port,
    leaks::{alive_tasks, resident_memory},
    limit::within,
    monitor::Levels,
    operator::{Operator, UserJwt, user_nkey},
    peers::{peers_node_modules, peers_python},
    proxy::{Flow, Proxy},
    server::{NatsServer, NatsServerBuilder, StartError},
    settle::{settles, settles_where},
    shared::shared_url,
    unique::{unique_name, unique_subject},
};
