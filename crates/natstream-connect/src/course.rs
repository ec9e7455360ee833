//! Where a connection may go, and how that is changed while it runs.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::{Client, ServerAddr};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::connection::{Connection, Inner};
use crate::error::ConnectError;
use crate::selector::Selector;
use crate::servers::{IntoServers, ServerList};
use crate::signpost::Signpost;
use crate::tls;

impl Connection {
    /// Replaces the servers that this connection may go to.
    ///
    /// If the server that it is with is not among them, it moves within two seconds, as from a server in lame duck mode: the
    /// [state](Self::state) is disconnected for a moment, and the epoch rises. It stays as long as none of the others
    /// accepts a TCP connection. A server that only its cluster has told about counts as one of them, if the cluster has told
    /// about one of them too; with [`ignore_discovered_servers`](crate::ConnectConfig::ignore_discovered_servers) it does not. A
    /// server that was taken away is not gone back to, even if the cluster tells about it, until it is given again.
    ///
    /// A connection that is down tries the new servers next, with one exception: where [`Tls`](crate::Tls) is required of
    /// every server, it learns of them only when it is up again, so that one whose servers have all gone needs to be made anew.
    /// (While it is down, async-nats takes new servers from nobody but a server.)
    ///
    /// The first call prepares for that, by a socket on the loopback interface that tells whoever asks where the servers are:
    /// so async-nats learns of them. If the connection is down at the first call, it has to come up once by itself. A call with the
    /// servers that there are changes nothing, and prepares. A closed connection stays closed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(connection: natstream_connect::Connection) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut state = connection.state();
    /// let epoch = state.borrow().epoch;
    /// connection.set_servers(["nats-3.example", "nats-4.example"])?;
    /// state.wait_for(|state| state.is_connected() && state.epoch > epoch).await?;
    /// println!("now with {:?}", connection.server_url());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ConnectErrorKind::InvalidConfig): nothing has changed. The list is empty or not valid, it has
    /// user info (who the connection is was settled when it was made), or the connection is one of somebody else's client.
    pub fn set_servers(&self, servers: impl IntoServers) -> Result<(), ConnectError> {
        let addresses = ServerList::parse_without_login(&servers.into_servers())?;
        match self.inner().set_list(addresses) {
            true => Ok(()),
            false => Err(ConnectError::config(
                "servers",
                "the client was connected by somebody else",
            )),
        }
    }
}

impl Inner {
    /// The servers may be changed from now on, also while the connection is down.
    #[cfg(feature = "consul")]
    pub(crate) fn prepare_for_changes(&self) {
        if let Some(course) = self.course() {
            course.set_up_signpost(self.runtime());
            self.signals().wake.notify_one();
        }
    }

    /// False for a foreign client.
    pub(crate) fn set_list(&self, list: Vec<ServerAddr>) -> bool {
        let Some(course) = self.course() else { return false };
        if list.iter().any(ServerAddr::tls_required) {
            tls::ensure_provider();
        }
        course.set_up_signpost(self.runtime());
        let lost = course.tls_everywhere && !self.watch().borrow().is_connected();
        if lost && !course.selector.list().iter().any(|addr| list.contains(addr)) {
            tracing::warn!(
                "a connection that is down and requires TLS cannot go to servers that it has not known before"
            );
        }
        let servers: Vec<&str> = list.iter().map(ServerAddr::as_url_str).collect();
        let shown = format!("{servers:?}");
        if course.selector.set_list(list) {
            tracing::info!(servers = shown, "the list of servers has changed");
        }
        self.signals().wake.notify_one();
        true
    }
}

/// Where a connection may go.
pub(crate) struct Course {
    selector: Arc<Selector>,
    tls_everywhere: bool,
    /// From the first change on; `None` where there cannot be one.
    signpost: OnceLock<Option<Signpost>>,
}

impl Course {
    pub(crate) fn new(selector: Arc<Selector>, tls_everywhere: bool) -> Self {
        Self {
            selector,
            tls_everywhere,
            signpost: OnceLock::new(),
        }
    }

    pub(crate) fn selector(&self) -> &Selector {
        &self.selector
    }

    fn set_up_signpost(&self, runtime: &Handle) {
        self.signpost.get_or_init(|| {
            if self.tls_everywhere {
                return None;
            }
            Signpost::set_up(runtime, &self.selector)
                .inspect_err(|error| {
                    tracing::warn!(%error, "a connection that is down will not learn of new servers");
                })
                .ok()
        });
    }

    /// Gives async-nats the servers that it does not know yet, as long as it is connected: otherwise it does not listen.
    pub(crate) async fn align(&self, client: &Client, limit: Duration) {
        let told = client.server_info().connect_urls;
        let Some((version, pool)) = self.selector.wanted_pool(&told) else {
            return;
        };
        // Where it does not answer in time, it still may later; the same is then said twice.
        if let Ok(Ok(())) = timeout(limit, client.set_server_pool(pool)).await {
            self.selector.pool_is(version);
        }
    }

    pub(crate) fn is_off_list(&self, client: &Client) -> bool {
        self.selector.is_off_list(&client.server_info().connect_urls)
    }

    /// Is there another server to go to?
    pub(crate) fn knows_others(&self, client: &Client) -> bool {
        self.selector.others(&client.server_info().connect_urls)
    }
}
