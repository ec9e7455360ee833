//! `cargo xtask it`

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{
    Task,
    flags::{Args, Usage},
    metadata::{self, SUITES},
    process,
    provide::{Accept, provide},
    server::Server,
    workspace::Workspace,
};

pub(crate) const TASK: Task = Task {
    name: "it",
    about: "run one suite, or all, against a real nats-server",
    help: "\
Usage: cargo xtask it [SUITE] [-- FILTER…]
       cargo xtask it list

Runs one suite of the package `integration`, or all of them, against a nats-server that is
started for it. What follows `--` goes to the test program: part of a test's name, or
options such as --nocapture.

Needs a nats-server, as `cargo xtask setup` provides it.
",
    run,
};

fn run(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    let suite = args.positional();
    let filter = args.trailing();
    args.finish()?;
    let suites = suites(workspace)?;

    let mut command = workspace.cargo(["test", "--package", SUITES]);
    match suite.as_deref() {
        Some("list") => {
            for suite in suites {
                println!("{suite}");
            }
            return Ok(ExitCode::SUCCESS);
        }
        Some(suite) if suites.iter().any(|known| known == suite) => {
            command = command.args(["--test", suite]);
        }
        Some(suite) => {
            let message = format!("unknown suite `{suite}`; there are: {}", suites.join(", "));
            return Err(Usage(message).into());
        }
        None => command = command.arg("--tests"),
    }

    let program = provide(workspace, Accept::Pinned)?;
    let server = Server::start(&program.path, None)?;
    if !filter.is_empty() {
        command = command.arg("--").args(filter);
    }
    process::run(workspace, server.serve(command, &program.path))?;
    Ok(ExitCode::SUCCESS)
}

fn suites(workspace: &Workspace) -> Result<Vec<String>> {
    let packages = metadata::packages(workspace)?;
    let package = packages.into_iter().find(|package| package.name == SUITES);
    Ok(package
        .with_context(|| format!("the workspace has no package `{SUITES}`"))?
        .tests)
}
