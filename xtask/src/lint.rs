//! `cargo xtask lint`

use std::process::ExitCode;

use anyhow::Result;

use crate::{Task, flags::Args, process::run as run_command, workspace::Workspace};

pub(crate) const TASK: Task = Task {
    name: "lint",
    about: "run clippy on everything; warnings are errors",
    help: "\
Usage: cargo xtask lint

Runs clippy on all packages and targets; warnings are errors. The peers of `bench` are left
out: they are behind a feature, and many.

Needs the component clippy, which rust-toolchain.toml installs.
",
    run,
};

/// The denial goes to clippy, not into RUSTFLAGS: those would rebuild every dependency.
pub(crate) const CLIPPY: &[&str] = &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];

fn run(workspace: &Workspace, args: Args) -> Result<ExitCode> {
    args.finish()?;
    run_command(workspace, workspace.cargo(CLIPPY.iter().copied()))?;
    Ok(ExitCode::SUCCESS)
}
