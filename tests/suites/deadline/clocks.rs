//! Which clock ends a call, and who hears of it.

use std::time::Duration;

use integration::{LIMIT, Peers};
use natstream::async_nats::HeaderMap;
use natstream::proto::{Frame, HEADER};
use natstream::{
    Clock, CloseReason, Code, HandlerError, NextRequest, Request, RequestErrorKind, ResponseSender, RetryPolicy,
    SendErrorKind,
};
use testkit::{NatsServer, unique_subject, within};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::{AMPLE, Gate, complete, counted, item, serve_one_at_a_time};

fn now() -> Instant {
    Instant::now()
}

#[tokio::test]
async fn a_first_item_that_does_not_come_ends_the_call() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("first");
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |_request, out: ResponseSender| {
        let tell = tell.clone();
        async move {
            let _ = tell.send(out.closed().await);
            Ok(())
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    // Long enough for the responder to be known: it has nothing to say until 200 ms have passed.
    let request = pool
        .request_stream(&subject, "")
        .first_item_timeout(Duration::from_millis(400));
    let mut responses = within(LIMIT, request).await.expect("sent");
    let error = within(LIMIT, responses.try_next()).await.expect_err("no item");
    assert_eq!(
        (error.kind(), error.clock()),
        (RequestErrorKind::Timeout, Some(Clock::FirstItem))
    );
    assert_eq!(within(LIMIT, told.recv()).await, Some(CloseReason::Cancelled));
}

#[tokio::test]
async fn a_further_item_that_does_not_come_ends_the_call() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("idle");
    let handler = |_request, mut out: ResponseSender| async move {
        out.send("first").await?;
        out.closed().await;
        Ok(())
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let request = pool
        .request_stream(&subject, "")
        .first_item_timeout(AMPLE)
        .idle_timeout(Duration::from_millis(100));
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(item(&mut responses).await, "first");
    let error = within(LIMIT, responses.try_next()).await.expect_err("no item");
    assert_eq!(
        (error.kind(), error.clock()),
        (RequestErrorKind::Timeout, Some(Clock::Idle))
    );
    assert_eq!(error.items(), 1);
}

#[tokio::test]
async fn the_idle_clock_stands_still_while_nobody_waits() {
    const IDLE: Duration = Duration::from_millis(200);
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("idle");
    let gate = Gate::new();
    let handler = {
        let gate = gate.clone();
        move |_request, mut out: ResponseSender| {
            let gate = gate.clone();
            async move {
                out.send("first").await?;
                gate.passed().await;
                out.send("second").await?;
                Ok(())
            }
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let request = pool.request_stream(&subject, "").idle_timeout(IDLE);
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(item(&mut responses).await, "first");
    // sleep: the time itself is what is tried, while the reader is busy elsewhere.
    tokio::time::sleep(3 * IDLE).await;
    gate.open();
    assert_eq!(item(&mut responses).await, "second");
    complete(responses).await;
}

#[tokio::test]
async fn the_deadline_ends_a_call_whose_items_keep_coming() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("total");
    let handler = |_request, mut out: ResponseSender| async move {
        loop {
            out.send([0; 1024]).await?;
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let request = pool
        .request_stream(&subject, "")
        .idle_timeout(AMPLE)
        .deadline(Duration::from_millis(300));
    let mut responses = within(LIMIT, request).await.expect("sent");
    let error = within(LIMIT, async {
        loop {
            if let Err(error) = responses.try_next().await {
                return error;
            }
        }
    })
    .await;
    assert_eq!(
        (error.kind(), error.clock()),
        (RequestErrorKind::Timeout, Some(Clock::Deadline))
    );
}

#[tokio::test]
async fn the_deadline_covers_the_wait_for_a_connection() {
    let mut nats = NatsServer::start().await;
    let Peers { pool, .. } = Peers::connect_to(&nats.url()).await;
    nats.kill();
    let mut state = pool.connection().expect("one connection").state();
    within(LIMIT, state.wait_for(|state| !state.is_connected()))
        .await
        .expect("down");
    let request = pool
        .request_stream(unique_subject("down"), "")
        .connect_timeout(AMPLE)
        .deadline(Duration::from_millis(100));
    let error = within(LIMIT, request).await.expect_err("down");
    assert_eq!(
        (error.kind(), error.clock()),
        (RequestErrorKind::Timeout, Some(Clock::Deadline))
    );
}

#[tokio::test]
async fn what_the_wait_for_a_connection_took_is_not_the_handlers() {
    const WAIT: Duration = Duration::from_millis(300);
    let mut nats = NatsServer::start().await;
    let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
    let subject = unique_subject("down");
    let (tell, mut told) = mpsc::unbounded_channel();
    within(
        LIMIT,
        server.on(&subject, move |request, _out| left(request, tell.clone())),
    )
    .await
    .expect("served");
    nats.kill();
    let mut state = pool.connection().expect("one connection").state();
    within(LIMIT, state.wait_for(|state| !state.is_connected()))
        .await
        .expect("down");
    let request = pool
        .request_stream(&subject, "")
        .connect_timeout(AMPLE)
        .deadline(AMPLE)
        .send();
    let mut request = std::pin::pin!(request);
    // It waits for so long before the server is even started again.
    tokio::time::timeout(WAIT, &mut request).await.expect_err("down");
    within(LIMIT, nats.restart()).await;
    complete(within(LIMIT, request).await.expect("sent")).await;
    let left = within(LIMIT, told.recv()).await.expect("it ran").expect("a deadline");
    assert!(left <= AMPLE - WAIT, "{left:?}");
}

/// Reports what is left of the deadline.
async fn left(request: Request, tell: mpsc::UnboundedSender<Option<Duration>>) -> Result<(), HandlerError> {
    let left = request
        .deadline()
        .map(|deadline| deadline.saturating_duration_since(now()));
    // The test has ended if nobody listens.
    let _ = tell.send(left);
    Ok(())
}

#[tokio::test]
async fn the_handler_knows_what_is_left() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("left");
    let (tell, mut told) = mpsc::unbounded_channel();
    within(
        LIMIT,
        server.on(&subject, move |request, _out| left(request, tell.clone())),
    )
    .await
    .expect("served");
    let request = pool.request_stream(&subject, "").deadline(AMPLE);
    complete(within(LIMIT, request).await.expect("sent")).await;
    let with = within(LIMIT, told.recv()).await.expect("it ran").expect("a deadline");
    assert!(!with.is_zero() && with <= AMPLE, "{with:?}");

    for none in [None, Some(Duration::MAX)] {
        let mut request = pool.request_stream(&subject, "");
        if let Some(deadline) = none {
            request = request.deadline(deadline);
        }
        complete(within(LIMIT, request).await.expect("sent")).await;
        assert_eq!(within(LIMIT, told.recv()).await, Some(None), "{none:?}");
    }
}

#[tokio::test]
async fn a_later_attempt_has_what_the_earlier_ones_left() {
    const PAUSE: Duration = Duration::from_millis(300);
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("left");
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |request, _out| {
        let tell = tell.clone();
        async move {
            left(request, tell).await?;
            Err(HandlerError::unavailable("always"))
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let request = pool
        .request_stream(&subject, "")
        .deadline(AMPLE)
        .retry(RetryPolicy::fixed(1, PAUSE));
    let mut responses = within(LIMIT, request).await.expect("sent");
    let error = within(LIMIT, responses.try_next()).await.expect_err("failed");
    assert_eq!(error.kind(), RequestErrorKind::Failed);
    within(LIMIT, told.recv()).await.expect("it ran");
    let second = within(LIMIT, told.recv()).await.expect("it ran").expect("a deadline");
    assert!(second <= AMPLE - PAUSE, "{second:?}");
}

#[tokio::test]
async fn a_call_that_resumes_has_one_deadline() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("total");
    let handler = |_request, mut out: ResponseSender| async move {
        out.send("one").await?;
        Err(HandlerError::unavailable("after each item"))
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let request = pool
        .request_stream(&subject, "")
        .deadline(Duration::from_millis(500))
        .retry(RetryPolicy::fixed(1, Duration::from_millis(20)))
        .resume(|_last| NextRequest::new(""));
    let mut responses = within(LIMIT, request).await.expect("sent");
    // Each attempt brings an item, so only the deadline ends it: as a timeout, or as the last failure when the pause would
    // outlast it.
    within(LIMIT, async { while responses.try_next().await.is_ok() {} }).await;
    assert!(responses.attempt() > 1);
}

#[tokio::test]
async fn the_handler_is_stopped_at_the_deadline() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("stopped");
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let tell = tell.clone();
        async move {
            let reason = out.closed().await;
            let error = out.send("late").await.expect_err("it has ended");
            let _ = tell.send((reason, error.kind(), error.reason()));
            Ok(())
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let request = pool.request_stream(&subject, "").deadline(Duration::from_millis(100));
    // The responder has the deadline itself: nobody needs to read.
    let _responses = within(LIMIT, request).await.expect("sent");
    let stopped = within(LIMIT, told.recv()).await.expect("it was told");
    let deadline = CloseReason::Deadline;
    assert_eq!(stopped, (deadline, SendErrorKind::Closed, Some(deadline)));
}

#[tokio::test]
async fn a_handler_that_waits_for_room_is_stopped_at_the_deadline() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("stopped");
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let tell = tell.clone();
        async move {
            loop {
                if let Err(error) = out.send([0; 4096]).await {
                    let _ = tell.send((error.kind(), error.reason()));
                    return Ok(());
                }
            }
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let request = pool.request_stream(&subject, "").deadline(Duration::from_millis(300));
    let _unread = within(LIMIT, request).await.expect("sent");
    let stopped = within(LIMIT, told.recv()).await.expect("it was told");
    assert_eq!(stopped, (SendErrorKind::Closed, Some(CloseReason::Deadline)));
}

#[tokio::test]
async fn a_call_without_time_is_not_made() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("zero");
    let gate = Gate::new();
    gate.open();
    let (endpoint, begun) = serve_one_at_a_time(&server, &subject, 0, &gate).await;
    let request = pool.request_stream(&subject, "").deadline(Duration::ZERO);
    let error = match within(LIMIT, request).await {
        Err(error) => error,
        Ok(mut responses) => within(LIMIT, responses.try_next()).await.expect_err("no time"),
    };
    assert_eq!(
        (error.kind(), error.clock()),
        (RequestErrorKind::Timeout, Some(Clock::Deadline))
    );
    // The next call shows that nothing of the first is on its way any more.
    let mut next = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    assert_eq!(item(&mut next).await, "begun");
    complete(next).await;
    counted(&endpoint, |stats| stats.active == 0).await;
    assert_eq!(begun.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_request_that_comes_after_its_deadline_is_refused_and_not_processed() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("late");
    let gate = Gate::new();
    let (endpoint, begun) = serve_one_at_a_time(&server, &subject, 0, &gate).await;
    let mut headers = HeaderMap::new();
    headers.insert(HEADER, "1;w=65536;d=0");
    let nats = pool.connection().expect("one connection").nats();
    let answer = nats.request_with_headers(subject.clone(), headers, "".into());
    let answer = within(LIMIT, answer).await.expect("an answer");
    let Ok(Frame::Unit(unit)) = Frame::decode(&answer.payload) else {
        panic!("not a unit: {answer:?}");
    };
    let (status, _items) = unit.fin.expect("a refusal is an end");
    assert_eq!((status.code, status.not_processed), (Code::DeadlineExceeded, true));
    assert_eq!(begun.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert_eq!(endpoint.stats().refused, 1);
}

#[tokio::test]
async fn the_deadline_passes_for_both_sides_while_there_is_no_server() {
    let mut nats = NatsServer::start().await;
    let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
    let subject = unique_subject("down");
    let (tell, mut told) = mpsc::unbounded_channel();
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
    let request = pool.request_stream(&subject, "").deadline(Duration::from_secs(1));
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(item(&mut responses).await, "first");
    nats.kill();
    let error = within(LIMIT, responses.try_next()).await.expect_err("no more");
    assert_eq!(error.clock(), Some(Clock::Deadline));
    assert_eq!(within(LIMIT, told.recv()).await, Some(CloseReason::Deadline));
}

#[tokio::test]
async fn the_idle_clock_runs_while_there_is_no_server() {
    let mut nats = NatsServer::start().await;
    let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
    let subject = unique_subject("down");
    let handler = |_request, mut out: ResponseSender| async move {
        out.send("first").await?;
        out.closed().await;
        Ok(())
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let request = pool.request_stream(&subject, "").idle_timeout(Duration::from_secs(1));
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(item(&mut responses).await, "first");
    nats.kill();
    let error = within(LIMIT, responses.try_next()).await.expect_err("no more");
    assert_eq!(error.clock(), Some(Clock::Idle));
}
