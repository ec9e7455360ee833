//! Connections that break and servers that die: watchers miss nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use integration::{LIMIT, connection};
use natstream::Kv;
use natstream::eventbus::kv::{Change, KvSpec, Watch};
use testkit::{NatsServer, Proxy, within};

use super::{bytes, create};

const KEYS: u64 = 8;
const ROUNDS: u64 = 60;

/// Puts numbers that count up, to keys in turn: as many as the bucket keeps.
async fn put_all(kv: Kv, from: u64, until: u64) {
    for n in from * KEYS..until * KEYS {
        let value = bytes((n / KEYS).to_string());
        kv.put(&format!("k{}", n % KEYS), value).await.expect("put");
    }
}

/// Watches until all keys have the last value; returns what came of each.
async fn watch_all(mut watch: Watch<Bytes>) -> BTreeMap<String, Vec<u64>> {
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut last = 0;
    loop {
        if let Change::Entry(entry) = watch.next().await.expect("it survives") {
            assert!(entry.revision > last, "in order, each once");
            last = entry.revision;
            let value = entry.value.expect("a value");
            let value = std::str::from_utf8(&value).expect("text").parse().expect("a number");
            seen.entry(entry.key).or_default().push(value);
            let is_done = |values: &Vec<u64>| values.last() == Some(&(ROUNDS - 1));
            if seen.len() as u64 == KEYS && seen.values().all(is_done) {
                return seen;
            }
        }
    }
}

fn nothing_is_missed(seen: &BTreeMap<String, Vec<u64>>) {
    for (key, values) in seen {
        assert_eq!(values, &(0..ROUNDS).collect::<Vec<_>>(), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_survives_connections_that_are_cut() {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let direct = create(&nats, &KvSpec::new("b").history(64)).await;
    let proxy = Proxy::start(nats.url()).await;
    let far = connection(&proxy.url()).await;
    let far = within(LIMIT, Kv::open(far, "b")).await.expect("open");
    let watch = within(LIMIT, far.watch(">")).await.expect("a watch");
    let watching = tokio::spawn(watch_all(watch));
    for part in 0..6 {
        let (from, until) = (part * ROUNDS / 6, (part + 1) * ROUNDS / 6);
        let putting = tokio::spawn(put_all(direct.clone(), from, until));
        let before = proxy.accepted();
        proxy.cut();
        within(LIMIT, proxy.connected(before + 1)).await;
        within(LIMIT, putting).await.expect("no panic");
    }
    nothing_is_missed(&within(LIMIT, watching).await.expect("no panic"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_and_its_writer_survive_a_server_that_is_killed() {
    let mut nats = NatsServer::builder().jetstream(true).start().await;
    let writer = create(&nats, &KvSpec::new("b").history(64)).await;
    let reader = create(&nats, &KvSpec::new("b").history(64)).await;
    let watch = within(LIMIT, reader.watch(">")).await.expect("a watch");
    let watching = tokio::spawn(watch_all(watch));
    for part in 0..3 {
        let (from, until) = (part * ROUNDS / 3, (part + 1) * ROUNDS / 3);
        within(LIMIT, put_all(writer.clone(), from, from + 1)).await;
        let putting = tokio::spawn(put_all(writer.clone(), from + 1, until));
        nats.kill();
        within(LIMIT, nats.restart()).await;
        within(LIMIT, putting).await.expect("no panic");
    }
    nothing_is_missed(&within(LIMIT, watching).await.expect("no panic"));
}

/// Nothing was given yet when the connection is lost: what is put meanwhile comes all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_changes_that_has_seen_none_misses_none() {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let direct = create(&nats, &KvSpec::new("b").history(64)).await;
    super::put(&direct, "a", "before").await;
    let proxy = Proxy::start(nats.url()).await;
    let far = connection(&proxy.url()).await;
    let far = within(LIMIT, Kv::open(far, "b")).await.expect("open");
    let mut watch = within(LIMIT, far.watch_changes(">")).await.expect("a watch");
    super::current(&mut watch).await;
    let before = proxy.accepted();
    proxy.refuse(true);
    proxy.cut();
    super::put(&direct, "a", "meanwhile").await;
    proxy.refuse(false);
    within(LIMIT, proxy.connected(before + 1)).await;
    assert_eq!(super::entry(&mut watch).await.value, Some(bytes("meanwhile")));
}
