//! A pool on several connections, to a cluster whose nodes die and come back.

use std::time::Duration;

use integration::LIMIT;
use natstream::{
    Clock, ConnectConfig, Connections, HandlerError, Pool, Request, RequestErrorKind, ResponseSender, RetryPolicy,
    Server,
};
use testkit::{Cluster, NatsServer, settles, shared_url, unique_subject, within};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A cluster needs some time to form on a busy machine.
const START: Duration = Duration::from_secs(90);

async fn connections(urls: Vec<String>) -> Connections {
    let builder = Connections::builder(ConnectConfig::new(urls)).warm_up();
    within(LIMIT, builder.connect()).await.expect("connected")
}

/// An endpoint that sends the numbers up to the request's, as fast as it goes.
async fn count(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let count: u32 = String::from_utf8_lossy(request.payload())
        .parse()
        .map_err(HandlerError::internal)?;
    for number in 0..count {
        out.send(number.to_be_bytes()).await?;
    }
    Ok(())
}

/// The answer to a call of `count`, checked.
async fn counted(pool: Pool, subject: String, count: u32) {
    let request = pool.request_stream(subject, count.to_string());
    let mut responses = within(LIMIT, request).await.expect("sent");
    for number in 0..count {
        let item = within(LIMIT, responses.try_next()).await.expect("an item");
        assert_eq!(item.expect("no end yet"), number.to_be_bytes()[..]);
    }
    assert_eq!(within(LIMIT, responses.try_next()).await.expect("complete"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_spread_and_their_shares_come_back() {
    let url = shared_url().to_owned();
    let builder = Connections::builder(ConnectConfig::new(url))
        .per_server(4..=4)
        .warm_up();
    let connections = within(LIMIT, builder.connect()).await.expect("connected");
    let pool = Pool::new(connections.clone());
    let server = Server::new(integration::connection(shared_url()).await);
    let subject = unique_subject("count");
    within(LIMIT, server.on(&subject, count)).await.expect("served");

    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(
            within(LIMIT, pool.request_stream(&subject, "1000000"))
                .await
                .expect("sent"),
        );
    }
    assert_eq!(connections.stats().in_flight, 8);
    assert_eq!(pool.stats().in_flight, 8);
    drop(held);
    settles(LIMIT, async || connections.stats().in_flight, 0).await;

    let mut calls = JoinSet::new();
    for _ in 0..200 {
        calls.spawn(counted(pool.clone(), subject.clone(), 100));
    }
    while let Some(call) = calls.join_next().await {
        call.expect("every call is complete");
    }
    assert_eq!(pool.stats().items, 20_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_outlive_a_node_and_the_load_returns_to_it() {
    let mut cluster = within(START, Cluster::start(3)).await;
    let connections = connections(cluster.urls()).await;
    assert_eq!(connections.stats().up, 3);
    let pool = Pool::new(connections.clone());
    let server = Server::new(integration::connection(&cluster.url(1)).await);
    let subject = unique_subject("paced");
    let (go, paced) = mpsc::channel::<()>(1);
    let paced = std::sync::Arc::new(tokio::sync::Mutex::new(paced));
    let handler = move |_: Request, mut out: ResponseSender| {
        let paced = paced.clone();
        async move {
            for number in 0..10u32 {
                out.send(number.to_be_bytes()).await?;
            }
            out.flush().await;
            // Until the test lets it go on: the channel is closed then.
            let _ = paced.lock().await.recv().await;
            for number in 10..20u32 {
                out.send(number.to_be_bytes()).await?;
            }
            Ok(())
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    // Two on each connection, so that one node that dies hits some.
    let mut calls = Vec::new();
    while calls.len() < 6 {
        let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
        match within(LIMIT, responses.next()).await {
            Some(Ok(_)) => calls.push(responses),
            // Another node has not heard of the endpoint yet.
            Some(Err(error)) if error.kind() == RequestErrorKind::NoResponders => {}
            other => panic!("{other:?}"),
        }
    }
    cluster.node_mut(0).kill();
    // The one of the dead node goes to another.
    settles(LIMIT, async || connections.stats().up, 3).await;
    drop(go);
    for mut responses in calls {
        for number in 1..20u32 {
            let item = within(LIMIT, responses.try_next()).await.expect("nothing is lost");
            assert_eq!(item.expect("no end yet"), number.to_be_bytes()[..]);
        }
        assert_eq!(within(LIMIT, responses.try_next()).await.expect("complete"), None);
    }
    cluster.node_mut(0).restart().await;
    let home = cluster.url(0);
    let is_home = async || {
        let leases: Vec<_> = (0..6).filter_map(|_| connections.try_lease()).collect();
        leases.iter().any(|lease| lease.server_url().as_deref() == Some(&home))
    };
    settles(LIMIT, is_home, true).await;
}

#[tokio::test]
async fn no_more_calls_run_than_are_allowed() {
    let pool = Pool::builder(integration::connection(shared_url()).await)
        .max_in_flight(2)
        .build();
    let server = Server::new(integration::connection(shared_url()).await);
    let subject = unique_subject("hold");
    let hold = |_: Request, out: ResponseSender| async move {
        out.closed().await;
        Ok(())
    };
    within(LIMIT, server.on(&subject, hold)).await.expect("served");
    let first = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let _second = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let third = pool
        .request_stream(&subject, "")
        .connect_timeout(Duration::from_millis(50));
    let error = within(LIMIT, third).await.expect_err("no place");
    assert_eq!(error.kind(), RequestErrorKind::Timeout);
    assert_eq!(error.clock(), Some(Clock::InFlight));
    drop(first);
    let _third = within(LIMIT, pool.request_stream(&subject, ""))
        .await
        .expect("a place is free");
}

#[tokio::test]
async fn a_call_that_is_made_again_takes_the_place_of_its_last_attempt() {
    let pool = Pool::builder(integration::connection(shared_url()).await)
        .max_in_flight(1)
        .build();
    let request = pool
        .request_stream(unique_subject("nobody"), "")
        .retry(RetryPolicy::fixed(3, Duration::ZERO));
    let mut responses = within(LIMIT, request).await.expect("sent");
    let error = within(LIMIT, responses.try_next()).await.expect_err("nobody answers");
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
    assert_eq!(responses.attempt(), 4);
}

#[tokio::test]
async fn an_answer_that_was_read_to_its_end_holds_nothing() {
    let url = shared_url().to_owned();
    let builder = Connections::builder(ConnectConfig::new(url)).warm_up();
    let connections = within(LIMIT, builder.connect()).await.expect("connected");
    let pool = Pool::builder(connections.clone()).max_in_flight(1).build();
    let server = Server::new(integration::connection(shared_url()).await);
    let subject = unique_subject("count");
    within(LIMIT, server.on(&subject, count)).await.expect("served");
    let mut first = within(LIMIT, pool.request_stream(&subject, "1")).await.expect("sent");
    while within(LIMIT, first.try_next()).await.expect("complete").is_some() {}
    assert_eq!((connections.stats().in_flight, pool.stats().in_flight), (0, 0));
    counted(pool, subject, 1).await;
    assert_eq!(first.received(), 1, "it is still there");
}

#[tokio::test]
async fn a_call_waits_for_no_connection_that_is_down_while_others_are_up() {
    let (mut a, b) = (
        within(LIMIT, NatsServer::start()).await,
        within(LIMIT, NatsServer::start()).await,
    );
    let builder = Connections::builder(ConnectConfig::new([a.url(), b.url()])).pinned();
    let connections = within(LIMIT, builder.warm_up().connect()).await.expect("connected");
    let pool = Pool::new(connections.clone());
    let server = Server::new(integration::connection(&b.url()).await);
    let subject = unique_subject("count");
    within(LIMIT, server.on(&subject, count)).await.expect("served");
    a.kill();
    for _ in 0..100 {
        let request = pool
            .request_stream(&subject, "1")
            .connect_timeout(Duration::from_secs(2))
            .outage_limit(Duration::from_millis(500));
        match within(LIMIT, request).await {
            // What was sent to the dead server before anybody knew is lost, after its outage limit.
            Ok(mut responses) => drop(within(LIMIT, responses.next()).await),
            Err(error) => panic!("{error}"),
        }
    }
    settles(LIMIT, async || connections.stats().up, 1).await;
    counted(pool, subject, 10).await;
}
