//! A cluster of real nats-servers.

use std::time::Duration;

use crate::{
    free_port::free_port,
    server::{NatsServer, NatsServerBuilder, StartError},
    settle::settles_where,
    unique::unique_name,
};

mod formed;
mod member;

pub(crate) use self::member::Member;

/// How long a cluster may take to form; without JetStream it takes about 0.1 s on an idle
/// machine, with it a few seconds, which is how long it takes to elect a leader.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often other ports are tried when somebody else was faster.
const ATTEMPTS: usize = 3;

/// Running nats-servers of the test's own that form one cluster, with monitoring.
///
/// Dropping it kills them all. A node is a [`NatsServer`]: kill it, restart it, make it a lame
/// duck. It comes back on its ports and with its store.
///
/// # Examples
///
/// ```no_run
/// # async fn doc() {
/// let mut cluster = testkit::Cluster::start(3).await;
/// println!("{}", cluster.urls().join(","));
/// cluster.node_mut(0).kill(); // Its clients move to another node …
/// cluster.node_mut(0).restart().await;
/// cluster.formed().await; // … and it routes for them again.
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<NatsServer>,
    jetstream: bool,
}

/// Options of a [`Cluster`].
#[derive(Clone, Debug)]
#[must_use = "a cluster starts with `.start().await`"]
pub struct ClusterBuilder {
    size: usize,
    jetstream: bool,
    advertise: bool,
    config: Option<String>,
}

impl Cluster {
    /// Starts `n` nodes with nothing special, 3 as a rule, and waits until they have [formed](Self::formed).
    ///
    /// # Panics
    ///
    /// When a node does not start, or they do not find each other; and when `n` is 0.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the nodes.
    pub async fn start(n: usize) -> Self {
        Self::builder(n).start().await
    }

    /// A cluster of `n` nodes with options.
    pub fn builder(n: usize) -> ClusterBuilder {
        ClusterBuilder {
            size: n,
            jetstream: false,
            advertise: true,
            config: None,
        }
    }

    /// Waits until each running node has routes to all others that run; with JetStream also
    /// until they have a leader that sees them all, if a majority runs.
    ///
    /// For after a restart.
    ///
    /// # Panics
    ///
    /// When that takes longer than 60 s, with what is missing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only stops waiting.
    pub async fn formed(&mut self) {
        let total = self.nodes.len();
        let mut running = Vec::new();
        for node in &mut self.nodes {
            if node.is_running() {
                running.push(&*node);
            }
        }
        let jetstream = self.jetstream && running.len() * 2 > total;
        settles_where(PATIENCE, || formed::missing(&running, jetstream), Option::is_none).await;
    }

    /// How many nodes it was started with.
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The URL of node `i` for clients. Stays the same across restarts.
    ///
    /// # Panics
    ///
    /// When there is no node `i`; they count from 0.
    #[must_use]
    pub fn url(&self, i: usize) -> String {
        self.nodes[i].url()
    }

    /// The URLs of all nodes for clients.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(NatsServer::url).collect()
    }

    /// Node `i`. Its name is `n` and that number: `n0`.
    ///
    /// # Panics
    ///
    /// When there is no node `i`; they count from 0.
    #[must_use]
    pub fn node(&self, i: usize) -> &NatsServer {
        &self.nodes[i]
    }

    /// Node `i`, to kill it, to restart it, to pause it.
    ///
    /// # Panics
    ///
    /// When there is no node `i`; they count from 0.
    #[must_use]
    pub fn node_mut(&mut self, i: usize) -> &mut NatsServer {
        &mut self.nodes[i]
    }
}

impl ClusterBuilder {
    /// JetStream, with a store for each node. Default: off.
    ///
    /// The cluster takes some seconds longer to form then.
    pub fn jetstream(mut self, on: bool) -> Self {
        self.jetstream = on;
        self
    }

    /// Whether nodes tell clients of each other (`connect_urls`). Default: on.
    ///
    /// Turn it off for clients that go through a [`Proxy`](crate::Proxy), which they would pass by.
    pub fn advertise(mut self, on: bool) -> Self {
        self.advertise = on;
        self
    }

    /// Configuration of each node in the server's own syntax: accounts, TLS, limits.
    ///
    /// Without a block `cluster`. Names, ports, routes and store win over this text.
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
    }

    /// Starts the nodes and waits until they have [formed](Cluster::formed).
    ///
    /// # Panics
    ///
    /// When a node does not start, or they do not find each other; and when it has no node.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the nodes.
    pub async fn start(self) -> Cluster {
        assert!(self.size > 0, "a cluster has at least one node");
        let mut attempt = 1;
        let nodes = loop {
            match self.nodes().await {
                Ok(nodes) => break nodes,
                Err(error) if error.is_port_taken() && attempt < ATTEMPTS => attempt += 1,
                Err(error) => panic!("{error}"),
            }
        };
        let mut cluster = Cluster {
            nodes,
            jetstream: self.jetstream,
        };
        cluster.formed().await;
        cluster
    }

    async fn nodes(&self) -> Result<Vec<NatsServer>, StartError> {
        let name = unique_name("cluster");
        // All are known before the first starts: it must name the others.
        let routes: Vec<u16> = (0..self.size).map(|_| free_port()).collect();
        let mut nodes = Vec::new();
        for (i, &port) in routes.iter().enumerate() {
            let member = Member {
                cluster: name.clone(),
                node: format!("n{i}"),
                port,
                routes: routes.clone(),
                advertise: self.advertise,
            };
            nodes.push(self.node(member).try_start().await?);
        }
        Ok(nodes)
    }

    fn node(&self, member: Member) -> NatsServerBuilder {
        let node = NatsServer::builder()
            .monitoring(true)
            .jetstream(self.jetstream)
            .member(member);
        match &self.config {
            Some(config) => node.config(config),
            None => node,
        }
    }
}
