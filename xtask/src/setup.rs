//! `cargo xtask setup`

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    Task,
    flags::Args,
    provide::{Accept, provide},
    workspace::Workspace,
};

pub(crate) const TASK: Task = Task {
    name: "setup",
    about: "provide nats-server, and say which one is used",
    help: "\
Usage: cargo xtask setup

Provides the nats-server that tests and examples use, and says which one it is:
  1. the one that NATSTREAM_NATS_SERVER names;
  2. the pinned version in the target directory;
  3. otherwise that version is put there, with `python3 -m pip install`.
Needs python3 with pip in the third case. Changes nothing outside the target directory.
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
    Ok(ExitCode::SUCCESS)
}
