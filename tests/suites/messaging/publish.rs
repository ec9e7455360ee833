//! What a publisher is told, and what arrives.

use std::collections::HashSet;
use std::time::Duration;

use integration::{LIMIT, Peers, connection};
use natstream::connect::ServerErrorEvent;
use natstream::{Clock, ConnectConfig, Connections, FenceErrorKind, Flaw, Pool, RequestErrorKind, Server};
use testkit::{NatsServer, Proxy, shared_url, unique_subject, within};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::{listen, next, publish};

#[tokio::test]
async fn a_message_arrives_as_it_was_sent() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("publish");
    let (_subscription, mut inbox) = listen(&server, &subject, None).await;
    let reply = format!("_INBOX.{}", unique_subject("reply"));
    let message = pool
        .publish(&subject, "hello")
        .header("X-Name", "value")
        .reply_to(&reply);
    within(LIMIT, message).await.expect("published");
    let message = next(&mut inbox).await;
    assert_eq!(message.subject(), subject);
    assert_eq!(message.payload(), "hello");
    assert_eq!(message.header("X-Name"), Some("value"));
    assert_eq!(message.reply(), Some(&*reply));
    assert_eq!(pool.stats().published, 1);
}

#[tokio::test]
async fn messages_of_one_task_arrive_in_order() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("publish");
    let (_subscription, mut inbox) = listen(&server, &subject, None).await;
    for number in 0..1_000 {
        within(LIMIT, pool.publish(&subject, number.to_string()))
            .await
            .expect("published");
    }
    for number in 0..1_000 {
        assert_eq!(next(&mut inbox).await.payload(), number.to_string().as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_publishers_on_several_connections() {
    const PUBLISHERS: usize = 10_000;
    let builder = Connections::builder(ConnectConfig::new(shared_url()))
        .per_server(3..=3)
        .warm_up();
    let connections = within(LIMIT, builder.connect()).await.expect("connected");
    let pool = Pool::new(connections.clone());
    let server = Server::new(connection(shared_url()).await);
    let subject = unique_subject("publish");
    let (heard, mut inbox) = mpsc::unbounded_channel();
    let subscription = server.on_message(format!("{subject}.*"), move |message| {
        let _ = heard.send(message.subject().to_owned());
        async { Ok(()) }
    });
    let subscription = within(LIMIT, subscription).await.expect("subscribed");
    let mut publishers = JoinSet::new();
    for number in 0..PUBLISHERS {
        publishers.spawn(pool.publish(format!("{subject}.{number}"), "").send());
    }
    for published in within(LIMIT, publishers.join_all()).await {
        published.expect("published");
    }
    within(LIMIT, pool.flush(LIMIT)).await.expect("flushed");
    let mut seen = HashSet::new();
    while seen.len() < PUBLISHERS {
        let subject = within(LIMIT, inbox.recv()).await.expect("a message");
        assert!(seen.insert(subject), "one came twice");
    }
    assert_eq!(subscription.stats().dropped, 0);
    assert_eq!(pool.stats().published, PUBLISHERS as u64);
    assert_eq!(
        connections.stats().in_flight,
        0,
        "no connection carries anything any more"
    );
}

#[tokio::test]
async fn what_cannot_be_sent_is_told() {
    let Peers { pool, .. } = Peers::connect().await;
    let connection = pool.connection().expect("one connection");
    let max = connection.max_payload();
    let publish = |subject: &str| pool.publish(subject, "");
    for (message, flaw) in [
        (publish(""), Flaw::Subject),
        (publish("a..b"), Flaw::Subject),
        (publish("a.*"), Flaw::Subject),
        (publish("a b"), Flaw::Subject),
        (publish("a").reply_to("b.>"), Flaw::ReplySubject),
        (publish("a").header("a b", "c"), Flaw::Header),
        (publish("a").header("Nats-Msg-Id", "1"), Flaw::Header),
    ] {
        let error = within(LIMIT, message).await.expect_err("wrong");
        assert_eq!(
            (error.kind(), error.flaw()),
            (RequestErrorKind::InvalidRequest, Some(flaw))
        );
    }
    let error = within(LIMIT, pool.publish("a", vec![0; max + 1]))
        .await
        .expect_err("large");
    assert!(matches!(error.flaw(), Some(Flaw::TooLarge { size, max: limit, .. }) if (size, limit) == (max + 1, max)));
    let headers = pool.publish("a", vec![0; max]).header("a", "b");
    let error = within(LIMIT, headers).await.expect_err("large with its header");
    assert!(matches!(error.flaw(), Some(Flaw::TooLarge { .. })));
    // The connection has not suffered: the largest message is sent on it.
    within(LIMIT, pool.publish(unique_subject("publish"), vec![0; max]))
        .await
        .expect("published");
    within(LIMIT, pool.flush(LIMIT)).await.expect("flushed");
    assert_eq!(connection.state().borrow().epoch, 1);
}

#[tokio::test]
async fn without_a_connection_publishing_gives_up() {
    let mut nats = NatsServer::start().await;
    let pool = Pool::new(connection(&nats.url()).await);
    let mut state = pool.connection().expect("one connection").state();
    nats.kill();
    let down = state.wait_for(|state| !state.is_connected());
    within(LIMIT, down).await.expect("noticed");
    let message = pool.publish("a", "").connect_timeout(Duration::from_millis(50));
    let error = within(LIMIT, message).await.expect_err("down");
    assert_eq!(
        (error.kind(), error.clock()),
        (RequestErrorKind::Timeout, Some(Clock::Connect))
    );
    assert!(error.is_retryable(), "nothing was sent");
    let error = within(LIMIT, pool.flush(LIMIT)).await.expect_err("down");
    assert_eq!(error.kind(), FenceErrorKind::Disconnected);
}

#[tokio::test]
async fn a_flush_tells_once_of_a_connection_that_was_lost_since() {
    let proxy = Proxy::start(shared_url()).await;
    let pool = Pool::new(connection(&proxy.url()).await);
    let subject = unique_subject("publish");
    publish(&pool, &subject, "confirmed").await;
    within(LIMIT, pool.publish(&subject, "perhaps lost"))
        .await
        .expect("published");
    let mut state = pool.connection().expect("one connection").state();
    proxy.cut();
    let back = state.wait_for(|state| state.epoch == 2 && state.is_connected());
    within(LIMIT, back).await.expect("connected again");
    let error = within(LIMIT, pool.flush(LIMIT)).await.expect_err("perhaps lost");
    assert_eq!(error.kind(), FenceErrorKind::Disconnected);
    within(LIMIT, pool.flush(LIMIT)).await.expect("told before");
    publish(&pool, &subject, "confirmed").await;
}

#[tokio::test]
async fn connections_that_retire_in_order_lose_nothing() {
    let builder = Connections::builder(ConnectConfig::new(shared_url())).warm_up();
    let connections = within(LIMIT, builder.connect()).await.expect("connected");
    let pool = Pool::new(connections.clone());
    within(LIMIT, pool.publish(unique_subject("publish"), ""))
        .await
        .expect("published");
    within(LIMIT, connections.close(LIMIT)).await;
    within(LIMIT, pool.flush(LIMIT))
        .await
        .expect("confirmed when the connection was closed");
}

#[tokio::test]
async fn a_drained_pool_publishes_nothing() {
    let Peers { pool, .. } = Peers::connect().await;
    within(LIMIT, pool.drain(LIMIT)).await;
    let error = within(LIMIT, pool.publish("a", "")).await.expect_err("drained");
    assert_eq!(error.kind(), RequestErrorKind::Connection);
    let error = within(LIMIT, pool.request("a", "")).await.expect_err("drained");
    assert_eq!(error.kind(), RequestErrorKind::Connection);
}

#[tokio::test]
async fn what_is_not_permitted_is_told_to_the_connection() {
    let config = "authorization { users: [{ user: u, password: p, permissions: { publish: { deny: \"no\" }, \
                  subscribe: { deny: \"no\" } } }] }";
    let nats = NatsServer::builder().config(config).start().await;
    let url = nats.url().replace("nats://", "nats://u:p@");
    let pool = Pool::new(connection(&url).await);
    let mut errors = pool.connection().expect("one connection").server_errors();
    publish(&pool, "no", "").await;
    let error = within(LIMIT, errors.recv()).await.expect("a complaint");
    assert!(matches!(error, ServerErrorEvent::PermissionViolation { subject, .. } if subject == "no"));
    // A request hears of it at once.
    let error = within(LIMIT, pool.request("no", "").timeout(LIMIT))
        .await
        .expect_err("denied");
    assert_eq!(error.kind(), RequestErrorKind::NotPermitted);
    let server = Server::new(connection(&url).await);
    let subscription = server.on_message("no", |_| async { Ok(()) });
    let error = within(LIMIT, subscription).await.expect_err("denied");
    assert_eq!(error.kind(), natstream::ServeErrorKind::NotPermitted);
}
