//! `cargo xtask deny`

use std::process::ExitCode;

use anyhow::Result;

use crate::{Task, flags::Args, process::run as run_command, tools, workspace::Workspace};

pub(crate) const TASK: Task = Task {
    name: "deny",
    about: "check licences, unwanted and repeated dependencies, and where they come from",
    help: "\
Usage: cargo xtask deny

Checks all dependencies by deny.toml: their licences, crates that must not be there or are there
twice, and that all come from crates.io. Advisories are left out: they take a database of their own.

Installs cargo-deny below the target directory, which takes some minutes of compiling at the first time.
",
    run,
};

const VERSION: &str = "0.20.2";

fn run(workspace: &Workspace, args: Args) -> Result<ExitCode> {
    args.finish()?;
    let program = tools::build(workspace, "cargo-deny", VERSION)?.join("cargo-deny");
    let check = [
        "--locked",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ];
    run_command(workspace, workspace.shell.cmd(program).args(check))?;
    Ok(ExitCode::SUCCESS)
}
