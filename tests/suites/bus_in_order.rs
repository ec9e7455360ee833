//! Messages strictly in order: each once, whatever happens to deliveries, acks, connections, the consumer and the server.

use std::time::Duration;

use integration::bus::stream;
use integration::{LIMIT, connection};
use natstream::eventbus::topology::{AckPolicy, ConsumerSpec, Retention, StreamSpec, Topology};
use natstream::eventbus::{ConsumeErrorKind, Consumer, ConsumerBuilder, InOrder};
use natstream::{Bus, Connection, Event};
use testkit::{NatsServer, Proxy, shared_url, unique_name, unique_subject, within};

/// A stream with numbered messages.
struct World {
    connection: Connection,
    bus: Bus,
    stream: String,
    subject: String,
}

impl World {
    async fn on(url: &str, spec: impl FnOnce(StreamSpec) -> StreamSpec) -> Self {
        let connection = connection(url).await;
        let (name, subject) = (unique_name("IN_ORDER"), unique_subject("in_order"));
        stream(&connection, spec(StreamSpec::new(&name, [format!("{subject}.>")]))).await;
        let bus = within(LIMIT, Bus::open(connection.clone())).await.expect("open");
        Self {
            connection,
            bus,
            stream: name,
            subject,
        }
    }

    async fn new() -> Self {
        Self::on(shared_url(), |spec| spec).await
    }

    async fn publish(&self, part: &str, count: u64) {
        for _ in 0..count {
            let event = Event::new(format!("{}.{part}", self.subject), "payload");
            within(LIMIT, self.bus.enqueue(event)).await.expect("accepted");
        }
        within(LIMIT, self.bus.flush(LIMIT)).await.expect("all acked");
    }

    fn spec(&self) -> ConsumerSpec {
        ConsumerSpec::new(&self.stream, "c").max_ack_pending(10_000)
    }

    async fn open(&self, builder: ConsumerBuilder) -> Consumer {
        within(LIMIT, builder.open()).await.expect("open")
    }

    async fn consumer(&self, spec: ConsumerSpec) -> Consumer {
        self.open(Consumer::builder(self.connection.clone(), spec).prefetch(500))
            .await
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

async fn in_order(consumer: &Consumer, after: Option<u64>) -> InOrder {
    within(LIMIT, consumer.in_order(after)).await.expect("begun")
}

/// The sequence of the next message.
async fn next(messages: &mut InOrder) -> u64 {
    let message = within(LIMIT, messages.next()).await.expect("no error");
    message.expect("a message").sequence()
}

/// Takes messages up to this sequence, acking now and then.
async fn take_to(messages: &mut InOrder, from: u64, to: u64) {
    for expected in from..=to {
        assert_eq!(next(messages).await, expected);
        if messages.unacked() >= 100 || expected == to {
            within(LIMIT, messages.ack_through(expected)).await.expect("acked");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_come_once_and_in_order_by_either_policy() {
    for policy in [AckPolicy::Explicit, AckPolicy::All] {
        let world = World::new().await;
        world.publish("x", 5000).await;
        let consumer = world.consumer(world.spec().ack_policy(policy)).await;
        let mut messages = in_order(&consumer, None).await;
        take_to(&mut messages, 1, 5000).await;
        within(LIMIT, messages.flush(LIMIT)).await.expect("confirmed");
        world.all_acked().await;
        assert_eq!((messages.unacked(), messages.limit()), (0, 500));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_lose_and_repeat_nothing() {
    for policy in [AckPolicy::Explicit, AckPolicy::All] {
        let world = World::new().await;
        let proxy = Proxy::start(shared_url()).await;
        world.publish("x", 10_000).await;
        // Longer than the test: nothing comes again by itself.
        let spec = world.spec().ack_policy(policy).ack_wait(Duration::from_secs(600));
        let builder = Consumer::builder(connection(&proxy.url()).await, spec).prefetch(500);
        let consumer = world.open(builder).await;
        let mut messages = in_order(&consumer, None).await;
        for round in 0..10 {
            let end = round * 1000 + 1000;
            take_to(&mut messages, round * 1000 + 1, end - 300).await;
            // In the middle of what is on its way, with acks that may be lost, and messages that are here and not acked.
            proxy.cut();
            take_to(&mut messages, end - 299, end).await;
        }
        world.all_acked().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_behind_the_position_that_it_is_told() {
    let world = World::new().await;
    world.publish("x", 1000).await;
    let consumer = world.consumer(world.spec()).await;
    let mut messages = in_order(&consumer, None).await;
    take_to(&mut messages, 1, 300).await;
    assert_eq!(next(&mut messages).await, 301);
    drop(messages);
    // Given and not acked, by whoever died.
    assert_eq!(next(&mut in_order(&consumer, None).await).await, 301);
    // Ahead of the acks, since those were not sent; and behind them, since a file was lost.
    for position in [400, 100, 0, 999] {
        let mut messages = in_order(&consumer, Some(position)).await;
        assert_eq!(next(&mut messages).await, position + 1);
    }
    let mut messages = in_order(&consumer, Some(500)).await;
    take_to(&mut messages, 501, 1000).await;
    world.all_acked().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_again_is_not_given_again() {
    let world = World::new().await;
    world.publish("x", 100).await;
    let consumer = world.consumer(world.spec().ack_wait(Duration::from_secs(1))).await;
    let mut messages = in_order(&consumer, None).await;
    for expected in 1..=100 {
        assert_eq!(next(&mut messages).await, expected);
    }
    // Nothing is acked, so all come again, and again.
    let repeated = async {
        while consumer.stats().repeated < 200 {
            let more = tokio::time::timeout(Duration::from_millis(50), messages.next()).await;
            assert!(more.is_err(), "{more:?}");
        }
    };
    within(LIMIT, repeated).await;
    world.publish("x", 1).await;
    assert_eq!(next(&mut messages).await, 101);
    within(LIMIT, messages.ack_through(u64::MAX)).await.expect("acked");
    within(LIMIT, messages.flush(LIMIT)).await.expect("confirmed");
    world.all_acked().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_deleted_begins_behind_what_is_acked() {
    let world = World::new().await;
    world.publish("x", 1000).await;
    let consumer = world.consumer(world.spec()).await;
    let mut messages = in_order(&consumer, None).await;
    take_to(&mut messages, 1, 400).await;
    let topology = Topology::new(world.connection.clone());
    within(LIMIT, topology.delete_consumer(&world.stream, "c"))
        .await
        .expect("deleted");
    take_to(&mut messages, 401, 1000).await;
    let received = consumer.stats().received;
    assert!(received < 3000, "the first 400 did not come again: {received}");
    world.all_acked().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_and_work_queues_are_in_order_too() {
    let world = World::on(shared_url(), |spec| spec.retention(Retention::WorkQueue)).await;
    for _ in 0..50 {
        world.publish("a", 3).await;
        world.publish("b", 1).await;
    }
    let filter = format!("{}.b", world.subject);
    let consumer = world.consumer(world.spec().filters([filter])).await;
    let mut messages = in_order(&consumer, None).await;
    for expected in 1..=30 {
        assert_eq!(next(&mut messages).await, expected * 4);
    }
    within(LIMIT, messages.ack_through(80)).await.expect("acked");
    drop(messages);
    // Twenty-five are done, and their acks were never sent: they must not stay in the stream for ever.
    let mut messages = in_order(&consumer, Some(100)).await;
    for expected in 26..=50 {
        assert_eq!(next(&mut messages).await, expected * 4);
    }
    within(LIMIT, messages.ack_through(200)).await.expect("acked");
    within(LIMIT, messages.flush(LIMIT)).await.expect("confirmed");
    world.all_acked().await;
    let left = within(LIMIT, Topology::new(world.connection.clone()).info(&world.stream)).await;
    assert_eq!(left.expect("info").messages, 150);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_is_waited_for() {
    let mut server = NatsServer::builder().jetstream(true).start().await;
    let world = World::on(&server.url(), |spec| spec).await;
    world.publish("x", 3000).await;
    let consumer = world.consumer(world.spec()).await;
    let mut messages = in_order(&consumer, None).await;
    for round in 0..3 {
        take_to(&mut messages, round * 1000 + 1, round * 1000 + 500).await;
        server.kill();
        server.restart().await;
        take_to(&mut messages, round * 1000 + 501, round * 1000 + 1000).await;
    }
    world.all_acked().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_made_again_is_another_one() {
    let server = NatsServer::builder().jetstream(true).start().await;
    let world = World::on(&server.url(), |spec| spec).await;
    world.publish("x", 10).await;
    let consumer = world.consumer(world.spec()).await;
    let mut messages = in_order(&consumer, None).await;
    take_to(&mut messages, 1, 10).await;
    let topology = Topology::new(world.connection.clone());
    within(LIMIT, topology.delete(&world.stream)).await.expect("deleted");
    stream(
        &world.connection,
        StreamSpec::new(&world.stream, [format!("{}.>", world.subject)]),
    )
    .await;
    world.publish("x", 10).await;
    let error = within(LIMIT, messages.next()).await.expect_err("another stream");
    assert_eq!(error.kind(), ConsumeErrorKind::StreamReplaced);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_are_noticed() {
    let world = World::new().await;
    world.publish("x", 10_000).await;
    let consumer = world.consumer(world.spec()).await;
    let mut first = in_order(&consumer, None).await;
    let mut second = in_order(&consumer, None).await;
    let error = async {
        loop {
            for messages in [&mut first, &mut second] {
                match messages.next().await {
                    Ok(Some(message)) => messages.ack_through(message.sequence()).await.expect("acked"),
                    Ok(None) => panic!("nobody drains"),
                    Err(error) => return error,
                }
            }
        }
    };
    let error = within(LIMIT, error).await;
    assert_eq!(error.kind(), ConsumeErrorKind::InUse);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_gives_what_is_here_and_ends() {
    let world = World::new().await;
    world.publish("x", 1000).await;
    let consumer = world.consumer(world.spec()).await;
    let mut messages = in_order(&consumer, None).await;
    take_to(&mut messages, 1, 10).await;
    consumer.drain();
    let mut last = 10;
    while let Some(message) = within(LIMIT, messages.next()).await.expect("no error") {
        assert_eq!(message.sequence(), last + 1);
        last += 1;
    }
    within(LIMIT, messages.ack_through(last)).await.expect("acked");
    within(LIMIT, messages.flush(LIMIT)).await.expect("confirmed");
    let info = within(LIMIT, consumer.info()).await.expect("info");
    assert_eq!(info.ack_floor, last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_tells_of_acks_that_could_not_be_sent() {
    for retention in [Retention::Limits, Retention::WorkQueue] {
        let world = World::on(shared_url(), |spec| spec.retention(retention)).await;
        let proxy = Proxy::start(shared_url()).await;
        world.publish("x", 10).await;
        let builder = Consumer::builder(connection(&proxy.url()).await, world.spec());
        let consumer = world.open(builder).await;
        let mut messages = in_order(&consumer, None).await;
        for expected in 1..=10 {
            assert_eq!(next(&mut messages).await, expected);
        }
        proxy.refuse(true);
        proxy.cut();
        let more = tokio::time::timeout(Duration::from_millis(300), messages.next()).await;
        assert!(more.is_err(), "there is no connection");
        within(LIMIT, messages.ack_through(10)).await.expect("kept");
        let error = within(LIMIT, messages.flush(Duration::from_millis(300))).await;
        assert_eq!(error.expect_err("not sent").kind(), ConsumeErrorKind::Unconfirmed);
        proxy.refuse(false);
        within(LIMIT, messages.flush(LIMIT)).await.expect("they came again");
        world.all_acked().await;
        world.publish("x", 1).await;
        assert_eq!(next(&mut messages).await, 11);
    }
}

/// What was killed between its position and the acks has nothing to do but those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_acks_what_the_position_has_already() {
    for retention in [Retention::Limits, Retention::WorkQueue] {
        let world = World::on(shared_url(), |spec| spec.retention(retention)).await;
        world.publish("x", 10).await;
        let consumer = world.consumer(world.spec()).await;
        let mut messages = in_order(&consumer, Some(10)).await;
        within(LIMIT, messages.flush(LIMIT)).await.expect("confirmed");
        world.all_acked().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_ends_before_the_position_is_not_the_same() {
    let world = World::new().await;
    world.publish("x", 10).await;
    let consumer = world.consumer(world.spec()).await;
    assert_eq!(in_order(&consumer, Some(10)).await.unacked(), 0);
    // As after the loss of its newest messages: others get their numbers.
    let error = within(LIMIT, consumer.in_order(Some(11))).await.expect_err("lost");
    assert_eq!(error.kind(), ConsumeErrorKind::StreamReplaced);
}
