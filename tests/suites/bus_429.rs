//! A stream whose queue is full: 429 is tried again, and nothing is lost or stored twice.

use std::collections::HashSet;

use integration::bus::{numbers, stream};
use integration::{LIMIT, connection};
use natstream::eventbus::topology::StreamSpec;
use natstream::eventbus::{Dedup, Ordering};
use natstream::{Bus, Event};
use testkit::{NatsServer, within};

const EVENTS: u64 = 20_000;

async fn publish(dedup: Dedup, ordering: Ordering) -> Vec<u64> {
    let config = "jetstream { max_buffered_msgs: 20 }";
    let nats = NatsServer::builder().jetstream(true).config(config).start().await;
    let connection = connection(&nats.url()).await;
    stream(&connection, StreamSpec::new("S", ["s.>"])).await;
    let bus = Bus::builder(connection).window(1000).dedup(dedup).ordering(ordering);
    let bus = within(LIMIT, bus.open()).await.expect("open");
    for n in 0..EVENTS {
        let event = Event::new(format!("s.{}", n % 500), n.to_string());
        within(LIMIT, bus.enqueue(event)).await.expect("accepted");
    }
    within(LIMIT, bus.flush(LIMIT)).await.expect("all acked");
    let stats = bus.stats();
    assert_eq!((stats.accepted, stats.acked, stats.failed), (EVENTS, EVENTS, 0));
    assert!(stats.retried > 0, "the queue was full at times");
    numbers(bus.connection(), "S").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_ids_every_event_is_stored_once() {
    let stored = publish(Dedup::Id, Ordering::Fast).await;
    assert_eq!(stored.len() as u64, EVENTS);
    assert_eq!(stored.into_iter().collect::<HashSet<_>>().len() as u64, EVENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ids_every_event_is_stored_once() {
    let stored = publish(Dedup::Off, Ordering::Fast).await;
    assert_eq!(stored.len() as u64, EVENTS);
    assert_eq!(stored.into_iter().collect::<HashSet<_>>().len() as u64, EVENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_strict_order_each_subject_keeps_its_order() {
    let stored = publish(Dedup::Id, Ordering::Strict).await;
    assert_eq!(stored.len() as u64, EVENTS);
    for lane in 0..500 {
        let own: Vec<_> = stored.iter().filter(|n| **n % 500 == lane).collect();
        assert!(own.is_sorted());
    }
}
