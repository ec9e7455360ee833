//! Whether the nodes of a cluster work together, as their monitoring pages tell.

use std::collections::HashSet;

use serde_json::Value;

use crate::server::NatsServer;

/// What the first node lacks that lacks something, as a text.
pub(super) async fn missing(nodes: &[&NatsServer], jetstream: bool) -> Option<String> {
    let others = nodes.len() - 1;
    for node in nodes {
        let routes = match node.try_page("/routez").await {
            Ok(page) => routes(&page),
            Err(error) => return Some(format!("no /routez at {}: {error}", node.url())),
        };
        if routes < others {
            return Some(format!("{routes} of {others} routes at {}", node.url()));
        }
    }
    if jetstream {
        return leaderless(nodes).await;
    }
    None
}

/// With how many nodes routes are open. There are several to each.
fn routes(routez: &Value) -> usize {
    let routes = routez["routes"].as_array().map_or(&[][..], Vec::as_slice);
    let remotes: HashSet<_> = routes.iter().filter_map(|route| route["remote_id"].as_str()).collect();
    remotes.len()
}

/// What the leader of JetStream lacks, if there is one.
async fn leaderless(nodes: &[&NatsServer]) -> Option<String> {
    let mut peers = None;
    for node in nodes {
        let health = match node.try_page("/healthz").await {
            Ok(page) => page,
            Err(error) => return Some(format!("no /healthz at {}: {error}", node.url())),
        };
        if health["status"] != "ok" {
            return Some(format!("{health} at {}", node.url()));
        }
        match node.try_page("/jsz").await {
            Ok(page) => peers = peers.or_else(|| online_peers(&page)),
            Err(error) => return Some(format!("no /jsz at {}: {error}", node.url())),
        }
    }
    match peers {
        None => Some("no leader of JetStream".to_owned()),
        Some(peers) if peers + 1 < nodes.len() => Some(format!("{peers} peers of the leader of JetStream")),
        Some(_) => None,
    }
}

/// How many peers the leader sees up to date; `None` on a node that does not lead.
fn online_peers(jsz: &Value) -> Option<usize> {
    let meta = &jsz["meta_cluster"];
    // Each node lists the others, and one that follows lists the leader too.
    let leader = meta["leader"].as_str().filter(|name| !name.is_empty())?;
    let others = meta["replicas"].as_array()?;
    if others.iter().any(|peer| peer["name"] == leader) {
        return None;
    }
    let online = |peer: &&Value| peer["current"] == true && peer["offline"] != true;
    Some(others.iter().filter(online).count())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_are_counted_and_not_their_connections() {
        let page = json!({"routes": [{"remote_id": "A"}, {"remote_id": "A"}, {"remote_id": "B"}]});
        assert_eq!(routes(&page), 2);
        assert_eq!(routes(&json!({})), 0);
    }

    #[test]
    fn peers_of_the_leader_count_unless_they_lag() {
        let page = |leader: &str| {
            let replicas = json!([
                {"name": "n0", "current": true},
                {"name": "n1", "current": false},
                {"name": "n2", "current": true, "offline": true},
            ]);
            json!({"meta_cluster": {"leader": leader, "replicas": replicas}})
        };
        assert_eq!(online_peers(&page("n3")), Some(1));
        assert_eq!(online_peers(&page("n0")), None);
        assert_eq!(online_peers(&page("")), None);
    }
}
