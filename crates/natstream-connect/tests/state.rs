//! State and epoch, across lost connections and to the end.

mod support;

use std::time::Duration;

use futures_util::StreamExt;
use natstream_connect::{ConnectConfig, Connection, ConnectionStatus, EndReason, FenceErrorKind, observe};
use support::{LIMIT, TIMEOUT, connected, server, state_where};
use testkit::{unique_subject, within};

#[tokio::test]
async fn the_epoch_rises_with_every_reconnect() {
    let mut server = server("").await;
    let connection = connected(ConnectConfig::new(server.url())).await;
    let first = *connection.state().borrow();
    assert_eq!(
        (first.status, first.epoch, first.lame_duck),
        (ConnectionStatus::Connected, 1, false)
    );

    server.kill();
    let down = state_where(&connection, |state| !state.is_connected()).await;
    assert_eq!((down.status, down.epoch), (ConnectionStatus::Disconnected, 1));
    within(LIMIT, server.restart()).await;
    let back = state_where(&connection, |state| state.is_connected()).await;
    assert_eq!(back.epoch, 2);

    within(LIMIT, connection.nats().force_reconnect()).await.unwrap();
    state_where(&connection, |state| state.is_connected() && state.epoch == 3).await;
}

#[tokio::test]
async fn a_foreign_client_is_followed_without_events() {
    let mut server = server("").await;
    let options = async_nats::ConnectOptions::new().custom_inbox_prefix("_INBOX_foreign.x");
    let client = within(LIMIT, options.connect(server.url())).await.unwrap();
    let connection = Connection::from_nats(client.clone());
    assert_eq!(connection.inbox_prefix(), "_INBOX_foreign.x");
    assert_eq!(connection.server_url(), None);
    assert_eq!(connection.state().borrow().epoch, 1);
    within(LIMIT, connection.fence(TIMEOUT)).await.unwrap();

    server.kill();
    state_where(&connection, |state| state.status == ConnectionStatus::Disconnected).await;
    within(LIMIT, server.restart()).await;
    state_where(&connection, |state| state.is_connected() && state.epoch == 2).await;

    within(LIMIT, client.drain()).await.unwrap();
    state_where(&connection, |state| state.is_closed()).await;
    assert_eq!(connection.end_reason(), Some(EndReason::ClientEnded));
}

#[tokio::test]
async fn a_reconnect_between_two_looks_still_raises_the_epoch() {
    let server = server("").await;
    let client = within(LIMIT, async_nats::connect(server.url())).await.unwrap();
    let connection = Connection::from_nats(client.clone());
    for epoch in 2..5 {
        within(LIMIT, client.force_reconnect()).await.unwrap();
        state_where(&connection, |state| state.epoch == epoch).await;
    }
}

#[tokio::test]
async fn an_observed_foreign_client_hears_everything() {
    let mut server = server("").await;
    let (callback, observer) = observe();
    let options = async_nats::ConnectOptions::new().event_callback(callback);
    let client = within(LIMIT, options.connect(server.url())).await.unwrap();
    let connection = Connection::from_observed(client, observer);
    server.lame_duck();
    let state = state_where(&connection, |state| state.lame_duck).await;
    assert_eq!(state.epoch, 1);
}

#[tokio::test]
async fn lame_duck_mode_ends_with_the_reconnect() {
    let (mut old, new) = tokio::join!(server(""), server(""));
    let config = ConnectConfig::new([old.url(), new.url()]).retain_servers_order();
    let connection = connected(config).await;
    old.lame_duck();
    state_where(&connection, |state| state.lame_duck).await;
    within(LIMIT, connection.nats().force_reconnect()).await.unwrap();
    let state = state_where(&connection, |state| state.is_connected() && state.epoch == 2).await;
    assert!(!state.lame_duck);
    assert_eq!(connection.server_url().unwrap(), new.url());
}

#[tokio::test]
async fn a_lost_server_is_replaced_by_another() {
    let (mut first, second) = tokio::join!(server(""), server(""));
    let config = ConnectConfig::new([first.url(), second.url()]).retain_servers_order();
    let connection = connected(config).await;
    assert_eq!(connection.server_url().unwrap(), first.url());
    first.kill();
    state_where(&connection, |state| state.is_connected() && state.epoch == 2).await;
    assert_eq!(connection.server_url().unwrap(), second.url());
    assert_ne!(connection.client_id(), 0);
    assert!(!connection.server_version().is_empty());
}

#[tokio::test]
async fn exhausted_attempts_close_the_connection() {
    let mut server = server("").await;
    let config = |attempts| ConnectConfig::new(server.url()).max_reconnects(Some(attempts));
    let connection = connected(config(2)).await;
    let impatient = connected(config(0)).await;
    assert_eq!(connection.end_reason(), None);
    server.kill();
    for (connection, attempts) in [(&connection, 2), (&impatient, 0)] {
        state_where(connection, |state| state.is_closed()).await;
        let reason = EndReason::ReconnectsExhausted { attempts };
        assert_eq!(connection.end_reason(), Some(reason));
    }
    let error = within(LIMIT, connection.fence(TIMEOUT)).await.unwrap_err();
    assert_eq!(error.kind(), FenceErrorKind::Closed);
    within(LIMIT, connection.close(TIMEOUT)).await.unwrap();
}

#[tokio::test]
async fn a_silent_server_is_noticed() {
    let mut server = server("").await;
    let config = ConnectConfig::new(server.url()).ping_interval(Duration::from_millis(100));
    let connection = connected(config.connect_timeout(Duration::from_millis(200))).await;
    server.pause();
    state_where(&connection, |state| !state.is_connected()).await;
    server.resume();
    state_where(&connection, |state| state.is_connected() && state.epoch == 2).await;
}

#[tokio::test]
async fn close_ends_everything() {
    let server = server("").await;
    let connection = connected(ConnectConfig::new(server.url())).await;
    let client = connection.nats().clone();
    let subject = unique_subject("connect.close");
    let mut subscriber = within(LIMIT, client.subscribe(subject.clone())).await.unwrap();
    let witness = connected(ConnectConfig::new(server.url())).await;
    let mut seen = within(LIMIT, witness.nats().subscribe(subject.clone())).await.unwrap();
    within(LIMIT, witness.fence(TIMEOUT)).await.unwrap();

    for _ in 0..100 {
        within(LIMIT, client.publish(subject.clone(), "last words".into()))
            .await
            .unwrap();
    }
    within(LIMIT, connection.clone().close(TIMEOUT)).await.unwrap();
    assert!(connection.state().borrow().is_closed());
    assert_eq!(connection.end_reason(), Some(EndReason::Closed));
    for _ in 0..100 {
        within(LIMIT, seen.next()).await.unwrap();
    }
    while within(LIMIT, subscriber.next()).await.is_some() {}
    within(LIMIT, client.publish(subject, "too late".into()))
        .await
        .unwrap_err();
    let error = within(LIMIT, connection.fence(TIMEOUT)).await.unwrap_err();
    assert_eq!(error.kind(), FenceErrorKind::Closed);
    within(LIMIT, connection.close(TIMEOUT)).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_down_can_be_closed() {
    let mut server = server("").await;
    let connection = connected(ConnectConfig::new(server.url())).await;
    let client = connection.nats().clone();
    let mut subscriber = within(LIMIT, client.subscribe(unique_subject("connect.down")))
        .await
        .unwrap();
    server.kill();
    state_where(&connection, |state| !state.is_connected()).await;
    let error = within(LIMIT, connection.close(TIMEOUT)).await.unwrap_err();
    assert_eq!(error.kind(), FenceErrorKind::Disconnected);
    assert!(connection.state().borrow().is_closed());
    // async-nats' own task has ended too, in place of reconnecting for ever.
    assert!(within(LIMIT, subscriber.next()).await.is_none());
    within(LIMIT, client.publish("x", "".into())).await.unwrap_err();
}

#[tokio::test]
async fn the_last_handle_ends_the_connection() {
    let server = server("").await;
    let connection = connected(ConnectConfig::new(server.url())).await;
    let mut state = connection.state();
    let clone = connection.clone();
    drop(connection);
    within(LIMIT, clone.fence(TIMEOUT)).await.unwrap();
    drop(clone);
    within(LIMIT, async { while state.changed().await.is_ok() {} }).await;
}

#[test]
fn handles_may_outlive_the_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (connection, server) = runtime.block_on(async {
        let server = server("").await;
        (connected(ConnectConfig::new(server.url())).await, server)
    });
    let clone = connection.clone();
    let fence = connection.fence(TIMEOUT);
    drop(runtime);
    drop(fence);
    assert_eq!(clone.server_url().unwrap(), server.url());
    drop((connection, clone));
}

#[test]
fn public_types_can_be_shared_between_tasks() {
    fn check<T: Send + Sync + 'static>() {}
    fn is_send<T: Send>(_: impl FnOnce(Connection) -> T) {}
    check::<Connection>();
    check::<ConnectConfig>();
    check::<natstream_connect::ConnectError>();
    check::<natstream_connect::Observer>();
    is_send(|connection| async move { connection.fence(TIMEOUT).await });
    is_send(|connection| async move { connection.close(TIMEOUT).await });
    is_send(|_| Connection::connect(ConnectConfig::new("localhost")));
}
