//! Strict order within a subject, whatever rests: a stream that is full for a while, one that is not there yet, a restart.

use std::collections::BTreeMap;

use async_nats::jetstream;
use integration::LIMIT;
use integration::bus::{messages, numbers, stream};
use natstream::eventbus::topology::{Discard, StreamSpec, Topology};
use natstream::eventbus::{Ordering, Outbox, OutboxBuilder, OutboxError, SpoolLevel};
use natstream::{Connection, Event};
use testkit::{settles_where, unique_name, unique_subject, within};

use super::{World, flush, open};

/// As many events as the stream holds.
const ROOM: u64 = 40;

/// More than that: some are refused in every round.
const PORTION: u64 = 50;
const EVENTS: u64 = 4 * PORTION;
const SUBJECTS: u64 = 3;

async fn enqueue(outbox: &Outbox, subject: &str, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let event = Event::new(subject.to_owned(), number.to_string());
        within(LIMIT, outbox.enqueue(event)).await.expect("accepted");
    }
}

/// An outbox on files that another one had until now: it is gone when its feeder has ended.
async fn open_again(builder: impl Fn() -> OutboxBuilder) -> Outbox {
    let opened = async || match builder().open().await {
        Err(OutboxError::InUse(_)) => None,
        opened => Some(opened.expect("open")),
    };
    let opened = settles_where(LIMIT, opened, Option::is_some).await;
    opened.expect("it is free")
}

async fn acked(outbox: &Outbox, events: u64) {
    let acked = || std::future::ready(outbox.stats().acked);
    settles_where(LIMIT, acked, |acked| *acked == events).await;
}

/// A stream that refuses what it has no room for.
struct Narrow {
    connection: Connection,
    name: String,
}

impl Narrow {
    async fn make(connection: &Connection, subjects: &str, room: u64) -> Self {
        let name = unique_name("NARROW");
        let spec = StreamSpec::new(&name, [subjects.to_owned()]).max_messages(room);
        stream(connection, spec.discard(Discard::New)).await;
        Self {
            connection: connection.clone(),
            name,
        }
    }

    async fn len(&self) -> u64 {
        let info = within(LIMIT, Topology::new(self.connection.clone()).info(&self.name)).await;
        info.expect("info").messages
    }

    /// Waits until it is full, or has all that there is.
    async fn settles(&self, outbox: &Outbox) {
        let is_over = async || outbox.stats().spooled == 0 || self.len().await == ROOM;
        settles_where(LIMIT, is_over, |is_over| *is_over).await;
    }

    /// Takes what it has. Nothing comes meanwhile: it is full, or has all.
    async fn empty(&self, seen: &mut BTreeMap<String, Vec<u64>>) {
        for message in messages(&self.connection, &self.name).await {
            let number = message.payload.parse().expect("a number");
            seen.entry(message.subject).or_default().push(number);
        }
        let context = jetstream::new(self.connection.nats().clone());
        let stream = within(LIMIT, context.get_stream(&self.name)).await.expect("the stream");
        within(LIMIT, stream.purge()).await.expect("emptied");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_stream_refused_is_not_passed() {
    for level in [SpoolLevel::Process, SpoolLevel::Power] {
        let world = World::new().await;
        let root = unique_subject("narrow");
        let narrow = Narrow::make(&world.connection, &format!("{root}.>"), ROOM).await;
        let builder = || world.builder().level(level).ordering(Ordering::Strict);
        let portion = async |outbox: &Outbox, first: u64| {
            for number in first..first + PORTION {
                enqueue(outbox, &format!("{root}.{}", number % SUBJECTS), [number]).await;
            }
        };
        let mut seen = BTreeMap::new();
        let mut outbox = open(builder()).await;
        outbox.deliver_by(world.connection.clone());
        portion(&outbox, 0).await;
        for first in (PORTION..EVENTS).step_by(PORTION as usize) {
            narrow.settles(&outbox).await;
            if first == 2 * PORTION {
                // Some rest, and others are behind them.
                drop(outbox);
                outbox = open_again(builder).await;
                outbox.deliver_by(world.connection.clone());
            }
            narrow.empty(&mut seen).await;
            // These find room while older ones rest.
            portion(&outbox, first).await;
        }
        while outbox.stats().spooled > 0 {
            narrow.settles(&outbox).await;
            narrow.empty(&mut seen).await;
        }
        narrow.empty(&mut seen).await;
        assert_eq!(seen.len() as u64, SUBJECTS);
        for (subject, seen) in &seen {
            let expected = (seen[0]..EVENTS).step_by(SUBJECTS as usize);
            assert!(seen[0] < SUBJECTS, "{level:?}, {subject}: the first one is missing");
            assert!(
                seen.iter().copied().eq(expected),
                "{level:?}, {subject}: each once, in order: {seen:?}"
            );
        }
        assert_eq!(outbox.stats().rejected, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_that_waits_holds_up_no_other_and_keeps_its_order() {
    let world = World::new().await;
    world.make_stream().await;
    let (late, full) = (unique_subject("late"), unique_subject("full"));
    let narrow = Narrow::make(&world.connection, &full, 1).await;
    let builder = || world.builder().ordering(Ordering::Strict);
    let outbox = open(builder()).await;
    outbox.deliver_by(world.connection.clone());
    for number in 0..100 {
        for subject in [&late, &full, &world.subject] {
            enqueue(&outbox, subject, [number]).await;
        }
    }
    acked(&outbox, 101).await;
    world.has(0..100).await;
    drop(outbox);
    let outbox = open_again(builder).await;
    outbox.deliver_by(world.connection.clone());
    enqueue(&outbox, &world.subject, 100..200).await;
    let all = || numbers(&world.connection, &world.stream);
    settles_where(LIMIT, all, |all| all.len() == 200).await;
    world.has(0..200).await;
    let name = unique_name("LATE");
    stream(&world.connection, StreamSpec::new(&name, [late.clone()])).await;
    let spec = StreamSpec::new(&narrow.name, [full.clone()]).max_messages(1000);
    let changes = natstream::eventbus::topology::Changes::Any;
    let topology = Topology::new(world.connection.clone());
    within(LIMIT, topology.update(&spec, changes)).await.expect("updated");
    for subject in [&late, &full] {
        enqueue(&outbox, subject, 100..200).await;
    }
    flush(&outbox).await;
    for name in [&name, &narrow.name] {
        let stored = numbers(&world.connection, name).await;
        assert!(stored.iter().copied().eq(0..200), "each once, in order: {stored:?}");
    }
    assert_eq!(outbox.stats().rejected, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_for_good_lets_the_next_one_go() {
    for level in [SpoolLevel::Process, SpoolLevel::Power] {
        let world = World::new().await;
        let spec = StreamSpec::new(&world.stream, [world.subject.clone()]);
        stream(&world.connection, spec.max_message_size(1000)).await;
        // The last place of the window is free again, too.
        let builder = world.builder().level(level).ordering(Ordering::Strict).window(2);
        let outbox = open(builder).await;
        for number in 0..60 {
            if number % 20 == 10 {
                let large = Event::new(world.subject.clone(), "x".repeat(2000));
                within(LIMIT, outbox.enqueue(large)).await.expect("accepted");
            }
            enqueue(&outbox, &world.subject, [number]).await;
        }
        outbox.deliver_by(world.connection.clone());
        let told = within(LIMIT, outbox.flush(LIMIT))
            .await
            .expect_err("three were refused");
        assert_eq!((told.failed, told.pending), (3, 0), "{level:?}");
        world.has(0..60).await;
        assert_eq!(outbox.rejected().expect("read").len(), 3, "{level:?}");
    }
}
