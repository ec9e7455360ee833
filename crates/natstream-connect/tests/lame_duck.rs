//! A server that is about to shut down is left before it cuts its clients off.

use std::time::Duration;

use natstream_connect::{ConnectConfig, Connection};
use testkit::{Cluster, NatsServer, within};

const LIMIT: Duration = Duration::from_secs(30);

/// Longer than the test: whoever is still there then was not moved by the server.
const GRACE: &str = "lame_duck_grace_period: \"60s\"\nlame_duck_duration: \"90s\"";

#[tokio::test]
async fn a_connection_moves_to_another_server() {
    let mut cluster = Cluster::builder(2).config(GRACE).start().await;
    let config = ConnectConfig::new(cluster.urls()).retain_servers_order();
    let connection = within(LIMIT, Connection::connect(config)).await.unwrap();
    let before = connection.server_info().server_id;
    cluster.node_mut(0).lame_duck();
    let mut state = connection.state();
    let moved = state.wait_for(|state| state.is_connected() && state.epoch == 2);
    assert!(!within(LIMIT, moved).await.unwrap().lame_duck);
    assert_ne!(connection.server_info().server_id, before);
    assert!(
        cluster.node_mut(0).is_running(),
        "it had to leave, as the server was gone"
    );
}

#[tokio::test]
async fn a_connection_that_knows_no_other_server_stays() {
    let mut nats = NatsServer::builder().config(GRACE).start().await;
    let config = ConnectConfig::new(nats.url());
    let connection = within(LIMIT, Connection::connect(config)).await.unwrap();
    nats.lame_duck();
    let mut state = connection.state();
    let announced = state.wait_for(|state| state.lame_duck);
    let epoch = within(LIMIT, announced).await.unwrap().epoch;
    // Longer than the time over which clients leave.
    let left = state.wait_for(|state| state.epoch != epoch || !state.is_connected());
    let stays = tokio::time::timeout(Duration::from_secs(2), left).await.is_err();
    assert!(stays, "it has nowhere to go");
}
