//! `cargo xtask it`

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{
    Task,
    flags::{Args, Usage},
    metadata::{self, SUITES},
    peers, process,
    provide::{Accept, provide},
    server::Server,
    sim::number,
    workspace::Workspace,
};

pub(crate) const TASK: Task = Task {
    name: "it",
    about: "run one suite, or all, against a real nats-server",
    help: "\
Usage: cargo xtask it [SUITE] [-- FILTER…]
       cargo xtask it SUITE [--seeds N | --seed S] [--minutes N] [--calls N] [--kills N] [-- FILTER…]
       cargo xtask it list

Runs one suite of the package `integration`, or all of them, against a nats-server that is
started for it. What follows `--` goes to the test program: part of a test's name, or
options such as --nocapture.

The suites `chaos`, `soak`, `leak`, `accounts`, `sink-crash`, `record-crash`, `bus_crash`, `bus_keys`, `bus_poison` and
`bus_redelivery` have long forms. With one of these options a suite is built for release, and shows what it prints:

  --seeds N    how many seeds (chaos; default 4; bus_keys; default 1): NATSTREAM_SEEDS
  --seed S     one seed only, with more to read (chaos), another than 0 (soak), or that of a run before
               (sink-crash, record-crash, bus_crash, bus_keys): NATSTREAM_SEED
  --minutes N  for how long (soak; default a few seconds), or how long a handler takes (bus_redelivery): NATSTREAM_MINUTES
  --calls N    how many calls (leak; default 3000; accounts; default 10000): NATSTREAM_CALLS
  --kills N    how many kills (sink-crash; default 12; record-crash; default 15; bus_crash; default 25), or messages that
               kill (bus_poison; default 2): NATSTREAM_KILLS

Builds the program `natstream` first, which some suites run. Needs a nats-server, and the suite
`interop` clients of others, as `cargo xtask setup` provides them.
",
    run,
};

fn run(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    // First, so that their values are not taken for a suite.
    let env = variables(&mut args)?;
    let suite = args.positional();
    let mut filter = args.trailing();
    args.finish()?;
    let suites = suites(workspace)?;

    let mut command = workspace.cargo(["test", "--package", SUITES]);
    if !env.is_empty() {
        if suite.is_none() {
            return Err(
                Usage("--seeds, --seed, --minutes, --calls and --kills need the name of a suite".to_owned()).into(),
            );
        }
        command = command.arg("--release");
        filter.push("--nocapture".to_owned());
    }
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

    if suite.as_deref().is_none_or(|suite| suite == peers::SUITE) {
        command = peers::provide(workspace)?.serve(command);
    }
    let program = provide(workspace, Accept::Pinned)?;
    if env.is_empty() {
        // Cargo builds programs for the tests of their own package only. No long form runs one.
        process::run(workspace, workspace.cargo(["build", "--package", "natstream-cli"]))?;
    }
    let server = Server::start(&program.path, None)?;
    if !filter.is_empty() {
        command = command.arg("--").args(filter);
    }
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    process::run_with(workspace, server.serve(command, &program.path), &env)?;
    Ok(ExitCode::SUCCESS)
}

/// What a suite is told.
fn variables(args: &mut Args) -> Result<Vec<(&'static str, String)>, Usage> {
    let (seeds, seed) = (number(args, "--seeds")?, number(args, "--seed")?);
    if seeds.is_some() && seed.is_some() {
        return Err(Usage("--seed is one run, --seeds are many".to_owned()));
    }
    let minutes = number(args, "--minutes")?;
    let calls = number(args, "--calls")?;
    let kills = number(args, "--kills")?;
    let all = [
        ("NATSTREAM_SEEDS", seeds),
        ("NATSTREAM_SEED", seed),
        ("NATSTREAM_MINUTES", minutes),
        ("NATSTREAM_CALLS", calls),
        ("NATSTREAM_KILLS", kills),
    ];
    let given = all
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?.to_string())));
    Ok(given.collect())
}

fn suites(workspace: &Workspace) -> Result<Vec<String>> {
    let packages = metadata::packages(workspace)?;
    let package = packages.into_iter().find(|package| package.name == SUITES);
    Ok(package
        .with_context(|| format!("the workspace has no package `{SUITES}`"))?
        .tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Result<Vec<(&'static str, String)>, Usage> {
        variables(&mut Args::new(line.split_whitespace().map(str::to_owned)))
    }

    #[test]
    fn options_become_variables() {
        assert_eq!(told("chaos").unwrap(), []);
        assert_eq!(
            told("chaos --seeds 200").unwrap(),
            [("NATSTREAM_SEEDS", "200".to_owned())]
        );
        let soak = [
            ("NATSTREAM_SEED", "7".to_owned()),
            ("NATSTREAM_MINUTES", "2".to_owned()),
        ];
        assert_eq!(told("soak --minutes 2 --seed 7").unwrap(), soak);
        assert_eq!(told("leak --calls 9").unwrap(), [("NATSTREAM_CALLS", "9".to_owned())]);
        let kills = [("NATSTREAM_KILLS", "300".to_owned())];
        assert_eq!(told("sink-crash --kills 300").unwrap(), kills);
        told("chaos --seed 7 --seeds 3").unwrap_err();
        told("soak --minutes long").unwrap_err();
    }
}
