//! A recorder of a stream is killed at any instant, while messages are published and nats-server dies, too: the next one goes
//! on, and in the end the files have each message once.
//!
//! `NATSTREAM_KILLS` is the number of kills (15, and 300 in the long form), `NATSTREAM_SEED` repeats a run.
#![allow(clippy::print_stdout, reason = "the seed and the figures are for people")]

use std::sync::Arc;

use integration::bus::stream;
use integration::recording::{self, MODES, Mode, Recorder, Task, verify};
use integration::sinks::{Random, directory};
use integration::{LIMIT, connection, variable};
use natstream::eventbus::topology::{Retention, StreamSpec, Topology};
use natstream::sinks::ReadFormat;
use natstream::{Bus, Event};
use testkit::{NatsServer, within};
use tokio::sync::Semaphore;

/// Messages that may come between two kills.
const CHUNK: usize = 3000;

/// Not a test: the process that is killed, when the suite starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorder_process() {
    recording::process().await;
}

/// Messages of all sizes on several subjects; it publishes as many as there are permits.
async fn publish(bus: Bus, stream: String, permits: Arc<Semaphore>) {
    for number in 0_usize.. {
        let Ok(permit) = permits.acquire().await else { break };
        permit.forget();
        let payload = format!("{number} {}", "p".repeat(number * 37 % 300));
        let event = Event::new(format!("{stream}.{}", number % 7), payload);
        bus.enqueue(event).await.expect("accepted");
    }
    within(LIMIT, bus.flush(LIMIT)).await.expect("all acked");
}

/// Kills it after some of its promises, or at once: gives the last promise.
async fn kill(task: &Task<'_>, promised: u64, published: u64, random: &mut Random) -> u64 {
    let mut recorder = Recorder::start(task);
    let wanted = random.up_to(12);
    // Some die before they have said anything: while they look at what the one before has left.
    if wanted > 2 {
        for _ in 2..wanted {
            if recorder.safe >= published || !recorder.news().await {
                break;
            }
        }
    } else {
        // sleep: this is the instant at which it is killed.
        tokio::time::sleep(std::time::Duration::from_micros(random.up_to(60_000) as u64)).await;
    }
    for _ in 0..random.up_to(200_000) {
        std::hint::spin_loop();
    }
    recorder.kill().await;
    if let Some(began) = recorder.began {
        assert!(began >= promised, "{began} of {promised} that were promised");
    }
    recorder.safe.max(promised)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_recorder_keeps_each_message_once() {
    let kills = variable("NATSTREAM_KILLS").unwrap_or(15);
    let seed = variable("NATSTREAM_SEED").unwrap_or_else(Random::seed);
    println!("NATSTREAM_SEED={seed}");
    let mut random = Random(seed);
    let mut nats = NatsServer::builder().jetstream(true).start().await;
    let each = kills.div_ceil(MODES.len() as u64).min(10);
    let (mut messages, mut files, mut restarts) = (0, 0, 0);
    for round in 0..kills.div_ceil(each) {
        let mode = MODES[usize::try_from(round).unwrap() % MODES.len()];
        let (_guard, dir) = directory();
        let (connection, url) = (connection(&nats.url()).await, nats.url());
        let name = format!("S{round}");
        stream(&connection, StreamSpec::new(&name, [format!("{name}.>")])).await;
        let permits = Arc::new(Semaphore::new(0));
        let bus = within(LIMIT, Bus::open(connection.clone())).await.expect("open");
        let publishing = tokio::spawn(publish(bus, name.clone(), permits.clone()));
        let mut task = Task {
            url: &url,
            stream: &name,
            durable: "recorder",
            dir: &dir,
            mode,
            until: None,
            zone: None,
        };
        let (mut promised, mut published) = (0, 0);
        for turn in 0..each.min(kills - round * each) {
            permits.add_permits(CHUNK);
            published += CHUNK as u64;
            if turn % 3 == 2 {
                nats.kill();
                within(LIMIT, nats.restart()).await;
                restarts += 1;
            }
            promised = kill(&task, promised, published, &mut random).await;
        }
        permits.close();
        within(LIMIT, publishing).await.expect("no panic");
        let topology = Topology::new(connection.clone());
        let last = within(LIMIT, topology.info(&name)).await.expect("info").last_sequence;
        assert!(last > 0, "{mode:?}, seed {seed}");
        task.until = Some(last);
        Recorder::start(&task).ended().await;
        let verified = verify(&connection, &name, &dir, last).await;
        if mode != Mode::Unsynced {
            assert_eq!(verified.recorders[0].payloads, last, "{mode:?}, seed {seed}");
        }
        messages += last;
        files += verified.files.files;
        // What it has is not needed any more.
        within(LIMIT, topology.delete(&name)).await.expect("deleted");
    }
    println!("{kills} kills, {restarts} restarts of nats-server, {messages} messages in {files} files");
}

/// What is acked there is gone from the stream: only the files have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_recorder_of_a_work_queue_has_all_that_it_has_acked() {
    let kills = variable("NATSTREAM_KILLS").unwrap_or(15).div_ceil(3);
    let seed = variable("NATSTREAM_SEED").unwrap_or_else(Random::seed);
    println!("NATSTREAM_SEED={seed}");
    let mut random = Random(seed);
    let nats = NatsServer::builder().jetstream(true).start().await;
    let (_guard, dir) = directory();
    let (connection, url) = (connection(&nats.url()).await, nats.url());
    stream(
        &connection,
        StreamSpec::new("Q", ["Q.>"]).retention(Retention::WorkQueue),
    )
    .await;
    let permits = Arc::new(Semaphore::new(0));
    let bus = within(LIMIT, Bus::open(connection.clone())).await.expect("open");
    let publishing = tokio::spawn(publish(bus, "Q".to_owned(), permits.clone()));
    let mut task = Task {
        url: &url,
        stream: "Q",
        durable: "recorder",
        dir: &dir,
        mode: Mode::Json,
        until: None,
        zone: None,
    };
    let (mut promised, mut published) = (0, 0);
    for _ in 0..kills {
        permits.add_permits(CHUNK);
        published += CHUNK as u64;
        promised = kill(&task, promised, published, &mut random).await;
    }
    permits.close();
    within(LIMIT, publishing).await.expect("no panic");
    let topology = Topology::new(connection.clone());
    let last = within(LIMIT, topology.info("Q")).await.expect("info").last_sequence;
    task.until = Some(last);
    Recorder::start(&task).ended().await;
    assert_eq!(within(LIMIT, topology.info("Q")).await.expect("info").messages, 0);
    let verified = natstream::recorder::verify(&dir, ReadFormat::JsonLines).expect("readable");
    assert!(verified.is_whole(), "seed {seed}: {verified:?}");
    let found = (verified.records, verified.sequences, verified.gaps);
    assert_eq!(found, (last, Some((1, last)), 0), "seed {seed}");
}
