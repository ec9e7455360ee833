//! Streams as data: declared, made or compared, and never destroyed without being told to.
//!
//! ```no_run
//! use eventbus::topology::{StreamSpec, Topology};
//!
//! # async fn example(connection: natstream_connect::Connection) -> Result<(), Box<dyn std::error::Error>> {
//! let topology = Topology::new(connection);
//! let orders = StreamSpec::new("ORDERS", ["orders.>"]).replicas(3);
//! let info = topology.ensure(&orders).await?;
//! println!("{} has {} messages", info.name, info.messages);
//! # Ok(())
//! # }
//! ```
//!
//! # What an ack is worth
//! An ack means that nats-server has the event. Whether it survives is the stream's to say: [`Durability`].

mod api;
mod consumer;
#[cfg(any(feature = "kv", feature = "object"))]
mod content;
mod durability;
mod info;
mod spec;
mod stored;

use natstream_connect::Connection;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::info::Answer;

pub(crate) use self::api::prefix;
pub use self::api::{TopologyError, TopologyErrorKind};
pub use self::consumer::{AckPolicy, ConsumerInfo, ConsumerSpec, Deliver};
#[cfg(any(feature = "kv", feature = "object"))]
pub(crate) use self::content::Reads;
pub use self::durability::{Durability, Survives, Weakness};
pub use self::info::StreamInfo;
pub use self::spec::{Difference, Discard, Retention, Storage, StreamSpec};
pub(crate) use self::stored::{Stored, delete as delete_message, exact as message, next as next_message};

/// The streams of an account.
///
/// Each method asks JetStream's API on the connection, for at most 10 s while a cluster has no leader. Dropping a future
/// gives up waiting for the answer; what was asked may be done all the same.
#[derive(Clone, Debug)]
pub struct Topology {
    connection: Connection,
}

/// Which changes of a stream are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Changes {
    /// All, those included that delete messages or make the stream refuse some.
    Any,
    /// Only those that [destroy](Difference::destroys) nothing.
    Harmless,
}

impl Topology {
    /// The streams of the account that this connection is in, and in its JetStream domain.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    #[cfg(feature = "object")]
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Makes the stream if it is not there, and compares it if it is.
    ///
    /// # Errors
    /// [`Differs`](TopologyErrorKind::Differs) when a stream of that name is there and is not as declared: nothing was
    /// changed, and [`update`](Self::update) changes it; or when an older nats-server has made it and ignored a setting that it
    /// does not know. [`TopologyErrorKind`] has the others.
    ///
    /// # Cancel safety
    /// Dropped early, the stream may have been made.
    pub async fn ensure(&self, spec: &StreamSpec) -> Result<StreamInfo, TopologyError> {
        match self.fetch(spec.name()).await {
            Err(error) if error.kind() == TopologyErrorKind::NotFound => self.create(spec).await,
            Err(error) => Err(error),
            Ok(answer) => as_declared(spec, answer),
        }
    }

    /// Where the stream is not as declared.
    ///
    /// # Errors
    /// [`NotFound`](TopologyErrorKind::NotFound), and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn compare(&self, spec: &StreamSpec) -> Result<Vec<Difference>, TopologyError> {
        let answer = self.fetch(spec.name()).await?;
        Ok(spec.differences(&answer.config))
    }

    /// Makes a stream that is there as declared. What is not declared stays as it is.
    ///
    /// # Errors
    /// [`Differs`](TopologyErrorKind::Differs) when a change is not among those that are meant: then nothing was changed.
    /// [`Rejected`](TopologyErrorKind::Rejected) when nats-server does not allow it.
    ///
    /// # Cancel safety
    /// Dropped early, the stream may have been changed.
    pub async fn update(&self, spec: &StreamSpec, changes: Changes) -> Result<StreamInfo, TopologyError> {
        let answer = self.fetch(spec.name()).await?;
        let differences = spec.differences(&answer.config);
        if differences.is_empty() {
            return Ok(answer.into());
        }
        if changes == Changes::Harmless && differences.iter().any(|difference| difference.destroys) {
            return Err(TopologyError::differs(spec.name(), differences));
        }
        let mut config = answer.config;
        config.extend(spec.wire());
        let answer = self.send("UPDATE", spec.name(), &config).await?;
        as_declared(spec, answer)
    }

    /// A stream as it is.
    ///
    /// # Errors
    /// [`NotFound`](TopologyErrorKind::NotFound), and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn info(&self, name: &str) -> Result<StreamInfo, TopologyError> {
        Ok(self.fetch(name).await?.into())
    }

    /// All streams of the account, by name.
    ///
    /// # Errors
    /// [`TopologyErrorKind`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn list(&self) -> Result<Vec<StreamInfo>, TopologyError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            total: usize,
            #[serde(default)]
            streams: Option<Vec<Answer>>,
        }
        let mut streams: Vec<StreamInfo> = Vec::new();
        loop {
            let question = json!({ "offset": streams.len() });
            let page: Page = api::ask(&self.connection, "LIST", "", &question).await?;
            let found = page.streams.unwrap_or_default();
            let is_last = found.is_empty();
            streams.extend(found.into_iter().map(StreamInfo::from));
            if is_last || streams.len() >= page.total {
                streams.sort_by(|a, b| a.name.cmp(&b.name));
                return Ok(streams);
            }
        }
    }

    /// The name of the stream that takes a subject, if there is one.
    ///
    /// # Errors
    /// [`TopologyErrorKind`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn stream_of(&self, subject: &str) -> Result<Option<String>, TopologyError> {
        #[derive(Deserialize)]
        struct Names {
            #[serde(default)]
            streams: Option<Vec<String>>,
        }
        let question = json!({ "subject": subject });
        let names: Names = api::ask(&self.connection, "NAMES", "", &question).await?;
        Ok(names.streams.unwrap_or_default().into_iter().next())
    }

    /// Deletes a stream and all that it has.
    ///
    /// # Errors
    /// [`NotFound`](TopologyErrorKind::NotFound), and others.
    ///
    /// # Cancel safety
    /// Dropped early, the stream may be gone.
    pub async fn delete(&self, name: &str) -> Result<(), TopologyError> {
        let _: Map<String, Value> = api::ask(&self.connection, "DELETE", name, &Value::Null).await?;
        Ok(())
    }

    async fn create(&self, spec: &StreamSpec) -> Result<StreamInfo, TopologyError> {
        let answer = self.send("CREATE", spec.name(), &spec.wire()).await?;
        as_declared(spec, answer)
    }

    async fn fetch(&self, name: &str) -> Result<Answer, TopologyError> {
        api::check_name(name)?;
        api::ask(&self.connection, "INFO", name, &Value::Null).await
    }

    async fn send(&self, operation: &str, name: &str, config: &Map<String, Value>) -> Result<Answer, TopologyError> {
        api::check_name(name)?;
        let question = Value::Object(config.clone());
        api::ask(&self.connection, operation, name, &question).await
    }
}

/// A setting that nats-server does not know is ignored by it, so that only its answer tells.
fn as_declared(spec: &StreamSpec, answer: Answer) -> Result<StreamInfo, TopologyError> {
    let differences = spec.differences(&answer.config);
    if differences.is_empty() {
        return Ok(answer.into());
    }
    Err(TopologyError::differs(spec.name(), differences))
}
