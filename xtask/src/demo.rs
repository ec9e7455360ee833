//! `cargo xtask demo`

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, ExitStatus},
};

use anyhow::Result;

use crate::{
    Task,
    flags::Args,
    process,
    provide::{Accept, provide},
    server::Server,
    workspace::Workspace,
};

pub(crate) const TASK: Task = Task {
    name: "demo",
    about: "build the demo and run it on a nats-server of its own",
    help: "\
Usage: cargo xtask demo [-- ARGS]

Builds the example `demo` with optimisation and runs it, from the root, with NATS_URL naming
a nats-server on a free port. ARGS go to the demo, whose exit code is that of the command.

Takes the server that NATSTREAM_NATS_SERVER names, the one of `cargo xtask setup`, or one
from PATH (2.12 or newer); otherwise it installs the pinned one as `cargo xtask setup` does.
",
    run,
};

const EXAMPLE: [&str; 5] = ["--release", "--package", "examples", "--example", "demo"];

fn run(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    let demo_args = args.trailing();
    args.finish()?;
    let program = provide(workspace, Accept::OnPath)?;
    process::run(workspace, workspace.cargo(["build"]).args(EXAMPLE))?;

    let server = Server::start(&program.path, None)?;
    // Through cargo, which knows where the program lies whatever its configuration says; it
    // is replaced by the demo, so that signals and the exit code are the demo's.
    let mut demo = workspace.cargo(["run", "--quiet"]).args(EXAMPLE);
    if !demo_args.is_empty() {
        demo = demo.arg("--").args(demo_args);
    }
    let shown = format!("NATS_URL={} {}", server.url(), workspace.show(&demo));
    let status = process::status(&shown, Command::from(demo).env("NATS_URL", server.url()))?;
    Ok(exit_code(status))
}

/// The exit code as a shell would report it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
