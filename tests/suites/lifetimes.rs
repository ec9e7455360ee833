//! What keeps what alive: connections that close, runtimes and handles that end in any order.

use std::sync::Arc;
use std::time::Duration;

use integration::{LIMIT, Peers, connection};
use natstream::{CloseReason, Pool, RequestErrorKind, ResponseSender, Server};
use testkit::{shared_url, unique_subject, within};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

async fn endless(_request: natstream::Request, mut out: ResponseSender) -> Result<(), natstream::HandlerError> {
    out.send("here").await?;
    out.closed().await;
    Ok(())
}

#[tokio::test]
async fn closing_the_callers_connection_ends_its_calls_at_once() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("life");
    within(LIMIT, server.on(&subject, endless)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    within(LIMIT, responses.try_next()).await.expect("an item");
    within(LIMIT, pool.connection().expect("one connection").close(LIMIT))
        .await
        .expect("closed");
    // Far less than the 15 s after which a silent responder is lost.
    let error = within(Duration::from_secs(5), responses.try_next())
        .await
        .expect_err("lost");
    assert_eq!(error.kind(), RequestErrorKind::Lost);
}

#[tokio::test]
async fn closing_the_responders_connection_ends_its_streams_at_once() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("life");
    let (report, mut reports) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let report = report.clone();
        async move {
            out.send("here").await?;
            let _ = report.send(out.closed().await);
            Ok(())
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    within(LIMIT, responses.try_next()).await.expect("an item");
    within(LIMIT, server.connection().close(LIMIT)).await.expect("closed");
    let reason = within(Duration::from_secs(5), reports.recv()).await;
    assert_eq!(reason, Some(CloseReason::Disconnected));
}

#[tokio::test]
async fn an_answer_outlives_its_pool_and_connection_handles() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("life");
    within(LIMIT, server.on_items(&subject, |_| async { Ok(["1", "2"]) }))
        .await
        .expect("served");
    let responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    drop(pool);
    let items = within(LIMIT, responses.collect_all(1000)).await.expect("complete");
    assert_eq!(items, ["1", "2"]);
}

#[tokio::test]
async fn a_dropped_server_serves_no_more() {
    let subject = unique_subject("life");
    let server = Server::new(connection(shared_url()).await);
    within(LIMIT, server.on(&subject, endless)).await.expect("served");
    let pool = Pool::new(connection(shared_url()).await);
    drop(server);
    let gone = async {
        loop {
            let mut responses = pool.request_stream(&subject, "").await.expect("sent");
            match responses.try_next().await.map_err(|error| error.kind()) {
                Err(RequestErrorKind::NoResponders) => break,
                Err(RequestErrorKind::Refused | RequestErrorKind::Unanswered) | Ok(_) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    within(LIMIT, gone).await;
}

#[test]
fn a_call_may_be_made_first_in_a_runtime_that_ends() {
    let runtime = Runtime::new().expect("a runtime");
    let subject = unique_subject("life");
    let Peers { pool, server } = runtime.block_on(async {
        let peers = Peers::connect().await;
        within(LIMIT, peers.server.on(&subject, endless)).await.expect("served");
        peers
    });
    let call = |limit| {
        let request = pool.request_stream(&subject, "").deadline(limit);
        async move {
            let mut responses = within(LIMIT, request).await.expect("sent");
            within(LIMIT, responses.try_next()).await.expect("an item");
            within(LIMIT, responses.try_next())
                .await
                .expect_err("the deadline")
                .kind()
        }
    };
    let short = Duration::from_millis(100);
    assert_eq!(
        Runtime::new().expect("a runtime").block_on(call(short)),
        RequestErrorKind::Timeout
    );
    assert_eq!(runtime.block_on(call(short)), RequestErrorKind::Timeout);
    drop(server);
}

#[test]
fn a_runtime_that_ends_frees_its_streams() {
    let runtime = Runtime::new().expect("a runtime");
    let held = Arc::new(());
    let inner = held.clone();
    let responses = runtime.block_on(async move {
        let Peers { pool, server } = Peers::connect().await;
        let subject = unique_subject("life");
        let handler = move |_request, mut out: ResponseSender| {
            let inner = inner.clone();
            async move {
                out.send("x").await?;
                std::future::pending::<()>().await;
                drop(inner);
                Ok(())
            }
        };
        within(LIMIT, server.on(&subject, handler)).await.expect("served");
        let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
        within(LIMIT, responses.try_next()).await.expect("an item");
        responses
    });
    drop(runtime);
    // Dropped without a runtime: nothing panics.
    drop(responses);
    assert_eq!(Arc::strong_count(&held), 1, "the handler is still kept");
}

/// What is known at once where only the process itself is concerned.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_handler_whose_runtime_ends_fails_its_calls() {
    let runtime = Runtime::new().expect("a runtime");
    let serves = Runtime::new().expect("a runtime");
    let subject = unique_subject("life");
    let Peers { pool, server } = runtime.block_on(Peers::connect());
    // Where the endpoint was started, its handlers run.
    let endpoint = serves.block_on(async {
        let endpoint = server.on(&subject, endless).max_concurrent(1).max_queued(1);
        within(LIMIT, endpoint).await.expect("served")
    });
    let call = || async { within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent") };
    let (mut responses, mut queued) = runtime.block_on(async {
        let mut responses = call().await;
        within(LIMIT, responses.try_next()).await.expect("an item");
        let queued = call().await;
        testkit::settles(LIMIT, || std::future::ready(endpoint.stats().requests), 2).await;
        (responses, queued)
    });
    drop(serves);
    runtime.block_on(async {
        let error = within(SOON, responses.try_next())
            .await
            .expect_err("the handler is gone");
        assert_eq!(error.kind(), RequestErrorKind::Failed);
        let error = within(SOON, queued.try_next()).await.expect_err("it never ran");
        assert_eq!(error.kind(), RequestErrorKind::Refused, "{error}");
        within(SOON, endpoint.unsubscribe()).await;
        assert_eq!(within(SOON, server.drain(LIMIT)).await.aborted, 0);
    });
}

#[test]
fn a_connection_whose_runtime_ends_is_closed_to_those_who_wait_elsewhere() {
    let connects = Runtime::new().expect("a runtime");
    let waits = Runtime::new().expect("a runtime");
    let subject = unique_subject("life");
    let Peers { pool, server } = connects.block_on(Peers::connect());
    let (report, mut reports) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let report = report.clone();
        async move {
            out.send("here").await?;
            let _ = report.send(out.closed().await);
            Ok(())
        }
    };
    let responses = waits.block_on(async {
        within(LIMIT, server.on(&subject, handler)).await.expect("served");
        let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
        within(LIMIT, responses.try_next()).await.expect("an item");
        responses
    });
    // Waits already when it happens.
    let mut responses = responses;
    let waiting = waits.spawn(async move { responses.try_next().await.map_err(|error| error.kind()) });
    drop(connects);
    waits.block_on(async {
        let outcome = within(SOON, waiting).await.expect("no panic");
        assert_eq!(outcome, Err(RequestErrorKind::Lost));
        assert_eq!(within(SOON, reports.recv()).await, Some(CloseReason::Disconnected));
        let late = pool
            .request_stream(&subject, "")
            .connect_timeout(Duration::from_millis(300));
        let error = within(SOON, late).await.expect_err("nobody is there to send it");
        assert_eq!(error.kind(), RequestErrorKind::Connection);
    });
}
