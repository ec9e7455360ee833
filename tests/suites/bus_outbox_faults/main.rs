//! The outbox where things go wrong around it: other connections, files that cannot be read, events as large as the files.

mod order;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use integration::bus::{messages, numbers, stream};
use integration::{LIMIT, connection};
use natstream::eventbus::topology::{StreamSpec, Topology};
use natstream::eventbus::{Ordering, Outbox, OutboxBuilder, Published, SpoolLevel, TryEnqueueError};
use natstream::{ConnectConfig, Connection, Event, PublishErrorKind};
use testkit::{Cluster, Flow, NatsServer, Proxy, settles_where, shared_url, unique_name, unique_subject, within};

/// A cluster needs some time to form and to elect on a busy machine.
const LONG: Duration = Duration::from_secs(90);

/// A directory, a subject, and a server that does not have its stream yet.
struct World {
    connection: Connection,
    stream: String,
    subject: String,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self {
            connection: connection(shared_url()).await,
            stream: unique_name("OUTBOX_FAULTS"),
            subject: unique_subject("outbox_faults"),
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    async fn make_stream(&self) {
        let spec = StreamSpec::new(&self.stream, [self.subject.clone()]);
        stream(&self.connection, spec).await;
    }

    fn builder(&self) -> OutboxBuilder {
        Outbox::builder(self.dir.path())
    }

    fn event(&self, number: u64) -> Event {
        Event::new(self.subject.clone(), number.to_string())
    }

    async fn fill(&self, outbox: &Outbox, numbers: std::ops::Range<u64>) {
        for number in numbers {
            within(LIMIT, outbox.enqueue(self.event(number)))
                .await
                .expect("accepted");
        }
    }

    /// Accepts one that is not acked meanwhile.
    async fn spool(&self, outbox: &Outbox, number: u64) {
        let event = self.event(number).deadline(Duration::from_millis(300));
        let published = within(LIMIT, outbox.publish(event)).await.expect("accepted");
        assert_eq!(published, Published::Spooled);
    }

    async fn has(&self, expected: std::ops::Range<u64>) {
        let stored = numbers(&self.connection, &self.stream).await;
        assert!(stored.iter().copied().eq(expected), "each once, in order: {stored:?}");
    }
}

async fn open(builder: OutboxBuilder) -> Outbox {
    within(LIMIT, builder.open()).await.expect("open")
}

async fn flush(outbox: &Outbox) {
    within(LIMIT, outbox.flush(LIMIT)).await.expect("all delivered");
}

fn segment(dir: &Path) -> PathBuf {
    let entries = fs::read_dir(dir).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut segments = paths.filter(|path| path.extension().is_some_and(|end| end == "seg"));
    segments.next().expect("a segment")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_the_wait_and_not_the_order() {
    let world = World::new().await;
    let outbox = open(world.builder().ordering(Ordering::Strict)).await;
    outbox.deliver_by(world.connection.clone());
    world.spool(&outbox, 0).await;
    world.fill(&outbox, 1..3).await;
    // Time for the first one to let the others pass.
    world.spool(&outbox, 3).await;
    world.make_stream().await;
    flush(&outbox).await;
    world.has(0..4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_connection_takes_over_in_order() {
    let other = NatsServer::builder().jetstream(true).start().await;
    let world = World::new().await;
    world.make_stream().await;
    let outbox = open(world.builder().ordering(Ordering::Strict)).await;
    outbox.deliver_by(connection(&other.url()).await);
    world.fill(&outbox, 0..200).await;
    world.spool(&outbox, 200).await;
    outbox.deliver_by(world.connection.clone());
    let published = within(LIMIT, outbox.publish(world.event(201))).await.expect("accepted");
    assert!(matches!(published, Published::Acked(_)));
    flush(&outbox).await;
    world.has(0..202).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_connection_is_taken_while_the_window_has_no_room() {
    let other = NatsServer::builder().jetstream(true).start().await;
    let world = World::new().await;
    world.make_stream().await;
    // There is room for one at a time.
    let outbox = open(world.builder().ordering(Ordering::Strict).window_bytes(1)).await;
    outbox.deliver_by(connection(&other.url()).await);
    world.fill(&outbox, 0..10).await;
    world.spool(&outbox, 10).await;
    outbox.deliver_by(world.connection.clone());
    flush(&outbox).await;
    world.has(0..11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_connection_is_taken_while_the_first_is_made() {
    let other = NatsServer::builder().jetstream(true).start().await;
    let proxy = Proxy::start(other.url()).await;
    proxy.blackhole(Flow::ToClient, true);
    let world = World::new().await;
    world.make_stream().await;
    let outbox = open(world.builder()).await;
    world.fill(&outbox, 0..10).await;
    outbox.connect(ConnectConfig::new(proxy.url()));
    within(LIMIT, proxy.connected(1)).await;
    outbox.deliver_by(world.connection.clone());
    proxy.blackhole(Flow::ToClient, false);
    flush(&outbox).await;
    world.has(0..10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_read_do_not_keep_it_from_closing() {
    let world = World::new().await;
    let outbox = open(world.builder()).await;
    world.fill(&outbox, 0..10).await;
    let _ = within(LIMIT, outbox.close(Duration::ZERO)).await;
    drop(outbox);
    let outbox = open(world.builder()).await;
    let segment = segment(world.dir.path());
    fs::remove_file(&segment).expect("removed");
    fs::create_dir(&segment).expect("something that cannot be read");
    outbox.deliver_by(world.connection.clone());
    let left = within(LIMIT, outbox.close(Duration::from_millis(300)))
        .await
        .expect_err("not delivered");
    assert_eq!(left.pending, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_almost_fills_the_files_is_taken_when_they_are_empty() {
    let world = World::new().await;
    world.make_stream().await;
    let outbox = open(world.builder().max_bytes(100_000)).await;
    outbox.deliver_by(world.connection.clone());
    for len in [20_000, 90_000, 1, 99_000] {
        let event = Event::new(world.subject.clone(), "x".repeat(len));
        within(LIMIT, outbox.enqueue(event)).await.expect("accepted");
        flush(&outbox).await;
    }
    let stored = messages(&world.connection, &world.stream).await;
    assert_eq!(stored.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_written_at_first_is_written_though_nobody_waits() {
    let world = World::new().await;
    world.make_stream().await;
    let outbox = open(world.builder()).await;
    world.fill(&outbox, 0..1).await;
    fs::remove_dir_all(world.dir.path()).expect("removed");
    fs::write(world.dir.path(), "").expect("no directory");
    // It notices that soon, and not at once.
    let mut accepted = 1;
    let refused = loop {
        match outbox.try_enqueue(world.event(accepted)) {
            Ok(()) => accepted += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, TryEnqueueError::Full(_)), "{refused:?}");
    let mut enqueue = Box::pin(outbox.enqueue(world.event(accepted)));
    let enqueued = enqueue.as_mut().now_or_never();
    assert!(enqueued.is_none(), "it cannot be written: {enqueued:?}");
    drop(enqueue);
    fs::remove_file(world.dir.path()).expect("removed");
    outbox.deliver_by(world.connection.clone());
    flush(&outbox).await;
    world.has(0..accepted + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_could_not_be_freed_are_freed_later() {
    let world = World::new().await;
    world.make_stream().await;
    let outbox = open(world.builder().max_bytes(10_000)).await;
    let watermark = world.dir.path().join("watermark");
    let _ = fs::remove_file(&watermark);
    fs::create_dir(&watermark).expect("something that cannot be written");
    let mut accepted = 0;
    while outbox.try_enqueue(world.event(accepted)).is_ok() {
        accepted += 1;
    }
    outbox.deliver_by(world.connection.clone());
    flush(&outbox).await;
    let waiting = outbox.enqueue(world.event(accepted));
    let mut waiting = std::pin::pin!(waiting);
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(waited.is_err(), "there is no room");
    fs::remove_dir(&watermark).expect("removed");
    within(LIMIT, waiting).await.expect("accepted");
    flush(&outbox).await;
    world.has(0..accepted + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_no_stream_takes_does_not_fill_the_files() {
    for level in [SpoolLevel::Process, SpoolLevel::Power] {
        let world = World::new().await;
        world.make_stream().await;
        let builder = || {
            world
                .builder()
                .level(level)
                .max_bytes(200_000)
                .ordering(Ordering::Strict)
        };
        let outbox = open(builder()).await;
        outbox.deliver_by(world.connection.clone());
        let (nobodys, late) = (unique_subject("nobody"), unique_name("LATE"));
        for number in 0..2_u64 {
            let event = Event::new(nobodys.clone(), number.to_string());
            within(LIMIT, outbox.enqueue(event)).await.expect("accepted");
        }
        let events = (0..4000).map(|number| world.event(number)).collect();
        enqueue_at_once(&outbox, events).await;
        let acked = || std::future::ready(outbox.stats().acked);
        settles_where(LONG, acked, |acked| *acked == 4000).await;
        assert_eq!(outbox.stats().spooled, 2, "{level:?}");
        // Until the files have forgotten the others.
        let bytes = || std::future::ready(outbox.stats().bytes);
        settles_where(LIMIT, bytes, |bytes| *bytes < 100_000).await;
        let left = within(LIMIT, outbox.close(Duration::ZERO))
            .await
            .expect_err("not delivered");
        assert_eq!((left.pending, left.failed), (2, 0));
        drop(outbox);
        let outbox = open(builder()).await;
        assert_eq!((outbox.stats().found, outbox.stats().spooled), (2, 2), "{level:?}");
        outbox.deliver_by(world.connection.clone());
        world.fill(&outbox, 4000..4010).await;
        let last = Event::new(nobodys.clone(), "2");
        within(LIMIT, outbox.enqueue(last)).await.expect("accepted");
        stream(&world.connection, StreamSpec::new(&late, [nobodys])).await;
        flush(&outbox).await;
        let mut stored = numbers(&world.connection, &world.stream).await;
        stored.sort_unstable();
        assert!(stored.into_iter().eq(0..4010), "each once");
        assert_eq!(
            numbers(&world.connection, &late).await,
            [0, 1, 2],
            "each once, in order"
        );
        assert_eq!((outbox.stats().acked, outbox.stats().duplicates), (13, 0), "{level:?}");
        within(LIMIT, outbox.close(LIMIT)).await.expect("closed");
        drop(outbox);
        assert_eq!(open(builder()).await.stats().found, 0, "what is delivered is forgotten");
    }
}

/// By many producers, which share the syncs.
async fn enqueue_at_once(outbox: &Outbox, events: Vec<Event>) {
    let enqueued = events.into_iter().map(|event| outbox.enqueue(event));
    let enqueued = futures_util::stream::iter(enqueued).buffered(500);
    within(LONG, enqueued.try_for_each(|()| std::future::ready(Ok(()))))
        .await
        .expect("accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_hands_back_what_could_not_be_written() {
    let world = World::new().await;
    let outbox = open(world.builder().level(SpoolLevel::Power)).await;
    world.fill(&outbox, 0..3).await;
    fs::remove_dir_all(world.dir.path()).expect("removed");
    fs::write(world.dir.path(), "").expect("no directory");
    for number in 3..5 {
        outbox.try_enqueue(world.event(number)).expect("taken");
    }
    let waiting = tokio::spawn({
        let (outbox, event) = (outbox.clone(), world.event(5));
        async move { outbox.enqueue(event).await }
    });
    let left = within(LIMIT, outbox.flush(Duration::from_millis(500)))
        .await
        .expect_err("not delivered");
    assert_eq!(left.pending, 6, "it waits for the disk");
    let left = within(LIMIT, outbox.close(Duration::ZERO))
        .await
        .expect_err("not written");
    let given_up: Vec<&[u8]> = left.given_up.iter().map(|error| &error.event().payload()[..]).collect();
    assert_eq!((left.failed, left.pending, given_up), (2, 3, vec![&b"3"[..], b"4"]));
    assert!(
        left.given_up
            .iter()
            .all(|error| error.kind() == PublishErrorKind::Closed)
    );
    let refused = within(LIMIT, waiting)
        .await
        .expect("no panic")
        .expect_err("not written");
    assert_eq!(
        (refused.kind(), &refused.event().payload()[..]),
        (PublishErrorKind::Closed, &b"5"[..])
    );
    let again = within(LIMIT, outbox.close(Duration::ZERO))
        .await
        .expect_err("not delivered");
    assert_eq!((again.failed, again.pending), (0, 3), "it is told once");
    fs::remove_file(world.dir.path()).expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_step_down_and_are_killed_lose_and_repeat_nothing() {
    let mut cluster = within(LONG, Cluster::builder(3).jetstream(true).start()).await;
    let config = ConnectConfig::new(cluster.urls()).retain_servers_order();
    let own = within(LIMIT, Connection::connect(config)).await.expect("connected");
    let topology = Topology::new(own.clone());
    stream(&own, StreamSpec::new("S", ["s"]).replicas(3)).await;
    let dir = tempfile::tempdir().expect("a directory");
    let outbox = open(Outbox::builder(dir.path()).ordering(Ordering::Strict)).await;
    outbox.deliver_by(own.clone());
    let enqueue = async |numbers: std::ops::Range<u64>| {
        for number in numbers {
            let event = Event::new("s", number.to_string());
            within(LONG, outbox.enqueue(event)).await.expect("accepted");
        }
    };
    let acked = async |at_least: u64| {
        let acked = || std::future::ready(outbox.stats().acked);
        settles_where(LONG, acked, |acked| *acked >= at_least).await;
    };
    enqueue(0..2000).await;
    acked(500).await;
    let step_down = own.nats().request("$JS.API.STREAM.LEADER.STEPDOWN.S", "".into());
    within(LONG, step_down).await.expect("an answer");
    enqueue(2000..4000).await;
    acked(2500).await;
    let info = within(LONG, topology.info("S")).await.expect("info");
    let leader = info.leader.expect("a leader");
    let index: usize = leader.trim_start_matches('n').parse().expect("a node");
    cluster.node_mut(index).kill();
    enqueue(4000..6000).await;
    acked(5000).await;
    within(LONG, cluster.node_mut(index).restart()).await;
    enqueue(6000..6100).await;
    within(LONG, outbox.flush(LONG)).await.expect("all delivered");
    let stored = within(LONG, Box::pin(numbers(&own, "S"))).await;
    assert_eq!(stored.len(), 6100);
    assert!(stored.into_iter().eq(0..6100), "each once, in order");
    assert_eq!((outbox.stats().spooled, outbox.stats().rejected), (0, 0));
}
