//! What a soak prints, and whether levels have grown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use integration::load::{Ledger, Outcome, Tally};
use integration::world::{Happened, World};
use testkit::resident_memory;

/// Memory may grow by half and this, from the end of the warm-up to the end: allocators keep what was freed.
const MARGIN: u64 = 64 << 20;

/// Levels at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    at: Duration,
    /// Of this process: callers and responders.
    memory: u64,
    tasks: usize,
    handlers: usize,
    calls: u64,
    items: u64,
}

impl Sample {
    pub(crate) fn take(began: Instant, world: &World) -> Self {
        Self {
            at: began.elapsed(),
            memory: resident_memory(std::process::id()),
            tasks: world.tasks(),
            handlers: world.ledger().open().0,
            calls: 0,
            items: 0,
        }
    }

    fn columns(&self) -> String {
        let Self {
            at,
            memory,
            tasks,
            handlers,
            calls,
            items,
        } = self;
        let (seconds, mebibytes) = (at.as_secs(), memory >> 20);
        format!("{seconds} | {calls} | {items} | {handlers} | {tasks} | {mebibytes}")
    }
}

/// What the load tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    tally: Tally,
    visits: u64,
    wrong: Vec<String>,
    samples: Vec<Sample>,
}

impl Report {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn call(&self, outcome: &Outcome, judged: Result<(), String>) {
        let mut inner = self.inner();
        inner.tally.add(outcome);
        inner.wrong.extend(judged.err());
    }

    pub(crate) fn visit(&self) {
        self.inner().visits += 1;
    }

    /// Is something wrong already?
    pub(crate) fn is_wrong(&self) -> bool {
        !self.inner().wrong.is_empty()
    }

    /// Keeps a sample, and returns a line about it.
    pub(crate) fn sample(&self, mut sample: Sample, happened: &Happened) -> String {
        let mut inner = self.inner();
        sample.calls = inner.tally.calls;
        sample.items = inner.tally.items;
        inner.samples.push(sample);
        let faults = happened.counts();
        let lost = inner.tally.ended("lost");
        let wrong = inner.wrong.len();
        format!(
            "s, calls, items, handlers, tasks, MiB: {}; {lost} lost, {wrong} repeated, missing or wrong, {faults:?}",
            sample.columns()
        )
    }

    /// Everything, in Markdown.
    pub(crate) fn table(&self, happened: &Happened, ledger: &Ledger) -> String {
        let inner = self.inner();
        let mut text =
            "\n| s | calls | items | handlers | alive tasks | resident MiB |\n|--:|--:|--:|--:|--:|--:|\n".to_owned();
        for sample in &inner.samples {
            let _ = writeln!(text, "| {} |", sample.columns());
        }
        let _ = writeln!(
            text,
            "\n{}| repeated, missing or wrong | {} |",
            inner.tally,
            inner.wrong.len()
        );
        let _ = writeln!(text, "| connections that came and went | {} |", inner.visits);
        let faults = happened
            .counts()
            .into_iter()
            .map(|(kind, count)| (kind.to_owned(), count));
        let lists: [(&str, BTreeMap<String, u64>); 2] = [
            ("faults", faults.collect()),
            ("handlers, by what closed() told", ledger.reasons()),
        ];
        for (name, counts) in lists {
            let _ = writeln!(text, "\n| {name} | |\n|---|--:|");
            for (name, count) in counts {
                let _ = writeln!(text, "| {name} | {count} |");
            }
        }
        text
    }

    /// # Panics
    /// When a call was not as it must be, or memory has grown.
    pub(crate) fn check(&self) {
        let inner = self.inner();
        assert!(
            inner.wrong.is_empty(),
            "{} wrong:\n{}",
            inner.wrong.len(),
            inner.wrong.join("\n")
        );
        let (Some(last), warm) = (inner.samples.last(), inner.samples.len() / 4) else {
            return;
        };
        // What a full load takes is reached early; the last sample is of a world that does nothing.
        let first = inner.samples[..=warm].iter().map(|sample| sample.memory).max();
        let most = first.map_or(u64::MAX, |first| first + first / 2 + MARGIN);
        assert!(
            last.memory <= most,
            "memory grew from {first:?} to {} bytes",
            last.memory
        );
        let early = inner.samples[..=warm].iter().map(|sample| sample.tasks).max();
        assert!(
            early.is_some_and(|early| last.tasks <= 2 * early),
            "tasks grew from {early:?} to {}",
            last.tasks
        );
    }
}
