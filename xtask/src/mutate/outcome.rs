//! What came out.

use std::{fmt, time::Instant};

use super::list::Mutation;

/// Of a check's line, what the table shows: names and numbers come first, states of machines later.
const SHOWN: usize = 110;

/// How the simulation of a mutant ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A check failed.
    Caught { seed: u64, check: String },
    /// It ended otherwise.
    Crashed(String),
    /// It is no program.
    NoBuild(String),
    /// No check failed.
    Passed,
}

impl Outcome {
    /// Reads what cargo and the test printed.
    pub(super) fn read(success: bool, printed: &str) -> Self {
        if let Some((seed, check)) = printed.lines().find_map(failure).filter(|_| !success) {
            return Self::Caught {
                seed,
                check: check.trim_end().to_owned(),
            };
        }
        let first = |start: &str| {
            let line = printed.lines().find(|line| line.starts_with(start));
            line.unwrap_or("it says nothing").to_owned()
        };
        if !printed.contains("running 1 test\n") {
            Self::NoBuild(first("error"))
        } else if success && printed.contains("test result: ok. 1 passed") {
            Self::Passed
        } else {
            Self::Crashed(first("error"))
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caught { seed, check } => write!(f, "caught by seed {seed}: {}", short(check)),
            Self::Crashed(why) => write!(f, "ends without a seed: {}", short(why)),
            Self::NoBuild(why) => write!(f, "does not build: {}", short(why)),
            Self::Passed => f.write_str("NOT CAUGHT"),
        }
    }
}

/// The seed and the check of a line `seed 7, step 8, after 9s: check`.
fn failure(line: &str) -> Option<(u64, &str)> {
    let (seed, rest) = line.strip_prefix("seed ")?.split_once(", step ")?;
    let (_, check) = rest.split_once(": ")?;
    Some((seed.parse().ok()?, check))
}

fn short(line: &str) -> String {
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => line[..end].to_owned() + "…",
        None => line.to_owned(),
    }
}

/// One mutation and its outcome.
#[derive(Debug)]
pub(super) struct Row {
    mutation: &'static Mutation,
    outcome: Outcome,
    seconds: f64,
}

impl Row {
    pub(super) fn new(mutation: &'static Mutation, outcome: Outcome, seconds: f64) -> Self {
        Self {
            mutation,
            outcome,
            seconds,
        }
    }

    fn is_good(&self) -> bool {
        match self.outcome {
            Outcome::Caught { .. } => true,
            Outcome::Passed => self.mutation.uncaught.is_some(),
            Outcome::Crashed(_) | Outcome::NoBuild(_) => false,
        }
    }

    /// The outcome, beside what the list says of it.
    pub(super) fn verdict(&self) -> String {
        match (&self.outcome, self.mutation.uncaught) {
            (Outcome::Passed, Some(why)) => format!("not caught, as expected: {why}"),
            (Outcome::Caught { .. }, Some(_)) => format!("{}; the list says that it cannot be", self.outcome),
            (outcome, _) => outcome.to_string(),
        }
    }
}

/// All that were run.
#[derive(Debug)]
pub(super) struct Table {
    started: Instant,
    rows: Vec<Row>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            rows: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Was each mutation caught, but for those that cannot be?
    pub(super) fn is_good(&self) -> bool {
        self.rows.iter().all(Row::is_good)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<26} {:<7} {:>7}  outcome", "mutation", "rules", "seconds")?;
        for row in &self.rows {
            let Mutation { name, .. } = row.mutation;
            let rules = row.mutation.rules();
            writeln!(f, "{name:<26} {rules:<7} {:>7.1}  {}", row.seconds, row.verdict())?;
        }
        let caught = |row: &&Row| matches!(row.outcome, Outcome::Caught { .. });
        let caught = self.rows.iter().filter(caught).count();
        let verdict = if self.is_good() { "ok" } else { "FAILED" };
        let seconds = self.started.elapsed().as_secs_f64();
        let count = self.rows.len();
        writeln!(
            f,
            "{:<34} {seconds:>7.1}  {verdict}: {caught} of {count} caught",
            "total"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: &str = "running 1 test\nseed 7, step 80, after 1.5s: rule 40: two rewinds\nreplay: x\n\ntest result: FAILED. 0 passed\n";
    const PASSED: &str = "running 1 test\nsim: 3 runs\n.\ntest result: ok. 1 passed; 0 failed\n";

    fn caught() -> Outcome {
        Outcome::Caught {
            seed: 7,
            check: "rule 40: two rewinds".to_owned(),
        }
    }

    #[test]
    fn outcomes_are_read_from_what_was_printed() {
        assert_eq!(Outcome::read(false, FAILED), caught());
        assert_eq!(Outcome::read(true, PASSED), Outcome::Passed);
        let error = "   Compiling x\nerror[E0308]: mismatched types\n";
        let no_build = Outcome::NoBuild("error[E0308]: mismatched types".to_owned());
        assert_eq!(Outcome::read(false, error), no_build);
        let killed = "running 1 test\nerror: test failed\n";
        assert_eq!(
            Outcome::read(false, killed),
            Outcome::Crashed("error: test failed".to_owned())
        );
    }

    /// A name that no test has any more passes, says cargo.
    #[test]
    fn no_test_at_all_is_no_success() {
        let none = "running 0 tests\n\ntest result: ok. 0 passed; 0 failed\n";
        assert_ne!(Outcome::read(true, none), Outcome::Passed);
    }

    #[test]
    fn only_a_reason_excuses_a_mutation_that_is_not_caught() {
        const MUTATION: Mutation = Mutation {
            name: "x",
            rules: &[39, 40],
            what: "",
            edits: &[],
            uncaught: None,
        };
        const EXCUSED: Mutation = Mutation {
            uncaught: Some("it is mended"),
            ..MUTATION
        };
        for (mutation, outcome, good) in [
            (&MUTATION, caught(), true),
            (&MUTATION, Outcome::Passed, false),
            (&EXCUSED, Outcome::Passed, true),
            (&EXCUSED, Outcome::NoBuild(String::new()), false),
        ] {
            let mut table = Table::new();
            table.push(Row::new(mutation, outcome, 1.0));
            assert_eq!(table.is_good(), good, "{table}");
        }
    }

    #[test]
    fn long_lines_are_cut() {
        assert_eq!(short("short"), "short");
        assert_eq!(short(&"ä".repeat(SHOWN + 5)).chars().count(), SHOWN + 1);
    }
}
