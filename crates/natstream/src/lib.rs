//! Streaming request-response over NATS that cannot lie about loss.
//!
//! A handler sends items; the caller reads them in order, each once, and then gets exactly one verdict. `None` without an
//! error means that the answer is complete: its end arrived and the number of items matches.
//!
//! ```no_run
//! use natstream::{ConnectConfig, Connection, Pool, Server};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let connection = Connection::connect(ConnectConfig::new("nats://127.0.0.1:4222")).await?;
//!
//! let server = Server::new(connection.clone());
//! server
//!     .on("letters", |_request, mut out| async move {
//!         for letter in 'a'..='z' {
//!             out.send(letter.to_string()).await?;
//!         }
//!         Ok(())
//!     })
//!     .await?;
//!
//! let mut letters = Pool::new(connection).request_stream("letters", "").await?;
//! while let Some(letter) = letters.try_next().await? {
//!     println!("{letter:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Messages without streams go the same way: [`Pool::publish`], [`Pool::request`] and [`Server::on_message`]. Values travel as
//! JSON, or in the form of another [`Codec`]: `request_stream_as`, `.typed::<T>()`, [`Request::json`],
//! [`ResponseSender::send_as`].
//!
//! The module `guide` of this documentation has a page for each topic, from a quick start to operating in production.
//!
//! # Features
//! - `client` (default): [`Pool`], [`Responses`] and [`Reply`], for calls, requests and messages.
//! - `config`: `connect::settings` and `ConnectConfig::load`, for configuration from a file, the environment and contexts of
//!   the `nats` CLI.
//! - `consul`: servers from Consul, in `connect::consul`.
//! - `eventbus`: `Bus` and `Event`, for publishing to JetStream, `Consumer` for consuming, `Topology` for streams and consumers,
//!   and the module `eventbus` with all the rest; with `spool` it has `Outbox`, for events that outlive the process.
//! - `kv` and `object`: `Kv` and `Objects`, buckets of values by key, and of objects of any size.
//! - `metrics`: what everything counts, as metrics of the facade `metrics`, in the module `metrics`.
//! - `otel`: traces of OpenTelemetry go on across calls, messages and events, in the headers `traceparent` and `tracestate`
//!   ([`TraceContext`]); spans there are without it.
//! - `server` (default): [`Server`], [`ResponseSender`] and [`Message`], for handlers.
//! - `sinks`: `RollingWriter`, files of records that roll and survive, and the module `sinks`; with `gzip` and `zstd` they are
//!   compressed.
//! - `recorder`: `Recorder`, subjects and streams into such files, and the module `recorder`; with `eventbus` those of JetStream
//!   too, exactly once (`StreamRecorder`).
//!
//! # Names
//! At the top are calls and handlers as a whole, and of the other parts what a program begins with: handles, what describes
//! them, and their errors. The rest is in the modules `eventbus`, `sinks`, `recorder` and `connect`, and so is what there is
//! twice: `HandlerError`, `Message` and `Flaw` are those of handlers and calls, beside `eventbus::HandlerError`,
//! `eventbus::Message` and `eventbus::Flaw`; `Storage` and `Retention` are in `eventbus::topology` and in `sinks`.
//!
//! Each part is a crate of its own; depend on those alone if you like. [`proto`] is the protocol without NATS, to be
//! embedded in other transports.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

// It needs what its examples use.
#[cfg(all(
    doc,
    feature = "client",
    feature = "server",
    feature = "eventbus",
    feature = "recorder"
))]
pub mod guide;

#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub mod metrics;

#[cfg(feature = "spool")]
#[cfg_attr(docsrs, doc(cfg(feature = "spool")))]
pub use eventbus::Outbox;
#[cfg(feature = "kv")]
#[cfg_attr(docsrs, doc(cfg(feature = "kv")))]
pub use eventbus::kv::{Kv, KvSpec};
#[cfg(feature = "object")]
#[cfg_attr(docsrs, doc(cfg(feature = "object")))]
pub use eventbus::object::{ObjectSpec, Objects};
#[cfg(feature = "eventbus")]
#[cfg_attr(docsrs, doc(cfg(feature = "eventbus")))]
pub use eventbus::{
    self, AtomicBatch, AtomicBus, Batch, Bus, ConsumeError, ConsumeErrorKind, Consumer, DeadLetters, Event, FastBus,
    Key, PublishAck, PublishError, PublishErrorKind,
    topology::{ConsumerSpec, StreamSpec, Topology, TopologyError, TopologyErrorKind},
};
pub use natstream_connect::{
    Codec, CodecError, ConnectConfig, ConnectError, ConnectErrorKind, Connection, ConnectionState, ConnectionStatus,
    Connections, ConnectionsBuilder, Credentials, EndReason, FenceError, FenceErrorKind, Json, Secret, Tls,
    TraceContext, async_nats,
};
#[cfg(feature = "client")]
pub use stream_client::{
    Clock, Denied, Dialect, Flaw, Guarantee, NextRequest, Pool, PoolBuilder, PoolSource, PoolStats, PublishBuilder,
    Reply, ReplyBuilder, RequestBuilder, RequestError, RequestErrorKind, Responses, RetryBudget, RetryPolicy, Typed,
    TypedResponses,
};
pub use stream_proto::{self as proto, CloseReason, Code, LostCause, Status, Termination};
#[cfg(feature = "server")]
pub use stream_server::{
    Drained, Endpoint, EndpointBuilder, EndpointStats, ForeignDialect, Handler, HandlerError, Message, Request,
    ResponseSender, SendError, SendErrorKind, ServeError, ServeErrorKind, Server, ServerBuilder, ServerStats,
    Subscription, SubscriptionBuilder, SubscriptionStats,
};

pub use natstream_connect as connect;
#[cfg(feature = "recorder")]
pub use natstream_recorder as recorder;
#[cfg(feature = "recorder")]
#[cfg_attr(docsrs, doc(cfg(feature = "recorder")))]
pub use natstream_recorder::Recorder;
#[cfg(all(feature = "recorder", feature = "eventbus"))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "recorder", feature = "eventbus"))))]
pub use natstream_recorder::StreamRecorder;
#[cfg(feature = "sinks")]
pub use stream_sinks as sinks;
#[cfg(feature = "sinks")]
#[cfg_attr(docsrs, doc(cfg(feature = "sinks")))]
pub use stream_sinks::{RecordSink, RollingWriter, SinkError, SinkErrorKind};
