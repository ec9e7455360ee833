//! A set of connections, with real servers that die and come back.

mod support;

use std::time::Duration;

use natstream_connect::{ConnectConfig, ConnectErrorKind, Connections, ConnectionsBuilder, ConnectionsStats};
use support::LIMIT;
use testkit::{NatsServer, free_port, within};

fn config(servers: &[&NatsServer]) -> ConnectConfig {
    let urls: Vec<String> = servers.iter().map(|server| server.url()).collect();
    ConnectConfig::new(urls).connect_timeout(Duration::from_secs(2))
}

async fn connect(builder: ConnectionsBuilder) -> Connections {
    within(LIMIT, builder.warm_up().connect()).await.expect("connected")
}

/// Waits until the figures are as `wanted`.
async fn settled(connections: &Connections, wanted: impl Fn(&ConnectionsStats) -> bool) -> ConnectionsStats {
    let look = async {
        loop {
            let stats = connections.stats();
            if wanted(&stats) {
                return stats;
            }
            // sleep: the figures tell nobody that they change
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(LIMIT, look).await
}

#[tokio::test]
async fn leases_are_spread_over_all_servers() {
    let (a, b) = (NatsServer::start().await, NatsServer::start().await);
    let connections = connect(Connections::builder(config(&[&a, &b])).per_server(2..=2)).await;
    let mut leases = Vec::new();
    for _ in 0..40 {
        leases.push(within(LIMIT, connections.lease()).await.expect("open"));
    }
    let on_a = leases
        .iter()
        .filter(|lease| lease.server_url() == Some(a.url()))
        .count();
    assert_eq!(on_a, 20);
    let stats = connections.stats();
    assert_eq!((stats.connections, stats.up, stats.in_flight), (4, 4, 40));
    for lease in &leases {
        within(LIMIT, lease.fence(LIMIT)).await.expect("it works");
    }
    drop(leases);
    assert_eq!(connections.stats().in_flight, 0);
}

#[tokio::test]
async fn it_grows_with_the_load_and_shrinks_when_idle() {
    let server = NatsServer::start().await;
    let builder = Connections::builder(config(&[&server])).per_server(1..=3).grow_above(4);
    let connections = connect(builder.idle_after(Duration::from_millis(300))).await;
    let mut leases = Vec::new();
    for wanted in 1..=3 {
        settled(&connections, |stats| stats.connections >= wanted).await;
        for _ in 0..6 {
            leases.push(within(LIMIT, connections.lease()).await.expect("open"));
        }
    }
    assert_eq!(settled(&connections, |stats| stats.up == 3).await.in_flight, 18);
    leases.truncate(1);
    settled(&connections, |stats| stats.connections == 1).await;
    within(LIMIT, leases[0].fence(LIMIT)).await.expect("what is used stays");
}

#[tokio::test]
async fn an_old_connection_is_replaced_and_lives_as_long_as_it_is_used() {
    let server = NatsServer::start().await;
    let builder = Connections::builder(config(&[&server])).per_server(1..=1);
    let connections = connect(builder.max_life(Duration::from_millis(200))).await;
    let old = within(LIMIT, connections.lease()).await.expect("open");
    let first = old.client_id();
    settled(&connections, |stats| stats.dials_ok >= 2).await;
    within(LIMIT, old.fence(LIMIT)).await.expect("it is used still");
    let new = within(LIMIT, connections.lease()).await.expect("open");
    assert_ne!(new.client_id(), first);
    let state = old.state();
    drop(old);
    let mut state = state;
    within(LIMIT, state.wait_for(|state| state.is_closed()))
        .await
        .expect("closed once nobody uses it");
}

#[tokio::test]
async fn a_connection_goes_elsewhere_and_its_server_gets_another_one_when_it_is_back() {
    let (mut a, b) = (NatsServer::start().await, NatsServer::start().await);
    let connections = connect(Connections::builder(config(&[&a, &b]))).await;
    let mut on_a = None;
    while on_a.is_none() {
        let lease = within(LIMIT, connections.lease()).await.expect("open");
        on_a = Some(lease).filter(|lease| lease.server_url() == Some(a.url()));
    }
    let on_a = on_a.expect("one is with it");
    a.kill();
    let mut state = on_a.state();
    within(LIMIT, state.wait_for(|state| state.epoch == 2))
        .await
        .expect("it lives on");
    assert_eq!(on_a.server_url(), Some(b.url()));
    let score = |stats: &ConnectionsStats| {
        stats
            .servers
            .iter()
            .find(|server| server.server == a.url())
            .expect("known")
            .score
    };
    settled(&connections, |stats| score(stats) < 1.0 && stats.dials_failed > 0).await;
    for _ in 0..20 {
        assert!(connections.try_lease().is_some(), "there is always one");
    }
    a.restart().await;
    let home = settled(&connections, |stats| stats.dials_ok >= 3).await;
    assert_eq!(home.connections, 2);
    let new = async {
        loop {
            let lease = connections.lease().await.expect("open");
            if lease.server_url() == Some(a.url()) {
                return lease;
            }
        }
    };
    within(LIMIT, new).await;
    within(LIMIT, on_a.fence(LIMIT)).await.expect("what was used goes on");
}

#[tokio::test]
async fn a_pinned_connection_waits_for_its_server() {
    let (mut a, b) = (NatsServer::start().await, NatsServer::start().await);
    let connections = connect(Connections::builder(config(&[&a, &b])).pinned()).await;
    a.kill();
    settled(&connections, |stats| stats.up == 1).await;
    a.restart().await;
    let stats = settled(&connections, |stats| stats.up == 2).await;
    assert_eq!(stats.dials_ok, 2, "the same connections");
}

#[tokio::test]
async fn other_servers_take_over() {
    let (a, b) = (NatsServer::start().await, NatsServer::start().await);
    let connections = connect(Connections::builder(config(&[&a]))).await;
    let old = within(LIMIT, connections.lease()).await.expect("open");
    connections.set_servers([b.url()]).expect("valid");
    settled(&connections, |stats| stats.up == 1 && stats.dials_ok == 2).await;
    let new = within(LIMIT, connections.lease()).await.expect("open");
    assert_eq!((old.server_url(), new.server_url()), (Some(a.url()), Some(b.url())));
    let error = connections.set_servers(["ws://a"]).expect_err("not valid");
    assert_eq!(error.kind(), ConnectErrorKind::InvalidConfig);
    connections.set_servers(Vec::<String>::new()).expect("no news");
    assert_eq!(connections.stats().servers.len(), 1);
}

#[tokio::test]
async fn servers_that_cannot_be_reached_are_tried_again() {
    let server = NatsServer::start().await;
    let gone = format!("nats://127.0.0.1:{}", free_port());
    let config = ConnectConfig::new([server.url(), gone.clone()]);
    let connections = connect(Connections::builder(config)).await;
    settled(&connections, |stats| stats.connections == 1 && stats.dials_failed >= 3).await;

    let error = within(LIMIT, Connections::connect(ConnectConfig::new([gone])))
        .await
        .expect_err("nobody there");
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    let none = Connections::builder(ConnectConfig::new(server.url())).per_server(0..=3);
    let error = within(LIMIT, none.connect()).await.expect_err("none at all");
    assert_eq!(error.kind(), ConnectErrorKind::InvalidConfig);
}

#[tokio::test]
async fn closing_waits_for_leases_until_the_deadline() {
    let server = NatsServer::start().await;
    let connections = connect(Connections::builder(config(&[&server]))).await;
    let held = within(LIMIT, connections.lease()).await.expect("open");
    let state = held.state();
    let meanwhile = async {
        while within(LIMIT, connections.lease()).await.is_some() {
            tokio::task::yield_now().await;
        }
        within(LIMIT, held.fence(LIMIT)).await.expect("it is held");
        drop(held);
    };
    let (left, ()) = tokio::join!(within(LIMIT, connections.close(LIMIT)), meanwhile);
    assert_eq!(left, 0);
    assert!(state.borrow().is_closed());

    let connections = connect(Connections::builder(config(&[&server]))).await;
    let held = within(LIMIT, connections.lease()).await.expect("open");
    assert_eq!(within(LIMIT, connections.close(Duration::from_millis(50))).await, 1);
    assert!(held.state().borrow().is_closed());
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_connections() {
    let server = NatsServer::start().await;
    let connections = connect(Connections::builder(config(&[&server]))).await;
    let state = within(LIMIT, connections.lease()).await.expect("open").state();
    let mut state = state;
    drop(connections);
    let ended = async { while state.changed().await.is_ok() {} };
    within(LIMIT, ended).await;
}
