//! What Consul says, made into servers.

use serde::Deserialize;

use super::error::{ConsulError, ConsulErrorKind};
use crate::servers::ServerList;

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Sorted, each once.
    pub(super) servers: Vec<String>,
    /// `X-Consul-Index`, where it is a number.
    pub(super) index: Option<u64>,
    /// The token may not read everything.
    pub(super) filtered: bool,
}

/// An entry of the health endpoint, as far as it counts here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Option<Node>,
    service: Service,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(default)]
    address: String,
    port: i64,
}

/// Reads the body of an answer. Instances without a usable address are left out, unless that leaves none.
pub(super) fn servers(body: &[u8]) -> Result<Vec<String>, ConsulError> {
    let entries: Vec<Entry> = serde_json::from_slice(body).map_err(|error| {
        let message = "the answer is not one of Consul's API";
        ConsulError::caused(ConsulErrorKind::Garbage, message, Some(error))
    })?;
    let count = entries.len();
    let mut servers: Vec<String> = entries.into_iter().filter_map(server).collect();
    if servers.len() < count {
        let (unusable, usable) = (count - servers.len(), servers.len());
        tracing::warn!(unusable, usable, "Consul lists instances without a usable address");
        if servers.is_empty() {
            let message = "no instance that Consul lists has a usable address and port";
            return Err(ConsulError::new(ConsulErrorKind::Garbage, message));
        }
    }
    servers.sort_unstable();
    servers.dedup();
    Ok(servers)
}

fn server(entry: Entry) -> Option<String> {
    let node = entry.node.map_or_else(String::new, |node| node.address);
    let host = match entry.service.address {
        address if address.is_empty() => node,
        address => address,
    };
    // An IPv6 address has no brackets here. Whatever else is in a host must not become a part of another kind.
    let host = match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) if host.contains(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c)) => return None,
        Err(_) => host,
    };
    let port = u16::try_from(entry.service.port).ok()?;
    let list = ServerList::parse(&[format!("nats://{host}:{port}")]).ok()?;
    list.addresses.first().map(|addr| addr.as_url_str().to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_instance_without_an_address_has_that_of_its_node() {
        let body = r#"[
            {"Node": {"Address": "10.0.0.2"}, "Service": {"Address": "", "Port": 4222}, "Checks": []},
            {"Node": {"Address": "10.0.0.1"}, "Service": {"Address": "nats-1.example", "Port": 4222}},
            {"Node": {"Address": "10.0.0.1"}, "Service": {"Address": "fd00::1", "Port": 4223}},
            {"Service": {"Address": "nats-1.example", "Port": 4222}},
            {"Node": {}, "Service": {"Port": 4222}},
            {"Service": {"Address": "10.0.0.3", "Port": 0}},
            {"Service": {"Address": "10.0.0.3", "Port": 70000}},
            {"Service": {"Address": "user:pass@10.0.0.3", "Port": 1}},
            {"Service": {"Address": "a:1,b", "Port": 1}}
        ]"#;
        let expected = [
            "nats://10.0.0.2:4222",
            "nats://[fd00::1]:4223",
            "nats://nats-1.example:4222",
        ];
        assert_eq!(servers(body.as_bytes()).unwrap(), expected);
        assert_eq!(servers(b"[]").unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_no_list_of_instances_is_garbage() {
        for body in [
            "",
            "null",
            "{}",
            "<html></html>",
            r#"[{"Service": {"Address": "a"}}]"#,
            r#"[{"Service": {"Address": "a", "Port": "4222"}}]"#,
            r#"[{"Service": {"Address": "a", "Port": 0}}]"#,
            r#"[{"Service": {"Address": "a", "Port": 4222}}"#,
            &"[".repeat(100_000),
        ] {
            assert_eq!(servers(body.as_bytes()).unwrap_err().kind(), ConsulErrorKind::Garbage);
        }
    }

    proptest! {
        #[test]
        fn no_host_makes_it_panic_or_smuggle(host in ".{0,40}", port: i64) {
            let body = serde_json::json!([{"Service": {"Address": host, "Port": port}}]).to_string();
            for server in servers(body.as_bytes()).into_iter().flatten() {
                let list = ServerList::parse(&[server]).unwrap();
                prop_assert!(list.login.is_none());
                prop_assert_eq!(i64::from(list.addresses[0].port()), port);
            }
        }
    }
}
