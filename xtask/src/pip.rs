//! What is installed with pip.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};
use xshell::cmd;

use crate::{process::run, workspace::Workspace};

/// Whether pip runs.
pub(crate) fn require(workspace: &Workspace) -> Result<()> {
    let mut command = Command::from(cmd!(workspace.shell, "python3 -m pip --version"));
    let shown = "`python3 -m pip --version`";
    let output = command.output().with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{shown} failed: {}: {}", output.status, stderr.trim());
    }
    Ok(())
}

/// Puts the wheels that `requirements` names, each with its hash, into `dir`.
pub(crate) fn install(workspace: &Workspace, requirements: &Path, dir: &Path) -> Result<()> {
    let pip = cmd!(
        workspace.shell,
        "python3 -m pip install --quiet --disable-pip-version-check --no-input --no-deps --only-binary :all:
         --require-hashes --target {dir} -r {requirements}"
    )
    // Settings of people's own that `--target` does not go with, and a warning to root that
    // does not apply to it. Old versions of pip do not know the last one as an option.
    .envs([
        ("PIP_USER", "0"),
        ("PIP_REQUIRE_VIRTUALENV", "0"),
        ("PIP_ROOT_USER_ACTION", "ignore"),
    ]);
    run(workspace, pip)
}
