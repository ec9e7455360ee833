//! What streams refuse, or know already, in every mode of the window.

use std::collections::HashSet;

use futures_util::future::join_all;
use integration::bus::{numbers, stream};
use integration::{LIMIT, connection};
use natstream::eventbus::topology::{Discard, StreamSpec};
use natstream::eventbus::{Dedup, Ordering};
use natstream::{Bus, Connection, Event, PublishError, PublishErrorKind};
use testkit::{NatsServer, shared_url, unique_name, unique_subject, within};
use tokio::sync::mpsc;

use super::LONG;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    OneByOne,
    Window,
    WithoutIds,
    Strict,
    Batch,
}

const MODES: [Mode; 5] = [
    Mode::OneByOne,
    Mode::Window,
    Mode::WithoutIds,
    Mode::Strict,
    Mode::Batch,
];

/// Publishes, and waits until all is settled: the bus, and what `on_failure` was told.
async fn publish(connection: &Connection, mode: Mode, events: Vec<Event>) -> (Bus, Vec<PublishError>) {
    let (failures, mut failed) = mpsc::unbounded_channel();
    let builder = Bus::builder(connection.clone())
        .deadline(LONG)
        .on_failure(move |error| drop(failures.send(error)));
    let builder = match mode {
        Mode::WithoutIds => builder.dedup(Dedup::Off),
        Mode::Strict => builder.ordering(Ordering::Strict),
        Mode::OneByOne | Mode::Window | Mode::Batch => builder,
    };
    let bus = within(LIMIT, builder.open()).await.expect("open");
    match mode {
        Mode::OneByOne => drop(within(LONG, join_all(events.into_iter().map(|event| bus.publish(event)))).await),
        Mode::Batch => {
            let report = within(LONG, bus.publish_batch(events)).await;
            for (place, error) in report.failed() {
                assert_eq!(error.event().payload(), &place.to_string(), "by its place");
            }
        }
        Mode::Window | Mode::WithoutIds | Mode::Strict => {
            for event in events {
                within(LONG, bus.enqueue(event)).await.expect("accepted");
            }
        }
    }
    // It fails when events have failed.
    let _ = within(LONG, bus.flush(LONG)).await;
    let mut told = Vec::new();
    while let Ok(error) = failed.try_recv() {
        told.push(error);
    }
    (bus, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_is_known_is_acked_as_a_duplicate_in_every_mode() {
    let connection = connection(shared_url()).await;
    for mode in MODES {
        let (name, subject) = (unique_name("MODES"), unique_subject("modes"));
        stream(&connection, StreamSpec::new(&name, [subject.clone()])).await;
        let event = |n: u32| Event::new(subject.clone(), n.to_string()).message_id(format!("id-{n}"));
        for round in 0..2 {
            let (bus, failed) = publish(&connection, mode, (0..20).map(event).collect()).await;
            let stats = bus.stats();
            assert_eq!((stats.acked, stats.duplicates), (20, round * 20), "{mode:?}");
            assert!(failed.is_empty(), "{mode:?}");
        }
        assert_eq!(numbers(&connection, &name).await.len(), 20, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_stream_refuses_is_handed_back_in_every_mode() {
    let connection = connection(shared_url()).await;
    for mode in MODES {
        let (name, subject) = (unique_name("MODES"), unique_subject("modes"));
        let spec = StreamSpec::new(&name, [subject.clone()]).max_messages(10);
        stream(&connection, spec.discard(Discard::New)).await;
        let events = (0..25).map(|n| Event::new(subject.clone(), n.to_string())).collect();
        let (bus, failed) = publish(&connection, mode, events).await;
        assert_eq!((bus.stats().acked, bus.stats().failed), (10, 15), "{mode:?}");
        let mut numbers: HashSet<u64> = numbers(&connection, &name).await.into_iter().collect();
        for error in failed {
            assert_eq!(
                (error.kind(), error.may_be_stored()),
                (PublishErrorKind::StreamFull, false),
                "{mode:?}"
            );
            let payload = std::str::from_utf8(error.event().payload()).expect("text");
            assert!(
                numbers.insert(payload.parse().expect("a number")),
                "{mode:?}: stored, or told, once"
            );
        }
        assert_eq!(numbers.len(), 25, "{mode:?}: each is stored or was handed back");
    }
}

/// Strict order and windows have a suite of their own, `bus_429`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_queue_refuses_is_tried_again_one_by_one_and_in_batches() {
    const EVENTS: u64 = 5000;
    for mode in [Mode::OneByOne, Mode::Batch] {
        let config = "jetstream { max_buffered_msgs: 20 }";
        let nats = NatsServer::builder().jetstream(true).config(config).start().await;
        let connection = connection(&nats.url()).await;
        stream(&connection, StreamSpec::new("S", ["s.>"])).await;
        let events = (0..EVENTS).map(|n| Event::new(format!("s.{}", n % 20), n.to_string()));
        let (bus, failed) = publish(&connection, mode, events.collect()).await;
        assert!(failed.is_empty(), "{mode:?}");
        assert!(bus.stats().retried > 0, "{mode:?}: the queue was full at times");
        let mut stored = numbers(&connection, "S").await;
        stored.sort_unstable();
        assert!(stored.into_iter().eq(0..EVENTS), "{mode:?}: each once");
    }
}
