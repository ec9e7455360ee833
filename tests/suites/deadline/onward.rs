//! Handlers that are callers themselves: what is left of the time goes on, and what failed comes back.

use std::time::Duration;

use integration::{LIMIT, Peers};
use natstream::{Clock, Code, HandlerError, Pool, Request, RequestErrorKind, ResponseSender};
use testkit::{unique_subject, within};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::{AMPLE, complete};

/// A handler that asks `subject`, and hands on what it gets.
async fn relay(pool: Pool, subject: String, request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let items = pool
        .request_stream(subject, request.payload().clone())
        .deadline_at(request.deadline());
    let mut items = items.await.map_err(HandlerError::upstream)?;
    while let Some(item) = items.try_next().await.map_err(HandlerError::upstream)? {
        out.send(item).await?;
    }
    Ok(())
}

/// The peers, the subject of a relay, and that of what it asks.
async fn relayed() -> (Peers, String, String) {
    let peers = Peers::connect().await;
    let (front, back) = (unique_subject("front"), unique_subject("back"));
    let (pool, asked) = (peers.pool.clone(), back.clone());
    let served = peers.server.on(&front, move |request, out| {
        relay(pool.clone(), asked.clone(), request, out)
    });
    within(LIMIT, served).await.expect("served");
    (peers, front, back)
}

#[tokio::test]
async fn the_failure_behind_a_handler_is_passed_on_whole() {
    let (Peers { pool, server }, front, back) = relayed().await;
    let handler = |_request, mut out: ResponseSender| async move {
        out.send("one").await?;
        Err(HandlerError::new(Code::FailedPrecondition, "locked")
            .with_details("by audit")
            .retry_after(Duration::from_secs(7)))
    };
    within(LIMIT, server.on(&back, handler)).await.expect("served");
    let mut items = within(LIMIT, pool.request_stream(&front, "")).await.expect("sent");
    assert!(within(LIMIT, items.try_next()).await.expect("an item").is_some());
    let error = within(LIMIT, items.try_next()).await.expect_err("failed");
    assert_eq!(error.kind(), RequestErrorKind::Failed);
    let status = error.status().expect("the words of the one behind");
    assert_eq!(
        (status.code, &status.details[..]),
        (Code::FailedPrecondition, &b"by audit"[..])
    );
    assert_eq!(
        (status.retryable, status.retry_after),
        (true, Some(Duration::from_secs(7)))
    );
}

#[tokio::test]
async fn nobody_behind_a_handler_is_worth_another_try() {
    let (Peers { pool, server: _server }, front, _back) = relayed().await;
    let mut items = within(LIMIT, pool.request_stream(&front, "")).await.expect("sent");
    let error = within(LIMIT, items.try_next()).await.expect_err("nobody is behind it");
    // It was the handler in front that failed: it has run.
    assert_eq!(error.kind(), RequestErrorKind::Failed, "{error}");
    let status = error.status().expect("a status");
    assert_eq!((status.code, status.retryable), (Code::Unavailable, true));
}

#[tokio::test]
async fn the_handler_behind_has_what_the_first_one_left() {
    let (Peers { pool, server }, front, back) = relayed().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |request: Request, _out| {
        let left = request
            .deadline()
            .map(|at| at.saturating_duration_since(Instant::now()));
        let _ = tell.send(left);
        async { Ok(()) }
    };
    within(LIMIT, server.on(&back, handler)).await.expect("served");
    let items = within(LIMIT, pool.request_stream(&front, "").deadline(AMPLE)).await;
    complete(items.expect("sent")).await;
    let left = within(LIMIT, told.recv()).await.expect("it ran").expect("a deadline");
    assert!(!left.is_zero() && left <= AMPLE, "{left:?}");
    complete(within(LIMIT, pool.request_stream(&front, "")).await.expect("sent")).await;
    assert_eq!(
        within(LIMIT, told.recv()).await,
        Some(None),
        "no deadline is passed on as none"
    );
}

#[tokio::test]
async fn the_earlier_of_two_deadlines_holds() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("earlier");
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |request: Request, _out| {
        let left = request
            .deadline()
            .map(|at| at.saturating_duration_since(Instant::now()));
        let _ = tell.send(left);
        async { Ok(()) }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    for (limit, at) in [(AMPLE, 100 * AMPLE), (100 * AMPLE, AMPLE)] {
        let call = pool
            .request_stream(&subject, "")
            .deadline(limit)
            .deadline_at(Instant::now() + at);
        complete(within(LIMIT, call).await.expect("sent")).await;
        let left = within(LIMIT, told.recv()).await.expect("it ran").expect("a deadline");
        assert!(left <= AMPLE, "{left:?}");
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_ends_calls_and_requests() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("passed");
    let handler = |_request, out: ResponseSender| async move {
        out.closed().await;
        Ok(())
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let call = async {
        let mut items = pool.request_stream(&subject, "").deadline_at(Instant::now()).await?;
        items.try_next().await.map(|_| ())
    };
    let reply = async { pool.request(&subject, "").deadline_at(Instant::now()).await.map(|_| ()) };
    for outcome in [within(LIMIT, call).await, within(LIMIT, reply).await] {
        let error = outcome.expect_err("there was no time");
        assert_eq!(
            (error.kind(), error.clock()),
            (RequestErrorKind::Timeout, Some(Clock::Deadline))
        );
    }
}
