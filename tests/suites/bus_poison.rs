//! Messages that cannot be handled, and processes that die of them: every other message is handled, and each of these is put
//! aside with its reason, its attempts and its headers.
//!
//! `NATSTREAM_KILLS` is how many messages kill their process in the long form (2).

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::process::Stdio;
use std::time::Duration;

use integration::bus::{Message as Letter, messages};
use integration::consume::{Desk, drained, number, run};
use integration::{LIMIT, connection, variable};
use natstream::Event;
use natstream::eventbus::topology::{Changes, ConsumerSpec, Discard, Retention, StreamSpec, Topology};
use natstream::eventbus::{BatchError, ConsumeErrorKind, Consumer, HandlerError, Key, Message};
use parking_lot::Mutex;
use testkit::{settles, settles_where, shared_url, unique_subject, within};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Processes are started and killed one after the other.
const LONG: Duration = Duration::from_secs(300);

async fn letters(desk: &Desk, stream: &str) -> BTreeMap<u64, Letter> {
    let letters = messages(&desk.connection, stream).await;
    let count = letters.len();
    let letters: BTreeMap<u64, Letter> = letters
        .into_iter()
        .map(|letter| (letter.payload.parse().expect("a number"), letter))
        .collect();
    assert_eq!(letters.len(), count, "each is put aside once");
    letters
}

fn header<'a>(letter: &'a Letter, name: &str) -> &'a str {
    letter.headers.get(name).map_or("", String::as_str)
}

async fn dead(consumer: &Consumer, count: u64) {
    settles_where(
        LIMIT,
        || std::future::ready(consumer.stats().dead),
        |dead| *dead >= count,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_failure_is_put_aside_with_its_reason() {
    const EVENTS: u64 = 200;
    let desk = Desk::new(connection(shared_url()).await).await;
    let (dead_stream, dead) = desk.dead_letters().await;
    for n in 0..EVENTS {
        let event = Event::new(format!("{}.x", desk.subject), n.to_string()).header("Tenant", "north");
        within(LIMIT, desk.bus.enqueue(event.message_id(format!("id-{n}"))))
            .await
            .expect("accepted");
    }
    desk.flush().await;
    let consumer = desk
        .consumer(desk.spec())
        .dead_letters(&dead, 3)
        .handler_limit(Duration::from_millis(300));
    let consumer = within(LIMIT, consumer.open()).await.expect("open");
    let running = run(&consumer, |message: Message| async move {
        let number = number(&message);
        match number % 50 {
            1 => Err(HandlerError::retry(format!("attempt {}", message.attempt()))),
            2 => panic!("no {number}"),
            3 => std::future::pending().await,
            4 => Err(HandlerError::reject("never")),
            5 if message.attempt() < 3 => Err(HandlerError::retry("well in the end")),
            _ => Ok(()),
        }
    });
    desk.all_acked(LIMIT).await;
    drained(&consumer, running).await;
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.dead), (EVENTS - 16, 16), "{stats:?}");
    let letters = letters(&desk, &dead_stream).await;
    let numbers: Vec<u64> = letters.keys().copied().collect();
    let expected: Vec<u64> = (0..EVENTS).filter(|n| (1..=4).contains(&(n % 50))).collect();
    assert_eq!(numbers, expected);
    for (number, letter) in &letters {
        let attempts = if number % 50 == 4 { "1" } else { "3" };
        assert_eq!(header(letter, "Dead-Letter-Attempts"), attempts, "{number}");
        assert_eq!(header(letter, "Tenant"), "north");
        assert_eq!(
            header(letter, "Dead-Letter-Original-Nats-Msg-Id"),
            format!("id-{number}")
        );
        assert_eq!(header(letter, "Dead-Letter-Subject"), format!("{}.x", desk.subject));
        let reason = header(letter, "Dead-Letter-Reason");
        match number % 50 {
            1 => assert_eq!(reason, "attempt 3"),
            2 => assert!(reason.ends_with(&format!("no {number}")), "{reason}"),
            4 => assert_eq!(reason, "never"),
            _ => assert!(!reason.is_empty()),
        }
    }
}

#[tokio::test]
async fn a_subject_of_dead_letters_that_no_stream_takes_is_found_out_at_once() {
    let desk = Desk::new(connection(shared_url()).await).await;
    let nowhere = desk.consumer(desk.spec()).dead_letters(unique_subject("nowhere"), 3);
    let error = within(LIMIT, nowhere.open()).await.expect_err("no stream");
    assert_eq!(error.kind(), ConsumeErrorKind::NoDeadLetterStream);
}

/// The stream of dead letters is full, and then gone, for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_dead_letters_find_no_place() {
    let desk = Desk::new(connection(shared_url()).await).await;
    let (name, subject) = desk.dead_letters().await;
    let topology = Topology::new(desk.connection.clone());
    let full = StreamSpec::new(&name, [&subject]).max_messages(2).discard(Discard::New);
    within(LIMIT, topology.update(&full, Changes::Any))
        .await
        .expect("updated");
    desk.publish_keys(6, 1).await;
    let consumer = desk.consumer(desk.spec()).dead_letters(&subject, 2);
    let consumer = within(LIMIT, consumer.open()).await.expect("open");
    let running = run(&consumer, |message: Message| async move {
        Err(HandlerError::retry(format!("attempt {}", message.attempt())))
    });
    dead(&consumer, 2).await;
    // Others were tried, and were refused.
    settles_where(
        LIMIT,
        || std::future::ready(consumer.stats().received),
        |received| *received > 20,
    )
    .await;
    assert_eq!(consumer.stats().dead, 2);
    let first: BTreeSet<u64> = letters(&desk, &name).await.into_keys().collect();
    within(LIMIT, topology.delete(&name)).await.expect("deleted");
    let room = StreamSpec::new(&name, [&subject]);
    within(LIMIT, topology.ensure(&room)).await.expect("made");
    desk.all_acked(LIMIT).await;
    drained(&consumer, running).await;
    let second = letters(&desk, &name).await;
    let all: BTreeSet<u64> = first.iter().chain(second.keys()).copied().collect();
    assert!(all.into_iter().eq(0..6));
    for letter in second.values() {
        let found = (
            header(letter, "Dead-Letter-Attempts"),
            header(letter, "Dead-Letter-Reason"),
        );
        assert_eq!(found, ("2", "attempt 2"), "of the last attempt that was made");
    }
}

/// Two processes at a consumer that nats-server delivers from twice at most.
async fn given_up(retention: Retention) {
    let desk = Desk::of(connection(shared_url()).await, |spec| spec.retention(retention)).await;
    let (name, subject) = desk.dead_letters().await;
    desk.foreign_consumer(r#""max_deliver":2"#).await;
    desk.publish_keys(20, 1).await;
    let mut consumers = Vec::new();
    for _ in 0..2 {
        let connection = connection(shared_url()).await;
        let consumer = Consumer::builder(connection, desk.spec()).create(false);
        let consumer = consumer.dead_letters(&subject, 9).backoff([Duration::from_millis(20)]);
        let consumer = within(LIMIT, consumer.open()).await.expect("open");
        let running = run(&consumer, |message: Message| async move {
            match number(&message) % 10 {
                1 => Err(HandlerError::retry(format!("attempt {}", message.attempt()))),
                _ => Ok(()),
            }
        });
        consumers.push((consumer, running));
    }
    desk.all_acked(LIMIT).await;
    for (consumer, running) in consumers {
        drained(&consumer, running).await;
    }
    let letters = letters(&desk, &name).await;
    assert!(letters.keys().copied().eq([1, 11]), "{letters:?}");
    for letter in letters.values() {
        let found = (
            header(letter, "Dead-Letter-Attempts"),
            header(letter, "Dead-Letter-Reason"),
        );
        assert_eq!(found, ("2", "attempt 2"));
    }
    let topology = Topology::new(desk.connection.clone());
    let left = if retention == Retention::WorkQueue { 0 } else { 20 };
    let info = || async { topology.info(&desk.stream).await.expect("info").messages };
    settles_where(LIMIT, info, |messages| *messages == left).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_deliveries_that_is_lower_counts() {
    given_up(Retention::Limits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_leaves_a_work_queue() {
    given_up(Retention::WorkQueue).await;
}

/// Nobody handles the last delivery: nats-server says that it gives up, and whoever hears it puts the message aside.
async fn unheard(retention: Retention) {
    let desk = Desk::of(connection(shared_url()).await, |spec| spec.retention(retention)).await;
    let (name, subject) = desk.dead_letters().await;
    desk.foreign_consumer(r#""ack_wait":300000000,"max_deliver":1"#).await;
    for n in 0..5 {
        let event = Event::new(format!("{}.x", desk.subject), n.to_string()).header("Tenant", "north");
        within(LIMIT, desk.bus.publish(event)).await.expect("published");
    }
    let mut listeners = Vec::new();
    for _ in 0..2 {
        let connection = connection(shared_url()).await;
        let consumer = Consumer::builder(connection, desk.spec())
            .create(false)
            .dead_letters(&subject, 9);
        // Without room it only listens.
        let consumer = within(LIMIT, consumer.concurrency(1).prefetch(1).open())
            .await
            .expect("open");
        let running = run(&consumer, |message: Message| async move {
            // The first one that comes is kept, and well.
            match number(&message) {
                0 | 1 => std::future::pending().await,
                _ => Ok(()),
            }
        });
        listeners.push((consumer, running));
    }
    let held = || std::future::ready(listeners.iter().map(|(consumer, _)| consumer.stats().held).sum::<u64>());
    settles_where(LIMIT, held, |held| *held == 2).await;
    // The other three go to somebody who says nothing.
    let spec = ConsumerSpec::new(&desk.stream, "c");
    let silent = within(LIMIT, desk.consumer(spec).create(false).open())
        .await
        .expect("open");
    let batch = within(LIMIT, silent.fetch(3, LIMIT)).await.expect("fetched");
    assert_eq!(batch.messages().len(), 3);
    drop(batch);
    let buried = || messages(&desk.connection, &name);
    settles_where(LIMIT, buried, |letters: &Vec<Letter>| letters.len() >= 3).await;
    let letters = letters(&desk, &name).await;
    assert!(
        letters.keys().copied().eq([2, 3, 4]),
        "what is handled is not put aside: {letters:?}"
    );
    for letter in letters.values() {
        let found = (header(letter, "Tenant"), header(letter, "Dead-Letter-Attempts"));
        assert_eq!(found, ("north", "1"));
        assert_eq!(header(letter, "Dead-Letter-Subject"), format!("{}.x", desk.subject));
    }
    let topology = Topology::new(desk.connection.clone());
    let left = if retention == Retention::WorkQueue { 2 } else { 5 };
    let info = || async { topology.info(&desk.stream).await.expect("info").messages };
    settles_where(LIMIT, info, |messages| *messages == left).await;
    for (_, running) in listeners {
        running.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_handled_is_put_aside_once_by_whoever_hears_it() {
    unheard(Retention::Limits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_handled_leaves_a_work_queue() {
    unheard(Retention::WorkQueue).await;
}

/// Two messages that ended with their processes four times, as far as is known: the one that is first in the stream comes
/// again after the other.
async fn with_suspects(desk: &Desk, spec: &ConsumerSpec) {
    desk.publish("x", 0).await;
    desk.publish("x", 1).await;
    desk.flush().await;
    let silent = within(LIMIT, desk.consumer(spec.clone()).open()).await.expect("open");
    for _ in 0..3 {
        let batch = within(LIMIT, silent.fetch(2, LIMIT)).await.expect("fetched");
        assert_eq!(batch.messages().len(), 2);
        batch.nak(Duration::ZERO);
    }
    let mut batches = Vec::new();
    for _ in 0..2 {
        batches.push(within(LIMIT, silent.fetch(1, LIMIT)).await.expect("fetched"));
    }
    for batch in batches {
        let is_first = batch.messages().first().expect("one").sequence() == 1;
        batch.nak(Duration::from_secs(u64::from(is_first)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_comes_before_what_has_ended_the_process_is_not_put_aside() {
    for in_batches in [false, true] {
        let desk = Desk::new(connection(shared_url()).await).await;
        let (name, dead) = desk.dead_letters().await;
        let spec = ConsumerSpec::new(&desk.stream, "c").ack_wait(Duration::from_secs(2));
        with_suspects(&desk, &spec).await;
        let consumer = desk.consumer(spec).dead_letters(dead, 2);
        let consumer = within(LIMIT, consumer.open()).await.expect("open");
        let running = if in_batches {
            let consumer = consumer.clone();
            let wait = Duration::from_millis(100);
            tokio::spawn(async move {
                consumer
                    .for_each_batch(2, wait, |_| async { Ok::<_, BatchError>(()) })
                    .await
            })
        } else {
            run(&consumer, |_| async { Ok(()) })
        };
        desk.all_acked(LIMIT).await;
        drained(&consumer, running).await;
        let stats = consumer.stats();
        assert_eq!((stats.handled, stats.dead), (1, 1), "{stats:?}");
        assert!(letters(&desk, &name).await.keys().copied().eq([0]), "{in_batches}");
    }
}

/// A drain does not wait for a suspect, and what is behind it does not pass it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_gives_suspects_back_with_what_is_behind_them() {
    for in_batches in [false, true] {
        let desk = Desk::new(connection(shared_url()).await).await;
        let (_, dead) = desk.dead_letters().await;
        // Nobody waits so long.
        let spec = ConsumerSpec::new(&desk.stream, "c").ack_wait(Duration::from_secs(600));
        desk.publish("x", 0).await;
        desk.flush().await;
        let silent = within(LIMIT, desk.consumer(spec.clone()).open()).await.expect("open");
        for _ in 0..4 {
            let batch = within(LIMIT, silent.fetch(1, LIMIT)).await.expect("fetched");
            assert_eq!(batch.messages().len(), 1);
            batch.nak(Duration::ZERO);
        }
        desk.publish("x", 1).await;
        desk.flush().await;
        let consumer = desk.consumer(spec).dead_letters(dead, 2).key(Key::Subject);
        let consumer = within(LIMIT, consumer.open()).await.expect("open");
        let running = if in_batches {
            let consumer = consumer.clone();
            let wait = Duration::from_millis(100);
            tokio::spawn(async move {
                consumer
                    .for_each_batch(2, wait, |_| async { Ok::<_, BatchError>(()) })
                    .await
            })
        } else {
            run(&consumer, |_| async { Ok(()) })
        };
        let received = || std::future::ready(consumer.stats().received);
        if in_batches {
            // They are counted when they are handled; until then nats-server knows that they are out.
            let info = || async { consumer.info().await.expect("info").ack_pending };
            settles(LIMIT, info, 2).await;
        } else {
            settles(LIMIT, received, 2).await;
        }
        drained(&consumer, running).await;
        let stats = consumer.stats();
        assert_eq!((stats.handled, stats.dead), (0, 0), "{in_batches}: {stats:?}");
        let batch = within(LIMIT, silent.fetch(2, LIMIT)).await.expect("fetched");
        assert_eq!(batch.messages().len(), 2, "both were given back");
    }
}

/// A process that handles messages of the stream, until a message kills it.
struct Worker {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(desk: &Desk, dead: &str) -> Self {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", "worker_process", "--nocapture"])
            .env("NATSTREAM_WORKER_STREAM", &desk.stream)
            .env("NATSTREAM_WORKER_DEAD", dead)
            .env("NATSTREAM_WORKER_URL", shared_url())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let stdout = child.stdout.take().expect("its output");
        Self {
            child,
            lines: BufReader::new(stdout).lines(),
        }
    }

    /// Hears what is done, and kills it when it asks for that.
    async fn run(mut self, done: &Mutex<BTreeSet<u64>>) {
        while let Some(line) = self.lines.next_line().await.expect("text") {
            if let Some(number) = line.strip_prefix("done ") {
                done.lock().insert(number.parse().expect("a number"));
            } else if line.starts_with("kill ") {
                // SIGKILL, in the middle of the handler.
                self.child.start_kill().expect("killed");
            }
        }
        self.child.wait().await.expect("it ends");
    }
}

/// Numbers whose handlers ask to be killed.
fn is_deadly(number: u64) -> bool {
    number % 100 == 50 && number / 100 < variable("NATSTREAM_KILLS").unwrap_or(2)
}

/// Not a test: the process that is killed, when the suite starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "that is how it is heard")]
async fn worker_process() {
    let (Ok(stream), Ok(dead), Ok(url)) = (
        env::var("NATSTREAM_WORKER_STREAM"),
        env::var("NATSTREAM_WORKER_DEAD"),
        env::var("NATSTREAM_WORKER_URL"),
    ) else {
        return;
    };
    let spec = ConsumerSpec::new(stream, "c").ack_wait(Duration::from_millis(700));
    let consumer = Consumer::builder(connection(&url).await, spec)
        .backoff([Duration::from_millis(20)])
        .concurrency(8)
        .dead_letters(dead, 2);
    let consumer = consumer.open().await.expect("open");
    let handler = |message: Message| async move {
        let number = number(&message);
        if is_deadly(number) {
            println!("\nkill {number}");
            std::future::pending().await
        }
        println!("\ndone {number}");
        Ok::<_, HandlerError>(())
    };
    // One that nobody kills ends by itself.
    let _ = tokio::time::timeout(LIMIT, consumer.for_each(handler)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_are_killed_lose_nothing_and_what_kills_them_is_put_aside() {
    let kills = variable("NATSTREAM_KILLS").unwrap_or(2);
    let events = kills * 100;
    let desk = Desk::new(connection(shared_url()).await).await;
    let (name, subject) = desk.dead_letters().await;
    for number in 0..events {
        desk.publish("x", number).await;
    }
    desk.flush().await;
    let done = Mutex::new(BTreeSet::new());
    let working = async {
        loop {
            Worker::start(&desk, &subject).run(&done).await;
        }
    };
    let topology = Topology::new(desk.connection.clone());
    let left = async || {
        // Not there before the first worker is.
        let info = topology.consumer(&desk.stream, "c").await.ok();
        let acked = info.is_some_and(|info| info.pending == 0 && info.ack_pending == 0);
        (acked, events - kills - done.lock().len() as u64)
    };
    tokio::select! {
        () = settles(LONG, left, (true, 0)) => {}
        () = working => {}
    }
    assert!(done.lock().iter().all(|number| !is_deadly(*number)));
    let letters = letters(&desk, &name).await;
    for number in (0..events).filter(|number| is_deadly(*number)) {
        let letter = letters.get(&number).expect("it is put aside");
        assert!(!header(letter, "Dead-Letter-Reason").is_empty());
        let attempts: u64 = header(letter, "Dead-Letter-Attempts").parse().expect("a number");
        assert!(attempts >= 4, "{attempts}");
    }
    assert_eq!(letters.len() as u64, kills, "what was beside it is not");
}
