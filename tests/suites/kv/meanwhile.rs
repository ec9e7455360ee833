//! Lists and watches that begin while others put and delete.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use integration::LIMIT;
use natstream::Kv;
use natstream::eventbus::kv::{Change, KvSpec, Watch};
use testkit::within;

use super::{bucket, bytes, create, entry, put};

/// More than a watch asks for at once.
const KEYS: usize = 3000;

async fn put_keys(kv: &Kv) {
    let keys = futures_util::stream::iter((0..KEYS).map(|n| format!("k{n:04}")));
    let put = keys.map(|key| async move { kv.put(&key, bytes("1")).await.map(drop) });
    let put = put.buffer_unordered(256).try_collect::<()>();
    within(LIMIT, put).await.expect("put");
}

/// The keys that come until all was given that there was.
async fn keys_there(watch: &mut Watch<Bytes>) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    loop {
        match within(LIMIT, watch.next()).await.expect("a change") {
            Change::Entry(entry) => keys.insert(entry.key),
            _ => return keys,
        };
    }
}

fn are_all_there(keys: &BTreeSet<String>) {
    let missing: Vec<String> = (0..KEYS)
        .map(|n| format!("k{n:04}"))
        .filter(|key| !keys.contains(key))
        .collect();
    assert!(
        missing.is_empty(),
        "{} are missing: {:?}",
        missing.len(),
        missing.first()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_get_another_value_meanwhile_are_listed() {
    for history in [1, 3] {
        let (nats, kv) = bucket(KvSpec::new("b").history(history)).await;
        put_keys(&kv).await;
        let is_over = Arc::new(AtomicBool::new(false));
        let own = create(&nats, &KvSpec::new("b").history(history)).await;
        let putting = tokio::spawn({
            let is_over = is_over.clone();
            async move {
                // Those that are listed last first.
                for n in (0..KEYS).rev().cycle() {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    own.put(&format!("k{n:04}"), bytes("2")).await.expect("put");
                }
            }
        });
        for _ in 0..5 {
            are_all_there(&within(LIMIT, kv.keys()).await.expect("read").into_iter().collect());
            let history = within(LIMIT, kv.history("k2999")).await.expect("read");
            assert!(!history.is_empty(), "it has always had a value");
        }
        is_over.store(true, Ordering::Relaxed);
        within(LIMIT, putting).await.expect("no panic");
    }
}

/// New keys are no substitute for those that there were.
#[tokio::test]
async fn a_watch_is_current_when_all_keys_were_given() {
    for history in [1, 3] {
        let (_nats, kv) = bucket(KvSpec::new("b").history(history)).await;
        put_keys(&kv).await;
        let mut watch = within(LIMIT, kv.watch(">")).await.expect("a watch");
        let mut keys = BTreeSet::from([entry(&mut watch).await.key]);
        for n in 0..50 {
            put(&kv, &format!("new{n}"), "1").await;
        }
        for _ in 0..history {
            put(&kv, "k2999", "2").await;
        }
        keys.append(&mut keys_there(&mut watch).await);
        are_all_there(&keys);
    }
}

/// nats-server takes each revision that goes off what it says is left, and has counted only the last one of each key.
#[tokio::test]
async fn keys_that_are_replaced_more_than_once_hide_no_others() {
    let (_nats, kv) = bucket(KvSpec::new("b").history(2)).await;
    put_keys(&kv).await;
    let replace = async || {
        for n in 0..200 {
            put(&kv, &format!("x{:02}", n / 2), "1").await;
        }
    };
    replace().await;
    let mut watch = within(LIMIT, kv.watch(">")).await.expect("a watch");
    let mut keys = BTreeSet::from([entry(&mut watch).await.key]);
    replace().await;
    keys.append(&mut keys_there(&mut watch).await);
    are_all_there(&keys);
    assert_eq!(keys.len(), KEYS + 100);
}

/// What nats-server has sent to the only consumer of the bucket, when nobody asks it for more.
async fn sent(kv: &Kv) -> u64 {
    let context = async_nats::jetstream::new(kv.connection().nats().clone());
    let stream = within(LIMIT, context.get_stream("KV_b")).await.expect("the stream");
    let look = async || {
        let info = within(LIMIT, stream.consumers().next()).await.expect("one");
        let info = info.expect("its state");
        (info.num_waiting == 0).then_some(info.delivered.consumer_sequence)
    };
    let sent = testkit::settles_where(LIMIT, look, Option::is_some).await;
    sent.unwrap_or_default()
}

/// The first is taken, and then nothing.
#[tokio::test]
async fn a_watch_that_is_not_read_is_not_sent_much() {
    let (_nats, kv) = bucket(KvSpec::new("b")).await;
    put_keys(&kv).await;
    let mut watch = within(LIMIT, kv.watch(">")).await.expect("a watch");
    entry(&mut watch).await;
    let small = sent(&kv).await;
    assert!((512..=1024).contains(&small), "{small} of 3000");
    drop(watch);

    let (_nats, kv) = bucket(KvSpec::new("b")).await;
    for n in 0..300 {
        put(&kv, &format!("k{n}"), &"x".repeat(64 << 10)).await;
    }
    let mut watch = within(LIMIT, kv.watch(">")).await.expect("a watch");
    entry(&mut watch).await;
    let large = sent(&kv).await;
    assert!((32..=128).contains(&large), "{large} of 300, of 64 KiB each");
}
