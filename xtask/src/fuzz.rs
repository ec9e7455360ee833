//! `cargo xtask fuzz`

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use xshell::Cmd;

use crate::{
    Task,
    flags::{Args, Usage},
    process, tools,
    workspace::Workspace,
};

pub(crate) const TASK: Task = Task {
    name: "fuzz",
    about: "fuzz the protocol",
    help: "\
Usage: cargo xtask fuzz TARGET [--secs N] [--keep]
       cargo xtask fuzz TARGET --replay FILE

Runs one fuzz target of stream-proto for N seconds (default 60), on one core:
  decode        any bytes, read as messages, headers and subjects
  hostile_peer  one machine against a peer without rules
  operations    two machines, and a link that drops, repeats and delays
  round_trip    messages and headers from their fields, and back
Begins with the corpus in the repository and what earlier runs found, in the target directory.

  --secs N       for how long
  --keep         then put into the repository's corpus what reaches code that nothing in it reaches
  --replay FILE  run FILE only

Needs a nightly compiler (`rustup toolchain install nightly --profile minimal`) and a C++
compiler. Installs cargo-fuzz below the target directory.
`cargo test` runs the targets over the repository's corpus, and needs none of this.
",
    run,
};

const TARGETS: &[&str] = &["decode", "hostile_peer", "operations", "round_trip"];

/// From the root.
const FUZZ: &str = "crates/stream-proto/fuzz";

const CARGO_FUZZ_VERSION: &str = "0.13.2";

/// 64 MiB at once is four times the largest item: more can only be a length that was believed. A run takes a millisecond.
const LIMITS: [&str; 4] = [
    "-malloc_limit_mb=64",
    "-rss_limit_mb=1024",
    "-timeout=10",
    "-print_final_stats=1",
];

fn run(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    let secs: u64 = match args.value("--secs")? {
        Some(text) => text
            .parse()
            .map_err(|_| Usage(format!("--secs {text}: not a number of seconds")))?,
        None => 60,
    };
    let keep = args.flag("--keep");
    let replay = args.value("--replay")?;
    let target = args
        .positional()
        .filter(|target| TARGETS.contains(&target.as_str()))
        .ok_or_else(|| Usage(format!("name one of the targets: {}", TARGETS.join(", "))))?;
    args.finish()?;

    let fuzz = CargoFuzz::provide(workspace)?;
    if let Some(file) = replay {
        // Counted from where the command was typed.
        let file = env::current_dir()?.join(file);
        fuzz.run(&target, &[&file], &LIMITS)?;
        return Ok(ExitCode::SUCCESS);
    }
    // The first is where libFuzzer puts what it finds.
    let grown = workspace.target().join("fuzz/corpus").join(&target);
    let kept = workspace.root().join(FUZZ).join("corpus").join(&target);
    for directory in [&grown, &kept] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let began = SystemTime::now();
    let time = format!("-max_total_time={secs}");
    let flags = [&LIMITS[..], &[&time]].concat();
    if let Err(error) = fuzz.run(&target, &[&grown, &kept], &flags) {
        let artifacts = workspace.root().join(FUZZ).join("artifacts").join(&target);
        if let Some(file) = newest(&artifacts, began) {
            print!("{}", advice(workspace, &target, &file));
        }
        return Err(error);
    }
    if keep {
        // By edges alone: how often each was taken would keep ten times as many files.
        let flags = [&LIMITS[..], &["-set_cover_merge=1", "-use_counters=0"]].concat();
        fuzz.run(&target, &[&kept, &grown], &flags)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a person does with an input that fails.
fn advice(workspace: &Workspace, target: &str, file: &Path) -> String {
    let shown = workspace.relative(file);
    format!(
        "\n{target} fails on {shown}\n\
         Replay it:           cargo xtask fuzz {target} --replay {shown}\n\
         Keep it as a test:   cp {shown} {FUZZ}/corpus/{target}/\n\
         and run that test:   cargo test --package stream-proto-fuzz --test corpus {target}\n"
    )
}

/// The file in `directory` that was written last, if that was after `began`.
fn newest(directory: &Path, began: SystemTime) -> Option<PathBuf> {
    fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .filter(|(written, _)| *written >= began)
        .max()
        .map(|(_, path)| path)
}

/// cargo-fuzz, and a compiler that it works with.
struct CargoFuzz<'a> {
    workspace: &'a Workspace,
    /// With its directory before everything else.
    path: OsString,
}

impl<'a> CargoFuzz<'a> {
    fn provide(workspace: &'a Workspace) -> Result<Self> {
        require_nightly(workspace)?;
        let directory = tools::build(workspace, "cargo-fuzz", CARGO_FUZZ_VERSION)?;
        let before = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([directory].into_iter().chain(env::split_paths(&before)))?;
        Ok(Self { workspace, path })
    }

    /// Runs a target on files or directories, with flags of libFuzzer.
    fn run(&self, target: &str, inputs: &[&Path], flags: &[&str]) -> Result<()> {
        let root = self.workspace.root();
        let inputs = inputs.iter().map(|path| path.strip_prefix(root).unwrap_or(path));
        let command = nightly(self.workspace, &["fuzz", "run", target, "--fuzz-dir", FUZZ])
            .args(["--features", "libfuzzer", "--target-dir"])
            .arg(self.workspace.target().join("fuzz"))
            .args(inputs)
            .arg("--")
            .args(flags);
        let shown = self.workspace.show(&command);
        let mut command = Command::from(command);
        // With the release profile's LTO each build would take a minute more.
        command.env("PATH", &self.path).env("CARGO_PROFILE_RELEASE_LTO", "off");
        let status = process::status(&shown, &mut command)?;
        if !status.success() {
            bail!("`{shown}` failed: {status}");
        }
        Ok(())
    }
}

/// `cargo +nightly ARGS`, in the root: rustup's cargo, not the one that runs us.
fn nightly<'a>(workspace: &'a Workspace, args: &[&str]) -> Cmd<'a> {
    workspace.command("cargo", &["+nightly"]).args(args)
}

fn require_nightly(workspace: &Workspace) -> Result<()> {
    let output = Command::from(nightly(workspace, &["--version"]))
        .output()
        .context("cannot run `cargo +nightly --version`")?;
    if output.status.success() {
        return Ok(());
    }
    bail!(
        "fuzzing takes a nightly compiler, and `cargo +nightly --version` failed:\n{}\n\n\
         This helps; then run the command again:\n  \
         rustup toolchain install nightly --profile minimal",
        String::from_utf8_lossy(&output.stderr).trim()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_its_program_its_corpus_and_its_line_of_help() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(FUZZ);
        for target in TARGETS {
            assert!(
                fuzz.join("fuzz_targets").join(format!("{target}.rs")).exists(),
                "{target}"
            );
            assert!(fuzz.join("corpus").join(target).exists(), "{target}");
            assert!(TASK.help.contains(&format!("\n  {target} ")), "{target}");
        }
        let programs = fs::read_dir(fuzz.join("fuzz_targets")).unwrap();
        assert_eq!(programs.count(), TARGETS.len());
    }
}
