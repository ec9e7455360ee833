//! Standard error: progress, summaries and failures.

use std::io::{IsTerminal as _, Write as _, stderr};

use crate::exit::Failure;

/// Writes to standard error. Nobody may be reading it: that is not an error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    quiet: bool,
    json: bool,
}

impl Console {
    pub(crate) fn new(quiet: bool, json: bool) -> Self {
        Self { quiet, json }
    }

    /// Are listings, summaries and findings JSON?
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Is anything said but errors, for people?
    pub(crate) fn is_chatty(self) -> bool {
        !self.quiet && !self.json
    }

    /// Progress, for people and for scripts that wait for a line.
    pub(crate) fn progress(self, text: &str) {
        if !self.quiet {
            write_line(text);
        }
    }

    /// The summary of a command: a line for people, or one JSON object.
    pub(crate) fn summary(self, text: impl FnOnce() -> String, json: impl FnOnce() -> serde_json::Value) {
        if self.quiet {
            return;
        }
        match self.json {
            true => write_line(&json().to_string()),
            false => write_line(&text()),
        }
    }

    /// A failure; told in any case.
    pub(crate) fn failure(self, failure: &Failure) {
        write_line(&failure.lines().join("\n"));
    }
}

/// Is standard error a terminal?
pub(crate) fn is_terminal() -> bool {
    stderr().is_terminal()
}

/// Can standard error show colours, and may it? As for the help and for mistakes in the command line, which clap prints.
pub(crate) fn has_colours() -> bool {
    let is_forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let can_show = std::env::var_os("TERM").is_some_and(|terminal| terminal != "dumb");
    is_terminal() && can_show && !is_forbidden
}

fn write_line(text: &str) {
    // In one piece: other programs may write to the same terminal.
    let _ = stderr().lock().write_all(format!("{text}\n").as_bytes());
}
