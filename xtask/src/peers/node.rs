//! nats.js, in a `node_modules`.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use xshell::cmd;

use super::{Kind, probe};
use crate::{process::run, workspace::Workspace};

const PACKAGE: &str = include_str!("../../../tests/interop/js/package.json");
const LOCK: &str = include_str!("../../../tests/interop/js/package-lock.json");

pub(super) const KIND: Kind = Kind {
    variable: "NATSTREAM_NODE_MODULES",
    name: "node-peers",
    pins: &[PACKAGE, LOCK],
    part: "node_modules",
    check,
    install,
    remedies: "\
It takes node, 20 or newer, with npm. One of these helps; then run the command again:
  sudo apt-get install nodejs npm                           # or what your system calls them
  npm config set registry https://your.mirror               # where npm cannot reach its registry
  export NATSTREAM_NODE_MODULES=/path/to/node_modules       # where you have it already",
};

fn check(modules: &Path) -> Result<()> {
    let script = "require('@nats-io/transport-node'); require('@nats-io/services')";
    probe(Command::new("node").args(["-e", script]).env("NODE_PATH", modules))
}

/// The checksums are npm's work, and so are mirrors, proxies and company certificates. What it installs runs nothing.
fn install(workspace: &Workspace, dir: &Path) -> Result<()> {
    // npm without node would say less.
    probe(Command::new("node").arg("--version"))?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    // Copies, since npm installs beside them.
    fs::write(dir.join("package.json"), PACKAGE)?;
    fs::write(dir.join("package-lock.json"), LOCK)?;
    let npm = cmd!(
        workspace.shell,
        "npm ci --prefix {dir} --ignore-scripts --no-audit --no-fund --loglevel=error"
    );
    run(workspace, npm)
}
