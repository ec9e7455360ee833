//! A nats-server that is killed and comes back: the stream goes on, each item once, in order.

use std::sync::Arc;
use std::time::Duration;

use integration::{LIMIT, Peers, connection};
use natstream::{HandlerError, Pool, RequestErrorKind, ResponseSender, Server};
use testkit::{Flow, NatsServer, Proxy, settles, settles_where, shared_url, unique_subject, within};
use tokio::sync::{Notify, mpsc};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_survives_two_restarts_of_nats_server() {
    let mut nats = NatsServer::start().await;
    let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
    let subject = unique_subject("restart");
    let go_on = Arc::new(Notify::new());
    let handler = {
        let go_on = go_on.clone();
        move |_request, mut out: ResponseSender| {
            let go_on = go_on.clone();
            async move {
                for number in 0..300u32 {
                    out.send(number.to_be_bytes()).await?;
                    if number % 100 == 99 {
                        go_on.notified().await;
                    }
                }
                Ok(())
            }
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let mut expected = 0u32;
    for part in 0..3 {
        for _ in 0..100 {
            let item = within(LIMIT, responses.try_next())
                .await
                .expect("no loss")
                .expect("an item");
            assert_eq!(item, expected.to_be_bytes()[..]);
            expected += 1;
        }
        if part < 2 {
            nats.kill();
            // What the handler sends now cannot leave; the rest it sends while the caller is on its way back.
            go_on.notify_one();
            within(LIMIT, nats.restart()).await;
        } else {
            go_on.notify_one();
        }
    }
    assert!(within(LIMIT, responses.try_next()).await.expect("complete").is_none());
    assert_eq!(responses.reconnects(), 2);
}

/// Nobody confirms an answer of one message: those of the last two seconds are sent again, whether they had arrived or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_one_message_that_were_lost_with_the_responders_connection_come_again() {
    let proxy = Proxy::start(shared_url()).await;
    let server = Server::new(connection(&proxy.url()).await);
    let pool = Pool::new(connection(shared_url()).await);
    let subject = unique_subject("restart");
    let (answered, mut answers) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let answered = answered.clone();
        async move {
            out.header("took", "3 ms")?;
            out.send("one").await?;
            let _ = answered.send(());
            Err(HandlerError::not_found("no two"))
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut early = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let item = within(LIMIT, early.try_next()).await.expect("an item");
    assert_eq!(item.as_deref(), Some(&b"one"[..]));
    proxy.blackhole(Flow::ToServer, true);
    let mut calls = Vec::new();
    for _ in 0..20 {
        calls.push(within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent"));
    }
    for _ in 0..21 {
        within(LIMIT, answers.recv()).await.expect("answered");
    }
    let mut state = server.connection().state();
    let epoch = state.borrow_and_update().epoch;
    proxy.cut();
    proxy.blackhole(Flow::ToServer, false);
    within(
        LIMIT,
        state.wait_for(|state| state.epoch > epoch && state.is_connected()),
    )
    .await
    .expect("back");
    for mut call in calls {
        let item = within(LIMIT, call.try_next()).await.expect("an item");
        assert_eq!(item.as_deref(), Some(&b"one"[..]));
        assert!(call.headers().is_some_and(|headers| headers.get("took").is_some()));
        let error = within(LIMIT, call.try_next()).await.expect_err("failed");
        assert_eq!((error.kind(), error.items()), (RequestErrorKind::Failed, 1));
    }
    // What had arrived has arrived again, and is nobody's.
    let error = within(LIMIT, early.try_next()).await.expect_err("failed");
    assert_eq!((error.kind(), error.items()), (RequestErrorKind::Failed, 1));
    // Of a server that is gone nothing stays, once their time is over.
    let own = server.connection().clone();
    drop(server);
    settles(LIMIT, || std::future::ready(own.driver().load()), (0, 0)).await;
}

/// When nobody is subscribed where an answer of one message goes, it is sent again: its caller may be on its way back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_one_message_to_a_caller_that_was_away_comes_again() {
    let nats = NatsServer::start().await;
    let proxy = Proxy::start(nats.url()).await;
    let caller = connection(&proxy.url()).await;
    let server = Server::new(connection(&nats.url()).await);
    let pool = Pool::new(caller.clone());
    let subject = unique_subject("restart");
    let probe = unique_subject("restart");
    let _probed = within(LIMIT, caller.nats().subscribe(probe.clone()))
        .await
        .expect("subscribed");
    within(LIMIT, caller.nats().flush()).await.expect("flushed");
    let (asked, mut requests) = mpsc::unbounded_channel();
    let (answer, may_answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (answer, may_answer) = (answer.clone(), may_answer.clone());
        move |_request, mut out: ResponseSender| {
            let (asked, answer, may_answer) = (asked.clone(), answer.clone(), may_answer.clone());
            async move {
                let _ = asked.send(());
                may_answer.notified().await;
                out.send("one").await?;
                out.finish();
                answer.notify_one();
                Ok(())
            }
        }
    };
    let endpoint = within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut call = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    within(LIMIT, requests.recv()).await.expect("asked");
    proxy.refuse(true);
    proxy.cut();
    // Until nats-server knows that the caller is gone. Where that takes long, the answer is no single message any more, and
    // a stream has done this all the time.
    let own = server.connection().nats().clone();
    let is_gone = async || {
        let asked = tokio::time::timeout(Duration::from_millis(10), own.request(probe.clone(), "".into())).await;
        matches!(asked, Ok(Err(_)))
    };
    within(LIMIT, async { while !is_gone().await {} }).await;
    may_answer.notify_one();
    within(LIMIT, answer.notified()).await;
    // It was told that nobody is there.
    within(LIMIT, server.connection().nats().flush())
        .await
        .expect("flushed");
    proxy.refuse(false);
    let item = within(LIMIT, call.try_next()).await.expect("an item");
    assert_eq!(item.as_deref(), Some(&b"one"[..]));
    assert_eq!(within(LIMIT, call.try_next()).await.expect("the end"), None);
    let repeated = || std::future::ready(endpoint.stats().retransmitted);
    settles_where(LIMIT, repeated, |repeated| *repeated > 0).await;
    assert_eq!(server.stats().strays, 0);
}

/// A server that is dropped while its connection is down still sends again what it has answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_one_message_outlive_their_server_and_an_outage() {
    let proxy = Proxy::start(shared_url()).await;
    let own = connection(&proxy.url()).await;
    let server = Server::new(own.clone());
    let pool = Pool::new(connection(shared_url()).await);
    let subject = unique_subject("restart");
    let (answered, mut answers) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let answered = answered.clone();
        async move {
            out.send("one").await?;
            out.finish();
            let _ = answered.send(());
            Ok(())
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    proxy.blackhole(Flow::ToServer, true);
    let request = pool.request_stream(&subject, "").connect_timeout(LIMIT);
    let mut call = within(LIMIT, request).await.expect("sent");
    within(LIMIT, answers.recv()).await.expect("answered");
    let mut state = own.state();
    proxy.refuse(true);
    proxy.cut();
    within(LIMIT, state.wait_for(|state| !state.is_connected()))
        .await
        .expect("down");
    drop(server);
    // sleep: longer than such an answer is kept where the connection is up
    tokio::time::sleep(Duration::from_millis(2200)).await;
    proxy.blackhole(Flow::ToServer, false);
    proxy.refuse(false);
    let item = within(LIMIT, call.try_next()).await.expect("an item");
    assert_eq!(item.as_deref(), Some(&b"one"[..]));
    settles(LIMIT, || std::future::ready(own.driver().load()), (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_waits_for_a_connection_that_is_down() {
    let mut nats = NatsServer::start().await;
    let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
    let subject = unique_subject("restart");
    within(LIMIT, server.on_items(&subject, |_| async { Ok(["1"]) }))
        .await
        .expect("served");
    nats.kill();
    let mut state = pool.connection().expect("one connection").state();
    within(LIMIT, state.wait_for(|state| !state.is_connected()))
        .await
        .expect("down");
    let call = tokio::spawn(pool.request_stream(&subject, "").connect_timeout(LIMIT).send());
    within(LIMIT, nats.restart()).await;
    let responses = within(LIMIT, call).await.expect("no panic").expect("sent");
    // The responder may come back later than the caller: then nobody serves the subject at first.
    let items = within(LIMIT, responses.collect_all(1000)).await.expect("complete");
    assert_eq!(items, ["1"]);
}

#[tokio::test]
async fn nobody_there_after_a_reconnect_is_asked_again_for_five_seconds() {
    let mut nats = NatsServer::start().await;
    let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
    let subject = unique_subject("restart");
    // The first call makes the pool listen to its connection.
    let request = pool.request_stream(&subject, "");
    let error = within(LIMIT, within(LIMIT, request).await.expect("sent").collect_all(1000)).await;
    assert_eq!(error.expect_err("nobody").kind(), RequestErrorKind::NoResponders);
    let epoch = pool.connection().expect("one connection").state().borrow().epoch;
    nats.kill();
    within(LIMIT, nats.restart()).await;
    let mut state = pool.connection().expect("one connection").state();
    within(
        LIMIT,
        state.wait_for(|state| state.epoch > epoch && state.is_connected()),
    )
    .await
    .expect("back");

    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let first = tokio::time::timeout(Duration::from_millis(600), responses.next()).await;
    assert!(first.is_err(), "the first 503 was taken for a verdict: {first:?}");
    within(LIMIT, server.on_items(&subject, |_| async { Ok(["late"]) }))
        .await
        .expect("served");
    let item = within(LIMIT, responses.try_next()).await.expect("complete");
    assert_eq!(item.as_deref(), Some(&b"late"[..]));
    assert!(responses.attempt() > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_pool_was_dropped_survives_a_restart_too() {
    let mut nats = NatsServer::start().await;
    let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
    let subject = unique_subject("restart");
    let go_on = Arc::new(Notify::new());
    let handler = {
        let go_on = go_on.clone();
        move |_request, mut out: ResponseSender| {
            let go_on = go_on.clone();
            async move {
                out.send("1").await?;
                go_on.notified().await;
                out.send("2").await?;
                Ok(())
            }
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    drop(pool);
    within(LIMIT, responses.try_next()).await.expect("an item");
    nats.kill();
    go_on.notify_one();
    within(LIMIT, nats.restart()).await;
    let second = within(LIMIT, responses.try_next()).await.expect("no loss");
    assert_eq!(second.as_deref(), Some(&b"2"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_moved_sender_sends_during_an_outage_arrives_without_another_item() {
    let mut nats = NatsServer::start().await;
    let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
    let subject = unique_subject("restart");
    let (is_down, down) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (is_down, down) = (is_down.clone(), down.clone());
        move |_request, mut out: ResponseSender| {
            let (is_down, down) = (is_down.clone(), down.clone());
            async move {
                tokio::task::spawn(async move {
                    out.send("first").await.expect("the caller is there");
                    is_down.notified().await;
                    out.send("second").await.expect("there is room");
                    // This one is complete, and waits for the connection; the next one is not.
                    out.flush().await;
                    out.send("third").await.expect("there is room");
                    down.notify_one();
                    out.closed().await;
                });
                Ok(())
            }
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    within(LIMIT, responses.try_next()).await.expect("an item");
    nats.kill();
    let mut state = server.connection().state();
    within(LIMIT, state.wait_for(|state| !state.is_connected()))
        .await
        .expect("down");
    is_down.notify_one();
    within(LIMIT, down.notified()).await;
    within(LIMIT, nats.restart()).await;
    for expected in ["second", "third"] {
        let item = within(LIMIT, responses.try_next()).await.expect("no loss");
        assert_eq!(item.as_deref(), Some(expected.as_bytes()));
    }
}
