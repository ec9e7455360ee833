//! Objects that are not what was put: nobody takes them for it.

use async_nats::jetstream;
use integration::LIMIT;
use natstream::Objects;
use natstream::eventbus::object::{ObjectError, ObjectErrorKind};
use testkit::within;
use tokio::io::AsyncReadExt as _;

use super::{bucket, pattern, put, read};

async fn stream(objects: &Objects, url: &str) -> (jetstream::Context, jetstream::stream::Stream) {
    let context = jetstream::new(integration::connection(url).await.nats().clone());
    let stream = context.get_stream(format!("OBJ_{}", objects.bucket()));
    let stream = within(LIMIT, stream).await.expect("the stream");
    (context, stream)
}

#[tokio::test]
async fn bytes_that_were_changed_are_noticed_at_the_end() {
    let (nats, objects) = bucket().await;
    put(&objects, "a", &pattern(300_000, 1)).await;
    let nuid = within(LIMIT, objects.info("a")).await.expect("there").nuid;
    let (context, stream) = stream(&objects, &nats.url()).await;
    let subject = format!("$O.b.C.{nuid}");
    let last = within(LIMIT, stream.get_last_raw_message_by_subject(&subject))
        .await
        .expect("a chunk");
    within(LIMIT, stream.delete_message(last.sequence))
        .await
        .expect("deleted");
    let mut other = last.payload.to_vec();
    other[7] ^= 1;
    let ack = context.publish(subject, other.into()).await.expect("sent");
    within(LIMIT, ack).await.expect("stored");
    let error = within(LIMIT, read(&objects, "a")).await.expect_err("changed");
    assert_eq!(error.kind(), ObjectErrorKind::Digest);

    let mut reader = within(LIMIT, objects.get("a")).await.expect("there");
    let error = within(LIMIT, reader.read_to_end(&mut Vec::new()))
        .await
        .expect_err("changed");
    assert_eq!(
        ObjectError::in_io(&error).map(ObjectError::kind),
        Some(ObjectErrorKind::Digest)
    );
}

#[tokio::test]
async fn chunks_that_are_missing_are_noticed() {
    let (nats, objects) = bucket().await;
    for (name, place) in [("first", 0), ("middle", 1), ("last", 2)] {
        put(&objects, name, &pattern(300_000, 1)).await;
        let nuid = within(LIMIT, objects.info(name)).await.expect("there").nuid;
        let (_, stream) = stream(&objects, &nats.url()).await;
        let last = stream
            .get_last_raw_message_by_subject(&format!("$O.b.C.{nuid}"))
            .await
            .expect("a chunk");
        within(LIMIT, stream.delete_message(last.sequence - 2 + place))
            .await
            .expect("deleted");
        let error = within(LIMIT, read(&objects, name)).await.expect_err("missing");
        assert_eq!(error.kind(), ObjectErrorKind::Incomplete, "{name}");
    }
}

#[tokio::test]
async fn a_description_that_cannot_be_read_is_told() {
    let (nats, objects) = bucket().await;
    let (context, _) = stream(&objects, &nats.url()).await;
    // "a" in base64.
    let ack = context.publish("$O.b.M.YQ==", "no json".into()).await.expect("sent");
    within(LIMIT, ack).await.expect("stored");
    for error in [
        within(LIMIT, read(&objects, "a")).await.expect_err("unreadable"),
        within(LIMIT, objects.list()).await.expect_err("unreadable"),
        within(LIMIT, objects.put("a").bytes("x"))
            .await
            .expect_err("unreadable"),
    ] {
        assert_eq!(error.kind(), ObjectErrorKind::Protocol);
    }
}
