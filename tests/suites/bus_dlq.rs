//! Dead letters in their stream: where it is made, what is read, and what a redrive does. And runs of so many messages.

use std::time::Duration;

use integration::bus::{messages, stream};
use integration::{LIMIT, connection};
use natstream::eventbus::topology::{ConsumerSpec, Retention, Storage, StreamSpec, Topology, TopologyErrorKind};
use natstream::eventbus::{Consumer, ConsumerStats, DeadLetter, DeadLetters, HandlerError, RedriveError};
use natstream::{Bus, Connection, Event, PublishErrorKind};
use testkit::{shared_url, unique_name, unique_subject, within};

struct World {
    connection: Connection,
    topology: Topology,
    bus: Bus,
    stream: String,
    subject: String,
}

impl World {
    async fn new() -> Self {
        let connection = connection(shared_url()).await;
        let (name, subject) = (unique_name("DLQ"), unique_subject("dead"));
        stream(&connection, StreamSpec::new(&name, [&subject])).await;
        let bus = Bus::builder(connection.clone()).deadline(Duration::from_secs(5)).open();
        Self {
            bus: within(LIMIT, bus).await.expect("open"),
            topology: Topology::new(connection.clone()),
            connection,
            stream: name,
            subject,
        }
    }

    async fn publish(&self, payload: &str) {
        let event = Event::new(self.subject.clone(), payload.to_owned()).header("Tenant", "north");
        let event = event.message_id(payload).header("Tenant", "south");
        within(LIMIT, self.bus.publish(event)).await.expect("acked");
    }

    /// Fails with each of so many messages, once.
    async fn bury(&self, count: usize) -> ConsumerStats {
        let dead = self.topology.ensure_dead_letters(&self.stream, "c");
        let dead = within(LIMIT, dead).await.expect("a subject");
        let spec = ConsumerSpec::new(&self.stream, "c");
        let consumer = Consumer::builder(self.connection.clone(), spec)
            .dead_letters(dead, 1)
            .limit(count)
            .open();
        let consumer = within(LIMIT, consumer).await.expect("open");
        let failed = consumer.for_each(async |_| Err::<(), _>(HandlerError::retry("不行")));
        within(LIMIT, failed).await.expect("so many");
        consumer.stats()
    }

    fn letters(&self) -> DeadLetters {
        DeadLetters::new(self.connection.clone(), DeadLetters::stream_of(&self.stream))
    }

    async fn all(&self) -> Vec<DeadLetter> {
        let (letters, mut all) = (self.letters(), Vec::<DeadLetter>::new());
        let from = |all: &[DeadLetter]| all.last().map_or(0, |letter| letter.sequence + 1);
        while let Some(letter) = within(LIMIT, letters.next(from(&all))).await.expect("read") {
            all.push(letter);
        }
        all
    }
}

#[tokio::test]
async fn a_redriven_message_is_what_it_was() {
    let world = World::new().await;
    world.publish("a").await;
    world.publish("b").await;
    assert_eq!(world.bury(2).await.dead, 2);
    let all = world.all().await;
    let mut payloads: Vec<_> = all.iter().map(|letter| letter.payload.to_vec()).collect();
    payloads.sort();
    assert_eq!(payloads, [b"a", b"b"]);
    for letter in &all {
        assert_eq!((letter.reason.as_str(), letter.attempts), ("不行", Some(1)));
        assert_eq!(letter.message_id.as_deref(), std::str::from_utf8(&letter.payload).ok());
        let redriven = world.letters();
        let ack = within(LIMIT, redriven.redrive(&world.bus, letter)).await;
        assert!(
            !ack.expect("acked").is_duplicate,
            "the id of the original is remembered"
        );
        // As after a kill between the ack and the deletion: the letter is gone, the message is there once.
        let again = within(LIMIT, redriven.redrive(&world.bus, letter)).await;
        assert!(again.expect("acked").is_duplicate);
    }
    assert!(world.all().await.is_empty());
    let stored = messages(&world.connection, &world.stream).await;
    assert_eq!(stored.len(), 4);
    for message in &stored[2..] {
        assert_eq!(message.subject, world.subject);
        assert_eq!(message.headers.get("Redriven-Msg-Id"), Some(&message.payload));
        let is_letters = |name: &String| name.starts_with("Dead-Letter-");
        assert!(!message.headers.keys().any(is_letters), "{message:?}");
    }
    // Once more through the whole: the first id stays.
    world.bury(2).await;
    for letter in world.all().await {
        within(LIMIT, world.letters().redrive(&world.bus, &letter))
            .await
            .expect("acked");
    }
    let stored = messages(&world.connection, &world.stream).await;
    assert_eq!(stored.len(), 6);
    for message in &stored[4..] {
        assert_eq!(message.headers.get("Redriven-Msg-Id"), Some(&message.payload));
    }
}

#[tokio::test]
async fn a_letter_that_is_not_published_is_kept() {
    let world = World::new().await;
    world.publish("a").await;
    world.bury(1).await;
    within(LIMIT, world.topology.delete(&world.stream))
        .await
        .expect("deleted");
    let letter = world.all().await.remove(0);
    let error = within(LIMIT, world.letters().redrive(&world.bus, &letter)).await;
    let Err(RedriveError::Publish(error)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.kind(), PublishErrorKind::NoResponders);
    assert_eq!(world.all().await.len(), 1);
}

#[tokio::test]
async fn streams_of_dead_letters_are_made_and_found() {
    let world = World::new().await;
    let ensure = async |stream: &str, consumer: &str| {
        let ensured = world.topology.ensure_dead_letters(stream, consumer);
        within(LIMIT, ensured).await.map_err(|error| error.kind())
    };
    let (dead, name) = (DeadLetters::stream_of(&world.stream), &world.stream);
    assert_eq!(ensure(name, "c").await, Ok(DeadLetters::subject_of(name, "c")));
    assert_eq!(ensure(name, "d").await, Ok(DeadLetters::subject_of(name, "d")));
    let info = within(LIMIT, world.topology.info(&dead)).await.expect("a stream");
    assert_eq!(info.storage, Storage::File);
    assert_eq!(
        info.config.get("retention").and_then(|value| value.as_str()),
        Some("limits")
    );
    assert_eq!(ensure(&unique_name("NO"), "c").await, Err(TopologyErrorKind::NotFound));
    assert_eq!(ensure("a b", "c").await, Err(TopologyErrorKind::InvalidName));

    // One's own, under another name and with limits, is used as it is.
    let own = World::new().await;
    let subject = format!("dlq.{}.*", own.stream);
    let spec = StreamSpec::new(unique_name("OWN"), [subject]).retention(Retention::WorkQueue);
    stream(&own.connection, spec).await;
    assert_eq!(
        ensure(&own.stream, "c").await,
        Ok(DeadLetters::subject_of(&own.stream, "c"))
    );
    let made = within(LIMIT, own.topology.info(&DeadLetters::stream_of(&own.stream))).await;
    assert_eq!(made.map_err(|error| error.kind()), Err(TopologyErrorKind::NotFound));

    // A stream is not to get its own dead letters.
    let name = unique_name("ALL");
    let spec = StreamSpec::new(&name, [format!("dlq.{name}.>")]);
    stream(&own.connection, spec).await;
    assert_eq!(ensure(&name, "c").await, Err(TopologyErrorKind::Rejected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_run_touches_no_other_message() {
    let world = World::new().await;
    for n in 0..20 {
        world.publish(&n.to_string()).await;
    }
    let mut delivered = 0;
    for count in [0, 1, 7, 5] {
        let spec = ConsumerSpec::new(&world.stream, "c");
        let consumer = Consumer::builder(world.connection.clone(), spec)
            .concurrency(4)
            .backoff([Duration::from_millis(5)])
            .limit(count)
            .open();
        let consumer = within(LIMIT, consumer).await.expect("open");
        // Every one fails at first.
        let handled = consumer.for_each(async |message: natstream::eventbus::Message| match message.attempt() {
            1 => Err(HandlerError::retry("not yet")),
            _ => Ok(()),
        });
        within(LIMIT, handled).await.expect("so many");
        delivered += count as u64;
        let (stats, info) = (consumer.stats(), within(LIMIT, consumer.info()).await.expect("info"));
        assert_eq!((stats.handled, stats.failed), (count as u64, count as u64));
        assert_eq!(
            (info.delivered, info.ack_floor, info.ack_pending),
            (delivered, delivered, 0)
        );
    }
}

#[tokio::test]
async fn consumers_are_listed_and_compared() {
    let world = World::new().await;
    assert_eq!(
        within(LIMIT, world.topology.consumers(&world.stream))
            .await
            .expect("none")
            .len(),
        0
    );
    let spec = |name: &str| ConsumerSpec::new(&world.stream, name).ack_wait(Duration::from_secs(7));
    for name in ["b", "a"] {
        let spec = spec(name);
        let made = world.topology.ensure_consumer(&spec);
        within(LIMIT, made).await.expect("made");
    }
    let all = within(LIMIT, world.topology.consumers(&world.stream))
        .await
        .expect("two");
    let names: Vec<&str> = all.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let same = spec("a");
    let same = within(LIMIT, world.topology.compare_consumer(&same)).await;
    assert!(same.expect("compared").is_empty());
    let other = spec("a").ack_wait(Duration::from_secs(8));
    let differs = within(LIMIT, world.topology.compare_consumer(&other)).await;
    assert_eq!(differs.expect("compared")[0].setting, "ack_wait");
    let missing = within(LIMIT, world.topology.consumers(&unique_name("NO"))).await;
    assert_eq!(missing.map_err(|error| error.kind()), Err(TopologyErrorKind::NotFound));
}
