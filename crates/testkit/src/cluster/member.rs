//! What makes a server a node of a cluster.

/// The options of one node. All on the command line, so that the configuration is the test's.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(super) cluster: String,
    pub(super) node: String,
    /// Its own port for routes.
    pub(super) port: u16,
    /// The ports for routes of all nodes.
    pub(super) routes: Vec<u16>,
    pub(super) advertise: bool,
}

impl Member {
    pub(crate) fn arguments(&self) -> Vec<String> {
        // A route to itself is ignored. With all of them, JetStream knows how many nodes to expect.
        let routes: Vec<String> = self.routes.iter().map(|port| url(*port)).collect();
        let mut arguments: Vec<String> = [
            "--cluster_name",
            &self.cluster,
            "--server_name",
            &self.node,
            "--cluster_listen",
            &url(self.port),
            "--routes",
            &routes.join(","),
        ]
        .map(str::to_owned)
        .into();
        if !self.advertise {
            arguments.push("--no_advertise".to_owned());
        }
        arguments
    }
}

fn url(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}
