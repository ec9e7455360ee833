//! A running connection is told of other servers.

mod support;

use std::time::Duration;

use natstream_connect::{ConnectConfig, ConnectErrorKind, Connection, async_nats};
use testkit::{Authority, Cluster, NatsServer, settles, within};

use support::{LIMIT, SECRET, connected, deserted, everything, server, state_where};

/// The connection is with `server`.
async fn arrives(connection: &Connection, server: &NatsServer) {
    settles(
        LIMIT,
        || async { (connection.state().borrow().is_connected(), connection.server_url()) },
        (true, Some(server.url().to_owned())),
    )
    .await;
}

/// The connection does not move for longer than a move takes.
async fn stays(connection: &Connection) {
    let mut state = connection.state();
    let epoch = state.borrow().epoch;
    let left = state.wait_for(|state| state.epoch != epoch || !state.is_connected());
    let stayed = tokio::time::timeout(Duration::from_secs(2), left).await.is_err();
    assert!(stayed, "{connection:?}");
}

#[tokio::test]
async fn a_connection_leaves_a_server_that_is_taken_off_the_list() {
    let (first, second) = (server("").await, server("").await);
    let connection = connected(ConnectConfig::new(first.url())).await;
    connection.set_servers([first.url(), second.url()]).unwrap();
    stays(&connection).await;
    connection.set_servers(second.url()).unwrap();
    arrives(&connection, &second).await;
    assert_eq!(connection.state().borrow().epoch, 2);
    connection.set_servers(first.url()).unwrap();
    arrives(&connection, &first).await;
    assert_eq!(connection.state().borrow().epoch, 3);
    within(LIMIT, connection.fence(LIMIT)).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_down_goes_to_servers_that_it_has_never_heard_of() {
    for ignore in [false, true] {
        let (mut first, second) = (server("").await, server("").await);
        let mut config = ConnectConfig::new(first.url());
        if ignore {
            config = config.ignore_discovered_servers();
        }
        let connection = connected(config).await;
        // The first call prepares for it.
        connection.set_servers(first.url()).unwrap();
        stays(&connection).await;
        first.kill();
        state_where(&connection, |state| !state.is_connected()).await;
        connection.set_servers(second.url()).unwrap();
        arrives(&connection, &second).await;
        within(LIMIT, connection.fence(LIMIT)).await.unwrap();
    }
}

#[tokio::test]
async fn servers_that_cannot_be_reached_do_not_cost_the_connection() {
    let (first, second) = (server("").await, server("").await);
    let connection = connected(ConnectConfig::new(first.url())).await;
    connection.set_servers(deserted().await).unwrap();
    stays(&connection).await;
    connection.set_servers(second.url()).unwrap();
    arrives(&connection, &second).await;
}

#[tokio::test]
async fn a_server_off_the_list_is_not_gone_back_to_though_the_cluster_tells_about_it() {
    let mut cluster = Cluster::builder(2).start().await;
    let urls: Vec<String> = cluster.urls();
    let connection = connected(ConnectConfig::new(urls[0].as_str())).await;
    connection.set_servers(urls[1].as_str()).unwrap();
    arrives(&connection, cluster.node(1)).await;
    cluster.node_mut(1).kill();
    state_where(&connection, |state| !state.is_connected()).await;
    cluster.node_mut(1).restart().await;
    arrives(&connection, cluster.node(1)).await;
    assert_eq!(connection.state().borrow().epoch, 3, "it waited");
}

#[tokio::test]
async fn a_connection_with_tls_moves_while_it_is_up() {
    let authority = Authority::new();
    let (first, second) = (authority.server("").await, authority.server("").await);
    let tls = natstream_connect::Tls::new().root_certificates(authority.root());
    let connection = connected(ConnectConfig::new(first.url()).tls(tls)).await;
    connection.set_servers(second.url()).unwrap();
    arrives(&connection, &second).await;
}

#[tokio::test]
async fn what_cannot_be_a_list_changes_nothing() {
    let nats = server("").await;
    let connection = connected(ConnectConfig::new(nats.url())).await;
    for bad in ["", "http://x", "a:0", "user:s3cr3t@a"] {
        let error = connection.set_servers(bad).unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::InvalidConfig, "{bad}");
        assert_eq!(error.field(), Some("servers"), "{bad}");
        assert!(!everything(&error).contains(SECRET), "{bad}");
    }
    let foreign = Connection::from_nats(async_nats::connect(nats.url()).await.unwrap());
    let error = foreign.set_servers(nats.url()).unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::InvalidConfig);
}
