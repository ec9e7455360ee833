//! What is asked again, and how often.

use std::time::Duration;

use futures_util::StreamExt as _;
use integration::{LIMIT, Peers, connection};
use natstream::{Code, HandlerError, Pool, RequestErrorKind, ResponseSender, RetryBudget, RetryPolicy, Server};
use testkit::{settles_where, shared_url, unique_subject, within};
use tokio::sync::watch;

use crate::{NEVER, SHORT, busy, complete, failure, item, serve};

#[tokio::test]
async fn a_call_is_made_again_until_it_succeeds() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("retry");
    let calls = serve(&server, &subject, |number, _request, mut out| async move {
        if number < 3 {
            return Err(busy());
        }
        out.send("done").await?;
        Ok(())
    })
    .await;
    let request = pool.request_stream(&subject, "").retry(RetryPolicy::fixed(5, SHORT));
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(item(&mut responses).await, "done");
    complete(&mut responses).await;
    assert_eq!((responses.attempt(), calls.made()), (3, 3));
    assert_eq!(pool.stats().attempts, 3);
}

#[tokio::test]
async fn after_the_last_attempt_comes_the_last_error() {
    let Peers { pool, server } = Peers::connect().await;
    for policy in [
        RetryPolicy::fixed(2, SHORT),
        RetryPolicy::exponential_between(2, SHORT, 2 * SHORT),
    ] {
        let subject = unique_subject("retry");
        let calls = serve(&server, &subject, |number, _request, _out| async move {
            Err(busy().with_details(number.to_string()))
        })
        .await;
        let request = pool.request_stream(&subject, "").retry(policy.clone());
        let mut responses = within(LIMIT, request).await.expect("sent");
        let error = failure(&mut responses).await;
        assert_eq!(error.kind(), RequestErrorKind::Failed);
        assert_eq!(error.status().expect("a status").details, "3", "{policy:?}");
        assert_eq!((responses.attempt(), calls.made()), (3, 3), "{policy:?}");
        assert!(within(LIMIT, responses.next()).await.is_none(), "there is one verdict");
    }
}

#[tokio::test]
async fn without_a_policy_a_call_is_made_once() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("retry");
    let calls = serve(&server, &subject, |_, _, _| async { Err(busy()) }).await;
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    failure(&mut responses).await;
    assert_eq!(calls.made(), 1);
}

/// Sends as many items as the number of the call, then fails up to the second call.
async fn one_more_each_time(number: u32, mut out: ResponseSender) -> Result<(), HandlerError> {
    for item in 1..=number {
        out.send(item.to_string()).await?;
    }
    if number < 3 { Err(busy()) } else { Ok(()) }
}

#[tokio::test]
async fn after_an_item_nothing_is_made_again() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("retry");
    let calls = serve(&server, &subject, |number, _, out| one_more_each_time(number, out)).await;
    let request = pool.request_stream(&subject, "").retry(RetryPolicy::fixed(5, SHORT));
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(item(&mut responses).await, "1");
    let error = failure(&mut responses).await;
    assert_eq!((error.kind(), error.items()), (RequestErrorKind::Failed, 1));
    assert_eq!((responses.attempt(), calls.made()), (1, 1));
}

#[tokio::test]
async fn a_restart_repeats_the_items_and_says_so() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("retry");
    let calls = serve(&server, &subject, |number, _, out| one_more_each_time(number, out)).await;
    let policy = RetryPolicy::fixed(5, SHORT).restart();
    let request = pool.request_stream(&subject, "").retry(policy);
    let mut responses = within(LIMIT, request).await.expect("sent");
    for (attempt, expected) in [(1, "1"), (2, "1"), (2, "2"), (3, "1"), (3, "2"), (3, "3")] {
        assert_eq!(item(&mut responses).await, expected);
        assert_eq!(responses.attempt(), attempt);
        assert_eq!(responses.received().to_string(), expected);
    }
    complete(&mut responses).await;
    assert_eq!(calls.made(), 3);
}

#[tokio::test]
async fn all_items_are_those_of_the_last_attempt() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("retry");
    serve(&server, &subject, |number, _, out| one_more_each_time(number, out)).await;
    let empty = unique_subject("retry");
    serve(&server, &empty, |number, _, mut out| async move {
        if number > 1 {
            return Ok(());
        }
        out.send("1").await?;
        Err(busy())
    })
    .await;
    for (subject, expected) in [(subject, &["1", "2", "3"][..]), (empty, &[])] {
        let policy = RetryPolicy::fixed(5, SHORT).restart();
        let request = pool.request_stream(subject, "").retry(policy);
        let responses = within(LIMIT, request).await.expect("sent");
        let items = within(LIMIT, responses.collect_all(1024)).await.expect("complete");
        assert_eq!(items, expected);
    }
}

#[tokio::test]
async fn what_is_collected_behind_other_items_is_that_of_the_last_attempt_too() {
    let Peers { pool, server } = Peers::connect().await;
    // The third call is complete; with one retry, the second one has the last word.
    for (retries, expected) in [(5, &["mine", "1", "2", "3"][..]), (1, &["mine", "1", "2"])] {
        let subject = unique_subject("retry");
        serve(&server, &subject, |number, _, out| one_more_each_time(number, out)).await;
        let policy = RetryPolicy::fixed(retries, SHORT).restart();
        let request = pool.request_stream(&subject, "").retry(policy);
        let mut responses = within(LIMIT, request).await.expect("sent");
        let mut items = vec!["mine".into()];
        let verdict = within(LIMIT, responses.collect_into(&mut items, 1024)).await;
        assert_eq!(verdict.is_ok(), retries == 5);
        assert_eq!(items, expected);
    }
}

#[tokio::test]
async fn what_may_have_been_processed_is_not_made_again_where_that_is_forbidden() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("retry");
    let calls = serve(&server, &subject, |_, _, _| async { Err(busy()) }).await;
    let policy = RetryPolicy::fixed(5, SHORT).only_unprocessed();
    let request = pool.request_stream(&subject, "").retry(policy);
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(failure(&mut responses).await.kind(), RequestErrorKind::Failed);
    assert_eq!(calls.made(), 1);
}

/// Holds the only place of an endpoint until it is told to go.
async fn serve_one(
    server: &Server,
    subject: &str,
    retry_after: Duration,
) -> (natstream::Endpoint, watch::Sender<bool>) {
    let (go, wait) = watch::channel(false);
    let handler = move |_request, mut out: ResponseSender| {
        let mut wait = wait.clone();
        async move {
            out.send("mine").await?;
            // The sender is dropped at the end of the test only.
            let _ = wait.wait_for(|go| *go).await;
            Ok(())
        }
    };
    let endpoint = server.on(subject, handler).max_concurrent(1).retry_after(retry_after);
    (within(LIMIT, endpoint).await.expect("served"), go)
}

#[tokio::test]
async fn a_refusal_is_safe_to_try_again() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("retry");
    let (endpoint, go) = serve_one(&server, &subject, SHORT).await;
    let mut holder = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    item(&mut holder).await;

    let policy = RetryPolicy::fixed(1000, Duration::from_millis(20)).only_unprocessed();
    let request = pool.request_stream(&subject, "").retry(policy);
    let mut responses = within(LIMIT, request).await.expect("sent");
    let second = tokio::task::spawn(async move {
        assert_eq!(item(&mut responses).await, "mine");
        complete(&mut responses).await;
        responses.attempt()
    });
    settles_where(LIMIT, || async { endpoint.stats().refused }, |refused| *refused >= 2).await;
    go.send_replace(true);
    complete(&mut holder).await;
    assert!(within(LIMIT, second).await.expect("no panic") >= 3);
}

#[tokio::test]
async fn a_call_that_nobody_takes_is_made_again_until_a_responder_starts() {
    let Peers { server, .. } = Peers::connect().await;
    let pool = Pool::builder(connection(shared_url()).await)
        .retry_budget(RetryBudget::new(0.0, 1000))
        .build();
    let subject = unique_subject("retry");
    let policy = RetryPolicy::fixed(100_000, Duration::from_millis(5)).only_unprocessed();
    let request = pool.request_stream(&subject, "").retry(policy);
    let mut responses = within(LIMIT, request).await.expect("sent");
    let call = tokio::task::spawn(async move {
        assert_eq!(item(&mut responses).await, "here");
        complete(&mut responses).await;
    });
    settles_where(LIMIT, || async { pool.stats().attempts }, |attempts| *attempts >= 3).await;
    within(LIMIT, server.on_items(&subject, |_| async { Ok(["here"]) }))
        .await
        .expect("served");
    within(LIMIT, call).await.expect("no panic");
}

#[tokio::test]
async fn the_codes_that_would_come_back_again_are_not_tried_again() {
    let Peers { pool, server } = Peers::connect().await;
    for (code, calls_made) in [
        (Code::Aborted, 2),
        (Code::Internal, 2),
        (Code::Unknown, 2),
        (Code::InvalidArgument, 1),
        (Code::NotFound, 1),
        (Code::FailedPrecondition, 1),
    ] {
        let subject = unique_subject("retry");
        let calls = serve(&server, &subject, move |_, _, _| async move {
            Err(HandlerError::new(code, ""))
        })
        .await;
        let request = pool.request_stream(&subject, "").retry(RetryPolicy::fixed(1, SHORT));
        let mut responses = within(LIMIT, request).await.expect("sent");
        assert_eq!(failure(&mut responses).await.status().expect("a status").code, code);
        assert_eq!(calls.made(), calls_made, "{code:?}");
    }
}

#[tokio::test]
async fn a_predicate_decides_in_place_of_the_codes() {
    let Peers { pool, server } = Peers::connect().await;
    let policy = RetryPolicy::fixed(5, SHORT)
        .retry_if(|error| error.status().is_some_and(|status| status.code == Code::NotFound));
    for (first, attempts) in [(Code::NotFound, 2), (Code::Unavailable, 1)] {
        let subject = unique_subject("retry");
        let calls = serve(&server, &subject, move |number, _, _| async move {
            let code = if number == 1 { first } else { Code::Internal };
            Err(HandlerError::new(code, ""))
        })
        .await;
        let request = pool.request_stream(&subject, "").retry(policy.clone());
        let mut responses = within(LIMIT, request).await.expect("sent");
        failure(&mut responses).await;
        assert_eq!(calls.made(), attempts, "{first:?}");
    }
}

#[tokio::test]
async fn the_budget_of_the_pool_ends_the_attempts() {
    let Peers { server, .. } = Peers::connect().await;
    let subject = unique_subject("retry");
    let calls = serve(&server, &subject, |_, _, _| async { Err(busy()) }).await;
    // Every second call may be repeated once.
    let pool = Pool::builder(connection(shared_url()).await)
        .retry_budget(RetryBudget::new(0.5, 0))
        .build();
    for made in [1, 3, 4, 6] {
        let request = pool.request_stream(&subject, "").retry(RetryPolicy::fixed(9, SHORT));
        let mut responses = within(LIMIT, request).await.expect("sent");
        assert_eq!(failure(&mut responses).await.kind(), RequestErrorKind::Failed);
        assert_eq!(calls.made(), made);
    }
}

#[tokio::test]
async fn pools_have_budgets_of_their_own() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("retry");
    let calls = serve(&server, &subject, |_, _, _| async { Err(busy()) }).await;
    let broke = Pool::builder(pool.connection().expect("one connection").clone())
        .retry_budget(RetryBudget::new(0.0, 0))
        .build();
    for (pool, made) in [(&broke, 1), (&pool, 3)] {
        let request = pool.request_stream(&subject, "").retry(RetryPolicy::fixed(1, SHORT));
        let mut responses = within(LIMIT, request).await.expect("sent");
        failure(&mut responses).await;
        assert_eq!(calls.made(), made);
    }
}

#[tokio::test]
async fn dropped_in_the_pause_a_call_leaves_nothing_behind() {
    const PAUSE: Duration = Duration::from_millis(200);
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("retry");
    let calls = serve(&server, &subject, |_, _, _| async { Err(busy()) }).await;
    let request = pool.request_stream(&subject, "").retry(RetryPolicy::fixed(5, PAUSE));
    let mut responses = within(LIMIT, request).await.expect("sent");
    tokio::select! {
        next = responses.next() => panic!("{next:?}"),
        _ = settles_where(LIMIT, || async { pool.stats().attempts }, |attempts| *attempts == 1) => {}
    }
    // With this look the pause has begun for certain.
    let next = tokio::time::timeout(Duration::ZERO, responses.next()).await;
    assert!(next.is_err(), "{next:?}");
    drop(responses);
    assert_eq!(pool.stats().attempts, 1);

    // Another call takes its pauses meanwhile.
    let other = unique_subject("retry");
    serve(&server, &other, |_, _, _| async { Err(busy()) }).await;
    let request = pool.request_stream(&other, "").retry(RetryPolicy::fixed(4, PAUSE));
    let mut responses = within(LIMIT, request).await.expect("sent");
    failure(&mut responses).await;
    assert_eq!(calls.made(), 1);
    assert_eq!(pool.stats().attempts, 6);
    assert_eq!(within(LIMIT, pool.drain(LIMIT)).await, 0);
}

#[tokio::test]
async fn a_pool_that_is_drained_makes_no_more_attempts() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("retry");
    let calls = serve(&server, &subject, |_, _, _| async { Err(busy()) }).await;
    let policy = RetryPolicy::fixed(5, Duration::from_millis(100));
    let request = pool.request_stream(&subject, "").retry(policy);
    let mut responses = within(LIMIT, request).await.expect("sent");
    let call = tokio::task::spawn(async move { failure(&mut responses).await });
    settles_where(LIMIT, || async { pool.stats().attempts }, |attempts| *attempts == 1).await;
    within(LIMIT, pool.drain(LIMIT)).await;
    let error = within(LIMIT, call).await.expect("no panic");
    assert_eq!(error.kind(), RequestErrorKind::Connection);
    assert_eq!(calls.made(), 1);
}

#[tokio::test]
async fn a_failure_after_a_full_answer_is_not_hidden_by_a_retry() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("retry");
    serve(&server, &subject, |_, _, mut out| async move {
        out.send("all").await?;
        Err(HandlerError::invalid("and yet"))
    })
    .await;
    let policy = RetryPolicy::fixed(5, NEVER).restart();
    let request = pool.request_stream(&subject, "").retry(policy);
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(item(&mut responses).await, "all");
    let error = failure(&mut responses).await;
    assert_eq!(error.status().expect("a status").code, Code::InvalidArgument);
}

/// Takes one request of the group and says nothing, as a process that dies at that moment.
async fn swallow_one(pool: &Pool, subject: &str) {
    let nats = pool.connection().expect("one connection").nats();
    let subscribe = nats.queue_subscribe(subject.to_owned(), "q".to_owned());
    let mut requests = within(LIMIT, subscribe).await.expect("subscribed");
    requests.unsubscribe_after(1).await.expect("connected");
    within(LIMIT, pool.connection().expect("one connection").fence(LIMIT))
        .await
        .expect("subscribed");
    tokio::task::spawn(async move { requests.next().await });
}

#[tokio::test]
async fn a_call_that_nobody_answers_is_made_again_unless_that_is_forbidden() {
    let Peers { pool, server } = Peers::connect().await;
    let policy = RetryPolicy::fixed(1, SHORT);
    let mut calls = Vec::new();
    for policy in [policy.clone(), policy.only_unprocessed()] {
        let subject = unique_subject("retry");
        swallow_one(&pool, &subject).await;
        let request = pool.request_stream(&subject, "").retry(policy);
        calls.push(within(LIMIT, request).await.expect("sent"));
        within(LIMIT, pool.connection().expect("one connection").fence(LIMIT))
            .await
            .expect("connected");
        within(LIMIT, server.on_items(&subject, |_| async { Ok(["answer"]) }))
            .await
            .expect("served");
    }
    let mut forbidden = calls.pop().expect("two calls");
    let mut allowed = calls.pop().expect("two calls");
    // Both wait at the same time: an attempt has 5 s.
    let (answer, error) = tokio::join!(item(&mut allowed), failure(&mut forbidden));
    assert_eq!((answer.as_str(), allowed.attempt()), ("answer", 2));
    assert_eq!((error.kind(), forbidden.attempt()), (RequestErrorKind::Unanswered, 1));
}
