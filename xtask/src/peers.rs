//! The clients of others that the suite `interop` talks to, with no step by hand.

use std::{
    env,
    hash::{DefaultHasher, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use xshell::Cmd;

use crate::{provide::with_remedies, tools, workspace::Workspace};

mod node;
mod python;

/// The suite that needs them.
pub(crate) const SUITE: &str = "interop";

/// What both kinds of peers are; testkit's `peers.rs` looks for them by the same names.
struct Kind {
    /// The variable that names one that is there already, and tells tests where it is.
    variable: &'static str,
    /// The beginning of its directory's name.
    name: &'static str,
    /// What the files that pin its versions say; a change of it is another directory.
    pins: &'static [&'static str],
    /// What the tests use of the directory.
    part: &'static str,
    /// Whether that part is of use.
    check: fn(&Path) -> Result<()>,
    /// Fills a directory.
    install: fn(&Workspace, &Path) -> Result<()>,
    /// What a person can do when it cannot be filled.
    remedies: &'static str,
}

/// Peers that have shown that they run.
pub(crate) struct Peers(Vec<Provided>);

struct Provided {
    kind: &'static Kind,
    path: PathBuf,
    origin: &'static str,
}

/// Finds the peers, or installs them below the target directory.
pub(crate) fn provide(workspace: &Workspace) -> Result<Peers> {
    let peers = [&python::KIND, &node::KIND].map(|kind| kind.provide(workspace));
    Ok(Peers(peers.into_iter().collect::<Result<_>>()?))
}

impl Peers {
    /// Lets the tests that `command` runs use them.
    pub(crate) fn serve<'a>(&self, command: Cmd<'a>) -> Cmd<'a> {
        self.0
            .iter()
            .fold(command, |command, peer| command.env(peer.kind.variable, &peer.path))
    }

    /// A line about each.
    pub(crate) fn describe(&self, workspace: &Workspace) -> String {
        let line = |peer: &Provided| {
            let (name, path) = (peer.kind.name, workspace.relative(&peer.path));
            format!("{name}, {}: {path}\n", peer.origin)
        };
        self.0.iter().map(line).collect()
    }
}

impl Kind {
    fn provide(&'static self, workspace: &Workspace) -> Result<Provided> {
        let provided = |path, origin| Provided {
            kind: self,
            path,
            origin,
        };
        if let Some(path) = env::var_os(self.variable).filter(|path| !path.is_empty()) {
            let path = env::current_dir()?.join(path);
            (self.check)(&path).with_context(|| format!("{} does not do; correct or unset it", self.variable))?;
            return Ok(provided(path, "from the environment"));
        }
        let dir = tools::directory(workspace, &self.directory());
        let path = dir.join(self.part);
        let check = |dir: &Path| (self.check)(&dir.join(self.part));
        if tools::is_cached(&dir, check)? {
            return Ok(provided(path, "cached"));
        }
        tools::install(&dir, check, |part| (self.install)(workspace, part))
            .map_err(|error| with_remedies(error, self.remedies))
            .with_context(|| format!("cannot install {}", self.name))?;
        Ok(provided(path, "installed"))
    }

    /// The name of its directory below `target/tools`.
    fn directory(&self) -> String {
        let mut hasher = DefaultHasher::new();
        for text in self.pins {
            hasher.write(text.as_bytes());
        }
        format!("{}-{:016x}", self.name, hasher.finish())
    }
}

/// Runs a command that must succeed, and has nothing to say then.
fn probe(command: &mut Command) -> Result<()> {
    let shown = format!("`{}`", command.get_program().display());
    let output = command.output().with_context(|| format!("cannot run {shown}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{shown} failed: {}", stderr.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_named_for_what_they_hold() {
        let kind = |pins| Kind { pins, ..python::KIND };
        let one = kind(&["a==1"]).directory();
        assert_eq!(one, kind(&["a==1"]).directory());
        assert_ne!(one, kind(&["a==2"]).directory());
        assert_eq!(one.len(), "python-peers-".len() + 16);
    }

    #[test]
    fn a_program_that_fails_is_told_with_its_words() {
        let sh = |script| probe(Command::new("/bin/sh").args(["-c", script]));
        sh("exit 0").unwrap();
        let error = sh("echo the reason >&2; exit 1").unwrap_err();
        assert!(error.to_string().contains("the reason"), "{error:#}");
        probe(&mut Command::new("no-such-program")).unwrap_err();
    }
}
