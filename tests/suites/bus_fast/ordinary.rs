//! When all goes well.

use natstream::eventbus::topology::{Changes, StreamSpec, Topology, TopologyErrorKind};
use natstream::eventbus::{BatchMode, Flaw, OpenError, TryEnqueueError};
use testkit::{NatsServer, shared_url, unique_name, unique_subject};

use super::*;

const EVENTS: u64 = 60_000;

async fn server() -> (NatsServer, Connection) {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let connection = integration::connection(&nats.url()).await;
    (nats, connection)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_stored_once_and_in_order() {
    for doubt in [Doubt::Unknown, Doubt::WithIds] {
        let (_nats, connection) = server().await;
        fast_stream(&connection, |spec| spec).await;
        let (bus, failed) = open(&connection, doubt, |builder| builder).await;
        let publishing = publish(&bus, EVENTS);
        settled(&bus, EVENTS).await;
        let stats = complete(&bus, publishing, EVENTS, doubt, failed).await;
        assert_eq!((stats.acked, stats.retried), (EVENTS, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_events_are_acked_without_a_flush() {
    let (_nats, connection) = server().await;
    fast_stream(&connection, |spec| spec).await;
    let (bus, failed) = open(&connection, Doubt::Unknown, |builder| builder).await;
    // Fewer than the stream tells of.
    let publishing = publish(&bus, 7);
    settled(&bus, 7).await;
    assert_eq!(bus.stats().batches, 1);
    complete(&bus, publishing, 7, Doubt::Unknown, failed).await;
}

/// Fewer events than would keep a batch open, and more of them than its flow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_producers_and_two_buses_share_a_stream() {
    let (_nats, connection) = server().await;
    fast_stream(&connection, |spec| spec).await;
    let (one, _failed) = open(&connection, Doubt::Unknown, |builder| builder).await;
    let (other, _failed) = open(&connection, Doubt::Unknown, |builder| builder).await;
    let publishing: Vec<_> = [&one, &one, &other, &other].map(|bus| publish(bus, 10_000)).into();
    for producer in publishing {
        within(LONG, producer).await.expect("no panic");
    }
    for bus in [&one, &other] {
        within(LIMIT, bus.flush(LIMIT)).await.expect("all acked");
        assert_eq!(bus.stats().acked, 20_000);
    }
    assert_eq!(numbers(&connection, "S").await.len(), 40_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_larger_than_the_window_of_bytes_go_one_by_one() {
    let (_nats, connection) = server().await;
    fast_stream(&connection, |spec| spec).await;
    let (bus, _failed) = open(&connection, Doubt::Unknown, |builder| builder.window_bytes(1000)).await;
    for _ in 0..20 {
        within(LIMIT, bus.enqueue(Event::new("s.x", vec![b'x'; 100_000])))
            .await
            .expect("accepted");
        assert_eq!(bus.stats().pending, 1);
    }
    let full = bus.try_enqueue(Event::new("s.x", "x"));
    assert!(matches!(full, Ok(()) | Err(TryEnqueueError::Full(_))));
    within(LIMIT, bus.close(LIMIT)).await.expect("all acked");
    assert!(bus.stats().acked >= 20);
    let late = within(LIMIT, bus.enqueue(Event::new("s.x", "late"))).await;
    assert_eq!(late.expect_err("closed").kind(), PublishErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_does_not_allow_it_is_an_error_that_says_how_to_mend_it() {
    let connection = integration::connection(shared_url()).await;
    let (name, subject) = (unique_name("PLAIN"), unique_subject("plain"));
    let spec = StreamSpec::new(&name, [format!("{subject}.>")]);
    stream(&connection, spec.clone()).await;
    let error = within(LIMIT, FastBus::open(connection.clone(), &name)).await;
    let Err(OpenError::NotAllowed {
        mode, stream, remedy, ..
    }) = error
    else {
        panic!("{error:?}")
    };
    assert_eq!((mode, &stream), (BatchMode::Fast, &name));
    assert!(remedy.contains("--allow-batched"), "{remedy}");
    // What the command does.
    let topology = Topology::new(connection.clone());
    let allowed = spec.allow_batched(true);
    let update = topology.update(&allowed, Changes::Harmless);
    within(LIMIT, update).await.expect("updated");
    within(LIMIT, FastBus::open(connection.clone(), &name))
        .await
        .expect("open");
    let error = within(LIMIT, FastBus::open(connection, unique_name("NONE"))).await;
    assert!(matches!(error, Err(OpenError::Stream(error)) if error.kind() == TopologyErrorKind::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_no_batch_can_bring_are_refused_before_they_are_sent() {
    let (_nats, connection) = server().await;
    fast_stream(&connection, |spec| spec).await;
    let (bus, mut failed) = open(&connection, Doubt::Unknown, |builder| builder).await;
    let elsewhere = Event::new("t.x", "");
    let error = within(LIMIT, bus.enqueue(elsewhere)).await.expect_err("elsewhere");
    assert_eq!(error.flaw(), Some(&Flaw::Elsewhere("S".to_owned())));
    let last = Event::new("s.x", "").expect_last_message_id("a");
    let error = within(LIMIT, bus.enqueue(last)).await.expect_err("not in a batch");
    assert_eq!(error.kind(), PublishErrorKind::Invalid);
    let large = Event::new("s.x", vec![0; 2 << 20]);
    let error = within(LIMIT, bus.enqueue(large)).await.expect_err("too large");
    assert_eq!(error.kind(), PublishErrorKind::TooLarge);
    assert_eq!(bus.stats().accepted, 0);
    assert!(failed.try_recv().is_err(), "what was not accepted has not failed");
}
