//! What is stored, and what is refused.

use futures_util::future::join_all;
use natstream::eventbus::topology::{Discard, Topology, TopologyErrorKind};
use natstream::eventbus::{BatchMode, Flaw, OpenError};
use natstream::{ConnectConfig, Credentials};
use testkit::{shared_url, unique_name, unique_subject};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_stored_as_a_whole_with_one_ack() {
    let (_nats, connection) = server("").await;
    atomic_stream(&connection, |spec| spec).await;
    let bus = open(&connection, |builder| builder).await;
    let mut last = 0;
    for (name, events) in [("one", 1), ("three", 3), ("most", 1000)] {
        let ack = within(LIMIT, bus.commit(batch(name, events))).await.expect("stored");
        assert_eq!((&*ack.stream, ack.count), ("S", events as u64));
        assert_eq!(ack.first_sequence(), Some(last + 1), "{name}");
        last += events as u64;
        assert_eq!(ack.last_sequence, Some(last), "{name}");
    }
    let all = [expected("one", 1), expected("three", 3), expected("most", 1000)].concat();
    assert_eq!(payloads(&connection).await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_too_large_is_refused_here_or_there() {
    let (_nats, connection) = server("limits { batch { max_msgs: 10 } }").await;
    atomic_stream(&connection, |spec| spec).await;
    let bus = open(&connection, |builder| builder).await;
    for (events, attempts) in [(1001, 0), (11, 1)] {
        let error = within(LIMIT, bus.commit(batch("b", events)))
            .await
            .expect_err("too many");
        assert_eq!(
            (error.kind(), error.may_be_stored()),
            (AtomicErrorKind::TooManyEvents, false)
        );
        assert_eq!((error.attempts(), error.into_batch().len()), (attempts, events));
    }
    let error = within(LIMIT, bus.commit(AtomicBatch::new())).await.expect_err("empty");
    assert_eq!(error.kind(), AtomicErrorKind::Empty);
    within(LIMIT, bus.commit(batch("b", 10))).await.expect("stored");
    assert_eq!(payloads(&connection).await, expected("b", 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expectation_that_is_not_met_refuses_all() {
    let (_nats, connection) = server("").await;
    atomic_stream(&connection, |spec| spec).await;
    let bus = open(&connection, |builder| builder).await;
    let account = |n: u8, last: u64| Event::new(format!("s.{n}"), format!("{n}")).expect_last_subject_sequence(last);
    let transfer: AtomicBatch = [account(7, 0), account(8, 0)].into_iter().collect();
    within(LIMIT, bus.commit(transfer)).await.expect("stored");
    // The first is as expected, the second is not.
    let transfer: AtomicBatch = [account(7, 1), account(8, 1)].into_iter().collect();
    let error = within(LIMIT, bus.commit(transfer)).await.expect_err("refused");
    assert_eq!(
        (error.kind(), error.may_be_stored()),
        (AtomicErrorKind::WrongLast, false)
    );
    let transfer: AtomicBatch = [account(7, 1), account(8, 2)].into_iter().collect();
    within(LIMIT, bus.commit(transfer)).await.expect("stored");
    let stale: AtomicBatch = [Event::new("s.9", "9").expect_last_sequence(3)].into_iter().collect();
    let error = within(LIMIT, bus.commit(stale)).await.expect_err("refused");
    assert_eq!(error.kind(), AtomicErrorKind::WrongLast);
    assert_eq!(payloads(&connection).await, ["7", "8", "7", "8"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_id_that_is_not_new_refuses_all() {
    let (_nats, connection) = server("").await;
    atomic_stream(&connection, |spec| spec).await;
    let bus = open(&connection, |builder| builder).await;
    let event = |id: &str| Event::new("s.x", id.to_owned()).message_id(id);
    let first: AtomicBatch = [event("a"), event("b")].into_iter().collect();
    within(LIMIT, bus.commit(first)).await.expect("stored");
    for (batch, place, attempts) in [
        ([event("c"), event("d"), event("a")], None, 1),
        ([event("c"), event("d"), event("c")], Some(2), 0),
    ] {
        let error = within(LIMIT, bus.commit(batch.into_iter().collect())).await;
        let error = error.expect_err("a duplicate");
        assert_eq!(
            (error.kind(), error.may_be_stored()),
            (AtomicErrorKind::DuplicateId, false)
        );
        assert_eq!((error.place(), error.attempts()), (place, attempts));
    }
    assert_eq!(payloads(&connection).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_does_not_allow_it_is_an_error_that_says_how_to_mend_it() {
    let connection = integration::connection(shared_url()).await;
    let (name, subject) = (unique_name("PLAIN"), unique_subject("plain"));
    stream(&connection, StreamSpec::new(&name, [format!("{subject}.>")])).await;
    let error = within(LIMIT, AtomicBus::open(connection.clone(), &name)).await;
    let Err(OpenError::NotAllowed { mode, remedy, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(mode, BatchMode::Atomic);
    assert!(remedy.contains("--allow-atomic"), "{remedy}");
    let error = within(LIMIT, AtomicBus::open(connection, unique_name("NONE"))).await;
    assert!(matches!(error, Err(OpenError::Stream(error)) if error.kind() == TopologyErrorKind::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_no_batch_can_bring_refuses_all_before_anything_is_sent() {
    let (_nats, connection) = server("").await;
    atomic_stream(&connection, |spec| spec).await;
    let bus = open(&connection, |builder| builder).await;
    let with = |event: Event| -> AtomicBatch { [Event::new("s.x", "fine"), event].into_iter().collect() };
    let elsewhere = within(LIMIT, bus.commit(with(Event::new("t.x", ""))))
        .await
        .expect_err("elsewhere");
    assert_eq!(elsewhere.flaw(), Some(&Flaw::Elsewhere("S".to_owned())));
    let last = Event::new("s.x", "").expect_last_message_id("a");
    let last = within(LIMIT, bus.commit(with(last))).await.expect_err("not in a batch");
    for error in [elsewhere, last] {
        assert_eq!((error.kind(), error.place()), (AtomicErrorKind::Invalid, Some(1)));
        assert_eq!(error.attempts(), 0);
    }
    let large = Event::new("s.x", vec![0; 2 << 20]);
    let error = within(LIMIT, bus.commit(with(large))).await.expect_err("too large");
    assert_eq!((error.kind(), error.place()), (AtomicErrorKind::TooLarge, Some(1)));
}

/// nats-server says nothing of a message without a reply: the commit misses it, and the next attempt asks for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_in_the_middle_that_the_stream_refuses_is_the_reason() {
    let (_nats, connection) = server("").await;
    atomic_stream(&connection, |spec| spec.max_message_size(1000)).await;
    let bus = open(&connection, |builder| builder).await;
    let sizes = [10, 2000, 10];
    let batch = sizes
        .map(|size| Event::new("s.x", vec![b'x'; size]))
        .into_iter()
        .collect();
    let error = within(LIMIT, bus.commit(batch)).await.expect_err("refused");
    assert_eq!(
        (error.kind(), error.may_be_stored()),
        (AtomicErrorKind::TooLarge, false)
    );
    assert!(payloads(&connection).await.is_empty());
}

/// A stream that has taken over the subjects meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_names_the_stream_that_has_the_batch() {
    let (_nats, connection) = server("").await;
    atomic_stream(&connection, |spec| spec).await;
    let bus = open(&connection, |builder| builder).await;
    within(LIMIT, Topology::new(connection.clone()).delete("S"))
        .await
        .expect("deleted");
    stream(&connection, StreamSpec::new("T", ["s.>"]).allow_atomic(true)).await;
    let ack = within(LIMIT, bus.commit(batch("b", 2))).await.expect("stored");
    assert_eq!((&*ack.stream, ack.last_sequence), ("T", Some(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_takes_nothing_of_a_batch() {
    let (_nats, connection) = server("").await;
    atomic_stream(&connection, |spec| spec.max_messages(5).discard(Discard::New)).await;
    let bus = open(&connection, |builder| builder).await;
    within(LIMIT, bus.commit(batch("first", 3))).await.expect("stored");
    let error = within(LIMIT, bus.commit(batch("second", 3))).await.expect_err("full");
    assert_eq!(
        (error.kind(), error.may_be_stored()),
        (AtomicErrorKind::StreamFull, false)
    );
    assert_eq!(payloads(&connection).await, expected("first", 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_permitted_is_refused_as_a_whole() {
    let users = r#"authorization { users = [
        {user: all, password: p},
        {user: limited, password: p, permissions: {publish: {deny: "s.secret"}}}] }"#;
    let nats = NatsServer::builder().jetstream(true).config(users).start().await;
    let config = |user: &str| ConnectConfig::new(nats.url()).credentials(Credentials::user_password(user, "p"));
    let limited = within(LIMIT, Connection::connect(config("limited")))
        .await
        .expect("connected");
    atomic_stream(&limited, |spec| spec).await;
    let bus = open(&limited, |builder| builder).await;
    let events = ["s.x", "s.secret", "s.y"].map(|subject| Event::new(subject, "x"));
    let error = within(LIMIT, bus.commit(events.into_iter().collect()))
        .await
        .expect_err("denied");
    // Either word may be heard first: that of the permission, or that of the stream, which misses a message, and goes again.
    assert_eq!(
        (error.kind(), error.may_be_stored()),
        (AtomicErrorKind::NotPermitted, false)
    );
    let all = within(LIMIT, Connection::connect(config("all")))
        .await
        .expect("connected");
    assert!(payloads(&all).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_batches_than_the_stream_takes_wait_for_each_other() {
    let (_nats, connection) = server("limits { batch { max_inflight_per_stream: 1 } }").await;
    atomic_stream(&connection, |spec| spec).await;
    let bus = open(&connection, |builder| builder.deadline(LONG)).await;
    let names: Vec<String> = (0..12).map(|n| format!("b{n}")).collect();
    let commits = names.iter().map(|name| bus.commit(batch(name, 20)));
    for ack in within(LONG, join_all(commits)).await {
        ack.expect("stored");
    }
    let stored = payloads(&connection).await;
    assert_eq!(stored.len(), 240);
    for name in names {
        let own: Vec<String> = expected(&name, 20);
        assert!(
            stored.windows(20).any(|window| window == own),
            "`{name}` is in one piece"
        );
    }
}
