//! `cargo xtask typos`

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};

use crate::{Task, flags::Args, pip, process::run as run_command, tools, workspace::Workspace};

pub(crate) const TASK: Task = Task {
    name: "typos",
    about: "look for misspelt words",
    help: "\
Usage: cargo xtask typos [--write]

Looks for misspelt words in everything that git tracks. Words that are meant stand in typos.toml.
  --write  correct them

Installs typos with pip below the target directory.
",
    run,
};

/// A pip requirements file; it also is the one place that names the version.
const REQUIREMENTS: &str = include_str!("../typos.txt");

fn run(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    let write = args.flag("--write");
    args.finish()?;
    let program = provide(workspace)?;
    let command = workspace.shell.cmd(program).arg("--format").arg("brief");
    run_command(workspace, if write { command.arg("--write-changes") } else { command })?;
    Ok(ExitCode::SUCCESS)
}

/// The pinned typos, which is installed at its first use.
fn provide(workspace: &Workspace) -> Result<std::path::PathBuf> {
    let dir = tools::directory(workspace, &format!("typos-{}", version()));
    let check = |dir: &Path| {
        let program = dir.join("bin/typos");
        let output = Command::new(&program)
            .arg("--version")
            .output()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            said.contains(version()),
            "it is {} instead of {}",
            said.trim(),
            version()
        );
        Ok(())
    };
    if !tools::is_cached(&dir, check)? {
        pip::require(workspace)?;
        let requirements = workspace.root().join("xtask/typos.txt");
        tools::install(&dir, check, |part| pip::install(workspace, &requirements, part))
            .with_context(|| format!("cannot install typos {}", version()))?;
    }
    Ok(dir.join("bin/typos"))
}

fn version() -> &'static str {
    REQUIREMENTS
        .lines()
        .find_map(|line| line.strip_prefix("typos=="))
        .and_then(|rest| rest.split_whitespace().next())
        .expect("xtask/typos.txt has a line `typos==VERSION`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_version_is_read_and_has_four_hashes() {
        assert!(version().starts_with("1."), "{}", version());
        assert_eq!(REQUIREMENTS.matches("--hash=sha256:").count(), 4);
    }
}
