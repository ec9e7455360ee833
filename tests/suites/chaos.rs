//! Many calls while everything fails: each gets its items, each once and in order, and the verdict that it must get.
//!
//! A run follows from its seed: the calls, the faults, and how far the calls are when these come. `NATSTREAM_SEEDS` is the
//! number of seeds, `NATSTREAM_SEED` runs one and shows its faults. `cargo xtask it chaos --seeds N` sets them.
#![expect(clippy::print_stdout, reason = "totals are for people who run it by hand")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use integration::load::{PER_CALL, Plan, Progress, Rng, Tally, judge};
use integration::variable;
use integration::world::{Fault, World};
use testkit::within;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 4;

/// Calls of a run.
const CALLS: u32 = 200;

/// Responders of a run.
const RESPONDERS: usize = 2;

/// Runs at a time: they wait more than they work.
const AT_A_TIME: u64 = 4;

/// A run takes 5 s to 15 s: what is lost without a word is noticed after 5 s.
const LIMIT: Duration = Duration::from_secs(180);

/// What the calls of a run became of.
#[derive(Debug, Default)]
struct Totals {
    runs: u64,
    tally: Tally,
    faults: BTreeMap<&'static str, u64>,
    closed: BTreeMap<String, u64>,
    failed: Vec<u64>,
}

#[test]
fn every_call_gets_what_its_handler_sent() {
    let (first, seeds) = match variable("NATSTREAM_SEED") {
        Some(seed) => (seed, 1),
        None => (0, variable("NATSTREAM_SEEDS").unwrap_or(SEEDS)),
    };
    let next = AtomicU64::new(first);
    let totals = Mutex::new(Totals::default());
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(seeds) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        break;
                    }
                    // A run that panics says so itself; the others go on.
                    let ended = thread::scope(|scope| scope.spawn(|| attempt(seed, &totals)).join().is_ok());
                    if !ended {
                        totals.lock().expect("no panic").failed.push(seed);
                        println!("seed {seed} failed with {:?}", faults(seed));
                        println!("again: cargo xtask it chaos --seed {seed}");
                    }
                }
            });
        }
    });
    let totals = totals.into_inner().expect("no panic");
    println!("\n{} runs in {:.1?}\n\n{}", totals.runs, began.elapsed(), totals.tally);
    println!(
        "{}\n{}",
        table("faults", &totals.faults),
        table("handlers, by what closed() told", &totals.closed)
    );
    if let Some(seed) = totals.failed.iter().min() {
        panic!("failed: {:?}; again: cargo xtask it chaos --seed {seed}", totals.failed);
    }
}

fn table<K: AsRef<str>>(name: &str, counts: &BTreeMap<K, u64>) -> String {
    let rows = counts
        .iter()
        .map(|(name, count)| format!("| {} | {count} |\n", name.as_ref()));
    format!("| {name} | |\n|---|---|\n{}", rows.collect::<String>())
}

/// One run.
fn attempt(seed: u64, totals: &Mutex<Totals>) {
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(within(LIMIT, run(seed, totals)));
}

async fn run(seed: u64, totals: &Mutex<Totals>) {
    let shows = variable("NATSTREAM_SEED").is_some();
    let mut world = World::start(seed, RESPONDERS).await;
    let progress = Progress::default();
    let caller = world.caller(&progress);
    let mut calls = JoinSet::new();
    for call in 0..CALLS {
        let plan = Plan::draw(seed, call, CALLS);
        calls.spawn_on(caller.clone().run(plan), world.asker().handle());
    }
    drop(caller);
    for (goal, fault) in faults(seed) {
        progress.reached(goal).await;
        if progress.now() >= u64::from(CALLS) * PER_CALL {
            break;
        }
        if shows {
            println!("at {} of {}: {fault:?}", progress.now(), u64::from(CALLS) * PER_CALL);
        }
        world.suffer(fault).await;
    }
    let outcomes = calls.join_all().await;

    let mut tally = Tally::default();
    let mut wrong = world.ledger().wrong();
    for outcome in &outcomes {
        tally.add(outcome);
        wrong.extend(judge(outcome, world.happened()).err());
    }
    drop(outcomes);
    assert!(
        wrong.is_empty(),
        "seed {seed}, {} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    world.settled().await;
    {
        let mut totals = totals.lock().expect("no panic");
        totals.runs += 1;
        totals.tally += tally;
        for (kind, count) in world.happened().counts() {
            *totals.faults.entry(kind).or_default() += count;
        }
        for (reason, count) in world.ledger().reasons() {
            *totals.closed.entry(reason).or_default() += count;
        }
    }
    world.end().await;
}

/// The faults of a run, each with the progress at which it comes. Every eighth run has none.
fn faults(seed: u64) -> Vec<(u64, Fault)> {
    let mut rng = Rng::new(seed, 0);
    let count = if seed % 8 == 3 { 0 } else { rng.within(1..=8) };
    let all = u64::from(CALLS) * PER_CALL;
    let mut faults: Vec<_> = (0..count)
        .map(|_| (rng.within(0..=all * 9 / 10), Fault::draw(&mut rng, RESPONDERS)))
        .collect();
    faults.sort_by_key(|(goal, _)| *goal);
    faults
}
