//! Order by key while handlers fail, connections break and servers die: messages of one key are handled one after the other,
//! in the order of the stream, and all are.
//!
//! `NATSTREAM_SEEDS` is the number of seeds, `NATSTREAM_SEED` runs one. A seed chooses which attempts fail, how long they take,
//! and when the network fails.
#![expect(clippy::print_stdout, reason = "seeds are for people who run it by hand")]

use std::sync::Arc;
use std::time::Duration;

use integration::consume::{Desk, Ledger, drained, number, run};
use integration::load::Rng;
use integration::{LIMIT, connection, variable};
use natstream::eventbus::{Consumer, ConsumerBuilder, HandlerError, Key, Message};
use natstream::{ConnectConfig, Connection};
use parking_lot::Mutex;
use testkit::{Flow, NatsServer, Proxy, settles_where, shared_url, within};
use tokio::task::JoinHandle;

/// A run with all faults takes about 20 s.
const LONG: Duration = Duration::from_secs(120);

const KEYS: u64 = 20;

const EVENTS: u64 = 3000;

const ACK_WAIT: Duration = Duration::from_secs(1);

fn seeds() -> std::ops::Range<u64> {
    match variable("NATSTREAM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + variable("NATSTREAM_SEEDS").unwrap_or(1),
    }
}

/// A connection that soon notices when nobody answers.
async fn quick(url: &str) -> Connection {
    let config = ConnectConfig::new(url).ping_interval(Duration::from_millis(500));
    within(LIMIT, Connection::connect(config)).await.expect("connected")
}

fn builder(desk: &Desk, connection: &Connection) -> ConsumerBuilder {
    Consumer::builder(connection.clone(), desk.spec().ack_wait(ACK_WAIT))
        .backoff([Duration::from_millis(5), Duration::from_millis(40)])
        .concurrency(8)
        .prefetch(64)
        .key(Key::SubjectPart(desk.subject.split('.').count() + 1))
}

type Running = JoinHandle<Result<(), natstream::eventbus::ConsumeError>>;

/// Handles what comes, fails now and then, and keeps the ledger.
fn handle(consumer: &Consumer, ledger: &Arc<Mutex<Ledger>>, seed: u64) -> Running {
    let ledger = ledger.clone();
    run(consumer, move |message: Message| {
        let ledger = ledger.clone();
        async move {
            let number = number(&message);
            let mut rng = Rng::new(seed, number * 100 + message.attempt().min(99));
            ledger.lock().begin(number);
            // sleep: this is the handler's work.
            tokio::time::sleep(Duration::from_micros(rng.within(0..=3000))).await;
            let fails = rng.percent(5);
            ledger.lock().end(number, !fails);
            if fails {
                return Err(HandlerError::retry("not yet"));
            }
            Ok(())
        }
    })
}

/// Waits until so many are done.
async fn done(ledger: &Mutex<Ledger>, count: u64) {
    let done = || std::future::ready(ledger.lock().done);
    settles_where(LONG, done, |done| {
        assert_eq!(ledger.lock().faults, [""; 0]);
        *done >= count
    })
    .await;
}

fn judge(ledger: &Mutex<Ledger>, seed: u64) {
    let ledger = ledger.lock();
    println!("seed {seed}: {} done, {} repeated", ledger.done, ledger.repeated);
    assert!(ledger.faults.is_empty(), "seed {seed}: {:?}", ledger.faults);
    assert_eq!(ledger.done, EVENTS, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_keep_their_order_over_lost_connections() {
    for seed in seeds() {
        let mut rng = Rng::new(seed, 0);
        let nats = NatsServer::builder().jetstream(true).start().await;
        let proxy = Proxy::start(nats.url()).await;
        let desk = Desk::new(connection(&nats.url()).await).await;
        desk.publish_keys(EVENTS / 2, KEYS).await;
        let connection = quick(&proxy.url()).await;
        let consumer = within(LIMIT, builder(&desk, &connection).open()).await.expect("open");
        let ledger = Arc::new(Mutex::new(Ledger::new(KEYS)));
        let running = handle(&consumer, &ledger, seed);
        for part in 1..=5 {
            done(&ledger, EVENTS * part / 12).await;
            // Deliveries are on their way for this long, and are lost with the connection.
            proxy.delay(Flow::ToClient, rng.millis(20..=60));
            // So that some are.
            let before = consumer.stats().received;
            let received = || std::future::ready(consumer.stats().received);
            settles_where(LONG, received, |now| *now > before + 20).await;
            let connects = proxy.accepted();
            if rng.percent(50) {
                // nats-server goes on sending to nobody, longer than its ack wait.
                proxy.blackhole(Flow::ToClient, true);
                within(LIMIT, proxy.connected(connects + 1)).await;
                proxy.blackhole(Flow::ToClient, false);
            } else {
                proxy.cut();
            }
            proxy.delay(Flow::ToClient, Duration::ZERO);
            within(LIMIT, proxy.connected(connects + 1)).await;
            // New messages that could overtake the lost ones.
            let from = EVENTS / 2 + (part - 1) * EVENTS / 10;
            for number in from..from + EVENTS / 10 {
                desk.publish(&(number % KEYS).to_string(), number).await;
            }
            desk.flush().await;
        }
        done(&ledger, EVENTS).await;
        desk.all_acked(LONG).await;
        drained(&consumer, running).await;
        let stats = consumer.stats();
        assert!(
            stats.redelivered > 0,
            "seed {seed}: nothing was lost on the way: {stats:?}"
        );
        judge(&ledger, seed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_keep_their_order_over_servers_that_are_killed() {
    for seed in seeds() {
        let mut nats = NatsServer::builder().jetstream(true).start().await;
        let desk = Desk::new(connection(&nats.url()).await).await;
        desk.publish_keys(EVENTS, KEYS).await;
        let connection = quick(&nats.url()).await;
        let consumer = within(LIMIT, builder(&desk, &connection).open()).await.expect("open");
        let ledger = Arc::new(Mutex::new(Ledger::new(KEYS)));
        let running = handle(&consumer, &ledger, seed);
        for part in 1..=3 {
            done(&ledger, EVENTS * part / 5).await;
            nats.kill();
            within(LIMIT, nats.restart()).await;
        }
        done(&ledger, EVENTS).await;
        desk.all_acked(LONG).await;
        drained(&consumer, running).await;
        judge(&ledger, seed);
    }
}

/// What a process had that died comes before what is new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_keep_their_order_when_another_process_takes_over() {
    let desk = Desk::new(connection(shared_url()).await).await;
    desk.publish_keys(EVENTS, KEYS).await;
    let ledger = Arc::new(Mutex::new(Ledger::new(KEYS)));
    for part in 1..=3 {
        let connection = connection(shared_url()).await;
        let consumer = within(LIMIT, builder(&desk, &connection).open()).await.expect("open");
        let running = handle(&consumer, &ledger, part);
        done(&ledger, EVENTS * part / 4).await;
        // Its handlers are dropped where they are.
        running.abort();
        let _ = within(LIMIT, running).await;
        let running: Vec<u64> = ledger.lock().running();
        for number in running {
            ledger.lock().end(number, false);
        }
    }
    let consumer = within(LIMIT, builder(&desk, &desk.connection).open())
        .await
        .expect("open");
    let running = handle(&consumer, &ledger, 9);
    done(&ledger, EVENTS).await;
    desk.all_acked(LONG).await;
    drained(&consumer, running).await;
    judge(&ledger, 9);
}

/// Two processes at one consumer: order cannot hold, but nothing stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_with_keys_do_not_stop_each_other() {
    let desk = Desk::new(connection(shared_url()).await).await;
    desk.publish_keys(EVENTS, KEYS).await;
    let mut consumers = Vec::new();
    for _ in 0..2 {
        let connection = connection(shared_url()).await;
        let consumer = within(LIMIT, builder(&desk, &connection).open()).await.expect("open");
        let handler = |_| async {
            // sleep: this is the handler's work.
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(())
        };
        let running = run(&consumer, handler);
        consumers.push((consumer, running));
    }
    desk.all_acked(LONG).await;
    for (consumer, running) in consumers {
        drained(&consumer, running).await;
    }
}
