//! `cargo xtask tidy`: rules that no compiler checks.

use std::{fmt, fs, io, process::ExitCode};

use anyhow::{Context, Result, bail};
use xshell::cmd;

use crate::{Task, flags::Args, workspace::Workspace};

mod edges;
mod features;
mod lock;
mod machine;
mod manifest;
mod manifests;
mod npm;
mod pages;
mod rust;
mod size;

pub(crate) const TASK: Task = Task {
    name: "tidy",
    about: "check rules that no compiler checks",
    help: "\
Usage: cargo xtask tidy

Checks rules that no compiler checks: which of our crates may depend on which, what manifests
inherit, sorted dependencies, features that are documented, no paths of one machine, sizes of files, reasons for ignored
tests and for sleeping ones, no address of a registry in lock files of npm, pages whose links
lead somewhere, that stand in docs/README.md, and whose examples are compiled.
`cargo test -p xtask` checks the same.

Needs git, and looks at files that git tracks or would add.
",
    run,
};

/// A check gets all files, and picks its own.
type Check = fn(&[Source]) -> Vec<Finding>;

const CHECKS: &[Check] = &[
    edges::check,
    features::check,
    lock::check,
    machine::check,
    manifests::check,
    npm::check,
    pages::check_examples,
    pages::check_index,
    pages::check_links,
    pages::check_translations,
    rust::check_ignored_tests,
    rust::check_leftovers,
    rust::check_sleeps,
    size::check,
];

/// A text file of the repository.
struct Source {
    /// From the root, with `/`.
    path: String,
    text: String,
}

/// A rule that is broken, and what to do about it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Source {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The lines with their numbers, from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

fn run(workspace: &Workspace, args: Args) -> Result<ExitCode> {
    args.finish()?;
    check(workspace)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs all checks on the repository, and prints what they find.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let sources = sources(workspace)?;
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(&sources)).collect();
    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => bail!("`cargo xtask tidy` failed: {count} findings"),
    }
}

/// All text files that git tracks, or would add: a new file is checked before it is committed.
fn sources(workspace: &Workspace) -> Result<Vec<Source>> {
    let sh = &workspace.shell;
    let command = cmd!(sh, "git ls-files -z --cached --others --exclude-standard").quiet();
    let paths = command
        .read()
        .context("tidy asks git for the files of the repository")?;
    let mut sources = Vec::new();
    for path in paths.split_terminator('\0') {
        let full = workspace.root().join(path);
        if full.is_dir() || full.is_symlink() {
            // A submodule, or a link to what is looked at where it is.
            continue;
        }
        let bytes = match fs::read(&full) {
            // Removed, and git has not been told yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.with_context(|| format!("cannot read {path}"))?,
        };
        // The others are binary.
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        check(&Workspace::open().unwrap()).unwrap();
    }

    #[test]
    fn findings_read_like_compiler_errors() {
        let source = source("a/b.rs", "one\ntwo\n");
        assert_eq!(source.finding(2, "no; do this").to_string(), "a/b.rs:2: no; do this");
        assert_eq!(source.name(), "b.rs");
        assert_eq!(source.lines().collect::<Vec<_>>(), [(1, "one"), (2, "two")]);
    }

    pub(super) fn source(path: &str, text: &str) -> Source {
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The lines on which `check` finds something in one file.
    pub(super) fn lines(check: fn(&[Source]) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        check(&[source(path, text)])
            .into_iter()
            .map(|finding| finding.line)
            .collect()
    }
}
