//! Single keys.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use integration::{LIMIT, connection};
use natstream::Kv;
use natstream::eventbus::kv::{Buckets, KvErrorKind, KvSpec, Operation};
use natstream::eventbus::topology::Changes;
use testkit::{Proxy, settles_where, within};

use super::{bucket, bytes, create, put};

#[tokio::test]
async fn values_are_put_read_and_deleted() {
    let (_nats, kv) = bucket(KvSpec::new("b").history(5)).await;
    assert_eq!(within(LIMIT, kv.get("a")).await.expect("read"), None);
    assert_eq!(within(LIMIT, kv.history("a")).await.expect("read"), []);
    assert_eq!(within(LIMIT, kv.keys()).await.expect("read"), Vec::<String>::new());
    let first = put(&kv, "a", "1").await;
    let second = put(&kv, "a", "2").await;
    put(&kv, "b.c", "x").await;
    assert!(first < second);
    let entry = within(LIMIT, kv.entry("a")).await.expect("read").expect("there");
    assert_eq!(
        (entry.key.as_str(), entry.value, entry.revision),
        ("a", Some(bytes("2")), second)
    );
    let old = within(LIMIT, kv.revision("a", first))
        .await
        .expect("read")
        .expect("kept");
    assert_eq!((old.value, old.revision), (Some(bytes("1")), first));
    assert_eq!(
        within(LIMIT, kv.revision("b.c", first)).await.expect("read"),
        None,
        "another key's"
    );
    assert_eq!(within(LIMIT, kv.revision("a", 999)).await.expect("read"), None);

    within(LIMIT, kv.delete("a")).await.expect("deleted");
    assert_eq!(within(LIMIT, kv.get("a")).await.expect("read"), None);
    assert_eq!(within(LIMIT, kv.keys()).await.expect("read"), ["b.c"]);
    let operations = |entries: Vec<natstream::eventbus::kv::Entry<Bytes>>| -> Vec<Operation> {
        entries.into_iter().map(|entry| entry.operation).collect()
    };
    let history = within(LIMIT, kv.history("a")).await.expect("read");
    assert_eq!(operations(history), [Operation::Put, Operation::Put, Operation::Delete]);
    within(LIMIT, kv.purge("a")).await.expect("purged");
    let history = within(LIMIT, kv.history("a")).await.expect("read");
    assert_eq!(operations(history), [Operation::Purge]);
    let entries = within(LIMIT, kv.entries("b.*")).await.expect("read");
    assert_eq!(
        entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(),
        ["b.c"]
    );
    assert_eq!(
        within(LIMIT, kv.keys_of("a.>")).await.expect("read"),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn values_have_types() {
    let (_nats, kv) = bucket(KvSpec::new("b")).await;
    let maps = kv.typed::<BTreeMap<String, u32>>();
    let map = BTreeMap::from([("x".to_owned(), 7)]);
    within(LIMIT, maps.put("m", &map)).await.expect("put");
    assert_eq!(within(LIMIT, maps.get("m")).await.expect("read"), Some(map));
    assert_eq!(
        within(LIMIT, kv.get("m")).await.expect("read"),
        Some(bytes(r#"{"x":7}"#))
    );
    let revision = put(&kv, "m", "no json").await;
    let error = within(LIMIT, maps.get("m")).await.expect_err("unreadable");
    assert_eq!(
        (error.kind(), error.key(), error.revision()),
        (KvErrorKind::Decode, Some("m"), Some(revision))
    );
    let tuples = kv.typed::<BTreeMap<(u8, u8), u8>>();
    let error = within(LIMIT, tuples.put("m", BTreeMap::from([((1, 2), 3)]))).await;
    assert_eq!(error.expect_err("no form").kind(), KvErrorKind::Encode);
}

#[tokio::test]
async fn only_the_expected_revision_is_replaced() {
    let (_nats, kv) = bucket(KvSpec::new("b")).await;
    let first = within(LIMIT, kv.create_value("a", bytes("1"))).await.expect("created");
    let error = within(LIMIT, kv.create_value("a", bytes("2")))
        .await
        .expect_err("there");
    assert_eq!((error.kind(), error.revision()), (KvErrorKind::Exists, Some(first)));
    assert!(!error.may_be_stored());
    let second = within(LIMIT, kv.update("a", bytes("2"), first)).await.expect("updated");
    let error = within(LIMIT, kv.update("a", bytes("3"), first))
        .await
        .expect_err("changed");
    assert_eq!(
        (error.kind(), error.revision()),
        (KvErrorKind::WrongRevision, Some(second))
    );
    let error = within(LIMIT, kv.delete_revision("a", first))
        .await
        .expect_err("changed");
    assert_eq!(error.kind(), KvErrorKind::WrongRevision);
    let deleted = within(LIMIT, kv.delete_revision("a", second)).await.expect("deleted");
    let third = within(LIMIT, kv.create_value("a", bytes("3")))
        .await
        .expect("created again");
    assert!(third > deleted);
    within(LIMIT, kv.purge("a")).await.expect("purged");
    within(LIMIT, kv.create_value("a", bytes("4")))
        .await
        .expect("created again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rivals_count_right() {
    let (nats, kv) = bucket(KvSpec::new("b")).await;
    let counter = kv.typed::<u64>();
    within(LIMIT, counter.put("n", 0)).await.expect("put");
    let mut rivals = Vec::new();
    for _ in 0..4 {
        let own = create(&nats, &KvSpec::new("b")).await.typed::<u64>();
        rivals.push(tokio::spawn(async move {
            for _ in 0..50 {
                loop {
                    let entry = own.entry("n").await.expect("read").expect("there");
                    let next = entry.value.expect("a value") + 1;
                    match own.update("n", next, entry.revision).await {
                        Ok(_) => break,
                        Err(error) => assert_eq!(error.kind(), KvErrorKind::WrongRevision),
                    }
                }
            }
        }));
    }
    for rival in rivals {
        within(LIMIT, rival).await.expect("no panic");
    }
    assert_eq!(within(LIMIT, counter.get("n")).await.expect("read"), Some(200));
}

/// The answer is lost, and the update is sent again: its own copy is in the way, and is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_whose_answer_was_lost_is_known() {
    let (nats, direct) = bucket(KvSpec::new("b").history(5)).await;
    let first = put(&direct, "a", "1").await;
    let proxy = Proxy::start(nats.url()).await;
    let far = connection(&proxy.url()).await;
    let far = within(LIMIT, Kv::open(far, "b")).await.expect("open");
    proxy.blackhole(testkit::Flow::ToClient, true);
    let update = tokio::spawn(async move { far.update("a", bytes("2"), first).await });
    let stored = || async { direct.entry("a").await.expect("read").expect("there").revision };
    settles_where(LIMIT, stored, |revision| *revision > first).await;
    proxy.blackhole(testkit::Flow::ToClient, false);
    proxy.cut();
    let second = within(LIMIT, update).await.expect("no panic").expect("known");
    assert_eq!(stored().await, second);
    assert_eq!(within(LIMIT, direct.history("a")).await.expect("read").len(), 2, "once");
}

/// As above; the value that was created is deleted before its answer could be heard, and does not come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_created_and_deleted_is_not_created_again() {
    let (nats, direct) = bucket(KvSpec::new("b").history(5)).await;
    let proxy = Proxy::start(nats.url()).await;
    let far = connection(&proxy.url()).await;
    let far = within(LIMIT, Kv::open(far, "b")).await.expect("open");
    proxy.blackhole(testkit::Flow::ToClient, true);
    let create = tokio::spawn(async move { far.create_value("a", bytes("1")).await });
    let stored = || async { direct.entry("a").await.expect("read").map(|entry| entry.revision) };
    let first = settles_where(LIMIT, stored, Option::is_some).await;
    within(LIMIT, direct.delete("a")).await.expect("deleted");
    proxy.blackhole(testkit::Flow::ToClient, false);
    proxy.cut();
    let created = within(LIMIT, create).await.expect("no panic").expect("it was created");
    assert_eq!(Some(created), first);
    let history = within(LIMIT, direct.history("a")).await.expect("read");
    let operations: Vec<Operation> = history.into_iter().map(|entry| entry.operation).collect();
    assert_eq!(operations, [Operation::Put, Operation::Delete]);
}

#[tokio::test]
async fn the_largest_value_is_put_and_read() {
    let (nats, kv) = bucket(KvSpec::new("b").history(2)).await;
    let most = kv.connection().max_payload();
    let mut len = most;
    while let Err(error) = within(LIMIT, kv.put("a", bytes("x".repeat(len)))).await {
        assert_eq!(error.kind(), KvErrorKind::TooLarge);
        len -= 1;
    }
    assert!(most - len < 128, "an id takes {} bytes", most - len);
    let value = bytes("x".repeat(len));
    assert!(within(LIMIT, kv.get("a")).await.expect("read") == Some(value.clone()));
    let entries = within(LIMIT, kv.entries(">")).await.expect("read");
    assert!(entries[0].value == Some(value.clone()));
    let fast = create(&nats, &KvSpec::new("b").history(2)).await;
    let fast = within(LIMIT, fast.without_ids()).await.expect("open");
    let value = bytes("x".repeat(most));
    within(LIMIT, fast.put("a", value.clone())).await.expect("put");
    assert!(within(LIMIT, kv.get("a")).await.expect("read") == Some(value));
}

#[tokio::test]
async fn what_cannot_be_is_told() {
    let (nats, kv) = bucket(KvSpec::new("b").max_value_size(500).max_bytes(3000)).await;
    for key in ["", ".a", "a..b", "a b", "*", ">"] {
        let error = within(LIMIT, kv.put(key, bytes("x"))).await.expect_err("no key");
        assert_eq!(error.kind(), KvErrorKind::InvalidKey, "{key}");
        assert_eq!(
            within(LIMIT, kv.get(key)).await.expect_err("no key").kind(),
            KvErrorKind::InvalidKey
        );
    }
    let large = within(LIMIT, kv.put("a", bytes("x".repeat(501)))).await;
    assert_eq!(large.expect_err("too large").kind(), KvErrorKind::TooLarge);
    let mut full = None;
    for n in 0..20 {
        full = full.or(within(LIMIT, kv.put(&format!("k{n}"), bytes("x".repeat(400))))
            .await
            .err());
    }
    assert_eq!(full.expect("it was full").kind(), KvErrorKind::Full);

    let connection = connection(&nats.url()).await;
    let open = |bucket: &'static str| Kv::open(connection.clone(), bucket);
    let error = within(LIMIT, open("none")).await.expect_err("not there");
    assert_eq!(error.kind(), KvErrorKind::NotFound);
    assert_eq!(
        within(LIMIT, open("a.b")).await.expect_err("no name").kind(),
        KvErrorKind::InvalidBucket
    );
    let error = within(LIMIT, kv.create_with_ttl("t", bytes("x"), Duration::from_secs(9))).await;
    assert_eq!(error.expect_err("not allowed").kind(), KvErrorKind::Rejected);
    let zero = within(LIMIT, Kv::create(connection.clone(), &KvSpec::new("z").history(0))).await;
    assert_eq!(zero.expect_err("no history").kind(), KvErrorKind::Rejected);
}

#[tokio::test]
async fn buckets_are_declared_compared_and_deleted() {
    let (nats, kv) = bucket(KvSpec::new("b").history(3)).await;
    let connection = connection(&nats.url()).await;
    let other = KvSpec::new("b").history(5);
    let error = within(LIMIT, Kv::create(connection.clone(), &other))
        .await
        .expect_err("it differs");
    assert_eq!(error.kind(), KvErrorKind::Differs);
    let settings: Vec<&str> = error
        .differences()
        .iter()
        .map(|difference| difference.setting.as_str())
        .collect();
    assert_eq!(settings, ["max_msgs_per_subject"]);
    let buckets = Buckets::new(connection);
    let info = within(LIMIT, buckets.update(&other, Changes::Harmless))
        .await
        .expect("changed");
    assert_eq!(info.history, 5);
    let less = within(LIMIT, buckets.update(&KvSpec::new("b"), Changes::Harmless)).await;
    assert_eq!(less.expect_err("it destroys").kind(), KvErrorKind::Differs);
    put(&kv, "a", "1").await;
    let names: Vec<String> = within(LIMIT, buckets.list())
        .await
        .expect("read")
        .into_iter()
        .map(|info| info.bucket)
        .collect();
    assert_eq!(names, ["b"]);
    assert_eq!(within(LIMIT, kv.info()).await.expect("read").values, 1);
    within(LIMIT, buckets.delete("b")).await.expect("deleted");
    assert_eq!(
        within(LIMIT, kv.info()).await.expect_err("gone").kind(),
        KvErrorKind::NotFound
    );
}

#[tokio::test]
async fn values_are_put_without_ids() {
    let (_nats, kv) = bucket(KvSpec::new("b")).await;
    let fast = within(LIMIT, kv.clone().without_ids()).await.expect("open");
    let revision = put(&fast, "a", "1").await;
    within(LIMIT, fast.update("a", bytes("2"), revision))
        .await
        .expect("updated");
    let error = within(LIMIT, fast.update("a", bytes("3"), revision))
        .await
        .expect_err("changed");
    assert_eq!(error.kind(), KvErrorKind::WrongRevision);
    assert_eq!(within(LIMIT, kv.get("a")).await.expect("read"), Some(bytes("2")));
}
