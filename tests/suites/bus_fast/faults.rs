//! Servers that die, connections that break, leaders that change, and silence.

use integration::leaders;
use natstream::ConnectConfig;
use testkit::{Cluster, Flow, NatsServer, Proxy};

use super::*;

const EVENTS: u64 = 60_000;

async fn killed(doubt: Doubt) -> FastStats {
    let mut nats = NatsServer::builder().jetstream(true).start().await;
    let connection = integration::connection(&nats.url()).await;
    fast_stream(&connection, |spec| spec).await;
    let (bus, failed) = open(&connection, doubt, |builder| builder.deadline(LONG)).await;
    let publishing = publish(&bus, EVENTS);
    for part in 1..=3 {
        settled(&bus, EVENTS * part / 5).await;
        nats.kill();
        within(LIMIT, nats.restart()).await;
    }
    complete(&bus, publishing, EVENTS, doubt, failed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_ids_a_server_that_is_killed_loses_and_repeats_nothing() {
    let stats = killed(Doubt::WithIds).await;
    assert_eq!(stats.acked, EVENTS);
    assert!(stats.retried > 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ids_a_server_that_is_killed_makes_events_unknown_and_repeats_nothing() {
    let stats = killed(Doubt::Unknown).await;
    assert!(stats.failed > 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_least_once_a_server_that_is_killed_loses_nothing() {
    let stats = killed(Doubt::AtLeastOnce).await;
    assert_eq!(stats.acked, EVENTS);
}

async fn cut(doubt: Doubt) -> FastStats {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let proxy = Proxy::start(nats.url()).await;
    let connection = integration::connection(&proxy.url()).await;
    fast_stream(&connection, |spec| spec).await;
    let (bus, failed) = open(&connection, doubt, |builder| builder.deadline(LONG)).await;
    let publishing = publish(&bus, EVENTS);
    for part in 1..=6 {
        settled(&bus, EVENTS * part / 8).await;
        let before = proxy.accepted();
        proxy.cut();
        within(LIMIT, proxy.connected(before + 1)).await;
    }
    let stats = complete(&bus, publishing, EVENTS, doubt, failed).await;
    // What was under way may all have arrived, and nothing goes again; each cut ends a batch.
    assert!(stats.batches > 6, "{stats:?}");
    stats
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_ids_connections_that_are_cut_lose_and_repeat_nothing() {
    assert_eq!(cut(Doubt::WithIds).await.acked, EVENTS);
}

/// The stream is asked how far it came; only the answer to that may be lost with the next cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ids_a_connection_that_is_cut_repeats_nothing_and_almost_nothing_is_unknown() {
    let stats = cut(Doubt::Unknown).await;
    assert!(stats.acked >= EVENTS / 2, "{stats:?}");
}

/// It remembers a batch for 1 s, instead of 10 s.
async fn forgetful_server() -> NatsServer {
    let config = r#"jetstream { limits { batch { timeout: "1s" } } }"#;
    NatsServer::builder().jetstream(true).config(config).start().await
}

/// Longer than nats-server remembers a batch.
async fn silence(doubt: Doubt) -> FastStats {
    let nats = forgetful_server().await;
    let proxy = Proxy::start(nats.url()).await;
    let connection = integration::connection(&proxy.url()).await;
    fast_stream(&connection, |spec| spec).await;
    let (bus, failed) = open(&connection, doubt, |builder| builder.deadline(LONG)).await;
    let publishing = publish(&bus, EVENTS);
    settled(&bus, EVENTS / 4).await;
    proxy.blackhole(Flow::Both, true);
    // sleep: as long as it takes the server to forget the batch, and to be sure of it
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.blackhole(Flow::Both, false);
    complete(&bus, publishing, EVENTS, doubt, failed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_ids_a_batch_that_is_forgotten_in_silence_goes_on_in_another_one() {
    let stats = silence(Doubt::WithIds).await;
    assert_eq!(stats.acked, EVENTS);
    assert!(stats.batches > 1, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ids_a_batch_that_is_forgotten_in_silence_repeats_nothing() {
    let stats = silence(Doubt::Unknown).await;
    assert!(stats.batches > 1, "{stats:?}");
}

/// Nothing is published for longer than nats-server remembers a batch: it is over long before, and nothing is in doubt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_pauses_for_longer_than_a_batch_is_remembered_loses_nothing() {
    let nats = forgetful_server().await;
    let connection = integration::connection(&nats.url()).await;
    fast_stream(&connection, |spec| spec).await;
    let (bus, mut failed) = open(&connection, Doubt::Unknown, |builder| builder).await;
    within(LIMIT, publish(&bus, 700)).await.expect("no panic");
    settled(&bus, 700).await;
    // sleep: as long as it takes the server to forget the batch, and to be sure of it
    tokio::time::sleep(Duration::from_secs(2)).await;
    within(LIMIT, publish(&bus, 700)).await.expect("no panic");
    within(LIMIT, bus.flush(LIMIT)).await.expect("all acked");
    assert!(failed.try_recv().is_err());
    let stats = bus.stats();
    assert_eq!((stats.acked, stats.retried), (1400, 0));
    assert_eq!(numbers(&connection, "S").await.len(), 1400);
}

/// Both kinds in one cluster: their leaders step down, and then the node dies that leads both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_change_repeat_nothing_and_with_ids_lose_nothing() {
    let mut cluster = within(LONG, Cluster::builder(3).jetstream(true).start()).await;
    let config = ConnectConfig::new(cluster.urls()).retain_servers_order();
    let connection = within(LIMIT, Connection::connect(config)).await.expect("connected");
    let (enough, is_enough) = watch::channel(false);
    let mut all = Vec::new();
    for (name, doubt) in [("S", Doubt::Unknown), ("IDS", Doubt::WithIds)] {
        stream_of(&connection, name, |spec| spec.replicas(3)).await;
        let (bus, failed) = open_to(&connection, name, doubt, |builder| builder.deadline(LONG)).await;
        let publishing = publish_until(&bus, name, is_enough.clone());
        all.push((name, doubt, bus, failed, publishing));
    }
    let go_on = async || {
        for (_, _, bus, ..) in &all {
            settled(bus, bus.stats().accepted + 1000).await;
        }
    };
    go_on().await;
    leaders::step_down(&connection, &["S", "IDS"]).await;
    go_on().await;
    let node = leaders::kill_leader(&mut cluster, &connection, &["S", "IDS"]).await;
    go_on().await;
    within(LONG, cluster.node_mut(node).restart()).await;
    enough.send_replace(true);
    for (name, doubt, bus, failed, publishing) in all {
        let events = within(LONG, publishing).await.expect("no panic");
        let publishing = tokio::spawn(async {});
        let stats = complete_in(name, &bus, publishing, events, doubt, failed).await;
        assert!(stats.batches > 1, "{stats:?}");
        assert!(doubt == Doubt::Unknown || stats.acked == events, "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_without_a_server_hands_everything_back() {
    let mut nats = NatsServer::builder().jetstream(true).start().await;
    let connection = integration::connection(&nats.url()).await;
    fast_stream(&connection, |spec| spec).await;
    let (bus, mut failed) = open(&connection, Doubt::Unknown, |builder| builder).await;
    nats.kill();
    let mut state = connection.state();
    within(LIMIT, state.wait_for(|state| !state.is_connected()))
        .await
        .expect("down");
    within(LIMIT, publish(&bus, 30)).await.expect("no panic");
    let undelivered = within(LIMIT, bus.close(Duration::from_millis(100)))
        .await
        .expect_err("given up");
    assert_eq!((undelivered.given_up.len(), undelivered.failed), (30, 30));
    for n in 0..30_u64 {
        let error = failed.try_recv().expect("told before the close returns");
        assert_eq!((error.kind(), error.may_be_stored()), (PublishErrorKind::Closed, false));
        assert_eq!(error.event().payload(), &n.to_string());
    }
}

/// Its peer reads nothing: it is up, and full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_fail_by_their_deadlines_on_a_connection_that_takes_nothing() {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let admin = integration::connection(&nats.url()).await;
    let proxy = Proxy::start(nats.url()).await;
    // Nothing else is to notice it.
    let config = ConnectConfig::new(proxy.url()).ping_interval(LONG);
    let connection = within(LIMIT, Connection::connect(config)).await.expect("connected");
    fast_stream(&admin, |spec| spec).await;
    let (bus, _failed) = open(&connection, Doubt::Unknown, |builder| {
        builder.deadline(Duration::from_secs(3)).window_bytes(64 << 20)
    })
    .await;
    let publisher = bus.clone();
    let publishing = tokio::spawn(async move {
        // More than all buffers on the way take.
        while publisher.enqueue(Event::new("s.x", vec![b'x'; 100_000])).await.is_ok() {}
    });
    settled(&bus, 2000).await;
    proxy.blackhole(Flow::ToServer, true);
    let before = bus.stats().failed;
    let stats = || std::future::ready(bus.stats());
    settles_where(LIMIT, stats, |stats: &FastStats| stats.failed >= before + 600).await;
    assert!(connection.state().borrow().is_connected(), "it was not noticed");
    publishing.abort();
}
