//! How the program ends: exit codes, and what is said about a failure.

use std::process::ExitCode;

use bytes::Bytes;
use natstream::connect::settings::{Origin, Problem, SettingsError, SettingsErrorKind};
use natstream::connect::{SubjectError, SubscriberError, SubscriberErrorKind};
use natstream::{
    Clock, ConnectError, ConnectErrorKind, RequestError, RequestErrorKind, ServeError, ServeErrorKind, Status,
};

use crate::options::OPTIONS;
use crate::session::PERMISSIONS;

/// The exit codes; a stable interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything is well.
    Complete = 0,
    /// The other side failed.
    Failed = 1,
    /// The command line or the request is not valid.
    Usage = 2,
    /// Nobody answers the subject.
    NobodyAnswers = 3,
    /// A clock ran out.
    ClockRanOut = 4,
    /// Data was lost, or the answer was cut short.
    Lost = 5,
    /// No connection.
    NoConnection = 6,
    /// Not permitted.
    NotPermitted = 7,
    /// Not everything was delivered, or recorded.
    Incomplete = 8,
    /// Ended by a signal.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the program does not end with success, for people.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// With its causes.
    pub(crate) error: anyhow::Error,
    /// What the person can do.
    pub(crate) hint: Option<String>,
    /// What the other side sent along.
    pub(crate) details: Bytes,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
            hint: None,
            details: Bytes::new(),
        }
    }

    /// A failure that is nothing but a text.
    pub(crate) fn text(exit: Exit, text: impl Into<String>) -> Self {
        Self::new(exit, anyhow::Error::msg(text.into()))
    }

    /// A mistake in the command line.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::text(Exit::Usage, text)
    }

    /// A subject that cannot be used.
    pub(crate) fn subject(subject: &str, error: SubjectError) -> Self {
        Self::new(
            Exit::Usage,
            anyhow::Error::new(error).context(format!("`{subject}` is not a subject for this")),
        )
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The lines to print, each without control characters of others.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (index, cause) in self.error.chain().enumerate() {
            let text = cause.to_string();
            lines.push(match index {
                0 => format!("error: {}", printable(&text)),
                _ => format!("  caused by: {}", printable(&text)),
            });
        }
        if !self.details.is_empty() {
            lines.push(match std::str::from_utf8(&self.details) {
                Ok(text) => format!("  details: {}", printable(text)),
                Err(_) => format!("  details: {} bytes that are not text", self.details.len()),
            });
        }
        if let Some(hint) = &self.hint {
            lines.push(format!("hint: {}", printable(hint)));
        }
        lines
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let exit = match error.kind() {
            ConnectErrorKind::InvalidConfig => Exit::Usage,
            ConnectErrorKind::Authentication => Exit::NotPermitted,
            _ => Exit::NoConnection,
        };
        let hint = error.hint().map(in_options);
        Self {
            hint,
            ..Self::new(exit, error)
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        let text: Vec<_> = error
            .problems()
            .map(|problem| with_options(problem, &problem.to_string()))
            .collect();
        // The `nats` CLI takes a user without a password for a token.
        let is_half = error.kind() == SettingsErrorKind::Incomplete && error.key() == Some("username");
        let source = error.problems().find_map(std::error::Error::source);
        let error = match source {
            Some(source) => anyhow::Error::msg(source.to_string()).context(text.join("; ")),
            None => anyhow::Error::msg(text.join("; ")),
        };
        let hint = is_half.then(|| "a token is given with --token".to_owned());
        Self {
            hint,
            ..Self::new(Exit::Usage, error)
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let exit = match error.kind() {
            RequestErrorKind::Cancelled => Exit::Interrupted,
            RequestErrorKind::Connection => Exit::NoConnection,
            RequestErrorKind::InvalidRequest => Exit::Usage,
            RequestErrorKind::NoResponders => Exit::NobodyAnswers,
            RequestErrorKind::NotPermitted => Exit::NotPermitted,
            RequestErrorKind::Lost | RequestErrorKind::Unanswered => Exit::Lost,
            RequestErrorKind::Timeout if error.clock() == Some(Clock::Connect) => Exit::NoConnection,
            RequestErrorKind::Timeout => Exit::ClockRanOut,
            // Failed and Refused are the other side's words; Protocol is its fault.
            _ => Exit::Failed,
        };
        let hint = match (error.clock(), error.status()) {
            (Some(Clock::FirstItem), _) => Some("a larger --first-timeout waits longer".to_owned()),
            (Some(Clock::Idle), _) => Some("a larger --idle-timeout waits longer".to_owned()),
            (Some(Clock::Deadline), _) => Some("a larger --deadline waits longer".to_owned()),
            (Some(Clock::Connect), _) => Some("a larger --timeout waits longer".to_owned()),
            (_, Some(status)) => retry_hint(status),
            _ => error.hint().map(in_options),
        };
        let details = error.status().map(|status| status.details.clone());
        Self {
            hint,
            details: details.unwrap_or_default(),
            ..Self::new(exit, error)
        }
    }
}

impl From<SubscriberError> for Failure {
    fn from(error: SubscriberError) -> Self {
        let exit = match error.kind() {
            SubscriberErrorKind::Invalid => Exit::Usage,
            SubscriberErrorKind::NotPermitted => Exit::NotPermitted,
            _ => Exit::NoConnection,
        };
        let hint = (exit == Exit::NotPermitted).then(|| PERMISSIONS.to_owned());
        Self {
            hint,
            ..Self::new(exit, error)
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let exit = match error.kind() {
            ServeErrorKind::InvalidConfig => Exit::Usage,
            ServeErrorKind::NotPermitted => Exit::NotPermitted,
            _ => Exit::NoConnection,
        };
        let hint = (exit == Exit::NotPermitted).then(|| PERMISSIONS.to_owned());
        Self {
            hint,
            ..Self::new(exit, error)
        }
    }
}

fn retry_hint(status: &Status) -> Option<String> {
    match (status.retry_after, status.retryable) {
        (Some(after), _) => Some(format!("ask again in {}", humantime::format_duration(after))),
        (None, true) => Some("asking again may help".to_owned()),
        (None, false) => None,
    }
}

/// What is wrong with a setting, with the options that set it, unless it stands in a file.
pub(crate) fn with_options(problem: &Problem, text: &str) -> String {
    match problem.origin() {
        Some(Origin::Context { .. } | Origin::File { .. }) => text.to_owned(),
        _ => OPTIONS.iter().fold(text.to_owned(), |text, (option, key)| {
            text.replace(&format!("`{key}`"), option)
        }),
    }
}

/// A hint of the library, whose settings are options here.
fn in_options(hint: &str) -> String {
    const OPTIONS: [(&str, &str); 4] = [
        ("`Tls::root_certificates`", "--tls-ca"),
        ("`Tls::client_certificate`", "--tls-cert and --tls-key"),
        ("give the connection an inbox prefix", "give one with --inbox-prefix"),
        ("another dialect may read it", "--dialect auto:text may read it"),
    ];
    OPTIONS
        .iter()
        .fold(hint.to_owned(), |hint, (setting, option)| hint.replace(setting, option))
}

/// `text` on one line, and harmless for a terminal: others wrote it.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_with_its_causes() {
        let error = anyhow::anyhow!("the \u{1b}[31mroot")
            .context("the middle")
            .context("the top\nline");
        let failure = Failure {
            details: Bytes::from_static("exit status: 3".as_bytes()),
            ..Failure::new(Exit::Failed, error).with_hint("do something")
        };
        assert_eq!(
            failure.lines(),
            [
                r"error: the top\nline",
                "  caused by: the middle",
                r"  caused by: the \u{1b}[31mroot",
                "  details: exit status: 3",
                "hint: do something",
            ]
        );
    }

    #[test]
    fn letters_of_all_languages_are_printable() {
        assert_eq!(printable("比特流中断 ü\té"), "比特流中断 ü\té");
    }
}
