//! Calls that go on after their last item.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use integration::{LIMIT, Peers, connection};
use natstream::{
    Code, HandlerError, NextRequest, Pool, Request, RequestErrorKind, ResponseSender, Responses, RetryPolicy, Server,
};
use testkit::{NatsServer, settles_where, shared_url, unique_subject, within};
use tokio::sync::{mpsc, watch};

use crate::{NEVER, SHORT, busy, complete, failure, item, serve};

/// The number that a payload or an item is.
fn number(text: &[u8]) -> u64 {
    String::from_utf8_lossy(text).parse().expect("a number")
}

/// The number that a request begins with.
fn first(request: &Request) -> u64 {
    number(request.payload())
}

fn after(last: &[u8]) -> NextRequest {
    NextRequest::new((number(last) + 1).to_string())
}

/// That the numbers from `from` up to `to` come, each once, in order.
async fn numbers(responses: &mut Responses, from: u64, to: u64) {
    for expected in from..to {
        assert_eq!(item(responses).await, expected.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_responder_goes_on_where_one_died() {
    const DIES_AT: u64 = 50;
    const ALL: u64 = 100;
    let subject = unique_subject("resume");
    let other = unique_subject("resume");
    let pool = Pool::new(connection(shared_url()).await);

    // The first is a process of its own, as far as a test can have one: when its runtime ends, nothing of it is said.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let served = runtime.spawn({
        let subject = subject.clone();
        async move {
            let server = Server::new(connection(shared_url()).await);
            let handler = |request: Request, mut out: ResponseSender| async move {
                for number in first(&request)..DIES_AT {
                    out.send(number.to_string()).await?;
                }
                std::future::pending().await
            };
            within(LIMIT, server.on(subject, handler)).await.expect("served");
            server
        }
    });
    let dying = within(LIMIT, served).await.expect("no panic");
    let server = Server::new(connection(shared_url()).await);
    let (tell, mut told) = mpsc::unbounded_channel();
    serve(&server, &other, move |_, request, mut out| {
        let tell = tell.clone();
        async move {
            let values = ["X-Part", "X-Kept"].map(|name| request.header(name).map(str::to_owned));
            // The test has ended if nobody listens.
            let _ = tell.send((first(&request), values));
            for number in first(&request)..ALL {
                out.send(number.to_string()).await?;
            }
            Ok(())
        }
    })
    .await;

    let lasts = Arc::new(Mutex::new(Vec::new()));
    let request = pool
        .request_stream(&subject, "0")
        .heartbeat(Duration::from_secs(1))
        .header("X-Part", "first")
        .header("X-Kept", "kept")
        .resume({
            let lasts = lasts.clone();
            move |last| {
                lasts.lock().expect("no panic").push(number(last));
                after(last).subject(&other).header("X-Part", "second")
            }
        });
    let mut responses = within(LIMIT, request).await.expect("sent");
    numbers(&mut responses, 0, DIES_AT).await;
    runtime.shutdown_background();
    drop(dying);
    numbers(&mut responses, DIES_AT, ALL).await;
    complete(&mut responses).await;

    assert_eq!((responses.attempt(), responses.received()), (2, ALL));
    assert_eq!(*lasts.lock().expect("no panic"), [DIES_AT - 1]);
    let (from, values) = within(LIMIT, told.recv()).await.expect("it ran");
    assert_eq!(from, DIES_AT);
    assert_eq!(values, [Some("second".to_owned()), Some("kept".to_owned())]);
}

#[tokio::test]
async fn without_progress_a_call_is_given_up_after_five_attempts() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("resume");
    let calls = serve(&server, &subject, |number, _, mut out| async move {
        if number == 1 {
            out.send("0").await?;
        }
        Err(busy())
    })
    .await;
    let request = pool.request_stream(&subject, "0").resume(|last| after(last));
    let mut responses = within(LIMIT, request).await.expect("sent");
    numbers(&mut responses, 0, 1).await;
    let error = failure(&mut responses).await;
    assert_eq!((error.kind(), error.items()), (RequestErrorKind::Failed, 1));
    assert_eq!((responses.attempt(), calls.made()), (6, 6));
}

#[tokio::test]
async fn an_item_begins_the_count_of_attempts_anew() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("resume");
    // Every second call fails before its item, the others after it.
    let calls = serve(&server, &subject, |call, request, mut out| async move {
        if call % 2 == 1 {
            return Err(busy());
        }
        out.send(request.payload()).await?;
        if first(&request) == 9 { Ok(()) } else { Err(busy()) }
    })
    .await;
    let request = pool
        .request_stream(&subject, "0")
        .resume(|last| after(last))
        .retry(RetryPolicy::fixed(2, SHORT));
    let mut responses = within(LIMIT, request).await.expect("sent");
    numbers(&mut responses, 0, 10).await;
    complete(&mut responses).await;
    assert_eq!((calls.made(), responses.received()), (20, 10));
}

#[tokio::test]
async fn before_the_first_item_the_first_request_is_asked_again() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("resume");
    serve(&server, &subject, |call, request, mut out| async move {
        if call == 1 {
            return Err(busy());
        }
        out.send(request.payload()).await?;
        Ok(())
    })
    .await;
    let request = pool
        .request_stream(&subject, "7")
        .resume(|_last| panic!("there was no item"))
        .retry(RetryPolicy::fixed(1, SHORT));
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(item(&mut responses).await, "7");
    complete(&mut responses).await;
}

#[tokio::test]
async fn what_would_fail_again_is_not_resumed() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("resume");
    serve(&server, &subject, |_, _, mut out| async move {
        out.send("0").await?;
        Err(HandlerError::not_found("the rest"))
    })
    .await;
    let request = pool
        .request_stream(&subject, "0")
        .resume(|_last| panic!("it would fail again"));
    let mut responses = within(LIMIT, request).await.expect("sent");
    numbers(&mut responses, 0, 1).await;
    let error = failure(&mut responses).await;
    assert_eq!(error.status().expect("a status").code, Code::NotFound);
}

#[tokio::test]
async fn a_next_request_that_cannot_be_sent_is_the_verdict() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("resume");
    let calls = serve(&server, &subject, |_, _, mut out| async move {
        out.send("0").await?;
        Err(busy())
    })
    .await;
    for wrong in [
        NextRequest::new("").subject("a b"),
        NextRequest::new("").header("Nats-Mine", "x"),
        NextRequest::new(vec![0; 2 << 20]),
    ] {
        let before = calls.made();
        let request = pool
            .request_stream(&subject, "0")
            .resume(move |_last| wrong.clone())
            .retry(RetryPolicy::fixed(5, SHORT));
        let mut responses = within(LIMIT, request).await.expect("sent");
        numbers(&mut responses, 0, 1).await;
        assert_eq!(failure(&mut responses).await.kind(), RequestErrorKind::InvalidRequest);
        assert!(within(LIMIT, responses.next()).await.is_none());
        assert_eq!(calls.made(), before + 1);
    }
}

#[tokio::test]
async fn a_call_resumes_when_a_silent_stream_runs_out_of_time() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("resume");
    serve(&server, &subject, |call, request, mut out| async move {
        out.send(request.payload()).await?;
        if call == 1 {
            out.closed().await;
        }
        Ok(())
    })
    .await;
    let request = pool
        .request_stream(&subject, "0")
        .idle_timeout(Duration::from_millis(150))
        .resume(|last| after(last))
        .retry(RetryPolicy::fixed(1, SHORT));
    let mut responses = within(LIMIT, request).await.expect("sent");
    numbers(&mut responses, 0, 2).await;
    complete(&mut responses).await;
    assert_eq!(responses.attempt(), 2);
}

#[tokio::test]
async fn a_responder_that_is_drained_hands_its_streams_over() {
    const ALL: u64 = 40;
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("resume");
    let (go, wait) = watch::channel(false);
    let old = move |request: Request, mut out: ResponseSender| {
        let mut wait = wait.clone();
        async move {
            for number in first(&request)..ALL / 2 {
                out.send(number.to_string()).await?;
            }
            // The sender is dropped at the end of the test only.
            let _ = wait.wait_for(|go| *go).await;
            Ok(())
        }
    };
    within(LIMIT, server.on(&subject, old)).await.expect("served");
    let request = pool.request_stream(&subject, "0").resume(|last| after(last));
    let mut responses = within(LIMIT, request).await.expect("sent");
    numbers(&mut responses, 0, ALL / 2).await;

    let new = Server::new(connection(shared_url()).await);
    serve(&new, &subject, |_, request, mut out| async move {
        for number in first(&request)..ALL {
            out.send(number.to_string()).await?;
        }
        Ok(())
    })
    .await;
    assert_eq!(within(LIMIT, server.drain(Duration::ZERO)).await.aborted, 1);
    numbers(&mut responses, ALL / 2, ALL).await;
    complete(&mut responses).await;
    drop(go);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_resumes_after_an_outage_that_is_too_long_for_its_stream() {
    let mut nats = NatsServer::start().await;
    let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
    let subject = unique_subject("resume");
    serve(&server, &subject, |call, request, mut out| async move {
        out.send(request.payload()).await?;
        if call == 1 {
            out.closed().await;
        }
        Ok(())
    })
    .await;
    let request = pool
        .request_stream(&subject, "0")
        .outage_limit(Duration::from_millis(100))
        .connect_timeout(LIMIT)
        .resume(|last| after(last))
        .retry(RetryPolicy::fixed(5, SHORT));
    let mut responses = within(LIMIT, request).await.expect("sent");
    numbers(&mut responses, 0, 1).await;
    nats.kill();
    let call = tokio::task::spawn(async move {
        numbers(&mut responses, 1, 2).await;
        complete(&mut responses).await;
    });
    settles_where(LIMIT, || async { pool.stats().attempts }, |attempts| *attempts == 1).await;
    within(LIMIT, nats.restart()).await;
    within(LIMIT, call).await.expect("no panic");
}

#[tokio::test]
async fn a_resumed_call_ends_at_its_deadline() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("resume");
    let calls = serve(&server, &subject, |_, _, mut out| async move {
        out.send("0").await?;
        Err(busy().retry_after(NEVER))
    })
    .await;
    let request = pool
        .request_stream(&subject, "0")
        .resume(|_last| panic!("the pause would outlast the deadline"))
        .deadline(NEVER / 2);
    let mut responses = within(LIMIT, request).await.expect("sent");
    numbers(&mut responses, 0, 1).await;
    assert_eq!(failure(&mut responses).await.kind(), RequestErrorKind::Failed);
    assert_eq!(calls.made(), 1);
}
