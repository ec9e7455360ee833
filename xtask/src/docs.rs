//! `cargo xtask docs`

use std::process::ExitCode;

use anyhow::Result;

use crate::{Task, flags::Args, process::run_with, workspace::Workspace};

pub(crate) const TASK: Task = Task {
    name: "docs",
    about: "build the documentation; warnings are errors",
    help: "\
Usage: cargo xtask docs [--open]

Builds the documentation of all packages, without that of their dependencies; warnings, such
as links that lead nowhere, are errors.
  --open  show it in a browser
",
    run,
};

fn run(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    let open = args.flag("--open");
    args.finish()?;
    build(workspace, if open { &["--open"] } else { &[] })?;
    Ok(ExitCode::SUCCESS)
}

/// Builds the documentation, with more arguments for `cargo doc`.
pub(crate) fn build(workspace: &Workspace, more: &[&str]) -> Result<()> {
    let command = workspace.cargo(["doc", "--workspace", "--no-deps"]).args(more);
    run_with(workspace, command, &[("RUSTDOCFLAGS", "-D warnings")])
}
