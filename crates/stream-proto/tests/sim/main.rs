//! Both machines against each other on a simulated NATS, in virtual time, from a seed.
//!
//! `NATSTREAM_SIM_SEEDS` is the number of seeds, `NATSTREAM_SIM_FIRST` the first of them. `NATSTREAM_SIM_SEED` runs one and
//! shows every message. `NATSTREAM_SIM_FAILURES` is how many failures end it, 1 by default. `cargo xtask sim` sets them.
#![expect(clippy::print_stdout, reason = "totals and traces are for people who run it by hand")]

mod attempt;
mod caller;
mod handler;
mod judge;
mod nats;
mod plan;
mod reader;
mod record;
mod responder;
mod rng;
mod socket;
mod time;
mod trace;
mod world;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use caller::Mutation;
use record::Totals;
use trace::Trace;
use world::Failure;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 500;

/// Lines of the trace that a failure shows.
const TAIL: usize = 60;

/// Seeds between two lines of progress.
const PROGRESS: u64 = 2_000;

#[test]
fn every_call_gets_its_items_and_one_verdict() {
    if let Some(seed) = variable("NATSTREAM_SIM_SEED") {
        let trace = Trace::on();
        let result = attempt(seed, None, &trace);
        println!("{}", trace.lines().join("\n"));
        match result {
            Ok(totals) => println!("{}", show(&totals)),
            Err(failure) => panic!("{}", describe(seed, &failure)),
        }
        return;
    }
    let first = variable("NATSTREAM_SIM_FIRST").unwrap_or(0);
    let seeds = variable("NATSTREAM_SIM_SEEDS").unwrap_or(SEEDS);
    let most_failures = variable("NATSTREAM_SIM_FAILURES").unwrap_or(1);
    let mut totals = Totals::default();
    let mut failures = Vec::new();
    for seed in first..first + seeds {
        match attempt(seed, None, &Trace::default()) {
            Ok(more) => totals.add(more),
            Err(failure) => {
                println!("{}\n", describe(seed, &failure));
                failures.push(seed);
                if failures.len() as u64 >= most_failures {
                    break;
                }
            }
        }
        if (seed - first + 1).is_multiple_of(PROGRESS) {
            println!("sim: {} of {seeds} seeds, {} calls", seed - first + 1, totals.calls);
        }
    }
    println!("{}", show(&totals));
    if let Some(seed) = failures.first() {
        // Once more, with its trace.
        let trace = Trace::on();
        let failure = attempt(*seed, None, &trace).expect_err("a seed always does the same");
        let lines = trace.lines();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        panic!("{tail}\n{}", describe(*seed, &failure));
    }
}

#[test]
fn a_caller_that_leaves_its_aliases_is_caught() {
    caught_within(200, Mutation::NoBareEmpty);
}

#[test]
fn a_caller_that_takes_503_for_a_verdict_is_caught() {
    caught_within(200, Mutation::NoRespondersIsVerdict);
}

/// A host that breaks a rule fails on one of so many seeds, which another host passes.
fn caught_within(seeds: u64, mutation: Mutation) {
    let fails = |seed, mutation| attempt(seed, mutation, &Trace::default()).is_err();
    let caught = (0..seeds).find(|seed| fails(*seed, Some(mutation)) && !fails(*seed, None));
    assert!(caught.is_some(), "{seeds} seeds do not notice {mutation:?}");
    println!("{mutation:?} is caught by seed {caught:?}");
}

/// A run; what panics in it counts as a check that failed.
fn attempt(seed: u64, mutation: Option<Mutation>, trace: &Trace) -> Result<Totals, Failure> {
    catch_unwind(AssertUnwindSafe(|| world::run(seed, mutation, trace))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = format!("a panic: {}", text.unwrap_or_default());
        Err(Failure { step: 0, now: 0, what })
    })
}

fn describe(seed: u64, failure: &Failure) -> String {
    let Failure { step, now, what } = failure;
    let seconds = std::time::Duration::from_nanos(*now);
    format!("seed {seed}, step {step}, after {seconds:?}: {what}\nreplay: cargo xtask sim --seed {seed}")
}

fn show(totals: &Totals) -> String {
    let mut lines = vec![format!("sim: {} runs, {} calls", totals.runs, totals.calls)];
    lines.push("verdicts:".to_owned());
    lines.extend(
        totals
            .verdicts
            .iter()
            .map(|(name, count)| format!("  {count:>9}  {name}")),
    );
    lines.push("counted:".to_owned());
    lines.extend(
        totals
            .counts
            .iter()
            .map(|(name, count)| format!("  {count:>9}  {name}")),
    );
    lines.join("\n")
}

fn variable(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
