//! Requests for one reply.

use std::time::Duration;

use integration::{LIMIT, Peers, connection};
use natstream::{
    Clock, Code, ConnectConfig, Connection, Connections, Message, Pool, RequestErrorKind, ResponseSender, Server,
};
use testkit::{Proxy, settles, shared_url, unique_subject, within};
use tokio::sync::{mpsc, watch};

/// Longer than a test waits for anything.
const NEVER: Duration = Duration::from_secs(3600);

/// So short that it runs out while the test looks on.
const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_reply_comes_with_its_payload() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("request");
    let echo = |message: Message| async move {
        assert_eq!(message.header("no: name"), None, "and no panic");
        let name = message.header("X-Name").unwrap_or("nobody").to_owned();
        Ok(message
            .respond([name.as_bytes(), b": ", &message.payload()[..]].concat())
            .await?)
    };
    within(LIMIT, server.on_message(&subject, echo))
        .await
        .expect("subscribed");
    let request = pool.request(&subject, "hello").header("X-Name", "me");
    let reply = within(LIMIT, request).await.expect("a reply");
    assert_eq!(reply.payload(), "me: hello");
    assert_eq!((reply.headers(), reply.header("X-Name")), (None, None));
    let stats = pool.stats();
    assert_eq!((stats.requests, stats.in_flight, stats.strays), (1, 0, 0));
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("request");
    let echo = |message: Message| async move { Ok(message.respond(message.payload().clone()).await?) };
    within(LIMIT, server.on_message(&subject, echo))
        .await
        .expect("subscribed");
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..1_000 {
        let request = pool.request(&subject, number.to_string());
        requests.spawn(async move { (number, within(LIMIT, request).await) });
    }
    for (number, reply) in within(LIMIT, requests.join_all()).await {
        assert_eq!(reply.expect("a reply").payload(), number.to_string().as_bytes());
    }
}

#[tokio::test]
async fn nobody_is_known_at_once() {
    let Peers { pool, .. } = Peers::connect().await;
    let request = pool.request(unique_subject("request"), "").timeout(NEVER);
    let error = within(LIMIT, request).await.expect_err("nobody");
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_failure_has_its_code() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("request");
    let fail = |message: Message| async move { Ok(message.respond_error(Code::NotFound, "no such thing").await?) };
    within(LIMIT, server.on_message(&subject, fail))
        .await
        .expect("subscribed");
    let error = within(LIMIT, pool.request(&subject, "")).await.expect_err("failed");
    assert_eq!(error.kind(), RequestErrorKind::Failed);
    let status = error.status().expect("the responder's words");
    assert_eq!((status.code, &*status.message), (Code::NotFound, "no such thing"));
}

/// Responds once it is told to.
async fn hesitant(server: &Server, subject: &str) -> (watch::Sender<bool>, mpsc::UnboundedReceiver<()>) {
    let (go_on, wait) = watch::channel(false);
    let (asked, is_asked) = mpsc::unbounded_channel();
    let handler = move |message: Message| {
        let (mut wait, asked) = (wait.clone(), asked.clone());
        async move {
            let _ = asked.send(());
            let _ = wait.wait_for(|go_on| *go_on).await;
            Ok(message.respond("late").await?)
        }
    };
    within(LIMIT, server.on_message(subject, handler))
        .await
        .expect("subscribed");
    (go_on, is_asked)
}

#[tokio::test]
async fn a_timeout_keeps_nothing() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("request");
    let (go_on, _asked) = hesitant(&server, &subject).await;
    let error = within(LIMIT, pool.request(&subject, "").timeout(SHORT))
        .await
        .expect_err("late");
    assert_eq!(
        (error.kind(), error.clock()),
        (RequestErrorKind::Timeout, Some(Clock::Deadline))
    );
    assert!(!error.is_retryable(), "the handler runs");
    assert_eq!(pool.stats().in_flight, 0);
    // The reply finds no route any more.
    go_on.send_replace(true);
    settles(LIMIT, async || pool.stats().strays, 1).await;
}

#[tokio::test]
async fn a_dropped_request_keeps_nothing() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("request");
    let (go_on, mut asked) = hesitant(&server, &subject).await;
    tokio::select! {
        reply = pool.request(&subject, "").timeout(NEVER).send() => panic!("{reply:?}"),
        asked = within(LIMIT, asked.recv()) => asked.expect("asked"),
    }
    assert_eq!(pool.stats().in_flight, 0);
    go_on.send_replace(true);
    settles(LIMIT, async || pool.stats().strays, 1).await;
}

#[tokio::test]
async fn a_drain_cancels_what_is_left() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("request");
    let (_go_on, mut asked) = hesitant(&server, &subject).await;
    let request = tokio::task::spawn(pool.request(&subject, "").timeout(NEVER).send());
    within(LIMIT, asked.recv()).await.expect("asked");
    assert_eq!(within(LIMIT, pool.drain(SHORT)).await, 1);
    let error = within(LIMIT, request).await.expect("no panic").expect_err("cancelled");
    assert_eq!(error.kind(), RequestErrorKind::Cancelled);
}

#[tokio::test]
async fn requests_count_as_in_flight() {
    let server = Server::new(connection(shared_url()).await);
    let pool = Pool::builder(connection(shared_url()).await).max_in_flight(1).build();
    let subject = unique_subject("request");
    let (go_on, mut asked) = hesitant(&server, &subject).await;
    let first = tokio::task::spawn(pool.request(&subject, "").timeout(NEVER).send());
    within(LIMIT, asked.recv()).await.expect("asked");
    let error = within(LIMIT, pool.request(&subject, "").timeout(SHORT))
        .await
        .expect_err("full");
    assert_eq!(
        (error.kind(), error.clock()),
        (RequestErrorKind::Timeout, Some(Clock::InFlight))
    );
    go_on.send_replace(true);
    within(LIMIT, first).await.expect("no panic").expect("a reply");
    within(LIMIT, pool.request(&subject, ""))
        .await
        .expect("there is room again");
}

#[tokio::test]
async fn a_reply_may_come_after_a_reconnect() {
    let server = Server::new(connection(shared_url()).await);
    let proxy = Proxy::start(shared_url()).await;
    let pool = Pool::new(connection(&proxy.url()).await);
    let subject = unique_subject("request");
    let (go_on, mut asked) = hesitant(&server, &subject).await;
    let request = tokio::task::spawn(pool.request(&subject, "").timeout(NEVER).send());
    within(LIMIT, asked.recv()).await.expect("asked");
    let connection = pool.connection().expect("one connection");
    let mut state = connection.state();
    proxy.cut();
    let back = state.wait_for(|state| state.epoch == 2 && state.is_connected());
    within(LIMIT, back).await.expect("connected again");
    // nats-server knows the subscription for replies again.
    within(LIMIT, connection.fence(LIMIT)).await.expect("a round trip");
    go_on.send_replace(true);
    let reply = within(LIMIT, request).await.expect("no panic").expect("a reply");
    assert_eq!(reply.payload(), "late");
}

#[tokio::test]
async fn a_closed_connection_ends_a_request() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("request");
    let (_go_on, mut asked) = hesitant(&server, &subject).await;
    let request = tokio::task::spawn(pool.request(&subject, "").timeout(NEVER).send());
    within(LIMIT, asked.recv()).await.expect("asked");
    let connection = pool.connection().expect("one connection");
    within(LIMIT, connection.close(LIMIT)).await.expect("closed");
    let error = within(LIMIT, request).await.expect("no panic").expect_err("closed");
    assert_eq!(error.kind(), RequestErrorKind::Lost);
}

#[tokio::test]
async fn an_inbox_prefix_is_honoured() {
    let prefix = unique_subject("inbox");
    let config = ConnectConfig::new(shared_url()).inbox_prefix(&prefix);
    let own = within(LIMIT, Connection::connect(config)).await.expect("connected");
    let pool = Pool::new(own);
    let subject = unique_subject("request");
    let echo = |message: Message| async move {
        let reply = message.reply().unwrap_or_default().to_owned();
        Ok(message.respond(reply).await?)
    };
    let knowing = Server::builder(connection(shared_url()).await)
        .reply_prefix(format!("{prefix}."))
        .build();
    within(LIMIT, knowing.on_message(&subject, echo))
        .await
        .expect("subscribed");
    let reply = within(LIMIT, pool.request(&subject, "")).await.expect("a reply");
    assert!(reply.payload().starts_with(prefix.as_bytes()), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_spread_over_connections() {
    let builder = Connections::builder(ConnectConfig::new(shared_url()))
        .per_server(2..=2)
        .warm_up();
    let connections = within(LIMIT, builder.connect()).await.expect("connected");
    let pool = Pool::new(connections.clone());
    let server = Server::new(connection(shared_url()).await);
    let subject = unique_subject("request");
    let (go_on, mut asked) = hesitant(&server, &subject).await;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..10 {
        requests.spawn(pool.request(&subject, "").timeout(NEVER).send());
    }
    for _ in 0..10 {
        within(LIMIT, asked.recv()).await.expect("asked");
    }
    assert_eq!(connections.stats().in_flight, 10, "each counts on its connection");
    go_on.send_replace(true);
    for reply in within(LIMIT, requests.join_all()).await {
        assert_eq!(reply.expect("a reply").payload(), "late");
    }
    assert_eq!(connections.stats().in_flight, 0);
}

#[tokio::test]
async fn of_a_stream_the_first_item_is_the_reply() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("request");
    let stream = |_, mut out: ResponseSender| async move {
        out.send("first").await?;
        out.send("second").await?;
        Ok(())
    };
    within(LIMIT, server.on(&subject, stream)).await.expect("served");
    let reply = within(LIMIT, pool.request(&subject, "")).await.expect("a reply");
    assert_eq!(reply.payload(), "first");
}
