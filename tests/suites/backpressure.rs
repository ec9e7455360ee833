//! A caller that does not read holds its handler back, and nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use integration::{LIMIT, Peers};
use natstream::{ConnectConfig, Connection, Pool, ResponseSender};
use testkit::{unique_subject, within};
use tokio::sync::watch;

/// Serves items of 1 KiB without end; what was sent so far can be watched.
async fn serve_endless(peers: &Peers, subject: &str) -> watch::Receiver<u64> {
    let (sent, watch) = watch::channel(0u64);
    let sent = Arc::new(sent);
    let handler = move |_request, mut out: ResponseSender| {
        let sent = sent.clone();
        async move {
            let item = vec![7; 1024];
            loop {
                out.send(&item).await?;
                sent.send_modify(|sent| *sent += 1);
            }
        }
    };
    within(LIMIT, peers.server.on(subject, handler)).await.expect("served");
    watch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_stops_the_handler_within_its_window() {
    let peers = Peers::connect().await;
    let subject = unique_subject("backpressure");
    let mut sent = serve_endless(&peers, &subject).await;
    let window = 256 * 1024;
    let request = peers.pool.request_stream(&subject, "").window(window);
    let mut responses = within(LIMIT, request).await.expect("sent");
    let mut read = 0u64;
    // Enough for the window to grow to its full size.
    for _ in 0..5000 {
        within(LIMIT, responses.try_next()).await.expect("an item");
        read += 1;
    }
    // The handler has stopped when nothing changes for longer than any scheduling takes.
    let quiet = std::time::Duration::from_millis(300);
    while tokio::time::timeout(quiet, sent.changed()).await.is_ok() {}
    let ahead = *sent.borrow() - read;
    let window_items = window as u64 / 1024;
    assert!(
        ahead <= window_items + 64,
        "{ahead} items ahead, the window holds {window_items}"
    );
    // It goes on as soon as the reader does.
    let before = *sent.borrow_and_update();
    for _ in 0..window_items {
        within(LIMIT, responses.try_next()).await.expect("an item");
    }
    within(LIMIT, sent.wait_for(|sent| *sent > before))
        .await
        .expect("the handler goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_nobody_else_up() {
    let peers = Peers::connect().await;
    let subject = unique_subject("backpressure");
    let mut sent = serve_endless(&peers, &subject).await;
    // Never read: it fills its window and stands still.
    let _slow = within(LIMIT, peers.pool.request_stream(&subject, ""))
        .await
        .expect("sent");
    within(LIMIT, sent.wait_for(|sent| *sent > 0)).await.expect("it began");
    let mut fast = within(LIMIT, peers.pool.request_stream(&subject, ""))
        .await
        .expect("sent");
    for _ in 0..20_000 {
        within(LIMIT, fast.try_next()).await.expect("an item").expect("no end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_share_a_connection() {
    let peers = Peers::connect().await;
    let subject = unique_subject("backpressure");
    let handler = |request: natstream::Request, mut out: ResponseSender| async move {
        let seed = request.payload()[0];
        for number in 0..500u32 {
            out.send([[seed; 4], number.to_be_bytes()].concat()).await?;
        }
        Ok(())
    };
    within(LIMIT, peers.server.on(&subject, handler)).await.expect("served");
    let complete = Arc::new(AtomicU64::new(0));
    let calls = (0..200u8).map(|seed| {
        let (pool, subject, complete) = (peers.pool.clone(), subject.clone(), complete.clone());
        tokio::task::spawn(async move {
            let mut responses = pool.request_stream(subject, vec![seed]).await.expect("sent");
            let mut expected = 0u32;
            while let Some(item) = responses.try_next().await.expect("complete") {
                assert_eq!(item, [[seed; 4], expected.to_be_bytes()].concat());
                expected += 1;
            }
            assert_eq!(expected, 500);
            complete.fetch_add(1, Ordering::Relaxed);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        within(LIMIT, call).await.expect("no panic");
    }
    assert_eq!(complete.load(Ordering::Relaxed), 200);
}

/// async-nats drops a message when the channel of its subscription is full, and says so nowhere where a stream could see it.
#[tokio::test]
async fn messages_that_a_full_queue_drops_are_asked_for_again() {
    const ITEMS: u32 = 20_000;
    let url = testkit::shared_url();
    let config = ConnectConfig::new(url).subscription_capacity(32);
    let connection = within(LIMIT, Connection::connect(config)).await.expect("connected");
    let pool = Pool::new(connection);
    let Peers { server, .. } = Peers::connect().await;
    let subject = unique_subject("dropped");
    let handler = |_request, mut out: ResponseSender| async move {
        for number in 0..ITEMS {
            let mut item = vec![0; 100];
            item[..4].copy_from_slice(&number.to_be_bytes());
            out.send(item).await?;
        }
        Ok(())
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let mut expected = 0u32;
    while let Some(item) = within(LIMIT, responses.try_next()).await.expect("nothing is lost") {
        assert_eq!(item[..4], expected.to_be_bytes());
        expected += 1;
    }
    assert_eq!(expected, ITEMS);
    assert!(pool.stats().gaps > 0, "nothing was dropped: the test shows nothing");
}
