//! Answers that are lost: what is known then, and how.

use natstream::eventbus::Dedup;
use natstream::eventbus::{AtomicAck, AtomicError};
use testkit::{Flow, Proxy, settles_where};

use super::*;

/// Commits a batch whose answer is lost with the connection. The stream has it.
async fn lost_answer(
    batch: AtomicBatch,
    set: impl FnOnce(AtomicBusBuilder) -> AtomicBusBuilder,
) -> Result<AtomicAck, AtomicError> {
    let (nats, admin) = server("").await;
    atomic_stream(&admin, |spec| spec).await;
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

/// Its own copy is in the way of an expectation: that proves nothing, and the id does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expectation_is_looked_at_after_the_id() {
    let mut batch = AtomicBatch::new();
    batch.add(Event::new("s.x", "x").expect_last_sequence(0));
    let ack = lost_answer(batch, |builder| builder).await.expect("stored");
    assert_eq!(ack.count, 1);
}
