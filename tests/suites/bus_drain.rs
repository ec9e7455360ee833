//! Consumers that leave: with a drain nothing is handled twice and nothing is kept from others; without one, what was here comes
//! again after its ack wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use integration::consume::{Desk, drained, number, run};
use integration::{LIMIT, connection};
use natstream::eventbus::topology::Topology;
use natstream::eventbus::{Consumer, HandlerError, Key, Message};
use parking_lot::Mutex;
use testkit::{settles_where, shared_url, within};
use tokio::sync::Semaphore;

/// Longer than a test may wait: what comes again has not waited for it.
const NEVER: Duration = Duration::from_secs(300);

type Counts = Arc<Mutex<HashMap<u64, u64>>>;

/// A handler that counts what it has handled.
fn counting(counts: &Counts, takes: Duration) -> impl Fn(Message) -> Handling + Send + Sync + 'static {
    let counts = counts.clone();
    move |message| {
        let counts = counts.clone();
        Box::pin(async move {
            // sleep: this is the handler's work.
            tokio::time::sleep(takes).await;
            *counts.lock().entry(number(&message)).or_default() += 1;
            Ok(())
        })
    }
}

type Handling = std::pin::Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

async fn handled(counts: &Counts, least: usize) {
    let count = || std::future::ready(counts.lock().len());
    settles_where(LIMIT, count, |count| *count >= least).await;
}

async fn ack_pending(desk: &Desk) -> u64 {
    let topology = Topology::new(desk.connection.clone());
    let info = within(LIMIT, topology.consumer(&desk.stream, "c")).await.expect("info");
    info.ack_pending
}

async fn under_load(key: Key) {
    const EVENTS: u64 = 4000;
    let desk = Desk::new(connection(shared_url()).await).await;
    desk.publish_keys(EVENTS, 40).await;
    let counts = Counts::default();
    // One after the other: each finds what the one before has left.
    for part in 1..=6 {
        let connection = connection(shared_url()).await;
        let consumer = Consumer::builder(connection, desk.spec().ack_wait(NEVER))
            .key(key.clone())
            .prefetch(200);
        let consumer = within(LIMIT, consumer.open()).await.expect("open");
        let running = run(&consumer, counting(&counts, Duration::from_millis(1)));
        handled(&counts, (EVENTS as usize * part) / 6).await;
        drained(&consumer, running).await;
        let stats = consumer.stats();
        assert_eq!((stats.held, stats.in_flight, stats.unconfirmed), (0, 0, 0), "{stats:?}");
        assert_eq!(ack_pending(&desk).await, 0, "nothing is left behind");
    }
    let counts = counts.lock();
    assert!(counts.values().all(|times| *times == 1), "nothing is handled twice");
    assert_eq!(counts.len() as u64, EVENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_leaves_nothing_behind() {
    under_load(Key::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_leaves_nothing_behind_with_keys() {
    under_load(Key::Subject).await;
}

/// Handlers that never end: at the limit, all that is here comes to somebody else at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_drain_cannot_finish_comes_to_somebody_else_at_once() {
    let desk = Desk::new(connection(shared_url()).await).await;
    desk.publish_keys(20, 20).await;
    let slow = desk
        .consumer(desk.spec().ack_wait(NEVER))
        .concurrency(4)
        .drain_limit(Duration::from_millis(200));
    let slow = within(LIMIT, slow.open()).await.expect("open");
    let running = run(&slow, |_| std::future::pending());
    settles_where(
        LIMIT,
        || std::future::ready(slow.stats()),
        |stats| (stats.in_flight, stats.held) == (4, 8),
    )
    .await;
    drained(&slow, running).await;
    assert_eq!(slow.stats().held, 0);
    let counts = Counts::default();
    let other = within(LIMIT, desk.consumer(desk.spec()).open()).await.expect("open");
    let running = run(&other, counting(&counts, Duration::ZERO));
    handled(&counts, 20).await;
    drained(&other, running).await;
}

/// A message that rests until its next attempt is given back too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rests_comes_to_somebody_else_at_once() {
    let desk = Desk::new(connection(shared_url()).await).await;
    desk.publish_keys(3, 1).await;
    let failing = desk
        .consumer(desk.spec().ack_wait(NEVER))
        .backoff([NEVER])
        .key(Key::Subject);
    let failing = within(LIMIT, failing.open()).await.expect("open");
    let running = run(&failing, |_| async { Err(HandlerError::retry("not yet")) });
    settles_where(
        LIMIT,
        || std::future::ready(failing.stats()),
        |stats| (stats.in_flight, stats.resting, stats.held) == (0, 1, 3),
    )
    .await;
    drained(&failing, running).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let other = within(LIMIT, desk.consumer(desk.spec()).key(Key::Subject).open())
        .await
        .expect("open");
    let running = run(&other, {
        let order = order.clone();
        move |message| {
            order.lock().push(number(&message));
            async { Ok(()) }
        }
    });
    settles_where(LIMIT, || std::future::ready(order.lock().len()), |count| *count == 3).await;
    drained(&other, running).await;
    assert_eq!(*order.lock(), [0, 1, 2], "in their order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_drain_it_comes_again_after_its_ack_wait() {
    let desk = Desk::new(connection(shared_url()).await).await;
    desk.publish_keys(8, 8).await;
    let spec = desk.spec().ack_wait(Duration::from_secs(1));
    let consumer = within(LIMIT, desk.consumer(spec).open()).await.expect("open");
    let started = Arc::new(Semaphore::new(0));
    let running = run(&consumer, {
        let started = started.clone();
        move |_| {
            started.add_permits(1);
            std::future::pending()
        }
    });
    within(LIMIT, started.acquire_many(8)).await.expect("open").forget();
    running.abort();
    assert!(within(LIMIT, running).await.expect_err("aborted").is_cancelled());
    assert_eq!(ack_pending(&desk).await, 8);
    assert_eq!((consumer.stats().held, consumer.stats().in_flight), (0, 0));
    let counts = Counts::default();
    let other = within(LIMIT, desk.consumer(desk.spec()).open()).await.expect("open");
    let running = run(&other, counting(&counts, Duration::ZERO));
    handled(&counts, 8).await;
    drained(&other, running).await;
    assert_eq!(other.stats().redelivered, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_was_drained_stays_so() {
    let desk = Desk::new(connection(shared_url()).await).await;
    let consumer = within(LIMIT, desk.consumer(desk.spec()).open()).await.expect("open");
    consumer.drain();
    desk.publish_keys(1, 1).await;
    for _ in 0..2 {
        let ended = consumer.for_each(|_| async { Ok::<_, HandlerError>(()) });
        within(LIMIT, ended).await.expect("drained");
    }
    assert_eq!(consumer.stats().received, 0);
    let batch = within(LIMIT, consumer.fetch(1, LIMIT)).await.expect("fetched");
    within(LIMIT, batch.ack()).await.expect("acked");
}
