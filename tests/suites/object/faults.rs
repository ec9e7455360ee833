//! Connections that break, servers that die, and servers that refuse some chunks of many.

use integration::LIMIT;
use natstream::eventbus::object::ObjectSpec;
use natstream::{ConnectConfig, Connection, Objects};
use testkit::{Cluster, NatsServer, Proxy, settles_where, within};
use tokio::sync::watch;

use super::{create, messages, pattern, read, read_io};

const LEN: usize = 40_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_change_nothing() {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let proxy = Proxy::start(nats.url()).await;
    let objects = create(&proxy.url()).await;
    let content = pattern(LEN, 1);
    let (progress, mut stored) = watch::channel(0);
    let put = objects
        .put("a")
        .on_progress(move |bytes| {
            progress.send_replace(bytes);
        })
        .bytes(content.clone());
    let putting = tokio::spawn(put);
    for part in 1..=3 {
        let reached = stored.wait_for(|stored| *stored >= LEN as u64 / 5 * part);
        drop(within(LIMIT, reached).await.expect("progress"));
        let before = proxy.accepted();
        proxy.cut();
        within(LIMIT, proxy.connected(before + 1)).await;
    }
    within(LIMIT, putting).await.expect("no panic").expect("put");
    let mut reader = within(LIMIT, objects.get("a")).await.expect("there");
    let mut all = Vec::new();
    while let Some(chunk) = within(LIMIT, reader.chunk()).await.expect("whole") {
        let parts = |len: usize| len / (LEN / 5);
        if parts(all.len()) < parts(all.len() + chunk.len()) {
            let before = proxy.accepted();
            proxy.cut();
            within(LIMIT, proxy.connected(before + 1)).await;
        }
        all.extend_from_slice(&chunk);
    }
    assert!(all == content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_restarted_changes_nothing() {
    let mut nats = NatsServer::builder().jetstream(true).start().await;
    let objects = create(&nats.url()).await;
    let content = pattern(LEN, 2);
    let (progress, mut stored) = watch::channel(0);
    let put = objects
        .put("a")
        .on_progress(move |bytes| {
            progress.send_replace(bytes);
        })
        .bytes(content.clone());
    let putting = tokio::spawn(put);
    let reached = stored.wait_for(|stored| *stored >= LEN as u64 / 3);
    drop(within(LIMIT, reached).await.expect("progress"));
    nats.kill();
    within(LIMIT, nats.restart()).await;
    within(LIMIT, putting).await.expect("no panic").expect("put");
    let mut reader = within(LIMIT, objects.get("a")).await.expect("there");
    let mut all = within(LIMIT, reader.chunk())
        .await
        .expect("a chunk")
        .expect("not the end")
        .to_vec();
    nats.kill();
    within(LIMIT, nats.restart()).await;
    while let Some(chunk) = within(LIMIT, reader.chunk()).await.expect("whole") {
        all.extend_from_slice(&chunk);
    }
    assert!(all == content);
}

/// Chunks that were refused are stored behind those that came after them, and are put in order again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_stay_in_order_where_some_are_refused() {
    let config = "jetstream { max_buffered_msgs: 100 }";
    let nats = NatsServer::builder().jetstream(true).config(config).start().await;
    let objects = create(&nats.url()).await;
    let content = pattern(2_000_000, 3);
    let put = objects.put("a").chunk_size(1000).bytes(content.clone());
    let info = within(LIMIT * 3, put).await.expect("put");
    assert_eq!(info.chunks, 2000);
    assert!(read_io(&objects, "a").await == content);
    assert_eq!(messages(&objects, &nats.url()).await, 2001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_a_server_loses_no_object() {
    let mut cluster = Cluster::builder(3).jetstream(true).start().await;
    let connection = within(LIMIT * 3, Connection::connect(ConnectConfig::new(cluster.urls())))
        .await
        .expect("connected");
    let spec = ObjectSpec::new("b").replicas(3);
    let objects = within(LIMIT * 3, Objects::create(connection, &spec))
        .await
        .expect("a bucket");
    let content = pattern(LEN / 2, 4);
    let (progress, stored) = watch::channel(0);
    let put = objects
        .put("a")
        .on_progress(move |bytes| {
            progress.send_replace(bytes);
        })
        .bytes(content.clone());
    let putting = tokio::spawn(put);
    let reached = || std::future::ready(*stored.borrow());
    settles_where(LIMIT, reached, |stored| *stored > LEN as u64 / 8).await;
    cluster.node_mut(1).kill();
    within(LIMIT * 3, putting).await.expect("no panic").expect("put");
    // Whoever has put it reads it.
    assert!(within(LIMIT * 3, read(&objects, "a")).await.expect("whole") == content);
}
