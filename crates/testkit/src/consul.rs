//! A Consul agent, as far as asking for healthy instances goes.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::free_port::free_port;

mod answer;
mod catalog;
mod http;
mod serve;

use self::catalog::Catalog;
pub use self::catalog::ConsulInstance;

/// How often another port is tried when somebody else was faster.
const ATTEMPTS: usize = 10;

/// An HTTP server on a port of 127.0.0.1 that answers `GET /v1/health/service/NAME` as Consul documents it.
///
/// It knows the parameters `passing`, `tag` (any number of them), `dc`, `index`, `wait` and `stale`, and the header
/// `X-Consul-Token` (or a bearer token). A query with an index is answered when there is something newer, or after `wait` (5
/// minutes without it, at most 10, and up to a 16th more). Other paths are not found.
///
/// [`fail`](Self::fail) takes the API away; a [`Proxy`](crate::Proxy) before it takes its network away.
///
/// Dropping it ends its tasks and closes its connections.
///
/// # Examples
///
/// ```no_run
/// use testkit::{ConsulFault, ConsulServer};
///
/// # async fn doc() {
/// let consul = ConsulServer::start().await;
/// consul.set("nats", ["127.0.0.1:4222", "127.0.0.1:4223"]);
/// // … a client asks `consul.url()` …
/// consul.asked(1).await;
/// consul.set("nats", ["127.0.0.1:4223"]); // Whoever waits is told.
/// consul.fail(ConsulFault::Error);
/// consul.mend();
/// # }
/// ```
pub struct ConsulServer {
    address: SocketAddr,
    hub: Arc<Hub>,
    /// Ended by its drop, and with it the tasks of all connections.
    _tasks: JoinSet<()>,
}

/// What a [`ConsulServer`] does in place of its job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsulFault {
    /// 200 with this text, said to be JSON, and an index.
    Body(String),
    /// 500, as without a leader.
    Error,
    /// Ends the connection in the middle of a good answer.
    HalfBody,
    /// 200 with a page for people, as from a proxy that asks for a login.
    Html,
    /// Sends bytes that are not HTTP.
    NotHttp,
    /// A redirection to this address.
    Redirect(String),
    /// Resets the connection.
    Reset,
    /// Reads the request, and never answers.
    Silence,
}

/// What the guard shares with the tasks.
struct Hub {
    state: watch::Sender<State>,
    asked: watch::Sender<u64>,
}

/// Everything that can be set, kept in a watch: whoever waits sees each change at once.
#[derive(Clone, Debug)]
struct State {
    catalog: Catalog,
    datacenter: String,
    token: Option<String>,
    fault: Option<ConsulFault>,
    /// How often live connections were cut.
    cuts: u64,
    /// The targets of the latest requests, path and query.
    targets: Vec<String>,
}

/// How many targets are kept.
const TARGETS: usize = 1000;

impl ConsulServer {
    /// Starts a server without services, in the datacentre `dc1`, which wants no token.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O and time, and when no port is free.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn start() -> Self {
        let (listener, address) = bind().await;
        let hub = Arc::new(Hub {
            state: watch::Sender::new(State {
                catalog: Catalog::new(),
                datacenter: "dc1".to_owned(),
                token: None,
                fault: None,
                cuts: 0,
                targets: Vec::new(),
            }),
            asked: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve::accept(listener, hub.clone()));
        Self {
            address,
            hub,
            _tasks: tasks,
        }
    }

    /// Where its API is, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes these the instances of `service`: `127.0.0.1:4222`, a URL with that behind its `://`, or a [`ConsulInstance`].
    /// The index rises.
    pub fn set<I: Into<ConsulInstance>>(&self, service: &str, instances: impl IntoIterator<Item = I>) {
        let instances: Vec<ConsulInstance> = instances.into_iter().map(Into::into).collect();
        self.hub
            .state
            .send_modify(|state| state.catalog.set(service, instances));
    }

    /// Raises the index without another change, as other services do.
    pub fn touch(&self) {
        self.hub.state.send_modify(|state| state.catalog.touch());
    }

    /// Only this token may read services from now on: another one is told 403, and nobody at all that there are no services.
    pub fn require_token(&self, token: impl Into<String>) {
        let token = token.into();
        self.hub.state.send_modify(|state| state.token = Some(token));
    }

    /// The datacentre that it serves; a query for another one is told 500.
    pub fn serve_datacenter(&self, name: impl Into<String>) {
        let name = name.into();
        self.hub.state.send_modify(|state| state.datacenter = name);
    }

    /// Fails every query from now on, also those that wait.
    pub fn fail(&self, fault: ConsulFault) {
        self.hub.state.send_modify(|state| state.fault = Some(fault));
    }

    /// Ends the fault. Who was met by silence does not hear any more of it.
    pub fn mend(&self) {
        self.hub.state.send_modify(|state| state.fault = None);
    }

    /// Begins again as after a restart with lost data: live connections are reset, and the index is `index`.
    pub fn restart(&self, index: u64) {
        self.hub.state.send_modify(|state| {
            state.cuts += 1;
            state.catalog.restart(index);
        });
    }

    /// What the answers say now: `X-Consul-Index`.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.hub.state.borrow().catalog.index()
    }

    /// The targets of the latest 1000 requests, path and query, the latest last.
    #[must_use]
    pub fn targets(&self) -> Vec<String> {
        self.hub.state.borrow().targets.clone()
    }

    /// How many requests came so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        *self.hub.asked.borrow()
    }

    /// Waits until at least `n` requests came since the start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only stops waiting.
    pub async fn asked(&self, n: u64) {
        let mut asked = self.hub.asked.subscribe();
        let reached = asked.wait_for(|asked| *asked >= n).await;
        reached.expect("the sender lives in `self`");
    }
}

impl fmt::Debug for ConsulServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulServer")
            .field("address", &self.address)
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}

impl Hub {
    fn note(&self, target: &str) {
        self.state.send_modify(|state| {
            if state.targets.len() == TARGETS {
                state.targets.remove(0);
            }
            state.targets.push(target.to_owned());
        });
        self.asked.send_modify(|asked| *asked += 1);
    }
}

async fn bind() -> (TcpListener, SocketAddr) {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        match TcpListener::bind(address).await {
            Ok(listener) => return (listener, address),
            Err(error) => last = Some(error),
        }
    }
    panic!("cannot listen on any of {ATTEMPTS} ports: {last:?}");
}
