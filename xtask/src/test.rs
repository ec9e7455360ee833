//! `cargo xtask test`

use std::{collections::BTreeSet, process::ExitCode};

use anyhow::Result;
use xshell::Cmd;

use crate::{
    Task, docs,
    flags::Args,
    fmt, lint,
    metadata::{self, Package, SUITES},
    parallel,
    peers::{self, Peers},
    process::{Interrupted, run as run_command},
    provide::{Accept, Provided, provide},
    report::Report,
    server::Server,
    tidy,
    workspace::Workspace,
};

pub(crate) const TASK: Task = Task {
    name: "test",
    about: "run every check and every test",
    help: "\
Usage: cargo xtask test

Runs every check and every test: format, tidy, vectors, lints, documentation, unit tests, integration
tests with the examples, suites in their short form, doc tests, and the project `examples/starter`. Test programs of the integration tests and
of the suites run side by side, one for each processor. Stops at the first step that fails; ends with a table of times.

One nats-server serves all tests that need nothing special. It and the clients of others are
those of `cargo xtask setup`, which is done where needed.
",
    run,
};

/// One line of the table.
struct Step {
    name: &'static str,
    action: Action,
}

enum Action {
    /// Find or install nats-server, and start the one that the tests share.
    Server,
    /// Find or install the clients of others.
    Peers,
    /// `cargo` with these arguments.
    Cargo(Vec<String>),
    /// The same, with the shared server and the peers.
    Tests(Vec<String>),
    /// The same, with programs side by side.
    Programs(Vec<String>),
    Docs,
    /// The project that people copy, which is a workspace of its own.
    Starter,
    Tidy,
    /// Are the files of test vectors up to date?
    Vectors,
}

fn run(workspace: &Workspace, args: Args) -> Result<ExitCode> {
    args.finish()?;
    let packages = metadata::packages(workspace)?;
    let mut shared = Shared::default();
    let mut report = Report::new();
    let mut result = Ok(());
    for step in steps(&packages) {
        if result.is_err() {
            report.not_run(step.name);
            continue;
        }
        result = report.time(step.name, || step.action.run(workspace, &mut shared));
    }
    // The table is the last thing to read, also below an error.
    match result {
        Err(error) if !error.is::<Interrupted>() => {
            eprintln!("error: {error:#}");
            print!("\n{report}");
            Ok(ExitCode::FAILURE)
        }
        result => {
            print!("\n{report}");
            result.map(|()| ExitCode::SUCCESS)
        }
    }
}

/// All steps, the quick ones first.
///
/// Everything that is built for running names the same packages. Cargo unites the features
/// of the packages it is asked for, so other sets would build the dependencies once more.
fn steps(packages: &[Package]) -> Vec<Step> {
    let mut set = vec!["--workspace"];
    if packages.iter().any(|package| package.name == BENCH) {
        // Linted, but neither built nor run here: it measures.
        set.extend(["--exclude", BENCH]);
    }
    let build = |targets: &[&str]| Action::Cargo(owned(&[&["build"], &set[..], targets].concat()));
    let tests = |targets: &[&str]| {
        let command = [&["test"], &set[..], &["--no-fail-fast"], targets].concat();
        Action::Tests(owned(&command))
    };
    let programs = |targets: &[&str]| Action::Programs(owned(&[&["test"], &set[..], targets].concat()));
    let step = |name, action| Step { name, action };

    let mut steps = vec![
        step("nats-server", Action::Server),
        step("peers", Action::Peers),
        step("format", Action::Cargo(owned(fmt::CHECK))),
        step("tidy", Action::Tidy),
        step("vectors", Action::Vectors),
        step("lint", Action::Cargo(owned(lint::CLIPPY))),
        step("docs", Action::Docs),
        // Tests start programs and examples; cargo builds those for tests of their own
        // package only.
        step("build", build(&["--bins", "--examples"])),
        step("unit tests", tests(&["--lib", "--bins"])),
    ];
    let suites = test_targets(packages, |package| package == SUITES);
    let others = test_targets(packages, |package| package != SUITES && package != BENCH);
    for (name, targets) in [("integration tests", others), ("suites", suites)] {
        // Without a name cargo would run them all.
        if !targets.is_empty() {
            steps.push(step(name, programs(&targets)));
        }
    }
    steps.push(step("doc tests", tests(&["--doc"])));
    steps.push(step("starter", Action::Starter));
    steps
}

/// The arguments that select the `[[test]]` targets of some packages, each name once.
fn test_targets(packages: &[Package], wanted: impl Fn(&str) -> bool) -> Vec<&str> {
    let packages = packages.iter().filter(|package| wanted(&package.name));
    let names: BTreeSet<&str> = packages
        .flat_map(|package| &package.tests)
        .map(String::as_str)
        .collect();
    names.into_iter().flat_map(|name| ["--test", name]).collect()
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().copied().map(str::to_owned).collect()
}

/// The package of load programs and peers.
const BENCH: &str = "bench";

/// Writes the test vectors of the protocol, or checks that they are what it would write.
const VECTORS: &str = "docs/vectors/generate.py";

/// The project that people copy.
const STARTER: &str = "examples/starter/Cargo.toml";

/// Which versions it is built with. Git knows nothing of it: whoever copies the project makes their own.
const STARTER_LOCK: &str = "examples/starter/Cargo.lock";

/// What the tests of a run share.
#[derive(Default)]
struct Shared {
    server: Option<(Provided, Server)>,
    peers: Option<Peers>,
}

impl Shared {
    fn serve<'a>(&self, mut command: Cmd<'a>) -> Cmd<'a> {
        if let Some((program, server)) = &self.server {
            command = server.serve(command, &program.path);
        }
        if let Some(peers) = &self.peers {
            command = peers.serve(command);
        }
        command
    }
}

impl Action {
    fn run(&self, workspace: &Workspace, shared: &mut Shared) -> Result<()> {
        match self {
            Self::Server => {
                let program = provide(workspace, Accept::Pinned)?;
                let server = Server::start(&program.path, None)?;
                shared.server = Some((program, server));
                Ok(())
            }
            Self::Peers => {
                shared.peers = Some(peers::provide(workspace)?);
                Ok(())
            }
            Self::Cargo(args) => run_command(workspace, workspace.cargo(args.iter().map(String::as_str))),
            Self::Tests(args) => {
                let command = workspace.cargo(args.iter().map(String::as_str));
                run_command(workspace, shared.serve(command))
            }
            Self::Programs(args) => {
                let command = workspace.cargo(args.iter().map(String::as_str));
                parallel::test(workspace, command, |program| shared.serve(program))
            }
            Self::Docs => docs::build(workspace, &[]),
            Self::Starter => {
                let manifest = ["--manifest-path", STARTER];
                run_command(workspace, workspace.cargo(["fmt", "--check"]).args(manifest))?;
                // The same versions, in the same directory: as much as possible is not built again.
                workspace.shell.copy_file("Cargo.lock", STARTER_LOCK)?;
                let target = workspace.target();
                let mut command = workspace.cargo(["test"]).args(manifest).arg("--target-dir").arg(target);
                if let Some((_, server)) = &shared.server {
                    command = command.env("NATS_URL", server.url());
                }
                run_command(workspace, command)
            }
            Self::Tidy => tidy::check(workspace),
            Self::Vectors => run_command(workspace, workspace.command("python3", &[VECTORS, "--check"])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, tests: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            tests: owned(tests),
            features: Vec::new(),
            has_defaults: false,
            is_published: false,
            lacks: Vec::new(),
        }
    }

    #[test]
    fn every_test_target_has_its_step() {
        let packages = [
            package("bench", &["measures"]),
            package(SUITES, &["restart"]),
            package("stream-client", &["server"]),
            package("testkit", &["server"]),
        ];
        let targets = |name: &str, packages: &[Package]| {
            let step = steps(packages).into_iter().find(|step| step.name == name)?;
            match step.action {
                Action::Tests(args) | Action::Programs(args) => Some(args.join(" ")),
                _ => None,
            }
        };
        let all = "test --workspace --exclude bench --no-fail-fast";
        let programs = "test --workspace --exclude bench";
        assert_eq!(
            targets("integration tests", &packages),
            Some(format!("{programs} --test server"))
        );
        assert_eq!(targets("suites", &packages), Some(format!("{programs} --test restart")));
        assert_eq!(targets("unit tests", &packages), Some(format!("{all} --lib --bins")));
        assert_eq!(targets("suites", &[]), None);
        assert_eq!(
            targets("doc tests", &[]),
            Some("test --workspace --no-fail-fast --doc".to_owned())
        );
    }
}
