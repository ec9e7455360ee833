//! Streaming calls over NATS, the responder's side.
//!
//! A [`Server`] runs handlers. A handler gets a [`Request`] and a [`ResponseSender`], and sends items; what it returns
//! ends the stream. `send` waits while the caller has no room, and fails once the caller has gone.
//!
//! ```no_run
//! use natstream_connect::{ConnectConfig, Connection};
//! use stream_server::{HandlerError, Request, ResponseSender, Server};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let connection = Connection::connect(ConnectConfig::new("nats://127.0.0.1:4222")).await?;
//! let server = Server::new(connection);
//! server
//!     .on("numbers.count", |request: Request, mut out: ResponseSender| async move {
//!         let count: u32 = std::str::from_utf8(request.payload())
//!             .ok()
//!             .and_then(|text| text.parse().ok())
//!             .ok_or_else(|| HandlerError::invalid("the payload must be a number"))?;
//!         for number in 0..count {
//!             out.send(number.to_string()).await?;
//!         }
//!         Ok(())
//!     })
//!     .await?;
//! server.serve_until(std::future::pending::<()>()).await; // in a program: until a signal comes
//! # Ok(())
//! # }
//! ```
//!
//! # How a stream ends
//! While the handler runs, dropping the sender decides nothing. When the handler returns and its sender is gone, `Ok`
//! ends the stream and `Err` fails it. When the sender lives on elsewhere (a task that the handler spawned), `Ok` leaves
//! the stream open, and only [`finish`](ResponseSender::finish), [`fail`](ResponseSender::fail) or dropping the sender
//! (the stream is *aborted*) end it; `Err` or a panic fails it at once, and later sends get
//! [`Closed`](SendErrorKind::Closed). A task that panics with the sender has aborted the stream, whenever that is. A handler that is dropped with its runtime has aborted its stream.
//!
//! # Plain messages
//! [`Server::on_message`] handles messages of publishers and of programs that ask for one reply, with the same limits and the
//! same drain: see [`SubscriptionBuilder`].
//!
//! The feature `metrics` (off) adds a histogram of how long calls take, by the facade `metrics`.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod adapters;
mod admission;
mod answered;
mod endpoint;
mod error;
mod finished;
mod handler;
mod limit;
mod machine;
mod message;
mod observed;
mod offline;
mod probe;
mod request;
mod run;
mod sender;
mod server;
mod service;
mod serving;
mod stats;
mod stream;
mod subscription;

pub use endpoint::{Endpoint, EndpointBuilder, ForeignDialect};
pub use error::{HandlerError, SendError, SendErrorKind, ServeError, ServeErrorKind};
pub use handler::Handler;
pub use message::Message;
pub use request::Request;
pub use sender::ResponseSender;
pub use server::{Drained, Server, ServerBuilder};
pub use stats::{EndpointStats, ServerStats, SubscriptionStats};
pub use stream_proto::{CloseReason, Code, Status};
pub use subscription::{Subscription, SubscriptionBuilder};
