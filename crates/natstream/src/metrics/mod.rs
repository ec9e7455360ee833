//! What everything counts, as metrics of the facade [`metrics`](https://docs.rs/metrics) (feature `metrics`).
//!
//! Nothing is counted twice: [`observe`] reads the figures that pools, servers, buses and so on have anyway, and hands them to
//! the recorder that the program has installed. So nothing is paid for an item, and nothing between two looks. Call it when
//! somebody asks for the metrics, or now and then:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use natstream::metrics::{describe, observe};
//! use natstream::{ConnectConfig, Connection, Pool, Server};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! // The recorder comes first: histograms ask for theirs when a pool or an endpoint is made.
//! // metrics_exporter_prometheus::PrometheusBuilder::new().install()?;
//! describe();
//!
//! let connection = Connection::connect(ConnectConfig::new("nats://127.0.0.1:4222")).await?;
//! let (pool, server) = (Pool::new(connection.clone()), Server::new(connection.clone()));
//! loop {
//!     observe("main", &connection);
//!     observe("main", &pool);
//!     observe("orders", &server);
//!     tokio::time::sleep(Duration::from_secs(10)).await;
//! }
//! # }
//! ```
//!
//! How long calls take is a histogram, and is recorded where a call ends.
//!
//! All names begin with `natstream_`, and have their unit in them; counters end with `_total`. `docs/observability.md` lists
//! them. Labels are the names that are given here, those of endpoints, consumers and streams, and codes: never subjects, which
//! may have ids in them.

mod connection;
mod table;

#[cfg(feature = "eventbus")]
mod bus;
#[cfg(feature = "client")]
mod client;
#[cfg(feature = "recorder")]
mod recorder;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "sinks")]
mod sinks;
#[cfg(test)]
mod tests;

use self::table::Row;

/// Something with figures. Only this crate implements it.
pub trait Observe: sealed::Observe {}

impl<T: sealed::Observe + ?Sized> Observe for T {}

pub(crate) mod sealed {
    /// Something with figures.
    #[expect(unnameable_types, reason = "nobody else implements it")]
    pub trait Observe {
        /// Hands the figures of this moment to the recorder.
        fn observe(&self, name: &str);
    }
}

/// Hands the figures of this moment to the recorder that is installed; without one nothing happens.
///
/// `name` is a label: two things of a kind need two names. What is counted since it was made goes on being shown by most
/// recorders when it is gone.
///
/// It takes some microseconds for each, and as long for each endpoint of a server; see [`EndpointStats`](crate::EndpointStats)
/// for those that run.
pub fn observe(name: &str, what: &impl Observe) {
    what.observe(name);
}

/// Tells the recorder the units of all metrics, and what they mean. Once, after it was installed.
pub fn describe() {
    for row in rows() {
        row.describe();
    }
}

/// All metrics, each once.
fn rows() -> Vec<Row> {
    let mut rows = connection::rows();
    #[cfg(feature = "client")]
    rows.extend(client::rows());
    #[cfg(feature = "server")]
    rows.extend(server::rows());
    #[cfg(feature = "eventbus")]
    rows.extend(bus::rows());
    #[cfg(feature = "sinks")]
    rows.extend(sinks::rows());
    #[cfg(feature = "recorder")]
    rows.extend(recorder::rows());
    let mut names = std::collections::HashSet::new();
    rows.retain(|row| names.insert(row.name));
    rows
}
