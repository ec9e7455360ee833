//! What a check found, and how that is told.

use serde_json::{Value, json};

use crate::exit::printable;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Good to know.
    Info,
    /// Works, but will not do for everything.
    Warning,
    /// Does not work.
    Wrong,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The name of the check; a stable interface.
    pub(super) check: &'static str,
    pub(super) level: Level,
    /// For people.
    pub(super) text: String,
    /// The lines of configuration that mend it.
    pub(super) fix: Option<String>,
}

impl Finding {
    pub(super) fn new(level: Level, check: &'static str, text: impl Into<String>) -> Self {
        Self {
            check,
            level,
            text: text.into(),
            fix: None,
        }
    }

    pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Ok, check, text)
    }

    pub(super) fn info(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Info, check, text)
    }

    pub(super) fn warning(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Warning, check, text)
    }

    pub(super) fn wrong(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Wrong, check, text)
    }

    pub(super) fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// One more line that belongs to the mending.
    pub(super) fn and_fix(self, line: impl AsRef<str>) -> Self {
        let fix = match &self.fix {
            Some(fix) => format!("{fix}\n{}", line.as_ref()),
            None => line.as_ref().to_owned(),
        };
        self.with_fix(fix)
    }

    /// The lines for people. Much of them is what servers said: no control character is left.
    pub(super) fn lines(&self) -> Vec<String> {
        let first = format!("{:<8} {}: {}", self.level.name(), self.check, printable(&self.text));
        let fixes = self.fix.iter().flat_map(|fix| fix.lines());
        let fixes = fixes.map(|line| format!("         fix: {}", printable(line)));
        [first].into_iter().chain(fixes).collect()
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "check": self.check,
            "level": self.level.name(),
            "text": self.text,
            "fix": self.fix,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_one_for_each_line_that_mends_it() {
        let finding = Finding::wrong("inbox", "the \u{1b}[31mserver\nsays no").with_fix("first\nsecond");
        assert_eq!(
            finding.lines(),
            [
                r"wrong    inbox: the \u{1b}[31mserver\nsays no",
                "         fix: first",
                "         fix: second",
            ]
        );
        assert_eq!(Finding::ok("tls", "in use").lines(), ["ok       tls: in use"]);
    }

    #[test]
    fn a_finding_is_a_json_object() {
        let finding = Finding::info("tls", "not in use");
        assert_eq!(
            finding.json(),
            json!({"check": "tls", "level": "info", "text": "not in use", "fix": null})
        );
    }
}
