//! Responders and callers, both in this process, on connections of their own.

use std::time::Duration;

use natstream::connect::token;
use natstream::{Connections, Pool, Server};

use super::load;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::session;

/// What the connections are called.
pub(super) const NAME: &str = "natstream bench";

/// Both ends of all calls.
#[derive(Debug)]
pub(super) struct Ends {
    responders: Connections,
    pub(super) callers: Connections,
    servers: Vec<Server>,
    pub(super) subject: String,
}

impl Ends {
    /// One responder on each server that can be reached, and so many connections of callers to each.
    pub(super) async fn open(context: &mut Context, per_server: Option<u16>) -> Result<Self, Failure> {
        let per_server = per_server
            .map(usize::from)
            .unwrap_or_else(|| context.connection.per_server());
        let responders = session::connect_many(&context.connection, NAME, 1, &mut context.interrupts).await?;
        let callers = session::connect_many(&context.connection, NAME, per_server, &mut context.interrupts).await?;
        let subject = format!("natstream.bench.{}", token());
        let servers = serve(&responders, &subject).await?;
        Ok(Self {
            responders,
            callers,
            servers,
            subject,
        })
    }

    pub(super) fn pool(&self) -> Pool {
        Pool::new(self.callers.clone())
    }

    /// Ends everything; a signal ends it at once.
    pub(super) async fn close(self, context: &mut Context) {
        // Not drained: it would wait for callers, which have all that they wanted.
        drop(self.servers);
        let closing = async {
            tokio::join!(
                self.callers.close(Duration::ZERO),
                self.responders.close(Duration::ZERO)
            )
        };
        tokio::select! {
            _ = closing => {}
            signal = context.interrupts.next() => tracing::debug!(signal, "the connections were not closed"),
        }
    }
}

/// One responder on each of these connections.
async fn serve(responders: &Connections, subject: &str) -> Result<Vec<Server>, Failure> {
    let mut servers = Vec::new();
    for _ in 0..responders.stats().up {
        let lease = responders.lease().await;
        let lease = lease.map_err(|reason| Failure::new(Exit::NoConnection, anyhow::Error::new(reason)))?;
        let server = Server::new(lease);
        server.on(subject, load::serve).await?;
        servers.push(server);
    }
    Ok(servers)
}
