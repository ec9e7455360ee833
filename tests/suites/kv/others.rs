//! Buckets of async-nats's own, and ours in its hands.

use async_nats::jetstream::{self, kv};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use integration::LIMIT;
use natstream::Kv;
use natstream::eventbus::kv::{KvErrorKind, KvSpec, Operation};
use testkit::{NatsServer, settles, within};

use super::{bucket, bytes, current, entry, put};

fn theirs(kv: &Kv) -> jetstream::Context {
    jetstream::new(kv.connection().nats().clone())
}

#[tokio::test]
async fn they_read_ours() {
    let (_nats, ours) = bucket(KvSpec::new("b").history(5)).await;
    let theirs = within(LIMIT, theirs(&ours).get_key_value("b"))
        .await
        .expect("their bucket");
    let first = put(&ours, "a.b", "1").await;
    put(&ours, "c", "2").await;
    let read = within(LIMIT, theirs.entry("a.b")).await.expect("read").expect("there");
    assert_eq!(
        (read.value, read.revision, read.operation),
        (bytes("1"), first, kv::Operation::Put)
    );
    within(LIMIT, theirs.update("a.b", bytes("3"), first))
        .await
        .expect("updated");
    let error = within(LIMIT, ours.update("a.b", bytes("x"), first))
        .await
        .expect_err("changed");
    assert_eq!(error.kind(), KvErrorKind::WrongRevision);
    within(LIMIT, ours.delete("a.b")).await.expect("deleted");
    assert_eq!(within(LIMIT, theirs.get("a.b")).await.expect("read"), None);
    let history: Vec<kv::Entry> = within(LIMIT, theirs.history("a.b").await.expect("history").try_collect())
        .await
        .expect("read");
    let operations: Vec<kv::Operation> = history.into_iter().map(|entry| entry.operation).collect();
    assert_eq!(
        operations,
        [kv::Operation::Put, kv::Operation::Put, kv::Operation::Delete]
    );
    within(LIMIT, ours.purge("a.b")).await.expect("purged");
    let entry = within(LIMIT, theirs.entry("a.b"))
        .await
        .expect("read")
        .expect("a marker");
    assert_eq!(entry.operation, kv::Operation::Purge);
    let keys: Vec<String> = within(LIMIT, theirs.keys().await.expect("keys").try_collect())
        .await
        .expect("read");
    assert_eq!(keys, ["c"]);
    within(LIMIT, theirs.create("a.b", bytes("4")))
        .await
        .expect("created again");
}

#[tokio::test]
async fn we_read_theirs() {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let connection = integration::connection(&nats.url()).await;
    let context = jetstream::new(connection.nats().clone());
    let config = kv::Config {
        bucket: "b".to_owned(),
        history: 5,
        ..Default::default()
    };
    let theirs = within(LIMIT, context.create_key_value(config))
        .await
        .expect("their bucket");
    // The same declaration is no difference.
    let ours = within(LIMIT, Kv::create(connection, &KvSpec::new("b").history(5)))
        .await
        .expect("the same");
    let first = within(LIMIT, theirs.put("a", bytes("1"))).await.expect("put");
    let read = within(LIMIT, ours.entry("a")).await.expect("read").expect("there");
    assert_eq!((read.value, read.revision), (Some(bytes("1")), first));
    let mut watch = within(LIMIT, ours.watch(">")).await.expect("a watch");
    assert_eq!(entry(&mut watch).await.revision, first);
    current(&mut watch).await;
    within(LIMIT, theirs.delete("a")).await.expect("deleted");
    assert_eq!(entry(&mut watch).await.operation, Operation::Delete);
    within(LIMIT, theirs.purge("a")).await.expect("purged");
    assert_eq!(entry(&mut watch).await.operation, Operation::Purge);
    assert_eq!(within(LIMIT, ours.get("a")).await.expect("read"), None::<Bytes>);
    within(LIMIT, ours.create_value("a", bytes("2")))
        .await
        .expect("created");
    let mut watched = within(LIMIT, theirs.watch_with_history(">"))
        .await
        .expect("their watch");
    let seen = within(LIMIT, watched.next()).await.expect("one").expect("readable");
    assert_eq!((seen.operation, seen.value), (kv::Operation::Put, bytes("2")));
}

/// A mirror has the keys of the bucket that it mirrors, and what is put goes there.
#[tokio::test]
async fn mirrors_that_others_have_made_are_read() {
    let (_nats, origin) = bucket(KvSpec::new("b").history(3)).await;
    let config = kv::Config {
        bucket: "m".to_owned(),
        history: 3,
        mirror: Some(jetstream::stream::Source {
            name: "b".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    within(LIMIT, theirs(&origin).create_key_value(config))
        .await
        .expect("a mirror");
    let mirror = within(LIMIT, Kv::open(origin.connection().clone(), "m"))
        .await
        .expect("open");
    let first = put(&origin, "a", "1").await;
    let read = async || within(LIMIT, mirror.get("a")).await.expect("read");
    settles(LIMIT, read, Some(bytes("1"))).await;
    assert_eq!(within(LIMIT, mirror.keys()).await.expect("read"), ["a"]);
    let mut watch = within(LIMIT, mirror.watch(">")).await.expect("a watch");
    let seen = entry(&mut watch).await;
    assert_eq!((seen.key.as_str(), seen.revision), ("a", first));
    current(&mut watch).await;
    let second = within(LIMIT, mirror.update("a", bytes("2"), first))
        .await
        .expect("updated");
    assert_eq!(entry(&mut watch).await.revision, second);
    let read = within(LIMIT, origin.get("a")).await.expect("read");
    assert_eq!(read, Some(bytes("2")));
}
