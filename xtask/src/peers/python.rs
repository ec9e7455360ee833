//! nats-py, in a virtual environment.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};
use xshell::cmd;

use super::{Kind, probe};
use crate::{pip, process::run, workspace::Workspace};

/// From the root.
const REQUIREMENTS: &str = "tests/interop/requirements.txt";

pub(super) const KIND: Kind = Kind {
    variable: "NATSTREAM_PYTHON",
    name: "python-peers",
    pins: &[include_str!("../../../tests/interop/requirements.txt")],
    part: "bin/python",
    check: |python| probe(Command::new(python).args(["-c", "import nats"])),
    install,
    remedies: "\
It takes python3 with venv and pip. One of these helps; then run the command again:
  sudo apt-get install python3-venv python3-pip             # or what your system calls them
  export PIP_INDEX_URL=https://your.mirror/simple           # where pip cannot reach its index
  export NATSTREAM_PYTHON=/path/to/python                   # where you have one with nats-py already",
};

/// Makes a virtual environment without a pip of its own: some systems have no `ensurepip`, and the one that is there
/// can put its packages where it will look for them.
fn install(workspace: &Workspace, dir: &Path) -> Result<()> {
    let sh = &workspace.shell;
    pip::require(workspace)?;
    run(workspace, cmd!(sh, "python3 -m venv --without-pip {dir}"))?;
    let python = dir.join("bin/python");
    let script = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let packages = cmd!(sh, "{python} -c {script}")
        .quiet()
        .read()
        .context("the new virtual environment does not run")?;
    pip::install(workspace, &workspace.root().join(REQUIREMENTS), Path::new(&packages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned_and_has_its_hash() {
        let lines: Vec<&str> = KIND.pins[0].lines().filter(|line| !line.starts_with('#')).collect();
        let pins = lines.iter().filter(|line| line.contains("==")).count();
        let hashes = lines.iter().filter(|line| line.contains("--hash=sha256:")).count();
        assert!(pins >= 1 && hashes >= pins, "{lines:?}");
    }
}
