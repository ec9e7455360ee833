//! The one entry for developers: `cargo xtask COMMAND`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal: results go to stdout, the rest to stderr"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "times the steps and waits for processes; no protocol code is here"
)]

use std::{env, process::ExitCode};

use anyhow::Result;

use crate::{
    flags::{Args, Usage},
    process::Interrupted,
    workspace::Workspace,
};

mod bench;
mod demo;
mod deny;
mod docs;
mod features;
mod flags;
mod fmt;
mod fuzz;
mod instructions;
mod it;
mod lint;
mod metadata;
mod mutate;
mod nats;
mod package;
mod parallel;
mod peers;
mod pip;
mod process;
mod provide;
mod report;
mod server;
mod setup;
mod sim;
mod test;
mod tidy;
mod tools;
mod typos;
mod watchdog;
mod workspace;

/// One command.
struct Task {
    name: &'static str,
    /// What it does, in a few words.
    about: &'static str,
    /// Its `--help`: the usage first.
    help: &'static str,
    run: fn(&Workspace, Args) -> Result<ExitCode>,
}

const TASKS: &[Task] = &[
    setup::TASK,
    demo::TASK,
    test::TASK,
    it::TASK,
    nats::TASK,
    fuzz::TASK,
    sim::TASK,
    mutate::TASK,
    bench::TASK,
    fmt::TASK,
    lint::TASK,
    docs::TASK,
    tidy::TASK,
    typos::TASK,
    deny::TASK,
    features::TASK,
    package::TASK,
];

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let name = args.next().unwrap_or_default();
    if matches!(name.as_str(), "-h" | "--help" | "help") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        match name.as_str() {
            "" => eprint!("error: no command\n\n{}", help()),
            _ => eprint!("error: unknown command `{name}`\n\n{}", help()),
        }
        return ExitCode::from(2);
    };
    let mut args = Args::new(args);
    if args.flag("--help") || args.flag("-h") {
        print!("{}", task.help);
        return ExitCode::SUCCESS;
    }

    let result = process::watch_signals()
        .and_then(|()| Workspace::open())
        .and_then(|workspace| (task.run)(&workspace, args));
    result.unwrap_or_else(|error| {
        if let Some(Interrupted(signal)) = error.downcast_ref() {
            // What shells report for a process that a signal ended.
            return ExitCode::from(128 + signal);
        }
        eprintln!("error: {error:#}");
        if error.is::<Usage>() {
            eprint!("\n{}", task.help);
            return ExitCode::from(2);
        }
        ExitCode::FAILURE
    })
}

fn help() -> String {
    let mut text = "Usage: cargo xtask COMMAND\n\nCommands:\n".to_owned();
    for task in TASKS {
        text += &format!("  {:<8} {}\n", task.name, task.about);
    }
    text + "\n`cargo xtask COMMAND --help` says more.\n"
}
