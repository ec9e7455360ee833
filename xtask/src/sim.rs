//! `cargo xtask sim`

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    Task,
    flags::{Args, Usage},
    process,
    workspace::Workspace,
};

pub(crate) const TASK: Task = Task {
    name: "sim",
    about: "simulate the protocol on a NATS that fails",
    help: "\
Usage: cargo xtask sim [--seeds N] [--first K]
       cargo xtask sim --seed S

Runs both machines of stream-proto against each other in virtual time, on a simulated NATS that
loses, repeats and delays messages and cuts connections: everything follows from the seed.
Prints what happened; a check that fails ends it with the seed, and exit code 1.

  --seeds N  how many seeds (default 20000, about ten seconds)
  --first K  the first of them (default 0)
  --seed S   one seed only, with every message
",
    run,
};

pub(crate) const TEST: [&str; 6] = ["test", "--release", "--package", "stream-proto", "--test", "sim"];

/// The test of the target that takes the variables.
pub(crate) const NAME: &str = "every_call_gets_its_items_and_one_verdict";

/// Without `--seeds`.
pub(crate) const SEEDS: u64 = 20_000;

fn run(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    let env = variables(&mut args)?;
    args.finish()?;

    let command = workspace
        .cargo(TEST)
        .args(["--", "--exact", NAME, "--nocapture", "--quiet"]);
    let mut shown = String::new();
    for (name, value) in &env {
        shown += &format!("{name}={value} ");
    }
    shown += &workspace.show(&command);
    let status = process::status(&shown, Command::from(command).envs(env))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the test is told.
fn variables(args: &mut Args) -> Result<Vec<(&'static str, String)>> {
    let seed = number(args, "--seed")?;
    let (seeds, first) = (number(args, "--seeds")?, number(args, "--first")?);
    if let Some(seed) = seed {
        if seeds.is_some() || first.is_some() {
            return Err(Usage("--seed is one run, --seeds and --first are many".to_owned()).into());
        }
        return Ok(vec![("NATSTREAM_SIM_SEED", seed.to_string())]);
    }
    Ok(vec![
        ("NATSTREAM_SIM_SEEDS", seeds.unwrap_or(SEEDS).to_string()),
        ("NATSTREAM_SIM_FIRST", first.unwrap_or(0).to_string()),
    ])
}

pub(crate) fn number(args: &mut Args, name: &str) -> Result<Option<u64>, Usage> {
    let Some(value) = args.value(name)? else {
        return Ok(None);
    };
    match value.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(Usage(format!("{name} needs a number, not `{value}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Result<Vec<(&'static str, String)>> {
        variables(&mut Args::new(line.split_whitespace().map(str::to_owned)))
    }

    #[test]
    fn one_seed_is_shown_and_many_are_counted() {
        let one = told("--seed 7").unwrap();
        assert_eq!(one, [("NATSTREAM_SIM_SEED", "7".to_owned())]);
        let many = told("--first 9").unwrap();
        let seeds = ("NATSTREAM_SIM_SEEDS", SEEDS.to_string());
        assert_eq!(many, [seeds, ("NATSTREAM_SIM_FIRST", "9".to_owned())]);
        told("--seed 7 --seeds 3").unwrap_err();
        told("--seeds many").unwrap_err();
    }
}
