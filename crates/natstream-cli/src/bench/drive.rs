//! Makes calls: some at a time, for a while or so many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use natstream::connect::ConnectionsStats;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval_at, sleep};

use super::ends::Ends;
use super::figures::{Figures, Live};
use super::gate::Gate;
use super::load::{Caller, Order, Outcome};
use super::report;
use super::spent::{Spent, Stopwatch};
use crate::clock::now;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::session;

/// Wait before the next call after one that failed: nobody may be there for a while.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Calls at a time.
    pub(super) callers: u64,
    pub(super) order: Order,
    pub(super) window: Option<u64>,
    pub(super) until: Until,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// No call begins later. Failures are counted.
    Time(Duration),
    /// So many calls, of all callers together, or for so long: the last ones come to their ends. The first failure ends them.
    Calls(u64, Option<Duration>),
    /// Each caller makes one call, and all of these are open at the same time.
    Once,
}

/// A run that is over.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) spent: Spent,
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) figures: Figures,
    pub(super) callers: ConnectionsStats,
}

/// Runs it. A signal ends it.
pub(super) async fn drive(context: &mut Context, ends: &Ends, plan: &Plan) -> Result<Ran, Failure> {
    let live = Arc::new(Live::default());
    let (is_once, budget) = match plan.until {
        Until::Time(_) => (false, u64::MAX),
        Until::Calls(calls, _) => (false, calls),
        Until::Once => (true, plan.callers),
    };
    let caller = Caller {
        pool: ends.pool(),
        subject: ends.subject.clone(),
        order: plan.order,
        window: plan.window,
        gate: is_once.then(|| Arc::new(Gate::new(plan.callers))),
        live: live.clone(),
    };
    let run = Arc::new(Run {
        left: AtomicU64::new(budget),
        figures: Mutex::new(Figures::new()),
        goes_on: matches!(plan.until, Until::Time(_)),
        stop: watch::Sender::new(false),
    });
    let (watch, begin) = (Stopwatch::start(), now());
    let mut tasks = JoinSet::new();
    for _ in 0..plan.callers {
        tasks.spawn(run.clone().calls(caller.clone()));
    }
    let mut seconds = interval_at((begin + SECOND).into(), SECOND);
    let mut end = std::pin::pin!(async {
        match plan.until {
            Until::Time(time) | Until::Calls(_, Some(time)) => sleep(time).await,
            Until::Calls(_, None) | Until::Once => std::future::pending().await,
        }
    });
    let (mut second, mut before, mut is_over) = (0, 0, false);
    loop {
        tokio::select! {
            biased;
            () = &mut end, if !is_over => {
                if run.goes_on {
                    break;
                }
                is_over = true;
                run.left.store(0, Ordering::Relaxed);
            }
            signal = context.interrupts.next() => return Err(session::interrupted(signal)),
            done = tasks.join_next() => match done {
                Some(done) => done.map_err(|error| Failure::new(Exit::Failed, anyhow::Error::new(error)))?,
                None => break,
            },
            _ = seconds.tick() => {
                second += 1;
                let items = live.items();
                context.console.progress(&report::progress(second, items - before, &ends.callers.stats(), &live));
                before = items;
            }
        }
    }
    let (spent, items, bytes, callers) = (watch.read(), live.items(), live.bytes(), ends.callers.stats());
    run.stop.send_replace(true);
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| Failure::new(Exit::Failed, anyhow::Error::new(error)))?;
    }
    let figures = std::mem::replace(&mut *run.figures.lock(), Figures::new());
    Ok(Ran {
        spent,
        items,
        bytes,
        figures,
        callers,
    })
}

const SECOND: Duration = Duration::from_secs(1);

/// What all callers share.
#[derive(Debug)]
struct Run {
    /// Calls that nobody has begun.
    left: AtomicU64,
    figures: Mutex<Figures>,
    /// Also after a failure.
    goes_on: bool,
    stop: watch::Sender<bool>,
}

impl Run {
    /// Makes one call after another.
    async fn calls(self: Arc<Self>, caller: Caller) {
        let (mut stopped, mut over) = (self.stop.subscribe(), self.stop.subscribe());
        while !*over.borrow() && self.take() {
            let stop = async { drop(stopped.wait_for(|stopped| *stopped).await) };
            let called = caller.call(stop).await;
            let failed = matches!(called.outcome, Outcome::Failed(_) | Outcome::Wrong);
            self.figures.lock().add(called);
            if failed && !self.goes_on {
                self.stop.send_replace(true);
            } else if failed {
                tokio::select! {
                    () = sleep(AFTER_FAILURE) => {}
                    _ = over.changed() => {}
                }
            }
        }
    }

    fn take(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}
