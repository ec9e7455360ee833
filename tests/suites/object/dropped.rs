//! A put whose future is dropped leaves nothing, wherever its chunks are by then.

use futures_util::{FutureExt as _, StreamExt as _};
use integration::{LIMIT, connection};
use natstream::eventbus::object::ObjectErrorKind;
use natstream::eventbus::topology::Topology;
use testkit::{NatsServer, Proxy, settles, settles_where, within};
use tokio::sync::{mpsc, watch};

use super::{bucket, create, pattern, read};

async fn topology(url: &str) -> Topology {
    Topology::new(connection(url).await)
}

/// How many messages the bucket has.
async fn count(topology: &Topology) -> u64 {
    within(LIMIT, topology.info("OBJ_b"))
        .await
        .expect("the stream")
        .messages
}

#[tokio::test]
async fn a_put_that_is_dropped_leaves_nothing() {
    let (nats, objects) = bucket().await;
    let (parts, source) = mpsc::channel(1);
    let source = futures_util::stream::unfold(source, |mut source| async {
        let item: Option<bytes::Bytes> = source.recv().await;
        item.map(|item| (Ok::<_, std::io::Error>(item), source))
    });
    let putting = tokio::spawn(objects.put("a").stream(source.boxed()));
    for seed in 0..20 {
        within(LIMIT, parts.send(pattern(128 << 10, seed)))
            .await
            .expect("taken");
    }
    let topology = topology(&nats.url()).await;
    settles_where(LIMIT, || count(&topology), |count| *count > 0).await;
    putting.abort();
    settles(LIMIT, || count(&topology), 0).await;
    let error = within(LIMIT, read(&objects, "a")).await.expect_err("not there");
    assert_eq!(error.kind(), ObjectErrorKind::NotFound);
}

/// The bus takes all of them at once, and hands the connection one at a time.
#[tokio::test]
async fn chunks_that_were_not_sent_yet_are_removed_too() {
    let (nats, objects) = bucket().await;
    let topology = topology(&nats.url()).await;
    let put = objects.put("a").bytes(pattern(6 << 20, 1));
    assert!(put.now_or_never().is_none(), "its acks have not come");
    within(LIMIT, objects.removed()).await;
    assert_eq!(count(&topology).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_is_dropped_without_a_connection_leaves_nothing() {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let proxy = Proxy::start(nats.url()).await;
    let objects = create(&proxy.url()).await;
    let topology = topology(&nats.url()).await;
    let (progress, mut stored) = watch::channel(0);
    let put = objects
        .put("a")
        .on_progress(move |bytes| {
            progress.send_replace(bytes);
        })
        .bytes(pattern(40_000_000, 1));
    let putting = tokio::spawn(put);
    let reached = stored.wait_for(|stored| *stored > 1_000_000);
    drop(within(LIMIT, reached).await.expect("progress"));
    let before = proxy.accepted();
    proxy.refuse(true);
    proxy.cut();
    putting.abort();
    within(LIMIT, putting).await.expect_err("aborted");
    assert_ne!(count(&topology).await, 0);
    proxy.refuse(false);
    within(LIMIT, proxy.connected(before + 1)).await;
    within(LIMIT * 2, objects.removed()).await;
    assert_eq!(count(&topology).await, 0);
}
