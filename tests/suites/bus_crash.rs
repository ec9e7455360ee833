//! A process with an outbox is killed at random instants, and so is the server: what was accepted is delivered once.
//!
//! Long form: `NATSTREAM_KILLS=300`.
#![allow(
    clippy::print_stdout,
    reason = "the process tells its parent, and the seed is for people"
)]

use std::collections::HashSet;
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use integration::bus::{numbers, stream};
use integration::sinks::Random;
use integration::{connection, variable};
use natstream::eventbus::topology::StreamSpec;
use natstream::eventbus::{Outbox, SpoolLevel};
use natstream::{ConnectConfig, Event};
use testkit::{NatsServer, within};

/// Kills in the short form.
const KILLS: u64 = 25;

const LONG: Duration = Duration::from_secs(90);

fn level(number: u64) -> SpoolLevel {
    if number.is_multiple_of(2) {
        SpoolLevel::Process
    } else {
        SpoolLevel::Power
    }
}

/// Not a test: the process that is killed, when the suite starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_process() {
    let (Ok(dir), Ok(url)) = (env::var("NATSTREAM_OUTBOX_DIR"), env::var("NATSTREAM_OUTBOX_URL")) else {
        return;
    };
    let first = variable("NATSTREAM_OUTBOX_FIRST").expect("where to begin");
    let last = variable("NATSTREAM_OUTBOX_LAST").expect("where to end");
    let outbox = Outbox::builder(dir).level(level(first)).open().await.expect("open");
    outbox.connect(ConnectConfig::new(url).connect_timeout(Duration::from_secs(1)));
    let mut out = std::io::stdout();
    for number in first..last {
        let event = Event::new("s", number.to_string());
        outbox.enqueue(event).await.expect("accepted");
        writeln!(out, "accepted {number}").expect("a parent");
    }
    outbox.flush(LONG).await.expect("all delivered");
    writeln!(out, "delivered {}", outbox.stats().spooled).expect("a parent");
    outbox.close(LONG).await.expect("closed");
}

fn start(dir: &Path, url: &str, first: u64, last: u64) -> Child {
    Command::new(env::current_exe().expect("this program"))
        .args(["publishing_process", "--exact", "--nocapture"])
        .env("NATSTREAM_OUTBOX_DIR", dir)
        .env("NATSTREAM_OUTBOX_URL", url)
        .env("NATSTREAM_OUTBOX_FIRST", first.to_string())
        .env("NATSTREAM_OUTBOX_LAST", last.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program runs")
}

/// The number in a line of the process, if it says this word.
fn said(line: &str, word: &str) -> Option<u64> {
    // What the test runner prints may stand before it, without an end of its line.
    let at = line.find(word)?;
    line[at + word.len()..].trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_is_delivered_once_whoever_is_killed() {
    let seed = variable("NATSTREAM_SEED").unwrap_or_else(Random::seed);
    println!("NATSTREAM_SEED={seed}");
    let mut random = Random(seed);
    let mut server = NatsServer::builder().jetstream(true).start().await;
    let own = connection(&server.url()).await;
    // Longer than the suite, so that no id is forgotten.
    let spec = StreamSpec::new("S", ["s"]).duplicate_window(Duration::from_secs(3600));
    stream(&own, spec).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut accepted = HashSet::new();
    let mut first = 0;
    for _ in 0..variable("NATSTREAM_KILLS").unwrap_or(KILLS) {
        if random.up_to(3) == 1 {
            if server.is_running() {
                server.kill();
            } else {
                server.restart().await;
            }
        }
        let mut child = start(dir.path(), &server.url(), first, u64::MAX);
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"))
            .lines()
            .map_while(Result::ok);
        // At any instant behind so many.
        let enough = first + random.up_to(3000) as u64;
        for number in lines.by_ref().filter_map(|line| said(&line, "accepted ")) {
            accepted.insert(number);
            if number >= enough {
                break;
            }
        }
        child.kill().expect("it runs");
        accepted.extend(lines.filter_map(|line| said(&line, "accepted ")));
        child.wait().expect("killed");
        first = accepted.iter().max().map_or(0, |last| last + 1) + 1_000_000;
    }
    if !server.is_running() {
        server.restart().await;
    }
    let mut last = start(dir.path(), &server.url(), first, first + 10);
    let lines = BufReader::new(last.stdout.take().expect("a pipe")).lines();
    let left = lines.map_while(Result::ok).find_map(|line| said(&line, "delivered "));
    assert_eq!(left, Some(0), "nothing is left in the files");
    accepted.extend(first..first + 10);
    last.wait().expect("it ends");
    let stored = within(LONG, Box::pin(numbers(&own, "S"))).await;
    let distinct: HashSet<u64> = stored.iter().copied().collect();
    let lost: Vec<&u64> = accepted.difference(&distinct).collect();
    println!("{} were accepted, {} are stored", accepted.len(), stored.len());
    assert!(
        lost.is_empty(),
        "{} were lost: {:?}",
        lost.len(),
        &lost[..lost.len().min(10)]
    );
    assert_eq!(stored.len(), distinct.len(), "none is there twice");
}
