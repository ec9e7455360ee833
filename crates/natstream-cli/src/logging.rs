//! Logs, to standard error.

use std::io::stderr;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::console::has_colours;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts to log: warnings, and more with each `-v`.
pub(crate) fn start(verbose: u8, quiet: bool, format: LogFormat) {
    let filter = match (quiet, verbose) {
        (true, _) => "off",
        // async-nats logs as errors what it also returns, and what is no concern of a user.
        (false, 0) => "warn,async_nats=off",
        (false, 1) => "info",
        (false, 2) => "debug",
        // At its most, async-nats shows payloads and how it logs in.
        (false, _) => "trace,async_nats=debug",
    };
    let builder = tracing_subscriber::fmt()
        .with_writer(stderr)
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(has_colours())
        // It would panic where standard error is closed.
        .log_internal_errors(false);
    // Whoever calls `main` twice in a process keeps the first.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
