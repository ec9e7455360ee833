//! Servers that die and connections that break while events are published: nothing that was acked is lost, and nothing is
//! stored twice.

use std::collections::HashSet;
use std::time::Duration;

use integration::bus::{messages, stream};
use integration::{LIMIT, connection};
use natstream::eventbus::topology::{StreamSpec, Topology};
use natstream::eventbus::{BusStats, Dedup, Ordering};
use natstream::{Bus, ConnectConfig, Connection, Event, PublishErrorKind};
use testkit::{Cluster, NatsServer, Proxy, settles_where, within};
use tokio::sync::mpsc;

const EVENTS: u64 = 60_000;

/// A cluster needs some time to form and to elect on a busy machine.
const LONG: Duration = Duration::from_secs(90);

/// Publishes numbers to 20 subjects in the background.
fn publish(bus: &Bus, events: u64) -> tokio::task::JoinHandle<()> {
    let bus = bus.clone();
    tokio::spawn(async move {
        for n in 0..events {
            let event = Event::new(format!("s.{}", n % 20), n.to_string());
            bus.enqueue(event).await.expect("accepted");
        }
    })
}

/// Waits until so many events are acked.
async fn acked(bus: &Bus, events: u64) {
    let stats = || std::future::ready(bus.stats());
    settles_where(LONG, stats, |stats: &BusStats| {
        assert_eq!(stats.accepted, stats.acked + stats.failed + stats.pending as u64);
        stats.acked >= events
    })
    .await;
}

/// All were published and acked: each is there once, in strict mode in order.
async fn complete(bus: &Bus, publishing: tokio::task::JoinHandle<()>, events: u64, ordering: Ordering) {
    within(LONG, publishing).await.expect("no panic");
    within(LONG, bus.flush(LONG)).await.expect("all acked");
    let stats = bus.stats();
    assert_eq!((stats.accepted, stats.acked, stats.pending), (events, events, 0));
    let stored = messages(bus.connection(), "S").await;
    let distinct: HashSet<_> = stored.iter().map(|message| &message.payload).collect();
    assert_eq!((stored.len() as u64, distinct.len() as u64), (events, events));
    if ordering == Ordering::Strict {
        for lane in 0..20 {
            let subject = format!("s.{lane}");
            let own = stored.iter().filter(|message| message.subject == subject);
            let own: Vec<u64> = own.map(|message| message.payload.parse().expect("a number")).collect();
            assert!(own.is_sorted(), "`{subject}` keeps its order");
        }
    }
}

async fn killed(ordering: Ordering) {
    let events = if ordering == Ordering::Strict {
        EVENTS / 4
    } else {
        EVENTS
    };
    let mut nats = NatsServer::builder().jetstream(true).start().await;
    let connection = connection(&nats.url()).await;
    stream(&connection, StreamSpec::new("S", ["s.>"])).await;
    let bus = within(LIMIT, Bus::builder(connection).ordering(ordering).open())
        .await
        .expect("open");
    let publishing = publish(&bus, events);
    for part in 1..=3 {
        acked(&bus, events * part / 5).await;
        nats.kill();
        within(LIMIT, nats.restart()).await;
    }
    complete(&bus, publishing, events, ordering).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_restarted_loses_and_repeats_nothing() {
    killed(Ordering::Fast).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_order_survives_a_server_that_is_killed() {
    killed(Ordering::Strict).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_lose_and_repeat_nothing() {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let proxy = Proxy::start(nats.url()).await;
    let connection = connection(&proxy.url()).await;
    stream(&connection, StreamSpec::new("S", ["s.>"])).await;
    let bus = within(LIMIT, Bus::open(connection)).await.expect("open");
    let publishing = publish(&bus, EVENTS);
    for part in 1..=6 {
        acked(&bus, EVENTS * part / 8).await;
        let before = proxy.accepted();
        proxy.cut();
        within(LIMIT, proxy.connected(before + 1)).await;
    }
    complete(&bus, publishing, EVENTS, Ordering::Fast).await;
    assert!(bus.stats().retried > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ids_a_cut_hands_back_what_nobody_knows_of_and_stores_nothing_twice() {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let proxy = Proxy::start(nats.url()).await;
    let connection = connection(&proxy.url()).await;
    stream(&connection, StreamSpec::new("S", ["s.>"])).await;
    let (failures, mut failed) = mpsc::unbounded_channel();
    let bus = Bus::builder(connection)
        .dedup(Dedup::Off)
        .on_failure(move |error| drop(failures.send(error)));
    let bus = within(LIMIT, bus.open()).await.expect("open");
    let publishing = publish(&bus, EVENTS);
    for part in 1..=4 {
        acked(&bus, EVENTS * part / 8).await;
        let before = proxy.accepted();
        proxy.cut();
        within(LIMIT, proxy.connected(before + 1)).await;
    }
    within(LONG, publishing).await.expect("no panic");
    // It fails when events were under way at a cut.
    let _ = within(LONG, bus.flush(LONG)).await;
    let stats = bus.stats();
    assert_eq!((stats.accepted, stats.acked + stats.failed), (EVENTS, EVENTS));
    let mut unknown = HashSet::new();
    while let Ok(error) = failed.try_recv() {
        assert_eq!(error.kind(), PublishErrorKind::Unknown);
        assert!(error.may_be_stored());
        let payload = String::from_utf8(error.event().payload().to_vec()).expect("text");
        assert!(unknown.insert(payload), "each failure once");
    }
    assert_eq!(unknown.len() as u64, stats.failed);
    let stored = messages(bus.connection(), "S").await;
    let distinct: HashSet<_> = stored.iter().map(|message| message.payload.clone()).collect();
    assert_eq!(stored.len(), distinct.len(), "nothing twice");
    let lost = (0..EVENTS).map(|n| n.to_string()).filter(|n| !distinct.contains(n));
    assert!(
        lost.into_iter().all(|n| unknown.contains(&n)),
        "what is missing was handed back"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stays_away_makes_events_fail_by_their_deadlines() {
    let mut nats = NatsServer::builder().jetstream(true).start().await;
    let connection = connection(&nats.url()).await;
    stream(&connection, StreamSpec::new("S", ["s.>"])).await;
    let bus = Bus::builder(connection).window(10).deadline(Duration::from_millis(500));
    let bus = within(LIMIT, bus.open()).await.expect("open");
    nats.kill();
    let mut state = bus.connection().state();
    within(LIMIT, state.wait_for(|state| !state.is_connected()))
        .await
        .expect("down");
    let events = (0..30).map(|n| Event::new("s.x", n.to_string()));
    let report = within(LIMIT, bus.publish_batch(events)).await;
    assert_eq!(report.failed().count(), 30);
    for (_, error) in report.failed() {
        assert_eq!(
            (error.kind(), error.may_be_stored()),
            (PublishErrorKind::Timeout, false)
        );
    }
    within(LIMIT, nats.restart()).await;
    let late = Event::new("s.x", "30").deadline(LIMIT);
    within(LIMIT, bus.publish(late)).await.expect("the bus goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_are_killed_and_step_down_lose_and_repeat_nothing() {
    let mut cluster = within(LONG, Cluster::builder(3).jetstream(true).start()).await;
    let config = ConnectConfig::new(cluster.urls()).retain_servers_order();
    let connection = within(LIMIT, Connection::connect(config)).await.expect("connected");
    let topology = Topology::new(connection.clone());
    stream(&connection, StreamSpec::new("S", ["s.>"]).replicas(3)).await;
    let events = EVENTS / 3;
    let bus = within(LIMIT, Bus::builder(connection).deadline(LONG).open())
        .await
        .expect("open");
    let publishing = publish(&bus, events);
    acked(&bus, events / 5).await;
    let step_down = bus
        .connection()
        .nats()
        .request("$JS.API.STREAM.LEADER.STEPDOWN.S", "".into());
    within(LIMIT, step_down).await.expect("an answer");
    acked(&bus, events * 2 / 5).await;
    let leader = within(LONG, topology.info("S"))
        .await
        .expect("info")
        .leader
        .expect("a leader");
    let index: usize = leader.trim_start_matches('n').parse().expect("a node");
    cluster.node_mut(index).kill();
    acked(&bus, events * 4 / 5).await;
    within(LONG, cluster.node_mut(index).restart()).await;
    complete(&bus, publishing, events, Ordering::Fast).await;
}
