//! Handlers that take longer than the ack wait: nats-server is told of them, and gives their messages to nobody else.
//!
//! `NATSTREAM_MINUTES` is how long handlers take in the long form; 6 s by default, with an ack wait of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use integration::consume::{Desk, drained, run};
use integration::{LIMIT, connection, variable};
use natstream::eventbus::{BatchError, Key, Message};
use testkit::{Flow, NatsServer, Proxy, settles_where, shared_url, within};
use tokio::sync::Semaphore;

const ACK_WAIT: Duration = Duration::from_secs(1);

/// How long a handler takes.
fn work() -> Duration {
    variable("NATSTREAM_MINUTES").map_or(Duration::from_secs(6), |minutes| Duration::from_secs(60 * minutes))
}

/// How long a test may take in all.
fn limit() -> Duration {
    2 * work() + LIMIT
}

async fn told(key: Key) {
    const EVENTS: u64 = 60;
    let desk = Desk::new(connection(shared_url()).await).await;
    desk.publish_keys(EVENTS, EVENTS).await;
    // Those that wait for a handler are told of too.
    let consumer = desk
        .consumer(desk.spec().ack_wait(ACK_WAIT))
        .concurrency(32)
        .prefetch(64)
        .key(key);
    let consumer = within(LIMIT, consumer.open()).await.expect("open");
    // Somebody else is there to take what is given away.
    let other = connection(shared_url()).await;
    let running = run(&consumer, |message: Message| async move {
        assert_eq!(message.attempt(), 1);
        // sleep: this is the handler that takes long.
        tokio::time::sleep(work()).await;
        Ok(())
    });
    settles_where(
        LIMIT,
        || std::future::ready(consumer.stats().received),
        |received| *received == EVENTS,
    )
    .await;
    let thief = natstream::eventbus::Consumer::builder(other, desk.spec());
    let thief = within(LIMIT, thief.open()).await.expect("open");
    let stealing = run(&thief, |_| async { Ok(()) });
    desk.all_acked(limit()).await;
    drained(&consumer, running).await;
    drained(&thief, stealing).await;
    let stats = consumer.stats();
    assert_eq!(
        (stats.handled, stats.failed, stats.received, stats.redelivered),
        (EVENTS, 0, EVENTS, 0)
    );
    assert_eq!(thief.stats().received, 0, "nothing was delivered twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_long_is_never_delivered_twice() {
    told(Key::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_long_is_never_delivered_twice_with_keys() {
    told(Key::Subject).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_take_long_are_told_of() {
    let desk = Desk::new(connection(shared_url()).await).await;
    desk.publish_keys(50, 1).await;
    let consumer = desk.consumer(desk.spec().ack_wait(ACK_WAIT));
    let consumer = within(LIMIT, consumer.open()).await.expect("open");
    let running = tokio::spawn({
        let consumer = consumer.clone();
        async move {
            let handler = |_: Vec<Message>| async {
                // sleep: this is the handler that takes long.
                tokio::time::sleep(work()).await;
                Ok::<_, BatchError>(())
            };
            consumer.for_each_batch(50, Duration::from_secs(1), handler).await
        }
    });
    settles_where(
        LIMIT,
        || std::future::ready(consumer.stats().in_flight),
        |now| *now == 50,
    )
    .await;
    // Somebody else is there to take what is given away.
    let thief = within(LIMIT, desk.consumer(desk.spec()).open()).await.expect("open");
    let stealing = run(&thief, |_| async { Ok(()) });
    desk.all_acked(limit()).await;
    consumer.drain();
    within(LIMIT, running).await.expect("no panic").expect("drained");
    let stats = consumer.stats();
    assert_eq!((stats.received, stats.redelivered, stats.handled), (50, 0, 50));
    drained(&thief, stealing).await;
    assert_eq!(thief.stats().received, 0, "nothing was delivered twice");
}

/// Signals do not reach nats-server: it delivers again, which is counted; but here nothing runs twice at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_delivered_twice_is_not_handled_twice_at_the_same_time() {
    const EVENTS: u64 = 8;
    let nats = NatsServer::builder().jetstream(true).start().await;
    let proxy = Proxy::start(nats.url()).await;
    let desk = Desk::new(connection(&nats.url()).await).await;
    let blocked = connection(&proxy.url()).await;
    let consumer = natstream::eventbus::Consumer::builder(blocked, desk.spec().ack_wait(ACK_WAIT));
    // Room for those that come again, asked for before the connection is blocked.
    let consumer = within(LIMIT, consumer.prefetch(4 * EVENTS as usize).open())
        .await
        .expect("open");
    let (calls, release) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
    let running = run(&consumer, {
        let (calls, release) = (calls.clone(), release.clone());
        move |_| {
            let (calls, release) = (calls.clone(), release.clone());
            async move {
                calls.fetch_add(1, Ordering::Relaxed);
                release.acquire().await.expect("open").forget();
                Ok(())
            }
        }
    });
    desk.publish_keys(EVENTS, EVENTS).await;
    settles_where(
        LIMIT,
        || std::future::ready(calls.load(Ordering::Relaxed)),
        |calls| *calls == EVENTS,
    )
    .await;
    proxy.blackhole(Flow::ToServer, true);
    let repeated = || std::future::ready(consumer.stats().repeated);
    settles_where(LIMIT, repeated, |repeated| *repeated >= EVENTS).await;
    assert_eq!(calls.load(Ordering::Relaxed), EVENTS);
    proxy.blackhole(Flow::ToServer, false);
    release.add_permits(EVENTS as usize);
    desk.all_acked(LIMIT).await;
    drained(&consumer, running).await;
    assert_eq!(
        (calls.load(Ordering::Relaxed), consumer.stats().handled),
        (EVENTS, EVENTS)
    );
}
