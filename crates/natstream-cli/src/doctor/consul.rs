//! What Consul answers, where the servers come from it.

use natstream::Connection;
use natstream::connect::consul::{Consul, ConsulConfig, ConsulError, ConsulErrorKind};

use super::finding::Finding;

/// Asks Consul once, as a connect does.
pub(super) async fn check(config: ConsulConfig, service: &str, connection: &Connection) -> Finding {
    let consul = match Consul::new(config) {
        Ok(consul) => consul,
        Err(error) => return failed(&error, service),
    };
    match consul.first().await {
        Ok(servers) => named(&servers, service, connection.server_url().as_deref()),
        Err(error) => failed(&error, service),
    }
}

fn named(servers: &[String], service: &str, current: Option<&str>) -> Finding {
    let place = |url: &str| url.rsplit('/').next().unwrap_or(url).to_owned();
    let current = current.map(place);
    let is_one = servers.iter().any(|server| Some(place(server)) == current);
    let text = format!(
        "`{service}` has {} healthy servers: {}",
        servers.len(),
        servers.join(", ")
    );
    match is_one {
        true => Finding::ok("consul", text),
        // Its cluster may have told about it.
        false => Finding::info("consul", format!("{text}; this connection is with another one")),
    }
}

fn failed(error: &ConsulError, service: &str) -> Finding {
    let finding = Finding::wrong("consul", format!("{error}; the configured servers are used"));
    match error.kind() {
        ConsulErrorKind::Forbidden => finding.with_fix(format!(
            "service \"{service}\" {{ policy = \"read\" }}\nnode_prefix \"\" {{ policy = \"read\" }}"
        )),
        ConsulErrorKind::NoServers => finding.with_fix(format!(
            "consul services register -name={service} -address=HOST -port=4222"
        )),
        ConsulErrorKind::Io | ConsulErrorKind::Timeout | ConsulErrorKind::Garbage => {
            finding.with_fix("consul_address: http://HOST:8500")
        }
        ConsulErrorKind::Tls => finding.with_fix("consul_ca: FILE"),
        _ => finding,
    }
}
