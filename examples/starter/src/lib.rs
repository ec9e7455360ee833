//! The service: what it consists of, how it starts, and how it stops.

mod health;
mod search;
mod settings;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use natstream::{Connection, Drained, Server};

use health::Health;
pub use search::{Order, Orders, Search};
pub use settings::Settings;

/// A running service. Dropping it ends it at once; [`stop`](Self::stop) does so in order.
pub struct Service {
    server: Server,
    health: Option<Health>,
    drain: Duration,
}

impl Service {
    /// Connects, and serves. When it returns, callers find the service.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let connection = Connection::connect(settings.connect).await?;
        let server = Server::builder(connection.clone())
            .name("orders")
            .version(env!("CARGO_PKG_VERSION"))
            .build();
        let orders = Arc::new(Orders::samples());
        let endpoint = server
            .on_typed(
                format!("{}.search", settings.prefix),
                move |search, _, out| search::search(orders.clone(), search, out),
            )
            .name("search")
            // More are refused at once, and their callers know that nothing was done for them.
            .max_concurrent(settings.max_concurrent)
            .await?;
        // Last: who is healthy serves.
        let health = match settings.health {
            Some(address) => Some(Health::listen(address, connection).await?),
            None => None,
        };
        tracing::info!(subject = endpoint.subject(), "serving");
        Ok(Self {
            server,
            health,
            drain: settings.drain,
        })
    }

    /// Where health is asked for.
    pub fn health(&self) -> Option<SocketAddr> {
        self.health.as_ref().map(Health::address)
    }

    /// Takes no more requests, lets those that run end, and leaves.
    pub async fn stop(self) -> Drained {
        if let Some(health) = &self.health {
            health.stopping();
        }
        let drained = self.server.drain(self.drain).await;
        tracing::info!(aborted = drained.aborted, "stopped");
        if let Err(error) = self.server.connection().close(self.drain).await {
            tracing::warn!(%error, "the connection was not closed in order");
        }
        drained
    }
}
