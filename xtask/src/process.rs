//! Running commands, and what Ctrl-C does meanwhile.

use std::{
    fmt, io,
    process::{Child, Command, ExitStatus},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};
use xshell::Cmd;

use crate::workspace::Workspace;

/// How often we look whether a child has ended or a signal has come.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// How long a child may take for an orderly end.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// The last signal that asked us to end; 0 for none.
static SIGNAL: AtomicUsize = AtomicUsize::new(0);

/// A signal ended the command.
#[derive(Debug)]
pub(crate) struct Interrupted(pub(crate) u8);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted by signal {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// From now on a signal does not end this process, so that servers are stopped and their
/// directories removed. Children start with the usual meaning of signals.
pub(crate) fn watch_signals() -> Result<()> {
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        flag::register_usize(signal, &SIGNAL, signal.unsigned_abs() as usize).context("cannot watch signals")?;
    }
    Ok(())
}

/// The signal that asked us to end.
pub(crate) fn interrupted() -> Option<Interrupted> {
    let signal = SIGNAL.load(Ordering::Relaxed);
    (signal != 0).then(|| Interrupted(u8::try_from(signal).unwrap_or(u8::MAX)))
}

/// Runs a command whose failure ends the task.
pub(crate) fn run(workspace: &Workspace, command: Cmd<'_>) -> Result<()> {
    run_with(workspace, command, &[])
}

/// [`run`] with variables that belong to the command as a person would type it.
pub(crate) fn run_with(workspace: &Workspace, command: Cmd<'_>, env: &[(&str, &str)]) -> Result<()> {
    let mut shown = String::new();
    for (name, value) in env {
        shown += &format!("{name}={value:?} ");
    }
    shown += &workspace.show(&command);
    let status = status(&shown, Command::from(command).envs(env.iter().copied()))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a command to its end, whatever that is.
pub(crate) fn status(shown: &str, command: &mut Command) -> Result<ExitStatus> {
    if let Some(interrupted) = interrupted() {
        return Err(interrupted.into());
    }
    eprintln!("$ {shown}");
    let mut child = command.spawn().with_context(|| format!("cannot run `{shown}`"))?;
    let status = wait(&mut child).with_context(|| format!("cannot wait for `{shown}`"))?;
    match interrupted() {
        // A child that ends well after Ctrl-C (a demo, say) has the last word.
        Some(interrupted) if !status.success() => Err(interrupted.into()),
        _ => Ok(status),
    }
}

/// Waits for a child. When a signal asks us to end, the child ends first.
fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let mut asked_at = None;
    let mut terminated = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let Some(Interrupted(signal)) = interrupted() {
            let waited = asked_at.get_or_insert_with(Instant::now).elapsed();
            // Ctrl-C has reached the child as well: it is in the terminal's foreground group
            // like us. Other signals were for us only.
            if !terminated && (i32::from(signal) != SIGINT || waited >= GRACE) {
                terminate(child);
                terminated = true;
            } else if waited >= 2 * GRACE {
                child.kill()?;
            }
        }
        thread::sleep(POLL);
    }
}

/// Asks a child to end (SIGTERM), if it has not done so yet.
pub(crate) fn terminate(child: &mut Child) {
    // As long as nobody has waited for the child, its pid cannot be somebody else's.
    if matches!(child.try_wait(), Ok(None)) {
        // std sends SIGKILL only; the shell's own `kill` needs neither unsafe nor a dependency.
        // Should it fail, the caller's SIGKILL follows.
        let _ = Command::new("/bin/sh")
            .args(["-c", r#"kill -s TERM "$1""#, "terminate", &child.id().to_string()])
            .status();
    }
}
