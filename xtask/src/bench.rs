//! `cargo xtask bench`

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    Task,
    flags::{Args, Usage},
    instructions, process,
    provide::{Accept, provide},
    workspace::Workspace,
};

pub(crate) const TASK: Task = Task {
    name: "bench",
    about: "measure everything beside its peers, and write a page",
    help: "\
Usage: cargo xtask bench [-- ARGS]
       cargo xtask bench --check [--update]

Builds `bench` with optimisation and its peers, runs all of its modules one after the other,
and writes report.json and report.html below the target directory, in `bench`. It takes about
a quarter of an hour after building, and wants a machine with nothing else to do. ARGS go to
`bench all`: `--quick` only shows that everything runs, `--only NAME,NAME` chooses modules.

With --check it counts the instructions of the hot paths (a frame written and read, an item through both
machines, an event published, a line appended) under callgrind, and fails when one has changed by more
than 3 % of what crates/bench/instructions.json says; --update writes that file. It needs valgrind.

Takes the server that NATSTREAM_NATS_SERVER names, or the one of `cargo xtask setup`, which it
installs if it has to.
",
    run,
};

const PROGRAM: [&str; 5] = ["--release", "--package", "bench", "--features", "peers"];

fn run(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    let (checks, updates) = (args.flag("--check"), args.flag("--update"));
    let more = args.trailing();
    args.finish()?;
    if checks {
        instructions::check(workspace, updates)?;
        return Ok(ExitCode::SUCCESS);
    }
    if updates {
        return Err(Usage("--update goes with --check".to_owned()).into());
    }
    let program = provide(workspace, Accept::Pinned)?;
    process::run(workspace, workspace.cargo(["build"]).args(PROGRAM))?;

    let out = workspace.target().join("bench");
    let bench = workspace.cargo(["run", "--quiet"]).args(PROGRAM);
    let bench = bench.args(["--", "all", "--out"]).arg(out).args(more);
    let shown = workspace.show(&bench);
    let status = process::status(&shown, Command::from(bench).env("NATSTREAM_NATS_SERVER", program.path))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
