//! Supervised connections to NATS, on top of [async-nats](async_nats).
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use natstream_connect::{ConnectConfig, Connection, Credentials};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ConnectConfig::new("nats://nats-1.example,nats://nats-2.example")
//!     .name("orders")
//!     .credentials(Credentials::file("/etc/orders/nats.creds"));
//! let connection = Connection::connect(config).await?;
//! println!("{:?} to {:?}", *connection.state().borrow(), connection.server_url());
//! connection.close(Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What it adds to async-nats:
//!
//! - [`Connection`] is a shared handle that knows its state. [`Connection::state`] is a level and
//!   not a log of events, which async-nats loses under load; whoever was busy while the connection
//!   was lost and found again sees it in the [epoch](ConnectionState::epoch).
//! - [`Connection::fence`] is a round trip, [`Connection::close`] an orderly end.
//! - [`ConnectConfig`] is checked as a whole, with [`Credentials`] and [`Tls`] in every form that
//!   async-nats has, and a [`ConnectError`] says which setting, which server, and what to look at.
//! - [`Connection::server_errors`] says what the server refused: async-nats reports success to a
//!   publisher or subscriber without permission.
//! - With the feature `config`, `ConnectConfig::load` and the module `settings` read a configuration
//!   from flags, the environment, a YAML file and contexts of the `nats` CLI.
//! - [`TraceContext`], with the feature `otel`, lets traces of OpenTelemetry go on across messages.
//! - [`Codec`], by default [`Json`], is how typed calls and messages of the crates above are written.
//! - A client that somebody else connected is welcome: [`Connection::from_nats`], and [`observe`]
//!   to make its state exact.
//!
//! The plain client is behind [`Connection::nats`], and the crate it comes from is re-exported as
//! [`async_nats`].
//!
//! # Life of a connection
//!
//! ```text
//!  connect ──▶ Connected, epoch 1 ──▶ Disconnected ──▶ Connected, epoch 2 ──▶ …
//!                      │                    │
//!                      └─── close, or no ───┴──▶ Closed: end_reason()
//!                           attempt left
//! ```
//!
//! # Secrets
//!
//! No password, token, seed or JWT is in the `Debug` or `Display` of anything here, and server URLs
//! are shown without user info.
//!
//! # Features
//!
//! None is on by default.
//! - `config`: `ConnectConfig::load` and the module `settings`.
//! - `consul`: servers from Consul, in the module `consul`; an HTTP client comes with it.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod classify;
mod codec;
mod config;
mod connection;
mod connections;
#[cfg(feature = "consul")]
#[cfg_attr(docsrs, doc(cfg(feature = "consul")))]
pub mod consul;
mod course;
mod credentials;
mod denials;
mod departure;
mod dial;
mod driver;
mod end;
mod error;
mod fence;
mod header;
mod intake;
mod kept_router;
mod knows;
mod observe;
mod outbox;
mod overflow;
mod publisher;
mod rate;
mod reconnect;
mod router;
mod secret;
mod selector;
mod server_error;
mod servers;
#[cfg(feature = "config")]
pub mod settings;
mod shared;
mod signpost;
mod state;
mod subject;
mod subscriber;
mod supervisor;
mod tls;
mod token;
mod trace_context;

pub use async_nats;

pub use self::codec::{Codec, CodecError, Json};
pub use self::config::ConnectConfig;
pub use self::connection::Connection;
pub use self::connections::{Connections, ConnectionsBuilder, ConnectionsStats, Lease, ServerStats};
pub use self::credentials::{AuthCallback, Credentials};
pub use self::denials::Denials;
pub use self::driver::{DeadlineSlot, Driven, Driver, TrySendError};
pub use self::end::EndReason;
pub use self::error::{ConnectError, ConnectErrorKind, FenceError, FenceErrorKind};
pub use self::header::{headers_len, own_header, user_header};
pub use self::kept_router::KeptRouter;
pub use self::observe::{Observer, observe};
pub use self::outbox::Outbox;
pub use self::rate::RateLimit;
pub use self::router::{Arrival, Route, RouteGuard, Router, Unrouted};
pub use self::secret::Secret;
pub use self::server_error::{Operation, ServerErrorEvent};
pub use self::servers::IntoServers;
pub use self::shared::ServedGuard;
pub use self::state::{ConnectionState, ConnectionStatus};
pub use self::subject::{
    SubjectError, check_publish_subject, check_queue_group, check_subscribe_subject, subject_matches,
};
pub use self::subscriber::{Losses, Subscriber, SubscriberError, SubscriberErrorKind};
pub use self::tls::Tls;
pub use self::token::{RouteToken, random_u32, token};
pub use self::trace_context::TraceContext;
