//! Publishing to a stream that is well: modes, ids, order, windows, and what streams are declared as.

use std::sync::Arc;
use std::time::Duration;

use integration::bus::{messages, numbers, stream};
use integration::{LIMIT, connection};
use natstream::eventbus::topology::{Changes, Discard, StreamSpec, Survives, Topology, TopologyErrorKind};
use natstream::eventbus::{Dedup, OpenError, Ordering, TryEnqueueError};
use natstream::{Bus, Event, PublishErrorKind};
use testkit::{Proxy, alive_tasks, settles_where, shared_url, unique_name, unique_subject, within};
use tokio::sync::mpsc;

/// A bus on a connection of its own, and a stream for it: the bus, the stream's name and its subject.
async fn bus() -> (Bus, String, String) {
    let connection = connection(shared_url()).await;
    let (name, subject) = declared(&connection).await;
    let bus = within(LIMIT, Bus::open(connection)).await.expect("open");
    (bus, name, subject)
}

async fn declared(connection: &natstream::Connection) -> (String, String) {
    let (name, subject) = (unique_name("BUS"), unique_subject("bus"));
    stream(connection, StreamSpec::new(&name, [format!("{subject}.>")])).await;
    (name, format!("{subject}.x"))
}

fn number(subject: &str, number: u64) -> Event {
    Event::new(subject.to_owned(), number.to_string())
}

#[tokio::test]
async fn publish_returns_when_the_stream_has_it() {
    let (bus, name, subject) = bus().await;
    for sequence in 1..=3 {
        let ack = within(LIMIT, bus.publish(number(&subject, sequence)))
            .await
            .expect("acked");
        assert_eq!(
            (&*ack.stream, ack.sequence, ack.is_duplicate),
            (&*name, sequence, false)
        );
    }
    assert_eq!(numbers(bus.connection(), &name).await, [1, 2, 3]);
}

#[tokio::test]
async fn every_event_carries_an_id_of_its_own_unless_that_is_off() {
    let (bus, name, subject) = bus().await;
    within(LIMIT, bus.publish(number(&subject, 0))).await.expect("acked");
    within(
        LIMIT,
        bus.publish(number(&subject, 1).message_id("mine").header("Tenant", "a")),
    )
    .await
    .expect("acked");
    let again = within(LIMIT, bus.publish(number(&subject, 2).message_id("mine")))
        .await
        .expect("acked");
    assert_eq!((again.sequence, again.is_duplicate), (2, true));
    let plain = Bus::builder(bus.connection().clone()).dedup(Dedup::Off).open();
    let plain = within(LIMIT, plain).await.expect("open");
    within(LIMIT, plain.publish(number(&subject, 3))).await.expect("acked");
    let stored = messages(bus.connection(), &name).await;
    let id = |index: usize| stored[index].headers.get("Nats-Msg-Id").map(String::as_str);
    assert!(
        id(0).is_some_and(|id| id.len() > 22 && id.ends_with(".0")),
        "{stored:?}"
    );
    assert_eq!((id(1), id(2)), (Some("mine"), None));
    assert_eq!(stored[1].headers["Tenant"], "a");
    assert!(stored[2].headers.is_empty());
    assert_eq!(bus.stats().duplicates, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_keeps_order_and_flush_waits_for_all() {
    let (bus, name, subject) = bus().await;
    let tasks = alive_tasks();
    for n in 0..20_000 {
        within(LIMIT, bus.enqueue(number(&subject, n))).await.expect("accepted");
        let stats = bus.stats();
        assert_eq!(stats.accepted, stats.acked + stats.failed + stats.pending as u64);
        assert!(stats.pending <= 1000);
    }
    assert!(alive_tasks() <= tasks + 2, "no task for an event");
    within(LIMIT, bus.flush(LIMIT)).await.expect("all acked");
    let stats = bus.stats();
    assert_eq!((stats.accepted, stats.acked, stats.pending), (20_000, 20_000, 0));
    assert!(numbers(bus.connection(), &name).await.into_iter().eq(0..20_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_producers_share_a_small_window() {
    let connection = connection(shared_url()).await;
    let (name, subject) = declared(&connection).await;
    let bus = Bus::builder(connection).window(3).window_bytes(200).open();
    let bus = within(LIMIT, bus).await.expect("open");
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..8_u64 {
        let (bus, subject) = (bus.clone(), subject.clone());
        producers.spawn(async move {
            for n in 0..200 {
                bus.enqueue(number(&subject, producer * 1000 + n))
                    .await
                    .expect("accepted");
            }
        });
    }
    within(LIMIT, producers.join_all()).await;
    within(LIMIT, bus.flush(LIMIT)).await.expect("all acked");
    let stored = numbers(bus.connection(), &name).await;
    assert_eq!(stored.len(), 1600);
    for producer in 0..8 {
        let own: Vec<_> = stored.iter().filter(|n| **n / 1000 == producer).collect();
        assert!(own.is_sorted() && own.len() == 200, "each producer's order is kept");
    }
}

#[tokio::test]
async fn a_batch_reports_every_event() {
    let (bus, name, subject) = bus().await;
    let nowhere = unique_subject("nowhere");
    let events = (0..1500).map(|n| match n {
        700 => number(&nowhere, n).deadline(Duration::from_millis(200)),
        800 => Event::new("not a subject", "x"),
        900 => number(&subject, n).message_id("same"),
        901 => number(&subject, n).message_id("same"),
        n => number(&subject, n),
    });
    let report = within(LIMIT, bus.publish_batch(events)).await;
    let failed: Vec<_> = report.failed().map(|(index, error)| (index, error.kind())).collect();
    assert_eq!(
        failed,
        [(700, PublishErrorKind::NoResponders), (800, PublishErrorKind::Invalid)]
    );
    assert_eq!((report.acked(), report.duplicates()), (1498, 1));
    assert!(!report.is_complete());
    assert_eq!(report.outcomes().len(), 1500);
    let stats = bus.stats();
    assert_eq!((stats.accepted, stats.acked, stats.failed), (1499, 1498, 1));
    assert_eq!(numbers(bus.connection(), &name).await.len(), 1497);
}

#[tokio::test]
async fn a_full_window_hands_the_event_back_and_makes_producers_wait() {
    let proxy = Proxy::start(shared_url()).await;
    let connection = connection(&proxy.url()).await;
    let (_, subject) = declared(&connection).await;
    let bus = within(LIMIT, Bus::builder(connection).window(2).open())
        .await
        .expect("open");
    proxy.blackhole(testkit::Flow::ToServer, true);
    bus.try_enqueue(number(&subject, 0)).expect("room");
    let pending = within(LIMIT, bus.enqueue_pending(number(&subject, 1)))
        .await
        .expect("room");
    let Err(TryEnqueueError::Full(event)) = bus.try_enqueue(number(&subject, 2)) else {
        panic!("there is no room")
    };
    assert_eq!(event.payload(), "2");
    // One that gives up waiting leaves no trace.
    let waits = tokio::time::timeout(Duration::from_millis(20), bus.enqueue(number(&subject, 3)));
    assert!(waits.await.is_err());
    let waiting = tokio::spawn({
        let (bus, subject) = (bus.clone(), subject.clone());
        async move { bus.enqueue(number(&subject, 4)).await }
    });
    settles_where(
        LIMIT,
        || std::future::ready(bus.stats().waiting),
        |waiting| *waiting == 1,
    )
    .await;
    proxy.blackhole(testkit::Flow::ToServer, false);
    proxy.cut();
    within(LIMIT, waiting).await.expect("no panic").expect("accepted");
    within(LIMIT, pending).await.expect("acked");
    within(LIMIT, bus.flush(LIMIT)).await.expect("all acked");
    assert_eq!(bus.stats().accepted, 3);
}

#[tokio::test]
async fn a_dropped_answer_changes_nothing_for_its_event() {
    let connection = connection(shared_url()).await;
    let (name, subject) = declared(&connection).await;
    let (failures, mut failed) = mpsc::unbounded_channel();
    let bus = Bus::builder(connection)
        .deadline(Duration::from_millis(300))
        .on_failure(move |error| drop(failures.send(error)));
    let bus = within(LIMIT, bus.open()).await.expect("open");
    drop(
        within(LIMIT, bus.enqueue_pending(number(&subject, 1)))
            .await
            .expect("accepted"),
    );
    let nowhere = unique_subject("nowhere");
    drop(
        within(LIMIT, bus.enqueue_pending(number(&nowhere, 2)))
            .await
            .expect("accepted"),
    );
    let error = within(LIMIT, failed.recv()).await.expect("told");
    assert_eq!(
        (error.kind(), error.event().payload().as_ref()),
        (PublishErrorKind::NoResponders, &b"2"[..])
    );
    assert!(error.attempts() > 1 && !error.may_be_stored());
    let undelivered = within(LIMIT, bus.flush(LIMIT)).await.expect_err("one has failed");
    assert_eq!((undelivered.failed, undelivered.pending), (1, 0));
    within(LIMIT, bus.flush(LIMIT)).await.expect("it was told of already");
    assert_eq!(numbers(bus.connection(), &name).await, [1]);
    assert!(failed.try_recv().is_err(), "each failure once");
}

#[tokio::test]
async fn what_was_accepted_is_delivered_though_nobody_holds_the_bus() {
    let (bus, name, subject) = bus().await;
    let connection = bus.connection().clone();
    for n in 0..500 {
        bus.try_enqueue(number(&subject, n)).expect("room");
    }
    drop(bus);
    let topology = Topology::new(connection);
    let count = || async { topology.info(&name).await.map(|info| info.messages).unwrap_or(0) };
    settles_where(LIMIT, count, |count| *count == 500).await;
}

#[tokio::test]
async fn close_gives_up_what_is_pending_and_hands_it_back() {
    let (bus, _, subject) = bus().await;
    within(LIMIT, bus.publish(number(&subject, 0))).await.expect("acked");
    let nowhere = unique_subject("nowhere");
    for n in 1..4 {
        within(LIMIT, bus.enqueue(number(&nowhere, n))).await.expect("accepted");
    }
    let undelivered = within(LIMIT, bus.close(Duration::from_millis(50)))
        .await
        .expect_err("nobody listens");
    let given_up: Vec<_> = undelivered
        .given_up
        .iter()
        .map(|error| error.event().payload().clone())
        .collect();
    assert_eq!(given_up, ["1", "2", "3"]);
    assert!(
        undelivered
            .given_up
            .iter()
            .all(|error| error.kind() == PublishErrorKind::Closed)
    );
    let late = within(LIMIT, bus.publish(number(&subject, 9)))
        .await
        .expect_err("closed");
    assert_eq!(late.kind(), PublishErrorKind::Closed);
    assert_eq!(late.into_event().payload(), "9");
    let stats = bus.stats();
    assert_eq!((stats.accepted, stats.acked, stats.failed, stats.pending), (4, 1, 3, 0));
    within(LIMIT, bus.close(LIMIT)).await.expect("nothing is left");
}

#[tokio::test]
async fn a_closed_connection_hands_everything_back() {
    let (bus, _, _) = bus().await;
    let nowhere = unique_subject("nowhere");
    let pending = within(LIMIT, bus.enqueue_pending(number(&nowhere, 1)))
        .await
        .expect("accepted");
    within(LIMIT, bus.connection().close(LIMIT)).await.expect("closed");
    let error = within(LIMIT, pending).await.expect_err("failed");
    assert_eq!(error.kind(), PublishErrorKind::Closed);
    let late = within(LIMIT, bus.enqueue(number(&nowhere, 2)))
        .await
        .expect_err("closed");
    assert_eq!(late.kind(), PublishErrorKind::Closed);
}

#[tokio::test]
async fn on_failure_may_use_the_bus_and_may_panic() {
    let connection = connection(shared_url()).await;
    let (name, subject) = declared(&connection).await;
    let nowhere = unique_subject("nowhere");
    let later: Arc<std::sync::OnceLock<Bus>> = Arc::default();
    let bus = Bus::builder(connection)
        .deadline(Duration::from_millis(100))
        .on_failure({
            let (later, subject) = (later.clone(), subject.clone());
            move |error| {
                if let Some(bus) = later.get() {
                    let elsewhere = Event::new(subject.clone(), error.into_event().payload().clone());
                    // Its own deadline: that of the bus is so short that it could fail too.
                    bus.try_enqueue(elsewhere.deadline(LIMIT)).expect("room");
                }
                panic!("a careless handler");
            }
        });
    let bus = within(LIMIT, bus.open()).await.expect("open");
    assert!(later.set(bus.clone()).is_ok());
    within(LIMIT, bus.enqueue(number(&nowhere, 7))).await.expect("accepted");
    settles_where(LIMIT, || std::future::ready(bus.stats().acked), |acked| *acked == 1).await;
    assert_eq!(numbers(bus.connection(), &name).await, [7]);
}

#[tokio::test]
async fn strict_order_waits_for_each_ack_of_a_subject() {
    let connection = connection(shared_url()).await;
    let (name, subject) = declared(&connection).await;
    let bus = Bus::builder(connection).ordering(Ordering::Strict);
    let bus = within(LIMIT, bus.open()).await.expect("open");
    for n in 0..300 {
        within(LIMIT, bus.enqueue(number(&format!("{subject}.{}", n % 7), n)))
            .await
            .expect("accepted");
    }
    within(LIMIT, bus.flush(LIMIT)).await.expect("all acked");
    let stored = messages(bus.connection(), &name).await;
    for lane in 0..7 {
        let own = stored
            .iter()
            .filter(|message| message.subject.ends_with(&format!(".{lane}")));
        let own: Vec<u64> = own.map(|message| message.payload.parse().expect("a number")).collect();
        assert!(own.into_iter().eq((0..300).filter(|n| n % 7 == lane)));
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_named() {
    let connection = connection(shared_url()).await;
    let builder = || Bus::builder(connection.clone());
    for (builder, name) in [
        (builder().window(0), "window"),
        (builder().window(2 << 20), "window"),
        (builder().window_bytes(0), "window_bytes"),
        (builder().deadline(Duration::ZERO), "deadline"),
        (builder().retry_pause(LIMIT, Duration::from_secs(1)), "retry_pause"),
        (builder().ordering(Ordering::Strict).dedup(Dedup::Off), "ordering"),
        (builder().message_id_prefix("a b"), "message_id_prefix"),
    ] {
        match within(LIMIT, builder.open()).await {
            Err(OpenError::InvalidSetting { setting, .. }) => assert_eq!(setting, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_declared_stream_is_made_compared_and_changed_only_as_told() {
    let connection = connection(shared_url()).await;
    let topology = Topology::new(connection);
    let (name, subject) = (unique_name("TOPOLOGY"), unique_subject("topology"));
    let spec = StreamSpec::new(&name, [subject.clone()])
        .max_messages(10)
        .discard(Discard::New);
    let compare = within(LIMIT, topology.compare(&spec)).await.expect_err("not there");
    assert_eq!(compare.kind(), TopologyErrorKind::NotFound);
    let info = within(LIMIT, topology.ensure(&spec)).await.expect("made");
    assert_eq!((&info.name, &info.subjects), (&name, &vec![subject.clone()]));
    within(LIMIT, topology.ensure(&spec)).await.expect("the same");
    let larger = spec.clone().max_messages(20);
    let differs = within(LIMIT, topology.ensure(&larger)).await.expect_err("another");
    assert_eq!(differs.kind(), TopologyErrorKind::Differs);
    assert_eq!(differs.differences()[0].setting, "max_msgs");
    within(LIMIT, topology.update(&larger, Changes::Harmless))
        .await
        .expect("changed");
    let smaller = within(LIMIT, topology.update(&spec, Changes::Harmless))
        .await
        .expect_err("it destroys");
    assert!(smaller.differences()[0].destroys);
    within(LIMIT, topology.update(&spec, Changes::Any))
        .await
        .expect("told to");
    assert_eq!(within(LIMIT, topology.compare(&spec)).await.expect("there"), []);
    let found = within(LIMIT, topology.stream_of(&subject)).await.expect("an answer");
    assert_eq!(found.as_deref(), Some(&*name));
    let all = within(LIMIT, topology.list()).await.expect("a list");
    assert!(all.iter().any(|info| info.name == name));
    within(LIMIT, topology.delete(&name)).await.expect("gone");
    let gone = within(LIMIT, topology.info(&name)).await.expect_err("gone");
    assert_eq!(gone.kind(), TopologyErrorKind::NotFound);
}

#[tokio::test]
async fn a_bus_can_refuse_a_stream_whose_acks_are_worth_little() {
    let connection = connection(shared_url()).await;
    let (name, _) = declared(&connection).await;
    let builder = || Bus::builder(connection.clone());
    within(LIMIT, builder().check_stream(&name).open())
        .await
        .expect("only a warning");
    within(LIMIT, builder().require_stream(&name, [Survives::Restart]).open())
        .await
        .expect("it is in files");
    let weak = within(
        LIMIT,
        builder()
            .require_stream(&name, [Survives::Restart, Survives::ServerLoss])
            .open(),
    )
    .await;
    assert!(matches!(weak, Err(OpenError::NotDurable(_))), "{weak:?}");
    let long = builder()
        .deadline(Duration::from_secs(90))
        .require_stream(&name, [Survives::Restart]);
    let long = within(LIMIT, long.open()).await;
    assert!(
        matches!(long, Err(OpenError::NotDurable(_))),
        "ids are forgotten too early: {long:?}"
    );
    let missing = within(LIMIT, builder().check_stream(unique_name("NONE")).open()).await;
    assert!(matches!(missing, Err(OpenError::Stream(_))));
}

#[tokio::test]
async fn a_bus_that_is_gone_leaves_nothing_behind() {
    let connection = connection(shared_url()).await;
    let (_, subject) = declared(&connection).await;
    // What the connection starts once for all of them is there before.
    within(LIMIT, Bus::open(connection.clone())).await.expect("open");
    settles_where(
        LIMIT,
        || std::future::ready(connection.driver().load()),
        |load| load.0 == 0,
    )
    .await;
    let before = alive_tasks();
    for round in 0..100 {
        let bus = within(LIMIT, Bus::open(connection.clone())).await.expect("open");
        within(LIMIT, bus.publish(number(&subject, round)))
            .await
            .expect("acked");
        if round % 2 == 0 {
            within(LIMIT, bus.close(LIMIT)).await.expect("all acked");
        }
    }
    settles_where(LIMIT, || std::future::ready(alive_tasks()), |tasks| *tasks <= before).await;
    assert_eq!(connection.driver().load(), (0, 0), "no deadline keeps a bus");
}
