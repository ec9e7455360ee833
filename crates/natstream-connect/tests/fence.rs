//! The round trip, and what the server refuses.

mod support;

use std::time::Duration;

use futures_util::StreamExt;
use natstream_connect::{ConnectConfig, Connection, Credentials, FenceErrorKind, Operation, ServerErrorEvent};
use support::{LIMIT, TIMEOUT, connected, server, state_where};
use testkit::{unique_name, unique_subject, within};

const RESTRICTED: &str = r#"authorization { users: [
    { user: app, password: s3cr3t, permissions: { publish: ["svc.>"], subscribe: ["_INBOX_app.>"] } }
    { user: deaf, password: s3cr3t, permissions: { publish: [">"], subscribe: ["svc.>"] } }
    { user: all, password: s3cr3t }
] }"#;

async fn user(server: &testkit::NatsServer, name: &str) -> Connection {
    let config = ConnectConfig::new(server.url()).credentials(Credentials::user_password(name, "s3cr3t"));
    connected(config.inbox_prefix("_INBOX_app")).await
}

#[tokio::test]
async fn a_fence_confirms_what_was_published_before() {
    let connection = connected(ConnectConfig::new(testkit::shared_url())).await;
    let witness = connected(ConnectConfig::new(testkit::shared_url())).await;
    let subject = unique_subject("connect.fence");
    let mut seen = within(LIMIT, witness.nats().subscribe(subject.clone())).await.unwrap();
    within(LIMIT, witness.fence(TIMEOUT)).await.unwrap();
    for _ in 0..1000 {
        within(LIMIT, connection.nats().publish(subject.clone(), "item".into()))
            .await
            .unwrap();
    }
    let round_trip = within(LIMIT, connection.fence(TIMEOUT)).await.unwrap();
    assert!(round_trip > Duration::ZERO && round_trip < TIMEOUT);
    // The server has them all, so they reach the witness before the answer to its own fence.
    within(LIMIT, witness.fence(TIMEOUT)).await.unwrap();
    for _ in 0..1000 {
        let item = futures_util::FutureExt::now_or_never(tokio::task::unconstrained(seen.next()));
        item.expect("it is here already").unwrap();
    }
}

#[tokio::test]
async fn a_fence_does_not_survive_a_reconnect() {
    let mut server = server("").await;
    let config = ConnectConfig::new(server.url()).connect_timeout(Duration::from_millis(200));
    let connection = connected(config.ping_interval(Duration::from_millis(50))).await;
    server.pause();
    // It breaks while the fence waits …
    let error = within(LIMIT, connection.fence(LIMIT)).await.unwrap_err();
    assert_eq!(error.kind(), FenceErrorKind::Disconnected);
    // … and is down at the next.
    let error = within(LIMIT, connection.fence(LIMIT)).await.unwrap_err();
    assert_eq!(error.kind(), FenceErrorKind::Disconnected);
    server.resume();
    state_where(&connection, |state| state.is_connected()).await;
    within(LIMIT, connection.fence(TIMEOUT)).await.unwrap();
    // What was published before the reconnect is another matter.
    let error = within(LIMIT, connection.fence_since(1, TIMEOUT)).await.unwrap_err();
    assert_eq!(error.kind(), FenceErrorKind::Disconnected);
    let epoch = connection.state().borrow().epoch;
    within(LIMIT, connection.fence_since(epoch, TIMEOUT)).await.unwrap();
}

#[tokio::test]
async fn an_orderly_close_confirms_its_epoch() {
    let connection = connected(ConnectConfig::new(testkit::shared_url())).await;
    assert!(!connection.is_confirmed(1));
    within(LIMIT, connection.close(TIMEOUT)).await.unwrap();
    assert!(connection.is_confirmed(1) && !connection.is_confirmed(2) && !connection.is_confirmed(0));
    within(LIMIT, connection.fence_since(1, TIMEOUT)).await.unwrap();
    let error = within(LIMIT, connection.fence(TIMEOUT)).await.unwrap_err();
    assert_eq!(error.kind(), FenceErrorKind::Closed);
}

#[tokio::test]
async fn an_answer_over_the_next_connection_does_not_count() {
    let server = server("").await;
    // With room for one command the probe has to wait until the reconnect is under way, and is
    // answered long before the next look at a foreign client.
    let options = async_nats::ConnectOptions::new().client_capacity(1);
    let client = within(LIMIT, options.connect(server.url())).await.unwrap();
    let connection = Connection::from_nats(client.clone());
    within(LIMIT, client.force_reconnect()).await.unwrap();
    let error = within(LIMIT, connection.fence(TIMEOUT)).await.unwrap_err();
    assert_eq!(error.kind(), FenceErrorKind::Disconnected);
}

#[tokio::test]
async fn a_fence_has_a_limit() {
    let mut server = server("").await;
    let connection = connected(ConnectConfig::new(server.url())).await;
    server.pause();
    let error = within(LIMIT, connection.fence(Duration::from_millis(50)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), FenceErrorKind::Timeout);
    assert!(error.is_timeout());
    let error = within(LIMIT, connection.close(Duration::from_millis(50)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), FenceErrorKind::Timeout);
    assert!(connection.state().borrow().is_closed());
}

#[tokio::test]
async fn a_user_without_the_permissions_can_fence_too() {
    let server = server(RESTRICTED).await;
    for name in ["app", "deaf", "all"] {
        let connection = user(&server, name).await;
        let mut errors = connection.server_errors();
        for _ in 0..3 {
            within(LIMIT, connection.fence(TIMEOUT))
                .await
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        // The answer to a round trip is no complaint: only what others do is told.
        let forbidden = unique_subject("forbidden");
        within(LIMIT, connection.nats().publish(forbidden.clone(), "".into()))
            .await
            .unwrap();
        within(LIMIT, connection.fence(TIMEOUT)).await.unwrap();
        while let Ok(event) = errors.try_recv() {
            let is_ours =
                matches!(&event, ServerErrorEvent::PermissionViolation { subject, .. } if *subject == forbidden);
            assert!(is_ours, "{name}: {event}");
        }
    }
}

#[tokio::test]
async fn refusals_are_typed_events() {
    let server = server(RESTRICTED).await;
    let connection = user(&server, "app").await;
    let mut errors = connection.server_errors();
    let client = connection.nats();
    let (subject, group) = (unique_subject("forbidden"), unique_name("group"));

    within(LIMIT, client.publish(subject.clone(), "".into())).await.unwrap();
    let subscriber = within(LIMIT, client.subscribe(subject.clone())).await.unwrap();
    let member = within(LIMIT, client.queue_subscribe(subject.clone(), group.clone()))
        .await
        .unwrap();
    for (expected, expected_group) in [
        (Operation::Publish, None),
        (Operation::Subscribe, None),
        (Operation::Subscribe, Some(&group)),
    ] {
        match within(LIMIT, errors.recv()).await.unwrap() {
            ServerErrorEvent::PermissionViolation {
                operation,
                subject: found,
                queue_group,
                ..
            } => {
                assert_eq!(
                    (operation, found.as_str(), queue_group.as_ref()),
                    (expected, subject.as_str(), expected_group)
                );
            }
            other => panic!("{other:?}"),
        }
    }
    drop((subscriber, member));
}

#[tokio::test]
async fn the_users_callback_is_called_too() {
    let server = server("").await;
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let config = ConnectConfig::new(server.url()).on_event(move |event| {
        let _ = events.send(event.clone());
    });
    let connection = connected(config).await;
    assert_eq!(within(LIMIT, heard.recv()).await.unwrap(), async_nats::Event::Connected);
    within(LIMIT, connection.close(TIMEOUT)).await.unwrap();
    while within(LIMIT, heard.recv()).await.unwrap() != async_nats::Event::Closed {}
}
