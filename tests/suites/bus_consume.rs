//! Consuming from a stream that is well: order of keys, failures, dead letters, long handlers, batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use integration::bus::stream;
use integration::consume::{Desk, drained, run};
use integration::{LIMIT, connection};
use natstream::eventbus::topology::{ConsumerSpec, Retention, StreamSpec, Topology};
use natstream::eventbus::{BatchError, Consumer, ConsumerBuilder, HandlerError, Key};
use natstream::{Bus, Connection, Event};
use testkit::{shared_url, unique_name, unique_subject, within};
use tokio::sync::mpsc;

/// A stream for tests, and its subject without the last part.
struct World {
    connection: Connection,
    bus: Bus,
    stream: String,
    subject: String,
}

impl World {
    async fn new() -> Self {
        let connection = connection(shared_url()).await;
        let (name, subject) = (unique_name("CONSUME"), unique_subject("consume"));
        stream(&connection, StreamSpec::new(&name, [format!("{subject}.>")])).await;
        let bus = within(LIMIT, Bus::open(connection.clone())).await.expect("open");
        Self {
            connection,
            bus,
            stream: name,
            subject,
        }
    }

    async fn publish(&self, part: &str, number: u64) {
        let event = Event::new(format!("{}.{part}", self.subject), number.to_string());
        within(LIMIT, self.bus.enqueue(event)).await.expect("accepted");
    }

    async fn flush(&self) {
        within(LIMIT, self.bus.flush(LIMIT)).await.expect("all acked");
    }

    fn spec(&self) -> ConsumerSpec {
        ConsumerSpec::new(&self.stream, "c")
    }

    fn consumer(&self, spec: ConsumerSpec) -> ConsumerBuilder {
        Consumer::builder(self.connection.clone(), spec).backoff([Duration::from_millis(20)])
    }

    /// Waits until nats-server knows of nothing that is not acked.
    async fn all_acked(&self) {
        let topology = Topology::new(self.connection.clone());
        let acked = async {
            loop {
                let info = topology.consumer(&self.stream, "c").await.expect("info");
                if info.pending == 0 && info.ack_pending == 0 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        within(LIMIT, acked).await;
    }
}

fn number(message: &natstream::eventbus::Message) -> u64 {
    std::str::from_utf8(message.payload())
        .expect("digits")
        .parse()
        .expect("digits")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_handled_and_acked() {
    let world = World::new().await;
    for n in 0..5000 {
        world.publish("x", n).await;
    }
    world.flush().await;
    let consumer = within(LIMIT, world.consumer(world.spec()).prefetch(256).open())
        .await
        .expect("open");
    let (handled, mut seen) = mpsc::unbounded_channel();
    let running = tokio::spawn({
        let consumer = consumer.clone();
        async move {
            let handler = move |message| {
                let handled = handled.clone();
                async move {
                    let _ = handled.send(number(&message));
                    Ok::<_, HandlerError>(())
                }
            };
            consumer.for_each(handler).await
        }
    });
    let mut numbers = Vec::new();
    while numbers.len() < 5000 {
        numbers.push(within(LIMIT, seen.recv()).await.expect("a message"));
    }
    world.all_acked().await;
    consumer.drain();
    within(LIMIT, running).await.expect("no panic").expect("drained");
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..5000), "each is handled once");
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.failed, stats.unconfirmed), (5000, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_stay_in_order_though_handlers_fail_and_panic() {
    let world = World::new().await;
    for n in 0..200 {
        world.publish(&format!("k{}", n % 5), n).await;
    }
    world.flush().await;
    let consumer = world
        .consumer(world.spec())
        .concurrency(8)
        .prefetch(64)
        .key(Key::Subject)
        .open();
    let consumer = within(LIMIT, consumer).await.expect("open");
    let (handled, mut seen) = mpsc::unbounded_channel();
    let running = tokio::spawn({
        let consumer = consumer.clone();
        async move {
            let handler = move |message: natstream::eventbus::Message| {
                let handled = handled.clone();
                async move {
                    let number = number(&message);
                    match (number % 11, message.attempt()) {
                        (3, 1) => return Err(HandlerError::retry("not yet")),
                        (7, 1 | 2) => panic!("an expected panic"),
                        _ => {}
                    }
                    let _ = handled.send((message.subject().to_owned(), number));
                    Ok(())
                }
            };
            consumer.for_each(handler).await
        }
    });
    let mut by_key: HashMap<String, Vec<u64>> = HashMap::new();
    for _ in 0..200 {
        let (key, number) = within(LIMIT, seen.recv()).await.expect("a message");
        by_key.entry(key).or_default().push(number);
    }
    world.all_acked().await;
    consumer.drain();
    within(LIMIT, running).await.expect("no panic").expect("drained");
    for (key, numbers) in by_key {
        assert!(numbers.len() == 40 && numbers.is_sorted(), "{key}: {numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_put_aside_with_its_reason() {
    let world = World::new().await;
    for n in 0..10 {
        world.publish("x", n).await;
    }
    world.flush().await;
    let spec = world.spec().filters([format!("{}.x", world.subject)]);
    let dead = format!("{}.dead", world.subject);
    let consumer = within(LIMIT, world.consumer(spec).dead_letters(&dead, 3).open())
        .await
        .expect("open");
    let running = tokio::spawn({
        let consumer = consumer.clone();
        async move {
            let handler = |message: natstream::eventbus::Message| async move {
                match number(&message) {
                    4 => Err(HandlerError::retry("no such customer")),
                    5 => Err(HandlerError::reject("no order")),
                    _ => Ok(()),
                }
            };
            consumer.for_each(handler).await
        }
    });
    world.all_acked().await;
    consumer.drain();
    within(LIMIT, running).await.expect("no panic").expect("drained");
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.failed, stats.dead), (8, 4, 2));
    let letters = ConsumerSpec::new(&world.stream, "dead").filters([dead]);
    let letters = within(LIMIT, world.consumer(letters).open()).await.expect("open");
    let letters = within(LIMIT, letters.fetch(10, Duration::ZERO)).await.expect("fetched");
    let mut found: Vec<_> = letters
        .messages()
        .iter()
        .map(|letter| {
            (
                number(letter),
                letter.header("Dead-Letter-Attempts"),
                letter.header("Dead-Letter-Reason"),
            )
        })
        .collect();
    found.sort_unstable();
    let expected = [
        (4, Some("3"), Some("no such customer")),
        (5, Some("1"), Some("no order")),
    ];
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_takes_long_is_left_alone() {
    let world = World::new().await;
    world.publish("x", 0).await;
    world.flush().await;
    let spec = world.spec().ack_wait(Duration::from_secs(1));
    let consumer = within(LIMIT, world.consumer(spec).open()).await.expect("open");
    let calls = Arc::new(AtomicU64::new(0));
    let running = tokio::spawn({
        let (consumer, calls) = (consumer.clone(), calls.clone());
        async move {
            let handler = move |_| {
                let calls = calls.clone();
                async move {
                    calls.fetch_add(1, Ordering::Relaxed);
                    // sleep: this is the handler that takes long.
                    tokio::time::sleep(Duration::from_secs(4)).await;
                    Ok::<_, HandlerError>(())
                }
            };
            consumer.for_each(handler).await
        }
    });
    world.all_acked().await;
    consumer.drain();
    within(LIMIT, running).await.expect("no panic").expect("drained");
    assert_eq!((calls.load(Ordering::Relaxed), consumer.stats().repeated), (1, 0));
}

#[tokio::test]
async fn a_batch_is_acked_as_far_as_it_is_done() {
    let world = World::new().await;
    for n in 0..10 {
        world.publish("x", n).await;
    }
    world.flush().await;
    let spec = world.spec().ack_wait(Duration::from_secs(1));
    let consumer = within(LIMIT, world.consumer(spec).open()).await.expect("open");
    let mut batch = within(LIMIT, consumer.fetch(6, LIMIT)).await.expect("fetched");
    assert_eq!(batch.messages().len(), 6);
    let mut next = 0;
    for message in &batch {
        assert!(message.sequence() > next, "in the order in which they came");
        next = message.sequence();
    }
    assert_eq!(batch.iter().count(), 6);
    within(LIMIT, batch.ack_through(4)).await.expect("confirmed");
    assert_eq!(consumer.info().await.expect("info").ack_floor, 4);
    batch.nak(Duration::from_millis(1));
    let rest = within(LIMIT, consumer.fetch(6, LIMIT)).await.expect("fetched");
    assert_eq!(rest.messages().len(), 6, "two come again, and four are new");
    within(LIMIT, rest.ack()).await.expect("confirmed");
    let none = within(LIMIT, consumer.fetch(6, Duration::from_millis(50)))
        .await
        .expect("fetched");
    assert_eq!(none.messages().len(), 0);
    world.all_acked().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_deleted_is_made_again() {
    let world = World::new().await;
    let consumer = within(LIMIT, world.consumer(world.spec()).open()).await.expect("open");
    let (handled, mut seen) = mpsc::unbounded_channel();
    let running = tokio::spawn({
        let consumer = consumer.clone();
        async move {
            let handler = move |message| {
                let handled = handled.clone();
                async move {
                    let _ = handled.send(number(&message));
                    Ok::<_, HandlerError>(())
                }
            };
            consumer.for_each(handler).await
        }
    });
    world.publish("x", 1).await;
    assert_eq!(within(LIMIT, seen.recv()).await, Some(1));
    world.all_acked().await;
    let topology = Topology::new(world.connection.clone());
    within(LIMIT, topology.delete_consumer(&world.stream, "c"))
        .await
        .expect("deleted");
    world.publish("x", 2).await;
    let mut last = 0;
    while last != 2 {
        last = within(LIMIT, seen.recv()).await.expect("a message");
    }
    consumer.drain();
    within(LIMIT, running).await.expect("no panic").expect("drained");
}

/// A desk whose messages are handled and counted, each with its number.
async fn counted(desk: &Desk) -> (Consumer, mpsc::UnboundedReceiver<u64>, Running) {
    let consumer = within(LIMIT, desk.consumer(desk.spec()).open()).await.expect("open");
    let (handled, seen) = mpsc::unbounded_channel();
    let running = run(&consumer, move |message| {
        let _ = handled.send(number(&message));
        async { Ok(()) }
    });
    (consumer, seen, running)
}

type Running = tokio::task::JoinHandle<Result<(), natstream::eventbus::ConsumeError>>;

async fn made_again(retention: Retention) {
    let desk = Desk::of(connection(shared_url()).await, |spec| spec.retention(retention)).await;
    let topology = Topology::new(desk.connection.clone());
    let (consumer, mut seen, running) = counted(&desk).await;
    for n in 0..100 {
        desk.publish("x", n).await;
    }
    let mut numbers = Vec::new();
    for round in 1..4 {
        while numbers.len() < 100 * round {
            numbers.push(within(LIMIT, seen.recv()).await.expect("a message"));
        }
        desk.all_acked(LIMIT).await;
        within(LIMIT, topology.delete_consumer(&desk.stream, "c"))
            .await
            .expect("deleted");
        for n in 0..100 {
            desk.publish("x", 100 * round as u64 + n).await;
        }
    }
    while numbers.len() < 400 {
        numbers.push(within(LIMIT, seen.recv()).await.expect("a message"));
    }
    desk.all_acked(LIMIT).await;
    drained(&consumer, running).await;
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..400), "each is handled once");
    assert!(seen.recv().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_made_again_begins_behind_what_is_done() {
    made_again(Retention::Limits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_of_a_work_queue_that_is_made_again_gets_what_is_left() {
    made_again(Retention::WorkQueue).await;
}

/// A stream that is made again counts from 1: what was done of the other one says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_stream_that_is_made_again_all_is_handled() {
    let desk = Desk::new(connection(shared_url()).await).await;
    let topology = Topology::new(desk.connection.clone());
    let (consumer, mut seen, running) = counted(&desk).await;
    desk.publish_keys(100, 1).await;
    for _ in 0..100 {
        within(LIMIT, seen.recv()).await.expect("a message");
    }
    desk.all_acked(LIMIT).await;
    within(LIMIT, topology.delete(&desk.stream)).await.expect("deleted");
    let again = StreamSpec::new(&desk.stream, [format!("{}.>", desk.subject)]);
    within(LIMIT, topology.ensure(&again)).await.expect("made");
    for n in 1000..1050 {
        desk.publish("x", n).await;
    }
    desk.flush().await;
    let mut numbers = std::collections::BTreeSet::new();
    while numbers.len() < 50 {
        numbers.insert(within(LIMIT, seen.recv()).await.expect("a message"));
    }
    assert!(numbers.into_iter().eq(1000..1050));
    drained(&consumer, running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_acked_as_a_whole_and_their_poison_is_found() {
    let desk = Desk::new(connection(shared_url()).await).await;
    let (dead_stream, dead) = desk.dead_letters().await;
    desk.publish_keys(300, 1).await;
    let consumer = desk.consumer(desk.spec()).dead_letters(&dead, 3);
    let consumer = within(LIMIT, consumer.open()).await.expect("open");
    let (handled, mut seen) = mpsc::unbounded_channel();
    let running = tokio::spawn({
        let consumer = consumer.clone();
        async move {
            let handler = move |messages: Vec<natstream::eventbus::Message>| {
                let handled = handled.clone();
                async move {
                    let mut done = 0;
                    for message in &messages {
                        let number = number(message);
                        match number {
                            50 => panic!("an expected panic"),
                            120 => {
                                let error = BatchError::retry("stopped before it").done_through(done);
                                return Err(error.reject(message.sequence(), "no order"));
                            }
                            200 => return Err(BatchError::retry("no customer").done_through(done)),
                            _ => {}
                        }
                        let _ = handled.send(number);
                        done = message.sequence();
                    }
                    Ok(())
                }
            };
            consumer.for_each_batch(40, Duration::from_millis(50), handler).await
        }
    });
    desk.all_acked(LIMIT).await;
    consumer.drain();
    within(LIMIT, running).await.expect("no panic").expect("drained");
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.dead, stats.held), (297, 3, 0));
    let mut letters: Vec<(String, String)> = integration::bus::messages(&desk.connection, &dead_stream)
        .await
        .into_iter()
        .map(|letter| (letter.payload, letter.headers["Dead-Letter-Reason"].clone()))
        .collect();
    letters.sort_unstable();
    assert_eq!(letters[0], ("120".to_owned(), "no order".to_owned()));
    assert_eq!(letters[1], ("200".to_owned(), "no customer".to_owned()));
    assert_eq!((letters[2].0.as_str(), letters.len()), ("50", 3));
    let mut numbers = std::collections::BTreeSet::new();
    while let Ok(number) = seen.try_recv() {
        numbers.insert(number);
    }
    assert_eq!(numbers.len(), 297);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_go_on_when_their_consumer_is_deleted() {
    let desk = Desk::new(connection(shared_url()).await).await;
    let topology = Topology::new(desk.connection.clone());
    let consumer = within(LIMIT, desk.consumer(desk.spec()).open()).await.expect("open");
    let (handled, mut seen) = mpsc::unbounded_channel();
    let running = tokio::spawn({
        let consumer = consumer.clone();
        async move {
            let handler = move |messages: Vec<natstream::eventbus::Message>| {
                for message in &messages {
                    let _ = handled.send(number(message));
                }
                async { Ok::<_, BatchError>(()) }
            };
            consumer.for_each_batch(10, Duration::from_millis(50), handler).await
        }
    });
    for n in 0..5 {
        desk.publish("x", n).await;
        assert_eq!(within(LIMIT, seen.recv()).await, Some(n), "each once");
        desk.all_acked(LIMIT).await;
        within(LIMIT, topology.delete_consumer(&desk.stream, "c"))
            .await
            .expect("deleted");
    }
    consumer.drain();
    within(LIMIT, running).await.expect("no panic").expect("drained");
}
