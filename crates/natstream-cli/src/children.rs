//! The processes that answer and handle, each with its own process group, so that all they start can be ended with them.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::Notify;

/// All processes that run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Children {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    groups: Mutex<Groups>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Groups {
    running: HashSet<Pid>,
    is_closed: bool,
}

/// One process. Dropping it kills its group, unless it was seen to end.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Option<Pid>,
    children: Children,
}

/// The ends of a process's pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

impl Children {
    /// Starts `command`, whose three streams are pipes.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<(Process, Pipes)> {
        let mut process = self.start(command)?;
        let child = &mut process.child;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok((process, Pipes { stdin, stdout, stderr })),
            _ => Err(io::Error::other("the process has no pipes")),
        }
    }

    /// Starts `command`, whose standard output is not a pipe, and the other two are.
    pub(crate) fn spawn_sink(&self, command: &mut Command) -> io::Result<(Process, ChildStdin, ChildStderr)> {
        let mut process = self.start(command)?;
        let child = &mut process.child;
        match (child.stdin.take(), child.stderr.take()) {
            (Some(stdin), Some(stderr)) => Ok((process, stdin, stderr)),
            _ => Err(io::Error::other("the process has no pipes")),
        }
    }

    fn start(&self, command: &mut Command) -> io::Result<Process> {
        // Under the lock: nothing starts behind `kill_all`'s back.
        let mut groups = self.groups();
        if groups.is_closed {
            return Err(io::Error::other("the program ends"));
        }
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        groups.running.extend(group);
        drop(groups);
        Ok(Process {
            child,
            group,
            children: self.clone(),
        })
    }

    /// Kills all process groups; no other process starts.
    pub(crate) fn kill_all(&self) {
        let mut groups = self.groups();
        groups.is_closed = true;
        for group in &groups.running {
            kill(*group);
        }
    }

    /// Were all processes killed?
    pub(crate) fn were_killed(&self) -> bool {
        self.groups().is_closed
    }

    /// Completes when no process is left.
    pub(crate) async fn gone(&self) {
        loop {
            let changed = self.shared.changed.notified();
            if self.groups().running.is_empty() {
                return;
            }
            changed.await;
        }
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.shared.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Waits for the end of the process itself, not of its group.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        // From here on the number may become another process's.
        self.forget();
        Ok(status)
    }

    /// Kills the process and all others of its group.
    pub(crate) async fn kill(mut self) {
        if let Some(group) = self.group {
            kill(group);
        }
        if let Err(error) = self.wait().await {
            tracing::warn!(%error, "a killed process cannot be waited for");
        }
    }

    fn forget(&mut self) {
        if let Some(group) = self.group.take() {
            self.children.groups().running.remove(&group);
            self.children.shared.changed.notify_waiters();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            kill(group);
            self.forget();
        }
    }
}

fn kill(group: Pid) {
    match kill_process_group(group, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => tracing::warn!(%error, "a process group cannot be killed"),
    }
}

/// Would the operating system find a program by this name?
pub(crate) fn is_program(name: &OsStr) -> bool {
    let is_executable = |path: PathBuf| {
        path.metadata()
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if Path::new(name).components().count() != 1 || name.as_encoded_bytes().contains(&b'/') {
        return is_executable(name.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    std::env::split_paths(&path).any(|directory| is_executable(directory.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found() {
        assert!(is_program(OsStr::new("sh")));
        assert!(is_program(OsStr::new("/bin/sh")));
        for name in ["", ".", "/", "/etc/passwd", "no-such-program", "./no-such-program"] {
            assert!(!is_program(OsStr::new(name)), "{name:?}");
        }
    }
}
