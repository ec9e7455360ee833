//! Servers that die, leaders that change, producers that go, and messages that are lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::HeaderMap;
use integration::leaders;
use natstream::ConnectConfig;
use testkit::{Cluster, Proxy, settles_where};

use super::*;

const EVENTS: usize = 10;

/// What was said of each batch: stored, certainly not stored, or neither.
type Said = HashMap<String, Option<bool>>;

/// Commits batches in eight tasks until `batches` are settled, and hears what becomes of each.
fn commit(bus: &AtomicBus, batches: u64, settled: &Arc<AtomicU64>) -> Vec<tokio::task::JoinHandle<Said>> {
    let next = Arc::new(AtomicU64::new(0));
    let task = |_| {
        let (bus, next, settled) = (bus.clone(), next.clone(), settled.clone());
        tokio::spawn(async move {
            let mut said = Said::new();
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= batches {
                    return said;
                }
                let name = format!("b{number}");
                let outcome = bus.commit(batch(&name, EVENTS)).await;
                let truth = match &outcome {
                    Ok(_) => Some(true),
                    Err(error) if error.may_be_stored() => None,
                    Err(_) => Some(false),
                };
                said.insert(name, truth);
                settled.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    (0..8).map(task).collect()
}

async fn reached(settled: &AtomicU64, batches: u64) {
    let count = || std::future::ready(settled.load(Ordering::SeqCst));
    settles_where(LONG, count, |count| *count >= batches).await;
}

/// Each batch is there in one piece, once, or not at all; and what was said of it is true. How many are stored.
async fn check(connection: &Connection, tasks: Vec<tokio::task::JoinHandle<Said>>) -> usize {
    let mut said = Said::new();
    for task in tasks {
        said.extend(within(LONG, task).await.expect("no panic"));
    }
    let stored = payloads(connection).await;
    assert_eq!(stored.len() % EVENTS, 0);
    let mut pieces: HashMap<String, usize> = HashMap::new();
    for piece in stored.chunks(EVENTS) {
        let name = piece[0].split(' ').next().expect("a name");
        assert_eq!(piece, expected(name, EVENTS), "in one piece and in order");
        *pieces.entry(name.to_owned()).or_default() += 1;
    }
    for (name, truth) in &said {
        let copies = pieces.get(name).copied().unwrap_or(0);
        match truth {
            Some(true) => assert_eq!(copies, 1, "`{name}` was acked"),
            Some(false) => assert_eq!(copies, 0, "`{name}` certainly was not stored"),
            None => assert!(copies <= 1, "`{name}` is stored {copies} times"),
        }
    }
    pieces.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_leaves_whole_batches_or_none() {
    let (mut nats, connection) = server("").await;
    atomic_stream(&connection, |spec| spec).await;
    let bus = open(&connection, |builder| builder.deadline(LONG)).await;
    let settled = Arc::new(AtomicU64::new(0));
    let tasks = commit(&bus, 400, &settled);
    for part in 1..=3 {
        reached(&settled, part * 80).await;
        nats.kill();
        within(LIMIT, nats.restart()).await;
    }
    assert_eq!(
        check(&connection, tasks).await,
        400,
        "each was sent until it was stored"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_leave_whole_batches_or_none() {
    let (nats, admin) = server("").await;
    atomic_stream(&admin, |spec| spec).await;
    let proxy = Proxy::start(nats.url()).await;
    let connection = integration::connection(&proxy.url()).await;
    let bus = open(&connection, |builder| builder.deadline(LONG)).await;
    let settled = Arc::new(AtomicU64::new(0));
    let tasks = commit(&bus, 400, &settled);
    for part in 1..=6 {
        reached(&settled, part * 50).await;
        let before = proxy.accepted();
        proxy.cut();
        within(LIMIT, proxy.connected(before + 1)).await;
    }
    assert_eq!(check(&admin, tasks).await, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_change_leave_whole_batches_or_none() {
    let mut cluster = within(LONG, Cluster::builder(3).jetstream(true).start()).await;
    let config = ConnectConfig::new(cluster.urls()).retain_servers_order();
    let connection = within(LIMIT, Connection::connect(config)).await.expect("connected");
    atomic_stream(&connection, |spec| spec.replicas(3)).await;
    let bus = open(&connection, |builder| builder.deadline(LONG)).await;
    let settled = Arc::new(AtomicU64::new(0));
    let tasks = commit(&bus, 600, &settled);
    reached(&settled, 100).await;
    leaders::step_down(&connection, &["S"]).await;
    reached(&settled, 250).await;
    let node = leaders::kill_leader(&mut cluster, &connection, &["S"]).await;
    reached(&settled, 450).await;
    within(LONG, cluster.node_mut(node).restart()).await;
    assert_eq!(check(&connection, tasks).await, 600);
}

/// What a producer leaves behind that is killed before its commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_without_its_commit_is_never_stored() {
    let (_nats, connection) = server("").await;
    atomic_stream(&connection, |spec| spec).await;
    let producer = connection.nats();
    for sequence in 1..=3_u64 {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Batch-Id", "half");
        headers.insert("Nats-Batch-Sequence", sequence.to_string());
        within(LIMIT, producer.publish_with_headers("s.x", headers, "half".into()))
            .await
            .expect("published");
    }
    let bus = open(&connection, |builder| builder).await;
    within(LIMIT, bus.commit(batch("whole", 4))).await.expect("stored");
    assert_eq!(payloads(&connection).await, expected("whole", 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_busy_with_others_is_an_error_at_the_deadline() {
    let (_nats, connection) = server("limits { batch { max_inflight_per_stream: 1, timeout: \"60s\" } }").await;
    atomic_stream(&connection, |spec| spec).await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Batch-Id", "other");
    headers.insert("Nats-Batch-Sequence", "1");
    let first = connection.nats().request_with_headers("s.x", headers, "other".into());
    within(LIMIT, first).await.expect("its place is taken");
    let bus = open(&connection, |builder| builder.deadline(Duration::from_secs(1))).await;
    let error = within(LIMIT, bus.commit(batch("b", 3))).await.expect_err("no place");
    assert_eq!(
        (error.kind(), error.may_be_stored()),
        (AtomicErrorKind::TooManyBatches, false)
    );
    assert!(error.attempts() > 1);
}

/// Messages without a reply are dropped in silence when the stream's queue is full: the commit says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_lost_on_the_way_leave_nothing() {
    let (_nats, connection) = server("max_buffered_msgs: 20").await;
    atomic_stream(&connection, |spec| spec).await;
    let bus = open(&connection, |builder| builder.deadline(Duration::from_secs(2))).await;
    let mut told = HashMap::new();
    for n in 0..3 {
        let name = format!("b{n}");
        let outcome = within(LIMIT, bus.commit(batch(&name, 1000))).await;
        if let Err(error) = &outcome {
            assert_eq!(error.kind(), AtomicErrorKind::Timeout);
        }
        told.insert(name, outcome.map_err(|error| error.may_be_stored()));
    }
    let stored = payloads(&connection).await;
    for (name, outcome) in told {
        let has = stored.iter().filter(|payload| payload.starts_with(&name)).count();
        match outcome {
            Ok(_) => assert_eq!(has, 1000, "{name}"),
            Err(false) => assert_eq!(has, 0, "{name}"),
            Err(true) => assert!(has == 0 || has == 1000, "{name}: {has}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stays_away_is_an_error_at_the_deadline_and_nothing_is_stored() {
    let (mut nats, connection) = server("").await;
    atomic_stream(&connection, |spec| spec).await;
    let bus = open(&connection, |builder| builder.deadline(Duration::from_secs(1))).await;
    nats.kill();
    let mut state = connection.state();
    within(LIMIT, state.wait_for(|state| !state.is_connected()))
        .await
        .expect("down");
    let error = within(LIMIT, bus.commit(batch("b", 3)))
        .await
        .expect_err("nobody there");
    assert_eq!((error.kind(), error.may_be_stored()), (AtomicErrorKind::Timeout, false));
    within(LIMIT, nats.restart()).await;
    within(LIMIT, state.wait_for(|state| state.is_connected()))
        .await
        .expect("up");
    within(LIMIT, bus.commit(error.into_batch())).await.expect("stored");
    assert_eq!(payloads(&connection).await, expected("b", 3));
}
