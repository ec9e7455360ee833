//! An outbox at each level. It delivers through the window, which has suites of its own.

use futures_util::future::join_all;
use integration::bus::{numbers, stream};
use integration::{LIMIT, connection, leaders};
use natstream::eventbus::topology::{Discard, StreamSpec};
use natstream::eventbus::{Ordering, Outbox, SpoolLevel};
use natstream::{ConnectConfig, Connection, Event};
use tempfile::TempDir;
use testkit::{Cluster, NatsServer, settles_where, within};

use super::LONG;

const LEVELS: [SpoolLevel; 2] = [SpoolLevel::Process, SpoolLevel::Power];

async fn open(level: SpoolLevel) -> (Outbox, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let builder = Outbox::builder(dir.path()).level(level).ordering(Ordering::Strict);
    (within(LIMIT, builder.open()).await.expect("open"), dir)
}

async fn fill(outbox: &Outbox, events: impl IntoIterator<Item = Event>) {
    for event in events {
        within(LIMIT, outbox.enqueue(event)).await.expect("accepted");
    }
}

async fn server(jetstream: &str) -> (NatsServer, Connection) {
    let config = format!("jetstream {{ {jetstream} }}");
    let nats = NatsServer::builder().jetstream(true).config(config).start().await;
    let connection = connection(&nats.url()).await;
    (nats, connection)
}

/// Waits until so many are acked.
async fn acked(outbox: &Outbox, events: u64) {
    let acked = || std::future::ready(outbox.stats().acked);
    settles_where(LONG, acked, |acked| *acked >= events).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outboxes_outlive_their_leaders() {
    const LANES: u64 = 20;
    const EVENTS: u64 = 4000;
    let mut cluster = within(LONG, Cluster::builder(3).jetstream(true).start()).await;
    let config = ConnectConfig::new(cluster.urls()).retain_servers_order();
    let connection = within(LIMIT, Connection::connect(config)).await.expect("connected");
    let streams = ["PROCESS", "POWER"];
    let mut all = Vec::new();
    for (level, name) in LEVELS.into_iter().zip(streams) {
        stream(&connection, StreamSpec::new(name, [format!("{name}.>")]).replicas(3)).await;
        let (outbox, dir) = open(level).await;
        all.push((name, outbox, dir));
    }
    for (name, outbox, _) in &all {
        // All of them are accepted before the first is delivered; many share a sync.
        let lane = async |lane: u64| {
            let numbers = (lane..EVENTS).step_by(LANES as usize);
            fill(
                outbox,
                numbers.map(|n| Event::new(format!("{name}.{lane}"), n.to_string())),
            )
            .await;
        };
        within(LONG, join_all((0..LANES).map(lane))).await;
        outbox.deliver_by(connection.clone());
    }
    for (_, outbox, _) in &all {
        acked(outbox, EVENTS / 20).await;
    }
    leaders::step_down(&connection, &streams).await;
    for (_, outbox, _) in &all {
        acked(outbox, EVENTS / 10).await;
    }
    let node = leaders::kill_leader(&mut cluster, &connection, &streams).await;
    within(LONG, cluster.node_mut(node).restart()).await;
    for (name, outbox, _) in &all {
        within(LONG, outbox.flush(LONG)).await.expect("all delivered");
        let stored = numbers(&connection, name).await;
        for lane in 0..LANES {
            let own = stored.iter().copied().filter(|n| n % LANES == lane);
            let expected = (lane..EVENTS).step_by(LANES as usize);
            assert!(own.eq(expected), "{name}: each once, and a subject keeps its order");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_is_told_of_ids_that_are_known() {
    let (_nats, connection) = server("").await;
    stream(&connection, StreamSpec::new("S", ["s"])).await;
    for level in LEVELS {
        let (outbox, _dir) = open(level).await;
        outbox.deliver_by(connection.clone());
        fill(
            &outbox,
            (0..20).map(|n| Event::new("s", n.to_string()).message_id(format!("id-{n}"))),
        )
        .await;
        within(LIMIT, outbox.flush(LIMIT)).await.expect("all acked");
        assert_eq!(outbox.stats().rejected, 0);
    }
    assert!(numbers(&connection, "S").await.into_iter().eq(0..20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_tries_again_when_the_queue_is_full() {
    const LANES: u64 = 500;
    const EVENTS: u64 = 3000;
    for level in LEVELS {
        let (_nats, connection) = server("max_buffered_msgs: 20").await;
        stream(&connection, StreamSpec::new("S", ["s.>"])).await;
        let (outbox, _dir) = open(level).await;
        let lane = async |lane: u64| {
            let numbers = (lane..EVENTS).step_by(LANES as usize);
            fill(&outbox, numbers.map(|n| Event::new(format!("s.{lane}"), n.to_string()))).await;
        };
        within(LONG, join_all((0..LANES).map(lane))).await;
        outbox.deliver_by(connection.clone());
        within(LONG, outbox.flush(LONG)).await.expect("all acked");
        let stored = numbers(&connection, "S").await;
        assert_eq!(stored.len() as u64, EVENTS);
        for lane in 0..LANES {
            let own = stored.iter().copied().filter(|n| n % LANES == lane);
            let expected = (lane..EVENTS).step_by(LANES as usize);
            assert!(own.eq(expected), "{level:?}: each once, and a subject keeps its order");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_keeps_what_a_full_stream_does_not_take() {
    let (_nats, connection) = server("").await;
    for (level, name) in LEVELS.into_iter().zip(["PROCESS", "POWER"]) {
        stream(
            &connection,
            StreamSpec::new(name, [name]).max_messages(5).discard(Discard::New),
        )
        .await;
        let (outbox, _dir) = open(level).await;
        outbox.deliver_by(connection.clone());
        fill(&outbox, (0..10).map(|n| Event::new(name, n.to_string()))).await;
        acked(&outbox, 5).await;
        let context = async_nats::jetstream::new(connection.nats().clone());
        let stored = within(LIMIT, context.get_stream(name)).await.expect("the stream");
        within(LIMIT, stored.purge()).await.expect("emptied");
        // One of the older ones may rest.
        fill(&outbox, (10..15).map(|n| Event::new(name, n.to_string()))).await;
        acked(&outbox, 10).await;
        assert!(
            numbers(&connection, name).await.into_iter().eq(5..10),
            "each once, in order"
        );
        within(LIMIT, stored.purge()).await.expect("emptied");
        within(LIMIT, outbox.flush(LIMIT)).await.expect("all acked");
        assert_eq!(outbox.stats().rejected, 0);
        assert!(
            numbers(&connection, name).await.into_iter().eq(10..15),
            "each once, in order"
        );
    }
}
