//! `cargo xtask mutate`

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use xshell::Cmd;

use crate::{
    Task,
    flags::{Args, Usage},
    process, sim,
    workspace::Workspace,
};

mod list;
mod outcome;
mod tree;

use list::{MUTATIONS, Mutation};
use outcome::{Outcome, Row, Table};
use tree::Tree;

pub(crate) const TASK: Task = Task {
    name: "mutate",
    about: "break rules of the protocol, and see that `sim` notices",
    help: "\
Usage: cargo xtask mutate [--seeds N] [NAME…]
       cargo xtask mutate list

Breaks one rule of the protocol after the other in a copy of stream-proto, and runs `cargo xtask sim`
on each copy until a check fails. Prints which check noticed, and at which seed; exit code 1 if
none did, unless the list (xtask/src/mutate/list.rs) says why none can.
Without names it runs all of them, which takes about a minute.

  --seeds N  how many seeds each gets at most (default 20000)

The copy of the last mutation, and what each run printed, stay in `mutants` in the target directory.
",
    run,
};

fn run(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    let seeds = sim::number(&mut args, "--seeds")?.unwrap_or(sim::SEEDS);
    let names: Vec<String> = std::iter::from_fn(|| args.positional()).collect();
    args.finish()?;
    if names == ["list"] {
        print!("{}", list());
        return Ok(ExitCode::SUCCESS);
    }
    let mutations = select(&names)?;

    let tree = Tree::read(workspace)?;
    // All of them before the first is built: a text that is gone is found at once.
    let mutants = mutations
        .iter()
        .map(|mutation| Ok((*mutation, tree.mutant(mutation)?)))
        .collect::<Result<Vec<_>>>()?;

    let runner = Runner::new(workspace, seeds)?;
    let mut table = Table::new();
    // What fails without a mutation as well would prove nothing.
    let (unchanged, _) = runner.run("unchanged", &tree)?;
    if unchanged != Outcome::Passed {
        bail!("the simulation fails without any mutation: {unchanged}");
    }
    for (mutation, mutant) in mutants {
        let (outcome, took) = runner.run(mutation.name, &mutant)?;
        let row = Row::new(mutation, outcome, took);
        eprintln!("{}: {}", mutation.name, row.verdict());
        table.push(row);
    }
    print!("\n{table}");
    Ok(if table.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The mutations of these names, or all.
fn select(names: &[String]) -> Result<Vec<&'static Mutation>, Usage> {
    if names.is_empty() {
        return Ok(MUTATIONS.iter().collect());
    }
    let find = |name: &String| {
        MUTATIONS.iter().find(|mutation| mutation.name == name).ok_or_else(|| {
            Usage(format!(
                "unknown mutation `{name}`; `cargo xtask mutate list` shows them"
            ))
        })
    };
    names.iter().map(find).collect()
}

fn list() -> String {
    let mut text = String::new();
    for mutation in MUTATIONS {
        text += &format!("{:<26} {:<7} {}\n", mutation.name, mutation.rules(), mutation.what);
    }
    text
}

/// Builds and runs the copies one after the other, in one directory: so cargo rebuilds only what a mutation changes.
struct Runner<'a> {
    workspace: &'a Workspace,
    directory: PathBuf,
    seeds: u64,
}

impl<'a> Runner<'a> {
    fn new(workspace: &'a Workspace, seeds: u64) -> Result<Self> {
        let directory = workspace.target().join("mutants");
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self {
            workspace,
            directory,
            seeds,
        })
    }

    /// Runs the simulation on a copy: what came out, and after how many seconds.
    fn run(&self, name: &str, tree: &Tree) -> Result<(Outcome, f64)> {
        let started = Instant::now();
        tree.write(&self.root())?;

        let log = self.directory.join(name).with_extension("log");
        let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let command = self.command();
        let seeds = self.seeds;
        let shown = format!("NATSTREAM_SIM_SEEDS={seeds} {} # {name}", self.workspace.show(&command));
        let mut command = Command::from(command);
        // A file and not a pipe, which would have to be emptied while we wait.
        command.stderr(file.try_clone()?).stdout(file);
        let status = process::status(&shown, &mut command)?;

        let printed = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
        let outcome = Outcome::read(status.success(), &String::from_utf8_lossy(&printed));
        Ok((outcome, started.elapsed().as_secs_f64()))
    }

    fn command(&self) -> Cmd<'_> {
        // Counted from the workspace's root, where cargo runs.
        let within = |path: PathBuf| path.strip_prefix(self.workspace.root()).unwrap_or(&path).to_owned();
        let mut command = self
            .workspace
            .cargo(sim::TEST)
            .arg("--manifest-path")
            .arg(within(self.root().join("Cargo.toml")))
            .arg("--target-dir")
            .arg(within(self.directory.join("target")))
            .args(["--", "--exact", sim::NAME, "--nocapture", "--quiet"])
            .env("NATSTREAM_SIM_SEEDS", self.seeds.to_string());
        for (name, value) in BUILD {
            command = command.env(name, value);
        }
        for name in ["NATSTREAM_SIM_SEED", "NATSTREAM_SIM_FIRST", "NATSTREAM_SIM_FAILURES"] {
            command = command.env_remove(name);
        }
        command
    }

    /// Where the copies are.
    fn root(&self) -> PathBuf {
        self.directory.join("workspace")
    }
}

/// A mutant is built once and runs for seconds: what it takes to build counts as much as how fast it is.
const BUILD: &[(&str, &str)] = &[
    ("CARGO_INCREMENTAL", "1"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    // A mutation leaves unused names behind, which are no reason to refuse it.
    ("RUSTFLAGS", "--cap-lints=allow"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_are_found_by_name() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(select(&[]).unwrap().len(), MUTATIONS.len());
        for mutation in MUTATIONS {
            let found = select(&names(&[mutation.name])).unwrap();
            assert_eq!(found[0].what, mutation.what, "{} twice", mutation.name);
        }
        select(&names(&["no-such-mutation"])).unwrap_err();
        assert_eq!(list().lines().count(), MUTATIONS.len());
    }
}
