//! What watchers see.

use std::time::Duration;

use futures_util::StreamExt as _;
use integration::LIMIT;
use natstream::eventbus::kv::{Buckets, Change, KvErrorKind, KvSpec, Operation};
use testkit::within;

use super::{bucket, bytes, create, current, entry, put};

#[tokio::test]
async fn what_there_is_comes_first() {
    let (_nats, kv) = bucket(KvSpec::new("b").history(3)).await;
    let mut empty = within(LIMIT, kv.watch(">")).await.expect("a watch");
    current(&mut empty).await;
    put(&kv, "a", "1").await;
    put(&kv, "a", "2").await;
    put(&kv, "x.y", "3").await;
    within(LIMIT, kv.delete("x.y")).await.expect("deleted");
    let mut watch = within(LIMIT, kv.watch(">")).await.expect("a watch");
    let first = entry(&mut watch).await;
    assert_eq!((first.key.as_str(), first.value), ("a", Some(bytes("2"))));
    let second = entry(&mut watch).await;
    assert_eq!((second.key.as_str(), second.operation), ("x.y", Operation::Delete));
    current(&mut watch).await;
    put(&kv, "a", "4").await;
    assert_eq!(entry(&mut watch).await.value, Some(bytes("4")));
    for value in ["1", "2"] {
        assert_eq!(entry(&mut empty).await.value, Some(bytes(value)));
    }
}

#[tokio::test]
async fn only_what_comes_from_now_on() {
    let (_nats, kv) = bucket(KvSpec::new("b")).await;
    put(&kv, "a.b", "1").await;
    let mut watch = within(LIMIT, kv.watch_changes("a.*")).await.expect("a watch");
    put(&kv, "a.b", "2").await;
    put(&kv, "b.b", "no").await;
    put(&kv, "a.c", "3").await;
    current(&mut watch).await;
    assert_eq!(entry(&mut watch).await.value, Some(bytes("2")));
    assert_eq!(entry(&mut watch).await.value, Some(bytes("3")));
}

#[tokio::test]
async fn all_that_there_was_since_a_revision() {
    let (_nats, kv) = bucket(KvSpec::new("b").history(10)).await;
    put(&kv, "a", "1").await;
    let second = put(&kv, "a", "2").await;
    put(&kv, "a", "3").await;
    let mut watch = within(LIMIT, kv.watch_from("a", second)).await.expect("a watch");
    assert_eq!(entry(&mut watch).await.value, Some(bytes("2")));
    assert_eq!(entry(&mut watch).await.value, Some(bytes("3")));
    current(&mut watch).await;
}

#[tokio::test]
async fn what_cannot_be_read_ends_nothing() {
    let (_nats, kv) = bucket(KvSpec::new("b")).await;
    put(&kv, "a", "1").await;
    put(&kv, "b", "no number").await;
    put(&kv, "c", "3").await;
    let watch = within(LIMIT, kv.typed::<u32>().watch(">")).await.expect("a watch");
    let mut changes = Box::pin(watch.into_stream());
    let mut seen = Vec::new();
    loop {
        match within(LIMIT, changes.next()).await.expect("no end") {
            Ok(Change::Entry(entry)) => seen.push(entry.value),
            Ok(_) => break,
            Err(error) => {
                assert_eq!((error.kind(), error.key()), (KvErrorKind::Decode, Some("b")));
                seen.push(None);
            }
        }
    }
    assert_eq!(seen, [Some(1), None, Some(3)]);
}

#[tokio::test]
async fn a_value_that_goes_by_age_is_seen() {
    let (_nats, kv) = bucket(KvSpec::new("b").limit_markers(Duration::from_secs(60))).await;
    let mut watch = within(LIMIT, kv.watch_changes(">")).await.expect("a watch");
    current(&mut watch).await;
    let ttl = Duration::from_millis(500);
    within(LIMIT, kv.create_with_ttl("a", bytes("1"), ttl))
        .await
        .expect("created");
    assert_eq!(entry(&mut watch).await.operation, Operation::Put);
    assert_eq!(entry(&mut watch).await.operation, Operation::Expire);
    assert_eq!(within(LIMIT, kv.get("a")).await.expect("read"), None);
    within(LIMIT, kv.create_value("a", bytes("2")))
        .await
        .expect("created again");
}

#[tokio::test]
async fn a_bucket_that_was_made_again_is_another_one() {
    let (nats, kv) = bucket(KvSpec::new("b")).await;
    put(&kv, "a", "1").await;
    let mut watch = within(LIMIT, kv.watch(">")).await.expect("a watch");
    entry(&mut watch).await;
    current(&mut watch).await;
    let buckets = Buckets::new(kv.connection().clone());
    within(LIMIT, buckets.delete("b")).await.expect("deleted");
    create(&nats, &KvSpec::new("b")).await;
    let error = within(LIMIT, watch.next()).await.expect_err("another one");
    assert_eq!(error.kind(), KvErrorKind::Replaced);
}

#[tokio::test]
async fn many_keys_are_listed() {
    let (_nats, kv) = bucket(KvSpec::new("b").history(2)).await;
    for n in 0..3000 {
        put(&kv, &format!("k.{n:04}"), "x").await;
    }
    let keys = within(LIMIT, kv.keys()).await.expect("read");
    assert_eq!(
        (keys.len(), keys[0].as_str(), keys[2999].as_str()),
        (3000, "k.0000", "k.2999")
    );
    assert_eq!(
        within(LIMIT, kv.entries("k.1*")).await.expect_err("no filter").kind(),
        KvErrorKind::InvalidKey
    );
    assert_eq!(within(LIMIT, kv.entries("*.0007")).await.expect("read").len(), 1);
}
