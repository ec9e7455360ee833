//! Connections that go where Consul says.

use std::sync::{Arc, Weak};

use async_nats::ServerAddr;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::handle::Consul;
use crate::config::ConnectConfig;
use crate::connection::Inner;
use crate::connections::Set;
use crate::error::ConnectError;
use crate::servers::ServerList;
use crate::state::ConnectionState;

impl ConnectConfig {
    /// Takes the servers from Consul.
    ///
    /// A connect asks Consul first, and takes the configured servers when it has named none within its
    /// [timeout](super::ConsulConfig::timeout) (3 s), with a warning. (There need not be any configured ones:
    /// [`ConnectConfig::new`] takes an empty text.) Then the connection follows what Consul says, as
    /// [`Connection::set_servers`](crate::Connection::set_servers) would, until it is closed.
    ///
    /// User info of the configured servers counts for those of Consul too. If one of the configured servers is `tls://…`, all of
    /// Consul's are.
    pub fn discover(mut self, consul: Consul) -> Self {
        self.consul = Some(Source::Handle(consul));
        self
    }

    /// Puts what Consul says in the place of the configured servers; what comes back feeds the connection.
    pub(crate) async fn discovered(mut self) -> Result<(Self, Option<Feed>), ConnectError> {
        let Some(source) = self.consul.take() else {
            return Ok((self, None));
        };
        let consul = source.get()?;
        let scheme = Scheme::of(self.servers.as_ref().ok());
        match consul.first().await {
            Ok(servers) => {
                let addresses = scheme.apply(&servers);
                tracing::info!(?servers, "servers named by Consul");
                self.servers = match self.servers {
                    Ok(list) => Ok(ServerList { addresses, ..list }),
                    Err(problem) if problem == ServerList::NO_SERVER => Ok(ServerList { addresses, login: None }),
                    wrong => wrong,
                };
            }
            Err(error) => {
                if self
                    .servers
                    .as_ref()
                    .is_err_and(|problem| problem == ServerList::NO_SERVER)
                {
                    let message = format!("there are none but those that Consul names, and it names none: {error}");
                    return Err(ConnectError::config("servers", message));
                }
                tracing::warn!(%error, "Consul names no servers; connecting to the configured ones");
            }
        }
        let servers = consul.servers();
        Ok((self, Some(Feed { servers, scheme })))
    }
}

/// The Consul of a configuration.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Handle(Consul),
    /// What a configuration file says. Its mistakes come up with the connect.
    #[cfg(feature = "config")]
    Described(super::ConsulConfig),
}

impl Source {
    pub(crate) fn get(&self) -> Result<Consul, ConnectError> {
        match self {
            Self::Handle(consul) => Ok(consul.clone()),
            #[cfg(feature = "config")]
            Self::Described(config) => {
                Consul::new(config.clone()).map_err(|error| ConnectError::config("consul", error.to_string()))
            }
        }
    }
}

/// What the addresses of Consul begin with.
#[derive(Clone, Copy, Debug)]
enum Scheme {
    Nats,
    Tls,
}

impl Scheme {
    /// Whoever asked for TLS by the scheme gets no connection without it.
    fn of(configured: Option<&ServerList>) -> Self {
        match configured.is_some_and(|list| list.addresses.iter().any(ServerAddr::tls_required)) {
            true => Self::Tls,
            false => Self::Nats,
        }
    }

    fn apply(self, servers: &[String]) -> Vec<ServerAddr> {
        let addresses = servers.iter().filter_map(|server| match self {
            Self::Nats => server.parse().ok(),
            Self::Tls => server.replacen("nats://", "tls://", 1).parse().ok(),
        });
        addresses.collect()
    }
}

/// What Consul says from now on, for one connection.
pub(crate) struct Feed {
    servers: watch::Receiver<Arc<[String]>>,
    scheme: Scheme,
}

impl Feed {
    /// Tells a set of connections, until it is over.
    #[expect(clippy::disallowed_methods, reason = "it ends with the set")]
    pub(crate) fn start_many(self, connections: &Arc<Set>) {
        tokio::spawn(self.run_many(Arc::downgrade(connections), connections.over.clone()));
    }

    async fn run_many(mut self, connections: Weak<Set>, over: CancellationToken) {
        loop {
            let servers = self.servers.borrow_and_update().clone();
            if !servers.is_empty() {
                let Some(set) = connections.upgrade() else { return };
                set.set_list(self.scheme.apply(&servers));
            }
            tokio::select! {
                () = over.cancelled() => return,
                changed = self.servers.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Tells the connection, until it is closed.
    pub(crate) fn start(self, inner: &Arc<Inner>) {
        let state = inner.watch();
        inner.runtime().spawn(self.run(Arc::downgrade(inner), state));
    }

    /// Holds no connection while it waits.
    async fn run(mut self, connection: Weak<Inner>, mut state: watch::Receiver<ConnectionState>) {
        loop {
            let servers = self.servers.borrow_and_update().clone();
            {
                let Some(inner) = connection.upgrade() else { return };
                match servers.is_empty() {
                    // Ready for what comes, also when the configured servers go before it does.
                    true => inner.prepare_for_changes(),
                    false => drop(inner.set_list(self.scheme.apply(&servers))),
                }
            }
            tokio::select! {
                // It also fails when the last handle is gone.
                _ = state.wait_for(ConnectionState::is_closed) => return,
                changed = self.servers.changed() => if changed.is_err() { return },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_not_lost_on_the_way_over_consul() {
        let scheme = |configured: &str| Scheme::of(ServerList::parse(&[configured.to_owned()]).ok().as_ref());
        let servers = ["nats://a:1".to_owned(), "nats://[::1]:2".to_owned()];
        let shown = |scheme: Scheme| {
            let addresses = scheme.apply(&servers);
            addresses
                .iter()
                .map(|addr| addr.as_url_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(scheme("tls://x")), ["tls://a:1", "tls://[::1]:2"]);
        assert_eq!(shown(scheme("nats://x")), servers);
        assert_eq!(shown(Scheme::of(None)), servers);
    }
}
