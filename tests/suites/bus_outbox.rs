//! The outbox: accepted without a server, delivered once, in order, over restarts, refusals and full files.

use std::path::Path;
use std::time::Duration;

use integration::bus::{messages, numbers, stream};
use integration::{LIMIT, connection};
use natstream::eventbus::topology::{Discard, StreamSpec, Topology};
use natstream::eventbus::{Ordering, Outbox, OutboxBuilder, OutboxError, Published, SpoolLevel, TryEnqueueError};
use natstream::{ConnectConfig, Connection, Event, PublishErrorKind};
use testkit::{NatsServer, settles_where, shared_url, unique_name, unique_subject, within};

/// A stream, and a directory for the outbox.
struct World {
    connection: Connection,
    stream: String,
    subject: String,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(|spec| spec).await
    }

    async fn with(more: impl FnOnce(StreamSpec) -> StreamSpec) -> Self {
        let connection = connection(shared_url()).await;
        let (name, subject) = (unique_name("OUTBOX"), unique_subject("outbox"));
        stream(&connection, more(StreamSpec::new(&name, [subject.clone()]))).await;
        Self {
            connection,
            stream: name,
            subject,
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    fn event(&self, number: u64) -> Event {
        Event::new(self.subject.clone(), number.to_string())
    }

    async fn open(&self) -> Outbox {
        open(Outbox::builder(self.dir.path())).await
    }

    async fn fill(&self, outbox: &Outbox, numbers: std::ops::Range<u64>) {
        for number in numbers {
            within(LIMIT, outbox.enqueue(self.event(number)))
                .await
                .expect("accepted");
        }
    }

    /// The stream has these, each once and in order.
    async fn has(&self, expected: std::ops::Range<u64>) {
        let stored = numbers(&self.connection, &self.stream).await;
        assert_eq!(stored.len() as u64, expected.end - expected.start);
        assert!(stored.into_iter().eq(expected), "each once, in order");
    }
}

async fn open(builder: OutboxBuilder) -> Outbox {
    within(LIMIT, builder.open()).await.expect("open")
}

async fn flush(outbox: &Outbox) {
    within(LIMIT, outbox.flush(LIMIT)).await.expect("all delivered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_delivered_once_and_in_order() {
    for level in [SpoolLevel::Process, SpoolLevel::Power] {
        let world = World::new().await;
        let outbox = open(Outbox::builder(world.dir.path()).level(level)).await;
        outbox.deliver_by(world.connection.clone());
        world.fill(&outbox, 0..500).await;
        let published = within(LIMIT, outbox.publish(world.event(500)))
            .await
            .expect("published");
        assert!(
            matches!(published, Published::Acked(ack) if ack.sequence == 501),
            "{level:?}"
        );
        flush(&outbox).await;
        world.has(0..501).await;
        let stats = outbox.stats();
        assert_eq!((stats.accepted, stats.acked, stats.spooled), (501, 501, 0));
        within(LIMIT, outbox.close(LIMIT)).await.expect("closed");
        let late = within(LIMIT, outbox.enqueue(world.event(501)))
            .await
            .expect_err("closed");
        assert_eq!(late.kind(), PublishErrorKind::Closed);
    }
}

/// Where the window is full, nobody wakes the task that delivers for an event more: what makes room must.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_that_wait_for_their_acks_in_a_small_window_all_get_them() {
    for (ordering, window, window_bytes) in [
        (Ordering::Strict, 1, usize::MAX),
        (Ordering::Strict, 3, 1),
        (Ordering::Fast, 1, 1),
        (Ordering::Fast, 2, usize::MAX),
    ] {
        let world = World::new().await;
        let builder = Outbox::builder(world.dir.path()).level(SpoolLevel::Process);
        let outbox = open(builder.ordering(ordering).window(window).window_bytes(window_bytes)).await;
        outbox.deliver_by(world.connection.clone());
        let producers: Vec<_> = (0..4)
            .map(|producer| {
                let events: Vec<Event> = (0..150).map(|n| world.event(4 * n + producer)).collect();
                let outbox = outbox.clone();
                tokio::spawn(async move {
                    for event in events {
                        // Each waits for its own: none behind it can wake for it.
                        let published = within(LIMIT, outbox.publish(event)).await.expect("published");
                        assert!(matches!(published, Published::Acked(_)), "{published:?}");
                    }
                })
            })
            .collect();
        for producer in producers {
            producer.await.expect("no panic");
        }
        // sleep: until it has forgotten what is done, and no timer is left that would wake the task
        tokio::time::sleep(Duration::from_millis(300)).await;
        let published = within(LIMIT, outbox.publish(world.event(600))).await;
        assert!(matches!(published, Ok(Published::Acked(_))), "{published:?}");
        assert_eq!(outbox.stats().acked, 601);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_events_are_accepted_and_delivered_by_the_next_process() {
    let world = World::new().await;
    let outbox = world.open().await;
    world.fill(&outbox, 0..5000).await;
    let published = outbox.publish(world.event(5000).deadline(Duration::from_millis(20)));
    assert_eq!(within(LIMIT, published).await.expect("accepted"), Published::Spooled);
    let left = within(LIMIT, outbox.close(Duration::ZERO))
        .await
        .expect_err("not delivered");
    assert_eq!((left.pending, left.failed), (5001, 0));
    drop(outbox);
    let outbox = world.open().await;
    assert_eq!((outbox.stats().found, outbox.stats().spooled), (5001, 5001));
    outbox.deliver_by(world.connection.clone());
    world.fill(&outbox, 5001..6000).await;
    flush(&outbox).await;
    world.has(0..6000).await;
    within(LIMIT, outbox.close(LIMIT)).await.expect("closed");
    drop(outbox);
    let outbox = world.open().await;
    assert_eq!(outbox.stats().found, 0, "what is delivered is forgotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_connects_when_that_is_possible() {
    let mut server = NatsServer::builder().jetstream(true).start().await;
    let first = connection(&server.url()).await;
    stream(&first, StreamSpec::new("S", ["s"])).await;
    server.kill();
    let dir = tempfile::tempdir().expect("a directory");
    let outbox = open(Outbox::builder(dir.path())).await;
    outbox.connect(ConnectConfig::new(server.url()).connect_timeout(Duration::from_secs(1)));
    for number in 0..1000_u64 {
        within(LIMIT, outbox.enqueue(Event::new("s", number.to_string())))
            .await
            .expect("accepted");
    }
    assert_eq!(outbox.stats().acked, 0);
    server.restart().await;
    flush(&outbox).await;
    assert!(numbers(&first, "S").await.into_iter().eq(0..1000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_killed_lose_and_repeat_nothing() {
    let mut server = NatsServer::builder().jetstream(true).start().await;
    let connection = connection(&server.url()).await;
    stream(&connection, StreamSpec::new("S", ["s"])).await;
    let dir = tempfile::tempdir().expect("a directory");
    let outbox = open(Outbox::builder(dir.path()).ordering(Ordering::Strict)).await;
    outbox.deliver_by(connection.clone());
    for round in 0..4_u64 {
        for number in round * 5000..(round + 1) * 5000 {
            within(LIMIT, outbox.enqueue(Event::new("s", number.to_string())))
                .await
                .expect("accepted");
            if number % 5000 == 2500 {
                server.kill();
            }
        }
        server.restart().await;
    }
    flush(&outbox).await;
    assert!(
        numbers(&connection, "S").await.into_iter().eq(0..20_000),
        "each once, in order"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_into_memory_comes_from_the_files() {
    let world = World::new().await;
    let outbox = open(Outbox::builder(world.dir.path()).ordering(Ordering::Strict)).await;
    let payload = |number: u64| format!("{number:020}{}", "x".repeat(10_000));
    for number in 0..5000 {
        let event = Event::new(world.subject.clone(), payload(number));
        within(LIMIT, outbox.enqueue(event)).await.expect("accepted");
    }
    // While those are read from the files, others come.
    outbox.deliver_by(world.connection.clone());
    for number in 5000..6000 {
        let event = Event::new(world.subject.clone(), payload(number));
        within(LIMIT, outbox.enqueue(event)).await.expect("accepted");
    }
    flush(&outbox).await;
    let stored = messages(&world.connection, &world.stream).await;
    assert_eq!(stored.len(), 6000);
    for (number, message) in stored.iter().enumerate() {
        let prefix = format!("{number:020}");
        assert!(message.payload.starts_with(&prefix), "each once, in order: {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_files_make_producers_wait() {
    let world = World::new().await;
    let outbox = open(Outbox::builder(world.dir.path()).max_bytes(100_000)).await;
    let mut accepted = 0;
    let back = loop {
        match outbox.try_enqueue(world.event(accepted)) {
            Ok(()) => accepted += 1,
            Err(TryEnqueueError::Full(event)) => break event,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(back.payload(), accepted.to_string().as_bytes());
    assert!(accepted > 500, "{accepted}");
    let waiting = tokio::spawn({
        let (outbox, events) = (
            outbox.clone(),
            (accepted..accepted + 5000).map(|number| world.event(number)),
        );
        let events: Vec<Event> = events.collect();
        async move {
            for event in events {
                outbox.enqueue(event).await.expect("accepted");
            }
        }
    });
    outbox.deliver_by(world.connection.clone());
    within(LIMIT, waiting).await.expect("no panic");
    flush(&outbox).await;
    world.has(0..accepted + 5000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_at_a_time() {
    let world = World::new().await;
    let outbox = world.open().await;
    let second = within(LIMIT, Outbox::builder(world.dir.path()).open()).await;
    assert!(matches!(second, Err(OutboxError::InUse(_))), "{second:?}");
    within(LIMIT, outbox.close(LIMIT)).await.expect("closed");
    drop(outbox);
    world.open().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_be_delivered_is_kept_elsewhere_and_stops_nobody() {
    let world = World::with(|spec| spec.max_message_size(1000)).await;
    let outbox = world.open().await;
    outbox.deliver_by(world.connection.clone());
    world.fill(&outbox, 0..10).await;
    let large = Event::new(world.subject.clone(), "x".repeat(2000)).header("Tenant", "north");
    let error = within(LIMIT, outbox.publish(large)).await.expect_err("too large");
    assert_eq!(error.kind(), PublishErrorKind::TooLarge);
    let flaw = within(LIMIT, outbox.enqueue(Event::new("a b", "")))
        .await
        .expect_err("no subject");
    assert_eq!(flaw.kind(), PublishErrorKind::Invalid);
    world.fill(&outbox, 10..20).await;
    let told = within(LIMIT, outbox.flush(LIMIT)).await.expect_err("one was refused");
    assert_eq!((told.failed, told.pending), (1, 0));
    world.has(0..20).await;
    within(LIMIT, outbox.close(LIMIT)).await.expect("closed");
    drop(outbox);
    let outbox = world.open().await;
    let rejected = outbox.rejected().expect("read");
    let [(number, Some(event), reason)] = &rejected[..] else {
        panic!("{rejected:?}");
    };
    assert_eq!((event.payload().len(), reason.is_empty()), (2000, false));
    outbox.forget_rejected(*number).expect("forgotten");
    assert_eq!(outbox.rejected().expect("read").len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_taken_later_is_tried_again() {
    let world = World::with(|spec| spec.max_messages(5).discard(Discard::New)).await;
    let outbox = world.open().await;
    outbox.deliver_by(world.connection.clone());
    world.fill(&outbox, 0..10).await;
    let acked = || std::future::ready(outbox.stats().acked);
    settles_where(LIMIT, acked, |acked| *acked == 5).await;
    assert_eq!(outbox.stats().rejected, 0);
    let spec = StreamSpec::new(&world.stream, [world.subject.clone()]).max_messages(100);
    let topology = Topology::new(world.connection.clone());
    let changes = natstream::eventbus::topology::Changes::Any;
    within(LIMIT, topology.update(&spec, changes)).await.expect("updated");
    flush(&outbox).await;
    let mut stored = numbers(&world.connection, &world.stream).await;
    stored.sort_unstable();
    assert!(stored.into_iter().eq(0..10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_producers_share_the_syncs() {
    let world = World::new().await;
    let outbox = open(Outbox::builder(world.dir.path()).level(SpoolLevel::Power)).await;
    outbox.deliver_by(world.connection.clone());
    let producers = (0..200_u64).map(|producer| {
        let outbox = outbox.clone();
        let events: Vec<Event> = (0..10).map(|n| world.event(producer * 10 + n)).collect();
        tokio::spawn(async move {
            for event in events {
                outbox.enqueue(event).await.expect("accepted");
            }
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        within(LIMIT, producer).await.expect("no panic");
    }
    flush(&outbox).await;
    let mut stored = numbers(&world.connection, &world.stream).await;
    stored.sort_unstable();
    assert!(stored.into_iter().eq(0..2000));
}

/// The files hold what they should, whoever looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_are_copied_and_the_rest_is_delivered() {
    let world = World::new().await;
    let outbox = world.open().await;
    world.fill(&outbox, 0..100).await;
    let _ = within(LIMIT, outbox.close(Duration::ZERO)).await;
    drop(outbox);
    let segment = segment(world.dir.path());
    let mut bytes = std::fs::read(&segment).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&segment, bytes).expect("written");
    let outbox = world.open().await;
    outbox.deliver_by(world.connection.clone());
    flush(&outbox).await;
    let stored = numbers(&world.connection, &world.stream).await;
    assert_eq!((stored.len(), stored.is_sorted()), (99, true));
    assert_eq!((outbox.stats().damaged, outbox.stats().spooled), (1, 0));
    assert_eq!(
        std::fs::read_dir(world.dir.path().join("damaged"))
            .expect("copies")
            .count(),
        1
    );
}

fn segment(dir: &Path) -> std::path::PathBuf {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut segments = paths.filter(|path| path.extension().is_some_and(|end| end == "seg"));
    segments.next().expect("a segment")
}
