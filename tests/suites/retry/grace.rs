//! The attempts that follow by themselves soon after a reconnect of the caller, beside those of a policy.

use std::time::Duration;

use integration::{LIMIT, Peers};
use natstream::{Clock, Pool, RequestErrorKind, RetryPolicy};
use testkit::{NatsServer, settles_where, unique_subject, within};
use tokio::time::Instant;

use crate::{complete, failure, item, serve};

/// How long after a reconnect nobody there may mean that the responder is on its way (rule 26).
const GRACE: Duration = Duration::from_secs(5);

/// What is between two attempts meanwhile.
const INTERVAL: Duration = Duration::from_millis(250);

/// Kills `nats` and waits until the pool is back at it.
async fn reconnect(nats: &mut NatsServer, pool: &Pool) {
    // The first call makes the pool listen to its connection.
    let mut first = within(LIMIT, pool.request_stream(unique_subject("first"), ""))
        .await
        .expect("sent");
    assert_eq!(failure(&mut first).await.kind(), RequestErrorKind::NoResponders);
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
}

/// Waits until so many attempts have ended.
async fn attempts(pool: &Pool, so_many: u64) {
    settles_where(LIMIT, || async { pool.stats().attempts }, |ended| *ended >= so_many).await;
}

#[tokio::test]
async fn they_use_up_nothing_of_the_policy() {
    const PAUSE: Duration = Duration::from_secs(1);
    let mut nats = NatsServer::start().await;
    let Peers { pool, .. } = Peers::connect_to(&nats.url()).await;
    reconnect(&mut nats, &pool).await;
    let request = pool
        .request_stream(unique_subject("grace"), "")
        .retry(RetryPolicy::fixed(2, PAUSE));
    let mut responses = within(LIMIT, request).await.expect("sent");
    let error = failure(&mut responses).await;
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
    let since = pool
        .connection()
        .expect("one connection")
        .reconnected_at()
        .expect("it reconnected");
    let took = Instant::now() - since;
    assert!(
        took >= GRACE - INTERVAL + 2 * PAUSE,
        "given up after {took:?} and {} attempts",
        responses.attempt()
    );
}

#[tokio::test]
async fn they_share_one_wait_for_the_first_item_and_later_attempts_have_their_own() {
    let mut nats = NatsServer::start().await;
    let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
    let mut state = server.connection().state();
    reconnect(&mut nats, &pool).await;
    let subject = unique_subject("grace");
    let request = pool
        .request_stream(&subject, "")
        .first_item_timeout(Duration::from_millis(700))
        .retry(RetryPolicy::fixed(20, INTERVAL));
    let mut responses = within(LIMIT, request).await.expect("sent");
    let call = tokio::task::spawn(async move {
        assert_eq!(item(&mut responses).await, "late");
        complete(&mut responses).await;
    });
    // The first call of all, three of the wait, and one of the policy.
    attempts(&pool, 6).await;
    within(LIMIT, state.wait_for(|state| state.is_connected()))
        .await
        .expect("back");
    serve(&server, &subject, |_, _, mut out| async move {
        out.send("late").await?;
        Ok(())
    })
    .await;
    within(LIMIT, call).await.expect("no panic");
}

#[tokio::test]
async fn they_end_with_the_connection() {
    let mut nats = NatsServer::start().await;
    let Peers { pool, .. } = Peers::connect_to(&nats.url()).await;
    reconnect(&mut nats, &pool).await;
    let request = pool
        .request_stream(unique_subject("grace"), "")
        .connect_timeout(Duration::from_millis(300))
        .outage_limit(Duration::from_millis(300));
    let mut responses = within(LIMIT, request).await.expect("sent");
    let call = tokio::task::spawn(async move { failure(&mut responses).await });
    attempts(&pool, 3).await;
    nats.kill();
    let error = within(LIMIT, call).await.expect("it ends");
    // One that was on its way is lost.
    let is_lost = error.kind() == RequestErrorKind::Lost;
    assert!(is_lost || error.clock() == Some(Clock::Connect), "{error:?}");
}
