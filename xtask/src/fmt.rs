//! `cargo xtask fmt`

use std::process::ExitCode;

use anyhow::Result;

use crate::{Task, flags::Args, process::run as run_command, workspace::Workspace};

pub(crate) const TASK: Task = Task {
    name: "fmt",
    about: "format the code, or check that it is formatted",
    help: "\
Usage: cargo xtask fmt [--check]

Formats all code with rustfmt.
  --check  change nothing, fail where something would change

Needs the component rustfmt, which rust-toolchain.toml installs.
",
    run,
};

pub(crate) const CHECK: &[&str] = &["fmt", "--all", "--check"];

fn run(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    let check = args.flag("--check");
    args.finish()?;
    let command = if check { CHECK } else { &["fmt", "--all"] };
    run_command(workspace, workspace.cargo(command.iter().copied()))?;
    Ok(ExitCode::SUCCESS)
}
