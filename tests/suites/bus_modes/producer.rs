//! A producer that is killed: what was acked is there, and nothing is there twice or by half.

use std::collections::HashMap;
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use integration::bus::{numbers, stream};
use integration::connection;
use natstream::eventbus::topology::StreamSpec;
use natstream::eventbus::{AtomicBatch, AtomicBus, Dedup, FastBus, Ordering};
use natstream::{Bus, Event};
use testkit::{NatsServer, within};

use super::LONG;

/// Events of an atomic batch, and of a batch.
const BATCH: u64 = 50;

/// Not a test: the process that is killed, when the suite starts it. It says up to where all is acked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_process() {
    let (Ok(mode), Ok(url)) = (env::var("NATSTREAM_MODE"), env::var("NATSTREAM_MODE_URL")) else {
        return;
    };
    let connection = connection(&url).await;
    let event = |n: u64| Event::new(format!("s.{}", n % 5), n.to_string());
    let mut out = std::io::stdout();
    let mut acked = |upto: u64| writeln!(out, "acked {upto}").expect("a parent");
    let mut next = 0..u64::MAX;
    match &*mode {
        "atomic" => {
            let bus = AtomicBus::open(connection, "S").await.expect("open");
            loop {
                let batch: AtomicBatch = next.by_ref().take(BATCH as usize).map(event).collect();
                bus.commit(batch).await.expect("stored");
                acked(next.start);
            }
        }
        "fast" => {
            let bus = FastBus::open(connection, "S").await.expect("open");
            for n in next {
                bus.enqueue(event(n)).await.expect("accepted");
                // In order, so that a number says which.
                if n % 100 == 0 {
                    acked(bus.stats().acked);
                }
            }
        }
        "one_by_one" => {
            let bus = Bus::open(connection).await.expect("open");
            for n in next {
                bus.publish(event(n)).await.expect("acked");
                acked(n + 1);
            }
        }
        mode => {
            let builder = Bus::builder(connection);
            let builder = match mode {
                "without_ids" => builder.dedup(Dedup::Off),
                "strict" => builder.ordering(Ordering::Strict),
                _ => builder,
            };
            let bus = builder.open().await.expect("open");
            loop {
                let report = bus.publish_batch(next.by_ref().take(BATCH as usize).map(event)).await;
                assert!(report.is_complete());
                acked(next.start);
            }
        }
    }
}

fn start(mode: &str, url: &str) -> Child {
    Command::new(env::current_exe().expect("this program"))
        .args(["producer::publishing_process", "--exact", "--nocapture"])
        .env("NATSTREAM_MODE", mode)
        .env("NATSTREAM_MODE_URL", url)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program runs")
}

/// What a line of the process says is acked.
fn said(line: &str) -> Option<u64> {
    // What the test runner prints may stand before it, without an end of its line.
    let at = line.find("acked ")?;
    line[at + "acked ".len()..].trim().parse().ok()
}

async fn killed(mode: &str) {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let own = connection(&nats.url()).await;
    let spec = StreamSpec::new("S", ["s.>"]).allow_atomic(true).allow_batched(true);
    stream(&own, spec).await;
    let mut child = start(mode, &nats.url());
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut lines = lines.map_while(Result::ok).filter_map(|line| said(&line));
    let mut acked = lines.by_ref().find(|acked| *acked >= 2000).expect("it publishes");
    child.kill().expect("it runs");
    acked = lines.last().unwrap_or(acked);
    child.wait().expect("killed");
    let stored = within(LONG, Box::pin(numbers(&own, "S"))).await;
    let mut copies: HashMap<u64, u64> = HashMap::new();
    for n in &stored {
        *copies.entry(*n).or_default() += 1;
    }
    assert_eq!(copies.len(), stored.len(), "nothing is there twice");
    let lost = (0..acked).find(|n| !copies.contains_key(n));
    assert_eq!(lost, None, "of {acked} that were acked");
    for lane in 0..5 {
        let own = stored.iter().filter(|n| *n % 5 == lane);
        assert!(own.is_sorted(), "a subject keeps its order");
    }
    if mode == "atomic" {
        assert_eq!(stored.len() as u64 % BATCH, 0, "no batch is there by half");
    }
}

macro_rules! killed {
    ($($mode:ident)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $mode() {
            killed(stringify!($mode)).await;
        }
    )* };
}

killed! { one_by_one window without_ids strict atomic fast }
