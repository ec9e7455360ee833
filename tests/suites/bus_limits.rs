//! What a stream or nats-server refuses for good: typed errors at once, and every event accounted for.

use std::time::{Duration, Instant};

use integration::bus::{numbers, stream};
use integration::{LIMIT, connection};
use natstream::eventbus::Dedup;
use natstream::eventbus::topology::{Discard, StreamSpec, Topology};
use natstream::{Bus, ConnectConfig, Connection, Credentials, Event, PublishErrorKind};
use testkit::{NatsServer, settles_where, shared_url, unique_name, unique_subject, within};

/// Sooner than anything is tried again for long.
const AT_ONCE: Duration = Duration::from_secs(2);

async fn declared(spec: impl FnOnce(StreamSpec) -> StreamSpec) -> (Bus, String, String) {
    let connection = connection(shared_url()).await;
    let (name, subject) = (unique_name("LIMITS"), unique_subject("limits"));
    stream(&connection, spec(StreamSpec::new(&name, [subject.clone()]))).await;
    let bus = within(LIMIT, Bus::open(connection)).await.expect("open");
    (bus, name, subject)
}

async fn refused(bus: &Bus, event: Event) -> PublishErrorKind {
    let began = Instant::now();
    let error = within(LIMIT, bus.publish(event)).await.expect_err("refused");
    assert!(began.elapsed() < AT_ONCE, "at once");
    assert!(!error.may_be_stored());
    error.kind()
}

#[tokio::test]
async fn a_full_stream_says_so() {
    for bytes in [false, true] {
        let (bus, name, subject) = declared(|spec| {
            let spec = spec.discard(Discard::New);
            if bytes {
                spec.max_bytes(1000)
            } else {
                spec.max_messages(10)
            }
        })
        .await;
        let events = (0..100).map(|n| Event::new(subject.clone(), n.to_string()));
        let report = within(LIMIT, bus.publish_batch(events)).await;
        let stored = numbers(bus.connection(), &name).await;
        assert_eq!(report.acked(), stored.len());
        assert!(!stored.is_empty() && stored.len() < 100);
        assert!(
            report
                .failed()
                .all(|(_, error)| error.kind() == PublishErrorKind::StreamFull)
        );
        let stats = bus.stats();
        assert_eq!((stats.accepted, stats.failed + stats.acked), (100, 100));
    }
}

#[tokio::test]
async fn an_event_that_is_too_large_says_so() {
    let (bus, name, subject) = declared(|spec| spec.max_message_size(100)).await;
    let large = |size: usize| Event::new(subject.clone(), vec![b'1'; size]);
    assert_eq!(refused(&bus, large(200)).await, PublishErrorKind::TooLarge);
    let max = bus.connection().max_payload();
    assert_eq!(refused(&bus, large(max)).await, PublishErrorKind::TooLarge);
    assert_eq!(
        bus.stats().accepted,
        1,
        "what nats-server would close the connection for is not accepted"
    );
    within(LIMIT, bus.publish(large(10)))
        .await
        .expect("the connection is fine");
    assert_eq!(numbers(bus.connection(), &name).await.len(), 1);
}

#[tokio::test]
async fn a_subject_without_a_stream_says_so_by_the_deadline() {
    let (bus, _, _) = declared(|spec| spec).await;
    let nowhere = Event::new(unique_subject("nowhere"), "x").deadline(Duration::from_millis(500));
    let began = Instant::now();
    let error = within(LIMIT, bus.publish(nowhere)).await.expect_err("nobody listens");
    assert_eq!(error.kind(), PublishErrorKind::NoResponders);
    assert!(began.elapsed() >= Duration::from_millis(500));
    assert!(error.attempts() > 2 && !error.may_be_stored());
}

#[tokio::test]
async fn wrong_expectations_say_so() {
    let (bus, name, subject) = declared(|spec| spec).await;
    let event = || Event::new(subject.clone(), "1");
    within(LIMIT, bus.publish(event().message_id("first").expect_last_sequence(0)))
        .await
        .expect("acked");
    let wrong = PublishErrorKind::WrongLast;
    assert_eq!(refused(&bus, event().expect_last_sequence(7)).await, wrong);
    assert_eq!(refused(&bus, event().expect_last_subject_sequence(7)).await, wrong);
    assert_eq!(refused(&bus, event().expect_last_message_id("second")).await, wrong);
    assert_eq!(
        refused(&bus, event().expect_stream("OTHER")).await,
        PublishErrorKind::Rejected
    );
    let right = event()
        .expect_last_message_id("first")
        .expect_stream(&name)
        .expect_last_sequence(1);
    within(LIMIT, bus.publish(right)).await.expect("acked");
    // nats-server looks at expectations before ids: a copy finds that its own original is in the way.
    let copy = event().message_id("first").expect_last_sequence(0);
    assert_eq!(refused(&bus, copy).await, wrong);
}

#[tokio::test]
async fn a_stream_that_is_deleted_meanwhile_loses_no_event_without_a_word() {
    let (bus, name, subject) = declared(|spec| spec).await;
    let topology = Topology::new(bus.connection().clone());
    let publishing = tokio::spawn({
        let bus = bus.clone();
        async move {
            let events = (0..3000).map(|n| Event::new(subject.clone(), n.to_string()).deadline(Duration::from_secs(1)));
            bus.publish_batch(events).await
        }
    });
    settles_where(LIMIT, || std::future::ready(bus.stats().acked), |acked| *acked > 100).await;
    within(LIMIT, topology.delete(&name)).await.expect("deleted");
    let report = within(LIMIT, publishing).await.expect("no panic");
    assert!(report.failed().next().is_some() && report.acked() > 100);
    for (_, error) in report.failed() {
        // Some were taken by the stream and never answered.
        let kind = error.kind();
        assert!(
            matches!(kind, PublishErrorKind::NoResponders | PublishErrorKind::Timeout),
            "{error}"
        );
    }
    let stats = bus.stats();
    assert_eq!(
        (stats.accepted, stats.acked + stats.failed, stats.pending),
        (3000, 3000, 0)
    );
}

/// A connection as `limited`, who may do only this.
async fn limited(nats: &NatsServer) -> Connection {
    let config = ConnectConfig::new(nats.url()).credentials(Credentials::user_password("limited", "p"));
    within(LIMIT, Connection::connect(config)).await.expect("connected")
}

async fn server(permissions: &str) -> NatsServer {
    let config = format!(
        "authorization {{ users = [{{user: all, password: p}}, {{user: limited, password: p, permissions: {permissions}}}] }}"
    );
    NatsServer::builder().jetstream(true).config(config).start().await
}

#[tokio::test]
async fn a_subject_that_is_not_permitted_says_so_at_once() {
    let nats = server(r#"{publish: {deny: "secret.>"}}"#).await;
    let connection = limited(&nats).await;
    stream(&connection, StreamSpec::new("S", ["secret.>", "open.>"])).await;
    for dedup in [Dedup::Id, Dedup::Off] {
        let bus = Bus::builder(connection.clone()).dedup(dedup);
        let bus = within(LIMIT, bus.open()).await.expect("open");
        let open = within(LIMIT, bus.enqueue_pending(Event::new("open.a", "1")))
            .await
            .expect("accepted");
        // Whether it may be stored is left open once the bus was acked something: the permission may be new.
        let error = within(AT_ONCE, bus.publish(Event::new("secret.a", "2"))).await;
        assert_eq!(error.map_err(|error| error.kind()), Err(PublishErrorKind::NotPermitted));
        within(LIMIT, open).await.expect("acked");
    }
}

#[tokio::test]
async fn an_inbox_that_is_not_permitted_says_so() {
    let nats = server(r#"{subscribe: {deny: "_INBOX.>"}}"#).await;
    let bus = within(LIMIT, Bus::open(limited(&nats).await)).await.expect("open");
    let error = within(LIMIT, bus.publish(Event::new("a", "1")))
        .await
        .expect_err("no ack can come");
    assert_eq!(error.kind(), PublishErrorKind::NotPermitted);
    let error = within(LIMIT, bus.enqueue(Event::new("a", "1")))
        .await
        .expect_err("known by now");
    assert_eq!(
        (error.kind(), error.may_be_stored()),
        (PublishErrorKind::NotPermitted, false)
    );
}
