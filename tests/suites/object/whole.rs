//! Single objects.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use integration::{LIMIT, connection};
use natstream::Objects;
use natstream::eventbus::object::{ObjectErrorKind, ObjectSpec};
use natstream::eventbus::topology::Changes;
use testkit::within;

use super::{bucket, messages, pattern, put, read, read_io};

#[tokio::test]
async fn objects_of_all_sizes_come_back() {
    let (_nats, objects) = bucket().await;
    let chunk = 1 << 10;
    for len in [0, 1, chunk - 1, chunk, chunk + 1, 300 * chunk + 7] {
        let bytes = pattern(len, 1);
        let put = objects.put("from a reader").chunk_size(chunk).read(&bytes[..]);
        let info = within(LIMIT, put).await.expect("put");
        assert_eq!((info.size, info.chunks), (len as u64, len.div_ceil(chunk) as u64));
        assert_eq!(read_io(&objects, "from a reader").await, bytes, "{len}");

        let parts: Vec<_> = bytes
            .chunks(700)
            .map(|part| Ok::<_, Infallible>(Bytes::copy_from_slice(part)))
            .collect();
        let put = objects
            .put("from a stream")
            .chunk_size(chunk)
            .stream(stream::iter(parts));
        assert_eq!(within(LIMIT, put).await.expect("put").digest, info.digest);
        assert_eq!(
            within(LIMIT, read(&objects, "from a stream")).await.expect("whole"),
            bytes,
            "{len}"
        );

        let put = objects.put("bytes").chunk_size(chunk).bytes(bytes.clone());
        assert_eq!(within(LIMIT, put).await.expect("put").digest, info.digest);
        assert_eq!(
            within(LIMIT, read(&objects, "bytes")).await.expect("whole"),
            bytes,
            "{len}"
        );
    }
}

#[tokio::test]
async fn what_is_said_of_an_object_is_kept() {
    let (_nats, objects) = bucket().await;
    let name = "ein/Name mit 空格 und .";
    let bytes = pattern(500_000, 2);
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let put = objects
        .put(name)
        .description("for people")
        .metadata("version", "1.0")
        .header("Build", "7")
        .header("Build", "8")
        .on_progress(move |stored| telling.lock().expect("no panic").push(stored))
        .bytes(bytes);
    within(LIMIT, put).await.expect("put");
    let told = told.lock().expect("no panic").clone();
    assert!(
        told.is_sorted() && told.len() == 4 && told.last() == Some(&500_000),
        "{told:?}"
    );
    let info = within(LIMIT, objects.info(name)).await.expect("there");
    assert_eq!(
        (info.name.as_str(), info.description.as_str(), info.size),
        (name, "for people", 500_000)
    );
    assert_eq!(info.metadata["version"], "1.0");
    assert_eq!(info.headers["Build"], ["7", "8"]);
    assert_eq!(info.chunk_size(), Some(128 << 10));
    let list = within(LIMIT, objects.list()).await.expect("read");
    assert_eq!(list, [info]);
}

#[tokio::test]
async fn objects_are_deleted_with_their_chunks() {
    let (nats, objects) = bucket().await;
    put(&objects, "a", &pattern(400_000, 1)).await;
    put(&objects, "b", &pattern(10, 1)).await;
    assert_eq!(messages(&objects, &nats.url()).await, 7);
    put(&objects, "a", &pattern(100, 2)).await;
    assert_eq!(messages(&objects, &nats.url()).await, 4, "what was replaced is gone");
    within(LIMIT, objects.delete("a")).await.expect("deleted");
    assert_eq!(
        messages(&objects, &nats.url()).await,
        3,
        "the word that it is deleted stays"
    );
    for error in [
        within(LIMIT, read(&objects, "a")).await.expect_err("gone"),
        within(LIMIT, objects.info("a")).await.expect_err("gone"),
        within(LIMIT, objects.delete("a")).await.expect_err("gone"),
        within(LIMIT, objects.info("never")).await.expect_err("never there"),
    ] {
        assert_eq!(error.kind(), ObjectErrorKind::NotFound);
    }
    let names: Vec<String> = within(LIMIT, objects.list())
        .await
        .expect("read")
        .into_iter()
        .map(|info| info.name)
        .collect();
    assert_eq!(names, ["b"]);
    put(&objects, "a", &pattern(5, 3)).await;
    assert_eq!(read_io(&objects, "a").await, pattern(5, 3));
}

#[tokio::test]
async fn links_are_followed() {
    let (nats, objects) = bucket().await;
    let bytes = pattern(200_000, 4);
    put(&objects, "target", &bytes).await;
    let target = within(LIMIT, objects.info("target")).await.expect("there");
    let link = within(LIMIT, objects.link("near", &target)).await.expect("linked");
    let connection = connection(&nats.url()).await;
    let other = within(LIMIT, Objects::create(connection, &ObjectSpec::new("other")))
        .await
        .expect("a bucket");
    within(LIMIT, other.link("far", &target)).await.expect("linked");
    assert_eq!(read_io(&objects, "near").await, bytes);
    assert_eq!(read_io(&other, "far").await, bytes);
    let error = within(LIMIT, objects.link("second", &link))
        .await
        .expect_err("a link to a link");
    assert_eq!(error.kind(), ObjectErrorKind::IsLink);
    let info = within(LIMIT, objects.info("near")).await.expect("there");
    assert_eq!(info.link().and_then(|link| link.name.as_deref()), Some("target"));
}

#[tokio::test]
async fn what_cannot_be_is_told() {
    let (nats, objects) = bucket().await;
    let put = |name: &str| objects.put(name).bytes("x");
    assert_eq!(
        within(LIMIT, put("")).await.expect_err("no name").kind(),
        ObjectErrorKind::InvalidName
    );
    let long = "x".repeat(3000);
    assert_eq!(
        within(LIMIT, put(&long)).await.expect_err("too long").kind(),
        ObjectErrorKind::InvalidName
    );
    let large = objects.put("a").chunk_size(2 << 20).bytes("x");
    assert_eq!(
        within(LIMIT, large).await.expect_err("no such chunk").kind(),
        ObjectErrorKind::TooLarge
    );
    let header = objects.put("a").header("a b", "x").bytes("x");
    assert_eq!(
        within(LIMIT, header).await.expect_err("no header").kind(),
        ObjectErrorKind::InvalidName
    );

    let connection = connection(&nats.url()).await;
    let none = within(LIMIT, Objects::open(connection.clone(), "none")).await;
    assert_eq!(none.expect_err("not there").kind(), ObjectErrorKind::NoBucket);
    let small = ObjectSpec::new("b").max_bytes(1_000_000);
    let differs = within(LIMIT, Objects::create(connection.clone(), &small))
        .await
        .expect_err("it differs");
    assert_eq!(differs.kind(), ObjectErrorKind::Differs);
    assert_eq!(differs.differences().len(), 1);
    let small = within(LIMIT, Objects::update(connection.clone(), &small, Changes::Any))
        .await
        .expect("changed");
    let full = within(LIMIT, small.put("a").bytes(pattern(2_000_000, 1)))
        .await
        .expect_err("full");
    assert_eq!(full.kind(), ObjectErrorKind::Full);
    assert_eq!(messages(&small, &nats.url()).await, 0, "nothing is left");
    let buckets = within(LIMIT, Objects::buckets(&connection)).await.expect("read");
    assert_eq!(buckets.len(), 1);
    within(LIMIT, Objects::delete_bucket(&connection, "b"))
        .await
        .expect("deleted");
    assert_eq!(
        within(LIMIT, objects.list()).await.expect_err("gone").kind(),
        ObjectErrorKind::NoBucket
    );
}

#[tokio::test]
async fn a_source_that_fails_leaves_nothing() {
    let (nats, objects) = bucket().await;
    put(&objects, "a", &pattern(10, 1)).await;
    let parts = (0..50).map(|n| match n {
        49 => Err(io::Error::other("broken")),
        _ => Ok(pattern(100_000, n)),
    });
    let error = within(LIMIT, objects.put("a").stream(stream::iter(parts)))
        .await
        .expect_err("broken");
    assert_eq!((error.kind(), error.name()), (ObjectErrorKind::Source, Some("a")));
    assert_eq!(messages(&objects, &nats.url()).await, 2);
    assert_eq!(read_io(&objects, "a").await, pattern(10, 1));
}
