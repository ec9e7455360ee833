//! The line that tells how it goes, on a terminal.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

use natstream::sinks::{RollingWriter, SinkState};
use tokio::time::interval;

use crate::clock::now;
use crate::console::Console;
use crate::size;

const INTERVAL: Duration = Duration::from_millis(500);

/// What it shows.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) recorded: u64,
    pub(super) bytes: u64,
    /// Follows them.
    pub(super) rest: String,
}

#[derive(Debug)]
pub(super) struct Progress {
    is_shown: bool,
    /// Records at that time.
    last: Option<(Instant, u64)>,
}

impl Progress {
    pub(super) fn new(console: Console) -> Self {
        Self {
            is_shown: console.is_chatty() && stderr().is_terminal(),
            last: None,
        }
    }

    /// Shows it again and again.
    pub(super) async fn show(&mut self, figures: impl Fn() -> Figures, writer: &RollingWriter) {
        if !self.is_shown {
            return std::future::pending().await;
        }
        let mut ticks = interval(INTERVAL);
        loop {
            ticks.tick().await;
            let line = self.line(&figures(), writer);
            // In one piece; nobody may be reading.
            let _ = stderr().lock().write_all(format!("\r\x1b[K{line}").as_bytes());
        }
    }

    /// Makes room for what is said next.
    pub(super) fn clear(&self) {
        if self.is_shown {
            let _ = stderr().lock().write_all(b"\r\x1b[K");
        }
    }

    fn line(&mut self, stats: &Figures, writer: &RollingWriter) -> String {
        let now = now();
        let rate = self.last.map_or(0.0, |(at, records)| {
            let seconds = now.duration_since(at).as_secs_f64();
            (stats.recorded - records) as f64 / seconds.max(1e-3)
        });
        self.last = Some((now, stats.recorded));
        let mut line = format!(
            "{} records, {}, {rate:.0}/s",
            stats.recorded,
            size::display(stats.bytes as f64)
        );
        line.push_str(&stats.rest);
        match (writer.state(), writer.current_file()) {
            (SinkState::Blocked { error, .. }, _) => line.push_str(&format!(", blocked: {error}")),
            (_, Some(path)) => line.push_str(&format!(", {}", path.display())),
            _ => {}
        }
        line
    }
}
