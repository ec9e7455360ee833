//! Readers of every speed on one connection: a slow one holds its own handler back, and nobody else.

use std::sync::Arc;
use std::time::Duration;

use integration::{LIMIT, Peers, connection};
use natstream::{CloseReason, Code, Pool, Request, RequestErrorKind, ResponseSender, Responses, SendErrorKind, Server};
use testkit::{Flow, Proxy, settles_where, shared_url, unique_subject, within};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Serves `subject` with as many numbered items as the request says, each of `size` bytes.
async fn serve(server: &Server, subject: &str, size: usize) -> natstream::Endpoint {
    let handler = move |request: Request, mut out: ResponseSender| async move {
        let count = u64::from_be_bytes(request.payload()[..].try_into().expect("eight bytes"));
        let mut item = vec![7; size];
        for number in 0..count {
            item[..8].copy_from_slice(&number.to_be_bytes());
            out.send(&item).await?;
        }
        Ok(())
    };
    within(LIMIT, server.on(subject, handler)).await.expect("served")
}

/// Asks for `count` items.
async fn ask(pool: &Pool, subject: &str, count: u64) -> Responses {
    let request = pool.request_stream(subject, count.to_be_bytes().to_vec());
    within(LIMIT, request).await.expect("sent")
}

/// That the items from `from` up to `to` come, each once, in order.
async fn numbers(responses: &mut Responses, from: u64, to: u64) {
    for expected in from..to {
        let item = within(LIMIT, responses.try_next()).await;
        let item = item.expect("no error").expect("no end");
        assert_eq!(item[..8], expected.to_be_bytes());
    }
}

/// The rest, and that it is complete.
async fn rest(mut responses: Responses, from: u64, to: u64) {
    numbers(&mut responses, from, to).await;
    assert!(within(LIMIT, responses.try_next()).await.expect("complete").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_every_speed_share_a_connection() {
    // More than the largest window.
    const COUNT: u64 = 4000;
    const SIZE: usize = 1024;
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("slow");
    let endpoint = serve(&server, &subject, SIZE).await;
    let held = ask(&pool, &subject, COUNT).await;
    let mut stepping = ask(&pool, &subject, COUNT).await;
    for round in 0..10 {
        // One item each time that a fast call has ended.
        numbers(&mut stepping, round, round + 1).await;
        rest(ask(&pool, &subject, COUNT).await, 0, COUNT).await;
    }
    settles_where(LIMIT, || async { endpoint.stats() }, |stats| stats.finished == 10).await;
    assert_eq!(endpoint.stats().active, 2, "those that are read slowly are not over");
    rest(held, 0, COUNT).await;
    rest(stepping, 10, COUNT).await;
    assert_eq!(pool.stats().gaps, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_slow_readers_make_others_keep_is_bounded_together() {
    const READERS: usize = 50;
    const WINDOW: usize = 1 << 20;
    const SIZE: usize = 16 << 10;
    // What all windows of a connection add up to, and what each stream has beside it: 8 KiB, one unit in the window, and
    // one that is being filled.
    const BOUND: usize = (16 << 20) + READERS * ((8 << 10) + 2 * (64 << 10));
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("slow");
    let (sent, mut watched) = watch::channel(0u64);
    let sent = Arc::new(sent);
    let handler = {
        let sent = sent.clone();
        move |_request, mut out: ResponseSender| {
            let sent = sent.clone();
            async move {
                let mut item = vec![7; SIZE];
                loop {
                    item[..8].copy_from_slice(&out.sent().to_be_bytes());
                    out.send(&item).await?;
                    sent.send_modify(|sent| *sent += 1);
                }
            }
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");

    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let request = pool.request_stream(&subject, "").window(WINDOW);
        let mut responses = within(LIMIT, request).await.expect("sent");
        readers.spawn(async move {
            // Enough for each to ask for its whole window.
            numbers(&mut responses, 0, 2 * (WINDOW / SIZE) as u64).await;
            responses
        });
    }
    let mut readers = within(LIMIT, readers.join_all()).await;
    let read = (READERS * 2 * WINDOW / SIZE) as u64;
    // The handlers have stopped when nothing changes for longer than any scheduling takes.
    let quiet = Duration::from_millis(300);
    while tokio::time::timeout(quiet, watched.changed()).await.is_ok() {}
    let ahead = (*watched.borrow() - read) * SIZE as u64;
    assert!(
        ahead <= BOUND as u64,
        "{ahead} bytes are kept for {READERS} readers, {BOUND} are allowed for"
    );
    assert!(ahead > 0, "nothing is sent ahead");

    // They have not disturbed each other, nor does one that comes now wait for them.
    let fast = unique_subject("fast");
    serve(&server, &fast, 1024).await;
    rest(ask(&pool, &fast, 1000).await, 0, 1000).await;
    let from = 2 * (WINDOW / SIZE) as u64;
    for responses in &mut readers {
        numbers(responses, from, from + 10).await;
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_ends_at_the_stall_limit() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("stall");
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let tell = tell.clone();
        async move {
            loop {
                let number = out.sent().to_be_bytes();
                if let Err(error) = out.send([number; 512].concat()).await {
                    // The test has ended if nobody listens.
                    let _ = tell.send((error.kind(), error.reason(), out.sent()));
                    return Ok(());
                }
            }
        }
    };
    let endpoint = server.on(&subject, handler).stall_limit(Duration::from_millis(300));
    within(LIMIT, endpoint).await.expect("served");
    let mut responses = ask(&pool, &subject, 0).await;
    let (kind, reason, sent) = within(LIMIT, told.recv()).await.expect("it was told");
    assert_eq!((kind, reason), (SendErrorKind::Closed, Some(CloseReason::Stalled)));

    // What was sent before comes, in order, and then the reason.
    let mut received = 0;
    let error = loop {
        match within(LIMIT, responses.try_next()).await {
            Ok(item) => assert_eq!(item.expect("not a success")[..8], u64::to_be_bytes(received)),
            Err(error) => break error,
        }
        received += 1;
    };
    assert_eq!(error.kind(), RequestErrorKind::Failed);
    assert_eq!(error.status().expect("a status").code, Code::Aborted);
    assert!(received > 0 && received <= sent, "{received} of {sent}");
}

#[tokio::test]
async fn a_reader_that_takes_an_item_now_and_then_does_not_stall() {
    const COUNT: u64 = 40;
    // Each item is more than the window, so each is waited for.
    const SIZE: usize = 128 << 10;
    const LIMIT_OF_STALL: Duration = Duration::from_millis(400);
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("stall");
    let handler = |_request, mut out: ResponseSender| async move {
        let mut item = vec![7; SIZE];
        for number in 0..COUNT {
            item[..8].copy_from_slice(&number.to_be_bytes());
            out.send(&item).await?;
        }
        Ok(())
    };
    let endpoint = server.on(&subject, handler).stall_limit(LIMIT_OF_STALL);
    within(LIMIT, endpoint).await.expect("served");
    let mut responses = ask(&pool, &subject, 0).await;
    for number in 0..COUNT {
        numbers(&mut responses, number, number + 1).await;
        // sleep: the pace is what is tried; all together it takes longer than the limit.
        tokio::time::sleep(LIMIT_OF_STALL / 20).await;
    }
    rest(responses, COUNT, COUNT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_narrow_network_delays_and_loses_nothing() {
    const COUNT: u64 = 1000;
    const SIZE: usize = 4096;
    let proxy = Proxy::start(shared_url()).await;
    proxy.bandwidth(Flow::ToClient, 8 << 20);
    let pool = Pool::new(connection(&proxy.url()).await);
    let Peers { pool: beside, server } = Peers::connect().await;
    let subject = unique_subject("narrow");
    serve(&server, &subject, SIZE).await;
    let mut narrow = JoinSet::new();
    for _ in 0..4 {
        narrow.spawn(rest(ask(&pool, &subject, COUNT).await, 0, COUNT));
    }
    // Another caller's connection to the same responder is as wide as ever.
    rest(ask(&beside, &subject, COUNT).await, 0, COUNT).await;
    within(LIMIT, narrow.join_all()).await;
    let stats = pool.stats();
    assert_eq!((stats.gaps, stats.retransmitted, stats.suspicions), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_responder_behind_a_narrow_network_loses_nothing() {
    const COUNT: u64 = 1000;
    let proxy = Proxy::start(shared_url()).await;
    proxy.bandwidth(Flow::ToServer, 8 << 20);
    let server = Server::new(connection(&proxy.url()).await);
    let pool = Pool::new(connection(shared_url()).await);
    let subject = unique_subject("narrow");
    serve(&server, &subject, 4096).await;
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        calls.spawn(rest(ask(&pool, &subject, COUNT).await, 0, COUNT));
    }
    within(LIMIT, calls.join_all()).await;
    assert_eq!(pool.stats().gaps, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_of_large_items_share_a_connection() {
    const STREAMS: usize = 200;
    const COUNT: u64 = 2;
    const SIZE: usize = 256 << 10;
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("large");
    serve(&server, &subject, SIZE).await;
    let mut calls = JoinSet::new();
    for _ in 0..STREAMS {
        calls.spawn(rest(ask(&pool, &subject, COUNT).await, 0, COUNT));
    }
    within(2 * LIMIT, calls.join_all()).await;
    let stats = pool.stats();
    assert_eq!((stats.items, stats.gaps), (STREAMS as u64 * COUNT, 0));
    assert_eq!(
        pool.connection().expect("one connection").state().borrow().epoch,
        1,
        "the connection was cut"
    );
}
