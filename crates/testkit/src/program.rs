//! Runs the program `natstream`, and waits for what it does.

use std::{
    ffi::OsStr,
    fs,
    panic::Location,
    process::{Output, Stdio},
    time::Duration,
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

use crate::{shared_url, target, within};

/// More than anything that a test does with the program takes; a hang fails.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The program with these arguments, and nothing of this process's environment that it would read.
///
/// It talks to the [shared server](shared_url) unless it is told otherwise.
///
/// # Panics
///
/// When the program is not there, with the command that builds it.
pub fn natstream<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(target::natstream());
    for (name, _) in std::env::vars_os() {
        let is_read = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
        if ["NATS_", "NATSTREAM_", "ISA_CLOUD_NATS_", "CONSUL_"]
            .iter()
            .any(|prefix| is_read(prefix))
        {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .env("NATS_URL", shared_url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What a run of a program gave.
#[derive(Debug)]
pub struct Run {
    /// Its exit code; `None` after a signal.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: String,
}

impl Run {
    /// The lines of standard output.
    ///
    /// # Panics
    ///
    /// When they are not text.
    #[must_use]
    pub fn lines(&self) -> Vec<&str> {
        std::str::from_utf8(&self.stdout)
            .expect("the output is UTF-8")
            .lines()
            .collect()
    }

    /// The summary, of a run with `--json`.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn summary(&self) -> Value {
        let line = self.stderr.lines().find(|line| line.starts_with('{'));
        let line = line.unwrap_or_else(|| panic!("no summary: {self:?}"));
        serde_json::from_str(line).expect("a summary is JSON")
    }

    /// Checks the exit code.
    ///
    /// # Panics
    ///
    /// When it is another one.
    #[track_caller]
    #[expect(
        clippy::must_use_candidate,
        clippy::return_self_not_must_use,
        reason = "it is a check"
    )]
    pub fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
        }
    }
}

/// Runs the program to its end.
///
/// # Panics
///
/// When it cannot be run, or takes longer than [`LIMIT`].
pub async fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    finish(&mut natstream(args)).await
}

/// Runs a command to its end.
///
/// # Panics
///
/// When it cannot be run, or takes longer than [`LIMIT`].
pub async fn finish(command: &mut Command) -> Run {
    within(LIMIT, command.output())
        .await
        .expect("the program starts")
        .into()
}

/// Waits for the end of a program that was started.
///
/// # Panics
///
/// When that takes longer than [`LIMIT`].
pub async fn end(child: Child) -> Run {
    within(LIMIT, child.wait_with_output())
        .await
        .expect("the program can be waited for")
        .into()
}

/// A `natstream serve`, or another command that goes on until it is told to end; dropping it kills it.
#[derive(Debug)]
pub struct Serving {
    child: Child,
    /// Lines of standard error as they come, so that no full pipe stops it.
    lines: mpsc::UnboundedReceiver<String>,
    said: String,
}

impl Serving {
    /// Serves `subject`, and returns when nats-server knows it.
    ///
    /// # Panics
    ///
    /// When it does not say so.
    pub async fn start<S: AsRef<OsStr>>(subject: &str, args: impl IntoIterator<Item = S>) -> Self {
        let mut command = natstream(["serve", subject]);
        Self::spawn(command.args(args)).await
    }

    /// [`start`](Self::start) with another command.
    ///
    /// # Panics
    ///
    /// When it does not say that it serves.
    pub async fn spawn(command: &mut Command) -> Self {
        Self::spawn_saying(command, "serving ").await
    }

    /// [`spawn`](Self::spawn) with a command that says something else when it is ready.
    ///
    /// # Panics
    ///
    /// When it does not say so.
    pub async fn spawn_saying(command: &mut Command, beginning: &str) -> Self {
        let mut child = command.stdout(Stdio::null()).spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let mut stderr = BufReader::new(stderr).lines();
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                // Read on when nobody wants it any more: the program shall not stand still.
                let _ = sender.send(line);
            }
        });
        let mut serving = Self {
            child,
            lines,
            said: String::new(),
        };
        serving.says(beginning).await;
        serving
    }

    /// What it has said so far, as far as somebody has waited for it.
    #[must_use]
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Waits for a line that begins so.
    ///
    /// # Panics
    ///
    /// When it does not come.
    pub async fn says(&mut self, beginning: &str) {
        while let Some(line) = within(LIMIT, self.lines.recv()).await {
            self.said += &format!("{line}\n");
            if line.starts_with(beginning) {
                return;
            }
        }
        panic!("`{beginning}` was not said, but {:?}", self.said);
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn signal(&self, name: Signal) {
        signal(&self.child, name);
    }

    /// Waits for the end. What it said before is there too.
    ///
    /// # Panics
    ///
    /// When that takes longer than [`LIMIT`].
    pub async fn end(mut self) -> Run {
        while let Some(line) = within(LIMIT, self.lines.recv()).await {
            self.said += &format!("{line}\n");
        }
        let status = within(LIMIT, self.child.wait())
            .await
            .expect("the program can be waited for");
        Run {
            code: status.code(),
            stdout: Vec::new(),
            stderr: self.said,
        }
    }

    /// SIGTERM, and the end.
    ///
    /// # Panics
    ///
    /// When it has ended before, or takes longer than [`LIMIT`].
    pub async fn stop(self) -> Run {
        self.signal(Signal::TERM);
        self.end().await
    }
}

/// Sends a signal to a program that runs.
///
/// # Panics
///
/// When it does not run.
pub fn signal(child: &Child, name: Signal) {
    let id = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    kill_process(id.expect("the program runs"), name).expect("a signal can be sent");
}

/// Waits until `condition` holds, for what another process does and tells nobody.
///
/// # Panics
///
/// When that takes longer than [`LIMIT`].
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let mut looks = LIMIT.as_millis() / LOOK.as_millis();
        while !condition() {
            assert!(looks > 0, "not in time: {what} ({caller})");
            looks -= 1;
            // sleep: the interval between two looks; what is looked at is another process.
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Is this process gone, or waiting only for its parent to notice?
///
/// # Panics
///
/// When `pid` is no process id.
#[must_use]
pub fn is_gone(pid: &str) -> bool {
    assert!(pid.parse::<u32>().is_ok(), "`{pid}` is no process id");
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state follows the name, which stands in parentheses.
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')),
        Err(_) => true,
    }
}
