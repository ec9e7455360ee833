//! The pauses between attempts, and the clocks that bound them.

use std::time::Duration;

use integration::{LIMIT, Peers};
use natstream::{Clock, CloseReason, RequestErrorKind, ResponseSender, RetryPolicy};
use testkit::{unique_subject, within};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::{NEVER, SHORT, busy, complete, failure, item, serve};

fn now() -> Instant {
    Instant::now()
}

#[tokio::test]
async fn each_pause_of_a_fixed_policy_is_waited() {
    const PAUSE: Duration = Duration::from_millis(60);
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("wait");
    let calls = serve(&server, &subject, |_, _, _| async { Err(busy()) }).await;
    let began = now();
    let request = pool.request_stream(&subject, "").retry(RetryPolicy::fixed(3, PAUSE));
    let mut responses = within(LIMIT, request).await.expect("sent");
    failure(&mut responses).await;
    assert_eq!(calls.made(), 4);
    let took = now() - began;
    assert!(took >= 3 * PAUSE, "{took:?}");
}

#[tokio::test]
async fn a_caller_that_is_refused_waits_as_long_as_it_is_told() {
    const AFTER: Duration = Duration::from_millis(400);
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("wait");
    let handler = |_request, mut out: ResponseSender| async move {
        out.send("mine").await?;
        out.closed().await;
        Ok(())
    };
    let endpoint = server.on(&subject, handler).max_concurrent(1).retry_after(AFTER);
    let endpoint = within(LIMIT, endpoint).await.expect("served");
    let mut holder = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    item(&mut holder).await;

    let began = now();
    let request = pool.request_stream(&subject, "").retry(RetryPolicy::fixed(1, SHORT));
    let mut responses = within(LIMIT, request).await.expect("sent");
    let error = failure(&mut responses).await;
    let took = now() - began;
    assert!(took >= AFTER, "{took:?}");
    assert_eq!(error.kind(), RequestErrorKind::Refused);
    assert_eq!(error.status().expect("a status").retry_after, Some(AFTER));
    assert_eq!(endpoint.stats().refused, 2);
}

#[tokio::test]
async fn a_handler_says_how_long_to_wait() {
    const AFTER: Duration = Duration::from_millis(300);
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("wait");
    let calls = serve(&server, &subject, |_, _, _| async { Err(busy().retry_after(AFTER)) }).await;
    let began = now();
    let policy = RetryPolicy::exponential_between(1, SHORT, SHORT);
    let request = pool.request_stream(&subject, "").retry(policy);
    let mut responses = within(LIMIT, request).await.expect("sent");
    failure(&mut responses).await;
    let took = now() - began;
    assert!(took >= AFTER, "{took:?}");
    assert_eq!(calls.made(), 2);
}

#[tokio::test]
async fn a_pause_that_would_outlast_the_deadline_is_not_begun() {
    let Peers { pool, server } = Peers::connect().await;
    for (policy, after) in [
        (RetryPolicy::fixed(5, NEVER), Duration::ZERO),
        (RetryPolicy::fixed(5, SHORT), NEVER),
    ] {
        let subject = unique_subject("wait");
        let calls = serve(&server, &subject, move |_, _, _| async move {
            Err(busy().retry_after(after))
        })
        .await;
        let request = pool.request_stream(&subject, "").retry(policy).deadline(NEVER / 2);
        let mut responses = within(LIMIT, request).await.expect("sent");
        assert_eq!(failure(&mut responses).await.kind(), RequestErrorKind::Failed);
        assert_eq!(calls.made(), 1);
    }
}

#[tokio::test]
async fn retries_end_with_the_deadline() {
    const DEADLINE: Duration = Duration::from_secs(1);
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("wait");
    let calls = serve(&server, &subject, |_, _, _| async { Err(busy()) }).await;
    let policy = RetryPolicy::fixed(1000, Duration::from_millis(150));
    let request = pool.request_stream(&subject, "").retry(policy).deadline(DEADLINE);
    let mut responses = within(LIMIT, request).await.expect("sent");
    let error = failure(&mut responses).await;
    // The last one, unless the deadline passed in the middle of an attempt.
    let is_last = error.kind() == RequestErrorKind::Failed;
    assert!(is_last || error.clock() == Some(Clock::Deadline), "{error:?}");
    assert!((2..=7).contains(&calls.made()), "{}", calls.made());
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_stopped_and_another_one_made() {
    const ATTEMPT: Duration = Duration::from_millis(400);
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("wait");
    let (tell, mut told) = mpsc::unbounded_channel();
    let calls = serve(&server, &subject, move |number, request, mut out| {
        let tell = tell.clone();
        async move {
            let left = request.deadline().expect("a deadline") - now();
            if number == 1 {
                // The test has ended if nobody listens.
                let _ = tell.send((left, out.closed().await));
            } else {
                out.send("second").await?;
            }
            Ok(())
        }
    })
    .await;
    let policy = RetryPolicy::fixed(1, SHORT).attempt_deadline(ATTEMPT);
    let request = pool.request_stream(&subject, "").retry(policy).deadline(NEVER);
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(item(&mut responses).await, "second");
    complete(&mut responses).await;
    assert_eq!((responses.attempt(), calls.made()), (2, 2));
    let (left, reason) = within(LIMIT, told.recv()).await.expect("it was told");
    assert!(left <= ATTEMPT, "{left:?}");
    assert_eq!(reason, CloseReason::Deadline);
}

#[tokio::test]
async fn attempts_that_take_too_long_end_with_the_deadline() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("wait");
    let calls = serve(&server, &subject, |_, _, out| async move {
        out.closed().await;
        Ok(())
    })
    .await;
    let policy = RetryPolicy::fixed(1000, SHORT).attempt_deadline(Duration::from_millis(100));
    let request = pool
        .request_stream(&subject, "")
        .retry(policy)
        .deadline(Duration::from_millis(350));
    let mut responses = within(LIMIT, request).await.expect("sent");
    let error = failure(&mut responses).await;
    assert_eq!(
        (error.kind(), error.clock()),
        (RequestErrorKind::Timeout, Some(Clock::Deadline))
    );
    assert!((1..=4).contains(&calls.made()), "{}", calls.made());
    assert!(within(LIMIT, responses.next()).await.is_none());
}

#[tokio::test]
async fn an_attempt_longer_than_the_deadline_is_the_only_one() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("wait");
    let calls = serve(&server, &subject, |_, _, out| async move {
        out.closed().await;
        Ok(())
    })
    .await;
    let policy = RetryPolicy::fixed(1000, SHORT).attempt_deadline(NEVER);
    let request = pool
        .request_stream(&subject, "")
        .retry(policy)
        .deadline(Duration::from_millis(100));
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(failure(&mut responses).await.clock(), Some(Clock::Deadline));
    assert_eq!(calls.made(), 1);
}

#[tokio::test]
async fn the_wait_for_the_first_item_begins_anew_with_each_attempt() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("wait");
    let (tell, mut told) = mpsc::unbounded_channel();
    serve(&server, &subject, move |number, _, mut out| {
        let tell = tell.clone();
        async move {
            if number < 3 {
                // The test has ended if nobody listens.
                let _ = tell.send(out.closed().await);
                return Ok(());
            }
            out.send("third").await?;
            Ok(())
        }
    })
    .await;
    let request = pool
        .request_stream(&subject, "")
        .first_item_timeout(Duration::from_millis(400))
        .retry(RetryPolicy::fixed(2, SHORT));
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(item(&mut responses).await, "third");
    assert_eq!(responses.attempt(), 3);
    complete(&mut responses).await;
    for _ in 0..2 {
        assert_eq!(within(LIMIT, told.recv()).await, Some(CloseReason::Cancelled));
    }
}

/// Falls silent after the first item in the first call only.
async fn silent_once(number: u32, mut out: ResponseSender) -> Result<(), natstream::HandlerError> {
    out.send("1").await?;
    if number == 1 {
        out.closed().await;
        return Ok(());
    }
    out.send("2").await?;
    Ok(())
}

const IDLE: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_stream_that_falls_silent_is_not_made_again() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("wait");
    let calls = serve(&server, &subject, |number, _, out| silent_once(number, out)).await;
    let request = pool
        .request_stream(&subject, "")
        .idle_timeout(IDLE)
        .retry(RetryPolicy::fixed(5, SHORT));
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(item(&mut responses).await, "1");
    assert_eq!(failure(&mut responses).await.clock(), Some(Clock::Idle));
    assert_eq!(calls.made(), 1);
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_restarted_where_that_is_wanted() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("wait");
    let calls = serve(&server, &subject, |number, _, out| silent_once(number, out)).await;
    let request = pool
        .request_stream(&subject, "")
        .idle_timeout(IDLE)
        .retry(RetryPolicy::fixed(5, SHORT).restart());
    let mut responses = within(LIMIT, request).await.expect("sent");
    for expected in ["1", "1", "2"] {
        assert_eq!(item(&mut responses).await, expected);
    }
    complete(&mut responses).await;
    assert_eq!((responses.attempt(), calls.made()), (2, 2));
}
