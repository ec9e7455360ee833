//! Calls above `max_concurrent` wait in the order in which they came; those that are over are never begun.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use integration::{LIMIT, Peers, connection};
use natstream::{Clock, Code, HandlerError, Pool, Request, RequestErrorKind, ResponseSender, RetryPolicy, Server};
use testkit::{settles, shared_url, unique_subject, within};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::{AMPLE, Gate, complete, counted, item, serve_one_at_a_time};

#[tokio::test]
async fn a_queued_call_whose_deadline_passes_is_never_begun() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("queued");
    let gate = Gate::new();
    let (endpoint, begun) = serve_one_at_a_time(&server, &subject, 2, &gate).await;
    let mut running = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    item(&mut running).await;

    let request = pool.request_stream(&subject, "").deadline(Duration::from_millis(300));
    let mut late = within(LIMIT, request).await.expect("sent");
    let error = within(LIMIT, late.try_next()).await.expect_err("it stays queued");
    assert_eq!(
        (error.kind(), error.clock()),
        (RequestErrorKind::Timeout, Some(Clock::Deadline))
    );
    counted(&endpoint, |stats| stats.cancelled == 1).await;
    gate.open();
    complete(running).await;
    // One that comes later has its turn.
    let mut next = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    item(&mut next).await;
    complete(next).await;
    assert_eq!(begun.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_queued_call_that_nobody_reads_is_never_begun_after_its_deadline() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("queued");
    let gate = Gate::new();
    let (endpoint, begun) = serve_one_at_a_time(&server, &subject, 1, &gate).await;
    let mut running = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    item(&mut running).await;
    let request = pool.request_stream(&subject, "").deadline(Duration::from_millis(100));
    let _late = within(LIMIT, request).await.expect("sent");
    counted(&endpoint, |stats| stats.cancelled == 1).await;
    gate.open();
    complete(running).await;
    counted(&endpoint, |stats| stats.active == 0).await;
    assert_eq!(within(LIMIT, server.drain(LIMIT)).await.aborted, 0);
    assert_eq!(begun.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_queued_call_outlives_three_heartbeats_and_runs() {
    const HEARTBEAT: Duration = Duration::from_secs(1);
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("queued");
    let gate = Gate::new();
    let (endpoint, _begun) = serve_one_at_a_time(&server, &subject, 1, &gate).await;
    let mut running = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    item(&mut running).await;
    let request = pool.request_stream(&subject, "").heartbeat(HEARTBEAT);
    let mut queued = within(LIMIT, request).await.expect("sent");
    // Without heartbeats, the responder counts as lost after three of them.
    let early = tokio::time::timeout(7 * HEARTBEAT / 2, queued.next()).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(endpoint.stats().active, 1);
    gate.open();
    complete(running).await;
    assert_eq!(item(&mut queued).await, "begun");
    complete(queued).await;
}

#[tokio::test]
async fn a_queued_call_that_is_cancelled_gives_its_place_away() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("queued");
    let gate = Gate::new();
    let (endpoint, begun) = serve_one_at_a_time(&server, &subject, 1, &gate).await;
    let mut running = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    item(&mut running).await;
    let left = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    counted(&endpoint, |stats| stats.requests == 2).await;
    drop(left);

    // There is one place only. Refusals until it is free are certainly not processed.
    let request = pool
        .request_stream(&subject, "")
        .retry(RetryPolicy::fixed(100, Duration::from_millis(10)).only_unprocessed());
    let mut next = within(LIMIT, request).await.expect("sent");
    let next = tokio::task::spawn(async move {
        item(&mut next).await;
        complete(next).await;
    });
    counted(&endpoint, |stats| {
        stats.cancelled == 1 && stats.requests - stats.refused == 3
    })
    .await;
    gate.open();
    complete(running).await;
    within(LIMIT, next).await.expect("no panic");
    assert_eq!(begun.load(Ordering::Relaxed), 2);
}

/// Begins calls one after the other while one runs, lets them go, and returns the order in which their handlers began.
async fn order_of(calls: u32) -> Vec<u32> {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("order");
    let gate = Gate::new();
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = {
        let gate = gate.clone();
        move |request: Request, mut out: ResponseSender| {
            let number = u32::from_be_bytes(request.payload()[..].try_into().expect("four bytes"));
            let _ = tell.send(number);
            let gate = gate.clone();
            async move {
                out.send("begun").await?;
                gate.passed().await;
                Ok(())
            }
        }
    };
    let endpoint = server.on(&subject, handler).max_concurrent(1).max_queued(1000);
    let endpoint = within(LIMIT, endpoint).await.expect("served");
    let mut waiting = Vec::new();
    for number in 0..calls {
        let request = pool.request_stream(&subject, number.to_be_bytes().to_vec());
        waiting.push(within(LIMIT, request).await.expect("sent"));
    }
    counted(&endpoint, |stats| stats.requests == u64::from(calls)).await;
    gate.open();
    for mut responses in waiting {
        item(&mut responses).await;
        complete(responses).await;
    }
    let mut order = Vec::new();
    while let Ok(number) = told.try_recv() {
        order.push(number);
    }
    order
}

#[tokio::test]
async fn queued_calls_run_in_the_order_in_which_they_came() {
    assert_eq!(order_of(100).await, (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queued_calls_run_in_order_where_tasks_change_threads() {
    assert_eq!(order_of(100).await, (0..100).collect::<Vec<_>>());
}

/// What a handler does.
type Run = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

/// Counts how many run at a time.
#[derive(Clone, Debug, Default)]
struct Crowd {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Crowd {
    /// Serves `subject` with handlers that wait at `gate`.
    fn handler(&self, gate: &Gate) -> impl Fn(Request, ResponseSender) -> Run + Send + Sync + 'static + use<> {
        let (crowd, gate) = (self.clone(), gate.clone());
        move |_request, mut out| {
            let (crowd, gate) = (crowd.clone(), gate.clone());
            Box::pin(async move {
                let now = crowd.now.fetch_add(1, Ordering::SeqCst) + 1;
                crowd.most.fetch_max(now, Ordering::SeqCst);
                out.send("begun").await?;
                gate.passed().await;
                crowd.now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        }
    }

    async fn is(&self, now: usize) {
        settles(LIMIT, || async { self.now.load(Ordering::SeqCst) }, now).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_runs_so_many_calls_at_a_time() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("limit");
    let (crowd, gate) = (Crowd::default(), Gate::new());
    let endpoint = server
        .on(&subject, crowd.handler(&gate))
        .max_concurrent(3)
        .max_queued(20);
    let endpoint = within(LIMIT, endpoint).await.expect("served");
    let mut calls = Vec::new();
    for _ in 0..20 {
        calls.push(within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent"));
    }
    counted(&endpoint, |stats| stats.requests == 20).await;
    crowd.is(3).await;
    gate.open();
    for mut responses in calls {
        item(&mut responses).await;
        complete(responses).await;
    }
    assert_eq!(crowd.most.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_runs_so_many_calls_of_all_its_endpoints_at_a_time() {
    let Peers { pool, .. } = Peers::connect().await;
    let server = Server::builder(connection(shared_url()).await)
        .max_concurrent(3)
        .max_queued(20)
        .build();
    let subjects = [unique_subject("limit"), unique_subject("limit")];
    let (crowd, gate) = (Crowd::default(), Gate::new());
    let mut endpoints = Vec::new();
    for subject in &subjects {
        // Its own limit and queue hold as well.
        let endpoint = server
            .on(subject, crowd.handler(&gate))
            .max_concurrent(2)
            .max_queued(20);
        endpoints.push(within(LIMIT, endpoint).await.expect("served"));
    }
    let mut calls = JoinSet::new();
    for subject in subjects.iter().cycle().take(20) {
        let mut responses = within(LIMIT, pool.request_stream(subject, "")).await.expect("sent");
        calls.spawn(async move {
            item(&mut responses).await;
            complete(responses).await;
        });
    }
    for endpoint in &endpoints {
        counted(endpoint, |stats| stats.requests == 10).await;
    }
    crowd.is(3).await;
    gate.open();
    within(LIMIT, calls.join_all()).await;
    assert_eq!(crowd.most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_server_without_room_refuses_what_its_endpoint_would_take() {
    let Peers { pool, .. } = Peers::connect().await;
    let server = Server::builder(connection(shared_url()).await)
        .max_concurrent(1)
        .build();
    let subject = unique_subject("limit");
    let gate = Gate::new();
    let (_endpoint, begun) = serve_one_at_a_time(&server, &subject, 10, &gate).await;
    let mut running = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    item(&mut running).await;
    let mut refused = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let error = within(LIMIT, refused.try_next()).await.expect_err("no room");
    let status = error.status().expect("a status");
    assert_eq!(
        (error.kind(), status.code, status.retry_after),
        (
            RequestErrorKind::Refused,
            Code::ResourceExhausted,
            Some(Duration::from_millis(100))
        )
    );
    gate.open();
    complete(running).await;
    assert_eq!(begun.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_deadline_of_a_queued_call_does_not_end_the_one_that_runs() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("queued");
    let gate = Gate::new();
    let (_endpoint, _begun) = serve_one_at_a_time(&server, &subject, 1, &gate).await;
    let request = pool.request_stream(&subject, "").deadline(AMPLE);
    let mut running = within(LIMIT, request).await.expect("sent");
    item(&mut running).await;
    let request = pool.request_stream(&subject, "").deadline(Duration::from_millis(50));
    let mut queued = within(LIMIT, request).await.expect("sent");
    within(LIMIT, queued.try_next()).await.expect_err("out of time");
    gate.open();
    complete(running).await;
}

#[tokio::test]
async fn a_queued_call_whose_caller_died_is_never_begun() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("queued");
    let gate = Gate::new();
    let (endpoint, begun) = serve_one_at_a_time(&server, &subject, 1, &gate).await;
    let mut running = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    item(&mut running).await;

    // A process of its own, as far as a test can have one: when its runtime ends, nothing of it is said.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let call = runtime.spawn({
        let subject = subject.clone();
        async move {
            let pool = Pool::new(connection(shared_url()).await);
            let request = pool.request_stream(&subject, "").heartbeat(Duration::from_secs(1));
            within(LIMIT, request).await.expect("sent")
        }
    });
    let dying = within(LIMIT, call).await.expect("no panic");
    counted(&endpoint, |stats| stats.requests == 2).await;
    runtime.shutdown_background();
    drop(dying);
    counted(&endpoint, |stats| stats.cancelled == 1).await;
    gate.open();
    complete(running).await;
    assert_eq!(within(LIMIT, server.drain(LIMIT)).await.aborted, 0);
    assert_eq!(begun.load(Ordering::Relaxed), 1);
}
