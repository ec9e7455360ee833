//! Answers that are lost: what is known then, and how.

use std::sync::atomic::Ordering;

use natstream::eventbus::topology::Discard;
use natstream::eventbus::{AtomicAck, AtomicError, Dedup};
use testkit::{Flow, Proxy, settles_where};

use super::*;

/// Commits a batch whose answer is lost with the connection. The stream has it.
async fn lost_answer(
    batch: AtomicBatch,
    set: impl FnOnce(AtomicBusBuilder) -> AtomicBusBuilder,
) -> Result<AtomicAck, AtomicError> {
    lost_answer_of(|spec| spec, batch, set).await
}

async fn lost_answer_of(
    spec: impl FnOnce(StreamSpec) -> StreamSpec,
    batch: AtomicBatch,
    set: impl FnOnce(AtomicBusBuilder) -> AtomicBusBuilder,
) -> Result<AtomicAck, AtomicError> {
    let (nats, admin) = server("").await;
    atomic_stream(&admin, spec).await;
    let proxy = Proxy::start(nats.url()).await;
    let connection = integration::connection(&proxy.url()).await;
    let bus = open(&connection, set).await;
    proxy.blackhole(Flow::ToClient, true);
    let events = batch.len();
    let committing = tokio::spawn(async move { bus.commit(batch).await });
    let count = || async { payloads(&admin).await.len() };
    settles_where(LIMIT, count, |count| *count == events).await;
    proxy.cut();
    proxy.blackhole(Flow::ToClient, false);
    let outcome = within(LONG, committing).await.expect("no panic");
    assert_eq!(payloads(&admin).await.len(), events, "nothing is stored twice");
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_answer_is_lost_is_proven_by_its_id() {
    let ack = lost_answer(batch("b", 5), |builder| builder).await.expect("stored");
    assert_eq!((ack.count, ack.last_sequence), (5, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_of_ones_own_beside_others_is_proof_too() {
    let mut batch = batch("b", 2);
    batch.add(Event::new("s.x", "x").message_id("mine"));
    let ack = lost_answer(batch, |builder| builder).await.expect("stored");
    assert_eq!(ack.count, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_ones_own_alone_prevent_a_copy_and_prove_nothing() {
    let events = ["a", "b"].map(|id| Event::new("s.x", id).message_id(id));
    let error = lost_answer(events.into_iter().collect(), |builder| builder)
        .await
        .expect_err("unclear");
    assert_eq!(
        (error.kind(), error.may_be_stored()),
        (AtomicErrorKind::DuplicateId, true)
    );
    assert_eq!(error.batch().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ids_a_lost_answer_is_unknown_and_nothing_is_sent_again() {
    let error = lost_answer(batch("b", 5), |builder| builder.dedup(Dedup::Off)).await;
    let error = error.expect_err("unknown");
    assert_eq!((error.kind(), error.may_be_stored()), (AtomicErrorKind::Unknown, true));
    assert_eq!(error.attempts(), 1);
}

/// Of one event: its own copy is in the way of its expectation, too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expectation_is_looked_at_after_the_id() {
    let mut batch = AtomicBatch::new();
    batch.add(Event::new("s.x", "x").expect_last_sequence(0));
    let ack = lost_answer(batch, |builder| builder).await.expect("stored");
    assert_eq!(ack.count, 1);
}

/// The events before the one with the bus's id are looked at first, and find their own copies in their way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_whose_answer_is_lost_is_proven_although_its_expectations_are_met_no_more() {
    let account = |n: u8| Event::new(format!("s.{n}"), "x").expect_last_subject_sequence(0);
    let ack = lost_answer([7, 8, 9].map(account).into_iter().collect(), |builder| builder);
    assert_eq!(ack.await.expect("stored").count, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_has_filled_the_stream_is_proven_too() {
    let full = |spec: StreamSpec| spec.max_messages(5).discard(Discard::New);
    let ack = lost_answer_of(full, batch("b", 5), |builder| builder).await;
    assert_eq!(ack.expect("stored").count, 5);
}

/// The commit does not arrive, and somebody else stores an event with an id of the batch: that is no proof of the batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_somebody_else_has_given_proves_nothing() {
    let (nats, admin) = server("").await;
    atomic_stream(&admin, |spec| spec).await;
    let proxy = Proxy::start(nats.url()).await;
    let connection = integration::connection(&proxy.url()).await;
    let bus = open(&connection, |builder| builder).await;
    let sent = connection.nats().statistics();
    let before = sent.out_messages.load(Ordering::SeqCst);
    proxy.blackhole(Flow::ToServer, true);
    let mut batch = batch("b", 2);
    batch.add(Event::new("s.x", "x").message_id("theirs"));
    let committing = tokio::spawn(async move { bus.commit(batch).await });
    let count = || std::future::ready(sent.out_messages.load(Ordering::SeqCst));
    settles_where(LIMIT, count, |count| *count >= before + 3).await;
    let others = open(&admin, |builder| builder).await;
    let theirs = [Event::new("s.y", "theirs").message_id("theirs")].into_iter().collect();
    within(LIMIT, others.commit(theirs)).await.expect("stored");
    proxy.cut();
    proxy.blackhole(Flow::ToServer, false);
    let error = within(LONG, committing)
        .await
        .expect("no panic")
        .expect_err("not stored");
    assert_eq!(
        (error.kind(), error.may_be_stored()),
        (AtomicErrorKind::DuplicateId, true)
    );
    assert_eq!(payloads(&admin).await, ["theirs"]);
}
