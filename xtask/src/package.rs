//! `cargo xtask package`

use std::{fs, process::ExitCode};

use anyhow::{Context, Result, bail};

use crate::{Task, flags::Args, metadata, process::run as run_command, workspace::Workspace};

pub(crate) const TASK: Task = Task {
    name: "package",
    about: "make the packages that would be published, and look at what is in them",
    help: "\
Usage: cargo xtask package [--verify]

Makes the packages of all published crates in the target directory, and checks what their manifests
say to readers, that licences and a README are in each, that nothing else than sources and the
guide is, and how large they are. Publishes nothing.
  --verify  also build each from its package, with the packages of the others
",
    run,
};

/// The largest is half of it. crates.io takes 10 MiB.
const MOST_BYTES: u64 = 512 * 1024;

/// What each has.
const NEEDED: [&str; 5] = ["Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs"];

/// What cargo adds.
const ADDED: [&str; 3] = [".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml.orig"];

/// Directories, and the kinds of files that they may have.
const TREES: [(&str, &[&str]); 2] = [("docs/", &["md"]), ("src/", &["md", "rs", "txt", "yaml"])];

fn run(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    let verify = args.flag("--verify");
    args.finish()?;
    let packages = metadata::packages(workspace)?;
    let published: Vec<_> = packages.iter().filter(|package| package.is_published).collect();
    let mut command = workspace.cargo(["package", "--quiet", "--locked", "--allow-dirty"]);
    for package in &published {
        command = command.args(["--package", &package.name]);
    }
    run_command(workspace, if verify { command } else { command.arg("--no-verify") })?;

    let mut findings = Vec::new();
    for package in published {
        let name = &package.name;
        findings.extend(
            package
                .lacks
                .iter()
                .map(|key| format!("{name}: its manifest has no `{key}`")),
        );
        let list = workspace
            .cargo([
                "package",
                "--list",
                "--quiet",
                "--locked",
                "--allow-dirty",
                "--package",
                name,
            ])
            .quiet()
            .read()
            .with_context(|| format!("cannot list the files of {name}"))?;
        let files: Vec<&str> = list.lines().collect();
        findings.extend(wrong(&files).map(|finding| format!("{name}: {finding}")));
        let bytes = size(workspace, name)?;
        if bytes > MOST_BYTES {
            findings.push(format!("{name}: {bytes} bytes, more than {MOST_BYTES}"));
        }
        println!("{name:<20} {:>4} files {:>7.1} KiB", files.len(), bytes as f64 / 1024.0);
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => bail!("{count} findings"),
    }
}

/// The bytes of the package of the crate `name`.
fn size(workspace: &Workspace, name: &str) -> Result<u64> {
    let dir = workspace.target().join("package");
    let version = env!("CARGO_PKG_VERSION");
    let path = dir.join(format!("{name}-{version}.crate"));
    let metadata = fs::metadata(&path).with_context(|| format!("cargo has not made {}", path.display()))?;
    Ok(metadata.len())
}

/// What is missing from these files, and what must not be there.
fn wrong<'a>(files: &'a [&'a str]) -> impl Iterator<Item = String> + 'a {
    let missing = NEEDED.iter().filter(|needed| !files.contains(needed));
    let unwanted = files.iter().filter(|file| !is_wanted(file));
    missing
        .map(|file| format!("{file} is missing"))
        .chain(unwanted.map(|file| format!("{file} must not be in there; see `include` in its manifest")))
}

fn is_wanted(file: &str) -> bool {
    let kind = file.rsplit_once('.').map_or("", |(_, kind)| kind);
    NEEDED.contains(&file)
        || ADDED.contains(&file)
        || TREES
            .iter()
            .any(|(dir, kinds)| file.starts_with(dir) && kinds.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_is_too_much_is_found() {
        let good = [&NEEDED[..], &ADDED, &["src/a/b.rs", "docs/guide/sinks.md"]].concat();
        assert_eq!(wrong(&good).count(), 0);
        let bad = [&good[1..], &["src/core.dump", "tests/a.rs", ".env", "docs/x.json"]].concat();
        assert_eq!(wrong(&bad).count(), 5);
    }
}
