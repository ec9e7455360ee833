//! Buckets of async-nats's own, and ours in its hands.

use async_nats::jetstream::{self, object_store};
use futures_util::TryStreamExt as _;
use integration::LIMIT;
use natstream::Objects;
use natstream::eventbus::object::{ObjectErrorKind, ObjectSpec};
use testkit::{NatsServer, within};
use tokio::io::AsyncReadExt as _;

use super::{bucket, pattern, put, read_io};

#[tokio::test]
async fn they_read_ours() {
    let (nats, ours) = bucket().await;
    let content = pattern(1_000_000, 1);
    let name = "a/b c";
    let putting = ours
        .put(name)
        .description("d")
        .metadata("k", "v")
        .header("H", "x")
        .bytes(content.clone());
    let info = within(LIMIT, putting).await.expect("put");
    put(&ours, "empty", &pattern(0, 1)).await;
    let context = jetstream::new(integration::connection(&nats.url()).await.nats().clone());
    let theirs = within(LIMIT, context.get_object_store("b"))
        .await
        .expect("their bucket");
    let mut object = within(LIMIT, theirs.get(name)).await.expect("there");
    assert_eq!(object.info.digest, info.digest);
    assert_eq!(
        (object.info.description.as_deref(), object.info.size),
        (Some("d"), 1_000_000)
    );
    assert_eq!(object.info.metadata["k"], "v");
    let header = object.info.headers.as_ref().and_then(|headers| headers.get("H"));
    assert_eq!(header.map(|value| value.as_str()), Some("x"));
    let mut all = Vec::new();
    within(LIMIT, object.read_to_end(&mut all)).await.expect("whole");
    assert!(all == content);
    let list: Vec<object_store::ObjectInfo> = within(LIMIT, theirs.list().await.expect("a list").try_collect())
        .await
        .expect("read");
    assert_eq!(list.len(), 2);
    let target = within(LIMIT, ours.info(name)).await.expect("there");
    within(LIMIT, ours.link("link", &target)).await.expect("linked");
    let mut all = Vec::new();
    let mut object = within(LIMIT, theirs.get("link")).await.expect("followed");
    within(LIMIT, object.read_to_end(&mut all)).await.expect("whole");
    assert!(all == content);
    within(LIMIT, ours.delete(name)).await.expect("deleted");
    assert!(within(LIMIT, theirs.info(name)).await.expect("a word").deleted);
}

#[tokio::test]
async fn we_read_theirs() {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let connection = integration::connection(&nats.url()).await;
    let context = jetstream::new(connection.nats().clone());
    let config = object_store::Config {
        bucket: "b".to_owned(),
        ..Default::default()
    };
    let theirs = within(LIMIT, context.create_object_store(config))
        .await
        .expect("their bucket");
    // The same declaration is no difference.
    let ours = within(LIMIT, Objects::create(connection, &ObjectSpec::new("b")))
        .await
        .expect("the same");
    for len in [0, 5, 1_000_000] {
        let content = pattern(len, 2);
        within(LIMIT, theirs.put("a", &mut &content[..])).await.expect("put");
        assert!(read_io(&ours, "a").await == content, "{len}");
        let info = within(LIMIT, ours.info("a")).await.expect("there");
        assert_eq!((info.size, info.name.as_str()), (len as u64, "a"));
    }
    let target = within(LIMIT, theirs.info("a")).await.expect("there");
    within(LIMIT, theirs.add_link("link", &target)).await.expect("linked");
    assert!(read_io(&ours, "link").await == pattern(1_000_000, 2));
    // What we put in place of theirs leaves none of it.
    put(&ours, "a", &pattern(10, 3)).await;
    let swept = within(LIMIT, ours.sweep(std::time::Duration::ZERO))
        .await
        .expect("swept");
    assert_eq!(swept.uploads, 0);
    within(LIMIT, theirs.delete("a")).await.expect("deleted");
    assert_eq!(
        within(LIMIT, ours.info("a")).await.expect_err("gone").kind(),
        ObjectErrorKind::NotFound
    );
    let names: Vec<String> = within(LIMIT, ours.list())
        .await
        .expect("read")
        .into_iter()
        .map(|info| info.name)
        .collect();
    assert_eq!(names, ["link"]);
}
