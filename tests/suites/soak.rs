//! A steady load for as long as one likes, with faults every few seconds: nothing is lost, repeated or left behind.
//!
//! `NATSTREAM_MINUTES` is how long, `NATSTREAM_SEED` what follows from chance. `cargo xtask it soak --minutes N` sets them.
#![expect(clippy::print_stdout, reason = "the tables are for people who run it by hand")]

#[path = "soak/report.rs"]
mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use integration::load::{Caller, Plan, Progress, Rng, judge};
use integration::variable;
use integration::world::{Fault, Happened, Visitors, World};
use report::{Report, Sample};
use testkit::within;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Without `NATSTREAM_MINUTES`.
const SHORT: Duration = Duration::from_secs(4);

/// Calls at a time: as many as two processors can do with heartbeats of a second in a debug build.
const CALLERS: usize = 60;

/// Calls of a visitor, a connection that comes and goes.
const VISIT: u32 = 10;

const RESPONDERS: usize = 3;

/// How often a line is printed.
const LINE: Duration = Duration::from_secs(10);

/// What the end may take: calls are short, and a fault is over in a few seconds.
const END: Duration = Duration::from_secs(60);

/// What everybody needs.
#[derive(Clone, Debug)]
struct Load {
    seed: u64,
    /// The number of the next call.
    next: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    happened: Happened,
    report: Report,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steady_load_survives_faults_and_leaves_nothing_behind() {
    let time = variable("NATSTREAM_MINUTES").map_or(SHORT, |minutes| Duration::from_secs(60 * minutes));
    let seed = variable("NATSTREAM_SEED").unwrap_or(0);
    let mut world = World::start(seed, RESPONDERS).await;
    let load = Load {
        seed,
        next: Arc::default(),
        stop: Arc::default(),
        happened: world.happened().clone(),
        report: Report::default(),
    };
    let mut callers = JoinSet::new();
    let caller = world.caller(&Progress::default());
    for _ in 0..CALLERS {
        callers.spawn_on(load.clone().calls(caller.clone()), world.asker().handle());
    }
    let mut visitors = JoinSet::new();
    visitors.spawn(load.clone().visits(world.visitors()));

    let began = Instant::now();
    load.disturb(&mut world, began + time).await;
    load.stop.store(true, Ordering::Relaxed);
    drop(caller);
    within(END, callers.join_all()).await;
    within(END, visitors.join_all()).await;
    world.settled().await;
    println!("{}", load.report.sample(Sample::take(began, &world), world.happened()));
    println!("{}", load.report.table(world.happened(), world.ledger()));
    load.report.check();
    assert_eq!(world.ledger().wrong(), [""; 0]);
    world.end().await;
}

impl Load {
    /// Lets things fail until `end`, and takes samples.
    async fn disturb(&self, world: &mut World, end: Instant) {
        let mut rng = Rng::new(self.seed, 0);
        let began = Instant::now();
        let mut line = Instant::now() + LINE;
        // What is wrong is known: more of it would only take time.
        while Instant::now() < end && !self.report.is_wrong() {
            // sleep: the load runs meanwhile
            sleep(rng.millis(500..=3000)).await;
            world.suffer(Fault::draw(&mut rng, RESPONDERS)).await;
            if Instant::now() >= line {
                line += LINE;
                println!("{}", self.report.sample(Sample::take(began, world), world.happened()));
            }
        }
    }

    fn plan(&self) -> Plan {
        Plan::draw(self.seed, self.next.fetch_add(1, Ordering::Relaxed), 0)
    }

    /// Makes one call after another.
    async fn calls(self, caller: Caller) {
        while !self.stop.load(Ordering::Relaxed) {
            let outcome = caller.clone().run(self.plan()).await;
            self.report.call(&outcome, judge(&outcome, &self.happened));
        }
    }

    /// Connects, makes some calls and leaves, again and again.
    async fn visits(self, visitors: Visitors) {
        while !self.stop.load(Ordering::Relaxed) {
            let visitor = visitors.come().await;
            let caller = visitor.caller(visitors.subject(), &Progress::default());
            let mut calls = JoinSet::new();
            for _ in 0..VISIT {
                calls.spawn_on(caller.clone().run(self.plan()), visitor.handle());
            }
            drop(caller);
            for outcome in calls.join_all().await {
                self.report.call(&outcome, judge(&outcome, &self.happened));
            }
            visitor.leave().await;
            self.report.visit();
        }
    }
}
