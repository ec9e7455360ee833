//! The table of times.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::Result;

/// How long each step took and how it ended.
#[derive(Debug)]
pub(crate) struct Report {
    started: Instant,
    rows: Vec<(&'static str, Outcome)>,
}

#[derive(Debug)]
enum Outcome {
    Done(Duration),
    Failed(Duration),
    NotRun,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            rows: Vec::new(),
        }
    }

    /// Runs a step and notes its time.
    pub(crate) fn time(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        let started = Instant::now();
        let result = step();
        let took = started.elapsed();
        self.rows.push((
            name,
            match result {
                Ok(()) => Outcome::Done(took),
                Err(_) => Outcome::Failed(took),
            },
        ));
        result
    }

    /// Notes a step that no longer gets its turn.
    pub(crate) fn not_run(&mut self, name: &'static str) {
        self.rows.push((name, Outcome::NotRun));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20} {:>8}", "step", "seconds")?;
        for (name, outcome) in &self.rows {
            match outcome {
                Outcome::Done(took) => writeln!(f, "{name:<20} {:>8.1}  ok", took.as_secs_f64())?,
                Outcome::Failed(took) => {
                    writeln!(f, "{name:<20} {:>8.1}  FAILED", took.as_secs_f64())?;
                }
                Outcome::NotRun => writeln!(f, "{name:<20} {:>8}  not run", "-")?,
            }
        }
        let failed = self
            .rows
            .iter()
            .any(|(_, outcome)| !matches!(outcome, Outcome::Done(_)));
        let verdict = if failed { "FAILED" } else { "ok" };
        writeln!(
            f,
            "{:<20} {:>8.1}  {verdict}",
            "total",
            self.started.elapsed().as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn the_table_tells_how_each_step_ended() {
        let mut report = Report::new();
        report.time("format", || Ok(())).unwrap();
        assert!(report.to_string().ends_with("ok\n"));

        report.time("lint", || bail!("no")).unwrap_err();
        report.not_run("tests");
        let table = report.to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[1], "format                    0.0  ok");
        assert_eq!(lines[2], "lint                      0.0  FAILED");
        assert_eq!(lines[3], "tests                       -  not run");
        assert!(lines[4].starts_with("total") && lines[4].ends_with("FAILED"), "{table}");
    }
}
