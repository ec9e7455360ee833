//! Test programs side by side: most of them wait for servers and clocks most of the time.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write as _},
    num::NonZero,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xshell::Cmd;

use crate::{
    process::{GRACE, POLL, interrupted, terminate},
    workspace::Workspace,
};

/// A test program that cargo has built.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// Of its target.
    name: String,
    path: PathBuf,
    /// Its package, where cargo would run it.
    dir: PathBuf,
}

/// One that runs.
struct Running {
    program: Program,
    child: Child,
    log: PathBuf,
    began: Instant,
}

/// Those that run. None outlives it, however the run ends.
struct Crew(Vec<Running>);

impl Drop for Crew {
    /// Ends them, the hard way if need be.
    fn drop(&mut self) {
        for running in &mut self.0 {
            terminate(&mut running.child);
        }
        let until = Instant::now() + GRACE;
        for running in &mut self.0 {
            while matches!(running.child.try_wait(), Ok(None)) && Instant::now() < until {
                thread::sleep(POLL);
            }
            // It has ended, or is to.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

/// Builds what `build` (`cargo test --no-run …`) names, and runs all of it, as many programs at once as there are
/// processors. What a program prints is shown when it ends. `serve` gives it what tests share.
pub(crate) fn test<'a>(workspace: &'a Workspace, build: Cmd<'_>, serve: impl Fn(Cmd<'a>) -> Cmd<'a>) -> Result<()> {
    let build = build.args(["--no-run", "--message-format", "json-render-diagnostics"]);
    let shown = workspace.show(&build);
    eprintln!("$ {shown}");
    let messages = build.quiet().read().with_context(|| format!("`{shown}` failed"))?;
    let mut waiting: VecDeque<Program> = programs(&messages).into();
    let logs = workspace.target().join("xtask/tests");
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let most = thread::available_parallelism().map_or(1, NonZero::get);
    let mut running = Crew(Vec::new());
    let mut failed = Vec::new();
    while !waiting.is_empty() || !running.0.is_empty() {
        if let Some(interrupted) = interrupted() {
            return Err(interrupted.into());
        }
        while running.0.len() < most
            && let Some(program) = waiting.pop_front()
        {
            let command = serve(workspace.command(&program.path.to_string_lossy(), &[]));
            running.0.push(start(program, Command::from(command), &logs)?);
        }
        for index in (0..running.0.len()).rev() {
            if let Some(status) = running.0[index].child.try_wait()? {
                let ended = running.0.swap_remove(index);
                show(&ended, status)?;
                if !status.success() {
                    failed.push(ended.program.name);
                }
            }
        }
        thread::sleep(POLL);
    }
    if !failed.is_empty() {
        bail!("tests of these targets failed: {}", failed.join(", "));
    }
    Ok(())
}

/// What cargo says that it has built.
fn programs(messages: &str) -> Vec<Program> {
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_test = message["profile"]["test"] == true;
        Some(Program {
            name: message["target"]["name"].as_str()?.to_owned(),
            path: message["executable"].as_str().filter(|_| is_test)?.into(),
            dir: Path::new(message["manifest_path"].as_str()?).parent()?.into(),
        })
    };
    messages.lines().filter_map(program).collect()
}

fn start(program: Program, mut command: Command, logs: &Path) -> Result<Running> {
    let file = program.path.file_name().unwrap_or_default();
    let log = logs.join(file).with_extension("log");
    let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let child = command
        .current_dir(&program.dir)
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .with_context(|| format!("cannot run {}", program.path.display()))?;
    Ok(Running {
        program,
        child,
        log,
        began: Instant::now(),
    })
}

fn show(ended: &Running, status: ExitStatus) -> Result<()> {
    let Running {
        program, log, began, ..
    } = ended;
    let seconds = began.elapsed().as_secs_f32();
    let mut out = io::stdout().lock();
    writeln!(out, "\n     {} ({seconds:.1} s, {status})", program.name)?;
    out.write_all(&fs::read(log)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_tests_are_found() {
        let messages = r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"name":"a"},"profile":{"test":false},"executable":"/t/a"}
{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":{"name":"bus"},"profile":{"test":true},"executable":"/t/bus-1"}
{"reason":"compiler-artifact","manifest_path":"/w/b/Cargo.toml","target":{"name":"b"},"profile":{"test":true},"executable":null}
{"reason":"build-finished","success":true}"#;
        let expected = Program {
            name: "bus".to_owned(),
            path: "/t/bus-1".into(),
            dir: "/w/tests".into(),
        };
        assert_eq!(programs(messages), [expected]);
    }
}
