//! Connections whose servers come from Consul.

mod support;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use natstream_connect::consul::{Consul, ConsulConfig};
use natstream_connect::{ConnectConfig, ConnectErrorKind, Connection, Connections};
use testkit::{ConsulFault, ConsulServer, NatsServer, alive_tasks, settles, within};
use tokio::time::{Instant, timeout};

use support::{LIMIT, connected, deserted, refused, server, state_where};

/// In place of 3 s.
const TIMEOUT: Duration = Duration::from_millis(300);

fn consul(server: &ConsulServer) -> Consul {
    Consul::new(ConsulConfig::new("nats").address(server.url()).timeout(TIMEOUT)).unwrap()
}

fn from(server: &ConsulServer, configured: &str) -> ConnectConfig {
    ConnectConfig::new(configured).discover(consul(server))
}

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
    assert!(timeout(Duration::from_secs(2), left).await.is_err(), "{connection:?}");
}

#[tokio::test]
async fn a_change_moves_the_running_connection() {
    let registry = ConsulServer::start().await;
    let (first, second) = (server("").await, server("").await);
    registry.set("nats", [first.url()]);
    let connection = connected(from(&registry, "")).await;
    arrives(&connection, &first).await;
    let mut received = connection.nats().subscribe("subject").await.unwrap();
    within(LIMIT, connection.fence(LIMIT)).await.unwrap();

    registry.set("nats", [first.url(), second.url()]);
    stays(&connection).await;
    registry.set("nats", [second.url()]);
    arrives(&connection, &second).await;
    assert_eq!(connection.state().borrow().epoch, 2);
    within(LIMIT, connection.fence(LIMIT)).await.unwrap();
    connection.nats().publish("subject", "here".into()).await.unwrap();
    let message = within(LIMIT, received.next()).await;
    assert_eq!(message.unwrap().payload, "here");
}

#[tokio::test]
async fn a_set_of_connections_follows_consul() {
    let registry = ConsulServer::start().await;
    let (first, mut second, third) = (server("").await, server("").await, server("").await);
    registry.set("nats", [first.url(), second.url()]);
    let builder = Connections::builder(from(&registry, "")).per_server(2..=2).warm_up();
    let connections = within(LIMIT, builder.connect()).await.unwrap();
    let with = async || {
        let servers = connections.stats().servers.into_iter();
        servers.map(|server| (server.server, server.up)).collect::<Vec<_>>()
    };
    let expected = |servers: [&NatsServer; 2]| {
        let mut expected = servers.map(|server| (server.url(), 2)).to_vec();
        expected.sort();
        expected
    };
    settles(LIMIT, with, expected([&first, &second])).await;
    let lease = within(LIMIT, connections.lease()).await.unwrap();

    registry.set("nats", [second.url(), third.url()]);
    settles(LIMIT, with, expected([&second, &third])).await;
    within(LIMIT, lease.fence(LIMIT)).await.expect("what is leased goes on");
    drop(lease);
    settles(LIMIT, async || connections.stats().up, 4).await;

    // All that Consul names now is elsewhere, and what there was has gone.
    registry.set("nats", [first.url()]);
    second.kill();
    settles(LIMIT, with, vec![(first.url(), 2)]).await;
    assert_eq!(within(LIMIT, connections.close(LIMIT)).await, 0);
}

#[tokio::test]
async fn servers_that_cannot_be_reached_cost_a_set_nothing() {
    let registry = ConsulServer::start().await;
    let alive = server("").await;
    registry.set("nats", [alive.url()]);
    let connections = within(LIMIT, Connections::connect(from(&registry, ""))).await.unwrap();
    registry.asked(2).await;
    registry.set("nats", ["127.0.0.1:1"]);
    settles(LIMIT, async || connections.stats().dials_failed > 1, true).await;
    let lease = within(LIMIT, connections.lease()).await.unwrap();
    assert_eq!(lease.server_url(), Some(alive.url().to_owned()));
    within(LIMIT, lease.fence(LIMIT)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_is_replaced_by_one_at_another_address() {
    let registry = ConsulServer::start().await;
    let (mut first, second) = (server("").await, server("").await);
    registry.set("nats", [first.url()]);
    let connection = connected(from(&registry, "")).await;
    // The question that waits for a change.
    registry.asked(2).await;
    stays(&connection).await;
    first.kill();
    state_where(&connection, |state| !state.is_connected()).await;
    // Consul's checks notice, and later the replacement comes up.
    registry.set("nats", [""; 0]);
    registry.asked(3).await;
    registry.set("nats", [second.url()]);
    arrives(&connection, &second).await;
}

#[tokio::test]
async fn an_empty_list_ends_no_connection() {
    let registry = ConsulServer::start().await;
    let (first, second) = (server("").await, server("").await);
    registry.set("nats", [first.url()]);
    let connection = connected(from(&registry, &second.url())).await;
    registry.set("nats", [""; 0]);
    stays(&connection).await;
    arrives(&connection, &first).await;
}

#[tokio::test]
async fn without_an_answer_in_time_the_configured_servers_are_used_until_consul_mends() {
    let faults = [
        ConsulFault::Error,
        ConsulFault::Html,
        ConsulFault::HalfBody,
        ConsulFault::NotHttp,
        ConsulFault::Reset,
        ConsulFault::Silence,
    ];
    join_all(faults.map(falls_back)).await;
}

async fn falls_back(fault: ConsulFault) {
    let registry = ConsulServer::start().await;
    let (configured, listed) = (server("").await, server("").await);
    registry.set("nats", [listed.url()]);
    registry.fail(fault.clone());
    let begun = now();
    let connection = connected(from(&registry, &configured.url())).await;
    assert!(begun.elapsed() >= TIMEOUT, "{fault:?} may pass");
    arrives(&connection, &configured).await;
    registry.mend();
    arrives(&connection, &listed).await;
}

#[tokio::test]
async fn configured_servers_that_die_before_consul_mends_are_replaced_too() {
    let registry = ConsulServer::start().await;
    let (mut configured, listed) = (server("").await, server("").await);
    registry.set("nats", [listed.url()]);
    registry.fail(ConsulFault::Error);
    let connection = connected(from(&registry, &configured.url())).await;
    stays(&connection).await;
    configured.kill();
    state_where(&connection, |state| !state.is_connected()).await;
    registry.mend();
    arrives(&connection, &listed).await;
}

#[tokio::test]
async fn the_fallback_is_said_aloud() {
    let (log, _guard) = support::log();
    let registry = ConsulServer::start().await;
    registry.fail(ConsulFault::Error);
    let nats = server("").await;
    connected(from(&registry, &nats.url())).await;
    let log = log.text();
    let warned = |line: &&str| line.contains("WARN") && line.contains("connecting to the configured ones");
    assert_eq!(log.lines().filter(warned).count(), 1, "{log}");
}

#[tokio::test]
async fn a_service_without_instances_does_not_cost_the_timeout() {
    let registry = ConsulServer::start().await;
    let nats = server("").await;
    let patient = ConsulConfig::new("nats").address(registry.url()).timeout(LIMIT * 10);
    let config = ConnectConfig::new(nats.url()).discover(Consul::new(patient).unwrap());
    arrives(&connected(config).await, &nats).await;
}

#[tokio::test]
async fn without_consul_and_without_configured_servers_there_is_an_error() {
    let registry = ConsulServer::start().await;
    registry.fail(ConsulFault::Error);
    let error = refused(from(&registry, "")).await;
    assert_eq!(error.kind(), ConnectErrorKind::InvalidConfig);
    assert_eq!(error.field(), Some("servers"));
    assert!(error.to_string().contains("500"), "{error}");

    registry.mend();
    registry.set("nats", [deserted().await]);
    let error = refused(from(&registry, "")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Refused, "those of Consul were tried");
    let error = refused(from(&registry, "http://x")).await;
    assert_eq!(
        error.kind(),
        ConnectErrorKind::InvalidConfig,
        "a mistake is told even if Consul answers"
    );
}

#[tokio::test]
async fn user_info_of_the_configured_servers_counts() {
    let registry = ConsulServer::start().await;
    let nats = server("authorization { user: a, password: s3cr3t }").await;
    registry.set("nats", [nats.url()]);
    let connection = connected(from(&registry, "a:s3cr3t@nats.example")).await;
    arrives(&connection, &nats).await;
}

#[tokio::test]
async fn connections_share_one_question() {
    let registry = ConsulServer::start().await;
    let (first, second) = (server("").await, server("").await);
    registry.set("nats", [first.url()]);
    let config = from(&registry, "");
    let connections = [connected(config.clone()).await, connected(config).await];
    registry.asked(2).await;
    registry.set("nats", [second.url()]);
    for connection in &connections {
        arrives(connection, &second).await;
    }
    registry.asked(3).await;
    assert_eq!(registry.requests(), 3);
}

#[tokio::test]
async fn with_the_last_connection_the_questions_end() {
    let registry = ConsulServer::start().await;
    let nats = server("").await;
    registry.set("nats", [nats.url()]);
    let before = alive_tasks();
    let connection = connected(from(&registry, "")).await;
    registry.asked(2).await;
    connection.close(LIMIT).await.unwrap();
    // The signpost stands until the handle is gone.
    settles(LIMIT, || async { alive_tasks() }, before + 1).await;
    assert_eq!(registry.requests(), 2);
    drop(connection);
    settles(LIMIT, || async { alive_tasks() }, before).await;
}

#[expect(clippy::disallowed_methods, reason = "tests may look at the clock")]
fn now() -> Instant {
    Instant::now()
}
