//! A set of connections, with real servers that die and come back.

mod support;

use std::time::Duration;

use natstream_connect::{
    ConnectConfig, ConnectErrorKind, Connections, ConnectionsBuilder, ConnectionsStats, Credentials, EndReason, Lease,
};
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
    let on_a = lease_on(&connections, &a).await;
    a.kill();
    assert_eq!(comes_back(&on_a).await, Some(b.url()));
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
    lease_on(&connections, &a).await;
    within(LIMIT, on_a.fence(LIMIT)).await.expect("what was used goes on");
}

/// A lease of a connection that is with this server.
async fn lease_on(connections: &Connections, server: &NatsServer) -> Lease {
    let lease = async {
        loop {
            let lease = connections.lease().await.expect("open");
            if lease.server_url() == Some(server.url()) {
                return lease;
            }
            // sleep: nothing tells where the next one is
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(LIMIT, lease).await
}

/// The connection is up again; returns the server that it is with.
async fn comes_back(lease: &Lease) -> Option<String> {
    let mut state = lease.state();
    let back = state.wait_for(|state| state.is_connected() && state.epoch > 1);
    within(LIMIT, back).await.expect("it lives on");
    lease.server_url()
}

#[tokio::test]
async fn a_pinned_connection_waits_for_its_server() {
    let (mut a, b) = (NatsServer::start().await, NatsServer::start().await);
    let connections = connect(Connections::builder(config(&[&a, &b])).pinned()).await;
    // Also when the list changes.
    connections.set_servers([b.url(), a.url()]).expect("valid");
    let lease = lease_on(&connections, &a).await;
    a.kill();
    let mut state = lease.state();
    within(LIMIT, state.wait_for(|state| !state.is_connected()))
        .await
        .expect("it lives on");
    a.restart().await;
    assert_eq!(comes_back(&lease).await, Some(a.url()));
    let stats = settled(&connections, |stats| stats.up == 2).await;
    assert_eq!(stats.dials_ok, 2, "the same connections");
}

#[tokio::test]
async fn what_runs_on_a_connection_that_retires_goes_to_the_new_servers_with_it() {
    let (mut a, b) = (NatsServer::start().await, NatsServer::start().await);
    let connections = connect(Connections::builder(config(&[&a]))).await;
    let lease = within(LIMIT, connections.lease()).await.expect("open");
    connections.set_servers([b.url()]).expect("valid");
    settled(&connections, |stats| stats.up == 1 && stats.dials_ok == 2).await;
    assert_eq!(lease.server_url(), Some(a.url()), "as long as that lives");
    a.kill();
    assert_eq!(comes_back(&lease).await, Some(b.url()));
}

#[tokio::test]
async fn a_dial_to_a_server_that_has_left_the_list_is_in_vain() {
    let (mut a, b) = (NatsServer::start().await, NatsServer::start().await);
    a.pause();
    let connections = within(LIMIT, Connections::connect(config(&[&a, &b])))
        .await
        .expect("one is up");
    settled(&connections, |stats| stats.servers[0].dialling == 1).await;
    connections.set_servers([b.url()]).expect("valid");
    a.resume();
    let stats = settled(&connections, |stats| stats.dials_ok == 2).await;
    assert_eq!(stats.connections, 1);
    assert_eq!(lease_on(&connections, &b).await.server_url(), Some(b.url()));
}

#[tokio::test]
async fn a_dial_that_knew_another_list_ends_with_the_present_one() {
    let (mut a, b, c) = (
        NatsServer::start().await,
        NatsServer::start().await,
        NatsServer::start().await,
    );
    a.pause();
    let connections = within(LIMIT, Connections::connect(config(&[&a, &b])))
        .await
        .expect("one is up");
    settled(&connections, |stats| stats.servers[0].dialling == 1).await;
    connections.set_servers([a.url(), c.url()]).expect("valid");
    a.resume();
    let lease = lease_on(&connections, &a).await;
    // sleep: nothing tells that async-nats has taken over the list
    tokio::time::sleep(Duration::from_millis(500)).await;
    a.kill();
    assert_eq!(comes_back(&lease).await, Some(c.url()));
}

#[tokio::test]
async fn the_end_does_not_wait_for_dials() {
    let (mut a, b) = (NatsServer::start().await, NatsServer::start().await);
    a.pause();
    let patient = || config(&[&a, &b]).connect_timeout(LIMIT);
    for is_closed in [true, false] {
        let connections = within(LIMIT, Connections::connect(patient())).await.expect("one is up");
        settled(&connections, |stats| stats.servers[0].dialling == 1).await;
        let mut state = within(LIMIT, connections.lease()).await.expect("open").state();
        if is_closed {
            within(LIMIT / 2, connections.close(Duration::ZERO)).await;
        }
        drop(connections);
        let ended = async { while state.changed().await.is_ok() {} };
        within(LIMIT / 2, ended).await;
    }
}

#[tokio::test]
async fn one_that_somebody_closes_is_given_to_nobody_else() {
    let server = NatsServer::start().await;
    let connections = connect(Connections::builder(config(&[&server])).per_server(2..=2)).await;
    let lease = within(LIMIT, connections.lease()).await.expect("open");
    within(LIMIT, lease.close(LIMIT)).await.expect("closed");
    for _ in 0..20 {
        let lease = within(LIMIT, connections.lease()).await.expect("open");
        within(LIMIT, lease.fence(LIMIT)).await.expect("it works");
    }
    settled(&connections, |stats| stats.up == 2).await;
}

#[tokio::test]
async fn credentials_that_become_wrong_end_the_set() {
    let users = |password: &str| format!("authorization {{ user: a, password: {password} }}");
    let mut server = NatsServer::builder().config(users("right")).start().await;
    let config = config(&[&server]).credentials(Credentials::user_password("a", "right"));
    let connections = connect(Connections::builder(config.max_refusals(Some(2)))).await;
    assert_eq!(connections.end_reason(), None);
    server.reload(users("wrong")).await;
    let ended = async {
        loop {
            if let Err(reason) = connections.lease().await {
                return reason;
            }
            tokio::task::yield_now().await;
        }
    };
    let reason = within(LIMIT, ended).await;
    assert!(
        matches!(reason, EndReason::CredentialsRefused { attempts: 2, .. }),
        "{reason:?}"
    );
    assert_eq!(connections.end_reason(), Some(reason));
    let stats = connections.stats();
    assert_eq!(stats.servers[0].failure, Some(ConnectErrorKind::Authentication));
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
    for wrong in ["ws://a", "nats://user:password@a"] {
        let error = connections.set_servers([wrong]).expect_err("not valid");
        assert_eq!(error.kind(), ConnectErrorKind::InvalidConfig);
    }
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
    let builder = || Connections::builder(ConnectConfig::new(server.url()));
    for (hasty, field) in [
        (builder().max_life(Duration::ZERO), "max_life"),
        (builder().idle_after(Duration::ZERO), "idle_after"),
    ] {
        let error = within(LIMIT, hasty.connect())
            .await
            .expect_err("they would come and go");
        assert_eq!(error.field(), Some(field));
    }
}

#[tokio::test]
async fn closing_waits_for_leases_until_the_deadline() {
    let server = NatsServer::start().await;
    let connections = connect(Connections::builder(config(&[&server]))).await;
    let held = within(LIMIT, connections.lease()).await.expect("open");
    let state = held.state();
    let meanwhile = async {
        while within(LIMIT, connections.lease()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(connections.try_lease().is_none());
        within(LIMIT, held.fence(LIMIT)).await.expect("it is held");
        drop(held);
    };
    let (left, ()) = tokio::join!(within(LIMIT, connections.close(LIMIT)), meanwhile);
    assert_eq!(left, 0);
    assert_eq!(connections.end_reason(), Some(EndReason::Closed));
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
