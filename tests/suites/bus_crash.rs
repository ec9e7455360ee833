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

/// Bytes of files that one event which no stream takes would fill in time.
const ROOM: u64 = 200_000;

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
    let is_stuck = variable("NATSTREAM_OUTBOX_STUCK").is_some();
    let builder = Outbox::builder(dir).level(level(first));
    let builder = if is_stuck { builder.max_bytes(ROOM) } else { builder };
    let outbox = builder.open().await.expect("open");
    outbox.connect(ConnectConfig::new(url).connect_timeout(Duration::from_secs(1)));
    let mut out = std::io::stdout();
    if is_stuck {
        let event = Event::new("late", first.to_string());
        outbox.enqueue(event).await.expect("accepted");
        writeln!(out, "stuck {first}").expect("a parent");
    }
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
    command(dir, url, first, last).spawn().expect("this program runs")
}

fn command(dir: &Path, url: &str, first: u64, last: u64) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .args(["publishing_process", "--exact", "--nocapture"])
        .env("NATSTREAM_OUTBOX_DIR", dir)
        .env("NATSTREAM_OUTBOX_URL", url)
        .env("NATSTREAM_OUTBOX_FIRST", first.to_string())
        .env("NATSTREAM_OUTBOX_LAST", last.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_stream_takes_is_delivered_once_when_one_does_whoever_is_killed() {
    let seed = variable("NATSTREAM_SEED").unwrap_or_else(Random::seed);
    println!("NATSTREAM_SEED={seed}");
    let mut random = Random(seed);
    let server = NatsServer::builder().jetstream(true).start().await;
    let own = connection(&server.url()).await;
    let spec = StreamSpec::new("S", ["s"]).duplicate_window(Duration::from_secs(3600));
    stream(&own, spec).await;
    let dir = tempfile::tempdir().expect("a directory");
    let (mut accepted, mut stuck) = (HashSet::new(), Vec::new());
    let run = |number: u64, last: u64| {
        let mut command = command(dir.path(), &server.url(), number, last);
        command.env("NATSTREAM_OUTBOX_STUCK", "1");
        let mut child = command.spawn().expect("this program runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        (child, lines.map_while(Result::ok))
    };
    for round in 0..variable("NATSTREAM_KILLS").unwrap_or(KILLS).div_ceil(8) {
        let first = round * 1_000_001;
        // More than there is room for beside the event that is stuck.
        let enough = first + 1500 + random.up_to(3000) as u64;
        let (mut child, mut lines) = run(first, u64::MAX);
        for line in lines.by_ref() {
            stuck.extend(said(&line, "stuck "));
            let number = said(&line, "accepted ");
            accepted.extend(number);
            if number.is_some_and(|number| number >= enough) {
                break;
            }
        }
        child.kill().expect("it runs");
        accepted.extend(lines.filter_map(|line| said(&line, "accepted ")));
        child.wait().expect("killed");
    }
    stream(&own, StreamSpec::new("LATE", ["late"])).await;
    let first = 1_000_000_000_000;
    let (mut last, mut lines) = run(first, first + 10);
    assert_eq!(lines.find_map(|line| said(&line, "delivered ")), Some(0));
    last.wait().expect("it ends");
    stuck.push(first);
    accepted.extend(first..first + 10);
    let mut late = within(LONG, Box::pin(numbers(&own, "LATE"))).await;
    late.sort_unstable();
    assert_eq!(late, stuck, "each once");
    let stored = within(LONG, Box::pin(numbers(&own, "S"))).await;
    let distinct: HashSet<u64> = stored.iter().copied().collect();
    assert_eq!(stored.len(), distinct.len(), "none is there twice");
    assert!(accepted.is_subset(&distinct), "none is lost");
}
