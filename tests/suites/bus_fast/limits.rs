//! Streams that refuse, forget, or take less than is offered.

use async_nats::jetstream;
use natstream::eventbus::topology::{Changes, Discard, Topology};
use natstream::{ConnectConfig, Credentials};
use testkit::{NatsServer, settles_where};

use super::*;

async fn server(jetstream: &str) -> (NatsServer, Connection) {
    let config = format!("jetstream {{ {jetstream} }}");
    let nats = NatsServer::builder().jetstream(true).config(config).start().await;
    let connection = integration::connection(&nats.url()).await;
    (nats, connection)
}

/// The stream's queue is full at times: 429 for some events, which the others come before. Each is a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gaps_are_filled_in_order_and_nothing_is_stored_twice() {
    for doubt in [Doubt::Unknown, Doubt::WithIds] {
        let (_nats, connection) = server("max_buffered_msgs: 20").await;
        fast_stream(&connection, |spec| spec).await;
        // Each gap is followed by a pause.
        let pause = Duration::from_millis(2);
        let patient = |builder: FastBusBuilder| builder.deadline(LONG).retry_pause(pause, pause);
        let (bus, failed) = open(&connection, doubt, patient).await;
        let publishing = publish(&bus, 1500);
        let stats = complete(&bus, publishing, 1500, doubt, failed).await;
        assert_eq!(stats.acked, 1500);
        assert!(stats.retried > 0 && stats.batches > 1, "{stats:?}");
    }
}

/// Whatever keeps producers waiting, the batch ends when it must for them to go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_producers_of_a_small_window_go_on() {
    let (_nats, connection) = server("").await;
    fast_stream(&connection, |spec| spec).await;
    for (doubt, window, bytes) in [
        (Doubt::Unknown, 1, usize::MAX),
        (Doubt::WithIds, 2, usize::MAX),
        (Doubt::AtLeastOnce, 7, usize::MAX),
        (Doubt::Unknown, 4000, 1),
        (Doubt::WithIds, 4000, 100),
        (Doubt::Unknown, 40, 100),
    ] {
        let small = |builder: FastBusBuilder| builder.window(window).window_bytes(bytes);
        let (bus, _failed) = open(&connection, doubt, small).await;
        let producers: Vec<_> = (0..4).map(|_| publish(&bus, 200)).collect();
        for producer in producers {
            within(LONG, producer).await.expect("no panic");
        }
        within(LONG, bus.flush(LONG)).await.expect("all stored");
        let stats = bus.stats();
        assert_eq!((stats.accepted, stats.acked), (800, 800), "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_hands_back_what_it_does_not_take() {
    let (_nats, connection) = server("").await;
    fast_stream(&connection, |spec| spec.max_messages(100).discard(Discard::New)).await;
    let (bus, mut failed) = open(&connection, Doubt::Unknown, |builder| builder).await;
    within(LIMIT, publish(&bus, 130)).await.expect("no panic");
    let undelivered = within(LONG, bus.flush(LONG)).await.expect_err("some have failed");
    assert_eq!((undelivered.failed, undelivered.pending), (30, 0));
    for n in 100..130_u64 {
        let error = failed.try_recv().expect("told before the flush returns");
        assert_eq!(
            (error.kind(), error.may_be_stored()),
            (PublishErrorKind::StreamFull, false)
        );
        assert_eq!(error.event().payload(), &n.to_string());
        assert!(error.refusal().is_some());
    }
    assert_eq!(numbers(&connection, "S").await, (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expectation_that_is_not_met_fails_one_event() {
    let (_nats, connection) = server("").await;
    fast_stream(&connection, |spec| spec).await;
    let (bus, mut failed) = open(&connection, Doubt::Unknown, |builder| builder).await;
    for n in 0..30_u64 {
        let event = Event::new("s.x", n.to_string());
        let event = if n == 17 { event.expect_last_sequence(3) } else { event };
        within(LIMIT, bus.enqueue(event)).await.expect("accepted");
    }
    let _ = within(LIMIT, bus.flush(LIMIT)).await;
    let error = failed.try_recv().expect("one has failed");
    assert_eq!(
        (error.kind(), error.may_be_stored()),
        (PublishErrorKind::WrongLast, false)
    );
    let expected: Vec<u64> = (0..30).filter(|n| *n != 17).collect();
    assert_eq!(numbers(&connection, "S").await, expected);
    assert_eq!((bus.stats().acked, bus.stats().failed), (29, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_ones_own_are_known_and_acked() {
    let (_nats, connection) = server("").await;
    fast_stream(&connection, |spec| spec).await;
    let (bus, _failed) = open(&connection, Doubt::Unknown, |builder| builder).await;
    for _ in 0..2 {
        for n in 0..1200_u64 {
            let event = Event::new("s.x", n.to_string()).message_id(format!("id-{n}"));
            within(LIMIT, bus.enqueue(event)).await.expect("accepted");
        }
        within(LIMIT, bus.flush(LIMIT)).await.expect("acked");
    }
    assert_eq!(bus.stats().acked, 2400);
    assert_eq!(numbers(&connection, "S").await, (0..1200).collect::<Vec<_>>());
}

/// The stream takes one batch at a time: the second bus waits until the first one's is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_batches_at_a_time_wait_for_each_other() {
    let (_nats, connection) = server("limits { batch { max_inflight_per_stream: 1 } }").await;
    fast_stream(&connection, |spec| spec).await;
    let mut buses = Vec::new();
    for _ in 0..3 {
        let (bus, failed) = open(&connection, Doubt::Unknown, |builder| builder.deadline(LONG)).await;
        let publishing = publish(&bus, 3000);
        buses.push((bus, failed, publishing));
    }
    for (bus, mut failed, publishing) in buses {
        within(LONG, publishing).await.expect("no panic");
        within(LONG, bus.flush(LONG)).await.expect("all acked");
        assert!(failed.try_recv().is_err());
    }
    assert_eq!(numbers(&connection, "S").await.len(), 9000);
}

/// The stream stops to allow it while events are under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_takes_no_more_batches_hands_events_back() {
    let (_nats, connection) = server("").await;
    fast_stream(&connection, |spec| spec).await;
    let (bus, mut failed) = open(&connection, Doubt::WithIds, |builder| builder).await;
    within(LIMIT, publish(&bus, 100)).await.expect("no panic");
    within(LIMIT, bus.flush(LIMIT)).await.expect("acked");
    let spec = StreamSpec::new("S", ["s.>"]).allow_batched(false);
    let topology = Topology::new(connection.clone());
    within(LIMIT, topology.update(&spec, Changes::Any))
        .await
        .expect("updated");
    within(LIMIT, bus.enqueue(Event::new("s.x", "late")))
        .await
        .expect("accepted");
    let _ = within(LIMIT, bus.flush(LIMIT)).await;
    let error = failed.try_recv().expect("it has failed");
    assert_eq!(
        (error.kind(), error.may_be_stored()),
        (PublishErrorKind::Rejected, false)
    );
    assert_eq!(error.refusal().expect("its words").err_code, 10205);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_permitted_fails_and_the_rest_goes_on() {
    let users = r#"authorization { users = [
        {user: all, password: p},
        {user: limited, password: p, permissions: {publish: {deny: "s.secret"}}}] }"#;
    let nats = NatsServer::builder().jetstream(true).config(users).start().await;
    let config = |user: &str| ConnectConfig::new(nats.url()).credentials(Credentials::user_password(user, "p"));
    let limited = within(LIMIT, Connection::connect(config("limited")))
        .await
        .expect("connected");
    fast_stream(&limited, |spec| spec).await;
    let (bus, mut failed) = open(&limited, Doubt::Unknown, |builder| builder).await;
    for n in 0..50_u64 {
        let subject = if n % 10 == 9 { "s.secret" } else { "s.x" };
        within(LIMIT, bus.enqueue(Event::new(subject, n.to_string())))
            .await
            .expect("accepted");
    }
    let _ = within(LONG, bus.flush(LONG)).await;
    let mut denied = Vec::new();
    while let Ok(error) = failed.try_recv() {
        assert_eq!(error.kind(), PublishErrorKind::NotPermitted);
        denied.push(error);
    }
    let all = within(LIMIT, Connection::connect(config("all")))
        .await
        .expect("connected");
    let expected: Vec<u64> = (0..50).filter(|n| n % 10 != 9).collect();
    assert_eq!(numbers(&all, "S").await, expected);
    assert_eq!((denied.len(), bus.stats().acked), (5, 45));
}

/// Others wait while `pending` does not move: nothing is polled for here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_listening_fails_by_the_deadline() {
    let (_nats, connection) = server("").await;
    fast_stream(&connection, |spec| spec).await;
    let (bus, mut failed) = open(&connection, Doubt::Unknown, |builder| {
        builder.deadline(Duration::from_secs(2))
    })
    .await;
    let context = jetstream::new(connection.nats().clone());
    within(LIMIT, context.delete_stream("S")).await.expect("deleted");
    within(LIMIT, bus.enqueue(Event::new("s.x", "1")))
        .await
        .expect("accepted");
    settles_where(
        LONG,
        || std::future::ready(bus.stats()),
        |stats: &FastStats| stats.failed == 1,
    )
    .await;
    let error = within(LIMIT, failed.recv()).await.expect("told");
    assert_eq!(
        (error.kind(), error.may_be_stored()),
        (PublishErrorKind::NoResponders, false)
    );
}
