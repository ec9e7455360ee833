//! Rolling restarts: a server leaves its group under load, and no call fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use integration::{LIMIT, Peers, connection};
use natstream::{Code, HandlerError, Pool, Request, RequestErrorKind, ResponseSender, Server};
use testkit::{NatsServer, Proxy, shared_url, unique_subject, within};
use tokio::sync::watch;
use tokio::task::JoinSet;

async fn three(_request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    for item in ["0", "1", "2"] {
        out.send(item).await?;
    }
    Ok(())
}

async fn member(subject: &str) -> Server {
    let server = Server::new(connection(shared_url()).await);
    within(LIMIT, server.on(subject, three)).await.expect("served");
    server
}

/// Calls as fast as it can until told to stop; returns how many there were.
async fn load(pool: Pool, subject: String, stop: Arc<AtomicBool>, calls: Arc<AtomicU64>) -> u64 {
    let mut made = 0;
    while !stop.load(Ordering::Relaxed) {
        let responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
        let items = within(LIMIT, responses.collect_all(1024)).await;
        let items = items.unwrap_or_else(|error| panic!("call {made}: {error} ({:?})", error.kind()));
        assert_eq!(items, [&b"0"[..], b"1", b"2"]);
        made += 1;
        calls.fetch_add(1, Ordering::Relaxed);
    }
    made
}

/// Waits until so many more calls were made.
async fn calls_go_on(calls: &AtomicU64, more: u64) {
    let goal = calls.load(Ordering::Relaxed) + more;
    within(LIMIT, async {
        while calls.load(Ordering::Relaxed) < goal {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_in_a_rolling_restart_under_load() {
    const ROUNDS: usize = 10;
    let subject = unique_subject("rolling");
    let mut old = member(&subject).await;
    let stop = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..2 {
        let pool = Pool::new(connection(shared_url()).await);
        for _ in 0..16 {
            callers.spawn(load(pool.clone(), subject.clone(), stop.clone(), calls.clone()));
        }
    }
    for _ in 0..ROUNDS {
        calls_go_on(&calls, 100).await;
        let new = member(&subject).await;
        let drained = within(LIMIT, old.drain(LIMIT)).await;
        assert_eq!(drained.aborted, 0);
        within(LIMIT, old.connection().close(LIMIT)).await.expect("closed");
        old = new;
    }
    stop.store(true, Ordering::Relaxed);
    let made: u64 = within(LIMIT, callers.join_all()).await.into_iter().sum();
    assert!(made >= 100 * ROUNDS as u64);
}

#[tokio::test]
async fn a_pool_that_is_drained_lets_its_calls_end_and_takes_no_more() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("pool");
    let (go_on, wait) = watch::channel(false);
    let handler = move |_request, mut out: ResponseSender| {
        let mut wait = wait.clone();
        async move {
            out.send("first").await?;
            // The sender is dropped at the end of the test only.
            let _ = wait.wait_for(|go_on| *go_on).await;
            out.send("last").await?;
            Ok(())
        }
    };
    let endpoint = within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut first = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    within(LIMIT, first.try_next()).await.expect("an item");

    let draining = tokio::task::spawn({
        let pool = pool.clone();
        async move { pool.drain(LIMIT).await }
    });
    let refused = within(LIMIT, async {
        loop {
            if let Err(error) = pool.request_stream(&subject, "").await {
                return error;
            }
        }
    });
    assert_eq!(refused.await.kind(), RequestErrorKind::Connection);
    go_on.send_replace(true);
    assert_eq!(
        within(LIMIT, first.try_next()).await.expect("complete").as_deref(),
        Some(&b"last"[..])
    );
    assert!(within(LIMIT, first.try_next()).await.expect("complete").is_none());
    assert_eq!(within(LIMIT, draining).await.expect("no panic"), 0);
    assert_eq!(endpoint.stats().failed, 0);
}

#[tokio::test]
async fn a_pool_cancels_what_is_left_at_the_deadline() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("pool");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let tell = tell.clone();
        async move {
            out.send("first").await?;
            // The test has ended if nobody listens.
            let _ = tell.send(out.closed().await);
            Ok(())
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    within(LIMIT, responses.try_next()).await.expect("an item");
    assert_eq!(within(LIMIT, pool.drain(Duration::ZERO)).await, 1);
    let error = within(LIMIT, responses.try_next()).await.expect_err("cancelled");
    assert_eq!(error.kind(), RequestErrorKind::Cancelled);
    let reason = within(LIMIT, told.recv()).await.expect("the handler was told");
    assert_eq!(reason, natstream::CloseReason::Cancelled);
}

#[tokio::test]
async fn calls_that_were_queued_are_certainly_not_processed_when_a_drain_ends_them() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("queued");
    let handler = |_request, mut out: ResponseSender| async move {
        out.send("running").await?;
        std::future::pending::<()>().await;
        Ok(())
    };
    let endpoint = server.on(&subject, handler).max_concurrent(1).max_queued(1);
    within(LIMIT, endpoint).await.expect("served");
    let mut running = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    within(LIMIT, running.try_next()).await.expect("an item");
    let mut queued = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    // The third is turned away, so the second has arrived.
    let mut third = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let refused = within(LIMIT, third.try_next()).await.expect_err("full");
    let status = refused.status().expect("a status");
    assert_eq!(
        (refused.kind(), status.code),
        (RequestErrorKind::Refused, Code::ResourceExhausted)
    );
    assert!(status.not_processed && status.retryable && status.retry_after.is_some());

    let drained = within(LIMIT, server.drain(Duration::ZERO)).await;
    assert_eq!(drained.aborted, 2);
    let queued = within(LIMIT, queued.try_next()).await.expect_err("ended");
    let status = queued.status().expect("a status");
    assert_eq!((status.code, status.not_processed), (Code::Unavailable, true));
    let running = within(LIMIT, running.try_next()).await.expect_err("ended");
    assert!(!running.status().expect("a status").not_processed);
}

/// After a reconnect nats-server counts the messages of a subscription from the beginning, and async-nats does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_was_reconnected_is_out_of_its_group_once_it_has_left() {
    let subject = unique_subject("rolling");
    let nats = NatsServer::start().await;
    let proxy = Proxy::start(nats.url()).await;
    let server = Server::new(connection(&proxy.url()).await);
    let endpoint = within(LIMIT, server.on(&subject, three)).await.expect("served");
    let pool = Pool::new(connection(&nats.url()).await);
    let call = async || {
        let responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
        within(LIMIT, responses.collect_all(1024)).await
    };
    for _ in 0..200 {
        call().await.expect("complete");
    }
    let mut state = server.connection().state();
    proxy.cut();
    let back = state.wait_for(|state| state.epoch == 2 && state.is_connected());
    within(LIMIT, back).await.expect("it comes back");
    let served = async {
        // The subscription is back a little later than the connection.
        while call().await.is_err() {}
    };
    within(LIMIT, served).await;
    // Requests keep coming while it leaves; one that is on its way may be lost then.
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::task::spawn({
        let (pool, subject, stop) = (pool.clone(), subject.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
                let _ = within(LIMIT, responses.collect_all(1024)).await;
            }
        }
    });
    within(LIMIT, endpoint.unsubscribe()).await;
    stop.store(true, Ordering::Relaxed);
    within(LIMIT, load).await.expect("no panic");
    let error = call().await.expect_err("nobody is there");
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
}
