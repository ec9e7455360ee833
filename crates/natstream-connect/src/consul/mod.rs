//! Servers from Consul (feature `consul`, off by default).
//!
//! ```no_run
//! use natstream_connect::consul::{Consul, ConsulConfig};
//! use natstream_connect::{ConnectConfig, Connection};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let consul = Consul::new(ConsulConfig::new("nats").with_env(std::env::vars())?)?;
//! let config = ConnectConfig::new("nats://nats-1.example").discover(consul);
//! let connection = Connection::connect(config).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The servers are the healthy instances of a service. [`ConnectConfig::discover`](crate::ConnectConfig::discover) connects to
//! them, or, when Consul has not answered within [3 seconds](ConsulConfig::timeout), to the configured ones, with a warning.
//! From then on a connection follows what Consul says, by [`Connection::set_servers`](crate::Connection::set_servers): if its
//! server is no longer healthy, it moves to another one.
//!
//! Whoever has other things to move takes the list itself: [`Consul::first`] and [`Consul::servers`].
//!
//! # What Consul cannot do to you
//!
//! | Consul | the list |
//! |---|---|
//! | does not answer, breaks off, answers with an error | stays as it is; asked again after 0.1 s, 0.2 s … 30 s, less up to a half of that by chance |
//! | answers with what is not its API | the same |
//! | knows no healthy instance | stays as it is, with one warning: a failing health check must not end connections that work |
//! | lists addresses that nobody can connect to | is taken; a connection [stays](crate::Connection::set_servers) where it is |
//! | has gone silent in the middle | noticed after [`wait`](ConsulConfig::wait) and a 16th, and [`timeout`](ConsulConfig::timeout) |
//! | begins again with a lower index, or with none | is asked from the beginning |
//!
//! Answers of more than 1 MiB are not read, redirections are not followed, and proxies of the environment are not used.
//!
//! # Instances
//!
//! The address of an instance is its own, or that of its node where it has none, with its port: `nats://10.0.0.5:4222`. When
//! a configured server is `tls://…`, so are they. With TLS their certificates must hold these addresses.
//!
//! A configured server that Consul lists under another name (`nats-1.example` and `10.0.0.5`) counts as another one: a
//! connection that began with the configured servers moves once when Consul comes up.

mod answer;
mod client;
mod config;
mod discover;
mod environment;
mod error;
mod handle;
mod pace;
mod watcher;

pub use self::config::ConsulConfig;
pub(crate) use self::discover::Source;
pub use self::error::{ConsulError, ConsulErrorKind};
pub use self::handle::Consul;
