//! Ours.

use anyhow::Result;
use bytes::Bytes;
use natstream::{
    ConnectConfig, Connection, Connections, HandlerError, Pool, Request, ResponseSender, Responses, Server,
};

use super::{Caller, Items, Order};

#[derive(Clone)]
pub(crate) struct Natstream {
    pool: Pool,
    subject: String,
    window: Option<usize>,
}

impl Natstream {
    /// With so many connections; the window is that of the library unless it is set.
    pub(crate) async fn connect(url: &str, subject: &str, connections: usize, window: Option<usize>) -> Result<Self> {
        let config = ConnectConfig::new(url);
        let pool = match connections {
            1 => Pool::new(Connection::connect(config).await?),
            _ => {
                let builder = Connections::builder(config).per_server(connections..=connections);
                Pool::new(builder.warm_up().connect().await?)
            }
        };
        Ok(Self {
            pool,
            subject: subject.to_owned(),
            window,
        })
    }
}

impl Caller for Natstream {
    type Items = Responses;

    async fn call(&self, order: Order) -> Result<Responses> {
        let mut request = self.pool.request_stream(self.subject.as_str(), order.encode());
        if let Some(window) = self.window {
            request = request.window(window);
        }
        Ok(request.send().await?)
    }
}

impl Items for Responses {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.try_next().await?)
    }
}

/// So many members of one queue group, each on a connection of its own. They end when they are dropped.
pub(crate) async fn respond(url: &str, subject: &str, members: usize, window: Option<usize>) -> Result<Vec<Server>> {
    let mut servers = Vec::with_capacity(members);
    for _ in 0..members {
        let server = Server::new(Connection::connect(ConnectConfig::new(url)).await?);
        let mut endpoint = server.on(subject, answer);
        if let Some(window) = window {
            endpoint = endpoint.retention(window);
        }
        endpoint.start().await?;
        servers.push(server);
    }
    Ok(servers)
}

async fn answer(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let order = Order::decode(request.payload()).map_err(HandlerError::invalid)?;
    let item = order.item();
    for _ in 0..order.items {
        out.send(&item).await?;
    }
    if order.stays {
        out.closed().await;
    }
    Ok(())
}
