//! Findings, printed as they come, and counted.

use std::io;

use serde_json::{Value, json};

use super::finding::{Finding, Level};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::services::format::json_line;

/// Standard output, and what was told there.
#[derive(Debug)]
pub(super) struct Report {
    output: Output,
    json: bool,
    /// By level.
    counts: [usize; 4],
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self {
            output: Output::new(),
            json,
            counts: [0; 4],
        }
    }

    /// Prints these findings at once: the next check may take its time.
    pub(super) async fn tell(&mut self, findings: impl IntoIterator<Item = Finding>) -> Result<(), Failure> {
        for finding in findings {
            self.counts[finding.level as usize] += 1;
            let text = match self.json {
                true => json_line(&finding.json()),
                false => finding.lines().join("\n"),
            };
            let buffer = self.output.buffer();
            buffer.extend_from_slice(text.as_bytes());
            buffer.push(b'\n');
        }
        match self.output.flush().await {
            // Nobody reads any more; the exit code still says whether something is wrong.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.output.buffer().clear();
                Ok(())
            }
            Err(error) => {
                let error = anyhow::Error::new(error).context("the findings cannot be written to standard output");
                Err(Failure::new(Exit::Lost, error))
            }
            Ok(()) => Ok(()),
        }
    }

    fn count(&self, level: Level) -> usize {
        self.counts[level as usize]
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.count(Level::Wrong) > 0
    }

    /// `nothing is wrong, 1 warning`.
    pub(super) fn text(&self) -> String {
        let warnings = match self.count(Level::Warning) {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            n => format!(", {n} warnings"),
        };
        match self.count(Level::Wrong) {
            0 => format!("nothing is wrong{warnings}"),
            1 => format!("1 thing is wrong{warnings}"),
            n => format!("{n} things are wrong{warnings}"),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "ok": self.count(Level::Ok),
            "info": self.count(Level::Info),
            "warning": self.count(Level::Warning),
            "wrong": self.count(Level::Wrong),
        })
    }
}
