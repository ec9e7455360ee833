//! Leaders of streams that change, and die.

use std::time::Duration;

use natstream::Connection;
use natstream::eventbus::topology::Topology;
use testkit::{Cluster, settles_where};
use tokio::time::timeout;

/// A cluster needs some time to elect on a busy machine.
const LONG: Duration = Duration::from_secs(90);

/// An election that is under way leaves nobody to answer: then it is asked again.
const SOON: Duration = Duration::from_millis(500);

/// Has the leader of each of these streams step down.
///
/// # Panics
/// When one goes on leading.
pub async fn step_down(connection: &Connection, streams: &[&str]) {
    for stream in streams {
        let before = leader(connection, stream).await;
        while leader(connection, stream).await == before {
            ask(connection, stream, String::new()).await;
        }
    }
}

/// Has one node lead all of these streams, and says which.
///
/// # Panics
/// When they do not get there.
pub async fn gather(connection: &Connection, streams: &[&str]) -> String {
    let node = leader(connection, streams[0]).await;
    for stream in streams {
        // Whoever was asked may have lost the election.
        while leader(connection, stream).await != node {
            let preferred = format!(r#"{{"placement":{{"preferred":"{node}"}}}}"#);
            ask(connection, stream, preferred).await;
        }
    }
    node
}

/// Kills the node that leads all of these streams, once there is one, and says which it was.
///
/// # Panics
/// As [`gather`].
pub async fn kill_leader(cluster: &mut Cluster, connection: &Connection, streams: &[&str]) -> usize {
    let node = gather(connection, streams).await;
    let index = node.trim_start_matches('n').parse().expect("a node");
    cluster.node_mut(index).kill();
    index
}

async fn leader(connection: &Connection, stream: &str) -> String {
    let topology = Topology::new(connection.clone());
    // There may be none at the moment.
    let leader = || async {
        let info = timeout(SOON, topology.info(stream)).await;
        info.ok().and_then(Result::ok).and_then(|info| info.leader)
    };
    settles_where(LONG, leader, Option::is_some).await.expect("it is some")
}

async fn ask(connection: &Connection, stream: &str, how: String) {
    let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
    // What became of it is seen by who leads.
    let _ = timeout(SOON, connection.nats().request(subject, how.into())).await;
}
