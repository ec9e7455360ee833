//! Runs the program, and waits for what it does.

use std::ffi::OsStr;
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use testkit::{shared_url, within};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// More than anything here takes; a hang fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The program with these arguments, and nothing of this process's environment that it would read.
pub(crate) fn natstream<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natstream"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"NATS_") {
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

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn lines(&self) -> Vec<&str> {
        std::str::from_utf8(&self.stdout)
            .expect("the output is UTF-8")
            .lines()
            .collect()
    }

    /// The summary, of a run with `--json`.
    #[track_caller]
    pub(crate) fn summary(&self) -> serde_json::Value {
        let line = self.stderr.lines().find(|line| line.starts_with('{'));
        let line = line.unwrap_or_else(|| panic!("no summary: {self:?}"));
        serde_json::from_str(line).expect("a summary is JSON")
    }

    #[track_caller]
    pub(crate) fn exits_with(self, code: i32) -> Self {
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
pub(crate) async fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    finish(&mut natstream(args)).await
}

/// Runs a command to its end.
pub(crate) async fn finish(command: &mut Command) -> Run {
    within(LIMIT, command.output())
        .await
        .expect("the program starts")
        .into()
}

/// Waits for the end of a program that was started.
pub(crate) async fn end(child: Child) -> Run {
    within(LIMIT, child.wait_with_output())
        .await
        .expect("the program can be waited for")
        .into()
}

/// A `natstream serve` that serves.
#[derive(Debug)]
pub(crate) struct Serving {
    child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Serving {
    pub(crate) async fn start<S: AsRef<OsStr>>(subject: &str, args: impl IntoIterator<Item = S>) -> Self {
        let mut command = natstream(["serve", subject]);
        Self::spawn(command.args(args)).await
    }

    pub(crate) async fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let mut serving = Self {
            child,
            stderr: BufReader::new(stderr).lines(),
        };
        serving.says("serving ").await;
        serving
    }

    /// Waits for a line that begins so.
    pub(crate) async fn says(&mut self, beginning: &str) {
        let mut before = Vec::new();
        loop {
            match within(LIMIT, self.stderr.next_line()).await {
                Ok(Some(line)) if line.starts_with(beginning) => return,
                Ok(Some(line)) => before.push(line),
                _ => panic!("`{beginning}` was not said, but {before:?}"),
            }
        }
    }

    pub(crate) fn signal(&self, name: Signal) {
        signal(&self.child, name);
    }

    /// Waits for the end.
    pub(crate) async fn end(mut self) -> Run {
        let mut stderr = String::new();
        let read = self.stderr.get_mut().read_to_string(&mut stderr);
        within(LIMIT, read).await.expect("standard error can be read");
        let status = within(LIMIT, self.child.wait())
            .await
            .expect("the program can be waited for");
        Run {
            code: status.code(),
            stdout: Vec::new(),
            stderr,
        }
    }

    /// SIGTERM, and the end.
    pub(crate) async fn stop(self) -> Run {
        self.signal(Signal::TERM);
        self.end().await
    }
}

/// Sends a signal to a program that runs.
pub(crate) fn signal(child: &Child, name: Signal) {
    let id = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    kill_process(id.expect("the program runs"), name).expect("a signal can be sent");
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
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
pub(crate) fn is_gone(pid: &str) -> bool {
    assert!(pid.parse::<u32>().is_ok(), "`{pid}` is no process id");
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state follows the name, which stands in parentheses.
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')),
        Err(_) => true,
    }
}
