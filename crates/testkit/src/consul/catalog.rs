//! The services that a Consul knows, and its index.

use std::collections::HashMap;

use serde_json::{Value, json};

/// An instance of a service in a [`ConsulServer`](crate::ConsulServer).
#[derive(Clone, Debug)]
pub struct ConsulInstance {
    address: String,
    node: String,
    port: u16,
    tags: Vec<String>,
    status: &'static str,
}

impl ConsulInstance {
    /// A healthy instance at `host:port`, or a URL with that behind its `://`.
    ///
    /// # Panics
    ///
    /// When there is no port.
    #[must_use]
    pub fn new(address: impl AsRef<str>) -> Self {
        let address = address.as_ref();
        let address = address.split_once("://").map_or(address, |(_, rest)| rest);
        let (host, port) = address.rsplit_once(':').expect("an address with a port");
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Self {
            address: host.to_owned(),
            node: "192.0.2.1".to_owned(),
            port: port.trim_end_matches('/').parse().expect("a port"),
            tags: Vec::new(),
            status: "passing",
        }
    }

    /// With one more tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// With a failing health check.
    #[must_use]
    pub fn failing(mut self) -> Self {
        self.status = "critical";
        self
    }

    /// Registered without an address of its own: that of its node counts.
    #[must_use]
    pub fn at_node(mut self) -> Self {
        self.node = std::mem::take(&mut self.address);
        self
    }

    fn is_passing(&self) -> bool {
        self.status == "passing"
    }

    /// An entry of the health endpoint; what a client does not need is shortened.
    fn entry(&self, service: &str, index: u64) -> Value {
        let id = format!("{service}-{}", self.port);
        json!({
            "Node": {
                "ID": "40e4a748-2192-161a-0510-9bf59fe950b5",
                "Node": "node",
                "Address": self.node,
                "Datacenter": "dc1",
                "TaggedAddresses": {"lan": self.node, "wan": self.node},
                "Meta": {"consul-network-segment": ""},
                "CreateIndex": 1,
                "ModifyIndex": 1,
            },
            "Service": {
                "ID": id,
                "Service": service,
                "Tags": self.tags,
                "Address": self.address,
                "TaggedAddresses": null,
                "Meta": null,
                "Port": self.port,
                "Weights": {"Passing": 1, "Warning": 1},
                "EnableTagOverride": false,
                "CreateIndex": index,
                "ModifyIndex": index,
            },
            "Checks": [{
                "Node": "node",
                "CheckID": format!("service:{id}"),
                "Name": "check",
                "Status": self.status,
                "Notes": "",
                "Output": "",
                "ServiceID": id,
                "ServiceName": service,
                "ServiceTags": self.tags,
            }],
        })
    }
}

impl<T: AsRef<str>> From<T> for ConsulInstance {
    fn from(address: T) -> Self {
        Self::new(address)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Catalog {
    services: HashMap<String, Vec<ConsulInstance>>,
    index: u64,
}

impl Catalog {
    pub(super) fn new() -> Self {
        Self {
            services: HashMap::new(),
            index: 10,
        }
    }

    pub(super) fn index(&self) -> u64 {
        self.index
    }

    pub(super) fn touch(&mut self) {
        self.index += 1;
    }

    pub(super) fn restart(&mut self, index: u64) {
        self.index = index;
    }

    pub(super) fn set(&mut self, service: &str, instances: Vec<ConsulInstance>) {
        self.touch();
        self.services.insert(service.to_owned(), instances);
    }

    /// The answer about one service.
    pub(super) fn entries(&self, service: &str, passing: bool, tags: &[&str]) -> Value {
        let instances = self.services.get(service).map_or(&[][..], Vec::as_slice);
        let wanted = |instance: &&ConsulInstance| {
            // Consul compares tags without regard to case.
            let has = |tag: &str| instance.tags.iter().any(|known| known.eq_ignore_ascii_case(tag));
            (!passing || instance.is_passing()) && tags.iter().all(|tag| has(tag))
        };
        let entries = instances.iter().filter(wanted);
        entries.map(|instance| instance.entry(service, self.index)).collect()
    }
}
