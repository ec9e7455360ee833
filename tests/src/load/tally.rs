//! Counting what became of many calls.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use super::call::{Outcome, Verdict};

/// How many calls had which end.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Calls.
    pub calls: u64,
    /// Items that readers got.
    pub items: u64,
    /// Calls that were made more than once.
    pub again: u64,
    /// Messages that came a second time, and were dropped.
    pub retransmitted: u64,
    /// Calls by their end.
    pub ends: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts a call.
    pub fn add(&mut self, outcome: &Outcome) {
        self.calls += 1;
        self.items += outcome.received;
        self.again += u64::from(outcome.attempts > 1);
        self.retransmitted += outcome.retransmitted;
        let end = match &outcome.verdict {
            Verdict::Complete => "complete".to_owned(),
            Verdict::Left => "left".to_owned(),
            Verdict::Error(error) => match (error.lost_cause(), error.clock()) {
                (Some(cause), _) => format!("lost: {cause:?}").to_lowercase(),
                (_, Some(clock)) => format!("timeout: {clock:?}").to_lowercase(),
                _ => format!("{:?}", error.kind()).to_lowercase(),
            },
        };
        *self.ends.entry(end).or_default() += 1;
    }

    /// How many calls ended so.
    #[must_use]
    pub fn ended(&self, end: &str) -> u64 {
        let these = self.ends.iter().filter(|(name, _)| name.starts_with(end));
        these.map(|(_, calls)| calls).sum()
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.items += other.items;
        self.again += other.again;
        self.retransmitted += other.retransmitted;
        for (end, calls) in other.ends {
            *self.ends.entry(end).or_default() += calls;
        }
    }
}

/// A table in Markdown.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| calls | |\n|---|---|\n| all | {} |", self.calls)?;
        for (end, calls) in &self.ends {
            writeln!(f, "| {end} | {calls} |")?;
        }
        writeln!(f, "| made more than once | {} |", self.again)?;
        writeln!(f, "| items received | {} |", self.items)?;
        writeln!(
            f,
            "| messages that came again and were dropped | {} |",
            self.retransmitted
        )
    }
}
